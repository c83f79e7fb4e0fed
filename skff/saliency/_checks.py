"""Checks of arguments: built-in exceptions that give the value, the expectation and the reason."""

from numbers import Integral, Real

import numpy as np


def check_choice(name, value, choices):
    """Raise ValueError, listing what is valid, unless `value` is one of the names `choices`."""
    if not (isinstance(value, str) and value in choices):
        raise ValueError(f"Got {name}={value!r}, but expected one of {sorted(choices)}.")


def check_count(name, value, *, optional=False):
    """Raise unless `value` is an integer of at least 1, or None where that is allowed."""
    if value is None and optional:
        return
    expected = "an integer of at least 1" + (" or None." if optional else ".")
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"Got {name}={value!r}, but expected {expected}")
    if value < 1:
        raise ValueError(f"Got {name}={value}, but expected {expected}")


def check_level(name, value):
    """Raise unless `value` is a number in (0, 1), as of a test or an interval."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"Got {name}={value!r}, but expected a number in (0, 1).")
    if not 0 < value < 1:
        raise ValueError(f"Got {name}={value}, but expected a number in (0, 1).")


def check_lengths(name, value, n_axes):
    """Return `value`, an integer or one integer per axis, as a tuple of `n_axes` counts."""
    lengths = value if isinstance(value, tuple | list | np.ndarray) else (value,) * n_axes
    if len(lengths) != n_axes:
        raise ValueError(
            f"Got {name}={value!r}, but expected an integer or {n_axes} of them: "
            f"the map has {n_axes} axes."
        )
    for length in lengths:
        check_count(name, length)
    return tuple(int(length) for length in lengths)


def check_n_jobs(n_jobs):
    """Raise unless `n_jobs` is None or an integer other than 0."""
    if n_jobs is None:
        return
    if not isinstance(n_jobs, Integral) or isinstance(n_jobs, bool):
        raise TypeError(f"Got n_jobs={n_jobs!r}, but expected an integer or None.")
    if n_jobs == 0:
        raise ValueError("Got n_jobs=0, but expected an integer other than 0, or None.")


def check_verbose(verbose):
    """Raise unless `verbose` is a boolean or an integer of at least 0."""
    if not isinstance(verbose, Integral | np.bool_) or verbose < 0:
        raise ValueError(f"Got verbose={verbose!r}, but expected an integer of at least 0.")


def check_max_samples(max_samples, n_samples):
    """Return the number of samples to use, for a count, a share or None."""
    if max_samples is None:
        return n_samples
    if isinstance(max_samples, bool) or not isinstance(max_samples, Real):
        raise TypeError(
            f"Got max_samples={max_samples!r}, but expected an integer, a float or None."
        )
    if isinstance(max_samples, Integral):
        if not 1 <= max_samples <= n_samples:
            raise ValueError(
                f"Got max_samples={max_samples}, but expected 1 to {n_samples}: "
                f"X has {n_samples} samples."
            )
        return int(max_samples)
    if not 0 < max_samples <= 1:
        raise ValueError(f"Got max_samples={max_samples}, but expected a share in (0, 1].")
    return max(1, round(max_samples * n_samples))


def check_target(y, n_samples):
    """Return `y` as an array with one row per sample."""
    if y is None:
        raise ValueError("Got y=None, but expected the true targets: ADS compares scores.")
    y = np.asarray(y)
    if y.ndim == 0 or len(y) != n_samples:
        n_targets = "a single value" if y.ndim == 0 else f"{len(y)} values"
        raise ValueError(f"Got y with {n_targets}, but expected {n_samples}: one per sample of X.")
    return y


def check_weight(sample_weight, n_samples):
    """Return `sample_weight` as a float64 vector whose largest value is 1, or None."""
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.shape != (n_samples,):
        raise ValueError(
            f"Got sample_weight of shape {weight.shape}, but expected ({n_samples},): "
            "one weight per sample of X."
        )
    if not np.isfinite(weight).all() or (weight < 0).any():
        raise ValueError("Got sample_weight with negative or non-finite values.")
    if not weight.any():
        raise ValueError("Got sample_weight that is zero everywhere: no sample would count.")
    return weight / weight.max()  # squares and sums of weights as given could leave the range
