"""ADSExplanation as arrays and a JSON document, and back, with every claim of a file checked."""

from dataclasses import fields

import numpy as np

from skff._values import check_array, check_fields, check_number, decode, encode
from skff.saliency._engines import ENGINES
from skff.saliency._explanation import ADSExplanation
from skff.saliency._regions import AGGREGATES

ROUNDING = 1e-9  # by which sums of weights may leave a range


def to_parts(explanation):
    """Take an explanation apart.

    Parameters
    ----------
    explanation : ADSExplanation

    Returns
    -------
    arrays : dict of str -> ndarray
        Share memory with the explanation.
    document : dict
        JSON.

    Raises
    ------
    TypeError
        If it holds objects other than strings.
    """
    if type(explanation) is not ADSExplanation:
        raise TypeError(
            f"Got a {type(explanation).__name__}, but expected an ADSExplanation itself: a file "
            "cannot hold the code of a subclass. Use pickle or joblib."
        )
    arrays = {}
    names = [field.name for field in fields(explanation)]
    return arrays, {name: encode(name, getattr(explanation, name), arrays) for name in names}


def from_parts(arrays, document):
    """Put an explanation together.

    Parameters
    ----------
    arrays : dict of str -> ndarray
        Becomes empty; the explanation takes over their memory.
    document : object
        JSON.

    Returns
    -------
    explanation : ADSExplanation

    Raises
    ------
    ValueError
        If anything in it is not as an explanation can be. What is no value at all may raise other
        built-in exceptions.
    """
    check_fields("metadata", document, {field.name for field in fields(ADSExplanation)})
    explanation = ADSExplanation(**{name: decode(node, arrays) for name, node in document.items()})
    if arrays:
        raise ValueError(f"its arrays {sorted(arrays)} belong to nothing")
    _check_settings(explanation)
    _check_shapes(explanation)
    _check_ranges(explanation)
    return explanation


def _check_settings(found):
    _check_lengths("image_shape", found.image_shape, (1, 2))
    n_axes = len(found.image_shape)
    for name in ("window_shape", "stride"):
        lengths = getattr(found, name)
        if (lengths is None) != (found.aggregate == "groups"):
            raise ValueError(f"its {name} is {lengths!r} with aggregate {found.aggregate!r}")
        if lengths is not None:
            _check_lengths(name, lengths, (n_axes,))
    _check_choice("aggregate", found.aggregate, {*AGGREGATES, "groups"})
    _check_choice("engine", found.engine, ENGINES)
    if not isinstance(found.scoring, str):
        raise ValueError(f"its scoring is {found.scoring!r}, not a name")
    check_number("n_samples", found.n_samples, 1, whole=True)
    check_number("baseline_score", found.baseline_score)
    if found.engine_stats is not None:
        if not isinstance(found.engine_stats, dict):
            raise ValueError(f"its engine_stats are {found.engine_stats!r}, not a dict")
        for name, count in found.engine_stats.items():
            check_number(f"engine_stats of {name!r}", count)


def _check_lengths(name, lengths, n_axes):
    if not isinstance(lengths, tuple) or len(lengths) not in n_axes:
        raise ValueError(f"its {name} is {lengths!r}, not one length per axis")
    for length in lengths:
        check_number(name, length, 1, whole=True)


def _check_choice(name, value, choices):
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"its {name} is {value!r}, not one of {sorted(choices)}")


