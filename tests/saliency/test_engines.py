import re

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from saliency.oracle import (
    BatchClassifier,
    ConstantClassifier,
    LinearClassifier,
    OnePixelClassifier,
    plain_center_map,
)
from sklearn.metrics import accuracy_score
from strategies import image_sets

from skff.saliency import ADSExplainer
from skff.saliency._engines import ENGINES

SEEDS = st.integers(0, 2**16)


def linear(X, seed, **params):
    """Return flat images, labels of which most are right, and their classifier."""
    flat = X.reshape(len(X), -1)
    model = LinearClassifier(n_features=flat.shape[1], seed=seed, **params)
    wrong = np.random.default_rng(seed).integers(0, 3, len(X))
    y = np.where(np.arange(len(X)) % 3 == 2, wrong, model.predict(flat))
    return flat, y, model


def explain(model, X, y, *, sample_weight=None, **params):
    return ADSExplainer(model, **params).explain(X, y, sample_weight)


@pytest.mark.parametrize("engine", ENGINES)
@given(X=image_sets(), seed=SEEDS, fill=st.integers(-2, 2))
def test_engines_agree_with_a_plain_loop(engine, X, seed, fill):
    flat, y, model = linear(X, seed)

    def score(images, y):
        return accuracy_score(y, model.predict(images.reshape(len(images), -1)))

    found = explain(model, flat, y, image_shape=X.shape[1:], fill=fill, engine=engine)
    expected = plain_center_map(score, X, y, fill=fill)
    np.testing.assert_array_equal(found.importances, expected)
    assert found.engine == engine
    assert np.isfinite(found.per_class).all()


@pytest.mark.parametrize("aggregate", ["center", "coverage"])
@given(X=image_sets(max_samples=12), seed=SEEDS, batch_size=st.integers(1, 40))
def test_engines_agree_in_every_field(aggregate, X, seed, batch_size):
    flat, y, model = linear(X, seed)
    params = {"image_shape": X.shape[1:], "aggregate": aggregate, "batch_size": batch_size}
    found = [explain(model, flat, y, engine=engine, **params) for engine in ENGINES]
    for other in found[1:]:
        for field in ("importances", "window_scores", "standard_error", "per_class", "classes"):
            np.testing.assert_array_equal(getattr(found[0], field), getattr(other, field))
        assert found[0].baseline_score == other.baseline_score


@given(X=image_sets(max_samples=12), seed=SEEDS)
def test_engines_agree_with_weights(X, seed):
    flat, y, model = linear(X, seed)
    weight = np.random.default_rng(seed).uniform(0, 2, len(X))
    weight[1:3] = 0
    found = [
        explain(model, flat, y, sample_weight=weight, image_shape=X.shape[1:], engine=engine)
        for engine in ENGINES
    ]
    expected = accuracy_score(y, model.predict(flat), sample_weight=weight)
    assert found[0].baseline_score == pytest.approx(expected)
    for other in found[1:]:
        np.testing.assert_allclose(found[0].window_scores, other.window_scores, atol=1e-12)
        np.testing.assert_allclose(found[0].per_class, other.per_class, atol=1e-12)
        if len(X[weight > 0]) > 1:
            np.testing.assert_allclose(found[0].standard_error, other.standard_error, atol=1e-7)


@given(X=image_sets(), fill=st.integers(-2, 2))
def test_a_constant_classifier_has_a_zero_map(X, fill):
    flat = X.reshape(len(X), -1)
    y = np.arange(len(X)) % 2
    for engine in ("score", "predict"):
        found = explain(
            ConstantClassifier(), flat, y, image_shape=X.shape[1:], fill=fill, engine=engine
        )
        assert not found.importances.any()


