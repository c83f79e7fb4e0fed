"""What the score is, and whether it is plain accuracy."""

from dataclasses import dataclass
from inspect import getattr_static
from math import isfinite

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, get_scorer, get_scorer_names
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.pipeline import Pipeline

from skff.saliency._inputs import is_known_classifier
from skff.saliency.scorers import SCORERS

# The last three have a method of their own only to allow X=None.
ACCURACY_OWNERS = (
    ClassifierMixin,
    DummyClassifier,
    KNeighborsClassifier,
    RadiusNeighborsClassifier,
)
N_PROBES = 128  # rows predicted in different company to see whether it matters
N_ALONE = 8  # of them, also predicted alone


@dataclass(frozen=True)
class Score:
    """One number for an estimator on data.

    Parameters
    ----------
    estimator : object
        Fitted.
    scorer : callable
        ``scorer(estimator, X, y)`` returns a number; ``sample_weight`` is passed when given.
    name : str
        What the score is called in plots.
    """

    estimator: object
    scorer: object
    name: str

    def __call__(self, X, y, sample_weight=None):
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        score = self.scorer(self.estimator, X, y, **weights)
        try:
            score = float(score)
        except (TypeError, ValueError):
            message = f"Got {score!r} from the scorer {self.name!r}, but expected a number."
            raise TypeError(message) from None
        if not isfinite(score):
            raise ValueError(
                f"Got {score} from the scorer {self.name!r}, but expected a finite number: "
                "differences of such scores have no meaning."
            )
        return score


def make_score(estimator, scoring):
    """Return the score that `scoring` means for `estimator`.

    Parameters
    ----------
    estimator : object
        Fitted.
    scoring : None, str or callable
        None: ``estimator.score``.

    Returns
    -------
    score : Score

    Raises
    ------
    TypeError
        If the estimator has no ``score`` where it is needed, or `scoring` is of another type.
    ValueError
        If `scoring` is not the name of a scorer.
    """
    if scoring is None:
        if not callable(getattr(estimator, "score", None)):
            raise TypeError(
                f"Got estimator={estimator!r} without a score method, but expected one that has "
                "it: set `scoring` to say how predictions are scored."
            )
        return Score(estimator, _own_score, "accuracy" if is_accuracy(estimator, None) else "score")
    if callable(scoring):
        return Score(estimator, scoring, getattr(scoring, "__name__", type(scoring).__name__))
    if not isinstance(scoring, str):
        raise TypeError(
            f"Got scoring={scoring!r}, but expected None, a scorer's name or a callable."
        )
    if scoring in SCORERS:
        return Score(estimator, SCORERS[scoring], scoring)
    names = sorted({*get_scorer_names(), *SCORERS})
    if scoring not in names:
        raise ValueError(f"Got scoring={scoring!r}, but expected one of {names}.")
    return Score(estimator, get_scorer(scoring), scoring)


def _own_score(estimator, X, y, **weights):
    return estimator.score(X, y, **weights)


def is_accuracy(estimator, scoring):
    """Say whether the score is the share of samples that ``estimator.predict`` gets right.

    True for `scoring` "accuracy", and for None where ``score`` is the method scikit-learn gives
    its classifiers, directly or at the end of a Pipeline or search. A ``score`` of its own may
    be anything, so it is never taken for accuracy.
    """
    if scoring is not None:
        return isinstance(scoring, str) and scoring == "accuracy"
    if "score" in getattr(estimator, "__dict__", {}):
        return False
    if any(_has_score_of(estimator, owner) for owner in ACCURACY_OWNERS):
        return True
    if _has_score_of(estimator, Pipeline):
        return is_accuracy(estimator[-1], None)
    if any(_has_score_of(estimator, owner) for owner in (GridSearchCV, RandomizedSearchCV)):
        return is_accuracy(getattr(estimator, "best_estimator_", None), estimator.scoring)
    return False


def _has_score_of(estimator, owner):
    method = getattr_static(type(estimator), "score", None)
    return method is not None and method is getattr_static(owner, "score")


def predicts_labels(estimator, samples, y):
    """Say whether a classifier's predictions for some rows are labels of the same kind as `y`."""
    if y.ndim != 1 or not is_known_classifier(estimator) or not hasattr(estimator, "predict"):
        return False
    rows = _some_rows(samples)
    try:
        accuracy_score(y[rows], samples.predict(estimator, rows))
    except ValueError:
        return False
    return True


def predicts_row_by_row(estimator, samples, y):
    """Say whether some rows get the same predictions whatever else is in the batch.

    Predicts up to 128 rows together, every other one of them in reversed order, and 8 alone;
    random predictions and dependence on the batch show up as differences.

    Raises
    ------
    ValueError
        If the predictions are not labels of the same kind as `y`.
    """
    rows = _some_rows(samples)
    together = samples.predict(estimator, rows)
    accuracy_score(y[rows], together)  # raises where labels are of different kinds
    half = np.arange(0, len(rows), 2)[::-1]
    companies = [half, *np.split(half, len(half))[:N_ALONE]]
    return all(
        np.array_equal(together[some], samples.predict(estimator, rows[some])) for some in companies
    )


def _some_rows(samples):
    return np.unique(np.linspace(0, len(samples) - 1, N_PROBES).astype(int))
