"""Agreement of maps: of two maps, over several training runs, and with randomized weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, RealNotInt

from skff.saliency._explainer import check_explainer, with_fixed_draws, with_params
from skff.saliency._explanation import ADSExplanation
from skff.saliency._parameters import COUNT, LEVEL, check_parameters
from skff.saliency._statistics import fold_standard_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from numpy.typing import ArrayLike

    from skff.saliency._display import ADSDisplay
    from skff.saliency._explainer import ADSExplainer

ARRAYS = ("coefs_", "intercepts_", "coef_", "intercept_")  # of scikit-learn's networks and lines


@dataclass(frozen=True, repr=False, kw_only=True)
class MapComparison:
    """Agreement of two maps.

    Parameters
    ----------
    rank_correlation : float
        Spearman's correlation of the importances, in [-1, 1].
    top_overlap : float
        Share of the most important pixels of one map that are also those of the other, in [0, 1].
    rank_correlation_interval, top_overlap_interval : tuple of two floats, or None
        Bootstrap percentile intervals; None if the maps have no `fold_importances`.
    n_top : int
        Number of pixels that count as most important.
    n_pixels : int
        Number of pixels explained by both maps.
    confidence_level : float
        Confidence level of the intervals.

    Examples
    --------
    >>> import numpy as np
    >>> from skff.saliency import compare_explanations
    >>> compare_explanations(np.arange(20.0), np.arange(20.0) ** 2)
    <MapComparison: rank correlation 1.00, overlap of the top 2 of 20 pixels 1.00>
    """

    rank_correlation: float
    top_overlap: float
    rank_correlation_interval: tuple | None
    top_overlap_interval: tuple | None
    n_top: int
    n_pixels: int
    confidence_level: float

    def __repr__(self):
        return (
            f"<MapComparison: rank correlation {self.rank_correlation:.2f}"
            f"{_in_brackets(self.rank_correlation_interval)}, overlap of the top {self.n_top} of "
            f"{self.n_pixels} pixels {self.top_overlap:.2f}"
            f"{_in_brackets(self.top_overlap_interval)}>"
        )


def _in_brackets(interval):
    return "" if interval is None else f" [{interval[0]:.2f}, {interval[1]:.2f}]"


def compare_explanations(
    first: ADSExplanation | ArrayLike,
    second: ADSExplanation | ArrayLike,
    *,
    top: float | int = 0.1,
    n_bootstrap: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> MapComparison:
    """Measure how far two maps agree on which pixels are important.

    The intervals describe the uncertainty due to the choice of samples: each explanation keeps its
    results on up to 50 parts of its samples, which are drawn with replacement. Explanations of the
    same number of samples have the same parts, which are drawn together. To compare two estimators,
    pass maps of the same samples in the same order.

    Parameters
    ----------
    first, second : ADSExplanation, or array-like of their shape
        Arrays, for example of gradient saliency, are constant in the bootstrap. Pixels that are NaN
        in either map are left out. Maps of the sequential mode are not accepted: their windows stop
        once their sign is known, so much of their order is noise.
    top : float or int, default=0.1
        Number of most important pixels, or their share in (0, 1).
    n_bootstrap : int, default=1000
        Number of draws.
    confidence_level : float, default=0.95
        Confidence level of the intervals, in (0, 1).
    random_state : int, RandomState instance or None, default=None
        Determines the draws.

    Returns
    -------
    comparison : MapComparison

    Raises
    ------
    TypeError, ValueError
        If the maps have different shapes, if a map is constant, and so has no order, or is from the
        sequential mode, or if a parameter is out of range.

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
    check_parameters(
        {
            "top": [COUNT, Interval(RealNotInt, 0, 1, closed="neither")],
            "n_bootstrap": [COUNT],
            "confidence_level": [LEVEL],
            "random_state": ["random_state"],
        },
        locals(),
    )
    _refuse_sequential(first, second)
    rng = check_random_state(random_state)
    maps = [np.asarray(getattr(one, "importances", one), dtype=float) for one in (first, second)]
    is_shared = _shared_pixels(*maps)
    n_top = _n_top(top, int(is_shared.sum()))
    estimates = [one[is_shared][None] for one in maps]  # (1, n_pixels)
    draws = _draw_maps(first, second, is_shared, n_bootstrap, rng)
    intervals: Sequence[tuple | None] = (None, None)
    if draws is not None:
        tail = (1 - confidence_level) / 2
        quantities = _rank_correlations(*draws), _top_overlaps(*draws, n_top=n_top)
        intervals = [tuple(np.nanquantile(q, [tail, 1 - tail]).tolist()) for q in quantities]
    return MapComparison(
        rank_correlation=float(_rank_correlations(*estimates)[0]),
        top_overlap=float(_top_overlaps(*estimates, n_top=n_top)[0]),
        rank_correlation_interval=intervals[0],
        top_overlap_interval=intervals[1],
        n_top=n_top,
        n_pixels=int(is_shared.sum()),
        confidence_level=confidence_level,
    )


