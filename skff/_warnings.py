"""Warnings that point to the caller's line."""

import contextlib
import sys
import warnings
from pathlib import Path

import sklearn

INNER = tuple(
    str(path)
    for path in (Path(__file__).parent, Path(sklearn.__file__).parent, contextlib.__file__)
)


def warn(message, category):
    """Warn of what the caller of the package can act on.

    Parameters
    ----------
    message : str
    category : type
    """
    # From Python 3.12 on, skip_file_prefixes does so.
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(INNER):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
