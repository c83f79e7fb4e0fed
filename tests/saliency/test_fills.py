import pickle
from dataclasses import FrozenInstanceError
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import Ridge

from skff.saliency import fills
from skff.saliency.fills import FILLS, Blur, Conditional, Constant, Inpaint, Mean, Permute, fit_fill

ALL = FILLS | {
    "constant": Constant(0.5),
    "inpaint with noise": Inpaint(noise=0.1),
    "conditional with residuals": Conditional(residuals=True),
}
all_fills = pytest.mark.parametrize("fill", ALL.values(), ids=list(ALL))
ANY_TYPE = (Constant, Permute)  # the others compute
COMPLETE = (Blur, Conditional, Inpaint)  # compute hidden pixels from others


@st.composite
def images(draw, min_samples=1):
    """Draw (X, pixels): images or sequences with channels last, and at least one hidden pixel."""
    image_shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=2).map(tuple))
    n_samples, n_channels = draw(st.integers(min_samples, 6)), draw(st.integers(1, 2))
    X = hnp.arrays(
        draw(st.sampled_from([np.float32, np.float64])),
        (n_samples, *image_shape, n_channels),
        elements=st.integers(-64, 64).map(lambda n: n / 16),
    )
    pixels = hnp.arrays(bool, image_shape).filter(np.any)
    return draw(X), draw(pixels)


def sample(fill, X, pixels, seed=0):
    return fit_fill(fill, X).sample(X, pixels, np.random.RandomState(seed))


def normal_images(shape, seed=0):
    """Draw correlated images (n, *image_shape, n_channels)."""
    rng = np.random.default_rng(seed)
    n_features = np.prod(shape[1:])
    mixed = rng.normal(size=(shape[0], n_features)) @ rng.normal(size=(n_features, n_features))
    return (mixed + rng.normal(size=n_features)).reshape(shape)


def window(image_shape, *hidden):
    pixels = np.zeros(image_shape, dtype=bool)
    for pixel in hidden:
        pixels[pixel] = True
    return pixels


# All fills


@all_fills
@given(data=images())
def test_values_fit_the_window_and_are_finite_floats(fill, data):
    X, pixels = data
    values = sample(fill, X, pixels)
    assert np.broadcast_to(values, X[:, pixels].shape).dtype == X.dtype
    assert np.isfinite(values).all()


@all_fills
@given(data=images())
def test_the_samples_are_never_modified(fill, data):
    X, pixels = data
    before = X.copy()
    X.flags.writeable = False
    values = sample(fill, X, pixels)
    assert (X == before).all()
    assert not np.shares_memory(values, X)


@all_fills
def test_memory_layout_makes_no_difference(fill):
    X, pixels = normal_images((20, 4, 3, 2)), window((4, 3), (1, 1), (3, 2))
    np.testing.assert_allclose(
        sample(fill, np.asfortranarray(X), pixels), sample(fill, X, pixels), atol=1e-9
    )


@all_fills
@given(data=images(), seed=st.integers(0, 2**32 - 1))
def test_a_pickled_fill_gives_the_same_values(fill, data, seed):
    X, pixels = data
    fitted = fit_fill(pickle.loads(pickle.dumps(fill)), X)
    copied = pickle.loads(pickle.dumps(fitted))
    values = copied.sample(X, pixels, np.random.RandomState(seed))
    assert (values == sample(fill, X, pixels, seed)).all()


@all_fills
def test_only_random_fills_differ_between_draws(fill):
    X, pixels = normal_images((20, 4, 4, 1)), window((4, 4), (1, 1), (1, 2))
    equal = (sample(fill, X, pixels, seed=0) == sample(fill, X, pixels, seed=1)).all()
    assert equal != fill.is_random


@pytest.mark.parametrize("fill", [f for f in ALL.values() if not f.knows_window])
@given(data=images())
def test_fills_that_do_not_know_the_window_can_be_computed_once(fill, data):
    X, pixels = data
    once = sample(fill, X, np.ones_like(pixels))[:, pixels.ravel()]
    assert (once == sample(fill, X, pixels)).all()


