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
    classes, y = np.asarray(estimator.classes_), np.asarray(y)
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"Got labels {unknown} in y, but expected only those of {classes}.")
    values = _decision_values(estimator, X)
    is_true = classes == y[:, None]  # (n_samples, n_classes)
    margins = values[is_true] - np.where(is_true, -np.inf, values).max(axis=1)
    weights = None if sample_weight is None else np.asarray(sample_weight)
    return float(np.average(margins, weights=weights))


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

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff.saliency.scorers import neg_log_loss
    >>> X, y = load_iris(return_X_y=True)
    >>> bool(-1 < neg_log_loss(GaussianNB().fit(X, y), X[:1], y[:1]) <= 0)  # of one sample
    True
    """
    labels = getattr(estimator, "classes_", None)
    return -log_loss(y, estimator.predict_proba(X), labels=labels, sample_weight=sample_weight)


SCORERS = {"margin": margin, "neg_log_loss": neg_log_loss}
