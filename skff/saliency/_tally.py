"""Counts of the predictions that each window spoils or mends, and what follows from them."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known about the samples besides X.

    Parameters
    ----------
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
        True targets.
    weight : ndarray of shape (n_samples,) or None
        Sample weights; None counts every sample once.
    classes : ndarray of shape (n_classes,) or None
        Class labels in `y`; None where the score is not accuracy.
    codes : ndarray of shape (n_samples,) or None
        Index of each sample's label in `classes`.
    """

    y: np.ndarray
    weight: np.ndarray | None = None
    classes: np.ndarray | None = None
    codes: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class WindowScores:
    """What an engine measures.

    Parameters
    ----------
    baseline_score : float
    window_scores : ndarray of shape (n_windows,)
    standard_error : ndarray of shape (n_windows,) or None
        Of the baseline score minus the window's, paired by sample.
    class_losses : ndarray of shape (n_classes, n_windows) or None
        Loss of accuracy within each class.
    stats : dict or None
        What the engine counted about its own work.
    """

    baseline_score: float
    window_scores: np.ndarray
    standard_error: np.ndarray | None = None
    class_losses: np.ndarray | None = None
    stats: dict | None = None


class Tally:
    """Sums over samples; sums of several tallies over disjoint work add up.

    Per sample, d is correctness without occlusion minus correctness with it: 1, 0 or -1.

    Parameters
    ----------
    truth : Truth
    n_windows : int

    Attributes
    ----------
    correct : ndarray of shape (n_classes,)
        Weighted count of samples predicted correctly without occlusion, by true class.
    lost : ndarray of shape (n_windows, n_classes)
        Weighted sum of d, by true class.
    moments : ndarray of shape (2, n_windows)
        Sums of w^2 d and w^2 d^2, with weights w.
    """

    def __init__(self, truth, n_windows):
        n_classes = len(truth.classes)
        # Floats hold the counts exactly up to 2^53.
        self.correct = np.zeros(n_classes)
        self.lost = np.zeros((n_windows, n_classes))
        self.moments = np.zeros((2, n_windows))

    def add_baseline(self, truth, rows, correct):
        """Count the samples `rows` that are `correct`, a boolean array of shape (n_rows,)."""
        self.correct += _sums(truth, truth.codes[rows[correct]], rows[correct], len(self.correct))

    def add_flips(self, truth, windows, rows, was_correct):
        """Count samples whose correctness a window changes.

        Parameters
        ----------
        truth : Truth
        windows, rows : ndarray of shape (n_flips,)
            Window and sample of each change.
        was_correct : ndarray of bool of shape (n_flips,)
            Correctness without occlusion.
        """
        n_windows, n_classes = self.lost.shape
        d = np.where(was_correct, 1.0, -1.0)
        w = 1.0 if truth.weight is None else truth.weight[rows]
        cells = windows * n_classes + truth.codes[rows]
        self.lost += np.bincount(cells, w * d, self.lost.size).reshape(self.lost.shape)
        self.moments[0] += np.bincount(windows, w * w * d, n_windows)
        self.moments[1] += np.bincount(windows, w * w * d * d, n_windows)

    def add(self, other, windows=slice(None)):
        """Add another tally, whose windows are `windows` of this one."""
        self.correct += other.correct
        self.lost[windows] += other.lost
        self.moments[:, windows] += other.moments
        return self

    def summarize(self, truth, stats=None):
        """Return the scores that follow from the sums."""
        n_samples = len(truth.y)
        class_weight = _sums(truth, truth.codes, slice(None), len(self.correct))
        total = class_weight.sum()
        correct = self.correct.sum()
        return WindowScores(
            baseline_score=float(correct / total),
            window_scores=(correct - self.lost.sum(axis=1)) / total,
            standard_error=self._standard_error(truth, total) if n_samples > 1 else None,
            class_losses=(self.lost / class_weight).T,
            stats=stats,
        )

    def _standard_error(self, truth, total):
        """Return the standard error of the (weighted) mean of d, with ddof=1.

        With weights, the usual linearisation of a ratio: sqrt(n / (n - 1) sum w^2 (d - m)^2) over
        sum w, with m the weighted mean of d.
        """
        n_samples = len(truth.y)
        squares = n_samples if truth.weight is None else (truth.weight**2).sum()
        mean = self.lost.sum(axis=1) / total
        spread = self.moments[1] - 2 * mean * self.moments[0] + mean**2 * squares
        spread = np.maximum(spread, 0) * n_samples / (n_samples - 1)
        return np.sqrt(spread) / total


def _sums(truth, codes, rows, n_classes):
    weight = None if truth.weight is None else truth.weight[rows]
    return np.bincount(codes, weight, n_classes).astype(float)