@all_fills
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool, np.float16])
def test_other_numbers_become_float64(fill, dtype):
    X = np.array([[0, 1, 0], [1, 0, 0]]).reshape(2, 3, 1)
    values = sample(fill, X.astype(dtype), np.array([True, False, False]))
    assert values.dtype == np.float64
    assert (values == sample(fill, X.astype(np.float64), np.array([True, False, False]))).all()


@all_fills
def test_objects_are_for_fills_that_do_not_compute(fill):
    X = np.array([["a", 1.0], ["b", None], ["c", 2.0]], dtype=object).reshape(3, 2, 1)
    pixels = np.array([True, True])
    if isinstance(fill, ANY_TYPE):
        assert sample(fill, X, pixels).dtype == object
    else:
        with pytest.raises(ValueError, match=r"features of type object.*Use Permute\(\)"):
            fill.fit(X)


@all_fills
@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_missing_values_are_refused_where_they_would_spread(fill, hole):
    X = np.array([[0.0, hole, 1.0], [2.0, 3.0, 4.0]]).reshape(2, 3, 1)
    if isinstance(fill, COMPLETE):
        with pytest.raises(ValueError, match=r"missing or infinite.*Impute X first"):
            fill.fit(X)
    else:
        assert sample(fill, X, np.array([True, False, False])).size


@all_fills
def test_fills_are_settings_that_do_not_change(fill):
    with pytest.raises(FrozenInstanceError):
        fill.sigma = 1.0
    assert hash(fill) == hash(fill)


@pytest.mark.parametrize("fill", [Conditional(), Conditional(reach=None), Inpaint()])
@given(data=images(), value=st.integers(-5, 5))
def test_hidden_values_do_not_show_through(fill, data, value):
    X, pixels = data
    fitted = fill.fit(X)
    changed = X.copy()
    changed[:, pixels] = value
    before, after = (fitted.sample(Z, pixels, None) for Z in (X, changed))
    assert (before == after).all()


# Constant and mean


@pytest.mark.parametrize(
    "value",
    [2, np.full((3, 4), 2), np.full((3, 4, 2), 2.0), np.full(24, 2), [2, 2], [[[2, 2]] * 4] * 3],
    ids=["number", "image", "sample", "flat", "channels", "lists"],
)
def test_a_constant_takes_any_form_of_a_sample(value):
    X, pixels = normal_images((5, 3, 4, 2)), window((3, 4), (0, 0), (2, 3))
    assert (np.broadcast_to(sample(Constant(value), X, pixels), (5, 2, 2)) == 2).all()


def test_each_hidden_feature_takes_its_own_constant():
    X, pixels = normal_images((5, 2, 3, 2)), window((2, 3), (0, 2), (1, 0))
    assert sample(Constant(np.arange(12)), X, pixels).tolist() == [[[4, 5], [6, 7]]]


def test_a_constant_may_be_missing_or_a_word_among_objects():
    X = np.array([["a", "b"], ["c", "d"]], dtype=object).reshape(2, 2, 1)
    assert sample(Constant("none"), X, np.array([True, False])).ravel().tolist() == ["none"]
    assert np.isnan(sample(Constant(np.nan), np.ones((2, 2, 1)), np.array([True, False]))).all()


@pytest.mark.parametrize("value", ["mean", None, 1j])
def test_a_constant_must_be_a_number_among_numbers(value):
    with pytest.raises(ValueError, match="expected a number or an array of numbers"):
        Constant(value).fit(np.ones((2, 3, 1)))


def test_a_constant_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"value of shape \(4,\).*broadcasts to \(3, 1\)"):
        Constant(np.ones(4)).fit(np.ones((2, 3, 1)))


@given(data=images(), holes=st.integers(0, 2**32 - 1))
def test_mean_is_that_of_the_values_that_are_there(data, holes):
    X, pixels = data
    X[np.random.RandomState(holes).rand(*X.shape) < 0.3] = np.nan
    values = sample(Mean(), X, pixels)
    for column, value in zip(X[:, pixels].reshape(len(X), -1).T, values.ravel(), strict=True):
        there = column[~np.isnan(column)]
        expected = there.sum(dtype=np.float64) / len(there) if len(there) else np.nan
        np.testing.assert_allclose(value, expected, rtol=1e-6)


