"""Explanations as .npz files: plain arrays, no pickle."""

import json
from zipfile import BadZipFile

import numpy as np

FORMAT = 1  # of the files; raised when fields change meaning
TUPLES = ("image_shape", "window_shape", "stride")


def write_fields(path, values):
    """Write a dict of arrays, numbers, strings, tuples, dicts of numbers and None to `path`.

    Raises
    ------
    TypeError
        If an array holds objects.
    """
    arrays = {"format": np.asarray(FORMAT)}
    for name, value in values.items():
        if isinstance(value, dict):
            value = json.dumps(value, default=_to_number)
        if value is not None:
            arrays[name] = np.asarray(value)
            _check_plain(name, arrays[name])
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def _to_number(value):
    """Let JSON take NumPy numbers."""
    return value.item()


def _check_plain(name, array):
    if array.dtype == object:
        raise TypeError(
            f"Got {name} {array!r} of type object, but expected strings or numbers: other objects "
            "cannot be saved without pickle."
        )


def read_fields(path, *, required, known):
    """Read what :func:`write_fields` wrote; None values are absent.

    Parameters
    ----------
    path : str or path-like
        File to read.
    required, known : set of str
        Fields that must, and that may, be in the file.

    Returns
    -------
    values : dict

    Raises
    ------
    ValueError
        If the file is broken, of another kind or of another format.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as content:
            arrays = dict(content)
    except (ValueError, EOFError, TypeError, BadZipFile) as error:
        raise ValueError(f"Got {path}, but expected an .npz file of arrays: {error}") from error
    version = int(arrays.pop("format", -1))
    if version != FORMAT or not required <= arrays.keys() <= known:
        raise ValueError(
            f"Got {path} with fields {sorted(arrays)}, but expected an explanation saved in "
            f"format {FORMAT}."
        )
    return {name: _from_array(name, array) for name, array in arrays.items()}


def _from_array(name, array):
    if name == "engine_stats":
        return json.loads(str(array))
    if name in TUPLES:
        return tuple(array.tolist())
    return array if array.ndim else array.item()
