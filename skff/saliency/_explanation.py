"""ADSExplanation: maps, their uncertainty, plots and tables."""

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
    """Maps of the score drop under occlusion, with their uncertainty and settings.

    Parameters
    ----------
    importances : ndarray of shape (H, W) or (L,)
        `baseline_score` minus the score with the region hidden, in units of the score: positive
        where hiding lowers the score. NaN outside the mask or outside all groups.
    baseline_score : float
        Score with nothing hidden.
    window_scores : ndarray of shape (n_windows,)
        Score with each window hidden, windows ordered row by row.
    window_centers : ndarray of shape (n_windows, 2) or (n_windows, 1)
        Row and column (or position) of each window's centre, in pixels.
    standard_error : ndarray of the shape of `importances` or None
        Standard error of the importances, from the paired differences of each sample's
        correctness without and with the window hidden. For a pixel with several windows, the mean
        of their standard errors, an upper bound. None if the score is not accuracy, or for a
        single sample.
    p_values : ndarray of the shape of `importances` or None
        P-values of the null hypothesis that hiding does not change the expected accuracy, from
        McNemar's exact test, two-sided (with sample weights, its normal approximation). For a
        pixel with several windows, twice the mean of their p-values; 1 for pixels that `refine`
        left out. None if `standard_error` is None.
    pixel_tests : ndarray of int of the shape of `importances` or None
        Index, from 0, of the hypothesis tested by each pixel's p-value. Pixels with the same
        windows share one. -1 where there is no p-value; None if `p_values` is None.
    window_standard_error, window_p_values : ndarray of shape (n_windows,) or None
        The same for each window.
    window_n_samples : ndarray of shape (n_windows,) or None
        Number of samples used for each window in the sequential mode, otherwise None.
    window_intervals : ndarray of shape (n_windows, 2) or None
        Lower and upper bound of each window's accuracy drop at the time when the window stopped,
        in the sequential mode, otherwise None.
    per_class : ndarray of shape (n_classes, H, W) or (n_classes, L), or None
        Accuracy drop within each class, whatever the score; None if the estimator is not a
        classifier.
    classes : ndarray of shape (n_classes,) or None
        Labels of the maps in `per_class`: those that occur among the samples used.
    fold_importances : ndarray of shape (n_folds, *image_shape) or None
        Importances on each of up to 50 random parts of the samples, used to bootstrap intervals;
        None if the score is not accuracy.
    window_fold_importances : ndarray of shape (n_folds, n_windows) or None
        The same for each window. The parts depend only on the number of samples, so explanations
        of the same samples can be combined part by part.
    fold_weights : ndarray of shape (n_folds,) or None
        Number of samples in each part, or the sum of their weights, scaled so that the largest
        sample weight is 1. The mean of `fold_importances` with these weights is `importances`.
    group_names : ndarray of str of shape (n_windows,) or None
        Names of the groups; None if there are windows.
    feature_names : ndarray of str of shape (L,) or None
        Column names of the DataFrame that was explained.
    image_shape : tuple of int
        Shape of `importances`.
    window_shape, stride : tuple of int or None
        In pixels, one per axis of the map; None for groups.
    aggregate : str
        How pixel values follow from regions: "center", "coverage" or "groups".
    scoring : str
        Name of the score.
    n_samples : int
        Number of samples used.
    engine : str
        Engine used.
    engine_stats : dict or None
        Counts that the engine kept, such as pairs of sample and window.

    See Also
    --------
    ADSExplainer : Computes explanations.
    skff.save : Saves an explanation to a file.

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
        """Return the map, its key facts and the significant pixels as HTML for notebooks."""
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
        """Mark the pixels for which hiding significantly changes the accuracy, up or down.

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

            - "bh", of Benjamini and Hochberg [2]_, is valid for tests that are independent or
              positively dependent, as tests of overlapping windows usually are.
            - "by", of Benjamini and Yekutieli [3]_, is valid for any dependence.
            - "holm" [4]_ is valid for any dependence.
            - "max-t", the step-down method of Westfall and Young [5]_, compares every pixel with
              the largest statistic of the map when signs are flipped at random [6]_. The signs
              of whole folds of samples are flipped, for all pixels together. The method accounts
              for the dependence between pixels, so it marks more than "holm" if windows overlap.
              It uses the up to 50 `fold_importances` instead of `p_values`, and needs at least 6
              samples to mark anything at 0.05.
        n_resamples : int, default=2000
            Number of random sign flips for "max-t"; at least 1 / `alpha` - 1.
        random_state : int, RandomState instance or None, default=0
            Determines the sign flips of "max-t".

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
                "Got method='max-t' for a map of `refine`, but expected 'bh', 'by' or 'holm': "
                "some pixels were not measured with fine windows."
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
        """Return the evidence, or raise if there is none."""
        if evidence is None or self.n_samples < 2:
            raise ValueError(
                f"Got an explanation of {self.scoring!r} on {self.n_samples} samples, but expected "
                "one of accuracy on at least 2: p-values stem from each sample's correctness."
            )
        return evidence

    def bars(
        self, significance: float | None = None
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Return the heights, marks and labels of bars: one per group, or else per position.

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
            Image to draw under the map: in grey, its lowest value white, or in colours, which are
            in [0, 1] or integers up to 255.
        significance : float or None, default=None
            Level at which significant pixels are outlined (or bars marked); None marks none.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        cmap : str or Colormap, default="RdBu_r"
            Diverging colour map, centred at 0.
        colorbar : bool, default=True
            Whether to draw the colour scale.
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
        """Return a DataFrame with one row per pixel, or per group.

        Returns
        -------
        frame : pandas.DataFrame
            Columns ``row`` and ``column`` (``position`` and ``feature`` for sequences, ``group``
            for groups), ``importance``, then ``standard_error``, ``p_value`` and, for pixels,
            ``class_<label>``, as far as they are available.

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
    # If a pixel's windows cancel out, rounding may leave their mean slightly different from zero.
    is_change = np.abs(fold_importances) > 1e-12
    return np.where(is_change, fold_importances, 0) * fold_weights[:, None]
