"""Warnings of scale and of trainings without success: where they are right, and where silent."""

import warnings
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
from forward_forward.samples import gaussian_classes, same_weights, tiny_classifier
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import OneHotEncoder, minmax_scale, scale

from skff.datasets import load_idx
from skff.exceptions import ScaleWarning

LOADERS = [load_iris, load_wine, load_breast_cancer, load_digits]


@contextmanager
def silence():
    """Assert that nothing is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# no false alarms


@pytest.mark.parametrize("prepare", [scale, minmax_scale])
@pytest.mark.parametrize("load", LOADERS)
def test_scaled_tables_are_fitted_and_predicted_in_silence(load, prepare):
    X, y = load(return_X_y=True)
    X = prepare(X)
    with silence():
        clf = tiny_classifier((30,), max_iter=4).fit(X, y)
        clf.partial_fit(X[:50], y[:50]).predict_proba(X)
        clf.occlusion_predictor(X[:40], fill=np.zeros(X.shape[1]))


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_images_are_fitted_and_predicted_in_silence(name, image_folder):
    X, y = (load_idx(next((image_folder / name).glob(f"t10k-{part}*"))) for part in ("im", "la"))
    X = X.reshape(len(X), -1) / np.float32(255)
    for n_samples in 20, 2000:
        with silence():
            clf = tiny_classifier((30,), max_iter=1).fit(X[:n_samples], y[:n_samples])
            clf.predict(X)


def test_rare_categories_and_a_scaled_number_are_fitted_in_silence():
    rng = np.random.default_rng(0)
    words = rng.zipf(1.5, size=(500, 3)).clip(max=200)
    X = np.c_[OneHotEncoder(sparse_output=False).fit_transform(words), rng.standard_normal(500)]
    with silence():
        tiny_classifier().fit(X, (words[:, 0] == 1).astype(int)).predict(X)


@given(st.floats(-8, 8), st.integers(0, 2**32 - 1))
def test_a_common_factor_is_never_warned_of(exponent, seed):
    X, y = gaussian_classes(seed=seed)
    with silence():
        tiny_classifier((3,), max_iter=1).fit(10**exponent * X.astype(float), y).predict(
            10**exponent * X
        )


# features


@pytest.mark.parametrize(("factor", "warns"), [(8, False), (40, True)])
def test_features_that_swamp_the_others_are_named(factor, warns):
    X, y = gaussian_classes()
    X = X.astype(float) / X.std(axis=0)  # the limit is a factor of sqrt(100 * 5) = 22
    frame = pd.DataFrame(X, columns=list("abcdef"))
    frame["c"] *= factor
    for center in True, False:
        clf = tiny_classifier(center=center)
        if warns:
            with pytest.warns(ScaleWarning, match="99 % of its variance in feature 'c', so"):
                clf.fit(frame, y)
        else:
            with silence():
                clf.fit(frame, y)


def test_the_names_are_those_of_the_features_that_an_overlay_keeps():
    X, y = gaussian_classes(n_features=8)
    X[:, [4, 5]] *= 1000
    X[:, 0] *= 1e6  # which the label replaces
    with pytest.warns(ScaleWarning, match="in features 4, 5, so"):
        tiny_classifier(overlay="replace").fit(X, y)


@pytest.mark.parametrize(("offset", "warns"), [(1e4, False), (1e9, True)])
@pytest.mark.parametrize("container", [np.asarray, list, pd.DataFrame])
def test_features_that_float32_does_not_resolve_are_named(container, offset, warns):
    X, y = gaussian_classes()
    X = X.astype(float)
    X[:, 3] += offset
    X = X.tolist() if container is list else container(X)
    if warns:
        with pytest.warns(ScaleWarning, match=r"feature 3 that float32 .* about 1e\+09"):
            tiny_classifier().fit(X, y)
    else:
        with silence():
            tiny_classifier().fit(X, y)


def test_what_differs_by_the_rounding_of_double_precision_is_constant():
    X, y = gaussian_classes()
    X = X.astype(float)
    X[:, 3] = 0.3
    X[::2, 3] = 0.1 + 0.2
    with silence():
        tiny_classifier().fit(X, y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_sample_far_from_all_others_is_named():
    X, y = gaussian_classes(n_samples=2000)
    X[1234] *= 1e7
    with pytest.warns(ScaleWarning, match="such as number 1234, so far from the others"):
        tiny_classifier(max_iter=1).fit(X, y)


# samples


@given(st.floats(0, 38), st.integers(0, 3), st.booleans())
def test_probabilities_are_finite_whatever_float32_holds(exponent, sample, center):
    X, y = gaussian_classes()
    clf = tiny_classifier(center=center).fit(X, y)
    far = np.clip(10.0**exponent * X[sample : sample + 5].astype(float), -3e38, 3e38)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScaleWarning)
        p = clf.predict_proba(far)
        assert np.isfinite(clf.decision_function(far)).all()
        assert np.isfinite(clf.layer_goodness(far)).all()
        assert not np.isnan(clf.predict_log_proba(far)).any()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


def test_samples_beyond_the_farthest_that_are_told_apart_are_predicted_by_their_direction():
    X, y = gaussian_classes(centered=True)
    clf = tiny_classifier(max_iter=10, center=False).fit(X, y)
    with pytest.warns(ScaleWarning):
        expected = clf.predict(2.0**20 * X)
        for exponent in 30, 60, 100:
            np.testing.assert_array_equal(clf.predict(2.0**exponent * X), expected)


def test_explained_and_predicted_labels_of_far_samples_are_the_same():
    X, y = gaussian_classes()
    clf = tiny_classifier(max_iter=10).fit(X, y)
    far, fill = 1e30 * X, np.zeros((1, 6))
    hidden = far.copy()
    hidden[:, [1, 2]] = 0
    with pytest.warns(ScaleWarning, match="as far"):
        predictor = clf.occlusion_predictor(far, fill=fill)
        found = predictor.predict_many(np.arange(60), [np.array([1, 2]), np.arange(0)])[0]
        np.testing.assert_array_equal(found, [clf.predict(hidden), clf.predict(far)])


def test_samples_of_another_scale_are_noticed_from_ten_times_the_farthest_on():
    X, y = gaussian_classes(centered=True)
    clf = tiny_classifier(center=False).fit(X, y)
    farthest = X[[np.linalg.norm(X, axis=1).argmax()]]
    with silence():
        clf.predict(9.9 * farthest)
    with pytest.warns(ScaleWarning, match="Got samples at least 10 times as far"):
        clf.predict(10.2 * farthest)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_more_training_samples_widen_what_is_known():
    X, y = gaussian_classes()
    clf = tiny_classifier().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.warns(ScaleWarning, match="as far"):
        clf.partial_fit(100 * X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScaleWarning)
        clf.partial_fit(100 * X, y).predict(100 * X)


def test_samples_scaled_down_are_noticed_when_explained():
    X, y = gaussian_classes(centered=True)
    for params in {}, {"center": False}:
        clf, fill = tiny_classifier(**params).fit(X + 2, y), np.zeros((1, 6))
        with pytest.warns(ScaleWarning, match="spread"):
            clf.occlusion_predictor((X + 2) / 20, fill=fill)
        with silence():
            clf.occlusion_predictor((X + 2) / 2, fill=fill)
            clf.occlusion_predictor(np.ones((20, 6)), fill=fill)  # equal samples say nothing
            clf.occlusion_predictor((X[:9] + 2) / 2, fill=fill)


# weights


@pytest.mark.parametrize("factor", [2.0**-900, 1e-250, 0.1, 1e100, 1e300])
@pytest.mark.parametrize("class_weight", [None, {0: 1e200, 1: 1e-3, 2: 1e-30}, "balanced"])
def test_only_the_ratios_of_weights_count(factor, class_weight):
    X, y = gaussian_classes()
    weight = np.random.default_rng(0).uniform(0.5, 2, size=60)
    if isinstance(class_weight, dict):
        weight = np.where(y == 0, weight * 1e-200, weight)
    fits = [
        tiny_classifier(class_weight=class_weight).fit(X, y, sample_weight=w)
        for w in (weight, np.where(y == 0, weight * 2.0**-100, weight * 2.0**-100))
    ]
    assert same_weights(*fits)
    if class_weight is None:
        assert same_weights(fits[0], tiny_classifier().fit(X, y, sample_weight=factor * weight))


def test_weights_that_vanish_beside_others_are_left_out_with_a_warning():
    X, y = gaussian_classes()
    heavy = np.arange(60) % 2 == 0
    with pytest.warns(ScaleWarning, match="sample weights, 30 of 60, of less than 1e-38"):
        clf = tiny_classifier().fit(X, y, sample_weight=np.where(heavy, 1e300, 1e-300))
    assert same_weights(clf, tiny_classifier().fit(X, y, sample_weight=heavy.astype(float)))


# trainings


@pytest.mark.parametrize(
    "params",
    [{"learning_rate_init": rate} for rate in (100.0, 1e4, 1e8)]
    + [{"label_scale": scale} for scale in (1e4, 1e8)]
    + [{"label_scale": 1e5, "loss": "symba"}],
    ids=str,
)
def test_a_training_that_diverges_is_named(params):
    X, y = gaussian_classes(n_samples=150)
    clf = tiny_classifier((20, 20), max_iter=20, batch_size=16, **params)
    with pytest.warns(ConvergenceWarning, match="expected one that has learned: lower"):
        clf.fit(X, y)


def test_the_line_that_is_warned_of_is_the_callers():
    X, y = gaussian_classes()
    clf = tiny_classifier().fit(X, y)
    with pytest.warns(ScaleWarning) as caught:
        clf.predict(1e6 * X)
        tiny_classifier().fit(np.c_[X, 1e6 * X[:, :1]], y)
    assert {record.filename for record in caught} == {__file__}


def test_a_network_that_learns_only_how_frequent_classes_are_is_not_warned_of():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 5)), (rng.uniform(size=300) < 0.05).astype(int)
    with silence():
        clf = tiny_classifier((4,), max_iter=40).fit(X, y)
    assert clf.score(X, y) > 0.9
