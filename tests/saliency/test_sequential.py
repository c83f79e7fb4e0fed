"""Confidence sequences against simulation, and the sequential mode against all samples."""

import numpy as np
import pytest
from saliency.oracle import LinearClassifier, OnePixelClassifier
from scipy.special import beta, betaln
from sklearn.datasets import load_digits

import skff
from skff import ADSExplainer
from skff.saliency._sequential import (
    StoppingRule,
    drop_bounds,
    proportion_bounds,
    sign_p_values,
)


def test_bounds_are_where_the_mixture_martingale_meets_its_limit():
    k, n = np.array([0, 3, 40, 50]), 50
    low, high = proportion_bounds(k, n, 0.05)
    assert low[0] == 0
    assert high[-1] == 1
    for bound, some in ((low, slice(1, None)), (high, slice(None, -1))):
        log_martingale = (
            betaln(k + 0.5, n - k + 0.5)
            - betaln(0.5, 0.5)
            - k * np.log(bound, where=bound > 0, out=np.zeros(4))
            - (n - k) * np.log1p(-bound, where=bound < 1, out=np.zeros(4))
        )
        np.testing.assert_allclose(log_martingale[some], np.log(20), atol=1e-6)
    assert (low <= k / n).all()
    assert (high >= k / n).all()


def test_without_samples_nothing_is_known():
    assert [float(b[0]) for b in proportion_bounds([0], 0, 0.05)] == [0, 1]
    np.testing.assert_array_equal(sign_p_values(np.zeros(1), np.zeros(1)), 1)


def test_p_values_of_the_sign_are_the_inverse_martingale():
    # 9 lost, 1 gained: (beta(9.5, 1.5) / beta(.5, .5) * 2^10)^-1
    expected = beta(0.5, 0.5) / beta(9.5, 1.5) / 2**10
    np.testing.assert_allclose(sign_p_values(np.array([9.0]), np.array([1.0])), expected)
    assert sign_p_values(np.array([3.0]), np.array([3.0])) == 1


def test_bounds_hold_at_all_times_together():
    rng, alpha = np.random.default_rng(0), 0.1
    p_lost, p_gained, n_runs = 0.06, 0.02, 400
    missed, wrong_sign = np.zeros(n_runs, dtype=bool), np.zeros(n_runs, dtype=bool)
    draws = rng.random((n_runs, 2000))
    lost = np.cumsum(draws < p_lost, axis=1)
    gained = np.cumsum(draws > 1 - p_gained, axis=1)
    null_gained = np.cumsum(draws > 1 - p_lost, axis=1)  # as many as are lost
    for n in np.unique(np.geomspace(5, 2000, 60).astype(int)):
        low, high = drop_bounds(lost[:, n - 1], gained[:, n - 1], n, alpha)
        missed |= (low > p_lost - p_gained) | (high < p_lost - p_gained)
        wrong_sign |= sign_p_values(lost[:, n - 1], null_gained[:, n - 1]) <= alpha
    limit = alpha + 3 * np.sqrt(alpha * (1 - alpha) / n_runs)
    assert missed.mean() <= limit
    assert wrong_sign.mean() <= limit


def test_rules_settle_what_they_ask():
    low, high = np.array([0.5, 0.3, 0.0, -0.1]), np.array([0.7, 0.45, 0.2, 0.1])
    p_values = np.array([0.01, 0.2, 0.2, 0.2])
    sign = StoppingRule(0.08, None, 0.05, 0)
    assert sign.is_settled(low, high, p_values).tolist() == [True, True, False, False]
    for k, expected in ((1, [True] * 4), (2, [True] * 4), (3, [True, True, False, False])):
        assert StoppingRule(0.01, k, 0.05, 0).is_settled(low, high, p_values).tolist() == expected


@pytest.fixture(scope="module")
def images():
    X, y = load_digits(return_X_y=True)
    model = LinearClassifier(n_features=64, n_classes=10)
    rng = np.random.default_rng(0)
    return model, X, np.where(rng.random(len(X)) < 0.9, model.predict(X), y)


