"""Training data: labels and weights as training wants them, batches on the device."""

import numpy as np
import torch
from sklearn.utils import gen_batches
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import _check_sample_weight

from skff.forward_forward._tensors import as_tensor

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

    def batch(self, rows, generator):
        """Serve some rows as the network wants them.

        Parameters
        ----------
        rows : LongTensor of shape (n,)
            Which samples.
        generator : torch.Generator
            Source of randomness.

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
        x = drop_features(self.rescale(self.keep(x)), self.dropout, generator)
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
    dropped = min(round(256 * share), 255)
    if dropped == 0:
        return x
    # One 64-bit draw serves eight features: a draw per feature costs more than a matrix product.
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
    words.random_(-(2**63), None, generator=generator)
    kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
    return x.mul_(kept).mul_(256 / (256 - dropped))


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


def encode_labels(y, classes=None):
    """Return the classes and `y` as their indices.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels.
    classes : ndarray of shape (n_classes,), default=None
        All labels, sorted; None takes those in `y`.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        Sorted.
    encoded : ndarray of shape (n_samples,), int64
        Indices into `classes`.

    Raises
    ------
    ValueError
        If a label is not among `classes`.
    """
    if classes is None:
        return np.unique(y, return_inverse=True)
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"Got labels {unknown!r}, but expected only those in {classes!r}.")
    return classes, np.searchsorted(classes, y)


def check_same_task(estimator, sizes, classes, n_kept):
    """Refuse to go on from weights that belong to another task or architecture.

    Parameters
    ----------
    estimator : FFClassifier
        Fitted.
    sizes : list of int
        Units per layer wanted.
    classes : ndarray
        Labels in the new data.
    n_kept : int
        Features that the first layer would read.

    Raises
    ------
    ValueError
        If the fitted network does not fit.
    """
    network = estimator._network
    fitted = [network.weights[0].shape[1], *map(len, network.biases)]
    head = "softmax" if network.readout else "goodness"
    asked = {
        "labels": (classes.tolist(), estimator.classes_.tolist()),
        "hidden_layer_sizes": (sizes, fitted[1:]),
        "features kept by the overlay": (n_kept, fitted[0]),
        "readout": (estimator.readout, head),
    }
    for name, (got, expected) in asked.items():
        if got != expected:
            raise ValueError(
                f"Got {name}={got!r}, but expected {expected!r} as in the previous fit: training "
                "goes on from its weights."
            )


def combine_weights(X, y, classes, sample_weight, class_weight):
    """Multiply sample and class weights, and find the samples that count.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
        Features.
    y : ndarray of shape (n_samples,)
        Encoded labels.
    classes : ndarray of shape (n_classes,)
        What they stand for.
    sample_weight : array-like of shape (n_samples,) or None
        Non-negative weights.
    class_weight : dict, "balanced" or None
        As in scikit-learn.

    Returns
    -------
    used : ndarray of shape (n_samples,), bool, or None
        Samples of positive weight; None where all count.
    weight : ndarray of shape (n_used,) or None
        Their weights; None where all are equal.

    Raises
    ------
    ValueError
        On a weight that is negative or not finite, or where no sample has a positive one.
    """
    if sample_weight is None and class_weight is None:
        return None, None
    weight = _check_sample_weight(
        sample_weight, X, dtype=np.float64, ensure_non_negative=True, allow_all_zero_weights=True
    )
    if class_weight is not None:
        by_class = compute_class_weight(class_weight, classes=classes, y=classes[y])
        if not np.isfinite(by_class).all() or (by_class < 0).any():
            raise ValueError(
                f"Got class_weight={class_weight!r}, but expected finite weights of at least 0."
            )
        weight = weight * by_class[y]
    used = weight > 0
    if not used.any():
        raise ValueError(
            "Got sample weights that, with the class weights, are all zero, but expected at least "
            "one positive weight."
        )
    return (None, weight) if used.all() else (used, weight[used])


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
