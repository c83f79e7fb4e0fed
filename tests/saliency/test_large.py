"""Samples of more than one part, among them those in a file: same maps, and never a whole copy."""

import pickle

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from saliency.oracle import LinearClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from skff import FFClassifier
from skff.saliency import ADSExplainer, _samples, deletion_curve, insertion_curve
from skff.saliency._doors import PartwisePredictor
from skff.saliency._regions import lay_out_pixels
from skff.saliency._samples import make_samples, read_data
from skff.saliency.fills import Conditional

pytestmark = pytest.mark.usefixtures("few_features_like_many")

N_SAMPLES, PART_ROWS = 60, 17
FIELDS = (
    *("importances", "window_scores", "baseline_score", "standard_error", "p_values"),
    *("per_class", "fold_importances", "window_n_samples", "window_intervals"),
)


def data(dtype="f8", n_features=16):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 9, (N_SAMPLES, n_features)), rng.integers(0, 3, N_SAMPLES)
    return (X + 3 * np.eye(3, n_features, dtype=int)[y]).astype(dtype), y


def set_part(monkeypatch, X, n_rows=PART_ROWS):
    """Let a part, which is also a batch, be as many samples of this kind."""
    monkeypatch.setattr(_samples, "PART_FEATURES", n_rows * X.shape[1])
    monkeypatch.setattr(_samples, "MANY_PARTS", 2)


def mapped(X, path):
    X.tofile(path)
    return np.memmap(path, dtype=X.dtype, mode="r", shape=X.shape)


def linear(X, y):
    return LinearClassifier(n_features=X.shape[1])


def forward_forward(X, y):
    return FFClassifier((8, 6), max_iter=3, random_state=0).fit(X, y)


def behind_scalers(X, y):
    last = FFClassifier((8, 6), max_iter=3, random_state=0)
    return make_pipeline(StandardScaler(), MinMaxScaler(), last).fit(X, y)


def logistic(X, y):
    return LogisticRegression(tol=0.1).fit(X, y)


def largest_pixel(X):
    return X.max(axis=1, keepdims=True)


def assert_same(found, expected):
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(found, field), getattr(expected, field), field)


@pytest.mark.parametrize(
    ("make", "params"),
    [
        (linear, {"engine": "incremental"}),
        (linear, {"engine": "predict"}),
        (linear, {"engine": "score"}),
        (linear, {"engine": "predict", "fill": 0.5}),
        (linear, {"fill": "mean"}),
        (linear, {"fill": "blur", "aggregate": "coverage"}),
        (linear, {"fill": largest_pixel}),
        (linear, {"fill": "permute", "random_state": 3, "n_repeats": 2}),
        (linear, {"fill": Conditional(reach=1)}),
        (linear, {"groups": [[0, 5], [3]]}),
        (linear, {"target_precision": 0.1, "random_state": 0}),
        (forward_forward, {}),
        (behind_scalers, {}),
        (behind_scalers, {"fill": "mean"}),
        (logistic, {"fill": 0.5}),
    ],
)
@pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
def test_large_samples_and_files_give_the_map_of_small_ones(
    make, params, dtype, tmp_path, monkeypatch
):
    X, y = data(dtype)
    model = make(X, y)
    explainer = ADSExplainer(model, image_shape=(4, 4), **params)
    expected = explainer.explain(X, y)
    assert np.nanmax(expected.importances) > np.nanmin(expected.importances)
    set_part(monkeypatch, X)
    for large in (X, mapped(X, tmp_path / "X")):
        found = explainer.explain(large, y)
        assert_same(found, expected)
        assert found.engine == expected.engine
        assert found.engine_stats == expected.engine_stats


@pytest.mark.parametrize("engine", ["incremental", "predict", "score"])
def test_weights_and_draws_of_large_samples(engine, tmp_path, monkeypatch):
    X, y = data()
    weight = np.arange(N_SAMPLES) % 4.0
    params = {"image_shape": (4, 4), "engine": engine, "max_samples": 0.9, "random_state": 0}
    explainer = ADSExplainer(linear(X, y), **params)
    expected = explainer.explain(X, y, weight)
    set_part(monkeypatch, X)
    large = explainer.explain(X, y, weight)
    for field in FIELDS[:7]:  # sums of weights in another order
        np.testing.assert_allclose(getattr(large, field), getattr(expected, field), atol=1e-12)
    assert_same(explainer.explain(mapped(X, tmp_path / "X"), y, weight), large)


def test_a_part_is_ready_to_be_sent_to_a_worker():
    X, y = data()
    samples = make_samples(
        None,
        read_data(None, X, y, None),
        fill=0.5,
        pixel_features=lay_out_pixels((16,), (4, 4)),
        random_state=None,
    )
    part = PartwisePredictor(linear(X, y).occlusion_predictor, samples).open(np.arange(30, 60))
    rows, windows = np.array([30, 44, 59]), [np.arange(3), np.arange(0)]
    labels, counts = pickle.loads(pickle.dumps(part)).predict_many(rows, windows)
    whole = linear(X, y).occlusion_predictor(X, fill=np.full((1, 16), 0.5))
    expected, expected_counts = whole.predict_many(rows, windows)
    np.testing.assert_array_equal(labels, expected)
    assert counts == expected_counts


