"""Batches of training data on the device: augmentation, dropout, location and scale."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.utils import gen_batches

from skff.forward_forward._torch import as_numpy, as_tensor

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
    X : Features of shape (n_samples, n_features)
        Served from the device if they fit there. On the CPU what is stored as float32 is served
        from where it is, everything else is converted batch by batch.
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
        self.X = X
        self.stored, self.rows = _stored(X, device)
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
        weight = 1.0 if self.weight is None else self.weight.index_select(0, rows)
        return self.y.index_select(0, rows), weight

    def _read(self, rows):
        """Return the features of some samples on the device, a copy."""
        if self.stored is None:
            return torch.from_numpy(self.X.read(as_numpy(rows))).to(self.device)
        rows = rows.to(self.stored.device)
        if self.rows is not None:
            rows = self.rows[rows]
        return self.stored.index_select(0, rows).to(self.device)


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
    """Draw which features stay, 1 or 0 of uint8, (n, n_features); `n_dropped` of 256 do not."""
    # One 64-bit draw serves eight features: a draw per feature costs more than a matrix product.
    n_draws = math.prod(shape)
    words = torch.empty(-(-n_draws // 8), dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)
    # Compared in place, as a comparison that makes a new tensor takes ten times as long.
    return words.view(torch.uint8)[:n_draws].view(shape).ge_(n_dropped)


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


def _stored(X, device):
    """Return a tensor that holds the samples, or None, and which of its rows they are, or None."""
    if device.type == "cpu" or not _fits(X, device):
        rows = None if X.rows is None else torch.from_numpy(X.rows)
        return as_tensor(X.X) if X.is_ready else None, rows
    copy = torch.empty(X.shape, dtype=torch.float32, device=device)
    for rows in gen_batches(len(X), ROWS):
        copy[rows] = as_tensor(X.read(rows)).to(device)
    return copy, None


def _fits(X, device):
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return 4 * math.prod(X.shape) <= free / 2


def location_and_norms(X, center, keep):
    """Compute the mean sample, and the mean and largest Euclidean norm of the samples about it.

    Parameters
    ----------
    X : Features of shape (n_samples, n_features)
        Read block by block.
    center : bool
        Whether to subtract the mean; otherwise zeros stand for it.
    keep : callable
        Features (n, n_features) -> those that the first layer reads, (n, n_kept).

    Returns
    -------
    mean : ndarray of shape (n_kept,)
        In double precision.
    norm : float
        Their mean; positive: 1 where all samples are equal.
    largest : float
        At least `norm`.

    Raises
    ------
    ValueError
        If the features are so small that float32 cannot scale them up.
    """
    mean = sum(keep(block).sum(axis=0, dtype=np.float64) for block in X.blocks(ROWS)) / len(X)
    mean = mean if center else np.zeros_like(mean)
    total = largest = 0.0
    for block in X.blocks(ROWS):
        norms = np.linalg.norm(keep(block) - mean, axis=1)
        total, largest = total + norms.sum(), max(largest, norms.max())
    norm = float(total / len(X))
    # Equal samples differ from their mean by rounding.
    if norm <= ROUNDING * np.linalg.norm(mean):
        return mean, 1.0, 1.0
    if norm < 1e-30:
        raise ValueError(
            f"Got X with a mean sample norm of {norm:.2g}, but expected at least 1e-30: float32 "
            "cannot scale it to 1. Multiply X by a constant."
        )
    return mean, norm, float(largest)
