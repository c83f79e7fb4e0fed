import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from skff import FFClassifier
from skff.mlp_baselines import sklearn_mlp
from skff.saliency._mlp import ACTIVATIONS
from skff.saliency._pipelines import find_occlusion_predictor

N_FEATURES = 7
ALL = np.arange(30)


def fitted(X, layers=(6, 5), activation="relu", n_classes=3, seed=0, kind=MLPClassifier):
    y = np.array(["ant", "bee", "cat", "dog"])[np.arange(len(X)) % n_classes]
    mlp = kind(
        layers, activation=activation, learning_rate_init=0.1, max_iter=10, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return mlp.fit(X, y)


def samples(seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((len(ALL), N_FEATURES)).astype(dtype)


def occluded(X, fill, window):
    X = X.copy()
    X[:, window] = np.broadcast_to(fill, X.shape)[:, window]
    return X


@settings(max_examples=100)
@given(
    layers=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    n_classes=st.integers(2, 4),
    dtype=st.sampled_from([np.float32, np.float64]),
    fill_rows=st.sampled_from([1, len(ALL)]),
    windows=st.lists(st.lists(st.integers(0, N_FEATURES - 1), max_size=9), max_size=4),
    seed=st.integers(0, 100),
)
def test_predictions_are_those_on_an_occluded_copy_up_to_ties(
    layers, activation, n_classes, dtype, fill_rows, windows, seed
):
    X = samples(seed, dtype)
    mlp = fitted(X, layers, activation, n_classes, seed)
    fill = samples(seed + 1, dtype)[:fill_rows]
    rows = np.random.default_rng(seed).permutation(ALL)[:20]
    windows = [np.array(window, dtype=int) for window in windows]
    predictor = find_occlusion_predictor(mlp)(X, fill=fill)
    found = predictor.predict_many(rows, windows)
    assert found.shape == (len(windows), len(rows))
    for labels, window in zip(found, windows, strict=True):
        np.testing.assert_array_equal(labels, predictor.predict(rows, window))
        hidden = occluded(X, fill, window)[rows]
        second, best = np.sort(mlp.predict_proba(hidden), axis=1)[:, -2:].T
        assert ((labels == mlp.predict(hidden)) | (best - second < 1e-5)).all()


def test_a_huge_value_that_is_hidden_leaves_no_trace():
    X = samples(dtype=np.float32)
    mlp = fitted(X)
    clean = find_occlusion_predictor(mlp)(X, fill=np.zeros((1, N_FEATURES)))
    expected = clean.predict(ALL, [2])
    assert len(set(expected)) > 1
    X[:, 2] = 1e8
    predictor = find_occlusion_predictor(mlp)(X, fill=np.zeros((1, N_FEATURES)))
    np.testing.assert_array_equal(predictor.predict(ALL, [2]), expected)


def test_columns_may_have_names():
    frame = pd.DataFrame(samples(), columns=list("abcdefg"))
    mlp = fitted(frame)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictor = find_occlusion_predictor(mlp)(frame, fill=np.ones((1, N_FEATURES)))
        found = predictor.predict(ALL, [0, 3])
    frame[["a", "d"]] = 1.0
    np.testing.assert_array_equal(found, mlp.predict(frame))
    assert list(mlp.feature_names_in_) == list("abcdefg")


def test_networks_of_the_baselines_have_the_door():
    X = samples(dtype=np.float32)
    mlp = sklearn_mlp(FFClassifier((6,), max_iter=1)).fit(X, ALL % 2)
    found = find_occlusion_predictor(mlp)(X, fill=np.zeros((1, N_FEATURES))).predict(ALL, [1])
    np.testing.assert_array_equal(found, mlp.predict(occluded(X, 0, [1])))


class OwnPredict(MLPClassifier):
    """Predicts in a way of its own."""

    def predict(self, X):
        return super().predict(X)[::-1]


@pytest.mark.parametrize(
    "mlp",
    [MLPClassifier(), fitted(samples(), ()), fitted(samples(), kind=OwnPredict)],
    ids=["unfitted", "no hidden layer", "own predict"],
)
def test_other_networks_have_no_door(mlp):
    assert find_occlusion_predictor(mlp) is None
