"""Checkpoint files: unfinished work with a fingerprint of what it is the work on."""

import os
import sys
import warnings

import numpy
import scipy
import sklearn

import skff
from skff import _files

MOST_NAMED = 5  # differences


class CheckpointFile:
    """A file from which work goes on after its process was killed.

    Parameters
    ----------
    path : str or path-like
        The file; it need not exist.
    kind : str
        What the work is, such as "fit".
    fingerprint : dict of str -> str
        What the work depends on; what it is of -> its description.

    Raises
    ------
    ValueError
        If there cannot be a file at this path.
    """

    def __init__(self, path, kind, fingerprint):
        self.path = check_path(path)
        self.kind = kind
        self.fingerprint = fingerprint

    def read(self):
        """Return the state of the work, arrays and a JSON document, or None if there is no file.

        Raises
        ------
        ValueError
            If the file is broken, of something else, or of other work of this kind.
        """
        if not os.path.exists(self.path):
            return None
        _, arrays, document = _files.read(self.path, {f"{self.kind} checkpoint"})
        with _files.refusing(self.path):
            state, fingerprint = document["state"], dict(document["fingerprint"])
        self._compare(fingerprint)
        return arrays, state

    def _compare(self, found):
        expected = self.fingerprint
        names = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
        if not names:
            return
        got, wanted = (
            ", ".join(f"{name}={values.get(name)}" for name in names[:MOST_NAMED])
            for values in (found, expected)
        )
        more = f" and {len(names) - MOST_NAMED} more differences" * (len(names) > MOST_NAMED)
        raise ValueError(
            f"Got checkpoint={self.path!r} of another {self.kind}, with {got}, but expected "
            f"{wanted}{more}: delete the file to start afresh, or set another path."
        )

    def write(self, arrays, state):
        """Write the state; where that fails, warn and keep the previous file.

        Parameters
        ----------
        arrays : dict of str -> ndarray
        state : object
            A JSON document.
        """
        document = {"state": state, "fingerprint": self.fingerprint}
        try:
            _files.write(self.path, f"{self.kind} checkpoint", arrays, document)
        except OSError as error:
            warnings.warn(
                f"Could not write checkpoint={self.path!r}: {error}. The {self.kind} continues; "
                "an existing file is from an earlier moment.",
                stacklevel=2,
            )


def check_path(path):
    """Return a path as a str.

    Raises
    ------
    ValueError
        If its folder does not exist or cannot be written to, or if it is a folder itself.
    """
    path = os.fsdecode(path)
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
        raise ValueError(
            f"Got checkpoint={path!r}, but expected the name of a file in an existing folder that "
            "can be written to."
        )
    return path


def versions():
    """Return the versions of what results depend on to the last bit, by name."""
    packages = (skff, numpy, scipy, sklearn)
    python = {"Python": ".".join(map(str, sys.version_info[:2]))}
    return python | {package.__name__: package.__version__ for package in packages}
