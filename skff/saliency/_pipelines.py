"""The door to fast predictions under occlusion: an estimator's own, or through what wraps it."""

from functools import partial

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

# They transform every feature on its own, so that hiding a feature before is hiding it after.
FEATURE_WISE = (
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)


def find_occlusion_predictor(estimator):
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
    make : callable or None
        ``make(X, fill=fill)`` returns an object with ``predict(rows, pixels)``.
    """
    # Subclasses may predict in ways of their own.
    if type(estimator) in (GridSearchCV, RandomizedSearchCV):
        return find_occlusion_predictor(getattr(estimator, "best_estimator_", None))
    if type(estimator) is not Pipeline:
        return getattr(estimator, "occlusion_predictor", None)
    *before, last = [step for _, step in estimator.steps]
    before = [step for step in before if step not in (None, "passthrough")]
    make = find_occlusion_predictor(last)
    if make is None or not all(type(step) in FEATURE_WISE for step in before):
        return None
    return partial(_make_behind, before, make)


def _make_behind(steps, make, X, *, fill):
    fill = type(X)(fill, columns=X.columns) if hasattr(X, "iloc") else fill
    for step in steps:
        X, fill = step.transform(X), step.transform(fill)
    return make(X, fill=fill)
