"""Descriptions of values that are equal, in any process, where the values are.

Numbers and names stay readable; of arrays, code and long texts there is a part of their SHA-256.
Checkpoints compare them to tell whether a file belongs to the work at hand.
"""

import hashlib
from functools import partial
from numbers import Number
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType

import numpy as np

BLOCK = 2**24  # bytes of an array read at once, which may be memory-mapped
N_DIGITS = 16  # of the 64 of a SHA-256
LONGEST = 120  # characters of a readable description
# Packages whose code is told by their versions.
VERSIONED = {"builtins", "numpy", "scipy", "skff", "sklearn", "torch"}


def describe(value, without=None):
    """Describe a value: equal values have equal descriptions, others differ.

    Parameters
    ----------
    value : object
        Numbers, text, containers, arrays, tensors, functions, and objects that can be pickled.
    without : re.Pattern, default=None
        Attributes of objects and keys of dicts to leave out, wherever it finds a match.

    Returns
    -------
    description : str
        A function is described by its name, its code, defaults and captured variables; an object
        by its class, the code of its methods and what a pickle would hold. Functions that these
        call are not followed, and installed packages are known by name only.

    Raises
    ------
    ValueError
        If nothing tells the value from another one of its type.
    """
    try:
        text = _describe(value, (), without)
    except RecursionError:
        raise ValueError(f"Got {type(value).__name__} nested too deeply to be described.") from None
    return text if len(text) <= LONGEST else f"{_name(type(value))} {_digest(text)}"


def describe_array(array):
    """Describe an array: its type, its shape and its bytes, which are read block by block.

    Parameters
    ----------
    array : ndarray
        May be larger than memory if it is memory-mapped.

    Returns
    -------
    description : str
        Differs where any byte does.
    """
    array = np.atleast_1d(array)
    if array.dtype.hasobject:
        return f"object {array.shape} {_digest(_describe(array.tolist(), (), None))}"
    n_rows = max(1, BLOCK * len(array) // max(1, array.nbytes))
    starts = range(0, len(array), n_rows)
    return describe_blocks((array[i : i + n_rows] for i in starts), array.dtype, array.shape)


def describe_blocks(blocks, dtype, shape):
    """Describe an array that comes in blocks of rows, as `describe_array` does.

    Parameters
    ----------
    blocks : iterable of ndarray
    dtype, shape : dtype, tuple of int
        Of the whole array.

    Returns
    -------
    description : str
    """
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block.tobytes())
    return f"{dtype} {shape} {digest.hexdigest()[:N_DIGITS]}"


def _digest(text):
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:N_DIGITS]


def _describe(value, above, without):
    """Describe a value inside of others, whose ids are `above`."""
    if id(value) in above:
        return "(above)"
    inner = partial(_describe, above=(*above, id(value)), without=without)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is ... or type(value) in (bool, str, bytes):
        return repr(value)
    if isinstance(value, Number):
        return repr(value)
    if isinstance(value, np.ndarray):
        return describe_array(value)
    if type(value) in (list, tuple):
        return f"[{', '.join(map(inner, value))}]"
    if type(value) in (set, frozenset):  # whose order is another one in each process
        return f"{{{', '.join(sorted(map(inner, value)))}}}"
    if type(value) is dict:
        kept = [key for key in value if not _is_left_out(key, without)]
        pairs = sorted(f"{inner(key)}: {inner(value[key])}" for key in kept)
        return f"{{{', '.join(pairs)}}}"
    if hasattr(value, "detach") and hasattr(value, "numpy"):  # a tensor
        return describe_array(value.detach().cpu().numpy())
    if isinstance(value, CodeType):
        return inner([value.co_code, value.co_names, value.co_consts])
    if isinstance(value, FunctionType):
        return _name(value) + _code_of_function(value, inner)
    if isinstance(value, (type, BuiltinFunctionType, ModuleType, np.ufunc)):
        return _name(value)
    if isinstance(value, property):
        return inner([value.fget, value.fset, value.fdel])
    if isinstance(value, (classmethod, staticmethod)):
        return inner(value.__func__)
    if isinstance(value, MethodType):
        return f"{_name(value)} of {inner(value.__self__)}"
    return _describe_object(value, inner)


def _is_left_out(key, without):
    return without is not None and isinstance(key, str) and without.search(key) is not None


def _name(value):
    parts = getattr(value, "__module__", None), getattr(value, "__qualname__", value.__name__)
    return ".".join(filter(None, parts))


def _is_versioned(value):
    return (getattr(value, "__module__", None) or "").split(".")[0] in VERSIONED


def _code_of_function(function, inner):
    if _is_versioned(function):
        return ""
    captured = []
    for cell in function.__closure__ or ():
        try:
            captured.append(cell.cell_contents)
        except ValueError:  # not set yet
            captured.append(None)
    settings = [function.__defaults__, function.__kwdefaults__, vars(function), captured]
    return f" {_digest(inner([function.__code__, settings]))}"


def _code_of_class(cls, inner):
    """Describe the methods that instances of a class have, but for those of versioned packages."""
    methods = {}
    for base in reversed([base for base in cls.__mro__ if not _is_versioned(base)]):
        for name, member in vars(base).items():
            member = getattr(member, "__func__", getattr(member, "fget", member))
            if isinstance(member, FunctionType):
                methods[name] = member
    return f" {_digest(inner(methods))}" if methods else ""


def _describe_object(value, inner):
    """Describe an object by what a pickle of it would hold."""
    cls = type(value)
    try:
        reduced = value.__reduce_ex__(4)
    except Exception as error:
        raise ValueError(
            f"Got an object of type {_name(cls)}, but expected one that can be pickled, so that "
            f"it can be compared: {error}"
        ) from error
    if isinstance(reduced, str):  # the name of a global
        return f"{_name(cls)} {reduced}"
    _, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    arguments = [argument for argument in arguments if argument is not cls]
    parts = map(inner, [arguments, state, list(items or ()), dict(pairs or ())])
    shown = ", ".join(part for part in parts if part not in ("[]", "None", "{}"))
    return f"{_name(cls)}{_code_of_class(cls, inner)} {shown}".rstrip()
