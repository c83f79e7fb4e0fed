"""Counts of the predictions that each window breaks or fixes, and what follows from them."""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import binom, norm

ROUNDING = 1e-9  # relative, of sums of weights
MAX_FOLDS = 50  # of samples; a bootstrap over fewer has too few ways to draw


@dataclass(frozen=True, eq=False)
class Targets:
    """What is known about the samples besides X.

    Parameters
    ----------
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        True targets.
    weight : ndarray of shape (n_samples,) or None
        Sample weights, at most 1; None counts every sample once.
    classes : ndarray of shape (n_classes,) or None
        Class labels in `y`; None where the score is not accuracy.
    codes : ndarray of shape (n_samples,) or None
        Index of each sample's label in `classes`.
    folds : ndarray of shape (n_samples,) or None
        Part of the data, 0 to at most 49, each sample is dealt to.
    """

    y: np.ndarray
    weight: np.ndarray | None = None
    classes: np.ndarray | None = None
    codes: np.ndarray | None = None
    folds: np.ndarray | None = None


def make_targets(y, weight, *, is_labels):
    """Return what is known about the samples, with classes if `y` holds labels.

    The folds depend on the number of samples alone, so that runs on the same samples share them.
    """
    if not is_labels:
        return Targets(y, weight)
    classes, codes = np.unique(y, return_inverse=True)
    if all(isinstance(label, str) for label in classes):
        classes = classes.astype(str)  # an object array could not be saved without pickle
    folds = np.random.default_rng(len(y)).permutation(len(y)) % MAX_FOLDS
    return Targets(y, weight, classes, codes, folds)


@dataclass(frozen=True, eq=False)
class WindowScores:
    """What an engine measures.

    Parameters
    ----------
    baseline_score : float
    window_scores : ndarray of shape (n_windows,)
    standard_error : ndarray of shape (n_windows,) or None
        Of the baseline score minus the window's, paired by sample.
    p_values : ndarray of shape (n_windows,) or None
        Of the hypothesis that hiding the window leaves the expected score as it is.
    class_drops : ndarray of shape (n_classes, n_windows) or None
        Accuracy drop within each class.
    fold_drops : ndarray of shape (n_folds, n_windows) or None
        Accuracy drop within each fold of samples.
    fold_weights : ndarray of shape (n_folds,) or None
        Number of samples in each fold, or sum of their weights.
    window_n_samples : ndarray of shape (n_windows,) or None
        Samples that each window was measured on, where these differ.
    window_intervals : ndarray of shape (n_windows, 2) or None
        Bounds on each window's accuracy drop, of a confidence sequence.
    stats : dict or None
        What the engine counted about its own work.
    """

    baseline_score: float
    window_scores: np.ndarray
    standard_error: np.ndarray | None = None
    p_values: np.ndarray | None = None
    class_drops: np.ndarray | None = None
    fold_drops: np.ndarray | None = None
    fold_weights: np.ndarray | None = None
    window_n_samples: np.ndarray | None = None
    window_intervals: np.ndarray | None = None
    stats: dict | None = None

    @property
    def drops(self):
        """Drop of the score with each window hidden, of shape (n_windows,)."""
        return self.baseline_score - self.window_scores

    def average(self, n_repeats):
        """Average over the draws of a random fill: windows of a region lie beside each other.

        The variance of a mean over draws is at most the mean of their sampling variances, to which
        the variance between draws is added. Twice a mean of p-values is one, whatever their
        dependence.
        """

        def mean(values):
            return values.reshape(*values.shape[:-1], -1, n_repeats).mean(axis=-1)

        error, p_values = self.standard_error, self.p_values
        if error is not None:
            spread = self.window_scores.reshape(-1, n_repeats).var(axis=1, ddof=1)
            error = np.sqrt(mean(error**2) + spread / n_repeats)
            p_values = np.minimum(1, 2 * mean(p_values))
        return replace(
            self,
            window_scores=mean(self.window_scores),
            standard_error=error,
            p_values=p_values,
            class_drops=mean(self.class_drops),
            fold_drops=mean(self.fold_drops),
        )