def test_threads_share_large_samples(tmp_path, monkeypatch):
    X, y = data()
    expected = ADSExplainer(linear(X, y), image_shape=(4, 4)).explain(X, y)
    set_part(monkeypatch, X)
    explainer = ADSExplainer(linear(X, y), image_shape=(4, 4), n_jobs=2)
    with parallel_config("threading"):
        assert_same(explainer.explain(mapped(X, tmp_path / "X"), y), expected)


def test_large_frames_keep_their_columns(monkeypatch):
    X, y = data("i8", n_features=4)
    X = pd.DataFrame(X, columns=list("abcd")).astype({"a": "u1"})
    model = behind_scalers(X, y)
    explainer = ADSExplainer(model, window_shape=1, fill=0.5)
    expected = explainer.explain(X, y)
    set_part(monkeypatch, X)
    assert_same(explainer.explain(X, y), expected)
    assert expected.engine == "incremental"


def own_scorer(estimator, X, y):
    return estimator.score(X, y) ** 2


SCORINGS = {"margin": "margin", "loss": "neg_log_loss", "accuracy": "accuracy", "own": own_scorer}


def test_scores_of_large_samples(monkeypatch, tmp_path):
    X, y = data()
    explainer = ADSExplainer(logistic(X, y), image_shape=(4, 4), scoring=SCORINGS)
    expected = explainer.explain(X, y)
    set_part(monkeypatch, X)
    for large in (X, mapped(X, tmp_path / "X")):
        found = explainer.explain(large, y)
        for name in SCORINGS:
            np.testing.assert_allclose(found[name].importances, expected[name].importances)
            np.testing.assert_array_equal(found[name].per_class, expected[name].per_class)


@pytest.mark.parametrize("curve", [deletion_curve, insertion_curve])
@pytest.mark.parametrize("scoring", [None, "accuracy", own_scorer, "neg_log_loss"])
def test_curves_of_large_samples(curve, scoring, monkeypatch, tmp_path):
    X, y = data("u1")
    params = {"n_points": 4, "n_random": 1, "image_shape": (4, 4), "random_state": 0}
    params |= {"fill": 0.5, "scoring": scoring}
    model, importances = logistic(X, y), np.arange(16.0).reshape(4, 4)
    expected = curve(model, X, y, importances, **params)
    set_part(monkeypatch, X)
    found = curve(model, mapped(X, tmp_path / "X"), y, importances, **params)
    np.testing.assert_allclose(found.scores["map"], expected.scores["map"])
    np.testing.assert_allclose(found.random_scores, expected.random_scores)
    assert found.scoring == expected.scoring


class Watched(LinearClassifier):
    """Records the largest number of samples that it is handed."""

    most = 0

    def watch(self, X):
        type(self).most = max(self.most, len(X))

    def predict(self, X):
        self.watch(X)
        return super().predict(X)

    def decision_function(self, X):
        self.watch(X)
        return np.asarray(X, dtype=float) @ self.coefs()

    @property
    def classes_(self):
        return np.arange(3)

    def occlusion_predictor(self, X, *, fill):
        self.watch(X)
        return super().occlusion_predictor(X, fill=fill)


@pytest.mark.parametrize(
    "params",
    [
        {"engine": "incremental"},
        {"engine": "predict"},
        {"engine": "score"},
        {"scoring": "margin"},
        {"scoring": ["margin", "accuracy", "balanced_accuracy"]},
    ],
)
def test_no_engine_hands_over_more_than_a_part(params, monkeypatch):
    X, y = data()
    set_part(monkeypatch, X)
    monkeypatch.setattr(_samples, "N_PROBES", 10)
    monkeypatch.setattr(Watched, "most", 0)
    ADSExplainer(Watched(n_features=16), image_shape=(4, 4), **params).explain(X, y)
    assert Watched.most == PART_ROWS


def test_curves_hand_over_no_more_than_a_batch(monkeypatch):
    X, y = data()
    set_part(monkeypatch, X)
    monkeypatch.setattr(_samples, "N_PROBES", 10)
    monkeypatch.setattr(Watched, "most", 0)
    deletion_curve(Watched(n_features=16), X, y, np.arange(16), n_random=0, image_shape=(16,))
    assert Watched.most == PART_ROWS


@pytest.mark.parametrize(
    ("sample_shape", "image_shape", "is_view"),
    [((12,), (3, 4), True), ((2, 3, 2), None, True), ((12,), (2, 3, 2), True)],
    ids=["flat", "channels first", "channels last"],
)
def test_fills_see_images_without_a_copy(sample_shape, image_shape, is_view):
    values = np.arange(60.0).reshape(5, 12)
    pixel_features = lay_out_pixels(sample_shape, image_shape)
    images = _samples._as_images(values, pixel_features)
    np.testing.assert_array_equal(images, values[:, pixel_features])
    assert np.shares_memory(images, values) == is_view
    assert not images.flags.writeable
    assert values.flags.writeable


def test_features_in_another_order_are_copied_for_fills():
    values, order = np.arange(60.0).reshape(5, 12), np.arange(12)[::-1].reshape(12, 1)
    np.testing.assert_array_equal(_samples._as_images(values, order), values[:, order])
