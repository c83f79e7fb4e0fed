"""Regions, windows or groups of pixels: what each hides, and which of them each pixel reads."""

from dataclasses import dataclass, replace
from functools import reduce
from math import isqrt, prod

import numpy as np
from scipy import sparse

from skff._warnings import warn
from skff.saliency._parameters import COUNT, check_lengths, check_parameters

SMALLEST_SQUARE = 64  # features; below, a row of a table is more likely than an image
MOST_COLOURS = 4
FEWEST_PIXELS = 8  # along a side of an image


@dataclass(frozen=True, eq=False)
class Regions:
    """Regions of a map of pixels, and how their values become a map.

    Parameters
    ----------
    hidden : sparse array of shape (n_windows, n_pixels)
        One where a window hides a pixel.
    read : sparse array of shape (n_windows, n_pixels)
        One where a pixel's value is taken from a window; a pixel that reads several windows takes
        their mean.
    centers : ndarray of shape (n_windows, n_axes)
        Centre of each window, in pixels.
    pixel_features : ndarray of shape (n_pixels, n_channels)
        Flat indices of the features a pixel consists of.
    image_shape : tuple of int
        Shape of the map.
    names : ndarray of str of shape (n_windows,) or None
        Names of groups; None for windows.
    columns : ndarray of str of shape (n_pixels,) or None
        Names of the pixels of a map with one axis.
    window_shape, stride : tuple of int or None
        One per axis of the map; None for groups.
    aggregate : str
        Rule that gives pixels their value.
    """

    hidden: sparse.csr_array
    read: sparse.csr_array
    centers: np.ndarray
    pixel_features: np.ndarray
    image_shape: tuple
    names: np.ndarray | None = None
    columns: np.ndarray | None = None
    window_shape: tuple | None = None
    stride: tuple | None = None
    aggregate: str = "groups"

    @property
    def n_channels(self):
        """Number of features of a pixel."""
        return self.pixel_features.shape[1]

    @property
    def masks(self):
        """The pixels of each region, a boolean array of shape (n_windows, *image_shape)."""
        return self.hidden.toarray().astype(bool).reshape(-1, *self.image_shape)

    @property
    def labels(self):
        """Names of groups, columns of windows of one column, or centres of windows."""
        if self.names is not None:
            return self.names
        if self.columns is not None and self.window_shape == (1,):
            return self.columns[self.centers[:, 0].astype(int)]
        centers = [", ".join(f"{k:g}" for k in center) for center in self.centers]
        return np.array([f"({center})" for center in centers])

    def features(self, channel=None):
        """Return, for each region, the flat indices of the features it hides.

        Of all channels, or of one.
        """
        channels = slice(None) if channel is None else [channel]
        pixels = np.split(self.hidden.indices, self.hidden.indptr[1:-1])
        return [self.pixel_features[region][:, channels].ravel() for region in pixels]

    def unions(self, chosen):
        """Return unions of these regions.

        Parameters
        ----------
        chosen : ndarray of bool of shape (n_unions, n_windows)
            The regions to hide together, at least one each.

        Returns
        -------
        unions : Regions
            Without names.
        """
        hidden = sparse.csr_array(chosen.astype(int)) @ self.hidden  # how often, per pixel
        hidden = (hidden > 0).astype(int)
        hidden.sort_indices()
        grid = np.indices(self.image_shape).reshape(len(self.image_shape), -1)
        return Regions(
            hidden=hidden,
            read=hidden,
            centers=(hidden @ grid.T) / hidden.sum(axis=1)[:, None],
            pixel_features=self.pixel_features,
            image_shape=self.image_shape,
        )

    def to_map(self, values):
        """Turn values of shape (..., n_windows) into maps of shape (..., *image_shape).

        Pixels that read no window become NaN.
        """
        counts, sums = self.n_read.ravel(), values @ self.read
        means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
        return means.reshape(*means.shape[:-1], *self.image_shape)

    @property
    def n_read(self):
        """Number of windows each pixel reads, of shape `image_shape`."""
        return self.read.sum(axis=0).reshape(self.image_shape)

    @property
    def tests(self):
        """Which hypothesis each pixel is a test of, counted from 0, of shape `image_shape`.

        Pixels that read the same windows are one test. Those that read none have -1.
        """
        read, numbers = sparse.csc_array(self.read), {}
        read.sort_indices()
        windows = np.split(read.indices, read.indptr[1:-1])  # of each pixel
        tests = [
            numbers.setdefault(some.tobytes(), len(numbers)) if len(some) else -1
            for some in windows
        ]
        return np.reshape(tests, self.image_shape)

    def restrict(self, mask):
        """Let only the pixels of a boolean mask read, and keep only the regions that they read.

        Raises
        ------
        TypeError, ValueError
            If `mask` is no boolean array of the shape of the map that marks a pixel of a region.
        """
        _check_mask(mask, self.image_shape)
        kept = np.flatnonzero(self.read @ mask.ravel())
        if len(kept) == 0:
            raise ValueError(
                "Got a mask that spares every group, but expected at least one pixel of a group."
            )
        read = sparse.csr_array(self.read[kept].multiply(mask.ravel()))
        read.eliminate_zeros()
        return replace(
            self,
            hidden=self.hidden[kept],
            read=read,
            centers=self.centers[kept],
            names=None if self.names is None else self.names[kept],
        )


