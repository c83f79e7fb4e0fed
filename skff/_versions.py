"""Which version of skff a pickle comes from."""

import warnings

import skff

_KEY = "_skff_version"


class InconsistentVersionWarning(UserWarning):
    """An object was pickled by another version of skff than the one that reads it.

    Parameters
    ----------
    name : str
        Class of the object.
    version : str or None
        Version of skff that wrote it; None if it does not say.

    Examples
    --------
    Refuse pickles of other versions:

    >>> import warnings
    >>> from skff.persistence import InconsistentVersionWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", InconsistentVersionWarning)
    ...     # load pickles here
    """

    def __init__(self, name, version):
        super().__init__(name, version)
        self.name = name
        self.version = version

    def __str__(self):
        return (
            f"Got a pickled {self.name} of skff {self.version or 'of unknown version'}, but "
            f"expected {skff.__version__}, the version that reads it: it may fail or give "
            "other results. Read it with the version that wrote it."
        )


def with_version(state):
    """Return a pickle's state with the version of skff.

    Parameters
    ----------
    state : dict
        Attributes; not changed.

    Returns
    -------
    state : dict
    """
    return state | {_KEY: skff.__version__}


def without_version(name, state):
    """Return the attributes of a pickle's state, with a warning if its version is another.

    Parameters
    ----------
    name : str
        Class of the object.
    state : dict
        As `with_version` returned it; not changed.

    Returns
    -------
    attributes : dict
    """
    if state.get(_KEY) != skff.__version__:
        warnings.warn(InconsistentVersionWarning(name, state.get(_KEY)), stacklevel=3)
    return {name: value for name, value in state.items() if name != _KEY}
