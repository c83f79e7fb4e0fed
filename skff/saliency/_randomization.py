"""Whether a map owes anything to what the estimator has learned."""

from copy import copy, deepcopy
from dataclasses import dataclass

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from skff.saliency._checks import check_count
from skff.saliency._comparison import _rank_correlations
from skff.saliency._explanation import ADSExplanation
from skff.saliency._unions import check_explainer, with_fixed_draws, with_params


def randomization_check(
    explainer, X, y, *, randomize=None, n_repeats=5, random_state=None, sample_weight=None
):
    """Compare the map of an estimator with maps of the same estimator with random weights.

    A map that shows what was learned must change when that is forgotten: its rank correlation
    with maps of randomised estimators should be low. One that stays the same shows the data, or
    the method, rather than the estimator. This is the model parameter randomisation test [1]_, of
    all layers at once.

    Parameters
    ----------
    explainer : ADSExplainer
        Its estimator is the one that is checked, and stays as it is.
    X : array-like of shape (n_samples, ...) or DataFrame
        Data in the form the estimator predicts from.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets.
    randomize : callable or None, default=None
        ``(estimator, random_state)`` -> fitted estimator with random weights, a new one. A refit
        on permuted labels makes this the data randomisation test of [1]_. None calls
        ``estimator.randomize_weights(random_state)`` where there is such a method, as
        :class:`~skff.FFClassifier` has, and otherwise permutes the entries of each of the arrays
        `coefs_`, `intercepts_`, `coef_` and `intercept_`, or of each parameter of the torch module
        of a skorch net, in a copy; of a Pipeline those of the last step, of a search those of the
        best estimator.
    n_repeats : int, default=5
        Number of randomised estimators.
    random_state : int, RandomState instance or None, default=None
        Determines the randomised weights.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Weights of the samples in the score.

    Returns
    -------
    check : RandomizationCheck

    Raises
    ------
    TypeError
        If there is no way known to randomise the estimator; otherwise as
        :meth:`ADSExplainer.explain`.
    ValueError
        As :meth:`ADSExplainer.explain`; also if `n_repeats` is below 1.

    References
    ----------
    .. [1] J. Adebayo, J. Gilmer, M. Muelly, I. Goodfellow, M. Hardt and B. Kim, "Sanity Checks for
       Saliency Maps", NeurIPS, 2018 (sections 3 and 4).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from skff.saliency import ADSExplainer, randomization_check
    >>> X, y = load_digits(return_X_y=True)
    >>> model = LogisticRegression(tol=0.01).fit(X[:900] / 16, y[:900])
    >>> check = randomization_check(ADSExplainer(model), X[900:] / 16, y[900:], random_state=0)
    >>> check.rank_correlations.shape
    (5,)
    >>> bool(check.rank_correlations.mean() < 0.5)
    True
    """
    check_explainer(explainer)
    check_count("n_repeats", n_repeats)
    if randomize is not None and not callable(randomize):
        raise TypeError(f"Got randomize={randomize!r}, but expected a callable or None.")
    randomize = randomize or permute_weights
    rng = check_random_state(random_state)
    explainer = with_fixed_draws(explainer)
    original = explainer.explain(X, y, sample_weight)
    randomized = []
    for _ in range(n_repeats):
        estimator = randomize(explainer.estimator, rng.randint(np.iinfo(np.int32).max))
        randomized.append(with_params(explainer, estimator=estimator).explain(X, y, sample_weight))
    return RandomizationCheck(original=original, randomized=randomized)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RandomizationCheck:
    """The map of an estimator, and those of the same estimator with random weights.

    Parameters
    ----------
    original : ADSExplanation
        Of the estimator as it was fitted.
    randomized : list of ADSExplanation
        One per randomised estimator.

    See Also
    --------
    randomization_check : Makes the maps.
    """

    original: ADSExplanation
    randomized: list[ADSExplanation]

    def __repr__(self):
        mean, spread = self.rank_correlations.mean(), self.rank_correlations.std()
        return (
            f"<RandomizationCheck: rank correlation {mean:.2f} (standard deviation {spread:.2f}) "
            f"with {len(self.randomized)} randomised estimators>"
        )

    @property
    def rank_correlations(self):
        """Spearman's correlation of the map with each randomised one, of shape (n_repeats,).

        In [-1, 1]. A constant map, such as the flat one of an estimator that always predicts the
        same, orders no pixels: its correlation with any map is taken to be 0.
        """
        return self._correlations(lambda importances: importances)

    @property
    def absolute_rank_correlations(self):
        """The same of the absolute values, which tell where a map is strong, not its sign."""
        return self._correlations(np.abs)

    @property
    def scores(self):
        """Score of each randomised estimator with nothing hidden, of shape (n_repeats,)."""
        return np.array([one.baseline_score for one in self.randomized])

    def plot(self, *, cmap="RdBu_r", colorbar=True):
        """Draw the map beside those of the randomised estimators, with one scale.

        Parameters
        ----------
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours, centred at 0.
        colorbar : bool, default=True
            Whether to draw the scale.

        Returns
        -------
        display : ADSDisplay
        """
        from skff.saliency._display import ADSDisplay

        names = ["fitted", *(f"randomised {k}" for k in range(1, len(self.randomized) + 1))]
        return ADSDisplay.from_explanation(
            [self.original, *self.randomized], names=names, cmap=cmap, colorbar=colorbar
        )

    def _correlations(self, transform):
        maps = [transform(one.importances) for one in [self.original, *self.randomized]]
        is_explained = np.isfinite(maps[0])
        first, *others = [one[is_explained] for one in maps]
        correlations = _rank_correlations(np.tile(first, (len(others), 1)), np.stack(others))
        return np.nan_to_num(correlations, nan=0.0)


