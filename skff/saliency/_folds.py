"""Standard errors from the parts of the samples that explanations keep."""

import numpy as np
from scipy.stats import t

DECIMALS = 12  # beyond, differences of accuracies are rounding


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
