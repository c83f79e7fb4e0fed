"""The data: read and checked once, drawn, and as the windows see it, flat and with a fill."""

import inspect
from dataclasses import dataclass
from functools import partial
from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils import assert_all_finite, gen_batches, get_tags, resample
from sklearn.utils.validation import check_is_fitted

from skff._inputs import refuse_masked
from skff._locks import checks_lock
from skff._memory import is_memory_mapped
from skff.saliency.fills import FILLS, fit_fill

N_PROBES = 128  # rows whose predictions are compared
PART_FEATURES = 4_000_000  # looked at together: 32 MB in double precision, however stored
MANY_PARTS = 16  # as many are better read part by part, wherever they are


def check_fitted(estimator):
    """Raise NotFittedError if a scikit-learn estimator is not fitted."""
    if isinstance(estimator, BaseEstimator) and hasattr(estimator, "fit"):
        check_is_fitted(estimator)


def is_known_classifier(estimator):
    """Say whether the estimator declares itself a classifier."""
    return hasattr(estimator, "__sklearn_tags__") and is_classifier(estimator)


def allows_nan(estimator):
    """Say whether the estimator declares that it takes missing values."""
    return hasattr(estimator, "__sklearn_tags__") and get_tags(estimator).input_tags.allow_nan


@dataclass(frozen=True, eq=False)
class Data:
    """Samples in the user's form and flat, with their targets.

    Parameters
    ----------
    X : array-like of shape (n_samples, *sample_shape) or DataFrame
    values : ndarray of shape (n_samples, n_features)
        The same samples, flat; a view of X wherever memory layout allows.
    sample_shape : tuple of int
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
    weight : ndarray of shape (n_samples,) or None
        Sample weights, the largest of which is 1.
    """

    X: object
    values: np.ndarray
    sample_shape: tuple
    y: np.ndarray
    weight: np.ndarray | None

    @property
    def columns(self):
        """Names of the columns of a DataFrame, or None."""
        return [str(name) for name in self.X.columns] if hasattr(self.X, "iloc") else None

    def take(self, rows):
        """Return some of the samples."""
        values, weight = self.values[rows], self.weight
        is_frame = hasattr(self.X, "iloc")
        return Data(
            self.X.iloc[rows] if is_frame else values.reshape(-1, *self.sample_shape),
            values,
            self.sample_shape,
            self.y[rows],
            None if weight is None else weight[rows] / weight[rows].max(),
        )


def read_data(estimator, X, y, sample_weight):
    """Check data against each other and against the estimator.

    Parameters
    ----------
    estimator : object
        Fitted.
    X, y, sample_weight
        As in :meth:`~skff.ADSExplainer.explain`.

    Returns
    -------
    data : Data

    Raises
    ------
    TypeError, ValueError
        If they do not fit, or X holds values the estimator does not take.
    """
    for name, given in {"X": X, "y": y, "sample_weight": sample_weight}.items():
        refuse_masked(name, given)
    values, sample_shape = _read_array(X)
    expected = getattr(estimator, "n_features_in_", None)
    if len(sample_shape) == 1 and expected is not None and sample_shape[0] != expected:
        raise ValueError(
            f"Got X with {sample_shape[0]} features, but expected {expected}: "
            f"{type(estimator).__name__} was fitted with {expected} features."
        )
    y, weight = _check_targets(y, len(values)), _check_weight(sample_weight, len(values))
    _check_finite("X", values, allow_nan=allows_nan(estimator))
    return Data(X, values, sample_shape, y, weight)


def _read_array(X):
    """Return the samples flat, and their shape.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...) or pandas.DataFrame

    Returns
    -------
    values : ndarray of shape (n_samples, n_features)
        A view of X wherever memory layout allows.
    sample_shape : tuple of int

    Raises
    ------
    TypeError
        If X is sparse.
    ValueError
        If X is empty or has fewer than 2 axes.
    """
    if sparse.issparse(X):
        raise TypeError(
            "Got sparse X, but expected a dense array or DataFrame: hiding features with a fill "
            "other than zero would make it dense. Use X.toarray()."
        )
    is_frame = hasattr(X, "iloc")
    values = X.to_numpy() if is_frame else np.asarray(X)
    if is_frame and values.dtype == object:
        is_numeric = all(getattr(dtype, "kind", "O") in "biuf" for dtype in X.dtypes)
        # Numbers and booleans side by side are numbers, as they are to the estimator.
        values = X.to_numpy(dtype=float if is_numeric else None, na_value=np.nan)
    if values.ndim < 2:
        raise ValueError(
            f"Got X of shape {values.shape}, but expected at least 2 axes: (n_samples, ...)."
        )
    if values.size == 0:
        raise ValueError(f"Got X of shape {values.shape}, but expected at least one value.")
    sample_shape = values.shape[1:]
    return values.reshape(len(values), -1), sample_shape


