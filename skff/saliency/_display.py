"""Plots of ADS maps; matplotlib is imported only when something is drawn."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from math import ceil
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skff.saliency._explainer import ADSExplainer
from skff.saliency._explanation import ADSExplanation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from numpy.typing import ArrayLike

MAX_COLUMNS = 5  # of maps side by side
MAX_LABELS = 40  # bars that get a name each
SCORE_NAMES = {"neg_log_loss": "log-likelihood"}  # where readers know a score by another name


class ADSDisplay:
    """Maps of the score drop, drawn with a common colour scale.

    The colour map is centred at 0: red where hiding lowers the score, blue where it raises it.

    Parameters
    ----------
    maps : list of ndarray
        Each of shape (H, W), drawn as an image, or (L,), drawn as bars. NaN stays blank.
    names : list of str or None, default=None
        Titles, one per map.
    units : str, default="score drop"
        Label of the colour scale.
    significant : list of (ndarray of bool or None), or None, default=None
        For each map the pixels to outline, or the bars to mark with a star.
    labels : sequence of str or None, default=None
        Names of the bars; None numbers the bars.

    Attributes
    ----------
    im_ : AxesImage or BarContainer, or list of them
        The drawn artists: a single one, or a list with one per map if there are several.
    ax_ : matplotlib Axes, or list of them
    figure_ : matplotlib Figure

    See Also
    --------
    ADSExplainer : Computes the explanations that are drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from skff.saliency import ADSDisplay
    >>> display = ADSDisplay([np.eye(3) / 10], units="accuracy drop").plot()
    >>> display.im_.get_clim()
    (-0.1, 0.1)
    """

    ax_: Any  # one, or a list where there are several maps
    im_: Any

    def __init__(self, maps, *, names=None, units="score drop", significant=None, labels=None):
        self.maps = maps
        self.names = names
        self.units = units
        self.significant = significant
        self.labels = labels

    def __repr__(self):
        n_maps = len(self.maps)
        return f"<ADSDisplay: {n_maps} map{'s' * (n_maps != 1)} of {self.units}>"

    @classmethod
    def from_explanation(
        cls,
        explanation: Any,
        *,
        names: list[str] | None = None,
        per_class: bool = False,
        significance: float | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        image: Any = None,
        cmap: str | Colormap = "RdBu_r",
        colorbar: bool = True,
        im_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw one explanation, several, or the classes of one, with a common colour scale.

        Parameters
        ----------
        explanation : ADSExplanation, list of them, or dict of name to ADSExplanation
        names : list of str or None, default=None
            Titles; None uses the keys of a dict, or the classes.
        per_class : bool, default=False
            Whether to draw the map of each class of one explanation.
        significance : float or None, default=None
            Level at which significant pixels are outlined; None outlines none.
        ax, image, cmap, colorbar, im_kw
            As in :meth:`plot`.

        Returns
        -------
        display : ADSDisplay

        Raises
        ------
        ValueError
            If there is nothing to draw; or with ``per_class=True``, if there are several
            explanations, the explanation has no maps per class, or `significance` is set.
        """
        if isinstance(explanation, dict):
            names = list(explanation) if names is None else names
            explanation = list(explanation.values())
        several = list(explanation) if isinstance(explanation, list | tuple) else [explanation]
        if not several:
            raise ValueError("Got no explanation, but expected at least one.")
        for one in several:
            if not isinstance(one, ADSExplanation):
                raise TypeError(
                    f"Got a {type(one).__name__} as explanation, but expected an ADSExplanation "
                    "or several of them; ADSDisplay(maps).plot() draws arrays."
                )
        make = cls._of_classes if per_class else cls._of_explanations
        display = make(several, names, significance)
        return display.plot(ax=ax, image=image, cmap=cmap, colorbar=colorbar, im_kw=im_kw)

    @classmethod
    def _of_explanations(cls, several, names, significance):
        scores = {one.scoring for one in several}
        units = units_of(scores.pop() if len(scores) == 1 else "score")
        if len(several[0].image_shape) == 1:
            maps, marks, labels = zip(*[one.bars(significance) for one in several], strict=True)
            labels = labels[0]
        else:
            maps, labels = [one.importances for one in several], None
            marks = [
                None if significance is None else one.significant(significance) for one in several
            ]
        return cls(list(maps), names=names, units=units, significant=marks, labels=labels)

    @classmethod
    def _of_classes(cls, several, names, significance):
        if len(several) > 1 or several[0].per_class is None or significance is not None:
            raise ValueError(
                f"Got per_class=True with {len(several)} explanations and "
                f"significance={significance}, but expected one explanation that has maps per "
                "class, and None."
            )
        one = several[0]
        names = [f"class {label}" for label in one.classes] if names is None else names
        units = "accuracy drop in the class"
        return cls(list(one.per_class), names=names, units=units, labels=one.feature_names)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        significance: float | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        image: Any = None,
        cmap: str | Colormap = "RdBu_r",
        colorbar: bool = True,
        im_kw: dict[str, Any] | None = None,
        **explainer_params: Any,
    ) -> Self:
        """Explain a fitted estimator and draw the map.

        Parameters
        ----------
        estimator, X, y, sample_weight
            As in :class:`~skff.ADSExplainer` and its ``explain``.
        significance : float or None, default=None
            Level at which significant pixels are outlined; None outlines none.
        ax, image, cmap, colorbar, im_kw
            As in :meth:`plot`.
        **explainer_params
            Further parameters of :class:`~skff.ADSExplainer`.

        Returns
        -------
        display : ADSDisplay
        """
        explanation = ADSExplainer(estimator, **explainer_params).explain(X, y, sample_weight)
        return cls.from_explanation(
            explanation,
            significance=significance,
            ax=ax,
            image=image,
            cmap=cmap,
            colorbar=colorbar,
            im_kw=im_kw,
        )

    def plot(
        self,
        *,
        ax: Axes | Sequence[Axes] | None = None,
        image: Any = None,
        cmap: str | Colormap = "RdBu_r",
        colorbar: bool = True,
        im_kw: dict[str, Any] | None = None,
    ) -> Self:
        """Draw the maps.

        Parameters
        ----------
        ax : matplotlib Axes, list of them, or None, default=None
            One per map; None makes a new figure.
        image : array-like of shape (H, W) or (H, W, 3), list of them, or None, default=None
            Drawn under each map, which then is opaque only where it is strong: grey images from
            white for their lowest value to grey for their highest, colours, in [0, 1] or integers
            up to 255, as they are. A list of images (or None) has one per map; a nested list of
            numbers is one image.
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours, centred at 0.
        colorbar : bool, default=True
            Whether to draw the scale of images; bars have an axis for it.
        im_kw : dict or None, default=None
            Further arguments of ``Axes.imshow``, or of ``Axes.bar`` for sequences.

        Returns
        -------
        display : ADSDisplay
            Itself, with `im_`, `ax_` and `figure_` set.

        Raises
        ------
        TypeError
            If the maps are not a list.
        ValueError
            If there are not as many axes, names or images as maps, or an image does not fit.
        """
        if not isinstance(self.maps, list | tuple) or not self.maps:
            raise TypeError(f"Got maps={self.maps!r}, but expected a list of at least one map.")
        maps = [np.asarray(one) for one in self.maps]
        n_maps, is_image = len(maps), maps[0].ndim == 2
        axes = make_axes(n_maps, is_image) if ax is None else np.ravel(np.asarray(ax, dtype=object))
        images = image if _lists_images(image, maps[0].shape) else [image] * n_maps
        names, masks = self.names or [""] * n_maps, self.significant or [None] * n_maps
        _check_counts(n_maps, axes=axes, names=names, images=images, masks=masks)
        style = {"cmap": cmap, "limits": value_limits(maps), "kw": im_kw or {}}
        self.im_ = []
        for axis, one, under, mask, name in zip(axes, maps, images, masks, names, strict=True):
            if is_image:
                self.im_.append(draw_map(axis, one, under, mask, **style))
            else:
                labels = {"labels": self.labels, "units": self.units}
                self.im_.append(draw_bars(axis, one, under, mask, **labels, **style))
            axis.set_title(name)
        if ax is None:
            label_outer(axes)
        self.ax_, self.figure_ = list(axes), axes[0].figure
        if colorbar and is_image:
            self.figure_.colorbar(self.im_[0], ax=self.ax_, label=self.units)
        if ax is None:
            settle_layout(self.figure_)
        if n_maps == 1:
            self.ax_, self.im_ = self.ax_[0], self.im_[0]
        return self


