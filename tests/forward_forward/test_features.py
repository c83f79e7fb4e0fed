import mmap

import numpy as np
import pytest
from forward_forward.samples import fingerprint, gaussian_classes, same_weights, tiny_classifier
from hypothesis import given
from hypothesis import strategies as st
from strategies import matrices

from skff._memory import is_memory_mapped
from skff.forward_forward import _features
from skff.forward_forward._features import Features

TYPES = ["<f4", "<f8", "u1", "i2", "<f2", ">f4", "?", "u4"]


def data(dtype="<f8"):
    X, y = gaussian_classes(n_samples=90)
    return np.abs(np.round(4 * X)).astype(dtype), y


def mapped(X, path, order="C", mode="r"):
    shape = X.shape
    np.asarray(X, order=order).ravel(order="K").tofile(path)
    return np.memmap(path, dtype=X.dtype, mode=mode, shape=shape, order=order)


def views_of_a_map(path):
    mapping = mapped(np.arange(12.0).reshape(4, 3), path)
    with open(path, "rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return {
        "map": mapping,
        "array": np.asarray(mapping),
        "rows": mapping[1:],
        "view of a view": np.asarray(mapping[:, 1:])[::2].T,
        "buffer": np.frombuffer(whole),
        "memoryview": np.frombuffer(memoryview(whole)),
    }


def test_a_view_of_a_file_is_known_for_one_and_a_copy_is_not(tmp_path):
    for name, view in views_of_a_map(tmp_path / "X").items():
        assert is_memory_mapped(view), name
        assert not is_memory_mapped(view.copy()), name
        assert not is_memory_mapped(view + 1), name
    assert not is_memory_mapped(np.frombuffer(bytearray(8)))


@given(X=matrices(), seed=st.integers(0, 99), n_rows=st.integers(1, 13))
def test_blocks_are_all_samples_in_their_order(X, seed, n_rows):
    rng = np.random.default_rng(seed)
    part = rng.choice(len(X), size=rng.integers(1, 2 * len(X)))
    for features, expected in [
        (Features(X), X),
        (Features(X)[part], X[part]),
        (Features(X)[part][::2], X[part][::2]),
        (Features(X.astype(np.float64)[::-1]), X[::-1]),
    ]:
        assert features.shape == expected.shape
        blocks = list(features.blocks(n_rows))
        np.testing.assert_array_equal(np.concatenate(blocks), expected)
        assert all(block.dtype == np.float32 for block in blocks)
        assert max(map(len, blocks)) <= n_rows


def test_blocks_of_wide_samples_are_short(monkeypatch):
    monkeypatch.setattr(_features, "BLOCK_BYTES", 4 * 6 * 10)
    assert {len(block) for block in Features(data()[0]).blocks(256)} == {10}
    monkeypatch.setattr(_features, "BLOCK_BYTES", 1)
    assert {len(block) for block in Features(data()[0]).blocks(256)} == {1}


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("order", "CF")
def test_a_map_of_any_type_trains_the_same_model_and_predicts_the_same(dtype, order, tmp_path):
    X, y = data(dtype)
    stored = mapped(X, tmp_path / "X", order)
    clf, expected = tiny_classifier().fit(stored, y), tiny_classifier().fit(X, y)
    assert same_weights(clf, expected)
    for method in ("predict_proba", "decision_function", "predict", "layer_goodness"):
        np.testing.assert_array_equal(getattr(clf, method)(stored), getattr(expected, method)(X))
    assert clf.score(stored, y) == expected.score(X, y)


@pytest.mark.parametrize(
    "params",
    [
        {"early_stopping": True, "validation_fraction": 0.2},
        {"overlay": "replace", "readout": "softmax"},
        {"training": "greedy", "dropout": 0.2, "augment": lambda batch, generator: batch.neg_()},
        {"class_weight": {0: 0.0}, "center": False},
    ],
)
@pytest.mark.parametrize("where", ["file", "memory"])
def test_features_that_stay_as_stored_give_the_same_model(where, params, tmp_path, monkeypatch):
    X, y = data()
    weight = np.linspace(0, 2, len(X)).round(1)
    expected = tiny_classifier(**params).fit(X, y, sample_weight=weight)
    if where == "memory":
        monkeypatch.setattr(_features, "LARGEST_COPY", 0)
    stored = mapped(X, tmp_path / "X") if where == "file" else X
    clf = tiny_classifier(**params).fit(stored, y, sample_weight=weight)
    assert same_weights(clf, expected)
    assert clf.history_[0]["loss"] == expected.history_[0]["loss"]


def test_passes_over_a_map_are_those_over_the_array(tmp_path):
    X, y = data("u1")
    stored, clf, expected = mapped(X, tmp_path / "X"), tiny_classifier(), tiny_classifier()
    for part in (slice(0, 40), slice(40, 90)):
        clf.partial_fit(stored[part], y[part], classes=[0, 1, 2])
        expected.partial_fit(X[part], y[part], classes=[0, 1, 2])
    assert same_weights(clf, expected)


@pytest.mark.parametrize("dtype", ["<f8", "<f4"])
@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "X contains NaN"), (np.inf, "X contains infinity"), (1e39, "too large for dtype")],
)
def test_values_that_cannot_be_used_are_found_wherever_they_are(dtype, value, message, tmp_path):
    X, y = data(dtype)
    clf = tiny_classifier().fit(X, y)
    before = fingerprint(clf)
    with np.errstate(over="ignore"):
        X[-1, 2] = value
    for bad in (X, mapped(X, tmp_path / "X")):
        with pytest.raises(ValueError, match=message):
            clf.fit(bad, y)
        with pytest.raises(ValueError, match=message):
            clf.predict(bad)
    assert fingerprint(clf) == before


def test_a_map_of_another_shape_is_refused_like_an_array(tmp_path):
    X, y = data()
    stored = mapped(X, tmp_path / "X")
    clf = tiny_classifier().fit(X, y)
    for call in (
        lambda: clf.predict(stored[:, :4]),
        lambda: clf.predict(stored[:0]),
        lambda: clf.predict(stored[0]),
        lambda: clf.fit(stored, y[:-1]),
        lambda: clf.predict(mapped(X.astype(complex), tmp_path / "complex")),
    ):
        with pytest.raises(ValueError, match=r"features|minimum|1D|inconsistent|Complex"):
            call()


def test_what_is_converted_batch_by_batch_is_never_converted_as_a_whole(tmp_path):
    X, y = data()
    read = []
    clf = tiny_classifier(batch_size=10, overlay=lambda X, n_classes: read.append(len(X)) or X)
    clf.fit(mapped(np.tile(X, (20, 1)), tmp_path / "X"), np.tile(y, 20))
    assert 10 <= max(read) <= 256 < 20 * len(X)