def _check_shapes(found):
    check_array("window_scores", found.window_scores, (None,), np.float64)
    n_windows, image_shape = len(found.window_scores), found.image_shape
    n_folds = None if found.fold_weights is None else np.size(found.fold_weights)
    n_classes = None if found.classes is None else np.size(found.classes)
    shapes = {
        "importances": image_shape,
        "window_centers": (n_windows, len(image_shape)),
        "standard_error": image_shape,
        "p_values": image_shape,
        "pixel_tests": image_shape,
        "window_standard_error": (n_windows,),
        "window_p_values": (n_windows,),
        "window_n_samples": (n_windows,),
        "window_intervals": (n_windows, 2),
        "per_class": (n_classes, *image_shape),
        "classes": (n_classes,),
        "fold_importances": (n_folds, *image_shape),
        "window_fold_importances": (n_folds, n_windows),
        "fold_weights": (n_folds,),
        "group_names": (n_windows,),
        "feature_names": image_shape,
    }
    for name, shape in shapes.items():
        array = getattr(found, name)
        if array is None and name not in ("importances", "window_centers"):
            continue
        check_array(name, array, shape)
        expected = {"group_names": "U", "feature_names": "U", "classes": "biufUO"}
        expected |= {"pixel_tests": "i"}
        if array.dtype.kind not in expected.get(name, "iuf"):
            raise ValueError(f"its {name} is of type {array.dtype}")
    together = [
        ("standard_error", "p_values", "pixel_tests", "window_standard_error", "window_p_values"),
        ("fold_importances", "window_fold_importances", "fold_weights"),
        ("per_class", "classes"),
        ("window_n_samples", "window_intervals"),
    ]
    for names in together:
        missing = [name for name in names if getattr(found, name) is None]
        if missing and len(missing) < len(names):
            raise ValueError(f"it has some of {names} without {missing}")
    if n_windows == 0:
        raise ValueError("it has no windows")
    if (found.group_names is None) != (found.aggregate != "groups"):
        raise ValueError(f"its group_names do not go with aggregate {found.aggregate!r}")


def _check_ranges(found):
    is_accuracy = found.p_values is not None or found.scoring == "accuracy"
    drops = (-1, 1) if is_accuracy else (-np.inf, np.inf)
    if is_accuracy:
        _check_range("baseline_score", np.asarray(found.baseline_score), 0, 1)
    window_drops = found.window_importances
    _check_range("window_scores", window_drops, *drops)
    _check_range("importances", found.importances, window_drops.min(), window_drops.max(), nan=True)
    sides = np.subtract(found.image_shape, 1)
    _check_range("window_centers", found.window_centers, 0, sides)
    for prefix in ("", "window_"):
        is_map = prefix == ""
        _check_range(f"{prefix}standard_error", _of(found, prefix, "standard_error"), 0, nan=is_map)
        _check_range(f"{prefix}p_values", _of(found, prefix, "p_values"), 0, 1, nan=is_map)
        folds = _of(found, prefix, "fold_importances")
        _check_range(f"{prefix}fold_importances", folds, *drops, nan=is_map)
    _check_range("per_class", found.per_class, -1, 1, nan=True)
    _check_range("fold_weights", found.fold_weights, 0)
    _check_range("window_n_samples", found.window_n_samples, 1, found.n_samples)
    _check_range("window_intervals", found.window_intervals, -1, 1)
    if found.pixel_tests is not None:
        _check_tests(found.pixel_tests, found.p_values)
    if found.classes is not None and len(np.unique(found.classes)) < len(found.classes):
        raise ValueError("its classes are not different")


def _check_tests(tests, p_values):
    is_tested = np.isfinite(p_values)
    if not is_tested.any() or (tests[is_tested] < 0).any() or (tests[~is_tested] != -1).any():
        raise ValueError("its pixel_tests are not those of the pixels that have p_values")
    _, first, tests = np.unique(tests[is_tested], return_index=True, return_inverse=True)
    if (p_values[is_tested][first][tests] != p_values[is_tested]).any():
        raise ValueError("its p_values differ within one of its pixel_tests")


def _of(found, prefix, name):
    return getattr(found, prefix + name)


def _check_range(name, values, low, high=np.inf, *, nan=False):
    """Raise unless all values are finite numbers in a range, or NaN where that is allowed."""
    if values is None:
        return
    slack = ROUNDING * np.maximum(1, np.abs(values))
    fits = np.isfinite(values) & (values >= low - slack) & (values <= high + slack)
    if nan:
        fits |= np.isnan(values)
    if not fits.all():
        raise ValueError(f"its {name} has values that are not in [{low}, {high}]")