def explanation_html(explanation):
    """Return what a notebook shows of an explanation: the map, key facts, what is significant.

    Parameters
    ----------
    explanation : ADSExplanation

    Returns
    -------
    html : str
        With the picture inside.
    """
    from matplotlib.figure import Figure  # not pyplot, which would show the figure once more

    is_tested = explanation.p_values is not None and explanation.n_samples > 1
    figure = Figure(figsize=(4.4, 3.4), layout="compressed")
    explanation.plot(ax=figure.subplots(), significance=0.05 if is_tested else None)
    settle_layout(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, facecolor="white")
    picture = base64.b64encode(buffer.getvalue()).decode()
    facts = _facts(explanation, is_tested).items()
    rows = "".join(
        f"<tr><th style='text-align:left'>{name}</th><td>{escape(str(value))}</td></tr>"
        for name, value in facts
    )
    return (
        "<div style='display:flex;flex-wrap:wrap;gap:1em;align-items:center'>"
        f"<img alt='{escape(repr(explanation))}' src='data:image/png;base64,{picture}'>"
        f"<table>{rows}</table></div>"
    )


def _facts(explanation, is_tested):
    drops = explanation.window_importances
    largest = int(np.nanargmax(drops))
    if explanation.group_names is not None:
        place = explanation.group_names[largest]
    else:
        place = "(" + ", ".join(f"{k:g}" for k in explanation.window_centers[largest]) + ")"
    hides = "groups"
    if explanation.window_shape is not None:
        hides = " x ".join(map(str, explanation.window_shape)) + " pixels"
    facts = {
        f"{explanation.scoring}, nothing hidden": f"{explanation.baseline_score:.4g}",
        "hidden at a time": f"{hides}, {len(drops)} regions",
        "largest drop": f"{drops[largest]:.4g} at {place}",
    }
    if is_tested:
        _, marks, _ = explanation.bars(0.05)
        is_groups = explanation.group_names is not None
        n_tested = len(marks) if is_groups else np.count_nonzero(explanation.pixel_tests >= 0)
        unit = "groups" if is_groups else "pixels"
        facts["significant at 0.05"] = f"{marks.sum()} of {n_tested} {unit} (false discovery rate)"
    return facts | {"samples": explanation.n_samples, "engine": explanation.engine}


