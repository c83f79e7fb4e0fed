"""From the parameter `fill` to the values of hidden features, region by region."""

import inspect
from dataclasses import dataclass

import numpy as np

from skff.saliency._checks import check_choice
from skff.saliency.fills import FILLS, fit_fill


@dataclass(frozen=True, eq=False)
class FixedFill:
    """Values that do not depend on what else is hidden.

    Parameters
    ----------
    array : ndarray of shape (1, n_features) or (n_samples, n_features)
    """

    array: np.ndarray
    is_random = False

    def values(self, features, draw):
        """Return what hidden features become, (1, n_hidden) or (n_samples, n_hidden)."""
        return self.array[:, features]


@dataclass(frozen=True, eq=False)
class WindowFill:
    """Values that depend on which pixels are hidden together.

    Parameters
    ----------
    sample : callable
        ``sample(X, pixels, random_state)``, see :mod:`skff.saliency.fills`.
    X : ndarray of shape (n_samples, *image_shape, n_channels)
        All samples.
    pixel_features : ndarray of shape (*image_shape, n_channels)
        Flat indices of the features of each pixel.
    seed : int
        Of the draws.
    dtype : dtype
        Of the flat samples.
    is_random : bool
        Whether draws differ.
    """

    sample: object
    X: np.ndarray
    pixel_features: np.ndarray
    seed: int
    dtype: np.dtype
    is_random: bool

    def values(self, features, draw):
        """Return what hidden features become, (1, n_hidden) or (n_samples, n_hidden).

        `draw` numbers the draw: the same number gives the same values, in any process.
        """
        is_hidden = np.isin(self.pixel_features, features)
        pixels = is_hidden.any(axis=-1)
        stream = np.random.MT19937(np.random.SeedSequence([self.seed, draw]))
        sampled = np.asarray(self.sample(self.X, pixels, np.random.RandomState(stream)))
        hidden_features = self.pixel_features[pixels]  # (n_hidden, n_channels)
        shape = (len(self.X), *hidden_features.shape)
        try:
            sampled = np.broadcast_to(sampled, shape if sampled.ndim == 3 else shape[1:])
        except ValueError:
            raise ValueError(
                f"Got values of shape {sampled.shape} from fill, but expected one that broadcasts "
                f"to {shape}: samples, hidden pixels, channels."
            ) from None
        sampled = sampled.reshape(-1, hidden_features.size)
        order = np.argsort(hidden_features, axis=None)
        places = order[np.searchsorted(hidden_features.ravel(), features, sorter=order)]
        return sampled[:, places].astype(self.dtype, copy=False)


def resolve_fill(fill, X, values, sample_shape, pixel_features, random_state):
    """Return what gives the values of hidden features, and the samples in a type that holds them.

    Parameters
    ----------
    fill : number, key of FILLS, array-like of a sample's shape, callable or fill
        A callable of one argument gets X and returns an array that broadcasts to it; one of three
        arguments, or an object with ``sample``, knows the window, see :mod:`skff.saliency.fills`.
    X : array-like or DataFrame
        Samples in the user's form.
    values : ndarray of shape (n_samples, n_features)
        The same samples, flat.
    sample_shape : tuple of int
        Shape of one sample of X.
    pixel_features : ndarray of shape (*image_shape, n_channels)
        Flat indices of the features of each pixel.
    random_state : RandomState
        Of random fills.

    Returns
    -------
    fill : FixedFill or WindowFill
    values : ndarray of shape (n_samples, n_features)
        Copied only if its type cannot hold the fill.

    Raises
    ------
    ValueError
        If `fill` is an unknown name, does not broadcast, or does not suit the values.
    """
    if isinstance(fill, str):
        check_choice("fill", fill, FILLS)
        fill = FILLS[fill]
    knows_layout = hasattr(fill, "sample") or hasattr(fill, "fit")
    if knows_layout or (callable(fill) and _n_arguments(fill) >= 3):
        return _resolve_component(fill, values, pixel_features, random_state)
    per_sample = callable(fill)
    array = np.asarray(fill(X) if per_sample else fill)
    array = _broadcast(array, len(values), sample_shape, pixel_features.shape, per_sample)
    array, values = _in_one_type(array, values)
    return FixedFill(array), values


def _n_arguments(function):
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a function of C without a signature
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)


def _resolve_component(fill, values, pixel_features, random_state):
    X = values[:, pixel_features]  # (n_samples, *image_shape, n_channels)
    fitted = fit_fill(fill, X)
    sample = fitted.sample if hasattr(fitted, "sample") else fitted
    if getattr(fill, "knows_window", True):
        dtype = values.dtype if values.dtype.kind in "fO" else np.dtype(np.float64)
        is_random = bool(getattr(fill, "is_random", False))
        seed = int(random_state.randint(2**31 - 1))
        resolved = WindowFill(sample, X, pixel_features, seed, dtype, is_random)
        return resolved, values.astype(dtype, copy=False)
    everything = np.ones(pixel_features.shape[:-1], dtype=bool)
    sampled = np.asarray(sample(X, everything, random_state))
    array = np.empty((len(sampled), values.shape[1]), sampled.dtype)
    array[:, pixel_features.ravel()] = sampled.reshape(len(sampled), -1)
    array, values = _in_one_type(array, values)
    return FixedFill(array), values


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
