"""Batches of training data on the device: augmentation, dropout, location and scale."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.utils import gen_batches

from skff.forward_forward._torch import as_tensor

ROWS = 256  # taken at once where a copy of the data would be too large
ROUNDING = 1e-6  # relative; float32 resolves 1.2e-7


@dataclass(frozen=True)
class Share:
    """The samples of a batch that this process has: every `n_shares`-th one.

    Parameters
    ----------
    n_samples : int
        Size of the whole batch.
    first : int, default=0
        The first sample of the share.
    n_shares : int, default=1
        Number of processes that the batch is divided among.
    add_up : callable, default=None
        Tensor -> the sum of those of all processes, may be in place; needed where there are
        several.
    """

    n_samples: int
    first: int = 0
    n_shares: int = 1
    add_up: Callable | None = None

    def own(self, values):
        """Return the share of some values of the whole batch, (n_samples, ...)."""
        return values if self.n_shares == 1 else values[self.first :: self.n_shares]

    def gather(self, values):
        """Return the values of the whole batch, (n_samples, ...), from those of the shares."""
        if self.n_shares == 1:
            return values
        whole = values.new_zeros(self.n_samples, *values.shape[1:])
        whole[self.first :: self.n_shares] = values
        return self.add_up(whole)

    def mean(self, values):
        """Return the mean over the whole batch, (...), of values of the share, (n, ...)."""
        total = values.sum(0)
        return (total if self.n_shares == 1 else self.add_up(total)) / self.n_samples

    def blocks(self, n_rows):
        """Yield, for each block of so many rows of the batch, own rows and the share of the block.

        Yields
        ------
        rows : slice
            Of what this process has.
        share : Share
            Of the block.
        """
        for start in range(0, self.n_samples, n_rows):
            stop = min(start + n_rows, self.n_samples)
            before, until = (len(range(self.first, end, self.n_shares)) for end in (start, stop))
            first = (self.first - start) % self.n_shares
            yield slice(before, until), replace(self, n_samples=stop - start, first=first)


class TrainingData:
    """Samples, labels and weights, served in batches on the network's device.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32
        Features.
    y : ndarray of shape (n_samples,), int64
        Encoded labels.
    sample_weight : ndarray of shape (n_samples,) or None
        Positive weights; scaled to mean 1. None means equal weights.
    keep : callable
        Features (n, n_features) -> the features that the first layer reads.
    rescale : callable
        Kept features -> what the first layer reads, a new tensor of the same shape.
    device : torch.device
        Where the batches are wanted.
    dropout : float, default=0.0
        Share of the features dropped per sample.
    augment : callable, default=None
        ``(batch, generator)`` -> batch of the same shape, in units of `X`.
    """

    def __init__(self, X, y, sample_weight, *, keep, rescale, device, dropout=0.0, augment=None):
        self.X = as_tensor(X)
        if _fits(self.X, device):
            self.X = self.X.to(device)
        self.y = as_tensor(y).to(device)
        self.weight = None
        if sample_weight is not None:
            weight = sample_weight / sample_weight.max()  # whose sum cannot overflow
            weight = weight / weight.mean()
            self.weight = torch.from_numpy(weight.astype(np.float32)).to(device)
        self.keep = keep
        self.rescale = rescale
        self.device = device
        self.dropout = dropout
        self.augment = augment

    def __len__(self):
        return len(self.y)

    def batch(self, rows, generator, dropout=None, share=None):
        """Serve some rows as the network wants them.

        Parameters
        ----------
        rows : LongTensor of shape (n,)
            Which samples.
        generator : torch.Generator
            Source of randomness.
        dropout : float, default=None
            Share of the features to drop; None means that of the training.
        share : Share, default=None
            Which of these samples are served, as they would be among all; None means all.

        Returns
        -------
        x : Tensor of shape (n_own, n_kept)
            Augmented, kept and rescaled features of the share, some dropped.
        y : LongTensor of shape (n,)
            Encoded labels of all.
        weight : Tensor of shape (n,) or float
            Weights of all.
        """
        share = Share(len(rows)) if share is None else share
        if self.augment is None:
            x = self._read(share.own(rows))
        else:  # which may draw as it likes, for the whole batch
            x = share.own(_augmented(self._read(rows), self.augment, generator))
        # What stays is scaled up along with all else: one pass over the batch less.
        n_dropped = _out_of_256(self.dropout if dropout is None else dropout)
        x = self.rescale(self.keep(x), 256 / (256 - n_dropped))
        if n_dropped:
            shape = len(rows), x.shape[1]
            x.mul_(share.own(_kept_features(shape, x.device, n_dropped, generator)))
        return x, *self.targets(rows)

    def targets(self, rows):
        """Return the encoded labels of some rows, (n,), and their weights, (n,) or a float."""
        return self.y[rows], 1.0 if self.weight is None else self.weight[rows]

    def _read(self, rows):
        return self.X.index_select(0, rows.to(self.X.device)).to(self.device)


def drop_features(x, share, generator):
    """Set a random share of each sample's features to zero and scale up the rest.

    Parameters
    ----------
    x : Tensor of shape (n, n_features)
        Changed in place.
    share : float in [0, 1)
        Probability of dropping a feature, honoured to 1/256.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    x : Tensor of shape (n, n_features)
        The same tensor.
    """
    n_dropped = _out_of_256(share)
    if n_dropped == 0:
        return x
    kept = _kept_features(x.shape, x.device, n_dropped, generator)
    return x.mul_(kept).mul_(256 / (256 - n_dropped))


def _out_of_256(share):
    return min(round(256 * share), 255)


def _kept_features(shape, device, n_dropped, generator):
    """Draw which features stay, bool (n, n_features); `n_dropped` of 256 do not."""
    # One 64-bit draw serves eight features: a draw per feature costs more than a matrix product.
    n_draws = math.prod(shape)
    words = torch.empty(-(-n_draws // 8), dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.uint8)[:n_draws].view(shape) >= n_dropped


def _augmented(x, augment, generator):
    augmented = augment(x, generator)
    if not isinstance(augmented, torch.Tensor) or augmented.shape != x.shape:
        got = getattr(augmented, "shape", None)
        raise ValueError(
            f"Got a {type(augmented).__name__} of shape {got and tuple(got)} from "
            f"augment={augment!r}, but expected a Tensor of the shape it was given, "
            f"{tuple(x.shape)}."
        )
    return augmented.to(x.dtype)


def _fits(X, device):
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return X.numel() * X.element_size() <= free / 2


def location_and_norm(X, center):
    """Compute the mean sample, and the mean Euclidean norm of the samples about it.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Features.
    center : bool
        Whether to subtract the mean; otherwise zeros stand for it.

    Returns
    -------
    mean : ndarray of shape (n_features,)
        In double precision.
    norm : float
        Positive: 1 where all samples are equal.

    Raises
    ------
    ValueError
        If the features are so small that float32 cannot scale them up.
    """
    mean = X.mean(axis=0, dtype=np.float64) if center else np.zeros(X.shape[1])
    norm = _mean_norm(X, mean)
    # Equal samples differ from their mean by rounding.
    if norm <= ROUNDING * np.linalg.norm(mean):
        return mean, 1.0
    if norm < 1e-30:
        raise ValueError(
            f"Got X with a mean sample norm of {norm:.2g}, but expected at least 1e-30: float32 "
            "cannot scale it to 1. Multiply X by a constant."
        )
    return mean, norm


def _mean_norm(X, mean):
    total = 0.0
    for rows in gen_batches(len(X), ROWS):
        total += np.linalg.norm(X[rows] - mean, axis=1).sum()
    return float(total / len(X))