@pytest.mark.parametrize("engine", ["predict", "incremental"])
def test_what_is_settled_agrees_with_all_samples_and_saves_predictions(engine, images):
    model, X, y = images
    full = ADSExplainer(model, engine=engine).explain(X, y)
    found = ADSExplainer(model, engine=engine, target_precision=0.02, random_state=0).explain(X, y)
    settled = found.window_p_values <= 0.05
    assert settled.sum() > 30
    signs = np.sign(found.window_importances) == np.sign(full.window_importances)
    assert signs[settled].all()
    low, high = found.window_intervals.T
    inside = (low <= full.window_importances) & (full.window_importances <= high)
    assert inside.mean() > 0.95
    known = settled | ((high - low) / 2 <= 0.02)
    assert (known | (found.window_n_samples == len(X))).all()
    assert found.engine_stats["pairs_asked"] == found.window_n_samples.sum() < 0.5 * 64 * len(X)
    assert found.engine_stats["pairs_saved"] == 64 * len(X) - found.window_n_samples.sum()
    assert found.baseline_score == full.baseline_score


def test_engines_agree_in_the_sequential_mode(images):
    model, X, y = images
    settings = {"target_precision": 0.03, "random_state": 1}
    fast, slow = (
        ADSExplainer(model, engine=engine, **settings).explain(X, y)
        for engine in ("incremental", "predict")
    )
    np.testing.assert_array_equal(fast.window_scores, slow.window_scores)
    np.testing.assert_array_equal(fast.window_n_samples, slow.window_n_samples)


def test_a_precision_that_is_never_reached_gives_the_map_of_all_samples(images):
    model, X, y = images
    full = ADSExplainer(model).explain(X[:300], y[:300])
    found = ADSExplainer(model, target_precision=1e-6, top_k=32, alpha=1e-12).explain(
        X[:300], y[:300]
    )
    kept = found.window_n_samples == 300
    assert kept.any()
    np.testing.assert_allclose(found.window_scores[kept], full.window_scores[kept])
    np.testing.assert_allclose(
        found.standard_error.ravel()[kept], full.standard_error.ravel()[kept]
    )
    np.testing.assert_allclose(
        found.per_class.reshape(len(found.classes), -1)[:, kept],
        full.per_class.reshape(len(full.classes), -1)[:, kept],
        atol=1e-12,
    )


def test_the_largest_windows_are_found(images):
    model, X, y = images
    full = ADSExplainer(model).explain(X, y)
    found = ADSExplainer(model, target_precision=1e-4, top_k=5, random_state=0).explain(X, y)
    top = np.sort(full.window_importances)[-5]
    chosen = np.argsort(-found.window_importances)[:5]
    assert (full.window_importances[chosen] >= top - 0.02).all()
    assert found.engine_stats["pairs_saved"] > 0


def test_finer_windows_go_where_coarse_ones_are_significant(images):
    model, X, y = images
    coarse = ADSExplainer(model, window_shape=3, stride=2).explain(X, y)
    found = ADSExplainer(model, window_shape=3, refine=1, alpha=0.01).explain(X, y)
    np.testing.assert_array_equal(np.isfinite(found.importances), coarse.significant(0.01))
    alone = ADSExplainer(model, window_shape=1).explain(X, y)
    explained = np.isfinite(found.importances)
    np.testing.assert_array_equal(found.importances[explained], alone.importances[explained])
    assert found.engine_stats["coarse_pairs"] == 16 * len(X)
    assert found.engine_stats["fine_pairs"] == explained.sum() * len(X)


def test_refining_marks_what_finer_windows_alone_mark_and_no_more(images):
    model, X, y = images
    X = X[:300] * (np.arange(64) % 8 < 4)  # the right half shows nothing
    y, mask = model.predict(X), np.arange(64).reshape(8, 8) < 60
    alone = ADSExplainer(model, window_shape=1, mask=mask).explain(X, y)
    found = ADSExplainer(model, refine=1, mask=mask).explain(X, y)
    np.testing.assert_array_equal(np.isfinite(found.p_values), mask)
    assert (found.p_values[mask & np.isnan(found.importances)] == 1).all()
    for method in ("bh", "by", "holm"):
        marks = found.significant(method=method)
        assert marks.any() and not (marks & ~alone.significant(method=method)).any()
    with pytest.raises(ValueError, match="for a map of `refine`"):
        found.significant(method="max-t")


def test_coarse_windows_take_a_part_of_many_samples():
    rng = np.random.default_rng(0)
    X = rng.choice([-1.0, 1.0], (4000, 81))
    model = OnePixelClassifier(40)  # the centre
    found = ADSExplainer(model, refine=1, random_state=0).explain(X, model.predict(X))
    assert found.engine_stats["coarse_pairs"] == 25 * 500
    assert found.n_samples == 4000
    assert found.significant().ravel().nonzero()[0].tolist() == [40]
    weight = np.r_[np.ones(2500), np.zeros(1500)]
    params = {"window_shape": 3, "refine": 2, "aggregate": "coverage", "random_state": 0}
    found = ADSExplainer(model, **params).explain(X, model.predict(X), weight)
    assert found.engine_stats["coarse_pairs"] == 16 * 741  # 1.5 * 2500 * (4 / 9)^2


