"""Groups of features hidden together, in place of sliding windows."""

import numpy as np
from scipy import sparse

from skff.saliency._windows import Windows


def group_windows(groups, pixel_features, columns=None):
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
    windows : Windows
        Pixels outside all groups read none and are NaN on maps.
    names : ndarray of str of shape (n_groups,)

    Raises
    ------
    TypeError
        If `groups` is of another type.
    ValueError
        If there is no group, a group is empty or names what does not exist.
    """
    image_shape = pixel_features.shape[:-1]
    members = {
        str(name): _members(str(name), group, image_shape, columns)
        for name, group in _named_groups(groups, image_shape).items()
    }
    if not members:
        raise ValueError(f"Got groups={groups!r}, but expected at least one group.")
    hidden = np.stack(list(members.values())).reshape(len(members), -1)
    grid = np.indices(image_shape).reshape(len(image_shape), -1)
    hidden_array = sparse.csr_array(hidden * 1)
    windows = Windows(
        hidden=hidden_array,
        read=hidden_array,
        centers=np.stack([grid[:, group].mean(axis=1) for group in hidden]),
        pixel_features=pixel_features.reshape(-1, pixel_features.shape[-1]),
        image_shape=image_shape,
    )
    return windows, np.array(list(members))


def _named_groups(groups, image_shape):
    if isinstance(groups, dict):
        return groups
    if isinstance(groups, list | tuple):
        return dict(enumerate(groups))
    if not isinstance(groups, np.ndarray):
        raise TypeError(f"Got groups={groups!r}, but expected an array, dict or list.")
    if groups.shape != image_shape:
        raise ValueError(
            f"Got groups of shape {groups.shape}, but expected {image_shape}: one label per pixel."
        )
    return {label: groups == label for label in np.unique(groups)}


def _members(name, group, image_shape, columns):
    """Return which pixels belong to a group, a boolean array of shape `image_shape`."""
    group = np.atleast_1d(np.asarray(group))
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