def units_of(scoring):
    """Return what a map's colour scale shows, by the name of the score."""
    return f"{SCORE_NAMES.get(scoring, scoring)} drop"


def _lists_images(image, shape):
    """Say whether `image` is a list with entries that are None or fit a map of `shape`."""
    return isinstance(image, list) and any(one is None or fits(one, shape) for one in image)


def _check_counts(n_maps, **items):
    for name, values in items.items():
        if len(values) != n_maps:
            raise ValueError(f"Got {len(values)} {name}, but expected {n_maps}: one per map.")


def make_axes(n_maps, is_image):
    """Return axes for maps in a new figure, an array of `n_maps` Axes."""
    import matplotlib.pyplot as plt

    n_columns = min(n_maps, MAX_COLUMNS)
    n_rows = ceil(n_maps / n_columns)
    width, height = (2.8, 3.1) if is_image else (4.5, 3.2)
    size = (width * n_columns + 0.9, height * n_rows)
    # "constrained" cuts labels where it cannot stretch the axes.
    layout = "compressed" if is_image else "constrained"
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, layout=layout, squeeze=False)
    for unused in axes.flat[n_maps:]:
        figure.delaxes(unused)
    return axes.ravel()[:n_maps]


def settle_layout(figure):
    """Lay a new figure out, so that drawing it does not cut its labels.

    Ticks depend on the size of the axes, and this on the room that the ticks' labels need: what is
    right for the ticks of a first drawing can be too narrow for those that it draws.
    """
    figure.draw_without_rendering()


def label_outer(axes):
    """Take the axis labels off all axes of :func:`make_axes` but those left and at the bottom."""
    for k, axis in enumerate(axes):
        if k % MAX_COLUMNS:
            axis.set_ylabel("")
        if k + MAX_COLUMNS < len(axes):
            axis.set_xlabel("")


def value_limits(maps):
    """Return the lowest and highest value, 0 included, over all maps, so that they compare."""
    values = np.concatenate([one[np.isfinite(one)] for one in maps])
    return float(values.min(initial=0)), float(values.max(initial=0))


