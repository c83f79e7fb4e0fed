"""Whether the scale of the features lets a network learn from them, and recognise them."""

import math

import numpy as np
from sklearn.utils import _safe_indexing

from skff._warnings import warn
from skff.exceptions import ScaleWarning

N_LOOKED_AT, FEWEST_LOOKED_AT = 256, 32  # samples
N_VALUES = 2**19  # of these samples together
SWAMPING = 100  # variance of a few features over that of all others together
OUTLYING = 50  # mean distance from the mean over the median distance of two samples
UNRESOLVED = 0.1  # rounding error over standard deviation
CONSTANT = 1e-14  # standard deviation over the largest value: rounding in double precision
STRANGE = 10  # distance from the training samples' mean over the largest in training
FEWEST_TO_COMPARE = 10  # samples
MOST_NAMED = 5


def some_rows(X):
    """Return up to 256 different random rows of X, the same each time, in order.

    Parameters
    ----------
    X : array-like or Features of shape (n_samples, n_features)
        Of many features fewer rows are taken, for what is looked at is held in double precision.

    Returns
    -------
    rows : ndarray of shape (n_rows,) or slice
        A slice if these are all, which need no copy.
    """
    n_samples, n_features = X.shape
    n_rows = max(FEWEST_LOOKED_AT, min(N_LOOKED_AT, N_VALUES // n_features))
    if n_samples <= n_rows:
        return slice(None)
    return np.sort(np.random.RandomState(0).choice(n_samples, n_rows, replace=False))


def warn_of_rounding(X, names):
    """Warn of features whose values become hardly distinguishable in float32.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        As the user gave it, valid.
    names : ndarray of shape (n_features,) or None
        Of the features.
    """
    if np.can_cast(X.dtype if isinstance(X, np.ndarray) else object, np.float32):
        return
    values = np.asarray(_safe_indexing(X, some_rows(X)), dtype=np.float64)
    largest = np.abs(values).max(axis=0)
    errors = (values.astype(np.float32) - values) / np.where(largest > 0, largest, 1)
    deviation = (values / np.where(largest > 0, largest, 1)).std(axis=0)
    is_lost = errors.std(axis=0) > UNRESOLVED * deviation
    lost = np.flatnonzero(is_lost & (deviation > CONSTANT))
    if len(lost):
        example = lost[0]
        warn(
            f"Got X with {_enumerate(lost, names)} that float32 hardly resolves: values about "
            f"{values[:, example].mean():.2g} that differ by "
            f"{deviation[example] * largest[example]:.2g}. Subtract the mean and scale before, for "
            "example with StandardScaler.",
            ScaleWarning,
        )


def warn_of_scale(X, keep, center, norm, names):
    """Warn if a few features or samples set the scale, so that the others disappear beside them.

    Parameters
    ----------
    X : Features of shape (n_samples, n_features)
        The training samples.
    keep : callable
        Features (n, n_features) -> those that the first layer reads, (n, n_kept).
    center : ndarray of shape (n_kept,)
        What is subtracted from these.
    norm : float
        The samples' mean distance from `center`.
    names : ndarray of shape (n_features,) or None
        Of the features.
    """
    rows = some_rows(X)
    kept = keep(X.read(rows)).astype(np.float64)
    order = np.random.RandomState(0).permutation(len(kept))
    apart = np.median(np.linalg.norm(kept - kept[order], axis=1))
    if 0 < OUTLYING * apart < norm:
        blocks = (keep(block) - center for block in X.blocks(FEWEST_LOOKED_AT))
        farthest = np.concatenate([np.linalg.norm(block, axis=1) for block in blocks]).argmax()
        warn(
            f"Got X with samples, such as number {farthest}, so far from the others that all "
            f"others look alike: half of them differ by less than {apart:.2g}, but the mean "
            f"distance from their mean is {norm:.2g}. Correct or clip these samples, or scale with "
            "RobustScaler.",
            ScaleWarning,
        )
        return
    largest = _swamping(np.mean((kept - center) ** 2, axis=0))
    if len(largest):
        features = np.sort(keep(np.arange(X.shape[1])[np.newaxis])[0][largest])
        warn(
            f"Got X with over 99 % of its variance in {_enumerate(features, names)}, so that the "
            "other features have almost no influence. Scale the features first, for example with "
            "StandardScaler in a Pipeline.",
            ScaleWarning,
        )


def _swamping(variance):
    """Return the features, at most half of those that vary, beside which the others disappear."""
    order = np.argsort(-variance, kind="stable")[: np.count_nonzero(variance)]
    variance = variance[order]
    beyond = variance[::-1].cumsum()[::-1]  # from each feature on
    n_most = len(order) // 2
    is_swamping = variance[:n_most] > SWAMPING * beyond[1 : n_most + 1]
    return order[: is_swamping.argmax() + 1] if is_swamping.any() else order[:0]


def warn_of_strange_samples(distance, largest):
    """Warn of samples that are far from where the training samples were.

    Parameters
    ----------
    distance : float
        The largest distance of the samples from the training samples' mean.
    largest : float
        That of the training samples.
    """
    if not distance <= STRANGE * largest:
        warn(
            f"Got samples at least {_power_of_ten(distance / largest)} times as far from the "
            "training samples' mean as any training sample: predictions for them are "
            "extrapolations. Is X scaled as it was at fit, pixels to [0, 1] for example?",
            ScaleWarning,
        )


def warn_of_little_spread(inputs, is_centered):
    """Warn if samples differ by so little that they seem scaled down since the fit.

    Parameters
    ----------
    inputs : ndarray of shape (n_samples, n_kept)
        What the first layer reads; the training samples' root mean square is 1.
    is_centered : bool
        Whether that is the deviation from their mean.
    """
    if len(inputs) < FEWEST_TO_COMPARE:
        return
    spread = inputs - inputs.mean(axis=0) if is_centered else inputs
    spread = np.sqrt(np.mean(spread**2))
    if 0 < spread < 1 / STRANGE:
        warn(
            f"Got samples whose spread is less than {_power_of_ten(10 * spread)} of that of the "
            "training samples. Is X scaled as it was at fit, pixels to [0, 255] for example?",
            ScaleWarning,
        )


def _power_of_ten(ratio):
    """Round a ratio down: warnings of many batches then have one text, and one is shown."""
    if 0 < ratio < math.inf:
        ratio = 10.0 ** math.floor(math.log10(ratio) + 1e-6)
    return f"{ratio:g}"


def _enumerate(features, names):
    """Return "feature 3" or "features 'a', 'b' and 7 more"."""
    shown = [repr(str(names[k])) if names is not None else str(k) for k in features[:MOST_NAMED]]
    more = f" and {len(features) - MOST_NAMED} more" if len(features) > MOST_NAMED else ""
    return f"feature{'s' if len(features) > 1 else ''} {', '.join(shown)}{more}"
