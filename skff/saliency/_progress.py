"""Progress bars."""

from contextlib import AbstractContextManager

from tqdm.auto import tqdm


def progress_bar(*, verbose, **params):
    """Return tqdm's bar with these parameters if `verbose`, and one that shows nothing otherwise.

    Even with ``disable=True``, tqdm takes a lock that all forked processes share. If one of them is
    killed while it holds the lock, the others wait forever.
    """
    return tqdm(**params) if verbose else NoBar()


class NoBar(AbstractContextManager):
    """Takes the calls of a progress bar, and does nothing."""

    def __exit__(self, *error):
        return None

    def update(self, n):
        """Do nothing."""

    def set_postfix(self, **values):
        """Do nothing."""
