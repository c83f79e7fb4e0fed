"""Where arrays are."""

import mmap

import numpy as np


def is_memory_mapped(X):
    """Return whether an array is a view of a file.

    Parameters
    ----------
    X : ndarray

    Returns
    -------
    is_mapped : bool
    """
    while isinstance(X, np.ndarray):  # an ndarray may be a view of a view of a memmap
        X = X.base
    return isinstance(X.obj if isinstance(X, memoryview) else X, mmap.mmap)