def _check_mask(mask, image_shape):
    if mask.dtype != bool:
        raise TypeError(
            f"Got a mask of shape {mask.shape} and type {mask.dtype}, but expected a boolean array "
            "or None."
        )
    if mask.shape != image_shape:
        raise ValueError(f"Got mask of shape {mask.shape}, but expected {image_shape}, as the map.")
    if not mask.any():
        raise ValueError("Got mask without a pixel, but expected at least one to explain.")


def lay_out_pixels(sample_shape, image_shape):
    """Return the flat indices of each pixel's features.

    Parameters
    ----------
    sample_shape : tuple of int
        Shape of one sample of X.
    image_shape : tuple of int or None
        As in :class:`~skff.ADSExplainer`.

    Returns
    -------
    pixel_features : ndarray of shape (*image_shape, n_channels)

    Raises
    ------
    ValueError
        If the image does not match the samples.
    """
    if image_shape is not None:
        image_shape = _check_image_shape(image_shape)
    flat = np.arange(prod(sample_shape))
    _warn_of_channels(sample_shape, image_shape)
    if len(sample_shape) == 1:
        return _lay_out_flat(flat, image_shape)
    if len(sample_shape) == 2 and image_shape in (None, sample_shape):
        return flat.reshape(*sample_shape, 1)
    if len(sample_shape) == 3 and image_shape in (None, sample_shape[1:]):
        return np.moveaxis(flat.reshape(sample_shape), 0, -1)
    if len(sample_shape) == 3 and image_shape == sample_shape:  # channels last
        return flat.reshape(sample_shape)
    raise ValueError(
        f"Got image_shape={image_shape} and samples of shape {sample_shape}, but expected samples "
        "of shape (n_features,), (H, W) or (C, H, W), the image being their trailing axes, or "
        "(H, W, C) equal to image_shape."
    )


def _warn_of_channels(sample_shape, image_shape):
    """Warn where channels seem to be at the other end: few rows or columns with many of them."""
    if image_shape is None and len(sample_shape) == 3:  # (C, H, W)
        n_channels, _, n_few = sample_shape
        remedy = f"if channels come last, set image_shape={sample_shape}"
    elif image_shape is not None and len(image_shape) == 3:  # (H, W, C)
        n_few, height, n_channels = image_shape
        remedy = (
            f"channels come last; if they come first in X, reshape it to (n_samples, {n_few}, "
            f"{height}, {n_channels}) and leave image_shape unset"
        )
    else:
        return
    if n_few <= MOST_COLOURS and n_channels >= FEWEST_PIXELS:
        warn(f"Took X for images with {n_channels} channels: {remedy}.", UserWarning)


def _check_image_shape(image_shape):
    if not 1 <= len(image_shape) <= 3:
        raise ValueError(
            f"Got image_shape={image_shape!r}, but expected (H, W), (H, W, C), (L,) or None."
        )
    for length in image_shape:
        check_parameters({"image_shape": [COUNT]}, {"image_shape": length})
    return tuple(int(length) for length in image_shape)