def _check_targets(y, n_samples):
    """Return `y` as an array with one row per sample."""
    if y is None:
        raise ValueError("Got y=None, but expected the true targets: ADS computes scores.")
    y = np.asarray(y)
    if y.ndim == 0 or len(y) != n_samples:
        got = "a scalar" if y.ndim == 0 else f"an array of {len(y)}"
        raise ValueError(
            f"Got {got} as y, but expected an array of {n_samples}: one target per sample of X."
        )
    return y


def _check_weight(sample_weight, n_samples):
    """Return `sample_weight` as a float64 vector whose largest value is 1, or None."""
    if sample_weight is None:
        return None
    if np.iscomplexobj(sample_weight):
        raise ValueError("Got complex sample_weight, but expected real numbers.")
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_samples,):
        raise ValueError(
            f"Got sample_weight of shape {weight.shape}, but expected ({n_samples},): "
            "one weight per sample of X."
        )
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError("Got sample_weight with negative or non-finite values.")
    if not weight.any():
        raise ValueError("Got sample_weight that is zero everywhere: no sample would count.")
    return weight / weight.max()  # squares and sums of weights as given could leave the range


def _check_finite(name, values, *, allow_nan):
    """Raise ValueError if numbers among `values` are infinite, or missing and that is not allowed.

    Parameters
    ----------
    name : str
        What the message calls the values.
    values : ndarray
        Numbers, or objects of which the numbers are looked at.
    allow_nan : bool
        Whether missing values may pass.
    """
    if values.dtype != object:
        for rows in gen_batches(len(values), _part_rows(values.shape[1])):
            assert_all_finite(values[rows], allow_nan=allow_nan, input_name=name)
        return
    numbers = [value for value in values.ravel() if isinstance(value, float | np.floating)]
    assert_all_finite(np.asarray(numbers), allow_nan=allow_nan, input_name=name)


def draw_samples(estimator, data, *, max_samples, random_state):
    """Leave out samples of weight 0 and draw `max_samples` of the others.

    The draw is without replacement, stratified by class for classifiers; rows keep their order.

    Returns
    -------
    data : Data
        The samples to use, not copied if they are all.
    """
    rows = np.arange(len(data.y)) if data.weight is None else np.flatnonzero(data.weight)
    n_drawn = count_samples(data, max_samples)
    if n_drawn < len(rows):
        is_stratified = is_known_classifier(estimator) and data.y.ndim == 1
        stratify = data.y[rows] if is_stratified else None
        params = {"stratify": stratify, "random_state": random_state}
        with checks_lock:
            rows = np.sort(resample(rows, replace=False, n_samples=n_drawn, **params))
    return data if len(rows) == len(data.y) else data.take(rows)


def count_samples(data, max_samples):
    """Return the number of samples to use, for a count, a share or None."""
    n_samples = len(data.y) if data.weight is None else np.count_nonzero(data.weight)
    if max_samples is None:
        return n_samples
    if not isinstance(max_samples, Integral):
        return max(1, round(max_samples * n_samples))
    if max_samples > n_samples:
        raise ValueError(
            f"Got max_samples={max_samples}, but expected 1 to {n_samples}: "
            f"X has {n_samples} samples."
        )
    return int(max_samples)


