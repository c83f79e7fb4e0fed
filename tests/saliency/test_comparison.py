import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from saliency.oracle import LinearClassifier, OnePixelClassifier
from scipy.stats import spearmanr

from skff.saliency import ADSExplainer, compare_explanations


def data(n_samples, seed=0):
    X = np.random.default_rng(seed).normal(size=(n_samples, 36))
    teacher = LinearClassifier(n_features=36, seed=1)
    return X, teacher.predict(X)


class NoisyClassifier(LinearClassifier):
    """Adds a fixed change to the coefficients of another."""

    def coefs(self):
        return super().coefs() + np.random.default_rng(99).normal(size=(self.n_features, 3))


def explain(model, n_samples=400, seed=0):
    X, y = data(n_samples, seed)
    return ADSExplainer(model, image_shape=(6, 6)).explain(X, y)


TEACHER = LinearClassifier(n_features=36, seed=1)
STUDENT = NoisyClassifier(n_features=36, seed=1)


@given(seed=st.integers(0, 2**16), n_ties=st.integers(1, 10))
def test_rank_correlation_is_spearmans(seed, n_ties):
    first, second = np.random.default_rng(seed).integers(0, n_ties + 1, (2, 5, 4)).astype(float)
    assume(np.ptp(first) > 0 and np.ptp(second) > 0)
    found = compare_explanations(first, second)
    expected = spearmanr(first.ravel(), second.ravel()).statistic
    assert found.rank_correlation == pytest.approx(expected)
    assert found.rank_correlation_interval is None and found.top_overlap_interval is None


def test_top_overlap_counts_shared_pixels():
    first, second = np.arange(10.0), np.array([9, 1, 2, 3, 4, 5, 6, 7, 8, 0.0])
    assert compare_explanations(first, second, top=3).top_overlap == pytest.approx(2 / 3)
    found = compare_explanations(first, second, top=0.2)
    assert (found.n_top, found.top_overlap) == (2, 0.5)


def test_a_map_agrees_with_itself_and_with_any_growing_function_of_it():
    found = explain(TEACHER)
    for other in (found, np.exp(found.importances)):
        comparison = compare_explanations(found, other, random_state=0)
        assert comparison.rank_correlation == pytest.approx(1)
        assert comparison.top_overlap == 1
    assert compare_explanations(found, found).rank_correlation_interval == pytest.approx((1, 1))


def test_folds_average_to_the_map():
    found = explain(TEACHER)
    mean = np.average(found.fold_importances, axis=0, weights=found.fold_weights)
    np.testing.assert_allclose(mean, found.importances, atol=1e-12)
    X, y = data(400)
    weighted = ADSExplainer(TEACHER, image_shape=(6, 6)).explain(X, y, np.linspace(0.1, 1, 400))
    mean = np.average(weighted.fold_importances, axis=0, weights=weighted.fold_weights)
    np.testing.assert_allclose(mean, weighted.importances, atol=1e-12)


def test_bootstrap_over_folds_spreads_like_new_samples():
    found = explain(TEACHER, n_samples=1000)
    n_folds = len(found.fold_importances)
    draws = np.random.default_rng(0).integers(0, n_folds, (2000, n_folds))
    spread = found.fold_importances[draws].mean(axis=1).std(axis=0)
    np.testing.assert_allclose(spread.mean(), found.standard_error.mean(), rtol=0.1)


def test_intervals_hold_the_agreement_on_many_samples_and_narrow_with_their_number():
    truth = compare_explanations(explain(TEACHER, 20_000, 7), explain(STUDENT, 20_000, 7))
    small, large = (
        compare_explanations(explain(TEACHER, n), explain(STUDENT, n), random_state=0)
        for n in (400, 4000)
    )
    low, high = large.rank_correlation_interval
    assert low <= large.rank_correlation <= high
    assert low - 0.02 <= truth.rank_correlation <= high + 0.02
    assert np.ptp(small.rank_correlation_interval) > 1.5 * (high - low)
    low, high = large.top_overlap_interval
    assert 0 <= low <= truth.top_overlap <= high <= 1


def test_explanations_of_the_same_samples_are_drawn_together():
    first, second = explain(TEACHER), explain(STUDENT)
    other = explain(STUDENT, n_samples=399)
    together = compare_explanations(first, second, random_state=0)
    apart = compare_explanations(first, other, random_state=0)
    assert together.rank_correlation_interval != apart.rank_correlation_interval
    again = compare_explanations(first, second, random_state=0)
    assert together == again


def test_pixels_one_map_leaves_out_do_not_count():
    mask = np.zeros((6, 6), dtype=bool)
    mask[:3] = True
    X, y = data(400)
    part = ADSExplainer(TEACHER, image_shape=(6, 6), mask=mask).explain(X, y)
    found = compare_explanations(part, explain(TEACHER), top=5, random_state=0)
    assert found.n_pixels == 18
    assert found.rank_correlation == pytest.approx(1)


def test_confidence_widens_intervals():
    first, second = explain(TEACHER), explain(STUDENT)
    narrow, wide = (
        compare_explanations(first, second, confidence_level=level, random_state=0)
        for level in (0.5, 0.99)
    )
    assert np.ptp(narrow.rank_correlation_interval) < np.ptp(wide.rank_correlation_interval)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"second": np.zeros((3, 4))}, ValueError, "constant map"),
        ({"second": np.ones((4, 3))}, ValueError, r"shapes \(3, 4\) and \(4, 3\)"),
        ({"top": 0.0}, ValueError, "top=0.0"),
        ({"top": 13}, ValueError, "top=13, but expected at most 12"),
        ({"top": 0}, ValueError, "top=0"),
        ({"n_bootstrap": 0}, ValueError, "n_bootstrap=0"),
        ({"confidence_level": 1.0}, ValueError, "confidence_level=1.0"),
        ({"random_state": "seed"}, ValueError, "random_state='seed'"),
    ],
)
def test_bad_input_is_named(change, error, message):
    case = {"first": np.eye(3, 4), "second": np.eye(3, 4)} | change
    with pytest.raises(error, match=message):
        compare_explanations(case.pop("first"), case.pop("second"), **case)


@pytest.mark.parametrize("is_first", [True, False])
def test_maps_of_the_sequential_mode_are_refused(is_first):
    X = np.random.default_rng(0).choice([-1.0, 1.0], (300, 9))
    model, settings = OnePixelClassifier(4), {"target_precision": 0.1, "random_state": 0}
    maps = [ADSExplainer(model, **params).explain(X, model.predict(X)) for params in (settings, {})]
    assert maps[0].window_n_samples.min() < 300  # a window stopped early
    with pytest.raises(ValueError, match="map of the sequential mode"):
        compare_explanations(*(maps if is_first else maps[::-1]))


def test_scores_without_samples_of_their_own_give_no_interval():
    X = np.random.default_rng(0).choice([-1.0, 1.0], (30, 9))
    model = OnePixelClassifier(4)
    found = ADSExplainer(model, scoring=minus_errors).explain(X, model.predict(X))
    comparison = compare_explanations(found, found)
    assert comparison.rank_correlation_interval is None


def minus_errors(estimator, X, y):
    return -float((estimator.predict(X) != y).sum())