# Blur and permute


def test_blur_is_that_of_scipy_for_each_sample_and_channel():
    X, pixels = normal_images((3, 6, 5, 2)), window((6, 5), (0, 0), (3, 2), (3, 3))
    values = sample(Blur(sigma=1.5), X, pixels)
    for i, channel in product(range(3), range(2)):
        blurred = gaussian_filter(X[i, :, :, channel], 1.5, mode="nearest")
        np.testing.assert_allclose(values[i, :, channel], blurred[pixels])


def test_blur_of_a_sequence_is_that_of_scipy():
    X, pixels = normal_images((3, 9, 1)), window(9, 0, 4)
    values = sample(Blur(), X, pixels)
    for row, sequence in zip(values, X, strict=True):
        blurred = gaussian_filter(sequence[:, 0], 2.0, mode="nearest")
        np.testing.assert_allclose(row[:, 0], blurred[pixels])


@given(data=images(min_samples=2), seed=st.integers(0, 2**32 - 1))
def test_permute_gives_every_sample_the_whole_window_of_another(data, seed):
    X, pixels = data
    X[...] = np.arange(X.size).reshape(X.shape)  # each value tells where it comes from
    values = sample(Permute(), X, pixels, seed)
    donors = [np.flatnonzero((X[:, pixels] == row).all(axis=(1, 2))).item() for row in values]
    assert sorted(donors) == list(range(len(X)))
    assert (np.array(donors) != np.arange(len(X))).all()


def test_permute_can_give_any_other_sample():
    X, pixels = np.arange(4.0).reshape(4, 1, 1), np.array([True])
    random_state = np.random.RandomState(0)
    pairs = {
        (i, donor)
        for _ in range(100)
        for i, donor in enumerate(Permute().sample(X, pixels, random_state).ravel())
    }
    assert pairs == set(permutations(range(4), 2))


# Conditional


def within_reach(pixels, reach):
    """Return the visible pixels near hidden ones, by going over all pairs."""
    hidden = np.argwhere(pixels)
    near = np.zeros_like(pixels)
    for pixel in np.argwhere(~pixels):
        near[tuple(pixel)] = (abs(hidden - pixel).max(axis=1) <= reach).any()
    return near


@pytest.mark.parametrize("max_features", [fills._MAX_FEATURES, 0], ids=["at once", "by window"])
@pytest.mark.parametrize(
    "shape, hidden",
    [
        ((200, 6, 5, 1), [(2, 2), (2, 3)]),
        ((200, 6, 5, 1), [(0, 0), (5, 4)]),
        ((200, 4, 4, 2), [(1, 1)]),
        ((200, 12, 1), [4, 5, 6]),
    ],
    ids=["image", "corners", "channels", "sequence"],
)
@pytest.mark.parametrize("reach", [1, 2, None])
def test_conditional_is_the_ridge_regression_of_scikit_learn(
    shape, hidden, reach, max_features, monkeypatch
):
    monkeypatch.setattr(fills, "_MAX_FEATURES", max_features)
    monkeypatch.setattr(fills, "_BLOCK", 64 * 30)
    X, pixels = normal_images(shape), window(shape[1:-1], *hidden)
    context = within_reach(pixels, shape[1] if reach is None else reach)
    values = sample(Conditional(alpha=30, reach=reach), X, pixels)
    ridge = Ridge(alpha=30 * X.var(axis=0).mean())
    for k, channel in product(range(len(hidden)), range(shape[-1])):
        target = X[:, pixels][:, k, channel]
        surroundings = X[:, context].reshape(len(X), -1)
        expected = ridge.fit(surroundings, target).predict(surroundings)
        np.testing.assert_allclose(values[:, k, channel], expected)


