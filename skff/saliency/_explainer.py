"""Accuracy Differential Saliency of any fitted estimator."""

import warnings

import numpy as np
from sklearn.base import BaseEstimator, is_classifier
from sklearn.utils import check_random_state, get_tags, resample
from sklearn.utils.validation import check_is_fitted

from skff.saliency._checks import (
    check_choice,
    check_count,
    check_lengths,
    check_max_samples,
    check_n_jobs,
    check_target,
    check_verbose,
    check_weight,
)
from skff.saliency._engines import ENGINES, Task
from skff.saliency._explanation import ADSExplanation
from skff.saliency._fills import resolve_fill
from skff.saliency._samples import Samples, check_finite, make_restore, read_array
from skff.saliency._scoring import is_accuracy, make_score, predicts_row_by_row
from skff.saliency._tally import Truth
from skff.saliency._windows import AGGREGATES, sliding_windows


class ADSExplainer(BaseEstimator):
    """Map how much of a fitted estimator's score each region of its input carries.

    For every window w, Accuracy Differential Saliency is the score on the data minus the score on
    the same data with w hidden: positive where hiding hurts, in units of the score. It is a map of
    the whole data set, not of one sample.

    Parameters
    ----------
    estimator : object
        Fitted. Anything with ``score(X, y)``, or with what `scoring` calls: a classifier,
        regressor, Pipeline, search or skorch net.
    window_shape : int or tuple of int, default=3
        Side or sides of the window in pixels; odd with ``aggregate="center"``. A window covers
        all channels.
    stride : int or tuple of int, default=1
        Distance between windows in pixels, at most `window_shape`.
    image_shape : tuple of int or None, default=None
        (H, W), (H, W, C) with channels last, or (L,) for sequences. None takes the trailing axes
        when X has more than 2, which makes (n, C, H, W) an image of C channels; otherwise a square
        image when the number of features is a perfect square of at least 64, else a sequence.
    fill : float, "mean", array-like or callable, default=0.0
        What hidden features become: a number, each feature's mean over the samples used, an array
        of a sample's shape, or a callable that gets X and returns an array that broadcasts to it,
        a blurred X for example.
    aggregate : {"center", "coverage"}, default="center"
        "center": windows are centred on every `stride`-th pixel and clipped at the border, and
        each pixel takes the difference of the window with the nearest centre. "coverage":
        windows lie inside the image, from the first pixel on, and each pixel takes the mean
        difference of the windows that cover it.
    scoring : None, str or callable, default=None
        None is ``estimator.score``; otherwise a scorer's name or ``scorer(estimator, X, y)``.
    engine : {"auto", "score", "predict", "incremental"}, default="auto"
        How the occluded data is scored; all engines agree. "score": any score, the whole data once
        per window. "predict": accuracy only, re-predicts only the rows that a window changes.
        "incremental": accuracy only, asks ``estimator.occlusion_predictor(X, fill=fill)``. "auto"
        is the last of these that is valid. The last two need predictions that do not depend on
        the batch; "auto" checks that on some rows.
    n_jobs : int or None, default=None
        Number of joblib workers. The result does not depend on it.
    batch_size : int or None, default=None
        Rows per call of ``predict``; None bounds a batch by memory (32 MB).
    max_samples : int, float or None, default=None
        Number or share of samples to use, drawn once without replacement, stratified by class for
        classifiers. None uses all.
    random_state : int, RandomState instance or None, default=None
        Determines which samples are drawn.
    verbose : int, default=0
        Shows progress with the time left if above 0.

    References
    ----------
    .. [1] M. Bakhshi, "Novel Saliency Analysis for the Forward-Forward Algorithm",
       arXiv:2409.15365, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skff.saliency import ADSExplainer
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression(tol=0.01).fit(X[:800] / 16, y[:800])
    >>> explanation = ADSExplainer(model).explain(X[800:] / 16, y[800:])
    >>> explanation.importances.shape
    (8, 8)
    >>> bool(explanation.importances[4, 4] > explanation.importances[0, 0])
    True
    """

    def __init__(
        self,
        estimator,
        *,
        window_shape=3,
        stride=1,
        image_shape=None,
        fill=0.0,
        aggregate="center",
        scoring=None,
        engine="auto",
        n_jobs=None,
        batch_size=None,
        max_samples=None,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.window_shape = window_shape
        self.stride = stride
        self.image_shape = image_shape
        self.fill = fill
        self.aggregate = aggregate
        self.scoring = scoring
        self.engine = engine
        self.n_jobs = n_jobs
        self.batch_size = batch_size
        self.max_samples = max_samples
        self.random_state = random_state
        self.verbose = verbose

    def explain(self, X, y, sample_weight=None):
        """Map the loss of score under hiding.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or \
                (n_samples, C, H, W), or DataFrame
            Data in the form the estimator predicts from. Never modified; may be read-only.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True targets.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Non-negative weights of the samples in the score. Samples of weight 0 are left out.

        Returns
        -------
        explanation : ADSExplanation

        Raises
        ------
        TypeError
            If a parameter has the wrong type, X is sparse, or the estimator has no ``score``
            where it is needed.
        ValueError
            If a parameter is out of range or does not fit the others, X has NaN (unless the
            estimator allows it) or infinity, sizes do not match, or a score is not finite.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        self._check_parameters()
        values, sample_shape = read_array(X)
        _check_features(self.estimator, sample_shape)
        y, weight = check_target(y, len(values)), check_weight(sample_weight, len(values))
        windows = sliding_windows(
            sample_shape,
            image_shape=self.image_shape,
            window_shape=self.window_shape,
            stride=self.stride,
            aggregate=self.aggregate,
        )
        check_finite("X", values, allow_nan=_allows_nan(self.estimator))
        X, y, weight = self._draw_samples(X, y, weight)
        task = self._make_task(self._make_samples(X, windows), y, weight, windows)
        engine = self._choose_engine(task)
        return self._assemble(ENGINES[engine](task), task, engine, windows)

    def _check_parameters(self):
        check_choice("aggregate", self.aggregate, AGGREGATES)
        check_choice("engine", self.engine, ["auto", *ENGINES])
        check_count("batch_size", self.batch_size, optional=True)
        check_n_jobs(self.n_jobs)
        check_verbose(self.verbose)
        check_random_state(self.random_state)
        make_score(self.estimator, self.scoring)
        if isinstance(self.estimator, BaseEstimator) and hasattr(self.estimator, "fit"):
            check_is_fitted(self.estimator)

    def _draw_samples(self, X, y, weight):
        rows = np.arange(len(y)) if weight is None else np.flatnonzero(weight)
        n_drawn = check_max_samples(self.max_samples, len(rows))
        if n_drawn < len(rows):
            by_class = y[rows] if _is_classifier(self.estimator) and y.ndim == 1 else None
            rows = np.sort(
                resample(
                    rows,
                    replace=False,
                    n_samples=n_drawn,
                    stratify=by_class,
                    random_state=self.random_state,
                )
            )
        if len(rows) == len(y):
            return X, y, weight
        X = X.iloc[rows] if hasattr(X, "iloc") else np.asarray(X)[rows]
        return X, y[rows], None if weight is None else weight[rows]

    def _make_samples(self, X, windows):
        values, sample_shape = read_array(X)
        n_channels = windows.pixel_features.shape[1]
        pixel_shape = (*windows.image_shape, n_channels)
        fill, values = resolve_fill(self.fill, X, values, sample_shape, pixel_shape)
        check_finite("fill", fill, allow_nan=_allows_nan(self.estimator))
        return Samples(values, fill, make_restore(X, sample_shape, fill))

    def _make_task(self, samples, y, weight, windows):
        truth = Truth(y, weight)
        if is_accuracy(self.estimator, self.scoring) and y.ndim == 1:
            classes, codes = np.unique(y, return_inverse=True)
            truth = Truth(y, weight, classes, codes)
        return Task(
            estimator=self.estimator,
            samples=samples,
            truth=truth,
            windows=windows.features(),
            score=make_score(self.estimator, self.scoring),
            batch_size=self.batch_size,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )

    def _choose_engine(self, task):
        """Return the name of the engine to use, after checking that it is valid."""
        accuracy = task.truth.classes is not None
        has_door = hasattr(self.estimator, "occlusion_predictor") and task.samples.is_table
        if self.engine == "score" or (self.engine == "auto" and not accuracy):
            return "score"
        if not accuracy:
            raise ValueError(
                f"Got engine={self.engine!r} with scoring={self.scoring!r} and "
                f"{type(self.estimator).__name__}, but expected the score to be accuracy and y to "
                "have one axis: this engine counts correct predictions. Use engine='score'."
            )
        if self.engine == "incremental" and not has_door:
            raise ValueError(
                f"Got engine='incremental' with {type(self.estimator).__name__} and samples of "
                f"shape {task.samples.restore(task.samples.values[:1]).shape[1:]}, but expected "
                "an estimator that has `occlusion_predictor` and X with 2 axes."
            )
        if self.engine == "incremental" or (self.engine == "auto" and has_door):
            return "incremental"
        return self._check_rows_alone(task)

    def _check_rows_alone(self, task):
        if predicts_row_by_row(self.estimator, task.samples, task.truth.y):
            return "predict"
        reason = (
            f"Got different predictions from {type(self.estimator).__name__} for the same rows "
            "in another batch, but expected none to depend on the batch"
        )
        if self.engine == "predict":
            raise ValueError(f"{reason}: use engine='score'.")
        warnings.warn(f"{reason}: used engine='score', set it to silence this.", stacklevel=4)
        return "score"

    def _assemble(self, scores, task, engine, windows):
        def to_map(values):
            return None if values is None else windows.to_map(values)

        n_axes = len(windows.image_shape)
        return ADSExplanation(
            importances=to_map(scores.baseline_score - scores.window_scores),
            baseline_score=scores.baseline_score,
            window_scores=scores.window_scores,
            # For "coverage" the mean of standard errors, never below the error of the mean.
            standard_error=to_map(scores.standard_error),
            per_class=to_map(scores.class_losses),
            classes=_plain_labels(task.truth.classes),
            image_shape=windows.image_shape,
            window_shape=check_lengths("window_shape", self.window_shape, n_axes),
            stride=check_lengths("stride", self.stride, n_axes),
            window_centers=windows.centers,
            aggregate=self.aggregate,
            scoring=task.score.name,
            n_samples=len(task.samples),
            engine=engine,
            engine_stats=scores.stats,
        )


def _check_features(estimator, sample_shape):
    expected = getattr(estimator, "n_features_in_", None)
    if len(sample_shape) == 1 and expected is not None and sample_shape[0] != expected:
        raise ValueError(
            f"Got X with {sample_shape[0]} features, but expected {expected}: "
            f"{type(estimator).__name__} was fitted with {expected} features."
        )


def _is_classifier(estimator):
    return hasattr(estimator, "__sklearn_tags__") and is_classifier(estimator)


def _allows_nan(estimator):
    return hasattr(estimator, "__sklearn_tags__") and get_tags(estimator).input_tags.allow_nan


def _plain_labels(classes):
    """Turn an object array of strings into one that can be saved without pickle."""
    if classes is not None and all(isinstance(label, str) for label in classes):
        return classes.astype(str)
    return classes
