"""Access to an estimator's fast predictions under occlusion, and whether they can be trusted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from skff.saliency._samples import FixedFill

# They transform every feature separately, so hiding a feature before or after is the same.
FEATURE_WISE = {
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
}
N_PROBE_WINDOWS = 8
Transformer = TypeVar("Transformer", bound=type)


@runtime_checkable
class OcclusionPredictor(Protocol):
    """Interface of the object that ``estimator.occlusion_predictor(X, fill=fill)`` returns.

    An estimator that can predict faster when only a few features change can provide the method
    ``occlusion_predictor(X, *, fill)``, with `fill` of shape (1, n_features) or that of `X`.
    :class:`~skff.ADSExplainer` then uses the object that it returns, which must be picklable for
    ``n_jobs``. It is used only if its labels agree with ``estimator.predict``: for all samples with
    nothing hidden, and for some samples with a few of the windows hidden.

    Examples
    --------
    A classifier by nearest class means, whose distances are sums over the features:

    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import NearestCentroid
    >>> from skff.saliency import ADSExplainer
    >>> class FastCentroid(NearestCentroid):
    ...     def occlusion_predictor(self, X, *, fill):
    ...         return Predictor(self, np.asarray(X), np.broadcast_to(fill, np.shape(X)))
    >>> class Predictor:
    ...     def __init__(self, model, X, fill):
    ...         self.classes = model.classes_
    ...         self.parts, self.hidden = (
    ...             (values[:, None] - model.centroids_) ** 2 for values in (X, fill)
    ...         )  # (n_samples, n_classes, n_features)
    ...
    ...     def predict_many(self, rows, windows):
    ...         parts, hidden = self.parts[rows], self.hidden[rows]
    ...         changes = [(hidden - parts)[:, :, window].sum(axis=2) for window in windows]
    ...         nearest = [(parts.sum(axis=2) + change).argmin(axis=1) for change in changes]
    ...         return self.classes[np.array(nearest)], {"windows": len(windows)}
    >>> X, y = load_iris(return_X_y=True)
    >>> ADSExplainer(FastCentroid().fit(X, y), window_shape=1).explain(X, y).engine
    'incremental'
    """

    def predict_many(
        self, rows: np.ndarray, windows: list[np.ndarray]
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Predict some samples once per window, with the window's features set to the fill.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,)
            Indices of samples.
        windows : list of ndarray
            Indices of the features that each window hides; may be empty.

        Returns
        -------
        labels : ndarray of shape (n_windows, n_rows)
            The labels that ``estimator.predict`` would give.
        counts : dict of str -> int
            Counts that the predictor kept during this call; they are summed over calls and appear
            in ``explanation.engine_stats``. May be empty. As many labels as it counts as
            ``"near_ties"`` may differ from those of ``predict``: if the scores of two classes agree
            to within rounding, either label is correct.
        """


def register_feature_wise(transformer: Transformer) -> Transformer:
    """Declare that a transformer treats every feature separately.

    The occlusion predictor of the last step of a Pipeline is used only if all steps before it are
    registered in this way, as scikit-learn's scalers are. Hiding a feature before such a step must
    give the same result as hiding it after the step, with the transformed fill.

    Parameters
    ----------
    transformer : type
        The class; subclasses are not included. The function can be used as a decorator.

    Returns
    -------
    transformer : type

    Raises
    ------
    TypeError
        If it is not a class with ``transform``.

    Examples
    --------
    >>> from sklearn.base import BaseEstimator, TransformerMixin
    >>> from skff.saliency import register_feature_wise
    >>> @register_feature_wise
    ... class Halve(TransformerMixin, BaseEstimator):
    ...     def fit(self, X, y=None):
    ...         return self
    ...
    ...     def transform(self, X):
    ...         return X / 2
    """
    if not (isinstance(transformer, type) and callable(getattr(transformer, "transform", None))):
        raise TypeError(f"Got {transformer!r}, but expected a class that has a method transform.")
    FEATURE_WISE.add(transformer)
    return transformer


def find_door(estimator):
    """Return what makes an occlusion predictor for a fitted estimator, or None.

    That is its method ``occlusion_predictor``. A search has that of its best estimator, and a
    Pipeline that of its last step, if all others transform every feature on its own: data and
    fill are then transformed once.

    Parameters
    ----------
    estimator : object
        Fitted.

    Returns
    -------
    door : callable or None
        ``door(X, fill=fill)`` returns an :class:`OcclusionPredictor`.
    """
    # Subclasses may predict in ways of their own.
    if type(estimator) in (GridSearchCV, RandomizedSearchCV):
        return find_door(getattr(estimator, "best_estimator_", None))
    if type(estimator) is not Pipeline:
        return getattr(estimator, "occlusion_predictor", None)
    *before, last = [step for _, step in estimator.steps]
    before = [step for step in before if step not in (None, "passthrough")]
    door = find_door(last)
    if door is None or not all(type(step) in FEATURE_WISE for step in before):
        return None
    return partial(_open_behind, before, door)


def _open_behind(steps, door, X, *, fill):
    fill = type(X)(fill, columns=X.columns) if hasattr(X, "iloc") else fill
    for step in steps:
        X, fill = step.transform(X), step.transform(fill)
    return door(X, fill=fill)


