"""How far two maps agree, with intervals."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.utils import check_random_state

from skff.saliency._checks import check_count, check_level


@dataclass(frozen=True, kw_only=True)
class MapComparison:
    """Agreement of two maps.

    Parameters
    ----------
    rank_correlation : float
        Spearman's correlation of the importances, in [-1, 1].
    top_overlap : float
        Share of the most important pixels of one map that are also those of the other, in [0, 1].
    rank_correlation_interval, top_overlap_interval : tuple of two floats, or None
        Bootstrap percentile intervals; None where the maps do not come with their parts.
    n_top : int
        Number of pixels that count as most important.
    n_pixels : int
        Number of pixels explained by both maps.
    confidence_level : float
        Of the intervals.
    """

    rank_correlation: float
    top_overlap: float
    rank_correlation_interval: tuple | None
    top_overlap_interval: tuple | None
    n_top: int
    n_pixels: int
    confidence_level: float


def compare_explanations(
    first, second, *, top=0.1, n_bootstrap=1000, confidence_level=0.95, random_state=None
):
    """Measure how far two maps agree on which pixels matter.

    The intervals say how much of the (dis)agreement is owed to the samples at hand: the up to 50
    parts each explanation keeps of its samples are drawn with replacement. Explanations of the
    same number of samples share their parts, and are drawn together: hand in maps of the same
    samples in the same order to compare two estimators.

    Parameters
    ----------
    first, second : ADSExplanation, or array-like of their shape
        Arrays, of gradient saliency say, stay as they are in the bootstrap. Pixels that are NaN
        in one of them are left out.
    top : float or int, default=0.1
        Most important pixels: a share of them in (0, 1), or their number.
    n_bootstrap : int, default=1000
        Number of draws.
    confidence_level : float, default=0.95
        Of the intervals, in (0, 1).
    random_state : int, RandomState instance or None, default=None
        Determines the draws.

    Returns
    -------
    comparison : MapComparison

    Raises
    ------
    TypeError, ValueError
        If the maps have different shapes, a map is constant and so has no order, or a parameter
        is out of range.

    References
    ----------
    .. [1] B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, sections 8.4
       and 13.3.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff.saliency import ADSExplainer, compare_explanations
    >>> X, y = load_iris(return_X_y=True)
    >>> maps = [
    ...     ADSExplainer(model.fit(X, y), window_shape=1, fill="mean").explain(X, y)
    ...     for model in (GaussianNB(), LogisticRegression(max_iter=200))
    ... ]
    >>> comparison = compare_explanations(*maps, top=2, random_state=0)
    >>> comparison.top_overlap
    1.0
    """
    check_count("n_bootstrap", n_bootstrap)
    check_level("confidence_level", confidence_level)
    rng = check_random_state(random_state)
    maps = [np.asarray(getattr(one, "importances", one), dtype=float) for one in (first, second)]
    is_shared = _shared_pixels(*maps)
    n_top = _n_top(top, int(is_shared.sum()))
    estimates = [one[is_shared][None] for one in maps]  # (1, n_pixels)
    draws = _draw_maps(first, second, is_shared, n_bootstrap, rng)
    intervals = None, None
    if draws is not None:
        tail = (1 - confidence_level) / 2
        quantities = _rank_correlations(*draws), _top_overlaps(*draws, n_top)
        intervals = [tuple(np.nanquantile(q, [tail, 1 - tail]).tolist()) for q in quantities]
    return MapComparison(
        rank_correlation=float(_rank_correlations(*estimates)[0]),
        top_overlap=float(_top_overlaps(*estimates, n_top)[0]),
        rank_correlation_interval=intervals[0],
        top_overlap_interval=intervals[1],
        n_top=n_top,
        n_pixels=int(is_shared.sum()),
        confidence_level=confidence_level,
    )


def _shared_pixels(first, second):
    if first.shape != second.shape:
        raise ValueError(
            f"Got maps of shapes {first.shape} and {second.shape}, but expected the same shape."
        )
    is_shared = np.isfinite(first) & np.isfinite(second)
    for one in (first[is_shared], second[is_shared]):
        if len(one) < 2 or np.ptp(one) == 0:
            raise ValueError("Got a constant map, but expected one that gives pixels an order.")
    return is_shared


def _n_top(top, n_pixels):
    if isinstance(top, float):
        if not 0 < top < 1:
            raise ValueError(f"Got top={top}, but expected a share in (0, 1) or a number.")
        return max(1, round(top * n_pixels))
    check_count("top", top)
    if top > n_pixels:
        raise ValueError(f"Got top={top}, but expected at most {n_pixels}, the pixels compared.")
    return int(top)


def _draw_maps(first, second, is_shared, n_bootstrap, rng):
    """Return two arrays of shape (n_bootstrap, n_pixels), or None without parts to draw from."""
    parts = [getattr(one, "fold_importances", None) for one in (first, second)]
    if parts[0] is None and parts[1] is None:
        return None
    same = isinstance(first, type(second)) and first.n_samples == second.n_samples
    counts, maps = None, []
    for one, part in zip((first, second), parts, strict=True):
        if part is None:
            importances = np.asarray(getattr(one, "importances", one), dtype=float)
            maps.append(np.tile(importances[is_shared], (n_bootstrap, 1)))
            continue
        if counts is None or not same:
            counts = rng.multinomial(len(part), np.full(len(part), 1 / len(part)), n_bootstrap)
        weights = counts * one.fold_weights
        maps.append(weights @ part[:, is_shared] / weights.sum(axis=1, keepdims=True))
    return maps


def _rank_correlations(first, second):
    """Return Spearman's correlation of each pair of rows; NaN where a row is constant."""
    ranks = [rankdata(one, axis=1) for one in (first, second)]
    centred = [one - one.mean(axis=1, keepdims=True) for one in ranks]
    norms = [np.linalg.norm(one, axis=1) for one in centred]
    product = (centred[0] * centred[1]).sum(axis=1)
    scale = norms[0] * norms[1]
    correlation = np.divide(product, scale, out=np.full(len(scale), np.nan), where=scale > 0)
    return np.clip(correlation, -1, 1)  # rounding can lead beyond


def _top_overlaps(first, second, n_top):
    """Return the share of each row's `n_top` largest that both have; ties go to earlier pixels."""
    tops = []
    for one in (first, second):
        is_top = np.zeros(one.shape, dtype=bool)
        largest = np.argsort(-one, axis=1, kind="stable")[:, :n_top]
        np.put_along_axis(is_top, largest, True, axis=1)
        tops.append(is_top)
    return (tops[0] & tops[1]).sum(axis=1) / n_top
