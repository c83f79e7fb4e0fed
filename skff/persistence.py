"""Files of models and explanations, written atomically, that run no code when they are loaded.

A file is in the safetensors format: arrays, and JSON in its header. Other tools can read it,
but :func:`load` only accepts files written by :func:`save`.
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

# Modules that store each class; imported only when needed, because importing torch is slow.
_ROOMS = {
    "FFClassifier": "skff.forward_forward._persistence",
    "ADSExplanation": "skff.saliency._persistence",
}


def save(obj: FFClassifier | ADSExplanation, path: str | PathLike[str]) -> None:
    """Write a classifier or an explanation to a file.

    A previous file of this name is replaced in one step, and only when the new one is complete. A
    full disk, an interrupt or a kill before that leaves it as it was.

    Parameters
    ----------
    obj : FFClassifier or ADSExplanation
        A classifier may be fitted or not, or be between two calls of `partial_fit`. Its components
        must be skff's own. Callbacks and the path `checkpoint` are not saved.
    path : str or path-like
        File to write. No extension is added.

    Raises
    ------
    TypeError
        If the object, or a part of it, has a type that cannot be stored, such as your own function.
        Use pickle or joblib then.
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
            f"Got a {kind}, but expected one of {sorted(_ROOMS)}. Use skops, pickle or joblib for "
            "other objects, such as a Pipeline."
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

    Nothing in the file is executed, and memory use is limited by its actual size. The content is
    checked against the hash in the file, and all values are validated.

    Parameters
    ----------
    path : str or path-like
        File to read.

    Returns
    -------
    obj : FFClassifier or ADSExplanation
        A loaded classifier predicts, and continues with `partial_fit` or a warm start, as the saved
        one does. It uses the device given by its parameter `device` if this machine has it,
        otherwise the CPU.

    Raises
    ------
    ValueError
        If the file is damaged, not a file of skff, or of a later format, or if a value in it is
        invalid. The message names the file and the reason.
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
