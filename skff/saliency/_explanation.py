"""What an ADS run found: maps, their uncertainty, pictures and tables of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils._param_validation import StrOptions

from skff._versions import with_version, without_version
from skff.saliency._parameters import COUNT, LEVEL, check_parameters
from skff.saliency._statistics import ADJUSTMENTS, METHODS, check_n_resamples, max_t

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from numpy.typing import ArrayLike
    from pandas import DataFrame

    from skff.saliency._display import ADSDisplay


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ADSExplanation:
    """Maps of how much the score drops under occlusion, with what is needed to read them.

    Parameters
    ----------
    importances : ndarray of shape (H, W) or (L,)
        `baseline_score` minus the score with the region hidden, in units of the score: positive
        where hiding hurts. NaN outside a mask or all groups.
    baseline_score : float
        Score with nothing hidden.
    window_scores : ndarray of shape (n_windows,)
        Score with each window hidden, windows ordered row by row.
    window_centers : ndarray of shape (n_windows, 2) or (n_windows, 1)
        Row and column (or position) of each window's centre, in pixels.
    standard_error : ndarray of the shape of `importances` or None
        Standard error of the importances, paired: from each sample's correctness without and with
        the window. A pixel that reads several windows has the mean of theirs, an upper bound.
        None where the score is not accuracy, or of a single sample.
    p_values : ndarray of the shape of `importances` or None
        Of the hypothesis that hiding does not change the expected accuracy: McNemar's exact test,
        two-sided (with sample weights its normal approximation). A pixel that reads several
        windows has twice the mean of theirs; one that `refine` did not look at has 1. None where
        `standard_error` is.
    pixel_tests : ndarray of int of the shape of `importances` or None
        Number of the hypothesis that a pixel's p-value tests, from 0: pixels that read the same
        windows share one. -1 where there is no p-value; None where `p_values` is.
    window_standard_error, window_p_values : ndarray of shape (n_windows,) or None
        The same for each window.
    window_n_samples : ndarray of shape (n_windows,) or None
        Samples that each window was measured on, where the sequential mode made these differ.
    window_intervals : ndarray of shape (n_windows, 2) or None
        Lower and upper bound of each window's accuracy drop that the sequential mode knew when the
        window stopped.
    per_class : ndarray of shape (n_classes, H, W) or (n_classes, L), or None
        Accuracy drop within each class, whatever the score; None where the estimator is no
        classifier.
    classes : ndarray of shape (n_classes,) or None
        Labels the maps of `per_class` belong to: those among the samples used.
    fold_importances : ndarray of shape (n_folds, *image_shape) or None
        Importances on each of up to 50 random parts of the samples, from which intervals are
        bootstrapped; None where the score is not accuracy.
    window_fold_importances : ndarray of shape (n_folds, n_windows) or None
        The same for each window. The parts depend on the number of samples alone, so explanations
        of the same samples can be combined part by part.
    fold_weights : ndarray of shape (n_folds,) or None
        Number of samples in each part, or sum of their weights, the largest of which is 1. The
        mean of `fold_importances` with these weights is `importances`.
    group_names : ndarray of str of shape (n_windows,) or None
        Names of the groups; None where there are windows.
    feature_names : ndarray of str of shape (L,) or None
        Columns of the DataFrame that was explained.
    image_shape : tuple of int
        Shape of `importances`.
    window_shape, stride : tuple of int or None
        In pixels, one per axis of the map; None for groups.
    aggregate : str
        Rule that gave pixels their value: "center", "coverage" or "groups".
    scoring : str
        Name of the score.
    n_samples : int
        Number of samples used.
    engine : str
        Engine used.
    engine_stats : dict or None
        What the engine counted about its own work.

    See Also
    --------
    ADSExplainer : Makes explanations.
    skff.save : Writes one to a file.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from skff import ADSExplainer
    >>> iris = load_iris(as_frame=True)
    >>> model = GaussianNB().fit(iris.data, iris.target)
    >>> explainer = ADSExplainer(model, window_shape=1, fill="mean")
    >>> explanation = explainer.explain(iris.data, iris.target)
    >>> explanation
    <ADSExplanation: 4 map of accuracy 0.96 on 150 samples>
    >>> explanation.importances.round(2)  # accuracy lost without each of the four features
    array([0.  , 0.01, 0.43, 0.48])
    >>> explanation.significant()
    array([False, False,  True,  True])
    """

    importances: np.ndarray
    baseline_score: float
    window_scores: np.ndarray
    window_centers: np.ndarray
    standard_error: np.ndarray | None = None
    p_values: np.ndarray | None = None
    pixel_tests: np.ndarray | None = None
    window_standard_error: np.ndarray | None = None
    window_p_values: np.ndarray | None = None
    window_n_samples: np.ndarray | None = None
    window_intervals: np.ndarray | None = None
    per_class: np.ndarray | None = None
    classes: np.ndarray | None = None
    fold_importances: np.ndarray | None = None
    window_fold_importances: np.ndarray | None = None
    fold_weights: np.ndarray | None = None
    group_names: np.ndarray | None = None
    feature_names: np.ndarray | None = None
    image_shape: tuple
    window_shape: tuple | None = None
    stride: tuple | None = None
    aggregate: str
    scoring: str
    n_samples: int
    engine: str
    engine_stats: dict | None = None

    def __repr__(self):
        shape = " x ".join(map(str, self.image_shape))
        return (
            f"<ADSExplanation: {shape} map of {self.scoring} {self.baseline_score:.4g} "
            f"on {self.n_samples} samples>"
        )

    def _repr_html_(self):
        """Return the map, its key facts and the significant pixels, for a notebook."""
        from skff.saliency._display import explanation_html

        return explanation_html(self)

    @property
    def window_importances(self) -> np.ndarray:
        """Drop of the score with each window or group hidden, of shape (n_windows,)."""
        return self.baseline_score - self.window_scores

    def significant(
        self,
        alpha: float = 0.05,
        *,
        method: str = "bh",
        n_resamples: int = 2000,
        random_state: int | np.random.RandomState | None = 0,
    ) -> np.ndarray:
        """Mark the pixels whose hiding changes the expected accuracy, up or down.

        Pixels that read the same windows, as those of one group do, or with a `stride` above 1, are
        one test: corrections count tests, not pixels.

        Parameters
        ----------
        alpha : float, default=0.05
            Bound on the error rate that `method` controls, in (0, 1).
        method : {"bh", "by", "holm", "max-t"}, default="bh"
            Correction for testing many regions. The first two bound the expected share of false
            marks among all marks (false discovery rate), the others the probability of even one
            false mark (family-wise error rate).

            - "bh", of Benjamini and Hochberg [2]_, holds for tests that are independent or
              positively dependent, as those of overlapping windows mostly are.
            - "by", of Benjamini and Yekutieli [3]_, holds for any dependence.
            - "holm" [4]_ holds for any dependence.
            - "max-t", the step-down method of Westfall and Young [5]_, compares every pixel with
              the largest statistic of the map when signs are flipped at random [6]_: those of
              the folds of samples, each fold for all pixels together. It uses the dependence of
              pixels, and so marks more than "holm" where windows overlap. It takes the up to 50
              `fold_importances` in place of `p_values`, and 6 samples at least to mark anything
              at 0.05.
        n_resamples : int, default=2000
            Number of random flips of "max-t"; at least 1 / `alpha` - 1.
        random_state : int, RandomState instance or None, default=0
            Determines the flips of "max-t".

        Returns
        -------
        mask : ndarray of bool of the shape of `importances`
            False where a pixel was not explained.

        Raises
        ------
        TypeError
            If `alpha` or `n_resamples` has the wrong type.
        ValueError
            If there are no p-values, `alpha` or `n_resamples` is out of range or `method` is
            unknown.

        References
        ----------
        .. [1] Q. McNemar, "Note on the sampling error of the difference between correlated
           proportions or percentages", Psychometrika 12, 1947.
        .. [2] Y. Benjamini and Y. Hochberg, "Controlling the false discovery rate", Journal of
           the Royal Statistical Society B 57, 1995.
        .. [3] Y. Benjamini and D. Yekutieli, "The control of the false discovery rate in multiple
           testing under dependency", Annals of Statistics 29, 2001.
        .. [4] S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian
           Journal of Statistics 6, 1979.
        .. [5] P. Westfall and S. Young, "Resampling-Based Multiple Testing", 1993, algorithm
           4.1.
        .. [6] T. Nichols and A. Holmes, "Nonparametric permutation tests for functional
           neuroimaging", Human Brain Mapping 15, 2002.
        """
        constraints = {
            "alpha": [LEVEL],
            "method": [StrOptions(set(METHODS))],
            "n_resamples": [COUNT],
            "random_state": ["random_state"],
        }
        check_parameters(constraints, locals())
        if method != "max-t":
            p_values = self._check_tested(self.p_values).ravel()
            first, tests = self._tests()
            return self._mark(ADJUSTMENTS[method](p_values[first])[tests] <= alpha)
        check_n_resamples(n_resamples, alpha)
        if self.window_n_samples is not None:
            raise ValueError(
                "Got method='max-t' for a map of the sequential mode, but expected 'bh', 'by' or "
                "'holm': its windows were measured on different samples."
            )
        folds, p_values = map(self._check_tested, (self.fold_importances, self.p_values))
        if (np.isfinite(p_values) & ~np.isfinite(self.importances)).any():
            raise ValueError(
                "Got method='max-t' for a map of `refine`, but expected 'bh', 'by' or 'holm': some "
                "pixels were not measured, as the same samples gave no reason to."
            )
        first, tests = self._tests()
        sums = _fold_sums(folds.reshape(len(folds), -1)[:, first], self.fold_weights)
        adjusted = max_t(sums, n_resamples=n_resamples, random_state=random_state)
        return self._mark(adjusted[tests] <= alpha)

    def _tests(self):
        """Return the flat index of one pixel of each test, and the place of each pixel's test.

        Returns
        -------
        first : ndarray of shape (n_tests,)
        tests : ndarray of shape (n_tested_pixels,)
        """
        tests = self._check_tested(self.pixel_tests).ravel()
        pixels = np.flatnonzero(tests >= 0)
        _, first, tests = np.unique(tests[pixels], return_index=True, return_inverse=True)
        return pixels[first], tests

    def _mark(self, marks):
        """Return a mask of the shape of the map that is `marks` where pixels are tested."""
        mask = np.zeros(self.image_shape, dtype=bool)
        mask[self._check_tested(self.pixel_tests) >= 0] = marks
        return mask

    def _check_tested(self, evidence):
        """Return the evidence if there is any."""
        if evidence is None or self.n_samples < 2:
            raise ValueError(
                f"Got an explanation of {self.scoring!r} on {self.n_samples} samples, but expected "
                "one of accuracy on at least 2: p-values stem from each sample's correctness."
            )
        return evidence

    def bars(
        self, significance: float | None = None
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Return what bars show of a map with one axis: groups where there are any, or positions.

        Parameters
        ----------
        significance : float or None, default=None
            Level at which bars are marked.

        Returns
        -------
        heights : ndarray of shape (n_bars,)
        marks : ndarray of bool of shape (n_bars,) or None
            Which bars are significant.
        labels : ndarray of str of shape (n_bars,) or None
        """
        if self.group_names is None:
            marks = None if significance is None else self.significant(significance)
            return self.importances, marks, self.feature_names
        marks = None
        if significance is not None:
            check_parameters({"alpha": [LEVEL]}, {"alpha": significance})
            marks = ADJUSTMENTS["bh"](self._check_tested(self.window_p_values)) <= significance
        return self.window_importances, marks, self.group_names

    def plot(
        self,
        image: ArrayLike | None = None,
        *,
        significance: float | None = None,
        ax: Axes | None = None,
        cmap: str | Colormap = "RdBu_r",
        colorbar: bool = True,
        im_kw: dict[str, Any] | None = None,
    ) -> ADSDisplay:
        """Draw the map.

        Parameters
        ----------
        image : array-like of shape (H, W) or (H, W, 3), or None, default=None
            Drawn in grey or colour under the map.
        significance : float or None, default=None
            Level at which significant pixels are outlined (bars marked); None marks none.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours, centred at 0.
        colorbar : bool, default=True
            Whether to draw the scale.
        im_kw : dict or None, default=None
            Further arguments of ``Axes.imshow``, or of ``Axes.bar`` for sequences.

        Returns
        -------
        display : ADSDisplay
        """
        from skff.saliency._display import ADSDisplay

        return ADSDisplay.from_explanation(
            self,
            significance=significance,
            image=image,
            ax=ax,
            cmap=cmap,
            colorbar=colorbar,
            im_kw=im_kw,
        )

    def to_frame(self) -> DataFrame:
        """Return one row per pixel, or per group, as a DataFrame.

        Returns
        -------
        frame : pandas.DataFrame
            Columns ``row`` and ``column`` (``position`` and ``feature`` for sequences, ``group``
            for groups), ``importance``, then ``standard_error``, ``p_value`` and, for pixels,
            ``class_<label>`` where there are any.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "to_frame needs pandas: install it with pip install pandas."
            ) from error
        columns = self._pixel_columns() if self.group_names is None else self._group_columns()
        columns = {name: values for name, values in columns.items() if values is not None}
        return pd.DataFrame({name: np.ravel(values) for name, values in columns.items()})

    def _group_columns(self):
        return {
            "group": self.group_names,
            "importance": self.window_importances,
            "standard_error": self.window_standard_error,
            "p_value": self.window_p_values,
        }

    def _pixel_columns(self):
        names = ["row", "column"] if len(self.image_shape) == 2 else ["position"]
        columns = dict(zip(names, np.indices(self.image_shape), strict=True))
        columns |= {
            "feature": self.feature_names,
            "importance": self.importances,
            "standard_error": self.standard_error,
            "p_value": self.p_values,
        }
        if self.per_class is not None:
            labels = (f"class_{label}" for label in self.classes)
            columns |= dict(zip(labels, self.per_class, strict=True))
        return columns

    def __getstate__(self):
        return with_version(vars(self))

    def __setstate__(self, state):
        vars(self).update(without_version(type(self).__name__, state))


def _fold_sums(fold_importances, fold_weights):
    """Return sums of paired differences over folds, of shape (n_folds, n_pixels)."""
    # Where a pixel's windows cancel out, their mean may be off zero by rounding.
    is_change = np.abs(fold_importances) > 1e-12
    return np.where(is_change, fold_importances, 0) * fold_weights[:, None]