def hint_at_images(n_features):
    """Warn where rows of numbers may be images, of three channels for example.

    Parameters
    ----------
    n_features : int
        Of a sample that was taken for a sequence.
    """
    side = isqrt(n_features // 3)
    if 3 * side * side == n_features and side * side >= SMALLEST_SQUARE:
        warn(
            f"Took {n_features} features for a sequence. If they are images, set image_shape to "
            f"(rows, columns) or (rows, columns, channels), such as ({side}, {side}, 3); if they "
            f"are not, set image_shape=({n_features},).",
            UserWarning,
        )


def _lay_out_flat(flat, image_shape):
    if image_shape is None:
        side = isqrt(flat.size)
        is_square = side * side == flat.size and flat.size >= SMALLEST_SQUARE
        image_shape = (side, side) if is_square else (flat.size,)
    if prod(image_shape) != flat.size:
        raise ValueError(
            f"Got image_shape={image_shape}, which has {prod(image_shape)} values, "
            f"but expected {flat.size}: X has {flat.size} features."
        )
    return flat.reshape(image_shape if len(image_shape) == 3 else (*image_shape, 1))


def sliding_windows(pixel_features, *, window_shape, stride, aggregate):
    """Lay windows over a map.

    Parameters
    ----------
    pixel_features : ndarray of shape (*image_shape, n_channels)
        Flat indices of the features of each pixel, from :func:`lay_out_pixels`.
    window_shape, stride : int or tuple of int
        As in :class:`~skff.ADSExplainer`.
    aggregate : key of AGGREGATES
        Rule that places windows along an axis and gives pixels their value.

    Returns
    -------
    regions : Regions

    Raises
    ------
    ValueError
        If the windows do not fit the image.
    """
    image_shape = pixel_features.shape[:-1]
    window_shape = check_lengths("window_shape", window_shape, len(image_shape))
    stride = check_lengths("stride", stride, len(image_shape))
    _check_windows_fit(image_shape, window_shape, stride)
    axes = list(map(AGGREGATES[aggregate], image_shape, window_shape, stride))
    centers, hidden, read = zip(*axes, strict=True)
    grid = np.meshgrid(*centers, indexing="ij")
    return Regions(
        hidden=reduce(_outer, hidden),
        read=reduce(_outer, read),
        centers=np.stack([axis.ravel() for axis in grid], axis=1),
        pixel_features=pixel_features.reshape(-1, pixel_features.shape[-1]),
        image_shape=image_shape,
        window_shape=window_shape,
        stride=stride,
        aggregate=aggregate,
    )


def _check_windows_fit(image_shape, window_shape, stride):
    if any(window > side for window, side in zip(window_shape, image_shape, strict=True)):
        raise ValueError(
            f"Got window_shape={window_shape}, but expected at most image_shape={image_shape}: "
            "a window must fit into the image."
        )
    if any(step > window for step, window in zip(stride, window_shape, strict=True)):
        raise ValueError(
            f"Got stride={stride}, but expected at most window_shape={window_shape}: "
            "pixels would be skipped."
        )


def _outer(first, second):
    """Combine rows and columns: which pixels of the grid belong to which pair of spans."""
    pairs = sparse.kron(first, second, format="csr")
    pairs.eliminate_zeros()
    pairs.sort_indices()
    return pairs


def center_axis(length, window, stride):
    """Place odd windows around every `stride`-th pixel, clipped at the border.

    A last centre is added at the border where pixels would stay uncovered. Each pixel reads the
    window of its nearest centre, of two equally near ones the earlier.
    """
    if window % 2 == 0:
        raise ValueError(
            f"Got window_shape={window}, but expected an odd number with aggregate='center': "
            f"an even window has no centre pixel. Use {window + 1}, or aggregate='coverage'."
        )
    reach = window // 2
    centers = np.arange(0, length, stride)
    if centers[-1] + reach < length - 1:
        centers = np.append(centers, length - 1)
    distance = np.abs(centers[:, None] - np.arange(length))  # (n_windows, length)
    nearest = np.arange(len(centers))[:, None] == distance.argmin(axis=0)
    return centers, sparse.csr_array((distance <= reach) * 1), sparse.csr_array(nearest * 1)


def coverage_axis(length, window, stride):
    """Place windows from the first pixel on; the last is cut where it would leave the image.

    Each pixel reads all windows that cover it.
    """
    starts = np.arange(0, length - window + stride, stride)
    stops = np.minimum(starts + window, length)
    pixels = np.arange(length)
    covered = (starts[:, None] <= pixels) & (pixels < stops[:, None])  # (n_windows, length)
    covered = sparse.csr_array(covered * 1)
    return (starts + stops - 1) / 2, covered, covered


AGGREGATES = {"center": center_axis, "coverage": coverage_axis}


def group_regions(groups, pixel_features, columns=None):
    """Make one window of each group.

    Parameters
    ----------
    groups : ndarray of the shape of the map, dict or list
        An array labels every pixel with its group. A dict of name to members, or a list of
        members, gives each group as flat indices of pixels, column names, or a boolean array of
        the shape of the map; groups may overlap and leave pixels out.
    pixel_features : ndarray of shape (*image_shape, n_channels)
        Flat indices of the features of each pixel.
    columns : sequence of str or None, default=None
        Names of the pixels of a map with one axis.

    Returns
    -------
    regions : Regions
        Pixels outside all groups read none and are NaN on maps.

    Raises
    ------
    ValueError
        If there is no group, a group is empty or names what does not exist.
    """
    image_shape = pixel_features.shape[:-1]
    named = _named_groups(groups, image_shape)
    if not named:
        raise ValueError(f"Got groups={groups!r}, but expected at least one group.")
    names = [str(name) for name in named]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"Got two groups whose names read {twice!r}, but expected names that differ as strings."
        )
    hidden = np.stack(
        [_members(str(name), group, image_shape, columns) for name, group in named.items()]
    ).reshape(len(names), -1)
    grid = np.indices(image_shape).reshape(len(image_shape), -1)
    hidden_array = sparse.csr_array(hidden * 1)
    return Regions(
        hidden=hidden_array,
        read=hidden_array,
        centers=np.stack([grid[:, group].mean(axis=1) for group in hidden]),
        pixel_features=pixel_features.reshape(-1, pixel_features.shape[-1]),
        image_shape=image_shape,
        names=np.array(names),
    )


