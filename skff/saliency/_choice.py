"""Which engine scores the occluded data."""

import warnings

import numpy as np

from skff.saliency._pipelines import find_occlusion_predictor


def choose_engine(name, task):
    """Return the name of the engine to use, after checking that it is valid.

    Parameters
    ----------
    name : {"auto", "score", "predict", "incremental"}
        "auto" takes the last that is valid.
    task : Task

    Returns
    -------
    name : str

    Raises
    ------
    ValueError
        If the engine named is not valid for the task.
    """
    has_door = _has_door(task)
    if name == "score" or (name == "auto" and not task.accuracy):
        return "score"
    if not task.accuracy:
        raise ValueError(
            f"Got engine={name!r} with the score {task.score.name!r} of "
            f"{type(task.estimator).__name__}, but expected the score to be accuracy and y to "
            "have one axis: this engine counts correct predictions. Use engine='score'."
        )
    if name == "incremental" and not has_door:
        raise ValueError(
            f"Got engine='incremental' with {type(task.estimator).__name__}, but expected an "
            "estimator that has `occlusion_predictor`, or a Pipeline of scalers that ends in one, "
            "and X with 2 axes."
        )
    if name == "incremental" or (name == "auto" and has_door):
        return "incremental"
    return _predict_or_score(name, task)


def _has_door(task):
    one_sample = task.samples.restore(task.samples.values[:1])
    return find_occlusion_predictor(task.estimator) is not None and np.ndim(one_sample) == 2


def _predict_or_score(name, task):
    if task.row_by_row:
        return "predict"
    reason = (
        f"Got different predictions from {type(task.estimator).__name__} for the same rows in "
        "another batch, but expected none to depend on the batch"
    )
    if name == "predict":
        raise ValueError(f"{reason}: use engine='score'.")
    warnings.warn(f"{reason}: used engine='score', set it to silence this.", stacklevel=4)
    return "score"
