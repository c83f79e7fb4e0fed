"""Deletion and insertion curves, which test how well a map ranks the pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.metrics import auc
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval

from skff.saliency._parallel import Work, run
from skff.saliency._parameters import IMAGE_SHAPE, MAX_SAMPLES, N_JOBS, check_parameters
from skff.saliency._regions import lay_out_pixels
from skff.saliency._samples import check_fitted, draw_samples, hide, make_samples, read_data
from skff.saliency._scoring import Predictions, RememberedEstimator, is_accuracy, make_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

AXIS_LABELS = {"deletion": "share of pixels removed", "insertion": "share of pixels restored"}


def deletion_curve(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    maps: Any,
    *,
    n_points: int = 21,
    n_random: int = 10,
    image_shape: tuple[int, ...] | None = None,
    fill: Any = 0.0,
    scoring: str | Callable[..., float] | None = None,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> PerturbationCurves:
    """Score the data while pixels are removed, the most important first.

    The better a map orders the pixels, the faster the score falls and the smaller the area under
    the curve.

    Parameters
    ----------
    estimator : object
        Fitted estimator, as for :class:`~skff.ADSExplainer`.
    X : array-like of shape (n_samples, ...) or DataFrame
        Data in the form the estimator predicts from.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets.
    maps : ADSExplanation, array-like of shape (H, W) or (L,), or dict of name to either
        Importances that define the order of the pixels; the same pixels are removed from all
        samples. NaN comes last, ties are broken at random.
    n_points : int, default=21
        Number of shares of removed pixels at which the data are scored, evenly spaced from 0 to 1;
        at least 2.
    n_random : int, default=10
        Number of random orders to compare with.
    image_shape, fill, scoring, max_samples
        As in :class:`~skff.ADSExplainer`.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Weights of the samples in the score; the scorer receives them divided by the largest.
    n_jobs : int or None, default=None
        Number of joblib workers; each handles one order at a time.
    random_state : int, RandomState instance or None, default=None
        Determines random orders, ties and samples drawn.

    Returns
    -------
    curves : PerturbationCurves

    Raises
    ------
    TypeError, ValueError
        As :meth:`~skff.ADSExplainer.explain`; also if a map does not have the shape of the image.

    References
    ----------
    .. [1] V. Petsiuk, A. Das and K. Saenko, "RISE: Randomized Input Sampling for Explanation of
       Black-box Models", BMVC, 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff.saliency import ADSExplainer
    >>> from skff.saliency.curves import deletion_curve
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GaussianNB().fit(X, y)
    >>> ads = ADSExplainer(model, window_shape=1, fill="mean").explain(X, y)
    >>> curves = deletion_curve(model, X, y, ads, fill="mean", n_points=5, random_state=0)
    >>> bool(curves.areas["ADS"] <= curves.random_areas.mean())
    True
    """
    return _curves(
        "deletion",
        estimator,
        X,
        y,
        maps,
        n_points=n_points,
        n_random=n_random,
        image_shape=image_shape,
        fill=fill,
        scoring=scoring,
        sample_weight=sample_weight,
        max_samples=max_samples,
        n_jobs=n_jobs,
        random_state=random_state,
    )


def insertion_curve(
    estimator: Any,
    X: ArrayLike,
    y: ArrayLike,
    maps: Any,
    *,
    n_points: int = 21,
    n_random: int = 10,
    image_shape: tuple[int, ...] | None = None,
    fill: Any = 0.0,
    scoring: str | Callable[..., float] | None = None,
    sample_weight: ArrayLike | None = None,
    max_samples: int | float | None = None,
    n_jobs: int | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> PerturbationCurves:
    """Score the data while pixels are restored, the most important first, starting with none.

    The better a map orders the pixels, the faster the score rises and the larger the area under
    the curve. Parameters and return value are those of :func:`deletion_curve`.

    Parameters
    ----------
    estimator, X, y, maps, n_points, n_random, image_shape, fill, scoring, sample_weight
        As in :func:`deletion_curve`.
    max_samples, n_jobs, random_state
        As in :func:`deletion_curve`.

    Returns
    -------
    curves : PerturbationCurves

    Raises
    ------
    TypeError, ValueError
        As :func:`deletion_curve`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff.saliency import ADSExplainer, insertion_curve
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GaussianNB().fit(X, y)
    >>> ads = ADSExplainer(model, window_shape=1, fill="mean").explain(X, y)
    >>> curves = insertion_curve(model, X, y, ads, fill="mean", n_points=5, random_state=0)
    >>> bool(curves.areas["ADS"] >= curves.random_areas.mean())
    True
    """
    return _curves(
        "insertion",
        estimator,
        X,
        y,
        maps,
        n_points=n_points,
        n_random=n_random,
        image_shape=image_shape,
        fill=fill,
        scoring=scoring,
        sample_weight=sample_weight,
        max_samples=max_samples,
        n_jobs=n_jobs,
        random_state=random_state,
    )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class PerturbationCurves:
    """Scores against the share of pixels removed or restored, one curve per order.

    Parameters
    ----------
    kind : {"deletion", "insertion"}
    shares : ndarray of shape (n_points,)
        Share of pixels removed ("deletion") or restored ("insertion"), from 0 to 1.
    scores : dict of str to ndarray of shape (n_points,)
        Score at each share, for each map.
    random_scores : ndarray of shape (n_random, n_points)
        The same for random orders.
    scoring : str
        Name of the score.

    Examples
    --------
    >>> import numpy as np
    >>> from skff.saliency import PerturbationCurves
    >>> curves = PerturbationCurves(
    ...     kind="deletion",
    ...     shares=np.array([0.0, 0.5, 1.0]),
    ...     scores={"ADS": np.array([1.0, 0.2, 0.0])},
    ...     random_scores=np.array([[1.0, 0.8, 0.0]]),
    ...     scoring="accuracy",
    ... )
    >>> curves
    <PerturbationCurves: deletion of accuracy, areas: ADS 0.35, random orders 0.65>
    """

    kind: str
    shares: np.ndarray
    scores: dict
    random_scores: np.ndarray
    scoring: str

    def __repr__(self):
        """Return the areas in one line."""
        areas = ", ".join(f"{name} {area:.4g}" for name, area in self.areas.items())
        if len(self.random_scores):
            areas += f", random orders {self.random_areas.mean():.4g}"
        return f"<PerturbationCurves: {self.kind} of {self.scoring}, areas: {areas}>"

    @property
    def areas(self) -> dict[str, float]:
        """Area under each map's curve, in units of the score; for deletion, smaller is better."""
        return {name: auc(self.shares, scores) for name, scores in self.scores.items()}

    @property
    def random_areas(self) -> np.ndarray:
        """Area under the curve of each random order, an ndarray of shape (n_random,)."""
        return np.array([auc(self.shares, scores) for scores in self.random_scores])

    def plot(self, *, ax: Axes | None = None) -> PerturbationCurvesDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : PerturbationCurvesDisplay
        """
        return PerturbationCurvesDisplay(self).plot(ax=ax)


class PerturbationCurvesDisplay:
    """Curves of several maps, with the range of random orders.

    Parameters
    ----------
    curves : PerturbationCurves
        Curves to draw.

    Attributes
    ----------
    lines_ : dict of str to Line2D
        One line per map.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    deletion_curve : Computes deletion curves.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff.saliency import ADSExplainer, deletion_curve
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GaussianNB().fit(X, y)
    >>> ads = ADSExplainer(model, window_shape=1, fill="mean").explain(X, y)
    >>> display = deletion_curve(model, X, y, ads, fill="mean", n_random=2, random_state=0).plot()
    >>> list(display.lines_)
    ['ADS']
    """

    def __init__(self, curves):
        self.curves = curves

    def __repr__(self):
        """Return what is drawn in one line."""
        n_maps = len(self.curves.scores)
        maps = f"{n_maps} map{'s' * (n_maps != 1)}"
        return f"<PerturbationCurvesDisplay: {self.curves.kind} of {maps}>"

    def plot(self, *, ax: Axes | None = None) -> Self:
        """Draw the curves; the legend gives the area under each.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : PerturbationCurvesDisplay
            Itself, with `lines_`, `ax_` and `figure_` set.
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
        curves, self.lines_ = self.curves, {}
        for name, scores in curves.scores.items():
            label = f"{name} (area {curves.areas[name]:.3f})"
            self.lines_[name] = ax.plot(curves.shares, scores, label=label)[0]
        if len(curves.random_scores):
            self._plot_random(ax)
        better = "lower" if curves.kind == "deletion" else "higher"
        ax.set(xlabel=AXIS_LABELS[curves.kind], ylabel=curves.scoring)
        ax.set_title(f"{curves.kind}: {better} is better", fontsize="medium")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_random(self, ax):
        shares, scores = self.curves.shares, self.curves.random_scores
        label = f"random order (mean area {np.mean(self.curves.random_areas):.3f})"
        ax.plot(shares, scores.mean(axis=0), color="0.4", linestyle="--", label=label)
        low, high = scores.min(axis=0), scores.max(axis=0)
        ax.fill_between(shares, low, high, color="0.4", alpha=0.2, linewidth=0)


