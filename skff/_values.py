"""Python values as JSON and arrays, and back: what a file holds of parameters and results.

JSON's own scalars stand for themselves; everything else is an object with one field, its tag:
``{"tuple": [1, 2]}``, ``{"array": "classes"}``, ``{"component": {"name": "SymBa", ...}}``.
"""

import math
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from types import NoneType

import numpy as np

# Of a component's settings.
KINDS = {"int": Integral, "float": Real, "tuple": tuple, "None": NoneType}
MT19937_WORDS = 624  # of the state of NumPy's RandomState


def encode(name, value, arrays, components=()):
    """Turn a value into JSON.

    Parameters
    ----------
    name : str
        What it is, for messages; its arrays get names that start with it.
    value : object
        None, booleans, numbers, text, arrays, lists, tuples and dicts of these, a RandomState or a
        component.
    arrays : dict of str -> ndarray
        Gets what JSON cannot hold.
    components : collection
        Dataclasses and functions that may occur.

    Returns
    -------
    node : object
        For `decode`.

    Raises
    ------
    TypeError
        If the value is or holds anything else.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return {"scalar": _store(name, np.asarray(value), arrays)}
    if isinstance(value, np.ndarray):
        return _encode_array(name, value, arrays)
    if type(value) in (list, tuple):
        items = [encode(name, item, arrays, components) for item in value]
        return {type(value).__name__: items}
    if type(value) is dict:
        pairs = [[encode(name, part, arrays) for part in pair] for pair in value.items()]
        return {"dict": pairs}
    if type(value) is np.random.RandomState:
        return _encode_random_state(name, value, arrays)
    if any(value is one or type(value) is one for one in components):
        return _encode_component(name, value, arrays)
    raise TypeError(
        f"Got {name}={value!r}, but expected numbers, text, arrays or a component of skff's own: "
        "a file that runs no code cannot hold anything else. Use pickle or joblib."
    )


def _store(name, array, arrays):
    key = name
    while key in arrays:
        key = f"{name}.{len(arrays)}"
    arrays[key] = array
    return key


def _encode_array(name, value, arrays):
    if value.dtype != object:
        return {"array": _store(name, value, arrays)}
    if value.ndim == 1 and all(type(item) is str for item in value):
        return {"strings": value.tolist()}
    raise TypeError(
        f"Got {name} with objects, but expected numbers or strings: other objects cannot be saved "
        "without pickle."
    )


def _encode_random_state(name, value, arrays):
    state = value.get_state(legacy=False)
    if state["bit_generator"] != "MT19937":
        raise TypeError(
            f"Got {name}={value!r}, but expected a seed, None or a RandomState of MT19937. Use "
            "pickle or joblib."
        )
    key = _store(name, state["state"]["key"], arrays)
    position = [int(state["state"]["pos"]), int(state["has_gauss"]), float(state["gauss"])]
    return {"random_state": [key, *position]}


def _encode_component(name, value, arrays):
    if not is_dataclass(value):
        return {"component": {"name": value.__name__, "fields": None}}
    settings = {
        field.name: encode(f"{name}.{field.name}", getattr(value, field.name), arrays)
        for field in fields(value)
    }
    return {"component": {"name": type(value).__name__, "fields": settings}}


def decode(node, arrays, components=()):
    """Turn what `encode` returned into the value, trusting nothing.

    Parameters
    ----------
    node : object
        JSON.
    arrays : dict of str -> ndarray
        Those that are used are removed.
    components : collection
        Dataclasses and functions that may occur.

    Returns
    -------
    value : object

    Raises
    ------
    ValueError, TypeError, KeyError
        If the node is not one that `encode` returns.
    """
    if node is None or isinstance(node, bool | int | float | str):
        return node
    check_fields("a value", node, node if len(node) == 1 else {"one tag"})
    [(tag, content)] = node.items()
    if tag == "component":
        return _decode_component(content, arrays, components)
    return _DECODERS[tag](content, arrays, components)


def _decode_items(kind):
    return lambda nodes, arrays, components: kind(
        decode(item, arrays, components) for item in _as_list(nodes)
    )


def _decode_dict(pairs, arrays, components):
    pairs = [[decode(part, arrays) for part in pair] for pair in _as_list(pairs)]
    value = {key: item for key, item in pairs}
    if len(value) < len(pairs):
        raise ValueError("a dict in it has a key twice")
    return value


def _decode_scalar(name, arrays, components):
    array = arrays.pop(name)
    if array.ndim:
        raise ValueError(f"its scalar {name!r} is an array")
    return array[()]


def _decode_strings(items, arrays, components):
    value = np.empty(len(_as_list(items)), dtype=object)
    value[:] = [check_type("string", item, str) for item in items]
    return value


def _decode_random_state(content, arrays, components):
    name, position, has_gauss, gauss = _as_list(content)
    key = arrays.pop(name)
    check_array("the key of a random state", key, (MT19937_WORDS,), np.uint32)
    check_number("the position of a random state", position, 0, MT19937_WORDS, whole=True)
    check_number("has_gauss", has_gauss, 0, 1, whole=True)
    check_number("gauss", gauss)
    value = np.random.RandomState()
    value.set_state(("MT19937", key, position, has_gauss, gauss))
    return value


def _decode_component(content, arrays, components):
    check_fields("a component", content, {"name", "fields"})
    component = {one.__name__: one for one in components}[content["name"]]
    if not is_dataclass(component):
        check_fields("a function", content["fields"] or {}, set())
        return component
    names = {field.name for field in fields(component)}
    check_fields(f"the component {content['name']!r}", content["fields"], names)
    settings = {name: decode(node, arrays) for name, node in content["fields"].items()}
    for field in fields(component):
        value = settings[field.name]
        if not isinstance(value, _kinds(field)) or isinstance(value, bool):
            raise ValueError(f"its {content['name']}.{field.name} is {value!r}")
    return component(**settings)


def _kinds(field):
    """Return the types that a field of a dataclass may have, by the names in its annotation."""
    # Annotations may be text, which `typing.get_type_hints` would execute.
    annotation = field.type
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return tuple(KINDS[name.partition("[")[0]] for name in text.split(" | "))


_DECODERS = {
    "list": _decode_items(list),
    "tuple": _decode_items(tuple),
    "dict": _decode_dict,
    "array": lambda name, arrays, components: arrays.pop(name),
    "scalar": _decode_scalar,
    "strings": _decode_strings,
    "random_state": _decode_random_state,
}


# Checks of what a file says: each raises a ValueError that starts with "its"


def check_type(name, value, kind):
    """Return `value` if it is of this type, else raise."""
    if not isinstance(value, kind):
        raise ValueError(f"its {name} is {value!r}, not a {kind.__name__}")
    return value


def _as_list(value):
    return check_type("sequence", value, list)


def check_fields(name, value, expected):
    """Raise unless `value` is a dict with exactly the fields `expected`."""
    if not isinstance(value, dict) or value.keys() != set(expected):
        found = sorted(value) if isinstance(value, dict) else value
        raise ValueError(f"its {name} has {found!r} in place of fields {sorted(expected)}")


def check_number(name, value, low=-math.inf, high=math.inf, *, whole=False):
    """Raise unless `value` is a finite number in [low, high], an integer if it is to be whole."""
    kind = Integral if whole else Real
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"its {name} is {value!r}, not {'an integer' if whole else 'a number'}")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"its {name} is {value!r}, not a finite number in [{low}, {high}]")


def check_array(name, array, shape, dtype=None):
    """Raise unless `array` is one of this shape, where None stands for any length, and type."""
    if not isinstance(array, np.ndarray):
        raise ValueError(f"its {name} is {array!r}, not an array")
    fits = len(shape) == array.ndim and all(
        length is None or length == found for length, found in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"its {name} is of shape {array.shape}, not {tuple(shape)}")
    if dtype is not None and array.dtype != dtype:
        raise ValueError(f"its {name} is of type {array.dtype}, not {np.dtype(dtype)}")
