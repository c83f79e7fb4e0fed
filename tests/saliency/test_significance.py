from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from saliency.oracle import FixedClassifier, LinearClassifier, OnePixelClassifier
from scipy.stats import binomtest, false_discovery_control, norm

import skff
from skff.saliency import ADSExplainer, ADSExplanation
from skff.saliency._statistics import ADJUSTMENTS, METHODS, holm, max_t

N_SIGNAL, N_NULL, N_IGNORED = 2, 8, 8


class SignalOrParity(FixedClassifier):
    """Votes with the signal pixels for half of the samples, guesses for the others.

    The guess is a parity of the signs of null pixels: hiding one changes it as often to the worse
    as to the better, so its importance is noise around zero. The last feature says which half.
    """

    def predict(self, X):
        signal = X[:, :N_SIGNAL].sum(axis=1) > 0
        guess = (X[:, N_SIGNAL : N_SIGNAL + N_NULL] > 0).sum(axis=1) % 2 == 1
        return np.where(X[:, -1] > 0, signal, guess).astype(int)


def draw(seed, n_samples=600):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n_samples)
    X = rng.normal(size=(n_samples, N_SIGNAL + N_NULL + N_IGNORED + 1))
    X[:, :N_SIGNAL] += (2 * y - 1)[:, None]
    return X, y


def marks(seed, alpha):
    explainer = ADSExplainer(SignalOrParity(), window_shape=1)
    return explainer.explain(*draw(seed)).significant(alpha)


@pytest.fixture(scope="module")
def many_marks():
    return np.stack([marks(seed, alpha=0.2) for seed in range(100)])


def test_false_discovery_rate_holds_over_many_seeds(many_marks):
    is_null = np.zeros(many_marks.shape[1], dtype=bool)
    is_null[N_SIGNAL:-1] = True
    false, found = many_marks[:, is_null].sum(axis=1), many_marks.sum(axis=1)
    # Benjamini and Hochberg: at most alpha times the share of true nulls; 0.05 for 100 seeds.
    assert np.mean(false / np.maximum(found, 1)) <= 0.2 * is_null.mean() + 0.05
    assert false.any()  # the nulls are a real temptation


def test_ignored_pixels_are_never_marked(many_marks):
    assert not many_marks[:, N_SIGNAL + N_NULL : -1].any()


def test_signal_pixels_are_found(many_marks):
    assert many_marks[:, :N_SIGNAL].mean() > 0.9


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_p_values_of_a_null_pixel_are_rarely_small(alpha):
    shares = []
    for seed in range(60):
        found = ADSExplainer(SignalOrParity(), window_shape=1).explain(*draw(seed))
        shares.append(found.p_values[N_SIGNAL : N_SIGNAL + N_NULL] <= alpha)
    assert np.mean(shares) <= alpha + 0.04


def test_p_values_are_mcnemars_exact_ones():
    X = np.random.default_rng(0).integers(-2, 3, (60, 9)).astype(float)
    model = LinearClassifier(n_features=9, seed=2)
    y = np.where(np.arange(60) % 3, model.predict(X), 0)
    found = ADSExplainer(model, window_shape=1).explain(X, y)
    for feature in range(9):
        hidden = X.copy()
        hidden[:, feature] = 0
        d = (model.predict(X) == y) * 1 - (model.predict(hidden) == y)
        n_flips = int(abs(d).sum())
        expected = binomtest(int((d > 0).sum()), n_flips).pvalue if n_flips else 1.0
        assert found.p_values[feature] == pytest.approx(expected)
    adjusted = false_discovery_control(found.p_values)
    for alpha in (0.01, 0.05, 0.5):
        np.testing.assert_array_equal(found.significant(alpha), adjusted <= alpha)
    assert found.significant(0.05, method="by").sum() <= found.significant(0.05).sum()