def _curves(
    kind,
    estimator,
    X,
    y,
    maps,
    *,
    n_points,
    n_random,
    image_shape,
    fill,
    scoring,
    sample_weight,
    max_samples,
    n_jobs,
    random_state,
):
    constraints = {
        "n_points": [Interval(Integral, 2, None, closed="left")],  # both ends of a curve
        "n_random": [Interval(Integral, 0, None, closed="left")],
        "image_shape": IMAGE_SHAPE,
        "max_samples": MAX_SAMPLES,
        "n_jobs": N_JOBS,
        "random_state": ["random_state"],
    }
    check_parameters(constraints, locals())
    score = make_score(estimator, scoring)
    check_fitted(estimator)
    rng = check_random_state(random_state)
    data = read_data(estimator, X, y, sample_weight)
    pixel_features = lay_out_pixels(data.sample_shape, image_shape)
    maps = _named_maps(maps, pixel_features.shape[:-1])
    data = draw_samples(estimator, data, max_samples=max_samples, random_state=rng)
    layout = {"pixel_features": pixel_features, "random_state": rng}
    samples = make_samples(estimator, data, fill=fill, **layout)
    features = pixel_features.reshape(-1, pixel_features.shape[-1])
    orders = [_order(importances, rng) for importances in maps.values()]
    orders += [rng.permutation(len(features)) for _ in range(n_random)]
    shares = np.linspace(0, 1, n_points)
    predictions = Predictions(estimator, samples)
    in_batches = (
        samples.is_large and predictions.are_labels_like(data.y) and not predictions.depend_on_batch
    )
    if in_batches and is_accuracy(estimator, scoring):  # the scorer of this name only predicts
        score = make_score(estimator, "accuracy")
    ask = predictions.ask_hidden if in_batches and score.asks_methods_only else None
    work = Work(_scores_along, (kind, score, samples, data, shares, ask), data.values.nbytes)
    scores = list(run(work, [(features[order],) for order in orders], n_jobs=n_jobs))
    return PerturbationCurves(
        kind=kind,
        shares=shares,
        scores=dict(zip(maps, scores, strict=False)),
        random_scores=np.reshape(scores[len(maps) :], (n_random, n_points)),
        scoring=score.name,
    )


