"""What arrays of users may not be, whoever reads them."""

import numpy as np


def refuse_masked(name, values):
    """Raise ValueError if some values are masked, since a conversion would bring them back.

    Parameters
    ----------
    name : str
        What the message calls them.
    values : object
        Anything; only NumPy's masked arrays have a mask.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError(
            f"Got {name} with {np.ma.count_masked(values)} masked values, but expected none: "
            f"masks are ignored. Set them, as in {name}.filled(0), or leave their "
            "samples out."
        )


def refuse_axes(X):
    """Raise ValueError if samples have more than one axis, saying how to flatten them.

    Parameters
    ----------
    X : object
        With the attribute `shape` if it is an array.
    """
    shape = getattr(X, "shape", ())
    if len(shape) > 2:
        raise ValueError(
            f"Got X of shape {tuple(shape)}, but expected (n_samples, n_features): flatten the "
            "samples with X.reshape(len(X), -1)."
        )