def open_door(task):
    """Make the estimator's occlusion predictor and compare it with ``predict``.

    Parameters
    ----------
    task : Task
        Whose predictions do not depend on the batch.

    Returns
    -------
    predictor : OcclusionPredictor or None
        None where there is none, or none to be believed.
    reason : str or None
        Why it is not believed; None if it is, or if there is no door.
    """
    door = find_door(task.estimator)
    samples = task.samples
    if door is None or not samples.is_table or not isinstance(samples.fill, FixedFill):
        return None, None
    name = type(task.estimator).__name__
    try:
        predictor, opened = _open(door, samples)
    except MemoryError:
        raise
    except Exception as error:  # of code that is not ours, which may fail in any way
        reason = f"{type(error).__name__} ({error}) from the occlusion_predictor of {name}"
        return None, f"Got {reason}, but expected a predictor"
    if not isinstance(opened, OcclusionPredictor):
        return None, (
            f"Got {type(opened).__name__} from the occlusion_predictor of {name}, but expected "
            "an object with a method predict_many(rows, windows)"
        )
    expected = "but expected those of its predict"
    everyone, nothing = np.arange(len(samples)), [np.arange(0)]
    difference = _difference(predictor, everyone, nothing, task.predictions.bare[np.newaxis])
    if difference is not None:
        return None, f"Got {difference} from the occlusion_predictor of {name}, {expected}"
    rows = samples.probe_rows
    some = np.unique(np.linspace(0, task.n_windows - 1, N_PROBE_WINDOWS).astype(int))
    copies = [samples.hidden(rows, *task.window(window)) for window in some]
    labels = np.stack([task.predictions.of_few(copy) for copy in copies])
    difference = _difference(predictor, rows, [task.regions[window] for window in some], labels)
    if difference is not None:
        where = "with some windows hidden"
        return None, f"Got {difference} from the occlusion_predictor of {name} {where}, {expected}"
    return predictor, None


def _open(door, samples):
    """Return a predictor for all samples, and what the door itself returned for some of them."""
    if samples.is_very_large or (samples.is_large and samples.is_in_file):
        predictor = PartwisePredictor(door, samples)
        return predictor, predictor.open(samples.probe_rows).opened
    values = samples.values.astype(samples.dtype, copy=False)
    predictor = door(samples.restore(values), fill=samples.fill.array)
    return predictor, predictor


class PartwisePredictor:
    """Opens the door for one part of large samples at a time: it may transform or copy them.

    Parameters
    ----------
    door : callable
        From `find_door`.
    samples : Samples
        With a fill that does not know the window.
    """

    def __init__(self, door, samples):
        self.door, self.samples = door, samples

    def open(self, rows):
        """Return a predictor for the samples `rows`, indices in their order, alone."""
        fill = self.samples.fill.array
        X = self.samples.restore(self.samples.take(rows))
        return _Part(rows, self.door(X, fill=fill if len(fill) == 1 else fill[rows]))

    def predict_many(self, rows, windows):
        """Predict some samples once per window, see :class:`OcclusionPredictor`."""
        answers, totals = [], Counter()
        for part in self.samples.parts(rows):
            labels, counts = read_labels(self.open(part), part, windows)
            answers.append(labels)
            totals.update(counts)
        return np.concatenate(answers, axis=1), dict(totals)


@dataclass(frozen=True, eq=False)
class _Part:
    """A predictor for the samples `rows`, that goes by their indices among all."""

    rows: np.ndarray
    opened: OcclusionPredictor

    def predict_many(self, rows, windows):
        return self.opened.predict_many(np.searchsorted(self.rows, rows), windows)


def read_labels(predictor, rows, windows):
    """Return a predictor's labels, of shape (n_windows, n_rows), and counts.

    Raises
    ------
    ValueError
        If they are not what :class:`OcclusionPredictor` promises.
    """
    answer = predictor.predict_many(rows, windows)
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict)):
        raise ValueError(
            f"Got {type(answer).__name__} from predict_many, but expected a pair: an array of "
            "labels and a dict of counts."
        )
    if not all(isinstance(count, Real) for count in answer[1].values()):
        raise ValueError(f"Got counts {answer[1]} from predict_many, but expected numbers.")
    labels, shape = np.asarray(answer[0]), (len(windows), len(rows))
    if labels.shape != shape:
        raise ValueError(
            f"Got labels of shape {labels.shape} from predict_many, but expected {shape}: "
            "windows, rows."
        )
    return labels, answer[1]


def _difference(predictor, rows, windows, expected):
    """Return in what the predictor's answer differs from the `expected` labels, or None."""
    try:
        labels, counts = read_labels(predictor, rows, windows)
    except MemoryError:
        raise
    except Exception as error:  # of code that is not ours, which may fail in any way
        return f"an answer that is none ({type(error).__name__}: {error})"
    same = labels == expected
    n_wrong = labels.size - int(np.sum(same)) if np.shape(same) == labels.shape else labels.size
    # Where two classes' scores agree to rounding, no label is the right one.
    if n_wrong <= counts.get("near_ties", 0):
        return None
    return f"{n_wrong} other labels of {labels.size}"
