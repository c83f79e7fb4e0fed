"""Accuracy Differential Saliency of any fitted estimator."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from math import ceil, prod
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state, estimator_html_repr
from sklearn.utils._param_validation import Interval, StrOptions

from skff._links import DOC_LINK
from skff._versions import with_version, without_version
from skff._warnings import each_once, warn
from skff.saliency._checkpoint import Journal, open_journal
from skff.saliency._counts import make_targets
from skff.saliency._engines import ENGINES, Task, choose_engine
from skff.saliency._explanation import ADSExplanation
from skff.saliency._parameters import (
    COUNT,
    IMAGE_SHAPE,
    LENGTHS,
    LEVEL,
    MAX_SAMPLES,
    N_JOBS,
    check_lengths,
    check_parameters,
)
from skff.saliency._regions import (
    AGGREGATES,
    Regions,
    group_regions,
    hint_at_images,
    lay_out_pixels,
    sliding_windows,
)
from skff.saliency._samples import (
    check_fitted,
    count_samples,
    draw_samples,
    make_samples,
    read_data,
)
from skff.saliency._scoring import Predictions, is_accuracy, make_scores, several
from skff.saliency._sequential import StoppingRule

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

FEW_SAMPLES = 2000  # up to this number, coarse windows use all samples
MIN_COARSE = 500  # smallest number of samples for coarse windows if there are more


class ADSExplainer(BaseEstimator):
    """Map how much the score of a fitted estimator depends on each region of its input.

    For every window w, Accuracy Differential Saliency is the score on the data minus the score on
    the same data with w hidden. It is positive where hiding lowers the score, and in units of the
    score. The map describes the whole data set, not one sample.

    Parameters
    ----------
    estimator : object
        Fitted estimator with a method ``score(X, y)``, or with the methods that `scoring` calls:
        a classifier, regressor, Pipeline, search or skorch net.
    window_shape : int or tuple of int, default=3
        Side or sides of the window in pixels; odd with ``aggregate="center"``. A window covers
        all channels.
    stride : int or tuple of int, default=1
        Distance between windows in pixels, at most `window_shape`.
    image_shape : tuple of int or None, default=None
        (H, W), (H, W, C) with channels last, or (L,) for sequences. With None, the shape is that
        of the trailing axes if X has more than 2 axes; (n, C, H, W) is an image with C channels.
        Otherwise it is a square image if the number of features is a perfect square of at least
        64, and a sequence if not.
    fill : float, str, array-like, callable or fill, default=0.0
        Replacement for hidden features: a number, an array of a sample's shape, or a callable
        that receives X and returns an array that broadcasts to it. The fills of
        :mod:`skff.saliency.fills`, by name ("mean", "blur", "permute", "conditional", "inpaint")
        or as objects, give more plausible values, some of them depending on which other features
        are hidden. You can also pass your own fill: an object with
        ``sample(X, pixels, random_state)``, or a callable with these three arguments. All fills
        learn from the samples used, each with the same weight.
    n_repeats : int, default=5
        Number of draws of a random fill per window. The score with the window hidden is the mean
        over the draws, and their spread is part of the standard error. Fills that are not random
        are drawn once.
    channels : {"joint", "separate"}, default="joint"
        "joint": a window hides all channels of its pixels. "separate": a window hides one channel
        at a time, and ``explain`` returns a list with one explanation per channel.
    aggregate : {"center", "coverage"}, default="center"
        "center": windows are centred on every `stride`-th pixel, starting with the first (and on
        the last pixel if it would not be covered otherwise), and clipped at the border; each pixel
        gets the drop of the window with the nearest centre. "coverage": windows lie inside the
        image, starting at the first pixel, with the last one cut off at the border; each pixel
        gets the mean drop of the windows that cover it.
    mask : ndarray of bool of the shape of the map, or None, default=None
        Pixels to explain; the others become NaN. Windows still hide pixels outside the mask, so
        the values inside equal those of the whole map. None explains all pixels.
    groups : ndarray, dict, list or None, default=None
        Groups of pixels that are hidden together, instead of windows; `window_shape`, `stride`
        and `aggregate` are then ignored. An array of the shape of the map labels every pixel with
        its group (superpixels). A dict of name to members, or a list of members, gives each group
        as flat indices of pixels, DataFrame columns, or a boolean array of the shape of the map.
        Each pixel gets the mean over its groups, and NaN if it is in none.
    scoring : None, str, callable, list or dict, default=None
        None is ``estimator.score``; otherwise the name of a scorer or a callable
        ``scorer(estimator, X, y)``. With a list of names, or a dict of names to any of these, all
        scores are computed in one pass and ``explain`` returns a dict with one explanation per
        score. Besides scikit-learn's names, "margin" is the mean difference between the decision
        value of the true class and the largest other one, see
        :func:`~skff.saliency.scorers.margin`. Use "margin" or "neg_log_loss" to explain a few
        samples or a single one.
    engine : {"auto", "score", "predict", "incremental"}, default="auto"
        How the occluded data are scored; all engines give the same result. "score": any score;
        scores the whole data once per window. "predict": accuracy only; predicts only the rows
        that a window changes. "incremental": accuracy only; uses
        ``estimator.occlusion_predictor(X, fill=fill)``, also in a search and in a Pipeline after
        scalers. "auto" is the last of these that is valid. "predict" and "incremental" need
        predictions that do not depend on the batch, and "incremental" a predictor with the same
        labels as ``predict``. Both are checked on some rows; a failed check raises an error, or
        issues a warning with "auto".
    n_jobs : int or None, default=None
        Number of joblib workers. The result does not depend on it.
    batch_size : int or None, default=None
        Number of rows per call of ``predict``; None limits a batch to 4 million values.
    max_samples : int, float or None, default=None
        Number or share of samples to use, drawn once without replacement, stratified by class for
        classifiers. None uses all.
    target_precision : float or None, default=None
        None uses all samples for every window. A number turns on the sequential mode, for
        accuracy only: samples are processed in rounds, and a window stops as soon as the sign of
        its drop is established at level `alpha`, or its drop is known to within
        `target_precision` (accuracy, in (0, 1)). The bounds are those of a confidence sequence,
        which are valid whenever a window stops. Explanations then have no `fold_importances`, and
        p-values are anytime-valid.
    top_k : int or None, default=None
        In the sequential mode, windows stop when it is known whether their drop is among the
        `top_k` largest, instead of when its sign is known.
    alpha : float, default=0.05
        Level of the sequential mode, for each window, and significance level for `refine`.
    refine : int, tuple of int or None, default=None
        Shape of finer windows that explain, at `stride`, only the pixels that the windows of
        `window_shape` find significant at `alpha`. The coarse windows have strides of a
        third of their sides, but at least 2, and with more than 2,000 samples use only a part of
        them. Pixels that are not
        refined are NaN, with a p-value of 1. None explains all pixels with windows of one shape.
    random_state : int, RandomState instance or None, default=None
        Determines which samples are drawn, and random fills.
    verbose : int, default=0
        If above 0, shows progress and the time left.
    checkpoint : str, path-like or None, default=None
        File for intermediate results, written during `explain`. If the file exists, the
        explanation resumes from it and gives the same result as without an interruption. Each file
        belongs to one explanation: if the data, the estimator, a parameter or a version differs,
        an error is raised. The file remains after the explanation has finished, and the same call
        then returns at once; delete the file to start afresh. None writes no file.
    checkpoint_every : float, default=60
        Seconds, at least 0, between two writes of the file, which happen at the end of a block of
        work.

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

    # The others are checked where they are used: `estimator`, `fill` and `scoring`.
    _parameter_constraints = {
        "window_shape": LENGTHS,
        "stride": LENGTHS,
        "image_shape": IMAGE_SHAPE,
        "n_repeats": [COUNT],
        "channels": [StrOptions({"joint", "separate"})],
        "aggregate": [StrOptions(set(AGGREGATES))],
        "mask": [np.ndarray, None],
        "groups": [np.ndarray, dict, list, tuple, None],
        "engine": [StrOptions({"auto", *ENGINES})],
        "n_jobs": N_JOBS,
        "batch_size": [COUNT, None],
        "max_samples": MAX_SAMPLES,
        "target_precision": [LEVEL, None],
        "top_k": [COUNT, None],
        "alpha": [LEVEL],
        "refine": [*LENGTHS, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
        "checkpoint": [str, os.PathLike, None],
        "checkpoint_every": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        estimator,
        *,
        window_shape=3,
        stride=1,
        image_shape=None,
        fill=0.0,
        n_repeats=5,
        channels="joint",
        aggregate="center",
        mask=None,
        groups=None,
        scoring=None,
        engine="auto",
        n_jobs=None,
        batch_size=None,
        max_samples=None,
        target_precision=None,
        top_k=None,
        alpha=0.05,
        refine=None,
        random_state=None,
        verbose=0,
        checkpoint=None,
        checkpoint_every=60,
    ):
        self.estimator = estimator
        self.window_shape = window_shape
        self.stride = stride
        self.image_shape = image_shape
        self.fill = fill
        self.n_repeats = n_repeats
        self.channels = channels
        self.aggregate = aggregate
        self.mask = mask
        self.groups = groups
        self.scoring = scoring
        self.engine = engine
        self.n_jobs = n_jobs
        self.batch_size = batch_size
        self.max_samples = max_samples
        self.target_precision = target_precision
        self.top_k = top_k
        self.alpha = alpha
        self.refine = refine
        self.random_state = random_state
        self.verbose = verbose
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every

    _warns_if_constant = True  # False for randomized weights, which may predict one class

    def explain(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> ADSExplanation | Any:
        """Compute the occlusion importance map.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, H, W) or \
                (n_samples, C, H, W), or DataFrame
            Data in the form that the estimator's ``predict`` takes. Never modified; may be
            read-only.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            True targets.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Non-negative weights of the samples in the score. Samples of weight 0 are left out.
            Only their ratios matter: scorers receive them divided by the largest weight.

        Returns
        -------
        explanation : ADSExplanation, dict of str -> ADSExplanation, or list of either
            A dict of score names to explanations if `scoring` has several scores; a list with one
            item per channel if ``channels="separate"``.

        Raises
        ------
        TypeError
            If a parameter has the wrong type, X is sparse, or the estimator has no ``score``
            although it is needed.
        ValueError
            If a parameter is out of range or does not fit the others, X has NaN (unless the
            estimator allows it) or infinity, sizes do not match, a score is not finite, or
            `checkpoint` is damaged or belongs to another explanation.
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        self._check_parameters()
        with each_once():
            if self.checkpoint is None:
                return self._explain(X, y, sample_weight, Journal())
            journal = open_journal(self, X, y, sample_weight)
            explainer = with_params(self, random_state=journal.random_state)
            try:
                return explainer._explain(X, y, sample_weight, journal)
            finally:
                journal.write()  # also if the explanation fails or is interrupted

    def _explain(self, X, y, sample_weight, journal):
        """Compute the explanation, using results that the journal already contains."""
        if self.refine is not None:
            return self._explain_coarse_to_fine(X, y, sample_weight, journal)
        study = self._start(X, y, sample_weight, journal)
        if self.channels == "joint":
            return study.explain()
        return [study.explain(channel) for channel in range(study.regions.n_channels)]

    _doc_link_module = "skff"
    _doc_link_template = DOC_LINK

    def __getstate__(self):
        return with_version(super().__getstate__())

    def __setstate__(self, state):
        super().__setstate__(without_version(type(self).__name__, state))

    def _html_repr(self):
        # scikit-learn shows "Not fitted" for objects without `fit`, even around a fitted estimator.
        html = estimator_html_repr(self)
        return html.replace("<span>Not fitted</span>", "<span>Needs no fit</span>")

    def _explain_coarse_to_fine(self, X, y, sample_weight, journal):
        """Explain with coarse windows, then with finer ones where these are significant."""
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        explainer = with_params(self, refine=None, random_state=seed)
        sides = (int(side) for side in np.atleast_1d(self.window_shape))
        strides = tuple(min(side, max(2, side // 3)) for side in sides)
        stride = strides if len(strides) > 1 else strides[0]
        coarse, n_pairs = with_params(explainer, stride=stride), 0
        for max_samples in self._coarse_samples(X, y, sample_weight):
            coarse = with_params(coarse, max_samples=max_samples)
            found = coarse._explain(X, y, sample_weight, journal)
            n_pairs += len(found.window_scores) * found.n_samples
            mask = found.significant(self.alpha)
            if mask.any():
                break
        else:
            warn(
                f"Found no significant pixel with windows of {self.window_shape}: returned their "
                f"map, without finer windows of {self.refine}.",
                UserWarning,
            )
            return found
        tests = self._fine_tests(found)
        mask = np.isin(tests, tests[mask]) & (tests >= 0)  # all pixels of a test, or none
        fine = with_params(explainer, window_shape=self.refine, mask=mask)
        fine = fine._explain(X, y, sample_weight, journal)
        # Pixels that are not refined count as tested. Correcting only for the pixels selected by
        # the same samples would mark too many of them as significant.
        p_values = np.where(mask, fine.p_values, np.where(tests >= 0, 1.0, np.nan))
        n_fine = len(fine.window_scores) * fine.n_samples
        stats = (fine.engine_stats or {}) | {"coarse_pairs": n_pairs, "fine_pairs": n_fine}
        return replace(fine, p_values=p_values, pixel_tests=tests, engine_stats=stats)

    def _fine_tests(self, found):
        """Return which test of finer windows each pixel would be, -1 for those not to be explained.

        Parameters
        ----------
        found : ADSExplanation
            Of coarse windows.
        """
        pixels = np.arange(prod(found.image_shape)).reshape(*found.image_shape, 1)
        settings = {"window_shape": self.refine, "stride": self.stride}
        regions = sliding_windows(pixels, **settings, aggregate=self.aggregate)
        return regions.restrict(found.pixel_tests >= 0).tests

    def _coarse_samples(self, X, y, sample_weight):
        """Yield the number of samples for coarse windows: a part, then all if none is significant.

        The drop of a window usually grows at least in proportion to its area. A coarse window of
        area A is then as many standard errors above 0 on n (a / A)^2 samples as a fine window of
        area a on all n samples; 1.5 times as many are used for safety.
        """
        data = read_data(self.estimator, X, y, sample_weight)
        n_axes = lay_out_pixels(data.sample_shape, self.image_shape).ndim - 1
        coarse, fine = (
            prod(check_lengths(name, getattr(self, name), n_axes))
            for name in ("window_shape", "refine")
        )
        if not fine < coarse:
            raise ValueError(
                f"Got refine={self.refine!r} with window_shape={self.window_shape!r}, but expected "
                "smaller windows."
            )
        n_samples = count_samples(data, self.max_samples)
        n_part = max(MIN_COARSE, ceil(1.5 * n_samples * (fine / coarse) ** 2))
        if n_samples > FEW_SAMPLES and n_part < n_samples:
            yield n_part
        yield n_samples

    def _check_parameters(self):
        check_parameters(self._parameter_constraints, self.get_params(deep=False))
        if self.refine is not None and (
            self.groups is not None
            or self.channels != "joint"
            or several(self.scoring)
            or not is_accuracy(self.estimator, self.scoring)
        ):
            raise ValueError(
                f"Got refine={self.refine!r} with groups, separate channels or "
                f"scoring={self.scoring!r}, but expected windows, channels='joint' and accuracy "
                "alone: finer windows are used where coarse windows are significant."
            )
        if self.top_k is not None and self.target_precision is None:
            raise ValueError(
                f"Got top_k={self.top_k} without target_precision, but expected both: top_k only "
                "applies to the sequential mode."
            )
        make_scores(self.estimator, self.scoring, counts_labels=False)
        check_fitted(self.estimator)

    def _start(self, X, y, sample_weight, journal=None):
        """Check the data, lay out regions, draw samples and choose the engine."""
        rng = check_random_state(self.random_state)
        data = read_data(self.estimator, X, y, sample_weight)
        pixel_features = lay_out_pixels(data.sample_shape, self.image_shape)
        if self.image_shape is None and len(data.sample_shape) == 1 and data.columns is None:
            hint_at_images(*data.sample_shape)
        regions = self._make_regions(pixel_features, data.columns)
        data = draw_samples(self.estimator, data, max_samples=self.max_samples, random_state=rng)
        samples = make_samples(
            self.estimator, data, fill=self.fill, pixel_features=pixel_features, random_state=rng
        )
        task = self._make_task(samples, data, regions, rng, journal or Journal())
        name, engine = choose_engine(task, self.engine)
        return Study(task, regions, name, engine, returns_dict=several(self.scoring))

    def _make_regions(self, pixel_features, columns):
        """Return the windows or groups that contribute to the pixels to be explained."""
        if self.groups is None:
            settings = ("window_shape", "stride", "aggregate")
            settings = {name: getattr(self, name) for name in settings}
            regions = sliding_windows(pixel_features, **settings)
        else:
            regions = group_regions(self.groups, pixel_features, columns)
        if columns is not None and len(regions.image_shape) == 1:
            regions = replace(regions, columns=np.array(columns))
        return regions if self.mask is None else regions.restrict(self.mask)

    def _make_task(self, samples, data, regions, rng, journal):
        predictions = Predictions(self.estimator, samples, self.batch_size)
        scorings = self.scoring.values() if isinstance(self.scoring, dict) else self.scoring
        scorings = scorings if several(self.scoring) else [self.scoring]
        wants_accuracy = any(is_accuracy(self.estimator, one) for one in scorings)
        if wants_accuracy and data.y.ndim == 1:
            predictions.check_kind(data.y)
            predictions.warn_if_unknown(data.y)
            if self._warns_if_constant:
                predictions.warn_if_constant(data.y)
            is_labels = True
        else:
            is_labels = predictions.are_labels_like(data.y)
        stopping = None
        if self.target_precision is not None:
            if data.weight is not None:
                raise ValueError(
                    "Got sample_weight with target_precision, but expected none: the sequential "
                    "mode does not support weights."
                )
            seed = int(rng.randint(2**31 - 1))
            stopping = StoppingRule(self.target_precision, self.top_k, self.alpha, seed)
        return Task(
            predictions=predictions,
            targets=make_targets(data.y, data.weight, is_labels=is_labels),
            regions=regions.features(),
            scores=make_scores(self.estimator, self.scoring, counts_labels=is_labels),
            n_repeats=self.n_repeats if samples.fill.is_random and stopping is None else 1,
            stopping=stopping,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
            journal=journal,
        )


@dataclass(frozen=True, eq=False)
class Study:
    """Task, regions and engine of one explainer and its data.

    Parameters
    ----------
    task : Task
    regions : Regions
        Regions of the explainer.
    engine_name : str
    engine : callable
        From :func:`choose_engine`.
    returns_dict : bool
        Whether there are several scores.
    """

    task: Task
    regions: Regions
    engine_name: str
    engine: object
    returns_dict: bool

    def measure(self, regions, channel=None):
        """Measure every score with the given regions hidden, in all channels or in one.

        Returns
        -------
        found : dict of str -> WindowScores
        """
        return self.engine(replace(self.task, regions=regions.features(channel)))

    def explain(self, channel=None):
        """Return an explanation, or a dict of score names to explanations."""
        regions, task = self.regions, self.task
        explanations = {
            name: ADSExplanation(
                **_maps(scores, regions),
                classes=task.targets.classes,
                fold_weights=scores.fold_weights,
                window_centers=regions.centers,
                group_names=regions.names,
                feature_names=regions.columns,
                image_shape=regions.image_shape,
                window_shape=regions.window_shape,
                stride=regions.stride,
                aggregate=regions.aggregate,
                scoring=name,
                n_samples=len(task.samples),
                engine=self.engine_name,
                engine_stats=scores.stats,
            )
            for name, scores in self.measure(regions, channel).items()
        }
        return explanations if self.returns_dict else next(iter(explanations.values()))


def _maps(scores, regions):
    """Turn the scores of regions into maps."""
    maps = {
        "importances": scores.baseline_score - scores.window_scores,
        # A pixel with several windows gets the mean of their standard errors, which is at least
        # the standard error of their mean, and twice the mean of their p-values, which is a valid
        # p-value whatever their dependence.
        "standard_error": scores.standard_error,
        "p_values": scores.p_values,
        "per_class": scores.class_drops,
        "fold_importances": scores.fold_drops,
    }
    maps = {k: v if v is None else regions.to_map(v) for k, v in maps.items()}
    if maps["p_values"] is not None:
        maps["pixel_tests"] = regions.tests
        maps["p_values"] = np.minimum(1, maps["p_values"] * np.where(regions.n_read > 1, 2, 1))
    return maps | {
        "baseline_score": scores.baseline_score,
        "window_scores": scores.window_scores,
        "window_standard_error": scores.standard_error,
        "window_p_values": scores.p_values,
        "window_n_samples": scores.window_n_samples,
        "window_intervals": scores.window_intervals,
        "window_fold_importances": scores.fold_drops,
    }


def check_explainer(explainer):
    """Raise unless `explainer` is an ADSExplainer that makes one full map from all samples."""
    check_parameters({"explainer": [ADSExplainer]}, {"explainer": explainer})
    if explainer.channels != "joint" or several(explainer.scoring):
        raise ValueError(
            f"Got an explainer with channels={explainer.channels!r} and scoring="
            f"{explainer.scoring!r}, but expected 'joint' and one score: one map at a time."
        )
    if explainer.target_precision is not None or explainer.refine is not None:
        raise ValueError(
            f"Got an explainer with target_precision={explainer.target_precision} and "
            f"refine={explainer.refine}, but expected None for both: comparisons need all regions "
            "measured on the same samples."
        )


def study_unions(explainer, X, y, sample_weight):
    """Return a study that measures regions and their unions on the same samples."""
    check_explainer(explainer)
    explainer._check_parameters()
    return explainer._start(X, y, sample_weight)


def with_params(explainer, **changes):
    """Return an explainer with other parameters; its fitted estimator is not cloned."""
    return type(explainer)(**(explainer.get_params(deep=False) | changes))


def with_fixed_draws(explainer):
    """Return an explainer that always draws the same samples, and has no checkpoint."""
    seed = explainer.random_state
    if not isinstance(seed, Integral):
        seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
    return with_params(explainer, random_state=int(seed), checkpoint=None)
