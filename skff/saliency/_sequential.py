"""Sequential measurement: windows stop as soon as enough samples have settled their question."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, xlog1py, xlogy

from skff.saliency._counts import WindowScores
from skff.saliency._progress import progress_bar

FIRST_ROUND, GROWTH = 100, 1.3  # samples in the first round; factor on their number per round
N_BISECTIONS = 50
HALF = 0.5  # parameters of the mixture, Jeffreys' prior


@dataclass(frozen=True)
class StoppingRule:
    """When a window is settled.

    Parameters
    ----------
    target_precision : float
        Half-width of the interval of the accuracy drop at which a window stops in any case.
    top_k : int or None
        None asks for the sign of each window's drop, a number for the windows of the largest ones.
    alpha : float
        Level of each window's interval, over all times.
    seed : int
        Of the order of the samples.
    """

    target_precision: float
    top_k: int | None
    alpha: float
    seed: int

    def is_settled(self, low, high, p_values):
        """Return which windows may stop, from intervals and p-values of shape (n_windows,)."""
        precise = (high - low) / 2 <= self.target_precision
        if self.top_k is None:
            return precise | (p_values <= self.alpha)
        n_above = (low[:, None] > high).sum(axis=0)  # windows surely above each
        n_not_below = (high[:, None] >= low).sum(axis=0) - 1  # windows that may be above each
        return precise | (n_above >= self.top_k) | (n_not_below < self.top_k)


def proportion_bounds(k, n, alpha):
    """Return a confidence sequence for a proportion: bounds that hold at all times together.

    Under the true p, the mixture martingale ``B(k + 1/2, n - k + 1/2) / (B(1/2, 1/2) p^k
    (1 - p)^(n - k))`` exceeds 1 / alpha at any time with probability alpha at most (Ville); the
    bounds are the p for which it does not.

    Parameters
    ----------
    k : ndarray of shape (n_windows,)
        Successes among `n` trials.
    n : int or ndarray of shape (n_windows,)
    alpha : float

    Returns
    -------
    low, high : ndarray of shape (n_windows,)

    References
    ----------
    .. [1] H. Robbins, "Statistical Methods Related to the Law of the Iterated Logarithm", Annals
       of Mathematical Statistics 41, 1970.
    .. [2] S. R. Howard, A. Ramdas, J. McAuliffe and J. Sekhon, "Time-uniform, nonparametric,
       nonasymptotic confidence sequences", Annals of Statistics 49, 2021.
    """
    k, n = np.broadcast_arrays(np.asarray(k, float), np.asarray(n, float))
    least = betaln(k + HALF, n - k + HALF) - betaln(HALF, HALF) + np.log(alpha)
    best = np.divide(k, n, out=np.full(k.shape, HALF), where=n > 0)
    bounds = []
    for end in (0.0, 1.0):
        outside, inside = np.full(k.shape, end), best.copy()
        for _ in range(N_BISECTIONS):
            middle = (outside + inside) / 2
            is_inside = xlogy(k, middle) + xlog1py(n - k, -middle) >= least
            inside = np.where(is_inside, middle, inside)
            outside = np.where(is_inside, outside, middle)
        at_end = xlogy(k, end) + xlog1py(n - k, -end) >= least
        bounds.append(np.where(at_end, end, outside))
    return tuple(bounds)


def sign_p_values(n_lost, n_gained):
    """Return anytime-valid p-values of the hypothesis that as many predictions are lost as gained.

    One over the mixture martingale of `proportion_bounds` for a share of 1/2 among the changes.
    """
    n = n_lost + n_gained
    log_martingale = betaln(n_lost + HALF, n_gained + HALF) - betaln(HALF, HALF) + n * np.log(2)
    return np.exp(np.minimum(0, -log_martingale))


def drop_bounds(n_lost, n_gained, n, alpha):
    """Return a confidence sequence for the accuracy drop, from those of losses and of gains."""
    lost, gained = (proportion_bounds(k, n, alpha / 2) for k in (n_lost, n_gained))
    return lost[0] - gained[1], lost[1] - gained[0]


def measure_sequentially(task, correct, count_changes):
    """Measure accuracy with every region hidden, on as many samples as its question needs.

    Samples come in rounds in a random order, and a window that is settled stops.

    Parameters
    ----------
    task : Task
        With one window per region, a stopping rule and samples without weights.
    correct : ndarray of bool of shape (n_samples,)
        Correctness with nothing hidden.
    count_changes : callable
        ``count_changes(windows, rows)`` -> CorrectnessCounts of some windows on some samples, and
        what else was counted.

    Returns
    -------
    scores : WindowScores
        With `window_n_samples` and `window_intervals`. P-values hold whenever a window stops.
    """
    targets, n_samples, n_windows = task.targets, len(task.samples), task.n_windows
    rule = task.stopping
    order = np.random.default_rng(rule.seed).permutation(n_samples)
    lost, n_seen = np.zeros((n_windows, len(targets.classes))), np.zeros(n_windows, dtype=int)
    class_seen, n_changes = np.zeros_like(lost), np.zeros(n_windows)
    p_values, active = np.ones(n_windows), np.arange(n_windows)
    low, high = np.full(n_windows, -1.0), np.ones(n_windows)
    done, totals = 0, Counter()
    with progress_bar(verbose=task.verbose, total=n_samples, desc="ADS", unit="sample") as progress:
        while done < n_samples and len(active):
            stop = min(n_samples, max(FIRST_ROUND, int(done * GROWTH)))
            rows = np.sort(order[done:stop])
            counts, stats = count_changes(active, rows)
            totals.update(stats)
            lost[active] += counts.lost
            n_changes[active] += counts.moments[1]
            class_seen[active] += np.bincount(targets.codes[rows], minlength=lost.shape[1])
            n_seen[active] = stop
            progress.update(stop - done)
            done = stop
            drop = lost[active].sum(axis=1)
            n_lost, n_gained = (n_changes[active] + drop) / 2, (n_changes[active] - drop) / 2
            p_values[active] = np.minimum(p_values[active], sign_p_values(n_lost, n_gained))
            bounds = drop_bounds(n_lost, n_gained, done, rule.alpha)
            low[active] = np.maximum(low[active], bounds[0])  # they hold at all times together
            high[active] = np.minimum(high[active], bounds[1])
            active = active[~rule.is_settled(low, high, p_values)[active]]
    mean = lost.sum(axis=1) / n_seen
    spread = np.maximum(n_changes / n_seen - mean**2, 0) / np.maximum(n_seen - 1, 1)
    class_drops = np.full(lost.shape, np.nan)
    np.divide(lost, class_seen, out=class_drops, where=class_seen > 0)
    n_asked = int(n_seen.sum())
    return WindowScores(
        baseline_score=float(correct.mean()),
        window_scores=correct.mean() - mean,
        standard_error=np.sqrt(spread),
        p_values=p_values,
        class_drops=class_drops.T,
        window_n_samples=n_seen,
        window_intervals=np.stack([low, high], axis=1),
        stats=dict(totals)
        | {"pairs_asked": n_asked, "pairs_saved": n_windows * n_samples - n_asked},
    )
