"""From the user's arguments to checked data: what explanations and curves have in common."""

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils import get_tags, resample
from sklearn.utils.validation import check_is_fitted

from skff.saliency._checks import check_max_samples, check_target, check_weight
from skff.saliency._filling import FixedFill, resolve_fill
from skff.saliency._samples import Samples, check_finite, make_restore, read_array


def check_fitted(estimator):
    """Raise NotFittedError if a scikit-learn estimator is not fitted."""
    if isinstance(estimator, BaseEstimator) and hasattr(estimator, "fit"):
        check_is_fitted(estimator)


def check_data(estimator, X, y, sample_weight):
    """Check data against each other and against the estimator.

    Returns
    -------
    sample_shape : tuple of int
        Shape of one sample of X.
    y : ndarray
    weight : ndarray of shape (n_samples,) or None

    Raises
    ------
    TypeError, ValueError
        If they do not fit, or X holds values the estimator does not take.
    """
    values, sample_shape = read_array(X)
    expected = getattr(estimator, "n_features_in_", None)
    if len(sample_shape) == 1 and expected is not None and sample_shape[0] != expected:
        raise ValueError(
            f"Got X with {sample_shape[0]} features, but expected {expected}: "
            f"{type(estimator).__name__} was fitted with {expected} features."
        )
    y, weight = check_target(y, len(values)), check_weight(sample_weight, len(values))
    check_finite("X", values, allow_nan=allows_nan(estimator))
    return sample_shape, y, weight


def draw_samples(estimator, X, y, weight, *, max_samples, random_state):
    """Leave out samples of weight 0 and draw `max_samples` of the others.

    The draw is without replacement, stratified by class for classifiers; rows keep their order.

    Returns
    -------
    X, y, weight
        The samples to use, not copied if they are all.
    """
    rows = np.arange(len(y)) if weight is None else np.flatnonzero(weight)
    n_drawn = check_max_samples(max_samples, len(rows))
    if n_drawn < len(rows):
        stratify = y[rows] if is_known_classifier(estimator) and y.ndim == 1 else None
        params = {"stratify": stratify, "random_state": random_state}
        rows = np.sort(resample(rows, replace=False, n_samples=n_drawn, **params))
    if len(rows) == len(y):
        return X, y, weight
    X = X.iloc[rows] if hasattr(X, "iloc") else np.asarray(X)[rows]
    return X, y[rows], None if weight is None else weight[rows]


def make_samples(estimator, X, *, fill, pixel_features, random_state):
    """Return X as :class:`Samples` whose hidden features become `fill`.

    Parameters
    ----------
    estimator : object
        Says whether NaN may be filled in.
    X : array-like or DataFrame
    fill : float, str, array-like, callable or fill
        As in :class:`ADSExplainer`.
    pixel_features : ndarray of shape (*image_shape, n_channels)
        Flat indices of the features of each pixel.
    random_state : RandomState
        Of random fills.

    Returns
    -------
    samples : Samples
    """
    values, sample_shape = read_array(X)
    fill, values = resolve_fill(fill, X, values, sample_shape, pixel_features, random_state)
    # What a fill that knows the window gives becomes known window by window: try it once.
    everything = np.arange(values.shape[1])
    examples = fill.array if isinstance(fill, FixedFill) else fill.values(everything[:1], 0)
    check_finite("fill", examples, allow_nan=allows_nan(estimator))
    columns = examples if isinstance(fill, FixedFill) else None
    return Samples(values, fill, make_restore(X, sample_shape, columns))


def is_known_classifier(estimator):
    """Say whether the estimator declares itself a classifier."""
    return hasattr(estimator, "__sklearn_tags__") and is_classifier(estimator)


def allows_nan(estimator):
    """Say whether the estimator declares that it takes missing values."""
    return hasattr(estimator, "__sklearn_tags__") and get_tags(estimator).input_tags.allow_nan