ARRAYS = ("coefs_", "intercepts_", "coef_", "intercept_")  # of scikit-learn's networks and lines


def permute_weights(estimator, random_state):
    """Return a copy of a fitted estimator with the entries of its weights permuted.

    Parameters
    ----------
    estimator : object
        As in :func:`randomization_check`.
    random_state : int or RandomState instance
        Determines the permutations.

    Returns
    -------
    randomized : object

    Raises
    ------
    TypeError
        If its weights are not found.
    """
    rng = check_random_state(random_state)
    if hasattr(estimator, "randomize_weights"):
        return estimator.randomize_weights(random_state)
    if isinstance(estimator, Pipeline):
        *others, (name, last) = estimator.steps
        randomized = copy(estimator)
        randomized.steps = [*others, (name, permute_weights(last, rng))]
        return randomized
    if hasattr(estimator, "best_estimator_"):
        randomized = copy(estimator)
        randomized.best_estimator_ = permute_weights(estimator.best_estimator_, rng)
        return randomized
    stored = [name for name in ARRAYS if name in vars(estimator)]
    if not stored and not hasattr(estimator, "module_"):
        raise TypeError(
            f"Got estimator={estimator!r}, but expected one with `randomize_weights`, coefficients "
            "or a torch module: pass randomize=, a function (estimator, random_state) -> estimator "
            "with random weights."
        )
    randomized = deepcopy(estimator)
    for name in stored:
        setattr(randomized, name, _permuted(getattr(randomized, name), rng))
    if not stored:
        _permute_module(randomized.module_, rng)
    return randomized


def _permuted(weights, rng):
    """Return an array, or a list of arrays, with the entries of each permuted."""
    if isinstance(weights, list):
        return [_permuted(array, rng) for array in weights]
    weights = np.asarray(weights)
    return rng.permutation(weights.ravel()).reshape(weights.shape)


def _permute_module(module, rng):
    """Permute the entries of each parameter of a torch module, through the parameter's own door."""
    for parameter in module.parameters():
        flat = parameter.data.flatten()
        parameter.data.copy_(flat[rng.permutation(len(flat))].view_as(parameter.data))