@given(shape=st.tuples(st.integers(3, 8), st.integers(3, 8)), data=st.data())
def test_a_classifier_of_one_pixel_has_a_map_exactly_where_windows_cover_it(shape, data):
    row, column = (data.draw(st.integers(0, side - 1)) for side in shape)
    rng = np.random.default_rng(row)
    X = rng.choice([-1.0, 1.0], (20, *shape))
    y = (X[:, row, column] > 0).astype(int)
    assume(y.any())
    model = OnePixelClassifier(feature=row * shape[1] + column)
    rows, columns = np.indices(shape)
    near = np.maximum(abs(rows - row), abs(columns - column))
    maps = {
        aggregate: explain(model, X, y, aggregate=aggregate).importances
        for aggregate in ("center", "coverage")
    }
    assert ((maps["center"] != 0) == (near <= 1)).all()
    assert not maps["coverage"][near > 2].any()
    assert maps["coverage"][row, column] == pytest.approx(y.mean())
    assert maps["center"][row, column] == pytest.approx(y.mean())


@given(X=image_sets(), seed=SEEDS)
def test_hiding_what_is_hidden_already_changes_nothing(X, seed):
    flat, y, model = linear(X, seed)
    for engine in ENGINES:
        found = explain(
            model, flat, y, image_shape=X.shape[1:], fill=lambda X: X.copy(), engine=engine
        )
        assert not found.importances.any()
        assert not found.standard_error.any() if len(X) > 1 else found.standard_error is None


def test_standard_error_is_that_of_the_paired_differences():
    X = np.random.default_rng(0).integers(-2, 3, (60, 4, 4)).astype(float)
    flat, y, model = linear(X, 3)
    found = explain(model, flat, y, image_shape=(4, 4))
    before = model.predict(flat) == y
    for i, j in np.ndindex(4, 4):
        hidden = X.copy()
        hidden[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] = 0
        d = before * 1.0 - (model.predict(hidden.reshape(60, -1)) == y)
        assert found.importances[i, j] == pytest.approx(d.mean())
        assert found.standard_error[i, j] == pytest.approx(d.std(ddof=1) / np.sqrt(60))


def test_standard_error_with_weights_matches_equal_weights_and_the_bootstrap():
    X = np.random.default_rng(0).integers(-2, 3, (200, 4, 4)).astype(float)
    flat, y, model = linear(X, 3)
    plain = explain(model, flat, y, image_shape=(4, 4))
    equal = explain(model, flat, y, sample_weight=np.full(200, 2.5), image_shape=(4, 4))
    np.testing.assert_allclose(equal.standard_error, plain.standard_error)
    weight = np.random.default_rng(1).exponential(size=200)
    found = explain(model, flat, y, sample_weight=weight, image_shape=(4, 4))
    hidden = X.copy()
    hidden[:, :2, :2] = 0
    d = (model.predict(flat) == y) * 1.0 - (model.predict(hidden.reshape(200, -1)) == y)
    draws = np.random.default_rng(2).integers(0, 200, (4000, 200))
    means = (d * weight)[draws].sum(axis=1) / weight[draws].sum(axis=1)
    assert found.standard_error[0, 0] == pytest.approx(means.std(), rel=0.05)


def test_standard_error_under_coverage_bounds_that_of_the_mean():
    X = np.random.default_rng(0).integers(-2, 3, (80, 4, 4)).astype(float)
    flat, y, model = linear(X, 3)
    found = explain(model, flat, y, image_shape=(4, 4), window_shape=2, aggregate="coverage")
    before = model.predict(flat) == y
    d = np.zeros((80, 3, 3))
    for i, j in np.ndindex(3, 3):
        hidden = X.copy()
        hidden[:, i : i + 2, j : j + 2] = 0
        d[:, i, j] = before * 1.0 - (model.predict(hidden.reshape(80, -1)) == y)
    exact = d[:, :2, :2].mean(axis=(1, 2)).std(ddof=1) / np.sqrt(80)
    assert found.importances[1, 1] == pytest.approx(d[:, :2, :2].mean())
    assert found.standard_error[1, 1] >= exact


def test_per_class_maps_are_the_maps_of_each_class_alone():
    X = np.random.default_rng(0).integers(-2, 3, (60, 4, 4)).astype(float)
    flat, y, model = linear(X, 3)
    found = explain(model, flat, y, image_shape=(4, 4))
    assert found.classes.tolist() == sorted(set(y.tolist()))
    for label, importances in zip(found.classes, found.per_class, strict=True):
        alone = explain(model, flat[y == label], y[y == label], image_shape=(4, 4))
        np.testing.assert_allclose(importances, alone.importances, atol=1e-15)