@dataclass(frozen=True, eq=False)
class Samples:
    """Flat samples that can be handed to an estimator with some features hidden.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_features)
        Samples as they are stored, in memory or in a file; never written to.
    dtype : dtype
        Of the samples that are handed out: holds both `values` and `fill`.
    fill : FixedFill or WindowFill
        What hidden features are replaced by.
    restore : callable
        Gives flat samples the form of the user's X: its shape, or a DataFrame.
    """

    values: np.ndarray
    dtype: np.dtype
    fill: object
    restore: object

    def __len__(self):
        return len(self.values)

    @property
    def is_table(self):
        """Whether the user's X has 2 axes."""
        return np.ndim(self.restore(self.values[:1])) == 2

    @property
    def is_large(self):
        """Whether the samples are more than one part."""
        return len(self) > self.part_rows

    @property
    def is_very_large(self):
        """Whether the samples are many parts."""
        return len(self) > MANY_PARTS * self.part_rows

    @property
    def is_in_file(self):
        """Whether the samples are a view of a file."""
        return is_memory_mapped(self.values)

    @property
    def part_rows(self):
        """Number of samples of a part, at least 1."""
        return _part_rows(self.values.shape[1])

    def parts(self, rows):
        """Cut the indices `rows` into parts that can be held in memory, as a list."""
        return np.split(rows, range(self.part_rows, len(rows), self.part_rows))

    def take(self, rows):
        """Return a copy of the samples `rows`, an array of indices."""
        return self.values[rows].astype(self.dtype, copy=False)

    @property
    def probe_rows(self):
        """Up to 128 rows, evenly spread."""
        return np.unique(np.linspace(0, len(self) - 1, N_PROBES).astype(int))

    def rows_changed(self, features, fill, rows):
        """Return those of the samples `rows` in which some features differ from their fill.

        `fill` has shape (1, n_hidden) or (n_samples, n_hidden).
        """
        values = self.values[np.ix_(rows, features)].astype(self.dtype, copy=False)
        fill = fill if len(fill) == 1 else fill[rows]
        different = values != fill
        if values.dtype.kind in "fcO":
            different &= ~((values != values) & (fill != fill))  # both missing: nothing changes
        return rows[different.any(axis=1)]

    def hidden(self, rows, features, fill):
        """Return a copy of the samples `rows` with `features` replaced by their fill."""
        flat = self.take(rows)
        hide(flat, features, fill, rows)
        return flat


