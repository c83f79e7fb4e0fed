import numpy as np
import pytest
import torch
from forward_forward.samples import (
    Recorder,
    gaussian_classes,
    next_label,
    params_for,
    same_weights,
    tiny_classifier,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from strategies import matrices

from skff import FFClassifier
from skff.forward_forward._batches import drop_features, location_and_norms
from skff.forward_forward._features import Features
from skff.forward_forward.overlays import OVERLAYS


def all_features(X, n_classes):
    """Stand for an overlay of a user's own."""
    return X


# dropout


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_dropout_hits_its_share_of_features_and_keeps_the_mean(share):
    x = drop_features(torch.ones(400, 250), share, torch.Generator().manual_seed(0))
    honoured = round(256 * share) / 256
    assert binomtest(int((x == 0).sum()), x.numel(), honoured).pvalue > 1e-3
    np.testing.assert_allclose(x[x > 0], 1 / (1 - honoured), rtol=1e-6)


@given(x=matrices(), seed=st.integers(0, 2**16), share=st.floats(0.01, 0.99))
def test_dropout_gives_zeros_or_scaled_features(x, seed, share):
    rng = torch.Generator().manual_seed(seed)
    dropped = drop_features(torch.from_numpy(x.copy()), share, rng).numpy()
    factor = 1 / (1 - min(round(256 * share), 255) / 256)
    assert ((dropped == 0) | np.isclose(dropped, factor * x, rtol=1e-5)).all()


def test_dropout_draws_each_feature_of_each_sample_on_its_own():
    x = drop_features(torch.ones(2000, 16), 0.5, torch.Generator().manual_seed(0))
    correlation = np.corrcoef(np.c_[x[:-1], x[1:]], rowvar=False) - np.eye(32)
    assert np.abs(correlation).max() < 0.12  # 5 standard errors of 0.022


def test_dropout_of_0_changes_nothing_and_draws_nothing():
    rng = torch.Generator().manual_seed(0)
    before, x = rng.get_state(), torch.ones(3, 3)
    assert torch.equal(drop_features(x, 0.0, rng), torch.ones(3, 3))
    assert torch.equal(rng.get_state(), before)


def test_dropout_is_for_training_only():
    X, y = gaussian_classes()
    clf = tiny_classifier(dropout=0.5).fit(X, y)
    np.testing.assert_array_equal(clf.decision_function(X), clf.decision_function(X))
    assert not same_weights(clf, tiny_classifier().fit(X, y))


@pytest.mark.parametrize(("n_features", "share"), [(63, 0.0), (64, 0.1)])
def test_auto_dropout_is_for_many_features(n_features, share):
    X, y = gaussian_classes(n_features=n_features)
    automatic = tiny_classifier(dropout=FFClassifier().dropout).fit(X, y)
    assert automatic.dropout == "auto"
    assert same_weights(automatic, tiny_classifier(dropout=share).fit(X, y))
    assert not same_weights(automatic, tiny_classifier(dropout=0.1 - share).fit(X, y))


# scale


def test_mean_and_norm_of_known_samples():
    X = np.float32([[3, 4], [0, 0], [5, 12]])
    mean, norm, largest = location_and_norms(Features(X), center=False, keep=np.asarray)
    assert (mean == 0).all()
    assert (norm, largest) == pytest.approx((6, 13))
    shifted = Features(X + np.float32([10, 20]))
    mean, norm, largest = location_and_norms(shifted, center=True, keep=np.asarray)
    np.testing.assert_allclose(mean, [10 + 8 / 3, 20 + 16 / 3])
    norms = np.linalg.norm(X - X.mean(axis=0), axis=1)
    assert (norm, largest) == pytest.approx((norms.mean(), norms.max()), rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, -1e-20, 1e20])
def test_equal_samples_have_norm_1_about_their_mean(value):
    X = Features(np.full((7, 3), value, np.float32))
    assert location_and_norms(X, center=True, keep=np.asarray)[1:] == (1, 1)


def test_the_norm_of_many_samples_is_that_of_all_of_them():
    X = np.random.default_rng(0).standard_normal((3000, 4)).astype(np.float32)
    expected = np.linalg.norm(X - X.mean(axis=0, dtype=np.float64), axis=1).mean()
    assert location_and_norms(Features(X), center=True, keep=np.asarray)[1] == pytest.approx(
        expected
    )


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_training_samples_have_rms_1_and_the_label_its_share_of_their_norm(overlay, center):
    X, y = gaussian_classes(n_features=9, n_classes=3)
    clf = tiny_classifier(overlay=overlay, label_scale=0.3, center=center).fit(X, y)
    kept = OVERLAYS[overlay](X, 3).astype(float)
    kept = kept - kept.mean(axis=0) if center else kept
    norm = np.linalg.norm(kept, axis=1).mean()
    assert clf.input_scale_ * norm == pytest.approx(np.sqrt(kept.shape[1]), rel=1e-6)
    assert clf.label_amplitude_ == pytest.approx(0.3 * norm, rel=1e-6)


