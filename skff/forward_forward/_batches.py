"""Batches of training data on the device: augmentation, dropout, location and scale."""

import numpy as np
import torch
from sklearn.utils import gen_batches

from skff.forward_forward._torch import as_tensor

ROWS = 256  # taken at once where a copy of the data would be too large
ROUNDING = 1e-6  # relative; float32 resolves 1.2e-7


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

    def batch(self, rows, generator, dropout=None):
        """Serve some rows as the network wants them.

        Parameters
        ----------
        rows : LongTensor of shape (n,)
            Which samples.
        generator : torch.Generator
            Source of randomness.
        dropout : float, default=None
            Share of the features to drop; None means that of the training.

        Returns
        -------
        x : Tensor of shape (n, n_kept)
            Augmented, kept and rescaled features, some dropped.
        y : LongTensor of shape (n,)
            Encoded labels.
        weight : Tensor of shape (n,) or float
            Weights.
        """
        x = self.X.index_select(0, rows.to(self.X.device)).to(self.device)
        if self.augment is not None:
            x = _augmented(x, self.augment, generator)
        # What stays is scaled up along with all else: one pass over the batch less.
        n_dropped = _out_of_256(self.dropout if dropout is None else dropout)
        x = self.rescale(self.keep(x), 256 / (256 - n_dropped))
        if n_dropped:
            x.mul_(_kept_features(x, n_dropped, generator))
        weight = 1.0 if self.weight is None else self.weight[rows]
        return x, self.y[rows], weight


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
    return x.mul_(_kept_features(x, n_dropped, generator)).mul_(256 / (256 - n_dropped))


def _out_of_256(share):
    return min(round(256 * share), 255)


def _kept_features(x, n_dropped, generator):
    """Draw which features stay, bool of the shape of `x`; `n_dropped` of 256 do not."""
    # One 64-bit draw serves eight features: a draw per feature costs more than a matrix product.
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.uint8)[: x.numel()].view(x.shape) >= n_dropped


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
