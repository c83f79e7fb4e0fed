"""Between NumPy and torch."""

import warnings

import numpy as np
import torch


def as_tensor(X):
    """Wrap an array without copying it; the caller must not write to the result.

    Parameters
    ----------
    X : ndarray
        May be read-only or memory-mapped.

    Returns
    -------
    tensor : Tensor
        Shares the memory of `X`.
    """
    with warnings.catch_warnings():
        # Read-only arrays arrive in joblib's workers; torch warns that writing is undefined.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(X)


def as_numpy(value):
    """Return a tensor as a NumPy array in main memory, anything else as it is."""
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else value


def as_writable_tensor(value):
    """Return a copy of an array as a tensor, since a memory map is read-only; else the value."""
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