def test_the_scale_comes_from_samples_of_positive_weight():
    X, y = gaussian_classes()
    far = np.r_[X, 1e4 * X]
    weight = np.repeat([1.0, 0.0], len(X))
    clf = tiny_classifier().fit(far, np.r_[y, y], sample_weight=weight)
    assert clf.input_scale_ == tiny_classifier().fit(X, y).input_scale_


# memory


def spied_overlay(seen):
    def overlay(X, n_classes):
        seen.append(X)
        return X

    return overlay


def as_read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


@pytest.mark.parametrize("prepare", [np.copy, as_read_only], ids=["writable", "read-only"])
def test_float32_in_c_order_is_used_without_a_copy(prepare):
    X, y = gaussian_classes()
    X, seen = prepare(X), []
    tiny_classifier(overlay=spied_overlay(seen)).fit(X, y).predict(X)
    arrays = [found for found in seen if isinstance(found, np.ndarray)]
    assert len(arrays) > 1
    assert all(np.shares_memory(found, X) for found in arrays)


def test_other_types_and_orders_are_copied_and_that_is_seen_by_this_test():
    X, y = gaussian_classes()
    for other in (X.astype(np.float64), np.asfortranarray(X)):
        seen = []
        tiny_classifier(overlay=spied_overlay(seen)).fit(other, y)
        assert not any(np.shares_memory(found, other) for found in seen)


@pytest.mark.parametrize("params", [{}, {"dropout": 0.3}, {"readout": "softmax"}])
def test_training_never_writes_to_the_callers_data(params):
    X, y = gaussian_classes()
    weight = np.linspace(0, 2, len(X))
    before = X.copy(), y.copy(), weight.copy()
    tiny_classifier(**params).fit(X, y, sample_weight=weight).predict_proba(X)
    for now, then in zip((X, y, weight), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("mode", ["r", "c"])
def test_a_memory_map_trains_the_same_model_as_the_array(mode, tmp_path):
    X, y = gaussian_classes()
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode=mode)
    clf, expected = tiny_classifier().fit(mapped, y), tiny_classifier().fit(X, y)
    assert same_weights(clf, expected)
    np.testing.assert_array_equal(clf.predict_proba(mapped), expected.predict_proba(X))


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        lambda X: X.astype(np.float64),
        lambda X: X.astype(np.int16),
        lambda X: X.astype(np.float16),
        lambda X: X.astype(">f4"),
        lambda X: X.astype(object),
        lambda X: X[::-1].copy()[::-1],
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: X.tolist(),
        torch.from_numpy,
    ],
    ids="F float64 int16 float16 big-endian object reversed strided list tensor".split(),
)
def test_any_kind_of_array_trains_the_same_model(convert):
    X, y = gaussian_classes()
    X = np.round(4 * X)  # whole numbers, so that every type holds them
    clf, expected = tiny_classifier().fit(convert(X), y), tiny_classifier().fit(X, y)
    assert same_weights(clf, expected)
    np.testing.assert_array_equal(clf.predict_proba(convert(X)), expected.predict_proba(X))


# overlays and augmentation as the batches see them


def test_an_overlay_of_ones_own_is_used_for_training_and_prediction():
    X, y = gaussian_classes()
    clf = tiny_classifier(overlay=all_features).fit(X, y)
    assert same_weights(clf, tiny_classifier(overlay="append").fit(X, y))
    halved = tiny_classifier(overlay=lambda X, n_classes: X[:, ::2]).fit(X, y)
    alone = tiny_classifier(overlay="append").fit(X[:, ::2].copy(), y)
    np.testing.assert_array_equal(halved.decision_function(X), alone.decision_function(X[:, ::2]))


def test_augment_sees_each_batch_in_units_of_X_and_training_only():
    X, y = gaussian_classes(n_samples=20, n_classes=20)
    labels, batches = [], []

    def sampler(y, n_classes, generator):
        labels.extend(y.tolist())
        return next_label(y, n_classes, generator)

    def augment(batch, generator):
        assert isinstance(generator, torch.Generator)
        batches.append(batch.clone())
        return batch

    params = {"negatives": sampler, "batch_size": 8, "max_iter": 1}
    clf = tiny_classifier((8,), **params, augment=augment).fit(X, y)
    np.testing.assert_array_equal(torch.cat(batches), X[labels[-20:]])  # a label names its sample
    n_batches = len(batches)
    clf.predict(X)
    assert len(batches) == n_batches == 3
    assert same_weights(clf, tiny_classifier((8,), **params).fit(X, y))


def test_augmented_features_are_what_the_network_learns_from():
    X, y = gaussian_classes()
    constant = {"batch_size": len(X)}
    moved = tiny_classifier(**constant, augment=lambda batch, generator: 0 * batch).fit(X, y)
    still = tiny_classifier(**constant).fit(X, y)
    assert not same_weights(moved, still)