def _refuse_sequential(*maps):
    if any(getattr(one, "window_n_samples", None) is not None for one in maps):
        raise ValueError(
            "Got a map of the sequential mode, but expected one whose windows were all measured "
            "on the same samples: windows that stopped early have a sign, but no order. Unset "
            "target_precision."
        )


def _shared_pixels(first, second):
    if first.shape != second.shape:
        raise ValueError(
            f"Got maps of shapes {first.shape} and {second.shape}, but expected the same shape."
        )
    is_shared = np.isfinite(first) & np.isfinite(second)
    for one in (first[is_shared], second[is_shared]):
        if len(one) < 2 or np.ptp(one) == 0:
            raise ValueError(
                "Got a constant map, but expected one that defines an order of the pixels."
            )
    return is_shared


def _n_top(top, n_pixels):
    if not isinstance(top, Integral):
        return max(1, round(top * n_pixels))
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


def _top_overlaps(first, second, *, n_top):
    """Return the share of each row's `n_top` largest that both have; ties go to earlier pixels."""
    tops = []
    for one in (first, second):
        is_top = np.zeros(one.shape, dtype=bool)
        largest = np.argsort(-one, axis=1, kind="stable")[:, :n_top]
        np.put_along_axis(is_top, largest, True, axis=1)
        tops.append(is_top)
    return (tops[0] & tops[1]).sum(axis=1) / n_top


