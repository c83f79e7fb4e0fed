"""The data as the windows see it: flat samples, the values that hide features, and the way back."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import sparse
from sklearn.utils import assert_all_finite

N_PROBES = 128  # rows whose predictions are compared


@dataclass(frozen=True, eq=False)
class Samples:
    """Flat samples that can be handed to an estimator with some features hidden.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_features)
        Samples; never written to.
    fill : FixedFill or WindowFill
        What hidden features are replaced by, in the type of `values`.
    restore : callable
        Gives flat samples the form of the user's X: its shape, or a DataFrame.
    """

    values: np.ndarray
    fill: object
    restore: object

    def __len__(self):
        return len(self.values)

    @property
    def is_table(self):
        """Whether the user's X has 2 axes."""
        return np.ndim(self.restore(self.values[:1])) == 2

    def some_rows(self):
        """Return up to 128 rows, evenly spread."""
        return np.unique(np.linspace(0, len(self) - 1, N_PROBES).astype(int))

    def rows_changed(self, features, fill, block=slice(None)):
        """Return the rows, counted within `block`, in which some features differ from their fill.

        `fill` has shape (1, n_hidden) or (n_samples, n_hidden).
        """
        values = self.values[block, features]
        fill = fill if len(fill) == 1 else fill[block]
        different = values != fill
        if values.dtype.kind in "fcO":
            different &= ~((values != values) & (fill != fill))  # both missing: nothing changes
        return np.flatnonzero(different.any(axis=1))

    def hidden(self, rows, features, fill):
        """Return a copy of the samples `rows` with `features` replaced by their fill."""
        flat = self.values[rows]
        hide(flat, features, fill, rows)
        return flat


def hide(flat, features, fill, rows=slice(None)):
    """Replace `features` in `flat`, which holds the samples `rows`, by their fill."""
    flat[:, features] = fill if len(fill) == 1 else fill[rows]


def read_array(X):
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
        values = X.to_numpy(na_value=np.nan)
    if values.ndim < 2:
        raise ValueError(
            f"Got X of shape {values.shape}, but expected at least 2 axes: (n_samples, ...)."
        )
    if values.size == 0:
        raise ValueError(f"Got X of shape {values.shape}, but expected at least one value.")
    sample_shape = values.shape[1:]
    return values.reshape(len(values), -1), sample_shape


def make_restore(X, sample_shape, fill):
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
    fits = [_holds(dtype, column) for dtype, column in zip(X.dtypes, columns, strict=True)]
    types = {k: dtype for k, (dtype, fit) in enumerate(zip(X.dtypes, fits, strict=True)) if fit}
    return partial(_to_frame, frame_type=type(X), columns=X.columns, types=types)


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


def check_finite(name, values, *, allow_nan):
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
        assert_all_finite(values, allow_nan=allow_nan, input_name=name)
        return
    numbers = [value for value in values.ravel() if isinstance(value, float | np.floating)]
    assert_all_finite(np.asarray(numbers), allow_nan=allow_nan, input_name=name)