def test_a_single_sample_has_no_standard_error():
    found = explain(OnePixelClassifier(5), np.ones((1, 3, 3)), [1])
    assert found.standard_error is None
    assert found.importances.any()


def minus_errors(estimator, X, y):
    return -float((estimator.predict(X) != y).sum())


class CountingClassifier(OnePixelClassifier):
    """Records the number of rows of each call."""

    def predict(self, X):
        calls.append(len(X))
        return super().predict(X)


calls = []


def test_predict_engine_predicts_only_changed_rows_in_few_full_batches():
    X = np.zeros((50, 8, 8))
    X[:20, 4, 4] = 1  # nine windows change 20 rows each
    calls.clear()
    explain(CountingClassifier(36), X, X[:, 4, 4] > 0, engine="score")
    assert sum(calls) == 50 + 50 * 65  # some rows are predicted to see the kind of labels
    calls.clear()
    explain(CountingClassifier(36), X, X[:, 4, 4] > 0, engine="predict", batch_size=64)
    probes, baseline = 50 + 25 + 8, 50
    assert sum(calls) == probes + baseline + 9 * 20
    assert max(calls) <= 64


def test_incremental_engine_reports_its_counts_whatever_the_number_of_jobs():
    X = np.random.default_rng(0).integers(-2, 3, (600, 4, 4)).astype(float)
    flat, y, model = linear(X, 3)
    stats = [explain(model, flat, y, image_shape=(4, 4), n_jobs=n).engine_stats for n in (1, 2)]
    assert stats[0] == stats[1]
    assert stats[0]["updates"] == 600 * (4 * 9 + 8 * 6 + 4 * 4)


def test_auto_takes_the_door_and_falls_back():
    X = np.random.default_rng(0).integers(-2, 3, (30, 4, 4)).astype(float)
    flat, y, model = linear(X, 3)
    assert explain(model, flat, y).engine == "incremental"
    assert explain(OnePixelClassifier(), flat, y).engine == "predict"
    assert explain(OnePixelClassifier(), flat, y, scoring=minus_errors).engine == "score"


def test_a_classifier_that_depends_on_its_batch_is_caught():
    X = np.random.default_rng(0).normal(size=(60, 4, 4))
    flat, y = X.reshape(60, -1), (X.sum(axis=(1, 2)) > 0).astype(int)
    model = BatchClassifier()
    expected = plain_center_map(lambda X, y: model.score(X.reshape(60, -1), y), X, y)
    found = explain(model, flat, y, image_shape=(4, 4), engine="score")
    np.testing.assert_array_equal(found.importances, expected)
    with pytest.raises(ValueError, match="use engine='score'"):
        explain(model, flat, y, image_shape=(4, 4), engine="predict")
    with pytest.warns(UserWarning, match="used engine='score'"):
        found = explain(model, flat, y, image_shape=(4, 4))
    np.testing.assert_array_equal(found.importances, expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_results_do_not_depend_on_the_number_of_jobs(engine):
    X = np.random.default_rng(0).integers(-2, 3, (300, 8, 8)).astype(float)
    flat, y, model = linear(X, 3)
    one, two = (explain(model, flat, y, engine=engine, n_jobs=n) for n in (1, 2))
    np.testing.assert_array_equal(one.importances, two.importances)
    np.testing.assert_array_equal(one.standard_error, two.standard_error)


@pytest.mark.parametrize("engine", ENGINES)
def test_progress_counts_pairs_and_is_shown_only_when_asked_for(engine, capsys):
    X = np.random.default_rng(0).integers(-2, 3, (50, 3, 3)).astype(float)
    flat, y, model = linear(X, 3)
    settings = {"image_shape": (3, 3), "engine": engine}
    explain(model, flat, y, **settings)
    assert capsys.readouterr().err == ""
    explain(model, flat, y, verbose=1, **settings)
    shown = capsys.readouterr().err
    assert "450/450" in shown  # 9 windows for each of 50 samples
    assert re.search(r"\d\d:\d\d<\d\d:\d\d", shown)  # time taken < time left