def _named_groups(groups, image_shape):
    if isinstance(groups, dict):
        return groups
    if isinstance(groups, list | tuple):
        return dict(enumerate(groups))
    if groups.shape != image_shape:
        raise ValueError(
            f"Got groups of shape {groups.shape}, but expected {image_shape}: one label per pixel."
        )
    if (groups != groups).any():
        raise ValueError(
            "Got groups with NaN, but expected one label per pixel: leave pixels out with a mask "
            "or a dict of groups."
        )
    return {label: groups == label for label in np.unique(groups)}


def _members(name, group, image_shape, columns):
    """Return which pixels belong to a group, a boolean array of shape `image_shape`."""
    group = np.atleast_1d(np.asarray(group))
    if group.ndim > 1 and group.shape != image_shape:
        raise ValueError(
            f"Got group {name!r} of shape {group.shape}, but expected flat indices of pixels, "
            f"row * {image_shape[-1]} + column, or a boolean array of shape {image_shape}."
        )
    if group.dtype == bool and group.shape == image_shape:
        is_member = group
    else:
        is_member = np.zeros(image_shape, dtype=bool)
        is_member.ravel()[[_index(name, one, is_member.size, columns) for one in group]] = True
    if not is_member.any():
        raise ValueError(f"Got group {name!r} without members, but expected at least one.")
    return is_member


def _index(name, member, n_pixels, columns):
    if isinstance(member, str) and columns is not None and member in columns:
        return columns.index(member)
    if isinstance(member, np.integer) and 0 <= member < n_pixels:
        return member
    expected = f"an index from 0 to {n_pixels - 1}" + (f" or one of {columns}" if columns else "")
    member = getattr(member, "item", lambda: member)()  # a plain number or string reads better
    raise ValueError(f"Got member {member!r} of group {name!r}, but expected {expected}.")
