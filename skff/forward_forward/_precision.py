"""Precision of float32 matrix products, changed only around our own calls."""

from contextlib import contextmanager

import torch

PRECISIONS = ("highest", "high", "medium")


@contextmanager
def matmul_precision(precision):
    """Let torch use this precision within the block and the previous one after it.

    Parameters
    ----------
    precision : {"highest", "high", "medium"}
        See `torch.set_float32_matmul_precision`.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
