"""Threads of Python, each with one thread of torch."""

from concurrent.futures import ThreadPoolExecutor

import torch


def map_on_threads(function, pieces, device):
    """Apply a function to pieces of work, on as many threads as torch would use.

    Threads that share every operation wait for each other at its end; operations of less than a
    millisecond are quicker with a thread of their own for each piece.

    Parameters
    ----------
    function : callable
        Called with the items of a piece; must not change what other pieces use.
    pieces : list of tuple
        Pieces of work.
    device : torch.device
        Where the function computes; on others than the CPU the pieces are done in turn.

    Returns
    -------
    outputs : list
        In the order of the pieces.
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or min(n_threads, len(pieces)) < 2:
        return [function(*piece) for piece in pieces]
    try:
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=[1]) as pool:
            return list(pool.map(lambda piece: function(*piece), pieces))
    finally:
        torch.set_num_threads(n_threads)