def test_augment_may_write_to_its_batch_but_not_to_the_data():
    X, y = gaussian_classes()
    before = X.copy()
    tiny_classifier(augment=lambda batch, generator: batch.zero_()).fit(X, y)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize(
    "augment",
    [
        lambda batch, generator: batch[:, :2],
        lambda batch, generator: batch[:2],
        lambda batch, generator: batch.numpy(),
        lambda batch, generator: None,
    ],
    ids=["columns", "rows", "array", "None"],
)
def test_augment_that_returns_something_else_is_named(augment):
    X, y = gaussian_classes()
    with pytest.raises(ValueError, match=r"(?s)augment.*expected.*\(\d+, 6\)"):
        tiny_classifier(augment=augment).fit(X, y)


# weights


@pytest.mark.parametrize("name", ["negatives", "readout", "training"])
def test_weight_0_equals_removal(name):
    value = {"negatives": "uniform", "readout": "softmax", "training": "greedy"}[name]
    X, y = gaussian_classes(n_samples=90)
    weight = np.random.default_rng(0).choice([0.0, 1.0, 2.0], len(X))
    kept = weight > 0
    params = params_for(name, value) | {"early_stopping": True, "validation_fraction": 0.2}
    clf = tiny_classifier(**params).fit(X, y, sample_weight=weight)
    alone = tiny_classifier(**params).fit(X[kept], y[kept], sample_weight=weight[kept])
    assert same_weights(clf, alone)
    assert clf.history_[0]["loss"] == alone.history_[0]["loss"]


@pytest.mark.parametrize("factor", [2.0, 2.0**-40, 2.0**300])
def test_multiplying_all_weights_changes_nothing(factor):
    X, y = gaussian_classes()
    weight = np.linspace(0.5, 2, len(X))
    fits = [tiny_classifier().fit(X, y, sample_weight=w) for w in (weight, factor * weight)]
    assert same_weights(*fits)


@pytest.mark.parametrize("weight", [1.0, 3, "ones"])
def test_equal_weights_are_no_weights(weight):
    X, y = gaussian_classes()
    weight = np.ones(len(X)) if weight == "ones" else weight
    weighted = tiny_classifier().fit(X, y, sample_weight=weight)
    assert same_weights(weighted, tiny_classifier().fit(X, y))


def test_class_weight_multiplies_the_sample_weight():
    X, y = gaussian_classes()
    names = np.array(["a", "b", "c"])
    weight = np.linspace(0.5, 2, len(X))
    by_class = np.array([1.0, 2.5, 0.25])
    clf = tiny_classifier(class_weight=dict(zip(names, by_class, strict=True)))
    clf.fit(X, names[y], sample_weight=weight)
    expected = tiny_classifier().fit(X, names[y], sample_weight=weight * by_class[y])
    assert same_weights(clf, expected)


def test_balanced_classes_weigh_inversely_to_their_size():
    X, y = gaussian_classes()
    X, y = X[(y != 1) | (np.arange(len(y)) < 15)], y[(y != 1) | (np.arange(len(y)) < 15)]
    expected = tiny_classifier().fit(X, y, sample_weight=1 / np.bincount(y)[y])
    balanced = tiny_classifier(class_weight="balanced").fit(X, y)
    for one, other in zip(balanced.coefs_, expected.coefs_, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert not same_weights(balanced, tiny_classifier().fit(X, y))


def test_class_weight_0_trains_as_if_the_class_had_no_sample():
    X, y = gaussian_classes()
    clf = tiny_classifier(class_weight={1: 0}).fit(X, y)
    expected = tiny_classifier().fit(X, y, sample_weight=(y != 1).astype(float))
    assert same_weights(clf, expected)
    np.testing.assert_array_equal(clf.classes_, [0, 1, 2])


def test_class_weight_counts_in_partial_fit_whatever_classes_a_batch_holds():
    X, y = gaussian_classes()
    weight = np.array([2.0, 1.0, 3.0])
    clf, expected = tiny_classifier(class_weight={0: 2.0, 2: 3.0}), tiny_classifier()
    for batch in (y < 2, y > 0):
        clf.partial_fit(X[batch], y[batch], classes=[0, 1, 2])
        expected.partial_fit(X[batch], y[batch], [0, 1, 2], sample_weight=weight[y[batch]])
    assert same_weights(clf, expected)


def test_heavier_samples_are_learnt_better():
    # The same points with two labels: the heavier label wins.
    X, _ = gaussian_classes(n_samples=40)
    twice, y = np.r_[X, X], np.repeat([0, 1], len(X))
    params = {"max_iter": 20, "learning_rate_init": 0.01}
    for heavy in (0, 1):
        weight = np.where(y == heavy, 10.0, 1.0)
        clf = tiny_classifier(**params).fit(twice, y, sample_weight=weight)
        assert (clf.predict(X) == heavy).all()


def test_callbacks_see_the_fitted_estimator_of_each_epoch():
    X, y = gaussian_classes()
    recorder = Recorder()
    clf = tiny_classifier(max_iter=3).set_callbacks(recorder).fit(X, y)
    assert recorder.names == ["epoch"] * 3 + ["fit"]
    assert not np.array_equal(recorder.weights[0][0], recorder.weights[1][0])
    np.testing.assert_array_equal(recorder.weights[2][0], clf.coefs_[0])
