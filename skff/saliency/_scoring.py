"""What the score is, whether it is plain accuracy, and the predictions that accuracy counts."""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, wraps
from inspect import getattr_static
from math import inf, isfinite

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, get_scorer, get_scorer_names
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neighbors import KNeighborsClassifier, RadiusNeighborsClassifier
from sklearn.pipeline import Pipeline

from skff._locks import checks_lock
from skff._memory import in_chunks, is_out_of_memory
from skff._warnings import warn
from skff.exceptions import ConstantPredictionWarning
from skff.saliency._samples import Samples, is_known_classifier
from skff.saliency.scorers import SCORERS

# The last three have a method of their own only to allow X=None.
ACCURACY_OWNERS = (
    ClassifierMixin,
    DummyClassifier,
    KNeighborsClassifier,
    RadiusNeighborsClassifier,
)
RESPONSES = ("predict", "predict_proba", "predict_log_proba", "decision_function")
FEWEST_TO_JUDGE = 30  # samples that say whether all predictions are the same
N_ALONE = 8  # rows that are also predicted alone, to see whether it matters


class RememberedEstimator:
    """Answers as an estimator does on one X, and computes each answer once.

    Several scores of the same data share predictions by it.

    Parameters
    ----------
    estimator : object
        Fitted.
    ask : callable, default=None
        ``ask(method)`` returns a method's answer about the data, put together from batches, in
        place of that about the X that the method is called with.
    """

    def __init__(self, estimator, ask=None):
        self._estimator, self._ask, self._answers = estimator, ask, {}

    def __getattr__(self, name):
        attribute = getattr(self._estimator, name)
        if name not in RESPONSES:
            return attribute

        @wraps(attribute)  # scikit-learn reads a method's name
        def answer(X):
            if name not in self._answers:
                self._answers[name] = attribute(X) if self._ask is None else self._ask(attribute)
            return self._answers[name]

        return answer

    def known_labels(self):
        """Return what ``predict`` returned, or None if it was not called."""
        return self._answers.get("predict")


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
    asks_methods_only : bool, default=False
        Whether the scorer only calls the estimator's methods and reads its attributes, so that
        another object can answer for it.
    """

    estimator: object
    scorer: object
    name: str
    asks_methods_only: bool = False

    def __call__(self, X, y, sample_weight=None, remembered=None):
        """Compute the score; `remembered` may answer in the estimator's place."""
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        takes_proxy = remembered is not None and self.asks_methods_only
        score = self.scorer(remembered if takes_proxy else self.estimator, X, y, **weights)
        try:
            score = float(score)
        except (TypeError, ValueError):
            message = f"Got {score!r} from the scorer {self.name!r}, but expected a number."
            raise TypeError(message) from None
        except OverflowError:
            score = inf  # an integer above all floats
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
        return Score(estimator, SCORERS[scoring], scoring, asks_methods_only=True)
    names = sorted({*get_scorer_names(), *SCORERS})
    if scoring not in names:
        close = " or ".join(map(repr, get_close_matches(scoring, names)))
        hint = f" Did you mean {close}?" if close else ""
        raise ValueError(f"Got an unknown scoring={scoring!r}.{hint} Expected one of {names}.")
    return Score(estimator, get_scorer(scoring), scoring, asks_methods_only=True)


def make_scores(estimator, scoring, *, counts_labels):
    """Return what a parameter `scoring` asks for.

    Parameters
    ----------
    estimator : object
        Fitted.
    scoring : None, str, callable, list of str, or dict of str -> None, str or callable
        Several scores are a list of names, or a dict.
    counts_labels : bool
        Whether predictions are labels to be counted.

    Returns
    -------
    scores : dict of str -> Score or None
        None for accuracy, which is counted.

    Raises
    ------
    TypeError, ValueError
        As `make_score`, or if a list or dict is empty, has names twice or keys that are no strings.
    """
    named = _named_scorings(scoring)
    scores = {name: make_score(estimator, one) for name, one in named.items()}
    return {
        (name if several(scoring) else score.name): None
        if counts_labels and is_accuracy(estimator, named[name])
        else score
        for name, score in scores.items()
    }


def several(scoring):
    """Say whether `scoring` asks for several scores."""
    return isinstance(scoring, list | tuple | set | dict)


def _named_scorings(scoring):
    if not several(scoring):
        return {"": scoring}
    if not scoring:
        raise ValueError(f"Got scoring={scoring!r}, but expected at least one score.")
    names = list(scoring)
    if not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"Got scoring={scoring!r}, but expected names of scorers, or a dict whose keys are "
            "strings."
        )
    if len(set(names)) < len(names):
        raise ValueError(f"Got scoring={scoring!r}, but expected each name once.")
    return scoring if isinstance(scoring, dict) else dict(zip(names, names, strict=True))


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


