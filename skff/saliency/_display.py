"""Drawing of ADS maps; matplotlib is imported when something is drawn."""

from math import ceil

import numpy as np

from skff.saliency._explainer import ADSExplainer

MAX_COLUMNS = 4  # of maps side by side


class ADSDisplay:
    """Maps of the loss of score, drawn with one scale for all.

    Colours diverge from 0: red where hiding hurts, blue where it helps.

    Parameters
    ----------
    maps : list of ndarray
        Each of shape (H, W), drawn as an image, or (L,), drawn as bars.
    names : list of str or None, default=None
        Titles, one per map.
    units : str, default="loss of score"
        What the scale measures.

    Attributes
    ----------
    im_ : AxesImage or BarContainer, or list of them
        What was drawn: one, or one per map where there are several.
    ax_ : matplotlib Axes, or list of them
    figure_ : matplotlib Figure

    See Also
    --------
    ADSExplainer : Makes the explanations that are drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from skff.saliency import ADSDisplay
    >>> display = ADSDisplay([np.eye(3) / 10], units="loss of accuracy").plot()
    >>> display.im_.get_clim()
    (-0.1, 0.1)
    """

    def __init__(self, maps, *, names=None, units="loss of score"):
        self.maps = maps
        self.names = names
        self.units = units

    @classmethod
    def from_explanation(
        cls,
        explanation,
        *,
        names=None,
        ax=None,
        image=None,
        cmap="RdBu_r",
        colorbar=True,
        im_kw=None,
    ):
        """Draw one explanation, or several with one scale.

        Parameters
        ----------
        explanation : ADSExplanation, list of them, or dict of name to ADSExplanation
        names : list of str or None, default=None
            Titles; the keys of a dict where None.
        ax, image, cmap, colorbar, im_kw
            As in :meth:`plot`.

        Returns
        -------
        display : ADSDisplay
        """
        if isinstance(explanation, dict):
            names = list(explanation) if names is None else names
            explanation = explanation.values()
        several = explanation if hasattr(explanation, "__iter__") else [explanation]
        several = list(several)
        scores = {one.scoring for one in several}
        units = f"loss of {scores.pop() if len(scores) == 1 else 'score'}"
        display = cls([one.importances for one in several], names=names, units=units)
        return display.plot(ax=ax, image=image, cmap=cmap, colorbar=colorbar, im_kw=im_kw)

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y,
        *,
        sample_weight=None,
        ax=None,
        image=None,
        cmap="RdBu_r",
        colorbar=True,
        im_kw=None,
        **explainer_params,
    ):
        """Explain a fitted estimator and draw the map.

        Parameters
        ----------
        estimator, X, y, sample_weight
            As in :class:`ADSExplainer` and its ``explain``.
        ax, image, cmap, colorbar, im_kw
            As in :meth:`plot`.
        **explainer_params
            Further parameters of :class:`ADSExplainer`.

        Returns
        -------
        display : ADSDisplay
        """
        explanation = ADSExplainer(estimator, **explainer_params).explain(X, y, sample_weight)
        return cls.from_explanation(
            explanation, ax=ax, image=image, cmap=cmap, colorbar=colorbar, im_kw=im_kw
        )

    def plot(self, *, ax=None, image=None, cmap="RdBu_r", colorbar=True, im_kw=None):
        """Draw the maps.

        Parameters
        ----------
        ax : matplotlib Axes, list of them, or None, default=None
            One per map; None makes a new figure.
        image : array-like of shape (H, W) or (H, W, 3), list of them, or None, default=None
            Drawn under each map, which then is opaque only where it is strong. A list has one
            image per map.
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
        ValueError
            If there are not as many axes, names or images as maps, or an image does not fit.
        """
        maps = [np.asarray(one) for one in self.maps]
        axes = _make_axes(len(maps), maps[0].ndim) if ax is None else np.ravel(ax)
        names = self.names or [None] * len(maps)
        images = image if isinstance(image, list) else [image] * len(maps)
        for name, items in [("axes", axes), ("names", names), ("images", images)]:
            if len(items) != len(maps):
                raise ValueError(f"Got {len(items)} {name}, but expected {len(maps)}: one per map.")
        style = {"cmap": cmap, "limits": _limits(maps), "units": self.units, "kw": im_kw or {}}
        drawn = []
        for one, axis, name, under in zip(maps, axes, names, images, strict=True):
            drawn.append((_draw_bars if one.ndim == 1 else _draw_map)(axis, one, under, **style))
            axis.set_title(name or "")
        figure = axes[0].figure
        if colorbar and maps[0].ndim == 2:
            figure.colorbar(drawn[0], ax=list(axes), label=self.units)
        is_one = len(maps) == 1
        self.figure_ = figure
        self.ax_, self.im_ = (axes[0], drawn[0]) if is_one else (list(axes), drawn)
        return self


def _make_axes(n_maps, n_axes):
    import matplotlib.pyplot as plt

    n_columns = min(n_maps, MAX_COLUMNS)
    n_rows = ceil(n_maps / n_columns)
    width, height = (3.0, 2.8) if n_axes == 2 else (4.5, 3.0)
    size = (width * n_columns + 0.9, height * n_rows)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=size, layout="constrained", squeeze=False
    )
    for unused in axes.flat[n_maps:]:
        figure.delaxes(unused)
    return axes.ravel()[:n_maps]


def _limits(maps):
    """Return the lowest and highest value, 0 included, over all maps, so that they compare."""
    values = np.concatenate([one[np.isfinite(one)] for one in maps])
    return float(values.min(initial=0)), float(values.max(initial=0))


def _draw_map(axis, importances, image, *, cmap, limits, units, kw):
    alpha, limit = None, max(map(abs, limits)) or 1.0
    if image is not None:
        image = _fit_image(image, importances.shape)
        # Twice the range turns black into a grey that leaves the colours on top readable.
        axis.imshow(
            image, cmap="Greys", vmin=np.min(image), vmax=np.min(image) + (2 * np.ptp(image) or 1.0)
        )
        alpha = 0.9 * np.sqrt(np.abs(np.nan_to_num(importances)) / limit)
    style = {"cmap": cmap, "vmin": -limit, "vmax": limit, "alpha": alpha} | kw
    drawn = axis.imshow(importances, **style)
    axis.set(xlabel="column (pixels)", ylabel="row (pixels)")
    return drawn


def _fit_image(image, shape):
    image = np.asarray(image)
    image = image.reshape(shape) if image.shape == (np.prod(shape),) else image
    if image.shape[:2] != shape or image.ndim > 3:
        raise ValueError(f"Got image of shape {image.shape}, but expected {shape}, as the map.")
    return image


def _draw_bars(axis, importances, image, *, cmap, limits, units, kw):
    if image is not None:
        raise ValueError("Got an image for a sequence, but expected None: bars have no background.")
    import matplotlib

    colors = matplotlib.colormaps.get_cmap(cmap)(np.where(importances > 0, 0.85, 0.15))
    drawn = axis.bar(np.arange(len(importances)), importances, **({"color": colors} | kw))
    axis.axhline(0, color="0.3", linewidth=0.8)
    margin = 0.05 * (limits[1] - limits[0]) or 1.0
    axis.set(xlabel="position (features)", ylabel=units)
    axis.set_ylim(limits[0] - margin, limits[1] + margin)
    return drawn
