"""Drawing of ADS maps; matplotlib is imported when something is drawn."""

import numpy as np

from skff.saliency._drawing import draw_bars, draw_map, fits, label_outer, make_axes, value_limits
from skff.saliency._explainer import ADSExplainer


class ADSDisplay:
    """Maps of the drop of score, drawn with one scale for all.

    Colours diverge from 0: red where hiding hurts, blue where it helps.

    Parameters
    ----------
    maps : list of ndarray
        Each of shape (H, W), drawn as an image, or (L,), drawn as bars. NaN stays blank.
    names : list of str or None, default=None
        Titles, one per map.
    units : str, default="score drop"
        What the scale measures.
    significant : list of (ndarray of bool or None), or None, default=None
        For each map the pixels to outline, or the bars to mark with a star.
    labels : sequence of str or None, default=None
        Names of the bars; None numbers them.

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
    >>> display = ADSDisplay([np.eye(3) / 10], units="accuracy drop").plot()
    >>> display.im_.get_clim()
    (-0.1, 0.1)
    """

    def __init__(self, maps, *, names=None, units="score drop", significant=None, labels=None):
        self.maps = maps
        self.names = names
        self.units = units
        self.significant = significant
        self.labels = labels

    @classmethod
    def from_explanation(
        cls,
        explanation,
        *,
        names=None,
        per_class=False,
        significance=None,
        ax=None,
        image=None,
        cmap="RdBu_r",
        colorbar=True,
        im_kw=None,
    ):
        """Draw one explanation, several, or the classes of one, with one scale.

        Parameters
        ----------
        explanation : ADSExplanation, list of them, or dict of name to ADSExplanation
        names : list of str or None, default=None
            Titles; the keys of a dict, or the classes, where None.
        per_class : bool, default=False
            Draw the map of each class of one explanation.
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
            If there is nothing to draw, or maps per class of several explanations or of one that
            has none, or significance per class is asked for.
        """
        if isinstance(explanation, dict):
            names = list(explanation) if names is None else names
            explanation = list(explanation.values())
        several = list(explanation) if isinstance(explanation, list | tuple) else [explanation]
        if not several:
            raise ValueError("Got no explanation, but expected at least one.")
        make = cls._of_classes if per_class else cls._of_explanations
        display = make(several, names, significance)
        return display.plot(ax=ax, image=image, cmap=cmap, colorbar=colorbar, im_kw=im_kw)

    @classmethod
    def _of_explanations(cls, several, names, significance):
        scores = {one.scoring for one in several}
        units = f"{scores.pop() if len(scores) == 1 else 'score'} drop"
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
        estimator,
        X,
        y,
        *,
        sample_weight=None,
        significance=None,
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
        significance : float or None, default=None
            Level at which significant pixels are outlined; None outlines none.
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
            explanation,
            significance=significance,
            ax=ax,
            image=image,
            cmap=cmap,
            colorbar=colorbar,
            im_kw=im_kw,
        )

    def plot(self, *, ax=None, image=None, cmap="RdBu_r", colorbar=True, im_kw=None):
        """Draw the maps.

        Parameters
        ----------
        ax : matplotlib Axes, list of them, or None, default=None
            One per map; None makes a new figure.
        image : array-like of shape (H, W) or (H, W, 3), list of them, or None, default=None
            Drawn under each map, which then is opaque only where it is strong. A list of images
            (or None) has one per map; a nested list of numbers is one image.
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
        axes = make_axes(n_maps, is_image) if ax is None else np.ravel(ax)
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
        if n_maps == 1:
            self.ax_, self.im_ = self.ax_[0], self.im_[0]
        return self


def _lists_images(image, shape):
    """Say whether `image` is a list with entries that are None or fit a map of `shape`."""
    return isinstance(image, list) and any(one is None or fits(one, shape) for one in image)


def _check_counts(n_maps, **items):
    for name, values in items.items():
        if len(values) != n_maps:
            raise ValueError(f"Got {len(values)} {name}, but expected {n_maps}: one per map.")