def test_conditional_is_the_conditional_mean_of_a_normal_distribution():
    rng = np.random.default_rng(0)
    mixing, mean = rng.normal(size=(5, 5)), rng.normal(size=5)
    S = mixing @ mixing.T
    white = rng.normal(size=(300, 5))
    white -= white.mean(axis=0)
    root = np.linalg.cholesky(white.T @ white / len(white))
    white = np.linalg.solve(root, white.T).T  # sample covariance: exactly the identity
    X = (mean + white @ mixing.T)[..., np.newaxis]
    h, c = [1, 2], [0, 3, 4]
    expected = mean[h] + (X[:, c, 0] - mean[c]) @ np.linalg.solve(S[np.ix_(c, c)], S[np.ix_(c, h)])
    values = sample(Conditional(alpha=1e-6), X, window(5, 1, 2))
    np.testing.assert_allclose(values[..., 0], expected, atol=1e-6)


@pytest.mark.parametrize("dtype, precision", [(np.float64, 1e-6), (np.float32, 1e-5)])
def test_conditional_restores_a_repeated_column(dtype, precision):
    X = np.random.default_rng(0).normal(size=(50, 6, 1)).astype(dtype)
    X[:, 3] = X[:, 2]
    values = sample(Conditional(alpha=1e-6), X, window(6, 3))
    np.testing.assert_allclose(values, X[:, [3]], atol=precision)


def test_conditional_takes_constant_columns_and_data():
    X = normal_images((30, 4, 4, 1))
    X[:, 0] = 0.1
    constant, hidden = window((4, 4), (0, 1)), window((4, 4), (1, 1))
    np.testing.assert_allclose(sample(Conditional(), X, constant), 0.1)
    assert np.isfinite(sample(Conditional(alpha=1e-6), X, hidden)).all()
    np.testing.assert_allclose(sample(Conditional(), np.full_like(X, 0.1), hidden), 0.1)


def test_conditional_is_the_mean_if_everything_is_hidden_or_nothing_is_related():
    X, everything = normal_images((30, 3, 3, 1)), np.ones((3, 3), dtype=bool)
    np.testing.assert_allclose(
        sample(Conditional(), X, everything),
        np.broadcast_to(X.mean(axis=0).reshape(1, 9, 1), (30, 9, 1)),
    )
    signs = np.array(list(product([-1.0, 1.0], repeat=3)))[..., np.newaxis]  # uncorrelated columns
    np.testing.assert_allclose(sample(Conditional(), signs, window(3, 1)), 0, atol=1e-12)


@given(factor=st.floats(1e-6, 1e6), offset=st.integers(-100, 100))
def test_conditional_does_not_depend_on_units(factor, offset):
    X, pixels = normal_images((20, 3, 4, 1)), window((3, 4), (1, 1))
    values = sample(Conditional(alpha=2), X, pixels)
    other = sample(Conditional(alpha=2), factor * (X + offset), pixels)
    np.testing.assert_allclose(other / factor - offset, values, atol=1e-7)


# Inpaint


@pytest.mark.parametrize("hidden", [(slice(2, 5), slice(1, 4)), ([1, 3, 4], [1, 1, 5])])
def test_inpaint_continues_a_ramp(hidden):
    rows, columns = np.mgrid[:7, :8]
    X = np.stack([rows + 2.0 * columns, 5 - columns])[..., np.newaxis]
    pixels = window((7, 8), hidden)
    np.testing.assert_allclose(sample(Inpaint(), X, pixels), X[:, pixels])


def test_inpaint_of_a_sequence_is_linear_interpolation_and_flat_at_the_ends():
    X = np.array([9.0, 1.0, 9.0, 9.0, 9.0, 5.0, 9.0, 9.0]).reshape(1, 8, 1)
    values = sample(Inpaint(), X, window(8, 0, 2, 3, 4, 6, 7)).ravel()
    np.testing.assert_allclose(values, [1, 2, 3, 4, 5, 5])


@given(data=images())
def test_inpaint_leaves_constant_images_as_they_are(data):
    X, pixels = data
    X[...] = np.arange(len(X)).reshape(-1, *[1] * (X.ndim - 1))
    expected = X.mean(axis=0)[pixels] if pixels.all() else X[:, pixels]
    np.testing.assert_allclose(sample(Inpaint(), X, pixels) - expected, 0, atol=1e-5)


@given(data=images())
def test_inpaint_stays_within_the_range_of_what_is_visible(data):
    X, pixels = data
    seen = X if pixels.all() else X[:, ~pixels]
    values = sample(Inpaint(), X, pixels)
    assert (values >= seen.min() - 1e-5).all()
    assert (values <= seen.max() + 1e-5).all()


