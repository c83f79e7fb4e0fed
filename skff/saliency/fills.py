"""Fills: the values that replace the features of a hidden window.

A fill is an object with a method ``sample(X, pixels, random_state)``. The values may depend on the
window, that is, on which pixels stay visible. Your own fill needs only this method; write it as a
frozen dataclass, so that it can be cloned, compared and pickled.

``sample(X, pixels, random_state)``
    `X` is an array of shape ``(n_samples, *image_shape, n_channels)``: all samples of the
    explanation, with nothing hidden; do not write to it. `pixels` is a boolean array of shape
    `image_shape`, True where a pixel is hidden (in all channels). `random_state` is a
    :class:`numpy.random.RandomState` and must be the only source of randomness. The method returns
    the values of the hidden pixels, an array that broadcasts to (n_samples, n_hidden, n_channels),
    the shape of ``X[:, pixels]``.
``fit(X)``, optional
    Called once per explanation, before any window is hidden. It returns the object whose ``sample``
    is then called with the same `X`, instead of that of the fill itself. The fill is not changed.
    Both objects are pickled if windows are distributed over processes.
``is_random``, False if absent
    Whether two calls of ``sample`` may differ. A random fill is drawn several times per window.
``knows_window``, True if absent
    Whether the values depend on which other pixels are hidden. If False, they can be computed once
    for all windows, by hiding every pixel.

The fills of this module return float32 if `X` is float32, and otherwise float64. Only `Constant`
and `Permute` accept features that are not numbers, and then return objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import Interval

from skff.saliency._parameters import COUNT, check_parameters

_NUMBERS = "buif"  # kinds of numpy types with which fills compute
_BLOCK = 2**22  # values processed together, so that memory does not grow with the number of samples
_MAX_FEATURES = 4096  # up to here all covariances are computed at once, in at most 128 MiB


@dataclass(frozen=True, eq=False)  # arrays have no single truth value to compare by
class Constant:
    """Replace hidden features by a constant.

    Parameters
    ----------
    value : number or array-like, default=0.0
        One number for all features, or an array that broadcasts to a sample's shape
        ``(*image_shape, n_channels)``, of shape `image_shape`, or flat. Missing values are allowed.
        If the features are objects, the values need not be numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from skff.saliency.fills import Constant
    >>> X = np.ones((2, 3, 1))  # two sequences of three pixels
    >>> hidden = np.array([True, True, False])
    >>> Constant(0.5).fit(X).sample(X, hidden, None).ravel()
    array([0.5, 0.5])
    """

    value: Any = 0.0

    is_random: ClassVar[bool] = False
    knows_window: ClassVar[bool] = False

    def fit(self, X: np.ndarray) -> Any:
        """Give the value the shape and type of a sample.

        Parameters
        ----------
        X : ndarray of shape (n_samples, *image_shape, n_channels)

        Returns
        -------
        fitted : object with ``sample``

        Raises
        ------
        ValueError
            If the value does not broadcast to a sample, or is not a number although the features
            are.
        """
        is_numeric = X.dtype.kind in _NUMBERS
        value = np.asarray(self.value, dtype=None if is_numeric else object)
        if is_numeric and value.dtype.kind not in _NUMBERS:
            raise ValueError(
                f"Got value={self.value!r}, but expected a number or an array of numbers, like "
                "the features."
            )
        value = _to_sample_shape(value, X.shape[1:])
        return _Precomputed(value[np.newaxis].astype(_result_type(X)))


def _to_sample_shape(value, shape):
    """Bring a number or array to `shape`, (*image_shape, n_channels)."""
    if value.shape == shape[:-1]:
        value = value[..., np.newaxis]
    elif value.shape == (np.prod(shape),):
        value = value.reshape(shape)
    try:
        return np.broadcast_to(value, shape)
    except ValueError:
        raise ValueError(
            f"Got value of shape {value.shape}, but expected one that broadcasts to {shape}: "
            "the image's axes and the channels."
        ) from None


@dataclass(frozen=True)
class Mean:
    """Replace hidden features by their means over the samples, ignoring missing values.

    Examples
    --------
    >>> import numpy as np
    >>> from skff.saliency.fills import Mean
    >>> X = np.arange(6.0).reshape(2, 3, 1)
    >>> Mean().fit(X).sample(X, np.array([True, False, True]), None).ravel()
    array([1.5, 3.5])
    """

    is_random: ClassVar[bool] = False
    knows_window: ClassVar[bool] = False

    def fit(self, X: np.ndarray) -> Any:
        """Compute the means.

        Parameters
        ----------
        X : ndarray of shape (n_samples, *image_shape, n_channels)

        Returns
        -------
        fitted : object with ``sample``

        Raises
        ------
        ValueError
            If features are not numbers.
        """
        _check_numbers(self, X)
        means = X.mean(axis=0, dtype=np.float64)
        if np.isnan(means).any():
            sums = sum(np.nansum(block, axis=0, dtype=np.float64) for block in _blocks(X))
            with np.errstate(invalid="ignore"):  # a feature without any value stays missing
                means = sums / sum(np.sum(~np.isnan(block), axis=0) for block in _blocks(X))
        return _Precomputed(means[np.newaxis].astype(_result_type(X)))


@dataclass(frozen=True)
class Blur:
    """Replace hidden features by those of the blurred image.

    The image is blurred by a Gaussian filter over its axes, separately for each sample and channel;
    beyond the border, the nearest pixel is repeated. The blurred image still shows some of what is
    hidden.

    Parameters
    ----------
    sigma : float, default=2.0
        Standard deviation of the Gaussian in pixels, above 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skff.saliency.fills import Blur
    >>> X = np.array([0.0, 0.0, 1.0, 0.0, 0.0]).reshape(1, 5, 1)
    >>> hidden = np.array([False, True, True, False, False])
    >>> Blur(sigma=0.5).fit(X).sample(X, hidden, None).ravel().round(2)
    array([0.11, 0.79])
    """

    sigma: float = 2.0

    is_random: ClassVar[bool] = False
    knows_window: ClassVar[bool] = False

    def __post_init__(self):
        """Validate the width."""
        check_parameters({"sigma": [Interval(Real, 0, None, closed="neither")]}, vars(self))

    def fit(self, X: np.ndarray) -> Any:
        """Blur all images.

        Parameters
        ----------
        X : ndarray of shape (n_samples, *image_shape, n_channels)

        Returns
        -------
        fitted : object with ``sample``

        Raises
        ------
        ValueError
            If features are not numbers, or are missing.
        """
        _check_complete(self, X)
        sigma = (0, *[self.sigma] * (X.ndim - 2), 0)  # neither over samples nor over channels
        X = X.astype(_result_type(X), copy=False)
        return _Precomputed(ndimage.gaussian_filter(X, sigma, mode="nearest"))


@dataclass(frozen=True, eq=False)
class _Precomputed:
    """Values of all features, of shape (n_samples or 1, *image_shape, n_channels)."""

    values: np.ndarray

    def sample(self, X, pixels, random_state):
        """Return the values of the hidden pixels, (n_samples or 1, n_hidden, n_channels)."""
        return self.values[:, pixels]


@dataclass(frozen=True)
class Permute:
    """Replace the hidden window by that of another sample, drawn at random.

    The pixels of a window stay together, so the replacement is a real piece of an image, but it may
    not match its surroundings. The window of each sample is used for exactly one other sample. With
    at least two samples, no sample keeps its own window.

    Examples
    --------
    >>> import numpy as np
    >>> from skff.saliency.fills import Permute
    >>> X = np.array([[1.0, 10.0], [2.0, 20.0]]).reshape(2, 2, 1)
    >>> Permute().sample(X, np.array([True, True]), np.random.RandomState(0))[..., 0]
    array([[ 2., 20.],
           [ 1., 10.]])
    """

    is_random: ClassVar[bool] = True
    knows_window: ClassVar[bool] = True

    def sample(
        self, X: np.ndarray, pixels: np.ndarray, random_state: np.random.RandomState
    ) -> np.ndarray:
        """Return the hidden pixels of other samples.

        Parameters
        ----------
        X : ndarray of shape (n_samples, *image_shape, n_channels)
        pixels : ndarray of bool of shape image_shape
        random_state : RandomState

        Returns
        -------
        values : ndarray of shape (n_samples, n_hidden, n_channels)
        """
        donors = _donors(len(X), random_state)
        return X[:, pixels][donors].astype(_result_type(X), copy=False)


def _donors(n_samples, random_state):
    """Return another sample for each sample, using each of them once."""
    # A shift by one along a random circle of all samples has no fixed point.
    circle = random_state.permutation(n_samples)
    donors = np.empty_like(circle)
    donors[circle] = np.roll(circle, 1)
    return donors


@dataclass(frozen=True)
class Conditional:
    """Replace hidden features by their expected values given the pixels around the window.

    A ridge regression of the hidden pixels on the visible ones nearby, fitted on the n samples that
    are explained: with means m and covariances S, hidden pixels h and context c,
    ``m_h + S_hc (S_cc + alpha s / n I)^-1 (x_c - m_c)``, where s is the mean variance of a feature.
    For data from a normal distribution this tends to the conditional expectation as n grows.
    Information that can be predicted from the surroundings therefore does not count as hidden: a
    pixel that is redundant with another gets almost no importance.

    The hidden pixels of a sample influence its filled values only through the means and
    covariances. This influence is small if there are many more samples than features in the context
    (72 for a window of 3 x 3 pixels and the default reach, in one channel). With fewer samples, the
    values are closer to the hidden ones than the surroundings justify. They are not clipped to the
    range of the data.

    Parameters
    ----------
    alpha : float, default=20.0
        Strength of the penalty, at least 1e-6: that of :class:`sklearn.linear_model.Ridge` on data
        divided by the root of the features' mean variance. Multiplying `X` by a number therefore
        changes nothing, but features in different units should be standardized. The larger `alpha`,
        the closer the values are to the mean. On MNIST and Fashion-MNIST, with 100 to 10,000
        samples, the error of the default on new images is within a few percent of that of the best
        penalty.
    reach : int or None, default=3
        The context consists of all visible pixels that are at most this many pixels away from a
        hidden one along each axis. None uses all visible pixels, which requires solving a linear
        system of their number for each window.
    residuals : bool, default=False
        Whether to add the regression residual of another sample, drawn at random. Expected values
        are smoother than real ones; with residuals, hidden features are drawn from their
        conditional distribution, under the assumption that the residuals do not depend on the
        context. The drop is then the conditional feature importance of [1]_.

    References
    ----------
    .. [1] A. Chamma, D. A. Engemann and B. Thirion, "Statistically Valid Variable Importance
       Assessment through Conditional Permutations", NeurIPS, 2023 (section 3).

    Examples
    --------
    >>> import numpy as np
    >>> from skff.saliency.fills import Conditional
    >>> X = np.array([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]]).reshape(3, 2, 1)
    >>> fill = Conditional(alpha=1e-6).fit(X)  # the first pixel repeats the second
    >>> fill.sample(X, np.array([True, False]), None).ravel().round(3)
    array([0., 1., 5.])
    """

    alpha: float = 20.0
    reach: int | None = 3
    residuals: bool = False

    knows_window: ClassVar[bool] = True

    def __post_init__(self):
        """Validate the penalty and the reach."""
        # Below this, rounding would decide between redundant features of the context.
        alpha = Interval(Real, 1e-6, None, closed="left")
        constraints = {"alpha": [alpha], "reach": [COUNT, None], "residuals": ["boolean"]}
        check_parameters(constraints, vars(self))

    @property
    def is_random(self) -> bool:
        """Whether residuals are drawn."""
        return self.residuals

    def fit(self, X: np.ndarray) -> Any:
        """Compute means and covariances.

        Parameters
        ----------
        X : ndarray of shape (n_samples, *image_shape, n_channels)

        Returns
        -------
        fitted : object with ``sample``

        Raises
        ------
        ValueError
            If features are not numbers, or are missing.
        """
        _check_complete(self, X)
        mean = X.mean(axis=0, dtype=np.float64).ravel()
        squares = (np.square(flat - mean).sum() for flat in _flat_blocks(X))
        variance = sum(squares) / X.size
        at_once = len(mean) <= _MAX_FEATURES
        return _Regression(
            penalty=self.alpha * (variance or 1.0) / len(X),
            reach=self.reach,
            residuals=self.residuals,
            mean=mean,
            covariance=_covariance(X, mean) if at_once else None,
        )


@dataclass(eq=False)
class _Regression:
    """Ridge regression of any pixels on those around them.

    Parameters
    ----------
    penalty : float
        Number added to the variances of the context.
    reach : int or None
        Width of the context in pixels.
    residuals : bool
        Whether residuals of other samples are added.
    mean : ndarray of shape (n_features,)
    covariance : ndarray of shape (n_features, n_features) or None
        None computes covariances window by window.
    """

    penalty: float
    reach: int | None
    residuals: bool
    mean: np.ndarray
    covariance: np.ndarray | None
    # The expected values of the last window, because all draws of a window follow each other. The
    # pair is set in one step, so that threads always see a consistent one.
    _latest: tuple = (None, None)

    def sample(self, X, pixels, random_state):
        """Return expected or drawn values of hidden pixels, (n_samples, n_hidden, n_channels)."""
        values = self._expect(X, pixels)
        if self.residuals:
            unexplained = X[:, pixels].reshape(len(X), -1) - values
            values = values + unexplained[_donors(len(X), random_state)]
        return values.reshape(len(X), -1, X.shape[-1]).astype(_result_type(X), copy=False)

    def _expect(self, X, pixels):
        """Return the expected hidden features, (n_samples, n_hidden)."""
        window, values = self._latest
        if window is None or not np.array_equal(window, pixels):
            n_channels = X.shape[-1]
            around = _surroundings(pixels, self.reach)
            context, hidden = _features(around, n_channels), _features(pixels, n_channels)
            # (n_samples, n_context)
            centred = X[:, around].reshape(len(X), -1) - self.mean[context]
            values = self.mean[hidden] + centred @ self._weights(X, context, hidden)
            if self.residuals:
                self._latest = pixels, values
        return values

    def _weights(self, X, context, hidden):
        """Return the coefficients of the context, of shape (n_context, n_hidden)."""
        features = np.concatenate([context, hidden])
        if self.covariance is None:
            S = _covariance(X, self.mean, features)
        else:
            S = self.covariance[np.ix_(features, features)]
        n = len(context)
        return np.linalg.solve(S[:n, :n] + self.penalty * np.eye(n), S[:n, n:])


def _covariance(X, mean, features=slice(None)):
    """Return the covariance of some features of all samples around their known means."""
    mean, total = mean[features], 0.0
    for flat in _flat_blocks(X):
        centred = flat[:, features] - mean
        total = total + centred.T @ centred
    return total / len(X)


def _blocks(X):
    """Yield some samples at a time, in their order."""
    n_rows = max(1, _BLOCK // max(1, X[0].size))
    return (X[rows] for rows in gen_batches(len(X), n_rows))


def _flat_blocks(X):
    """Yield the same, of shape (n, n_features)."""
    return (block.reshape(len(block), -1) for block in _blocks(X))


def _surroundings(pixels, reach):
    """Return which visible pixels are at most `reach` pixels from a hidden one, or all."""
    if reach is None:
        return ~pixels
    return ndimage.maximum_filter(pixels, size=2 * reach + 1, mode="constant") & ~pixels


def _features(pixels, n_channels):
    """Return the flat indices of all channels of some pixels."""
    return np.flatnonzero(np.repeat(pixels.ravel(), n_channels))


@dataclass(frozen=True)
class Inpaint:
    """Replace hidden features by a smooth continuation of the pixels around the window.

    Each hidden pixel becomes the weighted mean of its neighbours, including hidden ones. This is
    one linear system per window, the same for all samples. On images direct neighbours have weight
    1/6 and diagonal ones 1/12, on sequences both neighbours have weight 1/2; at the border of the
    image the remaining weights are scaled to sum to one. Each sample is filled from its own visible
    pixels only. If every pixel is hidden, the means over the samples are used.

    Parameters
    ----------
    noise : float, default=0.0
        Standard deviation of the normal noise added to each value, in units of the features, at
        least 0. The code of Rong et al. adds 0.01, so that a network cannot recognise the window by
        its smoothness.

    References
    ----------
    .. [1] Y. Rong, T. Leemann, V. Borisov, G. Kasneci and E. Kasneci, "A Consistent and Efficient
       Evaluation Strategy for Attribution Methods", ICML 2022, arXiv:2202.00449, "Noisy Linear
       Imputation".

    Examples
    --------
    >>> import numpy as np
    >>> from skff.saliency.fills import Inpaint
    >>> X = np.array([1.0, 0.0, 0.0, 4.0]).reshape(1, 4, 1)
    >>> hidden = np.array([False, True, True, False])
    >>> Inpaint().fit(X).sample(X, hidden, None).ravel().round(3)
    array([2., 3.])
    """

    noise: float = 0.0

    knows_window: ClassVar[bool] = True

    def __post_init__(self):
        """Validate the noise."""
        check_parameters({"noise": [Interval(Real, 0, None, closed="left")]}, vars(self))

    @property
    def is_random(self) -> bool:
        """Whether noise is added."""
        return self.noise > 0

    def fit(self, X: np.ndarray) -> Any:
        """Determine which pixels are neighbours.

        Parameters
        ----------
        X : ndarray of shape (n_samples, *image_shape, n_channels)

        Returns
        -------
        fitted : object with ``sample``

        Raises
        ------
        ValueError
            If features are not numbers, or are missing.
        """
        _check_complete(self, X)
        image_shape, n_channels = X.shape[1:-1], X.shape[-1]
        mean = X.mean(axis=0, dtype=np.float64).reshape(-1, n_channels)
        return _Continuation(self.noise, mean, _neighbour_weights(image_shape))


@dataclass(frozen=True, eq=False)
class _Continuation:
    """Weighted means of neighbours.

    Parameters
    ----------
    noise : float
        Standard deviation of the added noise.
    mean : ndarray of shape (n_pixels, n_channels)
        Used if every pixel is hidden.
    neighbours : sparse array of shape (n_pixels, n_pixels)
        Weights, positive for neighbours; each row sums to one.
    """

    noise: float
    mean: np.ndarray
    neighbours: sparse.csr_array

    def sample(self, X, pixels, random_state):
        """Return the continued pixels, (n_samples, n_hidden, n_channels)."""
        if pixels.all():
            values = np.broadcast_to(self.mean, (len(X), *self.mean.shape))
        else:
            border, weights = self._solve(np.flatnonzero(pixels))
            # (n_samples, n_border, n_channels)
            known = X[:, *np.unravel_index(border, pixels.shape)]
            values = np.tensordot(known, weights, axes=(1, 1)).swapaxes(1, 2)
        if self.noise > 0:
            values = values + self.noise * random_state.standard_normal(values.shape)
        return values.astype(_result_type(X), copy=False)

    def _solve(self, hidden):
        """Return the visible neighbours of a window, and weights (n_hidden, n_border)."""
        # Values are v_h = N_hh v_h + N_hb v_b, and so v_h = (I - N_hh)^-1 N_hb v_b.
        rows = self.neighbours[hidden]
        border = np.setdiff1d(rows.indices, hidden)
        system = sparse.eye_array(len(hidden)) - rows[:, hidden]
        return border, splu(system.tocsc()).solve(rows[:, border].toarray())


def _neighbour_weights(image_shape):
    """Return the weights of all pixels in the mean around each, (n_pixels, n_pixels)."""
    pixel = np.arange(np.prod(image_shape)).reshape(image_shape)
    padded = np.pad(pixel, 1, constant_values=-1)
    rows, columns, weights = [], [], []
    for step in product((-1, 0, 1), repeat=pixel.ndim):
        n_moves = np.count_nonzero(step)
        if n_moves == 0:
            continue
        shifts = zip(step, image_shape, strict=True)
        neighbour = padded[tuple(slice(1 + move, 1 + move + n) for move, n in shifts)]
        inside = neighbour >= 0
        rows.append(pixel[inside])
        columns.append(neighbour[inside])
        weights.append(np.full(inside.sum(), 1 / n_moves))  # a diagonal one counts half
    rows, columns, weights = map(np.concatenate, (rows, columns, weights))
    sums = np.bincount(rows, weights, minlength=pixel.size)
    return sparse.csr_array((weights / sums[rows], (rows, columns)), shape=(pixel.size,) * 2)


def _result_type(X):
    """Return float32 for float32, float64 for other numbers, and object for the rest."""
    if X.dtype.kind not in _NUMBERS:
        return np.dtype(object)
    return np.dtype(np.float32 if X.dtype == np.float32 else np.float64)


def _check_numbers(fill, X):
    if X.dtype.kind not in _NUMBERS:
        raise ValueError(
            f"Got fill={fill} with features of type {X.dtype}, but expected numbers. Use Permute() "
            "or a Constant, which take features of any type."
        )


def _check_complete(fill, X):
    _check_numbers(fill, X)
    if not all(np.isfinite(block).all() for block in _blocks(X)):
        raise ValueError(
            f"Got fill={fill} and X with missing or infinite values, but expected finite ones: it "
            "computes hidden pixels from others. Impute X first, or use Mean(), Permute() or a "
            "Constant."
        )


FILLS = {
    "mean": Mean(),
    "blur": Blur(),
    "permute": Permute(),
    "conditional": Conditional(),
    "inpaint": Inpaint(),
}


def fit_fill(fill, X):
    """Return the object whose ``sample`` gives the values of hidden pixels.

    Parameters
    ----------
    fill : object
        A value of `FILLS` or one of the same form.
    X : ndarray of shape (n_samples, *image_shape, n_channels)

    Returns
    -------
    fitted : object with ``sample``
        The fill itself if it has nothing to fit.
    """
    return fill.fit(X) if hasattr(fill, "fit") else fill