def draw_map(axis, importances, image, mask, *, cmap, limits, kw):
    """Draw a map as colours, over an image where one is given.

    Parameters
    ----------
    axis : matplotlib Axes
    importances : ndarray of shape (H, W)
    image : array-like of shape (H, W), (H * W,) or (H, W, 3), or None
    mask : ndarray of bool of shape (H, W) or None
        Pixels to outline.
    cmap : str or Colormap
    limits : tuple of float
        Lowest and highest value of all maps.
    kw : dict
        Further arguments of ``imshow``.

    Returns
    -------
    drawn : AxesImage
    """
    alpha, limit = None, max(map(abs, limits)) or 1.0
    if image is not None:
        image = _fit_image(image, importances.shape)
        # Twice the range turns black into a grey that leaves the colours on top readable.
        low, high = float(np.min(image)), float(np.max(image))
        axis.imshow(image, cmap="Greys", vmin=low, vmax=low + 2 * (high - low or 1.0))
        alpha = 0.9 * np.sqrt(np.abs(np.nan_to_num(importances)) / limit)
    style = {"cmap": cmap, "vmin": -limit, "vmax": limit, "alpha": alpha} | kw
    drawn = axis.imshow(importances, **style)
    if mask is not None:
        axis.add_collection(_outline(mask))
    axis.set(xlabel="column (pixels)", ylabel="row (pixels)")
    return drawn


def fits(image, shape):
    """Say whether an array-like is an image of pixels of `shape`, flat or with channels last."""
    image_shape = np.shape(image)
    is_flat = image_shape == (np.prod(shape),)
    return is_flat or (image_shape[:2] == shape and len(image_shape) <= 3)


def _fit_image(image, shape):
    image = np.asarray(image)
    if not fits(image, shape):
        raise ValueError(f"Got image of shape {image.shape}, but expected {shape}, as the map.")
    if image.ndim == 3 and image.dtype.kind == "f" and np.max(image) > 1 + 1e-6:
        raise ValueError(
            f"Got an image with colours of up to {np.max(image):g}, but expected numbers in "
            "[0, 1], or integers up to 255."
        )
    return image.reshape(shape) if image.ndim == 1 else image


def _outline(mask):
    """Return lines along the pixel edges between marked and other pixels."""
    from matplotlib.collections import LineCollection

    padded = np.pad(mask.astype(int), 1)
    rows, columns = np.nonzero(np.diff(padded, axis=0)[:, 1:-1])
    level = [[(c - 0.5, r - 0.5), (c + 0.5, r - 0.5)] for r, c in zip(rows, columns, strict=True)]
    rows, columns = np.nonzero(np.diff(padded, axis=1)[1:-1])
    upright = [[(c - 0.5, r - 0.5), (c - 0.5, r + 0.5)] for r, c in zip(rows, columns, strict=True)]
    return LineCollection(level + upright, colors="black", linewidths=1.2, label="significant")


def draw_bars(axis, importances, image, mask, *, labels, units, cmap, limits, kw):
    """Draw a map with one axis as bars.

    Parameters
    ----------
    axis : matplotlib Axes
    importances : ndarray of shape (L,)
    image : None
        Bars have no background.
    mask : ndarray of bool of shape (L,) or None
        Bars to mark with a star.
    labels : sequence of str or None
        Names of the bars.
    units : str
        What the bars measure.
    cmap, limits, kw
        As in :func:`draw_map`; further arguments of ``bar``.

    Returns
    -------
    drawn : BarContainer
    """
    if image is not None:
        raise ValueError("Got an image for a sequence, but expected None: bars have no background.")
    import matplotlib

    positions = np.arange(len(importances))
    colors = matplotlib.colormaps.get_cmap(cmap)(np.where(importances > 0, 0.85, 0.15))
    drawn = axis.bar(positions, importances, **({"color": colors} | kw))
    axis.axhline(0, color="0.3", linewidth=0.8)
    margin = 0.08 * (limits[1] - limits[0]) or 1.0
    axis.set(xlabel="position (features)", ylabel=units)
    axis.set_ylim(limits[0] - margin, limits[1] + margin)
    if mask is not None:
        heights = np.maximum(importances[mask], 0) + margin / 4
        axis.plot(positions[mask], heights, "k*", markersize=4, label="significant")
    if labels is not None and len(labels) <= MAX_LABELS:
        axis.set_xticks(positions, labels, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_xlabel("")
    return drawn