@pytest.mark.parametrize("seed", range(5))
def test_inpaint_solves_the_equations_of_road(seed):
    X = normal_images((2, 5, 6, 2), seed)
    pixels = np.random.default_rng(seed).random((5, 6)) < 0.6
    inpainted = X.copy()
    inpainted[:, pixels] = sample(Inpaint(), X, pixels)
    for i, j in np.argwhere(pixels):
        total, weights = 0, 0
        for k, l in product(range(5), range(6)):  # noqa: E741
            weight = {(0, 1): 1 / 6, (1, 0): 1 / 6, (1, 1): 1 / 12}.get((abs(i - k), abs(j - l)), 0)
            total, weights = total + weight * inpainted[:, k, l], weights + weight
        np.testing.assert_allclose(inpainted[:, i, j], total / weights)


def test_inpaint_is_the_mean_if_everything_is_hidden():
    X = normal_images((5, 3, 3, 2))
    values = sample(Inpaint(), X, np.ones((3, 3), dtype=bool))
    np.testing.assert_allclose(values[0], X.mean(axis=0).reshape(9, 2))
    assert (values == values[0]).all()


def test_noise_has_the_standard_deviation_asked_for():
    X, pixels = np.zeros((5000, 3, 3, 1)), window((3, 3), (1, 1), (1, 2))
    noise = sample(Inpaint(noise=0.2), X, pixels)
    np.testing.assert_allclose(noise.std(axis=0), 0.2, rtol=0.05)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.02)
    assert abs(np.corrcoef(noise[:, :, 0].T)[0, 1]) < 0.1  # pixels apart


# Parameters


@pytest.mark.parametrize("sigma", [0, -1.0, np.inf, np.nan, "2", True, None])
def test_blur_asks_for_a_width(sigma):
    with pytest.raises(ValueError, match="Got sigma=.*expected a float in the range \\(0"):
        Blur(sigma=sigma)


@pytest.mark.parametrize("alpha", [0, 1e-7, -1.0, np.inf, np.nan, "1"])
def test_conditional_asks_for_a_penalty(alpha):
    with pytest.raises(ValueError, match="Got alpha=.*expected a float in the range \\[1e-06"):
        Conditional(alpha=alpha)


def test_residuals_keep_the_joint_distribution():
    X = normal_images((4000, 5, 1), seed=2)
    pixels = window(5, 1, 2)
    drawn = X.copy()
    drawn[:, pixels] = sample(Conditional(alpha=1e-6, reach=None, residuals=True), X, pixels)
    expected = X.copy()
    expected[:, pixels] = sample(Conditional(alpha=1e-6, reach=None), X, pixels)
    S, S_drawn, S_expected = (np.cov(one[..., 0].T) for one in (X, drawn, expected))
    np.testing.assert_allclose(S_drawn, S, atol=0.06 * S.max())
    assert (S_expected.diagonal()[1:3] < 0.9 * S.diagonal()[1:3]).all()  # smoother than real


def test_residuals_are_those_of_other_samples():
    X = normal_images((30, 4, 2), seed=1)
    pixels = window(4, 0)
    expected = sample(Conditional(), X, pixels)
    drawn = sample(Conditional(residuals=True), X, pixels)
    unexplained = (X[:, pixels] - expected).reshape(30, -1)
    added = (drawn - expected).reshape(30, -1)
    donors = np.abs(added[:, None] - unexplained).sum(axis=-1).argmin(axis=1)
    np.testing.assert_allclose(added, unexplained[donors], atol=1e-12)
    assert sorted(donors) == list(range(30)) and (donors != np.arange(30)).all()


@pytest.mark.parametrize("reach, error", [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_conditional_asks_for_whole_pixels(reach, error):
    with pytest.raises(error, match="Got reach=.*expected an int in the range \\[1.* or None"):
        Conditional(reach=reach)


@pytest.mark.parametrize("noise", [-0.1, np.nan, None])
def test_inpaint_asks_for_a_standard_deviation(noise):
    with pytest.raises(ValueError, match="Got noise=.*expected a float in the range \\[0"):
        Inpaint(noise=noise)
