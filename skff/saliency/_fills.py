"""What hidden features are replaced by: ``(X, values) -> fill`` by name, or the user's own."""

import numpy as np

from skff.saliency._checks import check_choice


def mean(X, values):
    """Return the mean of each feature over the samples, missing values left out.

    Parameters
    ----------
    X : array-like or DataFrame
        Samples in the user's form.
    values : ndarray of shape (n_samples, n_features)
        The same samples, flat.

    Returns
    -------
    fill : ndarray of shape (n_features,)

    Raises
    ------
    ValueError
        If features are not numbers.
    """
    if values.dtype.kind not in "buif":
        raise ValueError(
            f"Got fill='mean' with features of type {values.dtype}, but expected numbers."
        )
    missing = values.dtype.kind == "f" and np.isnan(values).any()
    return (np.nanmean if missing else np.mean)(values, axis=0, dtype=np.float64)


FILLS = {"mean": mean}


def resolve_fill(fill, X, values, sample_shape, pixel_shape):
    """Return the fill of every feature and the samples, in a type that holds both.

    Parameters
    ----------
    fill : number, key of FILLS, array-like of a sample's shape, or callable
        A callable gets X and returns an array that broadcasts to it.
    X : array-like or DataFrame
        Samples in the user's form.
    values : ndarray of shape (n_samples, n_features)
        The same samples, flat.
    sample_shape : tuple of int
        Shape of one sample of X.
    pixel_shape : tuple of int
        Shape of the image, with channels last where there are several.

    Returns
    -------
    fill : ndarray of shape (1, n_features) or (n_samples, n_features)
    values : ndarray of shape (n_samples, n_features)
        Copied only if its type cannot hold `fill`.

    Raises
    ------
    ValueError
        If `fill` is an unknown name or does not broadcast.
    """
    per_sample = callable(fill)
    if per_sample:
        fill = fill(X)
    elif isinstance(fill, str):
        check_choice("fill", fill, FILLS)
        fill = FILLS[fill](X, values).reshape(sample_shape)
    fill = _broadcast(np.asarray(fill), len(values), sample_shape, pixel_shape, per_sample)
    return _in_one_type(fill, values)


def _broadcast(fill, n_samples, sample_shape, pixel_shape, per_sample):
    n_features = int(np.prod(sample_shape))
    if len(sample_shape) == 1 and fill.ndim > 1 and fill.shape in (pixel_shape, pixel_shape[:-1]):
        fill = fill.reshape(-1)
    is_shared = fill.ndim <= len(sample_shape) or not per_sample
    target = sample_shape if is_shared else (n_samples, *sample_shape)
    try:
        return np.broadcast_to(fill, target).reshape(-1, n_features)
    except ValueError:
        raise ValueError(
            f"Got fill of shape {fill.shape}, but expected one that broadcasts to {target}: "
            f"samples have shape {sample_shape}."
        ) from None


def _in_one_type(fill, values):
    """Cast the fill to the samples' type if no value changes kind, else the samples to a wider."""
    if values.dtype == object:
        return fill.astype(object), values
    if fill.dtype.kind not in "buif":
        raise ValueError(f"Got fill of type {fill.dtype}, but expected numbers like those in X.")
    if values.dtype.kind == "f":
        return fill.astype(values.dtype), values
    with np.errstate(invalid="ignore"):
        cast = fill.astype(values.dtype)
    if np.array_equal(cast, fill):
        return cast, values
    wider = np.result_type(values.dtype, fill.dtype)
    return fill.astype(wider), values.astype(wider)
