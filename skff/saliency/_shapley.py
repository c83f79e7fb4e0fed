"""Shapley values: the score divided among the regions of the input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import comb
from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from skff._warnings import warn
from skff.saliency._explainer import study_unions
from skff.saliency._parallel import WithSettings
from skff.saliency._parameters import check_parameters
from skff.saliency._progress import progress_bar
from skff.saliency._samples import FixedFill

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from numpy.typing import ArrayLike
    from pandas import DataFrame

    from skff.saliency._display import ADSDisplay
    from skff.saliency._explainer import ADSExplainer

MAX_EXACT = 12  # regions up to which method="auto" scores all coalitions (4096)
LARGEST_EXACT = 20  # regions; a million coalitions would take too long
MAX_COALITIONS = 2048  # scored in one call
MAX_WALKS = 4096  # orders followed together, one or more pairs per sample
PAIRS_PER_ROUND = 16  # of permutations between looks at the standard errors
AT_LEAST_4 = Interval(Integral, 4, None, closed="left")  # a standard error takes two pairs
CONSTRAINTS = {
    "method": [StrOptions({"auto", "exact", "permutation"})],
    "n_permutations": [AT_LEAST_4, None],
    "max_permutations": [AT_LEAST_4],
    "tolerance": [Interval(Real, 0, None, closed="neither")],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


def shapley(
    explainer: ADSExplainer,
    X: ArrayLike,
    y: ArrayLike,
    *,
    method: str = "auto",
    n_permutations: int | None = None,
    tolerance: float = 0.025,
    max_permutations: int = 2000,
    random_state: int | np.random.RandomState | None = None,
    sample_weight: ArrayLike | None = None,
    verbose: int = 0,
) -> ShapleyValues:
    """Divide the accuracy among the regions of the input by their Shapley values.

    Let v(S) be the score with only the regions in S shown and all others hidden. The Shapley
    value of a region is how much showing it raises v, averaged over all orders in which the
    regions can be revealed one after another. The values sum to v(all) - v(none). Regions that
    carry the same information share the credit for it, whereas hiding one at a time finds neither
    of them important.

    This is SAGE [1]_ with the score (usually accuracy, that is, the 0/1 loss) in place of another
    loss, and with hidden regions replaced by a fill instead of drawn from their distribution.

    Parameters
    ----------
    explainer : ADSExplainer
        Defines the regions (windows or groups), and how they are hidden and scored. A pixel in
        several regions is hidden if any of them is hidden; pixels outside all regions are never
        hidden. Results are easiest to interpret for regions that do not overlap, such as groups, or
        windows with ``aggregate="coverage"`` and a `stride` equal to `window_shape`.
    X : array-like of shape (n_samples, ...) or DataFrame
        Data in the form the estimator predicts from.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets.
    method : {"auto", "exact", "permutation"}, default="auto"
        "exact" scores all coalitions, 2^n of n regions, of which there may be at most 20;
        "permutation" averages over random orders; "auto" is "exact" up to 12 regions.
    n_permutations : int or None, default=None
        Number of random orders, at least 4, rounded up to an even number. None draws until
        `tolerance` is met.
    tolerance : float, default=0.025
        Above 0: orders are drawn until the largest standard error is at most this share of the
        range from the smallest to the largest value.
    max_permutations : int, default=2000
        Number of orders, at least 4, after which to stop with a warning if `tolerance` has not been
        met.
    random_state : int, RandomState instance or None, default=None
        Determines the orders. (The explainer's `random_state` determines the samples.)
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Weights of the samples in the score.
    verbose : int, default=0
        If above 0, shows the number of orders and how far the standard errors are above the
        tolerance.

    Returns
    -------
    values : ShapleyValues

    Raises
    ------
    TypeError, ValueError
        As :meth:`~skff.ADSExplainer.explain`; also if a parameter is out of range, or
        ``method="exact"`` has more than 20 regions.

    Warns
    -----
    sklearn.exceptions.ConvergenceWarning
        If `max_permutations` did not suffice.

    See Also
    --------
    interactions : Measures whether two regions are redundant or work together.

    Notes
    -----
    Each order is used together with its reverse, which cancels part of the error [3]_; standard
    errors are those of the mean over such pairs. With accuracy, more than 12 regions and a fill
    that does not depend on the window, each sample has its own orders, whose errors average out
    over the samples. Otherwise all samples share the same orders, and no coalition is scored twice.

    References
    ----------
    .. [1] I. Covert, S. Lundberg and S.-I. Lee, "Understanding Global Feature Contributions With
       Additive Importance Measures", NeurIPS, 2020 (algorithm 1, and its appendix on
       convergence).
    .. [2] L. S. Shapley, "A Value for n-Person Games", Contributions to the Theory of Games II,
       1953.
    .. [3] R. Mitchell, J. Cooper, E. Frank and G. Holmes, "Sampling Permutations for Shapley Value
       Estimation", Journal of Machine Learning Research 23, 2022 (section 3.1).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skff.saliency import ADSExplainer, shapley
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression(max_iter=200).fit(X, y)
    >>> explainer = ADSExplainer(model, window_shape=1, fill="mean")
    >>> found = shapley(explainer, X, y)
    >>> bool(abs(found.values.sum() - (found.full_score - found.hidden_score)) < 1e-12)
    True
    >>> int(found.values.argmax())  # petal length or width
    2
    """
    check_parameters(CONSTRAINTS, locals())
    rng = check_random_state(random_state)
    game = Game(study_unions(explainer, X, y, sample_weight))
    if method == "exact" or (method == "auto" and game.n_players <= MAX_EXACT):
        return _to_values(game, _enumerate(game), np.zeros(game.n_players), n_permutations=0)
    if n_permutations is None:
        values = _sample(game, rng, max_permutations, tolerance, verbose)
        _warn_unless_converged(values, tolerance, max_permutations)
        return values
    return _sample(game, rng, n_permutations, 0.0, verbose)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ShapleyValues:
    """Shapley values of the regions of the input, in units of the score.

    Parameters
    ----------
    values : ndarray of shape (n_regions,)
        How much showing each region raises the score, averaged over the orders in which regions can
        be revealed; positive if showing it raises the score. They sum to
        `full_score` - `hidden_score`.
    standard_error : ndarray of shape (n_regions,)
        Standard error of `values`, over the orders drawn; 0 if all coalitions were scored. It does
        not include the uncertainty due to the choice of samples.
    importances : ndarray of shape (H, W) or (L,)
        The values as a map: each pixel has the value of its region (the mean if it is in several
        regions), and NaN outside all regions.
    names : ndarray of str of shape (n_regions,)
        Names of groups, columns of a DataFrame, or centres of windows as "(row, column)".
    centers : ndarray of shape (n_regions, n_axes)
        Centre of each region, in pixels.
    full_score : float
        Score with nothing hidden, v(all).
    hidden_score : float
        Score with all regions hidden, v(none).
    n_permutations : int
        Number of orders drawn, per sample if each has its own; 0 if all coalitions were scored.
    n_coalitions : int
        Number of coalitions scored, per sample if each has its own orders.
    scoring : str
        Name of the score.
    n_samples : int
        Number of samples used.

    See Also
    --------
    shapley : Computes Shapley values.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff.saliency import ADSExplainer, shapley
    >>> iris = load_iris(as_frame=True)
    >>> model = GaussianNB().fit(iris.data, iris.target)
    >>> found = shapley(ADSExplainer(model, window_shape=1, fill="mean"), iris.data, iris.target)
    >>> found.to_frame().columns.tolist()
    ['region', 'value', 'standard_error']
    >>> bool(abs(found.values.sum() - (found.full_score - found.hidden_score)) < 1e-12)
    True
    """

    values: np.ndarray
    standard_error: np.ndarray
    importances: np.ndarray
    names: np.ndarray
    centers: np.ndarray
    full_score: float
    hidden_score: float
    n_permutations: int
    n_coalitions: int
    scoring: str
    n_samples: int

    def __repr__(self):
        return (
            f"<ShapleyValues: {len(self.values)} regions share {self.scoring} from "
            f"{self.hidden_score:.4g} to {self.full_score:.4g} on {self.n_samples} samples, "
            f"standard errors up to {self.standard_error.max():.2g}>"
        )

    @property
    def relative_error(self) -> float:
        """Largest standard error as a share of the range from smallest to largest value."""
        largest, spread = float(self.standard_error.max()), float(np.ptp(self.values))
        if spread == 0:
            return 0.0 if largest == 0 else float("inf")
        return largest / spread

    def plot(
        self,
        image: ArrayLike | None = None,
        *,
        ax: Axes | None = None,
        cmap: str | Colormap = "RdBu_r",
        colorbar: bool = True,
    ) -> ADSDisplay:
        """Draw the values as a map for images, otherwise as one bar per region with its error.

        Parameters
        ----------
        image : array-like of shape (H, W) or (H, W, 3), or None, default=None
            Drawn in grey or colour under the map.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours, centred at 0.
        colorbar : bool, default=True
            Whether to draw the scale of a map.

        Returns
        -------
        display : ADSDisplay
        """
        from skff.saliency._display import ADSDisplay

        is_image = self.importances.ndim == 2
        shown = self.importances if is_image else self.values
        units = f"Shapley value ({self.scoring})"
        display = ADSDisplay([shown], units=units, labels=None if is_image else self.names)
        display.plot(ax=ax, image=image, cmap=cmap, colorbar=colorbar)
        if not is_image and self.standard_error.any():
            error = {"yerr": self.standard_error, "fmt": "none", "ecolor": "0.2", "capsize": 2}
            display.ax_.errorbar(np.arange(len(shown)), shown, **error)
        return display

    def to_frame(self) -> DataFrame:
        """Return a DataFrame with one row per region, the largest value first.

        Returns
        -------
        frame : pandas.DataFrame
            Columns ``region``, ``value`` and ``standard_error``.
        """
        import pandas as pd

        order = np.argsort(-self.values, kind="stable")
        columns = {
            "region": self.names,
            "value": self.values,
            "standard_error": self.standard_error,
        }
        return pd.DataFrame({name: values[order] for name, values in columns.items()})


class Game:
    """The score of every coalition of regions, v(S), computed once.

    Parameters
    ----------
    study : Study
        Whose regions are the players. Each of them hidden alone gives v(all) and v of all regions
        but one.
    """

    def __init__(self, study):
        self.regions, self.n_players = study.regions, len(study.regions.centers)
        ((self.scoring, single),) = study.measure(self.regions).items()
        self.study = replace(study, task=replace(study.task, verbose=0))
        self.scores = {_key(np.ones(self.n_players, dtype=bool)): single.baseline_score}
        self._remember(~np.eye(self.n_players, dtype=bool), single.window_scores)

    def __call__(self, shown):
        """Return v for coalitions, a boolean array of shape (..., n_players)."""
        flat = shown.reshape(-1, self.n_players)
        keys = [_key(coalition) for coalition in flat]
        new = {key: c for key, c in zip(keys, flat, strict=True) if key not in self.scores}
        coalitions = np.array(list(new.values()))
        for start in range(0, len(coalitions), MAX_COALITIONS):
            block = coalitions[start : start + MAX_COALITIONS]
            found = self.study.measure(self.regions.unions(~block))[self.scoring]
            self._remember(block, found.window_scores)
        return np.reshape([self.scores[key] for key in keys], shown.shape[:-1])

    def _remember(self, coalitions, scores):
        self.scores.update(zip(map(_key, coalitions), scores.tolist(), strict=True))


def _key(coalition):
    return np.packbits(coalition).tobytes()


def _enumerate(game):
    """Return ``sum_S |S|! (n - |S| - 1)! / n! (v(S and i) - v(S))`` over all S without i."""
    n_players = game.n_players
    if n_players > LARGEST_EXACT:
        raise ValueError(
            f"Got method='exact' with {n_players} regions, but expected at most {LARGEST_EXACT}: "
            f"their 2^{n_players} coalitions would all have to be scored. Use method='permutation'."
        )
    codes = np.arange(2**n_players)
    shown = codes[:, None] >> np.arange(n_players) & 1 == 1  # (n_coalitions, n_players)
    scores, sizes = game(shown), shown.sum(axis=1)
    values = np.empty(n_players)
    for player in range(n_players):
        without = codes[~shown[:, player]]
        gains = scores[without | 1 << player] - scores[without]
        n_alike = [comb(n_players - 1, size) for size in range(n_players)]
        values[player] = (gains / np.take(n_alike, sizes[without])).sum() / n_players
    return values


def _sample(game, rng, max_permutations, tolerance, verbose):
    """Average over random orders until the standard errors are small enough."""
    n_left = -(-max_permutations // 2)  # pairs of an order and its reverse
    orders = (OwnOrders if _counts_each_sample(game) else SharedOrders)(game, rng)
    with progress_bar(verbose=verbose, total=2 * n_left, desc="Shapley", unit="order") as progress:
        while n_left:
            # There is no spread between less than two pairs.
            n_pairs = min(max(orders.n_pairs_per_round, 2 - orders.n_pairs), n_left)
            orders.draw(n_pairs)
            n_left -= n_pairs
            values = _to_values(
                game,
                orders.mean(),
                orders.standard_error(),
                n_permutations=2 * orders.n_pairs,
                n_more_coalitions=orders.n_coalitions,
            )
            progress.update(2 * n_pairs)
            progress.set_postfix(relative_error=f"{values.relative_error:.3f}")
            if values.relative_error <= tolerance:
                break
    return values


def _counts_each_sample(game):
    """Return whether each sample may have its own orders.

    This requires a score that is a mean over samples, and hidden values that do not depend on what
    else is hidden. With few regions, shared orders are better, because coalitions then repeat.
    """
    study = game.study
    is_fixed = isinstance(study.task.samples.fill, FixedFill)
    return study.engine_name != "score" and is_fixed and game.n_players > MAX_EXACT


class SharedOrders:
    """Gains of each region along orders that all samples share, for any score.

    Parameters
    ----------
    game : Game
    rng : RandomState
    """

    n_pairs_per_round = PAIRS_PER_ROUND
    n_coalitions = 0  # beyond those that the game remembers

    def __init__(self, game, rng):
        self._game, self._rng = game, rng
        self._gains = np.empty((0, game.n_players))  # (n_pairs, n_players)

    @property
    def n_pairs(self):
        """Number of orders drawn, each with its reverse."""
        return len(self._gains)

    def draw(self, n_pairs):
        """Draw more orders."""
        n_players = self._game.n_players
        places = np.stack([self._rng.permutation(n_players) for _ in range(n_pairs)])
        places = np.stack([places, n_players - 1 - places])  # (2, n_pairs, n_players)
        n_shown = np.arange(n_players + 1)[:, None]
        scores = self._game(places[:, :, None, :] < n_shown)  # (2, n_pairs, n_players + 1)
        gains = np.take_along_axis(np.diff(scores, axis=-1), places, axis=-1)
        self._gains = np.concatenate([self._gains, gains.mean(axis=0)])

    def mean(self):
        """Return the values, of shape (n_players,)."""
        return self._gains.mean(axis=0)

    def standard_error(self):
        """Return the standard errors of the mean, of shape (n_players,)."""
        return self._gains.std(axis=0, ddof=1) / np.sqrt(self.n_pairs)


class OwnOrders:
    """Gains of each region along orders that each sample draws separately, for accuracy.

    Accuracy is a mean over samples, and so are its Shapley values. If samples have their own
    orders, the effect of single orders averages out over the samples.

    Parameters
    ----------
    game : Game
    rng : RandomState
    """

    def __init__(self, game, rng):
        task = game.study.task
        self._task, self._rng = task, rng
        n_samples, n_features = task.samples.values.shape
        self._hides = np.zeros((game.n_players, n_features), dtype=np.float32)
        for row, features in zip(self._hides, task.regions, strict=True):
            row[features] = 1
        weight = task.targets.weight
        self._share = np.full(n_samples, 1 / n_samples) if weight is None else weight / weight.sum()
        # Sums over the pairs of orders drawn of each sample's gains, and of their squares.
        self._sums, self._squares = np.zeros((2, n_samples, game.n_players), dtype=np.float32)
        self.n_pairs, self.n_coalitions = 0, 0
        self._n_walks = min(MAX_WALKS, task.predictions.batch_rows)
        self.n_pairs_per_round = max(1, min(PAIRS_PER_ROUND, self._n_walks // (2 * n_samples)))

    def draw(self, n_pairs):
        """Draw more orders, as many for each sample."""
        n_samples, n_players = self._sums.shape
        n_blocks = -(-2 * n_pairs * n_samples // self._n_walks)
        blocks = np.array_split(np.arange(n_samples), min(n_blocks, n_samples))
        seeds = self._rng.randint(2**31 - 1, size=len(blocks))
        walk = delayed(WithSettings(_walk))
        walks = (
            walk(self._task, rows, self._hides, n_pairs, seed)
            for rows, seed in zip(blocks, seeds, strict=True)
        )
        for rows, gains in zip(blocks, Parallel(n_jobs=self._task.n_jobs)(walks), strict=True):
            self._sums[rows] += gains.sum(axis=0)
            self._squares[rows] += (gains**2).sum(axis=0)
        self.n_pairs += n_pairs
        self.n_coalitions += 2 * n_pairs * (n_players - 1)

    def mean(self):
        """Return the values, of shape (n_players,)."""
        return self._share @ self._sums / self.n_pairs

    def standard_error(self):
        """Return those of the mean, from the spread between the orders of each sample."""
        squares = self._squares - self._sums**2 / self.n_pairs  # (n_samples, n_players)
        variance = np.maximum(squares, 0) / (self.n_pairs - 1) / self.n_pairs
        return np.sqrt(self._share**2 @ variance)


def _walk(task, rows, hides, n_pairs, seed):
    """Return how much showing each region raises the correctness of some samples.

    Parameters
    ----------
    task : Task
    rows : ndarray of shape (n_rows,)
        The samples.
    hides : ndarray of shape (n_players, n_features)
        One where a region hides a feature, zero elsewhere.
    n_pairs : int
        Orders of each sample, each with its reverse.
    seed : int
        Seed of the orders.

    Returns
    -------
    gains : ndarray of shape (n_pairs, n_rows, n_players)
        Means over an order and its reverse.
    """
    samples, n_players = task.samples, len(hides)
    shape = 2, n_pairs, len(rows), n_players
    walkers = np.tile(rows, 2 * n_pairs)  # a sample for each of its orders
    values, fill = np.tile(samples.take(rows), (2 * n_pairs, 1)), samples.fill.array
    fill = fill if len(fill) == 1 else fill[walkers]
    places = np.random.RandomState(seed).random_sample(shape[1:]).argsort(axis=-1)
    places = np.stack([places, n_players - 1 - places]).reshape(-1, n_players)
    labels = []
    for n_shown in range(n_players):
        is_hidden = (places >= n_shown).astype(np.float32) @ hides > 0  # (n_walkers, n_features)
        labels.append(task.predictions.in_batches(np.where(is_hidden, fill, values)))
    labels.append(task.predictions.bare[walkers])
    correct = np.stack(labels, axis=-1) == task.targets.y[walkers, None]
    gains = np.diff(correct.astype(np.float32), axis=-1)  # in the order in which they are shown
    return np.take_along_axis(gains, places, axis=-1).reshape(shape).mean(axis=0)


def _to_values(game, values, standard_error, *, n_permutations, n_more_coalitions=0):
    all_hidden, all_shown = np.repeat([[False], [True]], game.n_players, axis=1)
    hidden = game.regions.hidden
    n_regions, sums = hidden.sum(axis=0), values @ hidden  # per pixel
    importances = np.divide(sums, n_regions, out=np.full(len(sums), np.nan), where=n_regions > 0)
    return ShapleyValues(
        values=values,
        standard_error=standard_error,
        importances=importances.reshape(game.regions.image_shape),
        names=game.regions.labels,
        centers=game.regions.centers,
        full_score=float(game(all_shown)),
        hidden_score=float(game(all_hidden)),
        n_permutations=n_permutations,
        n_coalitions=len(game.scores) + n_more_coalitions,
        scoring=game.scoring,
        n_samples=len(game.study.task.samples),
    )


def _warn_unless_converged(values, tolerance, max_permutations):
    if values.relative_error > tolerance:
        warn(
            f"Got standard errors of up to {values.relative_error:.3f} of the range after "
            f"{max_permutations} permutations, but expected at most tolerance={tolerance}: raise "
            "max_permutations or tolerance.",
            ConvergenceWarning,
        )
