"""Work in chunks, which become smaller where memory runs out."""

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
