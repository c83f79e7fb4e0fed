"""Features where and as they are stored, read a few samples at a time as float32."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils import assert_all_finite
from sklearn.utils.validation import validate_data

from skff._inputs import refuse_axes, refuse_masked
from skff._locks import checks_lock
from skff._memory import is_memory_mapped

LARGEST_COPY = 2**28  # bytes: an array in memory is converted as a whole if its copy is no larger
BLOCK_BYTES = 2**23  # of float32, read at once


@dataclass(frozen=True, eq=False)
class Features:
    """Samples of which a few at a time are read, as float32 in C order.

    Parameters
    ----------
    X : ndarray of shape (n_stored, n_features)
        Numbers of any type and order; may be memory-mapped. Never written to.
    rows : ndarray of shape (n_samples,), int, default=None
        Which of the stored samples these are; None means all.
    """

    X: np.ndarray
    rows: np.ndarray | None = None

    def __len__(self):
        return len(self.X) if self.rows is None else len(self.rows)

    @property
    def shape(self):
        """Number of samples and of features."""
        return len(self), self.X.shape[1]

    @property
    def is_ready(self):
        """Whether what is stored can be used as it is."""
        return self.X.dtype == np.float32 and self.X.dtype.isnative and self.X.flags.c_contiguous

    def __getitem__(self, part):
        """Return some of the samples, by indices or a boolean array; nothing is read."""
        stored = np.arange(len(self.X)) if self.rows is None else self.rows
        return Features(self.X, stored[part])

    def read(self, rows):
        """Return some samples as float32, (n, n_features): a view where memory layout allows.

        `rows` is a slice or an array of indices.
        """
        rows = rows if self.rows is None else self.rows[rows]
        return np.ascontiguousarray(self.X[rows], dtype=np.float32)

    def rows_per_block(self, n_rows):
        """Return how many samples to read at once: at most `n_rows`, and few if they are wide."""
        return max(1, min(n_rows, BLOCK_BYTES // (4 * self.X.shape[1])))

    def blocks(self, n_rows):
        """Yield all samples in their order, at most `n_rows` at a time and few if they are wide."""
        step = self.rows_per_block(n_rows)
        for start in range(0, len(self), step):
            yield self.read(slice(start, start + step))


def validate_features(estimator, X, y="no_validation", *, reset):
    """Validate `X`, and `y` with it, as scikit-learn does.

    What is memory-mapped stays where it is and is looked at block by block; so is what is large and
    not float32 in C order. Everything else becomes that as a whole.

    Parameters
    ----------
    estimator : FFClassifier
        Remembers number and names of the features if `reset`, otherwise compares with them.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,), default="no_validation"
        Labels; the default means that there are none.
    reset : bool

    Returns
    -------
    features : Features
    y : ndarray of shape (n_samples,)
        Only where labels were given.

    Raises
    ------
    ValueError
        On data that cannot be used, as `sklearn.utils.validation.validate_data`.
    """
    X = as_array(X)
    stays, settings = _stays_as_stored(X), {"dtype": np.float32, "order": "C"}
    if stays:
        settings = {"dtype": None, "ensure_all_finite": False}
    # What is too large for float32 becomes infinite, which is refused.
    with np.errstate(over="ignore", invalid="ignore"):
        with checks_lock:
            found = validate_data(estimator, X, y, reset=reset, **settings)
        X, labels = found if isinstance(found, tuple) else (found, None)
        features = Features(X)
        for block in features.blocks(len(X)) if stays else ():
            assert_all_finite(block, estimator_name=type(estimator).__name__, input_name="X")
    return features if labels is None else (features, labels)


def as_array(X):
    """Return samples as something with the shape of an array.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Also a tensor, on any device.

    Returns
    -------
    X : ndarray, DataFrame or sparse array
        Not copied where it is one, or a tensor in main memory.

    Raises
    ------
    ValueError
        If values are masked, or if samples are not flat.
    """
    refuse_masked("X", X)
    if isinstance(X, torch.Tensor):
        X = (X.float() if X.dtype == torch.bfloat16 else X).detach().cpu().numpy()
    elif not hasattr(X, "shape"):
        X = np.asarray(X)
    refuse_axes(X)
    return X


def _stays_as_stored(X):
    if type(X) not in (np.ndarray, np.memmap) or X.ndim != 2 or X.dtype.kind not in "biuf":
        return False
    if Features(X).is_ready:
        return False  # scikit-learn's own check then neither copies it
    return is_memory_mapped(X) or 4 * X.size > LARGEST_COPY
