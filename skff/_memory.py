"""What is in memory: arrays that are not, and work in chunks where it runs out."""

import mmap

import numpy as np

SIGNS = ("out of memory", "not enough memory", "allocate memory", "bad_alloc", "bad allocation")


def in_chunks(function, n_items, size):
    """Apply a function to one slice of items after another; halve them where memory runs out.

    Parameters
    ----------
    function : callable
        ``function(items)`` with a slice; may be called again with a part of the same items.
    n_items : int
        How many there are.
    size : int
        Items of a slice, at least 1, as long as there is memory.

    Returns
    -------
    outputs : list
        One per slice, in their order.

    Raises
    ------
    MemoryError
        If there is not enough for one item.
    """
    outputs, start = [], 0
    while start < n_items:
        stop = min(start + size, n_items)
        try:
            outputs.append(function(slice(start, stop)))
            start = stop
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if stop - start == 1:
                raise MemoryError(
                    "Ran out of memory for one sample at a time, but expected enough for that: "
                    f"free memory, or use fewer workers ({error})."
                ) from error
            size = (stop - start) // 2
    return outputs


def is_out_of_memory(error):
    """Return whether an error says that memory ran out: Python's, NumPy's and torch's do.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    is_out : bool
    """
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in text for sign in SIGNS)
    )


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
