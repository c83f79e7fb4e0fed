import builtins

import numpy as np
import pytest
from saliency.oracle import OnePixelClassifier
from sklearn.base import BaseEstimator

from skff.saliency import ADSExplainer, ADSExplanation


class Renamed(OnePixelClassifier):
    """Says `labels[0]` or `labels[1]`."""

    def __init__(self, labels=(0, 1)):
        self.labels = labels

    def predict(self, X):
        return np.asarray(self.labels)[(X[:, 4] > 0).astype(int)]


class ScoreOnly(BaseEstimator):
    def __sklearn_is_fitted__(self):
        return True

    def score(self, X, y):
        return float(np.mean(X))


def explain(labels=(0, 1), shape=(3, 3)):
    X = np.random.default_rng(0).normal(size=(20, 9))
    y = np.asarray(labels)[(X[:, 4] > 0).astype(int)]
    return ADSExplainer(Renamed(labels), image_shape=shape).explain(X, y)


@pytest.mark.parametrize(
    "labels",
    [(0, 1), (-1.0, 2.0), ("no", "yes"), (False, True)],
    ids=["int", "float", "str", "bool"],
)
@pytest.mark.parametrize("shape", [(3, 3), (9,)])
def test_saved_explanations_come_back_exactly(labels, shape, tmp_path):
    found = explain(labels, shape)
    found.save(tmp_path / "map")
    loaded = ADSExplanation.load(tmp_path / "map")
    for name, value in vars(found).items():
        again = getattr(loaded, name)
        assert type(again) is type(value), name
        np.testing.assert_array_equal(again, value)
    assert loaded.classes.dtype == found.classes.dtype


def test_parts_of_a_window_average_to_its_importance():
    found = explain()
    mean = np.average(found.window_fold_importances, axis=0, weights=found.fold_weights)
    np.testing.assert_allclose(mean, found.window_importances, atol=1e-12)


def test_strings_in_objects_are_saved_as_strings(tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 9))
    y = np.array(["no", "yes"], dtype=object)[(X[:, 4] > 0).astype(int)]
    found = ADSExplainer(Renamed(("no", "yes"))).explain(X, y)
    found.save(tmp_path / "map.npz")
    assert ADSExplanation.load(tmp_path / "map.npz").classes.tolist() == ["no", "yes"]


def test_absent_fields_come_back_as_none(tmp_path):
    found = ADSExplainer(ScoreOnly(), image_shape=(3, 3)).explain(np.ones((2, 9)), [0, 1])
    found.save(tmp_path / "map.npz")
    loaded = ADSExplanation.load(tmp_path / "map.npz")
    assert loaded.standard_error is loaded.per_class is loaded.classes is None
    assert loaded.engine_stats is None


def test_engine_stats_survive_saving(tmp_path):
    found = explain()
    stats = {"decided": np.int64(3), "seconds": 0.25}
    with_stats = ADSExplanation(**(vars(found) | {"engine_stats": stats}))
    with_stats.save(tmp_path / "map.npz")
    assert ADSExplanation.load(tmp_path / "map.npz").engine_stats == stats


@pytest.mark.parametrize("content", [b"", b"text", "npy", "foreign", "version"])
def test_foreign_files_are_refused(content, tmp_path):
    path = tmp_path / "map.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "npy":
        with open(path, "wb") as file:
            np.save(file, np.ones(3))
    else:
        name = "other" if content == "foreign" else "importances"
        np.savez(path, **{name: np.ones(3), "format": 1 if content == "foreign" else 99})
    with pytest.raises(ValueError, match="map.npz"):
        ADSExplanation.load(path)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_truncated_files_are_refused(share, tmp_path):
    path = tmp_path / "map.npz"
    explain().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="map.npz"):
        ADSExplanation.load(path)


def test_incomplete_files_are_refused(tmp_path):
    np.savez(tmp_path / "map.npz", importances=np.ones((3, 3)), format=1)
    with pytest.raises(ValueError, match="map.npz with fields"):
        ADSExplanation.load(tmp_path / "map.npz")


def test_objects_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "map.npz", importances=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        ADSExplanation.load(tmp_path / "map.npz")


def test_object_labels_are_refused_by_save(tmp_path):
    found = explain()
    odd = ADSExplanation(**(vars(found) | {"classes": np.array([0, "a"], dtype=object)}))
    with pytest.raises(TypeError, match="without pickle"):
        odd.save(tmp_path / "map.npz")
    assert not (tmp_path / "map.npz").exists()


def test_frame_has_one_row_per_pixel():
    found = explain(("no", "yes"))
    frame = found.to_frame()
    assert list(frame) == [
        "row", "column", "importance", "standard_error", "p_value", "class_no", "class_yes",
    ]  # fmt: skip
    for (i, j), importance in np.ndenumerate(found.importances):
        row = frame[(frame["row"] == i) & (frame["column"] == j)]
        assert row["importance"].item() == importance
        assert row["class_yes"].item() == found.per_class[1, i, j]


def test_frame_of_a_sequence_has_positions():
    frame = explain(shape=(9,)).to_frame()
    assert frame["position"].tolist() == list(range(9))


def test_frame_says_what_is_missing_without_pandas(monkeypatch):
    real = builtins.__import__

    def without_pandas(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    found = explain()
    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(ImportError, match="pip install pandas"):
        found.to_frame()


def test_explanation_cannot_be_changed_and_says_what_it_is():
    found = explain()
    with pytest.raises(AttributeError):
        found.importances = None
    assert repr(found) == "<ADSExplanation: 3 x 3 map of accuracy 1 on 20 samples>"
