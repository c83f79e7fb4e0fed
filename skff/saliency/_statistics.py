"""Standard errors over the parts of the samples, tests, and corrections for testing many pixels."""

from collections.abc import Callable
from functools import partial
from math import ceil

import numpy as np
from scipy.stats import false_discovery_control, t
from sklearn.utils import check_random_state

MAX_NULL_VALUES = 4_000_000  # flips times pixels held at a time
DECIMALS = 12  # beyond, differences of accuracies are rounding
ROUNDING = 1e-9  # relative; statistics that differ by less are equal


def fold_standard_error(values, weights):
    """Return the standard error of a mean over folds of samples, NaN with a single fold.

    With the weighted mean m it is ``sqrt(F / (F - 1) sum_f w_f^2 (v_f - m)^2) / sum_f w_f``, the
    usual linearisation of a ratio.

    Parameters
    ----------
    values : ndarray of shape (n_folds, ...)
    weights : ndarray of shape (n_folds,)
        Sample weight in each fold.

    Returns
    -------
    standard_error : ndarray of shape (...)
    """
    n_folds = len(weights)
    if n_folds < 2:
        return np.full(values.shape[1:], np.nan)
    deviation = values - np.average(values, axis=0, weights=weights)
    squares = np.tensordot(weights**2, np.round(deviation, DECIMALS) ** 2, 1)
    return np.sqrt(squares * n_folds / (n_folds - 1)) / weights.sum()


def t_test(mean, standard_error, n_folds):
    """Return two-sided p-values of the hypothesis that the expected mean is 0.

    Parameters
    ----------
    mean, standard_error : ndarray
        Of the same shape; a standard error of 0 makes any mean but 0 certain.
    n_folds : int
        Number of folds the standard error stems from.

    Returns
    -------
    p_values : ndarray
    """
    mean = np.round(mean, DECIMALS)
    ratio = np.divide(mean, standard_error, out=np.zeros_like(mean), where=standard_error != 0)
    is_certain = (standard_error == 0) & (mean != 0)
    return np.where(is_certain, 0.0, 2 * t.sf(np.abs(ratio), n_folds - 1))


def holm(p_values):
    """Adjust p-values so that the chance of any false mark is bounded, for any dependence.

    Parameters
    ----------
    p_values : ndarray of shape (n_pixels,)

    Returns
    -------
    adjusted : ndarray of shape (n_pixels,)
        With p_(1) <= ... <= p_(m), the k-th is max_{j <= k} (m - j + 1) p_(j), at most 1.
    """
    n_pixels = len(p_values)
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * np.arange(n_pixels, 0, -1)
    adjusted = np.empty(n_pixels)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted


ADJUSTMENTS: dict[str, Callable] = {
    "bh": partial(false_discovery_control, method="bh"),
    "by": partial(false_discovery_control, method="by"),
    "holm": holm,
}
METHODS = [*ADJUSTMENTS, "max-t"]


def max_t(fold_sums, *, n_resamples, random_state):
    """Test all pixels by flipping the signs of whole folds; step-down max-T.

    If hiding a pixel changes nothing on average, the sum of its paired differences over a fold is
    as likely positive as negative. A flip changes a fold's sign for all pixels together, which
    keeps their dependence.

    Parameters
    ----------
    fold_sums : ndarray of shape (n_folds, n_pixels)
        Weighted sums of the paired differences over each fold of samples.
    n_resamples : int
        Number of random flips.
    random_state : int, RandomState instance or None
        Determines the flips.

    Returns
    -------
    adjusted : ndarray of shape (n_pixels,)
        P-values, at least 1 / (`n_resamples` + 1).
    """
    # |sum_f s_f| / sqrt(sum_f s_f^2), a function of Student's t: the denominator outlives a flip.
    norms = np.linalg.norm(fold_sums, axis=0)
    terms = np.divide(fold_sums, norms, out=np.zeros(fold_sums.shape), where=norms > 0)
    statistics = np.abs(terms.sum(axis=0))
    order = np.argsort(-statistics, kind="stable")
    terms, bounds = terms[:, order], statistics[order] * (1 - ROUNDING)
    rng = check_random_state(random_state)
    signs = rng.choice([-1.0, 1.0], (n_resamples, len(terms)))
    n_exceeding = np.zeros(len(order))
    for block in np.array_split(signs, ceil(signs.shape[0] * len(order) / MAX_NULL_VALUES)):
        flipped = np.abs(block @ terms)  # (n_block, n_pixels)
        # Step down: a pixel competes with those of its own or a smaller statistic only.
        highest = np.maximum.accumulate(flipped[:, ::-1], axis=1)[:, ::-1]
        n_exceeding += (highest >= bounds).sum(axis=0)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate((n_exceeding + 1) / (n_resamples + 1))
    return adjusted


def check_n_resamples(n_resamples, alpha):
    """Raise unless the number of resamples lets p-values reach `alpha`."""
    if alpha * (n_resamples + 1) < 1:
        raise ValueError(
            f"Got n_resamples={n_resamples} with alpha={alpha}, but expected at least "
            f"{ceil(1 / alpha) - 1}: no p-value is below 1 / (n_resamples + 1)."
        )
