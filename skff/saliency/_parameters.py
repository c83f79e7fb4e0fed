"""What parameters may be: scikit-learn's constraints, with messages that say why."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    RealNotInt,
    make_constraint,
)

COUNT = Interval(Integral, 1, None, closed="left")
LEVEL = Interval(Real, 0, 1, closed="neither")  # of a test or an interval
SHARE = Interval(RealNotInt, 0, 1, closed="right")
LENGTHS = [COUNT, tuple, list, np.ndarray]  # one for all axes, or one per axis

IMAGE_SHAPE = [tuple, list, None]
MAX_SAMPLES = [COUNT, SHARE, None]
N_JOBS = [Interval(Integral, None, -1, closed="right"), COUNT, None]


def check_parameters(constraints, parameters):
    """Raise unless every parameter satisfies one of its constraints.

    As scikit-learn's ``validate_parameter_constraints``, except that True is not the number 1.

    Parameters
    ----------
    constraints : dict of str -> list
        In scikit-learn's form, by the names of parameters.
    parameters : dict of str -> object
        Those without constraints are not looked at.

    Raises
    ------
    InvalidParameterError
        Both a ValueError and a TypeError.
    """
    for name, allowed in constraints.items():
        allowed = [make_constraint(one) for one in allowed]
        if not any(_is_satisfied(one, parameters[name]) for one in allowed):
            raise InvalidParameterError(
                f"Got {name}={parameters[name]!r}, but expected {' or '.join(map(str, allowed))}."
            )


def _is_satisfied(constraint, value):
    is_flag = isinstance(value, bool | np.bool_)
    return not (is_flag and isinstance(constraint, Interval)) and constraint.is_satisfied_by(value)


def check_lengths(name, value, n_axes):
    """Return `value`, an integer or one integer per axis, as a tuple of `n_axes` counts."""
    lengths = value if isinstance(value, tuple | list | np.ndarray) else (value,) * n_axes
    if len(lengths) != n_axes:
        raise ValueError(
            f"Got {name}={value!r}, but expected an integer or {n_axes} of them: "
            f"the map has {n_axes} axes."
        )
    for length in lengths:
        check_parameters({name: [COUNT]}, {name: length})
    return tuple(int(length) for length in lengths)