@pytest.mark.parametrize(
    ("window_shape", "n_windows"), [(3, 32), (5, 32), ((7, 9), 24), ((1, 11), 48)]
)
def test_coarse_windows_have_strides_of_a_third_of_their_sides(window_shape, n_windows):
    X = np.random.default_rng(0).choice([-1.0, 1.0], (100, 128))
    model = OnePixelClassifier(40)
    params = {"image_shape": (8, 16), "window_shape": window_shape, "refine": 1}
    found = ADSExplainer(model, **params).explain(X, model.predict(X))
    assert found.engine_stats["coarse_pairs"] == n_windows * len(X)


def test_coarse_windows_take_all_samples_where_a_part_shows_nothing():
    y = np.arange(4000) % 200 == 0
    X = np.where(y[:, None], 1.0, -1.0) * np.ones((4000, 64))
    model = OnePixelClassifier(27)  # 20 of 4,000 samples lose their label
    found = ADSExplainer(model, refine=1, random_state=0).explain(X, y.astype(int))
    assert found.engine_stats["coarse_pairs"] == 16 * (500 + 4000)
    assert found.significant()[3, 3]


def test_coarse_windows_without_effect_are_returned_with_a_warning():
    X, y = np.zeros((30, 64)), np.zeros(30, dtype=int)
    with pytest.warns(UserWarning, match="no significant pixel"):
        found = ADSExplainer(LinearClassifier(64), refine=1).explain(X, y)
    assert found.window_shape == (3, 3)


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"target_precision": 0}, ValueError, "target_precision=0, but expected a float in"),
        ({"target_precision": "a"}, TypeError, "target_precision='a'"),
        ({"target_precision": 0.1, "alpha": 1}, ValueError, "alpha=1"),
        ({"target_precision": 0.1, "top_k": 0}, ValueError, "top_k=0"),
        ({"top_k": 3}, ValueError, "without target_precision"),
        ({"target_precision": 0.1, "engine": "score"}, ValueError, "counts correct predictions"),
        ({"target_precision": 0.1, "scoring": "f1_macro"}, ValueError, "'f1_macro'"),
        ({"refine": 1, "groups": [[0]]}, ValueError, "refine=1 with groups"),
        ({"refine": 5}, ValueError, "refine=5 with window_shape=3, but expected smaller windows"),
        ({"refine": 3}, ValueError, "expected smaller windows"),
        ({"refine": 1, "scoring": "neg_log_loss"}, ValueError, "scoring='neg_log_loss', but"),
    ],
)
def test_questions_that_do_not_fit_are_refused(params, error, match, images):
    model, X, y = images
    with pytest.raises(error, match=match):
        ADSExplainer(model, **params).explain(X[:20], y[:20])


def test_predictions_that_depend_on_the_batch_are_refused(images):
    class Centred(LinearClassifier):
        def predict(self, X):
            return super().predict(X - X.mean(axis=0))

    _, X, y = images
    with pytest.raises(ValueError, match="can then not stop early"):
        ADSExplainer(Centred(64, 10), target_precision=0.1).explain(X[:200], y[:200])


def test_what_the_sequential_mode_knows_is_saved_and_loaded(images, tmp_path):
    model, X, y = images
    found = ADSExplainer(model, target_precision=0.05, random_state=0).explain(X[:400], y[:400])
    skff.save(found, tmp_path / "map")
    loaded = skff.load(tmp_path / "map")
    np.testing.assert_array_equal(loaded.window_intervals, found.window_intervals)
    np.testing.assert_array_equal(loaded.window_n_samples, found.window_n_samples)
    assert loaded.engine_stats == found.engine_stats
    assert loaded.significant(method="holm").any()
    with pytest.raises(ValueError, match="map of the sequential mode"):
        loaded.significant(method="max-t")


def test_weights_are_refused(images):
    model, X, y = images
    with pytest.raises(ValueError, match="sample_weight with target_precision"):
        ADSExplainer(model, target_precision=0.1).explain(X[:20], y[:20], np.ones(20))
