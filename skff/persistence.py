"""Files of models and explanations that survive interruptions and run no code when they are read.

A file is in the safetensors format: arrays, and JSON in its header. Other tools can look into it,
but only :func:`save` writes what :func:`load` takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from skff import _files
from skff._versions import InconsistentVersionWarning

if TYPE_CHECKING:
    from os import PathLike

    from skff.forward_forward._classifier import FFClassifier
    from skff.saliency._explanation import ADSExplanation

__all__ = ["InconsistentVersionWarning", "load", "save"]

# Who knows how to take each class apart; imported only when needed, as torch takes long.
_ROOMS = {
    "FFClassifier": "skff.forward_forward._persistence",
    "ADSExplanation": "skff.saliency._persistence",
}


def save(obj: FFClassifier | ADSExplanation, path: str | PathLike[str]) -> None:
    """Write a classifier or an explanation to a file.

    A previous file of this name is replaced at once and only when the new one is complete: whatever
    comes in between, a full disk, an interrupt or a kill, leaves it as it was.

    Parameters
    ----------
    obj : FFClassifier or ADSExplanation
        A classifier may be fitted or not, or be in the middle of `partial_fit`. Its components must
        be skff's own. Not saved are callbacks and `checkpoint`, a path on this machine.
    path : str or path-like
        File to write; used as it is, no ending is added.

    Raises
    ------
    TypeError
        If the object, or something that it holds, is of a type that such a file cannot hold, such
        as a function of your own. Use pickle or joblib then.
    ValueError
        If a parameter is invalid or a value not finite, so that the file could not be loaded.
    OSError
        If the file cannot be written.

    See Also
    --------
    load : Reads the file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_iris
    >>> import skff
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = skff.FFClassifier((20, 20), max_iter=5, random_state=0).fit(X, y)
    >>> with TemporaryDirectory() as folder:
    ...     skff.save(clf, Path(folder) / "iris.skff")
    ...     again = skff.load(Path(folder) / "iris.skff")
    >>> bool((again.predict(X) == clf.predict(X)).all())
    True
    """
    kind = type(obj).__name__
    if kind not in _ROOMS:
        raise TypeError(
            f"Got a {kind}, but expected one of {sorted(_ROOMS)}. Use pickle or joblib for other "
            "objects."
        )
    room = import_module(_ROOMS[kind])
    arrays, document = room.to_parts(obj)
    try:
        room.from_parts(dict(arrays), document)
    except ValueError as error:
        raise ValueError(
            f"Got {obj!r}, but expected one that can be loaded again: {error}"
        ) from error
    _files.write(path, kind, arrays, document)


def load(path: str | PathLike[str]) -> FFClassifier | ADSExplanation | Any:
    """Read what :func:`save` wrote.

    Nothing in the file is executed, and memory grows with the bytes that it really holds. Its
    content is checked against the hash in it, and everything that it says against what a classifier
    or an explanation can be.

    Parameters
    ----------
    path : str or path-like
        File to read.

    Returns
    -------
    obj : FFClassifier or ADSExplanation
        The classifier predicts, and goes on with `partial_fit` or a warm start, as the saved one
        does. It computes on its parameter `device` where this machine has that, else on the CPU.

    Raises
    ------
    ValueError
        If the file is damaged, of another kind or of a later format, or holds what cannot be. The
        message names the file and the reason.
    OSError
        If the file cannot be opened.

    See Also
    --------
    save : Writes the file.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import skff
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder) / "classifier.skff"
    ...     skff.save(skff.FFClassifier((20, 20), dropout=0.2), path)
    ...     skff.load(path).dropout
    0.2
    """
    kind, arrays, document = _files.read(path, _ROOMS)
    with _files.refusing(path):
        return import_module(_ROOMS[kind]).from_parts(arrays, document)