def test_weighted_p_values_agree_with_exact_ones_where_both_apply():
    X, y = draw(0)
    plain = ADSExplainer(SignalOrParity(), window_shape=1).explain(X, y)
    equal = ADSExplainer(SignalOrParity(), window_shape=1).explain(X, y, np.full(len(y), 2.0))
    assert (equal.p_values[N_SIGNAL + N_NULL : -1] == 1).all()
    np.testing.assert_allclose(equal.p_values, plain.p_values, atol=0.1)


def test_weighted_p_values_by_hand():
    model, weight = OnePixelClassifier(3), np.array([1.0, 2.0, 4.0])
    found = ADSExplainer(model, window_shape=1).explain(np.ones((3, 9)), [1, 1, 0], weight)
    # Hiding the pixel spoils the first two predictions and corrects the third.
    z = (1 + 2 - 4) / np.sqrt(1 + 4 + 16)
    assert found.p_values[3] == pytest.approx(2 * norm.sf(abs(z)))
    assert (np.delete(found.p_values, 3) == 1).all()


def test_two_weighted_samples_prove_nothing():
    found = ADSExplainer(OnePixelClassifier(3)).explain(np.ones((2, 9)), [1, 1], [1.0, 1.0])
    assert not found.significant().any()  # although their differences do not vary


def test_coverage_marks_only_pixels_that_share_a_window_with_a_used_one():
    X = np.random.default_rng(0).choice([-1.0, 1.0], (60, 8, 8))
    model = OnePixelClassifier(27)  # row 3, column 3
    y = model.predict(X)
    found = ADSExplainer(model, aggregate="coverage").explain(X, y)
    rows, columns = np.indices((8, 8))
    near = np.maximum(abs(rows - 3), abs(columns - 3)) <= 2
    assert not found.significant()[~near].any()
    assert found.significant()[3, 3]
    assert (0 <= found.p_values).all() and (found.p_values <= 1).all()


def test_significance_needs_accuracy_on_several_samples():
    model, X = OnePixelClassifier(3), np.ones((3, 9))
    alone = ADSExplainer(model).explain(X[:1], [1])
    scored = ADSExplainer(model, scoring=minus_errors).explain(X, [1, 1, 1])
    for method in METHODS:
        with pytest.raises(ValueError, match="accuracy on at least 2"):
            alone.significant(method=method)
        with pytest.raises(ValueError, match="explanation of 'minus_errors'"):
            scored.significant(method=method)


def minus_errors(estimator, X, y):
    return -float((estimator.predict(X) != y).sum())


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"alpha": 0}, ValueError, "Got alpha=0, but expected a float in"),
        ({"alpha": 1}, ValueError, "alpha=1"),
        ({"alpha": -0.5}, ValueError, "alpha=-0.5"),
        ({"alpha": np.nan}, ValueError, "alpha=nan"),
        ({"alpha": "a"}, TypeError, "Got alpha='a', but expected a float in"),
        ({"alpha": True}, TypeError, "alpha=True"),
        ({"alpha": np.array([0.05])}, TypeError, "alpha=array"),
        ({"alpha": None}, TypeError, "alpha=None"),
        ({"method": "fdr"}, ValueError, "a str among {.*'max-t'"),
        ({"method": "max-t", "n_resamples": 0}, ValueError, "n_resamples=0"),
        ({"method": "max-t", "n_resamples": 10}, ValueError, "expected at least 19"),
    ],
)
def test_bad_parameters_are_named(params, error, message):
    found = ADSExplainer(OnePixelClassifier(3)).explain(np.ones((3, 9)), [1] * 3)
    with pytest.raises(error, match=message):
        found.significant(**params)


def test_p_values_survive_saving(tmp_path):
    found = ADSExplainer(SignalOrParity(), window_shape=1).explain(*draw(0))
    skff.save(found, tmp_path / "map")
    loaded = skff.load(tmp_path / "map")
    np.testing.assert_array_equal(loaded.significant(), found.significant())