def _named_maps(maps, image_shape):
    """Return a dict of name to importances of shape `image_shape`."""
    if not isinstance(maps, dict):
        maps = {"ADS" if hasattr(maps, "importances") else "map": maps}
    maps = {str(name): np.asarray(getattr(m, "importances", m)) for name, m in maps.items()}
    for name, importances in maps.items():
        if importances.shape != image_shape:
            raise ValueError(
                f"Got map {name!r} of shape {importances.shape}, but expected {image_shape}, "
                "as the image."
            )
    return maps


def _order(importances, rng):
    """Return flat pixel indices, most important first, NaN last, ties at random."""
    losses = -importances.ravel()
    return np.lexsort((rng.permutation(losses.size), losses))


def _scores_along(kind, score, samples, data, shares, ask, features):
    """Score with growing shares of `features`, of shape (n_pixels, n_channels), hidden or shown.

    Where ``ask(hidden, fill, method)`` gives a method's answer in batches, the scorer gets that.
    """
    scores = []
    for n_pixels in np.rint(shares * len(features)).astype(int):
        hidden = features[:n_pixels] if kind == "deletion" else features[n_pixels:]
        hidden, fill = hidden.ravel(), np.empty((1, 0))
        if len(hidden):
            fill = samples.fill.values(hidden, int(n_pixels))
        if ask is None:
            flat, remembered = samples.values.astype(samples.dtype), None
            hide(flat, hidden, fill)
        else:
            flat = samples.values
            remembered = RememberedEstimator(score.estimator, partial(ask, hidden, fill))
        scores.append(score(samples.restore(flat), data.y, data.weight, remembered))
    return np.array(scores)
