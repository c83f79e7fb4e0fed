"""Interactions: whether hiding two regions together costs more, or less, than one by one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from numbers import Integral
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.stats import false_discovery_control
from sklearn.utils._param_validation import Interval, StrOptions

from skff.saliency._display import settle_layout
from skff.saliency._explainer import study_unions
from skff.saliency._parameters import LEVEL, check_parameters
from skff.saliency._statistics import fold_standard_error, t_test

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from numpy.typing import ArrayLike
    from pandas import DataFrame

    from skff.saliency._explainer import ADSExplainer


def interactions(
    explainer: ADSExplainer,
    X: ArrayLike,
    y: ArrayLike,
    *,
    top_k: int = 10,
    overlap: bool = False,
    sample_weight: ArrayLike | None = None,
) -> Interactions:
    """Measure the interaction of each pair of the most important regions.

    The interaction of two regions is the accuracy drop for hiding both minus the sum of their
    separate drops, ``I(w, v) = d(w and v) - d(w) - d(v)``. For other scores, d is the drop of that
    score. The interaction is

    - *positive* if the two regions are redundant: each can replace the other, so only hiding both
      lowers the accuracy;
    - *negative* if they work together: without one of them the other is worth less. It is also
      negative if the same samples depend on both regions independently, because a prediction can
      be lost only once.

    Parameters
    ----------
    explainer : ADSExplainer
        Defines the regions (windows or groups), and how they are hidden and scored.
    X : array-like of shape (n_samples, ...) or DataFrame
        Data in the form the estimator predicts from.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets.
    top_k : int, default=10
        Number of regions, at least 2: those with the largest accuracy drops. Fewer are used if
        there are not enough.
    overlap : bool, default=False
        Whether regions may share pixels. If False, a region that shares a pixel with a more
        important region is skipped. If True, their union is hidden. The effect of the shared
        pixels is then part of d(w) and of d(v), but they are hidden only once, so overlapping
        windows seem less redundant than they are. (The interaction of a window with itself would
        be -d(w).)
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Weights of the samples in the score.

    Returns
    -------
    interactions : Interactions

    Raises
    ------
    TypeError, ValueError
        As :meth:`~skff.ADSExplainer.explain`; also if `top_k` is below 2, or fewer than 2 regions
        can be chosen.

    See Also
    --------
    shapley : Divides the accuracy among all regions.

    Notes
    -----
    With accuracy, standard errors are paired: I(w, v) is computed on each of up to 50 random parts
    of the samples, which are the same for all regions, and the (weighted) spread of the parts gives
    the standard error of their mean. The p-values are those of a two-sided t-test over the parts.

    Consider the cooperative game whose players are the regions and whose value v(S) is the score
    with only S shown. I(w, v) is minus the second difference that the interaction index [1]_
    averages over all S; here S contains all other regions.

    References
    ----------
    .. [1] M. Grabisch and M. Roubens, "An axiomatic approach to the concept of interaction among
       players in cooperative games", International Journal of Game Theory 28, 1999.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skff.saliency import ADSExplainer, interactions
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=200).fit(X, y)
    >>> explainer = ADSExplainer(model, window_shape=1, fill="mean")
    >>> found = interactions(explainer, X, y, top_k=2)
    >>> found.matrix.shape
    (2, 2)
    """
    constraints = {"top_k": [Interval(Integral, 2, None, closed="left")], "overlap": ["boolean"]}
    check_parameters(constraints, locals())
    study = study_unions(explainer, X, y, sample_weight)
    regions, masks = study.regions, study.regions.masks
    ((scoring, single),) = study.measure(regions).items()
    top = _choose(single.drops, masks, top_k, overlap)
    pairs = np.array(list(combinations(range(len(top)), 2)))  # (n_pairs, 2), places in `top`
    hidden = np.zeros((len(pairs), len(masks)), dtype=bool)
    np.put_along_axis(hidden, top[pairs], True, axis=1)
    both = study.measure(regions.unions(hidden))[scoring]
    excess, error, p_values = _excess(both, single, top[pairs])
    return Interactions(
        matrix=_to_matrix(excess, pairs),
        standard_error=None if error is None else _to_matrix(error, pairs),
        p_values=None if p_values is None else _to_matrix(p_values, pairs),
        importances=single.drops[top],
        windows=top,
        centers=regions.centers[top],
        names=regions.labels[top],
        scoring=scoring,
        n_samples=len(study.task.samples),
    )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Interactions:
    """Interactions of pairs of regions, in units of the score.

    Parameters
    ----------
    matrix : ndarray of shape (k, k)
        ``I(w, v) = d(w and v) - d(w) - d(v)``, symmetric with NaN on the diagonal. Positive: the
        regions are redundant; negative: they work together, or affect the same samples.
    standard_error : ndarray of shape (k, k) or None
        Paired standard error of `matrix`; None if the score is not accuracy or there is a
        single sample.
    p_values : ndarray of shape (k, k) or None
        P-values of the hypothesis that the expected interaction is 0, uncorrected; None if
        `standard_error` is None.
    importances : ndarray of shape (k,)
        Accuracy drop of each region alone, in decreasing order.
    windows : ndarray of shape (k,)
        Index of each region among those of the explainer.
    centers : ndarray of shape (k, n_axes)
        Centre of each region, in pixels.
    names : ndarray of str of shape (k,)
        Names of groups, columns of a DataFrame, or centres of windows as "(row, column)".
    scoring : str
        Name of the score.
    n_samples : int
        Number of samples used.

    See Also
    --------
    interactions : Measures interactions.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff.saliency import ADSExplainer, interactions
    >>> iris = load_iris(as_frame=True)
    >>> model = GaussianNB().fit(iris.data, iris.target)
    >>> explainer = ADSExplainer(model, window_shape=1, fill="mean")
    >>> found = interactions(explainer, iris.data, iris.target, top_k=2)
    >>> found.names.tolist()
    ['petal width (cm)', 'petal length (cm)']
    >>> bool(found.matrix[0, 1] < 0)  # hiding both costs less than the sum
    True
    """

    matrix: np.ndarray
    standard_error: np.ndarray | None
    p_values: np.ndarray | None
    importances: np.ndarray
    windows: np.ndarray
    centers: np.ndarray
    names: np.ndarray
    scoring: str
    n_samples: int

    def __repr__(self):
        return (
            f"<Interactions: of {self.scoring} between {len(self.names)} regions on "
            f"{self.n_samples} samples, from {np.nanmin(self.matrix):+.3g} to "
            f"{np.nanmax(self.matrix):+.3g}>"
        )

    def significant(self, alpha: float = 0.05, *, method: str = "bh") -> np.ndarray:
        """Mark the pairs whose interaction differs significantly from 0.

        Parameters
        ----------
        alpha : float, default=0.05
            Bound on the expected share of false marks among all marks, in (0, 1).
        method : {"bh", "by"}, default="bh"
            Correction for testing all pairs, of Benjamini and Hochberg or of Benjamini and
            Yekutieli, as in :meth:`~skff.ADSExplanation.significant`.

        Returns
        -------
        mask : ndarray of bool of shape (k, k)
            Symmetric; False on the diagonal.

        Raises
        ------
        ValueError
            If there are no p-values, `alpha` is out of range or `method` is unknown.
        """
        check_parameters({"alpha": [LEVEL], "method": [StrOptions({"bh", "by"})]}, locals())
        if self.p_values is None:
            raise ValueError(
                f"Got interactions of {self.scoring!r} on {self.n_samples} samples, but expected "
                "some of accuracy on at least 2: p-values stem from parts of the samples."
            )
        above = np.triu_indices(len(self.matrix), 1)
        mask = np.zeros(self.matrix.shape, dtype=bool)
        mask[above] = false_discovery_control(self.p_values[above], method=method) <= alpha
        return mask | mask.T

    def plot(
        self,
        *,
        significance: float | None = None,
        ax: Axes | None = None,
        cmap: str | Colormap = "RdBu_r",
        colorbar: bool = True,
    ) -> InteractionsDisplay:
        """Draw the interactions as a heat map.

        Parameters
        ----------
        significance : float or None, default=None
            Level at which pairs are marked with a star; None marks none.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours, centred at 0.
        colorbar : bool, default=True
            Whether to draw the scale.

        Returns
        -------
        display : InteractionsDisplay
        """
        display = InteractionsDisplay(self, significance=significance)
        return display.plot(ax=ax, cmap=cmap, colorbar=colorbar)

    def to_frame(self) -> DataFrame:
        """Return a DataFrame with one row per pair, the strongest interaction first.

        Returns
        -------
        frame : pandas.DataFrame
            Columns ``first``, ``second`` (names), ``first_importance``, ``second_importance``,
            ``interaction``, and ``standard_error`` and ``p_value`` where there are any.
        """
        import pandas as pd

        first, second = np.triu_indices(len(self.matrix), 1)
        columns = {
            "first": self.names[first],
            "second": self.names[second],
            "first_importance": self.importances[first],
            "second_importance": self.importances[second],
            "interaction": self.matrix[first, second],
        }
        for name, values in [("standard_error", self.standard_error), ("p_value", self.p_values)]:
            if values is not None:
                columns[name] = values[first, second]
        order = np.argsort(-np.abs(columns["interaction"]), kind="stable")
        return pd.DataFrame({name: values[order] for name, values in columns.items()})


class InteractionsDisplay:
    """Heat map of the interactions of pairs of regions.

    The colour map is centred at 0: red if hiding both regions costs more than the sum of their
    separate drops, blue if it costs less.

    Parameters
    ----------
    interactions : Interactions
        Interactions to draw.
    significance : float or None, default=None
        Level at which pairs are marked with a star.

    Attributes
    ----------
    im_ : AxesImage
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    interactions : Measures interactions.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff.saliency import ADSExplainer, interactions
    >>> X, y = load_iris(return_X_y=True)
    >>> explainer = ADSExplainer(GaussianNB().fit(X, y), window_shape=1, fill="mean")
    >>> display = interactions(explainer, X, y, top_k=3).plot()
    >>> display.im_.get_array().shape
    (3, 3)
    """

    def __init__(self, interactions, *, significance=None):
        self.interactions = interactions
        self.significance = significance

    def __repr__(self):
        found = self.interactions
        return f"<InteractionsDisplay: {found.scoring} of {len(found.names)} regions>"

    def plot(
        self, *, ax: Axes | None = None, cmap: str | Colormap = "RdBu_r", colorbar: bool = True
    ) -> Self:
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours, centred at 0.
        colorbar : bool, default=True
            Whether to draw the scale.

        Returns
        -------
        display : InteractionsDisplay
            Itself, with `im_`, `ax_` and `figure_` set.
        """
        import matplotlib.pyplot as plt

        found, axes = self.interactions, ax
        if axes is None:
            side = 2.6 + 0.35 * len(found.matrix)
            _, axes = plt.subplots(figsize=(side + 0.9, side), layout="compressed")
        limit = np.nanmax(np.abs(found.matrix)) or 1.0
        axes.set_facecolor("0.85")  # of the diagonal, which would look like an interaction of 0
        self.im_ = axes.imshow(found.matrix, cmap=cmap, vmin=-limit, vmax=limit)
        places = np.arange(len(found.names))
        axes.set_xticks(places, found.names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(places, found.names)
        axes.set(xlabel="region", ylabel="region")
        if self.significance is not None:
            rows, columns = np.nonzero(found.significant(self.significance))
            axes.plot(columns, rows, "k*", markersize=5, linestyle="", label="significant")
        self.ax_, self.figure_ = axes, axes.figure
        if colorbar:
            self.figure_.colorbar(self.im_, ax=axes, label=f"interaction ({found.scoring})")
        if ax is None:
            settle_layout(self.figure_)
        return self


def _choose(importances, masks, top_k, overlap):
    """Return the indices of up to `top_k` regions, the most important first."""
    chosen, taken = [], np.zeros(masks.shape[1:], dtype=bool)
    for region in np.argsort(-importances, kind="stable"):
        if overlap or not (taken & masks[region]).any():
            chosen.append(region)
            taken |= masks[region]
        if len(chosen) == top_k:
            break
    if len(chosen) < 2:
        raise ValueError(
            f"Got {len(chosen)} of {len(masks)} regions to combine, but expected at least 2: use "
            "smaller windows, or overlap=True."
        )
    return np.array(chosen)


def _excess(both, single, pairs):
    """Return interactions, standard errors and p-values of pairs of regions, (n_pairs,) each."""

    def combine(joint, alone):  # d(w and v) - d(w) - d(v), of shape (..., n_pairs)
        return joint - alone[..., pairs[:, 0]] - alone[..., pairs[:, 1]]

    excess = combine(both.drops, single.drops)
    if single.standard_error is None:
        return excess, None, None
    parts = combine(both.fold_drops, single.fold_drops)
    error = fold_standard_error(parts, single.fold_weights)
    return excess, error, t_test(excess, error, len(parts))


def _to_matrix(values, pairs):
    n_regions = pairs.max() + 1
    matrix = np.full((n_regions, n_regions), np.nan)
    matrix[pairs[:, 0], pairs[:, 1]] = matrix[pairs[:, 1], pairs[:, 0]] = values
    return matrix