class CorrectnessCounts:
    """Sums over samples; sums of several counts over disjoint work add up.

    Per sample, d is correctness without occlusion minus correctness with it: 1, 0 or -1.

    Parameters
    ----------
    targets : Targets
    n_windows : int

    Attributes
    ----------
    correct : ndarray of shape (n_classes,)
        Weighted count of samples predicted correctly without occlusion, by true class.
    lost : ndarray of shape (n_windows, n_classes)
        Weighted sum of d, by true class.
    fold_lost : ndarray of shape (n_windows, n_folds)
        Weighted sum of d, by fold of samples.
    moments : ndarray of shape (2, n_windows)
        Sums of w^2 d and w^2 d^2, with weights w.
    """

    def __init__(self, targets, n_windows):
        n_classes, n_folds = len(targets.classes), targets.folds.max() + 1
        # Floats hold the counts exactly up to 2^53.
        self.correct = np.zeros(n_classes)
        self.lost = np.zeros((n_windows, n_classes))
        self.fold_lost = np.zeros((n_windows, n_folds))
        self.moments = np.zeros((2, n_windows))

    def check(self, targets):
        """Raise ValueError unless these can be sums over some of the samples, to rounding."""
        weight = np.ones(len(targets.y)) if targets.weight is None else targets.weight
        by_class, by_fold = self.lost.sum(axis=1), self.fold_lost.sum(axis=1)
        net, changed = self.moments
        slack = ROUNDING * weight.sum()
        too_large = [
            np.abs(self.correct) - np.bincount(targets.codes, weight),
            np.abs(self.lost) - np.bincount(targets.codes, weight),
            np.abs(self.fold_lost) - np.bincount(targets.folds, weight),
            np.abs(by_class - by_fold),
            np.abs(net) - changed,
            changed - (weight**2).sum(),
        ]
        if targets.weight is None:
            too_large.append(np.abs(by_class - net))
        if (self.correct < 0).any() or any((excess > slack).any() for excess in too_large):
            raise ValueError("its counts of predictions are not those of these samples")

    def add_baseline(self, targets, rows, correct):
        """Count the samples `rows` that are `correct`, a boolean array of shape (n_rows,)."""
        rows = rows[correct]
        self.correct += _sums(targets, targets.codes[rows], rows, len(self.correct))

    def add_changes(self, targets, windows, rows, was_correct):
        """Count samples whose correctness a window changes.

        Parameters
        ----------
        targets : Targets
        windows, rows : ndarray of shape (n_changes,)
            Window and sample of each change.
        was_correct : ndarray of bool of shape (n_changes,)
            Correctness without occlusion.
        """
        d = np.where(was_correct, 1.0, -1.0)
        w = 1.0 if targets.weight is None else targets.weight[rows]
        self.lost += _sums_by_pair(windows, targets.codes[rows], w * d, self.lost.shape)
        self.fold_lost += _sums_by_pair(windows, targets.folds[rows], w * d, self.fold_lost.shape)
        self.moments[0] += np.bincount(windows, w * w * d, len(self.lost))
        self.moments[1] += np.bincount(windows, w * w * d * d, len(self.lost))

    def add(self, other, windows=slice(None)):
        """Add other counts, whose windows are `windows` of this one."""
        self.correct += other.correct
        self.lost[windows] += other.lost
        self.fold_lost[windows] += other.fold_lost
        self.moments[:, windows] += other.moments
        return self

    def summarize(self, targets, n_repeats=1):
        """Return the scores that follow from the sums, regions with `n_repeats` windows each."""
        class_weights = _sums(targets, targets.codes, slice(None), self.lost.shape[1])
        fold_weights = _sums(targets, targets.folds, slice(None), self.fold_lost.shape[1])
        total, correct = class_weights.sum(), self.correct.sum()
        standard_error = self._standard_error(targets, total) if len(targets.y) > 1 else None
        p_values = None if standard_error is None else self._p_values(targets)
        by_window = WindowScores(
            baseline_score=float(correct / total),
            window_scores=(correct - self.lost.sum(axis=1)) / total,
            standard_error=standard_error,
            p_values=p_values,
            class_drops=(self.lost / class_weights).T,
            fold_drops=(self.fold_lost / fold_weights).T,
            fold_weights=fold_weights,
        )
        return by_window if n_repeats == 1 else by_window.average(n_repeats)

    def _standard_error(self, targets, total):
        """Return the standard error of the (weighted) mean of d, with ddof=1.

        With weights, the usual linearisation of a ratio: sqrt(n / (n - 1) sum w^2 (d - m)^2) over
        sum w, with m the weighted mean of d.
        """
        n_samples = len(targets.y)
        squares = n_samples if targets.weight is None else (targets.weight**2).sum()
        mean = self.lost.sum(axis=1) / total
        spread = self.moments[1] - 2 * mean * self.moments[0] + mean**2 * squares
        spread = np.maximum(spread, 0) * n_samples / (n_samples - 1)
        return np.sqrt(spread) / total

    def _p_values(self, targets):
        """Return two-sided p-values: McNemar's exact test, or a normal one with weights."""
        lost = self.lost.sum(axis=1)
        if targets.weight is None:
            n_changes = self.moments[1]
            n_rarer = (n_changes - np.abs(lost)) / 2  # of broken and fixed predictions
            return np.minimum(1, 2 * binom.cdf(n_rarer, n_changes, 0.5))
        # The sign of w d is a coin toss under the hypothesis, so that sum (w d)^2 is the variance.
        spread = np.sqrt(self.moments[1])
        z = np.divide(lost, spread, out=np.zeros_like(lost), where=spread > 0)
        return 2 * norm.sf(np.abs(z))


def _sums(targets, codes, rows, n_classes):
    weight = None if targets.weight is None else targets.weight[rows]
    return np.bincount(codes, weight, n_classes).astype(float)


def _sums_by_pair(windows, codes, values, shape):
    """Sum values into the cells (window, code) of an array of `shape`."""
    return np.bincount(windows * shape[1] + codes, values, shape[0] * shape[1]).reshape(shape)