def _part_rows(n_features):
    return max(1, PART_FEATURES // n_features)


def hide(flat, features, fill, rows=slice(None)):
    """Replace `features` in `flat`, which holds the samples `rows`, by their fill."""
    flat[:, features] = fill if len(fill) == 1 else fill[rows]


def make_samples(estimator, data, *, fill, pixel_features, random_state):
    """Return the data as :class:`Samples` whose hidden features become `fill`.

    Parameters
    ----------
    estimator : object
        Says whether NaN may be filled in.
    data : Data
    fill : float, str, array-like, callable or fill
        As in :class:`~skff.ADSExplainer`.
    pixel_features : ndarray of shape (*image_shape, n_channels)
        Flat indices of the features of each pixel.
    random_state : RandomState
        Of random fills.

    Returns
    -------
    samples : Samples
    """
    allow_nan = allows_nan(estimator)
    fill, dtype = resolve_fill(fill, data, pixel_features, random_state, allow_nan=allow_nan)
    is_fixed = isinstance(fill, FixedFill)
    if is_fixed:
        _check_finite("fill", fill.array, allow_nan=allow_nan)
    else:  # each window is checked in its turn: try one
        fill.values(np.arange(1), 0)
    restore = _make_restore(data.X, data.sample_shape, fill.array if is_fixed else None)
    return Samples(data.values, dtype, fill, restore)


def _make_restore(X, sample_shape, fill):
    """Return the function that gives flat samples the form of X.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...) or pandas.DataFrame
    sample_shape : tuple of int
    fill : ndarray of shape (1, n_features) or (n_samples, n_features), or None
        Columns of integers become floats where their fill is none, or not known.

    Returns
    -------
    restore : callable
    """
    if not hasattr(X, "iloc"):
        return partial(_to_shape, sample_shape=sample_shape)
    columns = [None] * len(X.dtypes) if fill is None else fill.T
    for name, dtype, column in zip(X.columns, X.dtypes, columns, strict=True):
        _check_category(name, dtype, column)
    fits = [_holds(dtype, column) for dtype, column in zip(X.dtypes, columns, strict=True)]
    types = {k: dtype for k, (dtype, fit) in enumerate(zip(X.dtypes, fits, strict=True)) if fit}
    return partial(_to_frame, frame_type=type(X), columns=X.columns, types=types)


def _check_category(name, dtype, values):
    """Raise ValueError if the fill of a categorical column is none of its categories."""
    if values is None or not hasattr(dtype, "categories"):
        return
    unknown = [one for one in values if one == one and one not in dtype.categories]
    if unknown:
        raise ValueError(
            f"Got fill {unknown[0]!r} for the column {name!r}, but expected one of its categories "
            f"{list(dtype.categories)}: give each column a value of its own, or use fill='permute'."
        )


def _holds(dtype, values):
    if dtype.kind not in "biu":
        return True
    return values is not None and all(float(value).is_integer() for value in values)


def _to_frame(flat, *, frame_type, columns, types):
    frame = frame_type(flat, copy=False)
    changed = {k: dtype for k, dtype in types.items() if frame.dtypes[k] != dtype}
    frame = frame.astype(changed) if changed else frame
    frame.columns = columns
    return frame


def _to_shape(flat, *, sample_shape):
    return flat.reshape(len(flat), *sample_shape)


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
    allow_nan : bool
        Whether values may be missing.
    """

    sample: object
    X: np.ndarray
    pixel_features: np.ndarray
    seed: int
    dtype: np.dtype
    is_random: bool
    allow_nan: bool

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
        with np.errstate(over="ignore"):  # infinity is refused
            values = sampled[:, places].astype(self.dtype, copy=False)
        _check_finite("fill", values, allow_nan=self.allow_nan)
        return values


def resolve_fill(fill, data, pixel_features, random_state, *, allow_nan=False):
    """Return what gives the values of hidden features, and a type that holds samples and fill.

    Parameters
    ----------
    fill : number, key of FILLS, array-like of a sample's shape, callable or fill
        A callable of one argument gets X and returns an array that broadcasts to it; one of three
        arguments, or an object with ``sample``, knows the window, see :mod:`skff.saliency.fills`.
    data : Data
    pixel_features : ndarray of shape (*image_shape, n_channels)
        Flat indices of the features of each pixel.
    random_state : RandomState
        Of random fills.
    allow_nan : bool, default=False
        Whether a fill that knows the window may give missing values.

    Returns
    -------
    fill : FixedFill or WindowFill
    dtype : dtype

    Raises
    ------
    ValueError
        If `fill` is an unknown name, does not broadcast, or does not suit the values.
    """
    if isinstance(fill, str):
        if fill not in FILLS:
            raise ValueError(f"Got fill={fill!r}, but expected {_fills_in_words()}.")
        fill = FILLS[fill]
    knows_layout = hasattr(fill, "sample") or hasattr(fill, "fit")
    if knows_layout or (callable(fill) and _n_arguments(fill) >= 3):
        return _resolve_component(fill, data.values, pixel_features, random_state, allow_nan)
    per_sample, n_samples = callable(fill), len(data.values)
    array = np.asarray(fill(data.X) if per_sample else fill)
    array = _broadcast(array, n_samples, data.sample_shape, pixel_features.shape, per_sample)
    array = _in_one_type(array, data.values.dtype)
    return FixedFill(array), array.dtype


def _fills_in_words():
    """Say all that can be a fill."""
    names = ", ".join(map(repr, sorted(FILLS)))
    return (
        f"a number, one of {names}, an array that broadcasts to a sample, an instance such as "
        "fills.Blur(sigma=2), or a function of all samples"
    )


def _n_arguments(function):
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a function of C without a signature
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)


def _resolve_component(fill, values, pixel_features, random_state, allow_nan):
    X = _as_images(values, pixel_features)
    fitted = fit_fill(fill, X)
    sample = fitted.sample if hasattr(fitted, "sample") else fitted
    if getattr(fill, "knows_window", True):
        dtype = values.dtype if values.dtype.kind in "fO" else np.dtype(np.float64)
        is_random = bool(getattr(fill, "is_random", False))
        seed = int(random_state.randint(2**31 - 1))
        return WindowFill(sample, X, pixel_features, seed, dtype, is_random, allow_nan), dtype
    everything = np.ones(pixel_features.shape[:-1], dtype=bool)
    sampled = np.asarray(sample(X, everything, random_state))
    array = np.empty((len(sampled), values.shape[1]), sampled.dtype)
    array[:, pixel_features.ravel()] = sampled.reshape(len(sampled), -1)
    array = _in_one_type(array, values.dtype)
    return FixedFill(array), array.dtype


def _as_images(values, pixel_features):
    """Return samples as (n_samples, *image_shape, n_channels), a view where the layout allows."""
    for axis in (-1, 0):  # where the channels lie in a stored sample
        stored = np.moveaxis(pixel_features, -1, axis)
        if np.array_equal(stored.ravel(), np.arange(values.shape[1])):
            images = values.reshape(-1, *stored.shape)
            images = np.moveaxis(images, 1, -1) if axis == 0 else images
            images.flags.writeable = False
            return images
    return values[:, pixel_features]


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


def _in_one_type(fill, dtype):
    """Cast the fill to the samples' type if no value changes kind, else to one that holds both."""
    if dtype.kind == "O":
        return fill.astype(object)
    if fill.dtype.kind not in "buif":
        raise ValueError(
            f"Got fill of type {fill.dtype}, but expected numbers, as X holds: {_fills_in_words()}."
        )
    with np.errstate(over="ignore", invalid="ignore"):  # infinity is refused later
        cast = fill.astype(dtype)
    if dtype.kind == "f":
        return cast
    if np.array_equal(cast, fill):
        return cast
    return fill.astype(np.result_type(dtype, fill.dtype))
