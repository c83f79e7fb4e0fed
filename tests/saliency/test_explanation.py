import builtins

import numpy as np
import pytest
from saliency.oracle import RenamedClassifier

from skff.saliency import ADSExplainer


def explain(labels=(0, 1), shape=(3, 3)):
    X = np.random.default_rng(0).normal(size=(20, 9))
    y = np.asarray(labels)[(X[:, 4] > 0).astype(int)]
    return ADSExplainer(RenamedClassifier(labels), image_shape=shape).explain(X, y)


def test_parts_of_a_window_average_to_its_importance():
    found = explain()
    mean = np.average(found.window_fold_importances, axis=0, weights=found.fold_weights)
    np.testing.assert_allclose(mean, found.window_importances, atol=1e-12)


def test_labels_that_are_strings_in_objects_become_strings():
    X = np.random.default_rng(0).normal(size=(20, 9))
    y = np.array(["no", "yes"], dtype=object)[(X[:, 4] > 0).astype(int)]
    found = ADSExplainer(RenamedClassifier(("no", "yes"))).explain(X, y)
    assert found.classes.dtype == "U3"


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
