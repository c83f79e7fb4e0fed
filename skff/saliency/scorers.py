"""Scorers for few samples, down to one: ``(estimator, X, y, sample_weight) -> score``.

The accuracy on a single image is 0 or 1 and does not show most effects of hiding a window; these
scores respond to every change. Some of the classes may be missing among the samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import log_loss

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def margin(
    estimator: Any, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
) -> float:
    """Return the mean margin: the true class's decision value minus the largest other one.

    With two classes that share one column of decision values v, the classes get the values -v / 2
    and v / 2, so the margin is v or -v.

    Parameters
    ----------
    estimator : object
        Fitted classifier with `classes_` and ``decision_function``, or else ``predict_proba``.
    X : array-like of shape (n_samples, ...)
        Samples.
    y : array-like of shape (n_samples,)
        True labels, all of them among `classes_`.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Weights of the mean.

    Returns
    -------
    score : float
        In units of the decision values. The margin of a sample is positive if the true class has
        the largest value.

    Raises
    ------
    ValueError
        If labels are not among the classes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.svm import LinearSVC
    >>> from skff.saliency.scorers import margin
    >>> X, y = load_iris(return_X_y=True)
    >>> margin(LinearSVC(random_state=0).fit(X, y), X[:1], y[:1]) > 0
    True
    """
    is_true = _is_true(estimator.classes_, y)
    values = _decision_values(estimator, X)
    margins = values[is_true] - np.where(is_true, -np.inf, values).max(axis=1)
    return _mean(margins, sample_weight)


def _is_true(classes, y):
    """Return which class is the true one, of shape (n_samples, n_classes)."""
    classes, y = np.asarray(classes), np.asarray(y)
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"Got labels {unknown} in y, but expected only those of {classes}.")
    return classes == y[:, None]


def _mean(values, weights):
    return float(np.average(values, weights=None if weights is None else np.asarray(weights)))


def _decision_values(estimator, X):
    """Return one value per class, of shape (n_samples, n_classes)."""
    if not hasattr(estimator, "decision_function"):
        return np.asarray(estimator.predict_proba(X), dtype=float)
    values = np.asarray(estimator.decision_function(X), dtype=float)
    # Two classes share one column, whose sign says which wins.
    return values if values.ndim == 2 else np.stack([-values / 2, values / 2], axis=1)


def neg_log_loss(
    estimator: Any, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
) -> float:
    """Return the mean log-probability of the true labels, as scikit-learn's scorer of this name.

    Unlike scikit-learn's scorer, it accepts `y` in which some of the classes are missing.

    Parameters
    ----------
    estimator : object
        Fitted classifier with ``predict_proba``.
    X : array-like of shape (n_samples, ...)
        Samples.
    y : array-like of shape (n_samples,)
        True labels.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Weights of the mean.

    Returns
    -------
    score : float
        In nats, at most 0.

    Raises
    ------
    ValueError
        If labels are not among the classes, or ``predict_proba`` returns no probabilities.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff.saliency.scorers import neg_log_loss
    >>> X, y = load_iris(return_X_y=True)
    >>> bool(-1 < neg_log_loss(GaussianNB().fit(X, y), X[:1], y[:1]) <= 0)  # of one sample
    True
    """
    classes = getattr(estimator, "classes_", None)
    p = estimator.predict_proba(X)
    if not _are_probabilities(p, classes):  # scikit-learn knows what can be made of it
        return -log_loss(y, p, labels=classes, sample_weight=sample_weight)
    # Its checks of a single sample would take as long as several predictions.
    eps = np.finfo(p.dtype).eps
    found = np.clip(p[_is_true(classes, y)], eps, 1 - eps)
    return _mean(np.log(found), sample_weight)


def _are_probabilities(p, classes):
    """Return whether each row holds a probability per class, and they add up to 1."""
    if classes is None or not isinstance(p, np.ndarray) or p.dtype.kind != "f":
        return False
    if p.ndim != 2 or not p.size or p.shape[1] != len(classes):
        return False
    sums_to_one = np.abs(p.sum(axis=1) - 1).max() < np.sqrt(np.finfo(p.dtype).eps)
    return p.min() >= 0 and p.max() <= 1 and sums_to_one


SCORERS = {"margin": margin, "neg_log_loss": neg_log_loss}