def explain_refits(
    explainer: ADSExplainer,
    estimators: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> RefitExplanations:
    """Explain several fits of an estimator on the same samples.

    The standard error of one explanation describes the choice of samples, for one fitted estimator.
    Other training runs, with another seed or other training data, give different maps; this
    function measures how different.

    Parameters
    ----------
    explainer : ADSExplainer
        Defines how to explain; its own estimator is not used.
    estimators : list of estimators, or dict
        At least two fitted estimators, for example with different seeds or on bootstrap samples; or
        the result of ``cross_validate(return_estimator=True)``.
    X : array-like of shape (n_samples, ...) or DataFrame
        Data in the form the estimators predict from, preferably held out from all fits. (Each
        estimator of a cross-validation was fitted to most of the cross-validated data.)
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Weights of the samples in the score.

    Returns
    -------
    refits : RefitExplanations

    Raises
    ------
    TypeError, ValueError
        As :meth:`~skff.ADSExplainer.explain`; also if there are fewer than two estimators.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_validate
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff.saliency import ADSExplainer, explain_refits
    >>> X, y = load_iris(return_X_y=True)
    >>> fits = cross_validate(GaussianNB(), X, y, return_estimator=True)
    >>> explainer = ADSExplainer(GaussianNB(), window_shape=1, fill="mean")
    >>> refits = explain_refits(explainer, fits, X, y)
    >>> refits.n_runs, refits.standard_deviation.shape
    (5, (4,))
    """
    check_explainer(explainer)
    estimators = _check_estimators(estimators)
    explainer = with_fixed_draws(explainer)
    explanations = [
        with_params(explainer, estimator=estimator).explain(X, y, sample_weight)
        for estimator in estimators
    ]
    return RefitExplanations(explanations=explanations)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RefitExplanations:
    """Explanations of several training runs on the same samples.

    Parameters
    ----------
    explanations : list of ADSExplanation
        One per run.

    See Also
    --------
    explain_refits : Computes them.

    Notes
    -----
    Over R runs, with s the standard deviation over the runs and e the standard error over samples
    of their mean map, the `standard_error` of the mean is ``sqrt(s**2 / R + e**2)``. Variance due
    to combinations of run and sample is part of both terms, so this is slightly too large.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff.saliency import ADSExplainer, explain_refits
    >>> X, y = load_iris(return_X_y=True)
    >>> fits = [GaussianNB().fit(X[k::2], y[k::2]) for k in range(2)]
    >>> explainer = ADSExplainer(GaussianNB(), window_shape=1, fill="mean")
    >>> refits = explain_refits(explainer, fits, X, y)
    >>> refits
    <RefitExplanations: 2 runs, <ADSExplanation: 4 map of accuracy 0.96 on 150 samples> first>
    >>> bool((refits.standard_error >= refits.sampling_error).all())
    True
    """

    explanations: list[ADSExplanation]

    def __repr__(self):
        return f"<RefitExplanations: {self.n_runs} runs, {self.explanations[0]!r} first>"

    @property
    def n_runs(self) -> int:
        """Number of training runs, R."""
        return len(self.explanations)

    @property
    def importances(self) -> np.ndarray:
        """Mean of the maps over the runs, an ndarray of shape (H, W) or (L,)."""
        return np.mean([one.importances for one in self.explanations], axis=0)

    @property
    def standard_deviation(self) -> np.ndarray:
        """Standard deviation of the maps over the runs (ddof=1), of the shape of `importances`."""
        return np.std([one.importances for one in self.explanations], axis=0, ddof=1)

    @property
    def sampling_error(self) -> np.ndarray | None:
        """Standard error of `importances` over samples, for these runs; None unless accuracy.

        It is paired over the runs, from their mean on each of up to 50 parts of the samples.
        """
        parts = [one.fold_importances for one in self.explanations]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            return None
        return fold_standard_error(np.mean(known, axis=0), self.explanations[0].fold_weights)

    @property
    def standard_error(self) -> np.ndarray | None:
        """Standard error of `importances` over samples and runs; None unless accuracy."""
        if self.sampling_error is None:
            return None
        return np.sqrt(self.standard_deviation**2 / self.n_runs + self.sampling_error**2)

    def plot(
        self,
        image: ArrayLike | None = None,
        *,
        ax: Sequence[Axes] | None = None,
        cmap: str | Colormap = "RdBu_r",
        colorbar: bool = True,
    ) -> ADSDisplay:
        """Draw the mean map and the standard deviation over the runs, with a common colour scale.

        Parameters
        ----------
        image : array-like of shape (H, W) or (H, W, 3), or None, default=None
            Drawn in grey or colour under both.
        ax : list of two matplotlib Axes, or None, default=None
            Where to draw; None makes a new figure.
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours, centred at 0.
        colorbar : bool, default=True
            Whether to draw the scale.

        Returns
        -------
        display : ADSDisplay
        """
        from skff.saliency._display import ADSDisplay, units_of

        first = self.explanations[0]
        display = ADSDisplay(
            [self.importances, self.standard_deviation],
            names=[f"mean of {self.n_runs} runs", "standard deviation"],
            units=units_of(first.scoring),
            labels=first.feature_names,
        )
        return display.plot(ax=ax, image=image, cmap=cmap, colorbar=colorbar)


def _check_estimators(estimators):
    if isinstance(estimators, dict):
        if "estimator" not in estimators:
            raise ValueError(
                f"Got a dict with {sorted(estimators)}, but expected the result of "
                "cross_validate(return_estimator=True), which has 'estimator'."
            )
        estimators = estimators["estimator"]
    check_parameters({"estimators": [list, tuple]}, {"estimators": estimators})
    if len(estimators) < 2:
        raise ValueError(
            f"Got {len(estimators)} estimators, but expected at least 2: a spread needs two runs."
        )
    return list(estimators)


def randomization_check(
    explainer: ADSExplainer,
    X: ArrayLike,
    y: ArrayLike,
    *,
    randomize: Callable[..., Any] | None = None,
    n_repeats: int = 5,
    random_state: int | np.random.RandomState | None = None,
    sample_weight: ArrayLike | None = None,
) -> RandomizationCheck:
    """Compare the map of an estimator with maps of the same estimator with random weights.

    A map that shows what the estimator has learned must change if the weights are randomized: its
    rank correlation with maps of randomized estimators should be low. A map that stays the same
    depends on the data or the method rather than on the estimator. This is the model parameter
    randomization test [1]_, applied to all layers at once.

    Parameters
    ----------
    explainer : ADSExplainer
        Explainer with the estimator to check, which is not changed.
    X : array-like of shape (n_samples, ...) or DataFrame
        Data in the form the estimator predicts from.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets.
    randomize : callable or None, default=None
        ``(estimator, random_state)`` -> new fitted estimator with random weights. With a refit on
        permuted labels, this is the data randomization test of [1]_. None calls
        ``estimator.randomize_weights(random_state)`` if there is such a method, as in
        :class:`~skff.FFClassifier`. Otherwise it permutes the entries of each of the arrays
        `coefs_`, `intercepts_`, `coef_` and `intercept_`, or of each parameter of the torch module
        of a skorch net, in a copy; for a Pipeline those of the last step, for a search those of the
        best estimator.
    n_repeats : int, default=5
        Number of randomized estimators.
    random_state : int, RandomState instance or None, default=None
        Determines the randomized weights.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Weights of the samples in the score.

    Returns
    -------
    check : RandomizationCheck

    Raises
    ------
    TypeError
        If skff does not know how to randomize the estimator; otherwise as
        :meth:`~skff.ADSExplainer.explain`.
    ValueError
        As :meth:`~skff.ADSExplainer.explain`; also if `n_repeats` is below 1.

    References
    ----------
    .. [1] J. Adebayo, J. Gilmer, M. Muelly, I. Goodfellow, M. Hardt and B. Kim, "Sanity Checks for
       Saliency Maps", NeurIPS, 2018 (sections 3 and 4).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skff.saliency import ADSExplainer, randomization_check
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression(tol=0.01).fit(X[:900] / 16, y[:900])
    >>> check = randomization_check(ADSExplainer(model), X[900:] / 16, y[900:], random_state=0)
    >>> check.rank_correlations.shape
    (5,)
    >>> bool(check.rank_correlations.mean() < 0.5)
    True
    """
    constraints = {
        "randomize": [callable, None],
        "n_repeats": [COUNT],
        "random_state": ["random_state"],
    }
    check_parameters(constraints, locals())
    check_explainer(explainer)
    randomize = randomize or permute_weights
    rng = check_random_state(random_state)
    explainer = with_fixed_draws(explainer)
    original = explainer.explain(X, y, sample_weight)
    randomized = []
    for _ in range(n_repeats):
        estimator = randomize(explainer.estimator, rng.randint(np.iinfo(np.int32).max))
        untrained = with_params(explainer, estimator=estimator)
        untrained._warns_if_constant = False
        randomized.append(untrained.explain(X, y, sample_weight))
    return RandomizationCheck(original=original, randomized=randomized)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RandomizationCheck:
    """The map of an estimator, and those of the same estimator with random weights.

    Parameters
    ----------
    original : ADSExplanation
        Explanation of the estimator as it was fitted.
    randomized : list of ADSExplanation
        One per randomized estimator.

    See Also
    --------
    randomization_check : Computes the maps.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skff.saliency import ADSExplainer, randomization_check
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=200).fit(X, y)
    >>> explainer = ADSExplainer(model, window_shape=1, fill="mean")
    >>> check = randomization_check(explainer, X, y, n_repeats=3, random_state=0)
    >>> bool(check.scores.max() < check.original.baseline_score)
    True
    """

    original: ADSExplanation
    randomized: list[ADSExplanation]

    def __repr__(self):
        mean, spread = self.rank_correlations.mean(), self.rank_correlations.std()
        return (
            f"<RandomizationCheck: rank correlation {mean:.2f} (standard deviation {spread:.2f}) "
            f"with {len(self.randomized)} randomised estimators>"
        )

    @property
    def rank_correlations(self) -> np.ndarray:
        """Spearman's correlation of the map with each randomized one, of shape (n_repeats,).

        In [-1, 1]. A constant map, such as that of an estimator that always predicts the same
        class, defines no order of pixels: its correlation with any map is defined as 0.
        """
        return self._correlations(lambda importances: importances)

    @property
    def absolute_rank_correlations(self) -> np.ndarray:
        """The same for the absolute values, which show where a map is strong, not its sign."""
        return self._correlations(np.abs)

    @property
    def scores(self) -> np.ndarray:
        """Score of each randomized estimator with nothing hidden, of shape (n_repeats,)."""
        return np.array([one.baseline_score for one in self.randomized])

    def plot(self, *, cmap: str | Colormap = "RdBu_r", colorbar: bool = True) -> ADSDisplay:
        """Draw the map and those of the randomized estimators, with a common colour scale.

        Parameters
        ----------
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours, centred at 0.
        colorbar : bool, default=True
            Whether to draw the scale.

        Returns
        -------
        display : ADSDisplay
        """
        from skff.saliency._display import ADSDisplay

        names = ["fitted", *(f"randomised {k}" for k in range(1, len(self.randomized) + 1))]
        return ADSDisplay.from_explanation(
            [self.original, *self.randomized], names=names, cmap=cmap, colorbar=colorbar
        )

    def _correlations(self, transform):
        maps = [transform(one.importances) for one in [self.original, *self.randomized]]
        is_explained = np.isfinite(maps[0])
        first, *others = [one[is_explained] for one in maps]
        correlations = _rank_correlations(np.tile(first, (len(others), 1)), np.stack(others))
        return np.nan_to_num(correlations, nan=0.0)


def permute_weights(estimator, random_state):
    """Return a copy of a fitted estimator with the entries of its weights permuted.

    Parameters
    ----------
    estimator : object
        As in :func:`randomization_check`.
    random_state : int or RandomState instance
        Determines the permutations.

    Returns
    -------
    randomized : object

    Raises
    ------
    TypeError
        If its weights are not found.
    """
    rng = check_random_state(random_state)
    if hasattr(estimator, "randomize_weights"):
        return estimator.randomize_weights(random_state)
    if isinstance(estimator, Pipeline):
        *others, (name, last) = estimator.steps
        randomized = copy(estimator)
        randomized.steps = [*others, (name, permute_weights(last, rng))]
        return randomized
    if hasattr(estimator, "best_estimator_"):
        randomized = copy(estimator)
        randomized.best_estimator_ = permute_weights(estimator.best_estimator_, rng)
        return randomized
    stored = [name for name in ARRAYS if name in vars(estimator)]
    if not stored and not hasattr(estimator, "module_"):
        raise TypeError(
            f"Got estimator={estimator!r}, but expected one with `randomize_weights`, coefficients "
            "or a torch module: pass randomize=, a function (estimator, random_state) -> estimator "
            "with random weights."
        )
    randomized = deepcopy(estimator)
    for name in stored:
        setattr(randomized, name, _permuted(getattr(randomized, name), rng))
    if not stored:
        _permute_module(randomized.module_, rng)
    return randomized


def _permuted(weights, rng):
    """Return an array, or a list of arrays, with the entries of each permuted."""
    if isinstance(weights, list):
        return [_permuted(array, rng) for array in weights]
    weights = np.asarray(weights)
    return rng.permutation(weights.ravel()).reshape(weights.shape)


def _permute_module(module, rng):
    """Permute the entries of each parameter of a torch module, through the parameter's own door."""
    for parameter in module.parameters():
        flat = parameter.data.flatten()
        parameter.data.copy_(flat[rng.permutation(len(flat))].view_as(parameter.data))
