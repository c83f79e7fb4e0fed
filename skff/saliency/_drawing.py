"""How one map is drawn: as colours on pixels, or as bars."""

from math import ceil

import numpy as np

MAX_COLUMNS = 5  # of maps side by side
MAX_LABELS = 40  # bars that get a name each


def make_axes(n_maps, is_image):
    """Return axes for maps in a new figure, an array of `n_maps` Axes."""
    import matplotlib.pyplot as plt

    n_columns = min(n_maps, MAX_COLUMNS)
    n_rows = ceil(n_maps / n_columns)
    width, height = (2.8, 3.1) if is_image else (4.5, 3.2)
    size = (width * n_columns + 0.9, height * n_rows)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=size, layout="constrained", squeeze=False
    )
    for unused in axes.flat[n_maps:]:
        figure.delaxes(unused)
    return axes.ravel()[:n_maps]


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
        low, span = np.min(image), np.ptp(image) or 1.0
        axis.imshow(image, cmap="Greys", vmin=low, vmax=low + 2 * span)
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
