"""A classifier for `backends.py`, in a module of its own: worker processes import it from here."""

import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class MortalClassifier(ClassifierMixin, BaseEstimator):
    """The larger of two sums of features, by a process that may die of it.

    Parameters
    ----------
    seconds : float
        What each call of `predict` takes at least.
    folder : str or None
        A file in it, named ``N``, is a death: the first process other than that of the class's
        first user that gets to its N-th prediction takes the file away and kills itself.
    """

    home = os.getpid()
    n_pickled = 0  # in this process
    n_predictions = Counter()  # folder -> of this process

    def __init__(self, seconds=0.0, folder=None):
        self.seconds = seconds
        self.folder = folder

    def fit(self, X, y):
        """Nothing is learned."""
        return self

    def __sklearn_is_fitted__(self):
        """Say that there is nothing to fit."""
        return True

    def predict(self, X):
        """Return 0 or 1 for each sample."""
        if self.folder is not None and os.getpid() != self.home:
            self._may_die()
        time.sleep(self.seconds)
        half = X.shape[1] // 2
        return (X[:, :half].sum(axis=1) > X[:, half:].sum(axis=1)).astype(int)

    def _may_die(self):
        self.n_predictions[self.folder] += 1
        death = Path(self.folder) / str(self.n_predictions[self.folder])
        try:
            death.unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def __getstate__(self):
        """Count that this process sent the classifier somewhere."""
        type(self).n_pickled += 1
        return super().__getstate__() | {"home": self.home}


def make_data(n_samples, n_features, seed):
    """Return integers, whose sums are exact in any order, and labels with some noise."""
    rng = np.random.default_rng(seed)
    X = rng.integers(-5, 6, (n_samples, n_features)).astype(float)
    y = MortalClassifier().predict(X)
    wrong = rng.random(n_samples) < 0.1
    return X, np.where(wrong, 1 - y, y)
