"""Warnings that point to the caller's line."""

import contextlib
import functools
import sys
import warnings
from contextvars import ContextVar
from pathlib import Path

import joblib
import sklearn

INNER = (
    str(Path(__file__).parent),
    *(str(Path(package.__file__).parent) for package in (sklearn, joblib)),
    *(module.__file__ for module in (contextlib, functools)),
)


_given = ContextVar("given", default=None)  # texts, where each is given once


@contextlib.contextmanager
def each_once():
    """Give warnings of the same text once within the block.

    Python's own memory of what it has shown is void whenever anyone enters ``catch_warnings``.
    """
    given = _given.get()
    token = _given.set(set() if given is None else given)
    try:
        yield
    finally:
        _given.reset(token)


def warn(message, category):
    """Warn of what the caller of the package can act on.

    Parameters
    ----------
    message : str
    category : type
    """
    given = _given.get()
    if given is not None:
        if message in given:
            return
        given.add(message)
    # From Python 3.12 on, skip_file_prefixes does so.
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(INNER):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