class CountsOnes(FixedClassifier):
    """Predicts the parity of the number of ones, so that hiding a one flips the prediction."""

    def predict(self, X):
        return (X == 1).sum(axis=1) % 2


N_PIXELS, N_EFFECTS = 32, 4
ACCURACY = 0.9  # the few wrong samples change as often as the many right ones
NULLS = {
    "few samples": {"n_samples": 40, "rate": 0.15},
    "rare changes": {"n_samples": 200, "rate": 0.02},
    "more samples than folds": {"n_samples": 240, "rate": 0.1},
    "correlated pixels": {"n_samples": 200, "rate": 0.1, "correlation": 0.9},
    "few weighted samples": {"n_samples": 10, "rate": 0.15, "is_weighted": True},
    "heavy weights": {"n_samples": 200, "rate": 0.1, "is_weighted": True},
    "beside effects": {"n_samples": 200, "rate": 0.1, "effect": 0.3},
}


def explain_null(seed, *, n_samples, rate, correlation=0.0, is_weighted=False, effect=0.0):
    """Explain samples whose predictions change at random, to the worse as often as to the better.

    Parameters
    ----------
    rate : float
        Probability that hiding a pixel changes a prediction.
    correlation : float
        Of what decides on a change, within blocks of 8 pixels.
    effect : float
        Probability that hiding one of the first 4 pixels spoils a prediction, the null elsewhere.
    """
    rng = np.random.default_rng(seed)
    is_right = rng.random(n_samples) < ACCURACY
    shared = rng.normal(size=(n_samples, N_PIXELS // 8)).repeat(8, axis=1)
    own = rng.normal(size=(n_samples, N_PIXELS))
    score = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    share = np.where(is_right, ACCURACY, 1 - ACCURACY)
    changes = score > norm.isf(rate / 2 / share)[:, None]
    if effect:
        draws = rng.random((n_samples, N_EFFECTS)) < effect
        changes[:, :N_EFFECTS] = draws & is_right[:, None]
    X = np.where(changes, 1.0, 2.0)
    labels = CountsOnes().predict(X)
    y = np.where(is_right, labels, 1 - labels)
    weight = rng.pareto(1.5, n_samples) + 0.1 if is_weighted else None
    return ADSExplainer(CountsOnes(), window_shape=1, engine="score").explain(X, y, weight)


N_MAPS = 120
LIMIT = 0.05 + 3 * np.sqrt(0.05 * 0.95 / N_MAPS)


@pytest.fixture(scope="module", params=NULLS, ids=[name.replace(" ", "_") for name in NULLS])
def simulated(request):
    """Return the masks of maps, of shape (n_maps, n_pixels) by method, and the true effects."""
    null = NULLS[request.param]
    maps = [explain_null(seed, **null) for seed in range(N_MAPS)]
    marks = {
        method: np.stack([one.significant(method=method, n_resamples=400) for one in maps])
        for method in METHODS
    }
    has_effect = np.arange(N_PIXELS) < (N_EFFECTS if "effect" in null else 0)
    return marks, has_effect


@pytest.mark.parametrize("method", ["holm", "max-t"])
def test_family_wise_error_rate_holds(simulated, method):
    marks, has_effect = simulated
    assert marks[method][:, ~has_effect].any(axis=1).mean() <= LIMIT


@pytest.mark.parametrize("method", ["bh", "by"])
def test_expected_share_of_false_marks_holds(simulated, method):
    marks, has_effect = simulated
    n_false = marks[method][:, ~has_effect].sum(axis=1)
    assert np.mean(n_false / np.maximum(marks[method].sum(axis=1), 1)) <= LIMIT


def test_stricter_methods_mark_a_part_of_what_bh_marks(simulated):
    marks, _ = simulated
    assert (marks["holm"] <= marks["bh"]).all()
    assert (marks["by"] <= marks["bh"]).all()


def test_every_method_finds_obvious_effects():
    found = explain_null(0, n_samples=200, rate=0.1, effect=0.3)
    for method in METHODS:
        assert found.significant(method=method)[:N_EFFECTS].all()


def test_max_t_finds_more_than_holm_where_pixels_are_correlated():
    params = {"n_samples": 200, "rate": 0.1, "correlation": 0.95, "effect": 0.06}
    maps = [explain_null(seed, **params) for seed in range(40)]
    n_found = {
        method: sum(one.significant(method=method)[:N_EFFECTS].sum() for one in maps)
        for method in ("holm", "max-t")
    }
    assert n_found["max-t"] > 1.1 * n_found["holm"] > 0


def test_holm_by_hand():
    p_values = np.array([0.04, 0.01, 0.03, 0.005])
    np.testing.assert_allclose(holm(p_values), [0.06, 0.03, 0.06, 0.02])
    np.testing.assert_array_equal(holm(np.array([0.9, 0.8])), [1, 1])


@given(
    p_values=hnp.arrays(float, st.integers(1, 8), elements=st.floats(0, 1)),
    alpha=st.floats(0.001, 0.999),
)
def test_holm_rejects_one_by_one_until_the_first_that_it_keeps(p_values, alpha):
    rejected = np.zeros(len(p_values), dtype=bool)
    for k, pixel in enumerate(np.argsort(p_values, kind="stable")):
        if p_values[pixel] * (len(p_values) - k) > alpha:
            break
        rejected[pixel] = True
    np.testing.assert_array_equal(holm(p_values) <= alpha, rejected)


def test_max_t_agrees_with_all_flips():
    rng = np.random.default_rng(3)
    sums = rng.normal(size=(8, 5)) + [2.0, 1.0, 0.5, 0.0, 0.0]
    statistics = np.abs(sums.sum(axis=0)) / np.sqrt((sums**2).sum(axis=0))
    signs = np.array(list(product([-1, 1], repeat=8)))
    flipped = np.abs(signs @ sums) / np.sqrt((sums**2).sum(axis=0))
    expected, floor = np.empty(5), 0.0
    remaining = list(np.argsort(-statistics))
    while remaining:
        pixel = remaining[0]
        highest = flipped[:, remaining].max(axis=1)
        floor = max(floor, np.mean(highest >= statistics[pixel] - 1e-9))
        expected[remaining.pop(0)] = floor
    found = max_t(sums, n_resamples=20_000, random_state=0)
    np.testing.assert_allclose(found, expected, atol=0.015)


def test_max_t_does_not_mistake_rounding_for_an_effect():
    found = explain_null(0, n_samples=200, rate=0.1)
    noise = np.full((50, N_PIXELS), 1e-17)
    flat = ADSExplanation(**{**vars(found), "fold_importances": noise})
    assert not flat.significant(method="max-t").any()


def test_max_t_depends_on_its_seed_only():
    found = explain_null(0, n_samples=200, rate=0.1, effect=0.1)
    first, second = (found.significant(0.2, method="max-t") for _ in range(2))
    np.testing.assert_array_equal(first, second)
    sums = found.fold_importances * found.fold_weights[:, None]
    one, other = (max_t(sums, n_resamples=400, random_state=seed) for seed in (1, 2))
    assert (one != other).any()
    np.testing.assert_allclose(one, other, atol=0.15)


def test_max_t_leaves_out_what_was_not_explained():
    X = np.random.default_rng(0).choice([-1.0, 1.0], (60, 8, 8))
    model, mask = OnePixelClassifier(27), np.zeros((8, 8), dtype=bool)
    mask[3:5, 3:5] = True
    found = ADSExplainer(model, mask=mask).explain(X, model.predict(X))
    np.testing.assert_array_equal(found.significant(method="max-t"), mask)


def test_max_t_needs_six_samples():
    for n_samples, is_found in ((5, False), (6, True)):
        X = np.ones((n_samples, 9))
        found = ADSExplainer(OnePixelClassifier(3), window_shape=1).explain(X, [1] * n_samples)
        marked = found.significant(method="max-t")
        np.testing.assert_array_equal(marked, is_found & (np.arange(9) == 3))


def nine_squares(aggregate):
    """Return samples of 9 x 9 pixels, and explainers that hide nine squares of 3 x 3."""
    X = np.random.default_rng(0).choice([1.0, 2.0], (60, 9, 9), p=[0.2, 0.8])
    X[:, [1, 4, 7]] = X[:, [1]]  # correlated squares
    y = CountsOnes().predict(X.reshape(60, -1))
    y[:20] = 1 - y[:20]
    if aggregate == "groups":
        rows, columns = np.indices((9, 9)) // 3
        return X, y, ADSExplainer(FlatCounts(), groups=3 * rows + columns)
    return X, y, ADSExplainer(FlatCounts(), stride=3, aggregate=aggregate)


class FlatCounts(CountsOnes):
    def predict(self, X):
        return super().predict(X.reshape(len(X), -1))


@pytest.mark.parametrize("method", ["bh", "by", "holm"])
@pytest.mark.parametrize("aggregate", ["groups", "coverage"])
def test_corrections_count_regions_not_pixels(method, aggregate):
    X, y, explainer = nine_squares(aggregate)
    found = explainer.explain(X, y)
    p_values = np.sort(found.window_p_values)
    assert len(p_values) == 9 and np.ptp(p_values) > 0
    adjusted = ADJUSTMENTS[method](found.window_p_values)
    by_square = found.importances[1::3, 1::3].ravel()
    np.testing.assert_array_equal(by_square, found.window_importances)
    for alpha in adjusted[adjusted < 1]:
        marked = found.significant(min(alpha * (1 + 1e-9), 0.999), method=method)
        expected = (adjusted <= alpha).reshape(3, 3).repeat(3, axis=0).repeat(3, axis=1)
        np.testing.assert_array_equal(marked, expected)


def test_windows_at_a_stride_are_one_test_each():
    X = np.random.default_rng(0).choice([-1.0, 1.0], (40, 10, 7))
    model = OnePixelClassifier(25)
    found = ADSExplainer(model, stride=2).explain(X, model.predict(X))
    np.testing.assert_array_equal(np.unique(found.pixel_tests), range(len(found.window_scores)))
    every = ADSExplainer(model, aggregate="coverage").explain(X, model.predict(X))
    assert len(np.unique(every.pixel_tests)) == 70


def test_overlapping_groups_make_a_test_of_each_combination():
    X = np.random.default_rng(0).choice([-1.0, 1.0], (40, 9))
    model = OnePixelClassifier(3)
    explainer = ADSExplainer(model, groups=[[0, 1, 2, 3], [3, 4, 5], [7, 6]])
    tests = explainer.explain(X, model.predict(X)).pixel_tests
    np.testing.assert_array_equal(tests, [0, 0, 0, 1, 2, 2, 3, 3, -1])


def test_refined_maps_count_the_finer_windows_of_all_pixels():
    X = np.random.default_rng(0).choice([-1.0, 1.0], (60, 12, 12))
    model = OnePixelClassifier(12 * 4 + 7)
    explainer = ADSExplainer(model, window_shape=5, refine=3, stride=3)
    found = explainer.explain(X, model.predict(X))
    whole = ADSExplainer(model, window_shape=3, stride=3).explain(X, model.predict(X))
    np.testing.assert_array_equal(found.pixel_tests, whole.pixel_tests)
    is_seen = np.isfinite(found.importances)
    assert 0 < is_seen.sum() < is_seen.size
    np.testing.assert_array_equal(found.p_values, np.where(is_seen, whole.p_values, 1))
    # Of a test, all pixels are measured or none.
    assert not set(found.pixel_tests[is_seen]) & set(found.pixel_tests[~is_seen])