@dataclass(frozen=True, eq=False)
class Predictions:
    """Labels that an estimator predicts for samples, each set of them asked for once.

    Parameters
    ----------
    estimator : object
        Fitted.
    samples : Samples
    batch_size : int or None, default=None
        Rows per call of ``predict``; None bounds them by memory.
    """

    estimator: object
    samples: Samples
    batch_size: int | None = None

    def of(self, flat):
        """Predict flat samples, all in one call: one label each."""
        return self.read(self.estimator.predict(self.samples.restore(flat)), len(flat))

    def of_all(self, flat):
        """Predict flat samples in one call; where memory runs out, in several that give the same.

        Raises
        ------
        MemoryError, RuntimeError
            Where memory runs out and the labels depend on the batch.
        """
        try:
            return self.of(flat)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or self.depend_on_batch:
                raise
        return self.of_few(flat)

    def of_few(self, flat):
        """Predict flat samples in one call, unless memory runs out."""
        return np.concatenate(in_chunks(lambda some: self.of(flat[some]), len(flat), len(flat)))

    def each(self, copies, n_copies):
        """Predict samples in batches, which become smaller where memory runs out.

        Parameters
        ----------
        copies : callable
            Slice -> flat samples, which the estimator may write to.
        n_copies : int

        Returns
        -------
        labels : ndarray of shape (n_copies,)
        """
        parts = in_chunks(lambda some: self.of(copies(some)), n_copies, self.batch_rows)
        return np.concatenate(parts)

    @staticmethod
    def read(labels, n_samples):
        """Return predictions as an array, one label per sample."""
        labels = np.asarray(labels)
        if labels.shape != (n_samples,):
            raise ValueError(
                f"Got predictions of shape {labels.shape}, but expected ({n_samples},): "
                "one label per sample."
            )
        return labels

    def in_batches(self, flat):
        """Predict flat samples, which the estimator may write to, a part of them at a time."""
        batches = range(0, len(flat), self.batch_rows)
        return np.concatenate([self.of(flat[start : start + self.batch_rows]) for start in batches])

    @property
    def batch_rows(self):
        """Rows per call of ``predict``."""
        return self.batch_size or self.samples.part_rows  # estimators take a few copies

    def hidden(self, rows, features, fill):
        """Predict the samples `rows` with `features` replaced by their fill."""
        hidden = self.samples.hidden
        return self.each(lambda part: hidden(rows[part], features, fill), len(rows))

    def ask_hidden(self, features, fill, method):
        """Return a method's answer about all samples with `features` replaced by their fill."""
        samples, rows = self.samples, np.arange(len(self.samples))

        def answer(part):
            return method(samples.restore(samples.hidden(rows[part], features, fill)))

        return np.concatenate(in_chunks(answer, len(rows), self.batch_rows))

    @cached_property
    def bare(self):
        """Labels with nothing hidden, of shape (n_samples,)."""
        rows = np.arange(len(self.samples))
        return self.each(lambda part: self.samples.take(rows[part]), len(rows))

    @cached_property
    def probed(self):
        """Labels of the probe rows, predicted together."""
        return self.of_few(self.samples.take(self.samples.probe_rows))

    @cached_property
    def depend_on_batch(self):
        """Whether the labels of the probe rows depend on what else is in the batch.

        Every other one of them is predicted again in reversed order, and 8 alone; random
        predictions too show up as differences.
        """
        half = np.arange(0, len(self.probed), 2)[::-1]
        batches = [half, *np.split(half, len(half))[:N_ALONE]]
        rows = self.samples.probe_rows
        return not all(
            np.array_equal(self.probed[some], self.of_few(self.samples.take(rows[some])))
            for some in batches
        )

    def check_kind(self, y):
        """Raise ValueError unless the labels of the probe rows are of the same kind as `y`."""
        probed = self.probed
        try:
            with checks_lock:
                accuracy_score(y[self.samples.probe_rows], probed)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"Got predictions like {self.probed[:1].tolist()} for targets like "
                f"{y[:1].tolist()}, but expected labels of the same kind: {error}"
            ) from error

    def warn_if_constant(self, y):
        """Warn if all probe rows have the same label, though those of `y` differ."""
        y = y[self.samples.probe_rows]
        if len(y) < FEWEST_TO_JUDGE or (y == y[0]).all() or (self.probed != self.probed[0]).any():
            return
        warn(
            f"Got the label {self.probed[:1].tolist()[0]!r} from {type(self.estimator).__name__} "
            f"for each of {len(y)} samples, but y has others, too: there is nothing to explain. Is "
            "X scaled as it was at fit?",
            ConstantPredictionWarning,
        )

    def warn_if_unknown(self, y):
        """Warn if `y` has labels that the classifier does not know and never predicts."""
        classes = getattr(self.estimator, "classes_", None)
        if not is_known_classifier(self.estimator) or not isinstance(classes, np.ndarray):
            return
        known = set(classes.ravel().tolist())
        unknown = [label for label in y.tolist() if label not in known]
        if unknown:
            warn(
                f"Got the label {unknown[0]!r}, but {type(self.estimator).__name__} knows labels "
                f"such as {classes[:3].tolist()}: {len(unknown)} of {len(y)} samples have a label "
                "that it never predicts and are wrong whatever is hidden.",
                UserWarning,
            )

    def are_labels_like(self, y):
        """Say whether the estimator is a classifier with labels of the same kind as `y`."""
        estimator = self.estimator
        if y.ndim != 1 or not is_known_classifier(estimator) or not hasattr(estimator, "predict"):
            return False
        try:
            self.check_kind(y)
        except ValueError:
            return False
        return True
