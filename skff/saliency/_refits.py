"""Explanations over several training runs: their mean and how far they differ."""

from dataclasses import dataclass

import numpy as np

from skff.saliency._explanation import ADSExplanation
from skff.saliency._folds import fold_standard_error
from skff.saliency._unions import check_explainer, with_fixed_draws, with_params


def explain_refits(explainer, estimators, X, y, *, sample_weight=None):
    """Explain several fits of an estimator on the same samples.

    The standard error of one explanation is that over samples, for the fitted estimator as it is.
    Other training runs, with another seed or other training data, give other maps; how far they
    differ shows here.

    Parameters
    ----------
    explainer : ADSExplainer
        Says how to explain; its own estimator is not used.
    estimators : list of estimators, or dict
        At least two, fitted: with several seeds, or on bootstrap samples; or what
        ``cross_validate(return_estimator=True)`` returns.
    X : array-like of shape (n_samples, ...) or DataFrame
        Data in the form the estimators predict from, best held out from all fits. Of the estimators
        of a cross-validation, each was fitted to most of the data that was cross-validated.
    y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        True targets.
    sample_weight : array-like of shape (n_samples,) or None, default=None
        Weights of the samples in the score.

    Returns
    -------
    refits : RefitExplanations

    Raises
    ------
    TypeError, ValueError
        As :meth:`ADSExplainer.explain`; also if there are fewer than two estimators.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_validate
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff.saliency import ADSExplainer, explain_refits
    >>> X, y = load_iris(return_X_y=True)
    >>> fits = cross_validate(GaussianNB(), X, y, return_estimator=True)
    >>> explainer = ADSExplainer(GaussianNB(), window_shape=1, fill="mean")
    >>> refits = explain_refits(explainer, fits, X, y)
    >>> refits.n_runs, refits.standard_deviation.shape
    (5, (4,))
    """
    check_explainer(explainer)
    estimators = _check_estimators(estimators)
    explainer = with_fixed_draws(explainer)
    explanations = [
        with_params(explainer, estimator=estimator).explain(X, y, sample_weight)
        for estimator in estimators
    ]
    return RefitExplanations(explanations=explanations)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class RefitExplanations:
    """Explanations of several training runs on the same samples.

    Parameters
    ----------
    explanations : list of ADSExplanation
        One per run.

    See Also
    --------
    explain_refits : Makes them.

    Notes
    -----
    Over R runs, with s the standard deviation over the runs and e the standard error over samples
    of their mean map, the `standard_error` of the mean is ``sqrt(s**2 / R + e**2)``. The part of
    the variance that is particular to a run and a sample is in both terms, so that this errs
    slightly on the large side.
    """

    explanations: list[ADSExplanation]

    def __repr__(self):
        return f"<RefitExplanations: {self.n_runs} runs, {self.explanations[0]!r} first>"

    @property
    def n_runs(self):
        """Number of training runs, R."""
        return len(self.explanations)

    @property
    def importances(self):
        """Mean of the maps over the runs, an ndarray of shape (H, W) or (L,)."""
        return np.mean([one.importances for one in self.explanations], axis=0)

    @property
    def standard_deviation(self):
        """Standard deviation of the maps over the runs (ddof=1), of the shape of `importances`."""
        return np.std([one.importances for one in self.explanations], axis=0, ddof=1)

    @property
    def sampling_error(self):
        """Standard error of `importances` over samples, for these runs; None unless accuracy.

        It is paired over the runs, from their mean on each of up to 50 parts of the samples.
        """
        parts = [one.fold_importances for one in self.explanations]
        if any(part is None for part in parts):
            return None
        return fold_standard_error(np.mean(parts, axis=0), self.explanations[0].fold_weights)

    @property
    def standard_error(self):
        """Standard error of `importances` over samples and runs; None unless accuracy."""
        if self.sampling_error is None:
            return None
        return np.sqrt(self.standard_deviation**2 / self.n_runs + self.sampling_error**2)

    def plot(self, image=None, *, ax=None, cmap="RdBu_r", colorbar=True):
        """Draw the mean map beside the standard deviation over the runs, with one scale.

        Parameters
        ----------
        image : array-like of shape (H, W) or (H, W, 3), or None, default=None
            Drawn in grey or colour under both.
        ax : list of two matplotlib Axes, or None, default=None
            Where to draw; None makes a new figure.
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours, centred at 0.
        colorbar : bool, default=True
            Whether to draw the scale.

        Returns
        -------
        display : ADSDisplay
        """
        from skff.saliency._display import ADSDisplay

        first = self.explanations[0]
        display = ADSDisplay(
            [self.importances, self.standard_deviation],
            names=[f"mean of {self.n_runs} runs", "standard deviation"],
            units=f"{first.scoring} drop",
            labels=first.feature_names,
        )
        return display.plot(ax=ax, image=image, cmap=cmap, colorbar=colorbar)


def _check_estimators(estimators):
    if isinstance(estimators, dict):
        if "estimator" not in estimators:
            raise ValueError(
                f"Got a dict with {sorted(estimators)}, but expected the result of "
                "cross_validate(return_estimator=True), which has 'estimator'."
            )
        estimators = estimators["estimator"]
    if not isinstance(estimators, list | tuple):
        raise TypeError(f"Got estimators={estimators!r}, but expected a list of fitted estimators.")
    if len(estimators) < 2:
        raise ValueError(
            f"Got {len(estimators)} estimators, but expected at least 2: spread takes two runs."
        )
    return list(estimators)
