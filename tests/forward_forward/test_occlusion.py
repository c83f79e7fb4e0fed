import pickle
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest
import torch
from forward_forward.occlusion_cases import (
    Case,
    cases,
    class_scores,
    is_best,
    mean,
    trained,
)
from forward_forward.samples import gaussian_classes, tiny_classifier
from hypothesis import given, settings
from torch.utils._python_dispatch import TorchDispatchMode

from skff.forward_forward.occlusion import _bounds, _predictor

pytestmark = pytest.mark.usefixtures("few_features_like_many")

# predictions


@settings(max_examples=200)
@given(case=cases())
def test_predictions_are_those_on_an_occluded_copy_up_to_ties(case):
    assert_predicts_up_to_ties(case)


@settings(max_examples=100)
@given(case=cases())
def test_few_features_are_predicted_from_copies(case):
    with mock.patch.object(_predictor, "FEWEST_FEATURES", 10**9):
        found, counts = case.predictor().predict_many(np.arange(len(case.X)), case.windows)
    expected = [case.clf.predict(case.occluded(window)) for window in case.windows]
    np.testing.assert_array_equal(found, expected)
    n_changed = counts["pairs"] - counts["unchanged"]
    assert counts["exact_class_evaluations"] == n_changed * len(case.clf.classes_)
    assert counts["decided_by_bounds"] == 0


def test_bounds_are_not_computed_for_few_features():
    with mock.patch.object(_predictor, "FEWEST_FEATURES", 64):
        for n_features, has_bounds in ((63, False), (64, True)):
            X, y = gaussian_classes(n_features=n_features)
            clf = tiny_classifier((8, 6)).fit(X, y)
            predictor = clf.occlusion_predictor(X, fill=0)
            assert (predictor.bounds is not None) == has_bounds


def assert_predicts_up_to_ties(case):
    found, _ = case.predictor().predict_many(np.arange(len(case.X)), case.windows)
    for window, labels in zip(case.windows, found, strict=True):
        occluded = case.occluded(window)
        scores = class_scores(case, case.X, occluded)
        expected = case.clf.predict(occluded)
        tied = is_best(*scores, np.searchsorted(case.clf.classes_, labels))
        assert ((labels == expected) | tied).all()
        # The plain way is judged likewise, or else being tied would mean little.
        assert is_best(*scores, np.searchsorted(case.clf.classes_, expected)).all()


@pytest.mark.parametrize("readout", ["goodness", "softmax"])
@pytest.mark.parametrize("layers", [(20,), (20, 10), (12, 16, 14, 10)])
def test_ties_are_rare(layers, readout):
    X, clf = trained(layers, readout=readout)
    windows = [np.arange(k, k + 4) for k in range(8)]
    case = Case(clf, X, np.float32(0), windows)
    n_best = []
    for window in windows:
        scores, errors = class_scores(case, X, case.occluded(window))
        labels = np.arange(3).repeat(len(X)).reshape(3, -1)
        n_best.append(sum(is_best(scores, errors, label).astype(int) for label in labels))
    assert (np.array(n_best) == 1).mean() > (0.95 if len(layers) < 4 else 0.8)


def assert_predicts_as_on_copies(case, rows=None):
    """Compare labels with those of ``predict``, near ties included; return them and the counts."""
    rows = np.arange(len(case.X)) if rows is None else rows
    found, counts = case.predictor().predict_many(rows, case.windows)
    with np.errstate(invalid="ignore"):  # infinite scores
        expected = [case.clf.predict(case.occluded(window)[rows]) for window in case.windows]
    np.testing.assert_array_equal(found, expected)
    return found, counts


SETTINGS = [
    {},
    {"overlay": "append"},
    {"overlay": "replace"},
    {"readout": "softmax"},
    {"overlay": "append", "readout": "softmax"},
    {"goodness": "sum_square"},
    {"goodness": mean},
    {"skip_first_goodness": True},
]


def has_bounds(layers, params):
    """Return whether classes share a trunk and a goodness of known curvature decides."""
    others = {"readout", "overlay"} & set(params) or params.get("goodness") is mean
    return len(layers) > 1 and not others


@pytest.mark.parametrize("fill", ["0", "mean", "sample"])
@pytest.mark.parametrize("params", SETTINGS)
@pytest.mark.parametrize("layers", [(9,), (20, 10), (12, 16, 14, 10, 8)])
def test_trained_networks_predict_as_on_copies(layers, params, fill):
    params = params | {"skip_first_goodness": False} if len(layers) == 1 else params
    X, clf = trained(layers, **params)
    fills = {"0": 0.0, "mean": X.mean(axis=0), "sample": X[::-1]}
    windows = [np.arange(k, k + 3) for k in range(10)] + [np.arange(0), np.arange(12)]
    case = Case(clf, X, np.float32(fills[fill]), windows)
    found, counts = assert_predicts_as_on_copies(case)
    assert len(np.unique(found)) > 1
    assert (counts["decided_by_bounds"] > 0) == has_bounds(layers, params)
    assert counts["near_ties"] < 0.01 * counts["pairs"]


@pytest.mark.parametrize("n_classes", [2, 30])
def test_any_number_of_classes_is_told_apart(n_classes):
    X, y = gaussian_classes(120, 12, n_classes, spread=2.0)
    clf = tiny_classifier((20, 10), max_iter=10).fit(X, y)
    windows = [np.arange(k, k + 3) for k in range(10)]
    _, counts = assert_predicts_as_on_copies(Case(clf, X, np.float32(0), windows))
    assert counts["decided_by_bounds"] > 0


def test_rows_may_come_in_any_order_and_repeatedly():
    X, clf = trained()
    case = Case(clf, X, X[::-1].copy(), [np.arange(4), np.arange(6, 9)])
    rows = np.random.default_rng(0).integers(0, len(X), 100)
    assert_predicts_as_on_copies(case, rows)
    assert case.predictor().predict_many(np.arange(0), case.windows)[0].shape == (2, 0)
    assert case.predictor().predict_many(rows, [])[0].shape == (0, 100)


def test_one_window_is_predicted_as_among_many():
    X, clf = trained()
    windows = [np.array([7, 2]), np.array([3, 3, 3]), np.arange(0), np.arange(12)]
    case = Case(clf, X, np.float32(0.5), windows)
    many, _ = assert_predicts_as_on_copies(case)
    for window, labels in zip(windows, many, strict=True):
        alone, _ = case.predictor().predict_many(np.arange(60), [window])
        np.testing.assert_array_equal(alone[0], labels)


@pytest.mark.parametrize("scratch", [1, 50, 300, 2000])
@pytest.mark.parametrize("params", SETTINGS[:4])
def test_block_boundaries_change_no_prediction(params, scratch, monkeypatch):
    X, clf = trained(n_samples=20, **params)
    windows = [np.arange(k, k + k % 4) for k in range(9)]
    case = Case(clf, X, X[::-1].copy(), windows)
    limit_scratch(monkeypatch, scratch)
    assert_predicts_as_on_copies(case)


def limit_scratch(monkeypatch, n_elements):
    monkeypatch.setattr(_predictor, "SCRATCH_ELEMENTS", n_elements)
    for module in (_predictor, _bounds):
        monkeypatch.setattr(module, "CACHE_ELEMENTS", n_elements)


def test_one_class_is_predicted_everywhere():
    X = gaussian_classes()[0]
    clf = tiny_classifier().fit(X, np.full(len(X), "only"))
    case = Case(clf, X, np.float32(0), [np.arange(3)])
    assert (assert_predicts_as_on_copies(case)[0] == "only").all()


@dataclass(frozen=True)
class LowSquare:
    """Prefers silent units: its goodness is concave."""

    def __call__(self, h):
        return -h.square().sum(-1)

    def gradient_factor(self, n_units):
        return -2.0


def test_a_concave_goodness_is_evaluated_exactly():
    X, clf = trained(goodness=LowSquare())
    windows = [np.arange(k, k + 3) for k in range(10)]
    _, counts = assert_predicts_as_on_copies(Case(clf, X, np.float32(0), windows))
    assert counts["decided_by_bounds"] == 0


@pytest.mark.filterwarnings("ignore::skff.exceptions.ScaleWarning")
def test_a_value_that_dwarfs_the_others_leaves_no_trace_when_hidden():
    X, clf = trained(n_samples=200)
    hidden = X.copy()
    hidden[:, 4] = np.where(np.arange(200) % 2, 1e8, X[:, 4])
    windows = [np.array([4]), np.array([3, 4, 5]), np.array([3])]
    found, _ = assert_predicts_as_on_copies(Case(clf, hidden, np.float32(0), windows))
    clean, _ = clf.occlusion_predictor(X, fill=0).predict_many(np.arange(200), windows)
    np.testing.assert_array_equal(found[:2], clean[:2])


@pytest.mark.filterwarnings("ignore::skff.exceptions.ScaleWarning")
@pytest.mark.parametrize("params", SETTINGS)
@pytest.mark.parametrize("size", [1e4, 1e8, 1e25])
def test_a_fill_that_dwarfs_the_samples_is_predicted_anew(size, params):
    X, clf = trained(**params)
    fill = np.where(np.arange(12) % 5, 0, size).astype(np.float32)
    windows = [np.arange(3), np.arange(1, 5), np.arange(3, 8), np.arange(12)]
    _, counts = assert_predicts_as_on_copies(Case(clf, X, fill, windows))
    # One of the windows hides nothing with a large value.
    assert counts["exact_class_evaluations"] >= 3 * 60 * 3


def test_a_network_whose_goodness_overflows_is_refused():
    X, clf = trained()
    clf._network.layers[0].label_weight[1] *= 1e25
    with pytest.raises(ValueError, match="not finite"):
        clf.predict(X)


def test_windows_on_the_label_alone_change_nothing():
    X, clf = trained(overlay="replace")
    predictor = clf.occlusion_predictor(X, fill=7.0)
    windows = [np.arange(3), np.array([1]), np.arange(2, 5)]
    found, counts = predictor.predict_many(np.arange(60), windows)
    np.testing.assert_array_equal(found[:2], [clf.predict(X)] * 2)
    assert counts["unchanged"] == 2 * 60
    assert (found[2] != found[0]).any()


# counts, memory, inputs


@settings(max_examples=50)
@given(case=cases())
def test_counts_add_up(case):
    _, counts = case.predictor().predict_many(np.arange(len(case.X)), case.windows)
    n_classes = len(case.clf.classes_)
    n_kept = case.clf._network.layers[0].weight.shape[1]
    changed = sum(
        (case.occluded(window) != case.X)[:, -n_kept:].any(axis=1).sum() for window in case.windows
    )
    assert counts["pairs"] == len(case.X) * len(case.windows)
    assert counts["unchanged"] == counts["pairs"] - changed
    evaluated = changed - counts["decided_by_bounds"]
    evaluated_twice = counts["exact_class_evaluations"] / n_classes - evaluated
    assert 0 <= evaluated_twice <= min(counts["near_ties"], evaluated)


def test_classes_that_agree_are_near_ties():
    X, clf = trained()
    for layer in clf._network.layers:
        layer.label_weight[1] = layer.label_weight[0]
    case = Case(clf, X, np.float32(0), [np.arange(k, k + 3) for k in range(10)])
    found, counts = case.predictor().predict_many(np.arange(60), case.windows)
    assert counts["near_ties"] == (found < 2).sum() > 0


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that is computed."""

    n_elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else [output]:
            if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided:
                self.n_elements = max(self.n_elements, tensor.untyped_storage().nbytes() // 4)
        return output


@pytest.mark.parametrize("params", [{}, {"goodness": mean}, {"readout": "softmax"}])
@pytest.mark.parametrize(
    ("n_classes", "layers", "n_pixels"),
    [(100, (6, 5), 3), (2, (6, 5), 60), (3, (4, 250, 5), 3), (3, (60, 20), 1)],
)
def test_scratch_memory_is_bounded(n_classes, layers, n_pixels, params, monkeypatch):
    X, y = gaussian_classes(300, 64, n_classes, spread=4.0)
    clf = tiny_classifier(layers, max_iter=1, **params).fit(X, y)
    scratch = 20_000
    limit_scratch(monkeypatch, scratch)
    monkeypatch.setattr("skff.forward_forward._network.CACHE_ELEMENTS", scratch)
    monkeypatch.setattr("skff.forward_forward._network.SCRATCH_ELEMENTS", scratch)
    windows = np.random.default_rng(0).integers(0, 64, (25, n_pixels))
    predictor = clf.occlusion_predictor(X, fill=X[::-1])
    for some, rows in [(windows, np.arange(40)), (windows[:1], np.arange(300))]:
        with LargestTensor() as largest:
            predictor.predict_many(rows, some)
        assert scratch / 100 < largest.n_elements <= 3 * scratch


def test_samples_are_not_changed_and_may_be_read_only():
    X, clf = trained()
    fill = X[::-1].copy()
    before = X.copy(), fill.copy()
    for array in (X, fill):
        array.setflags(write=False)
    assert_predicts_as_on_copies(Case(clf, X, fill, [np.arange(3), np.arange(12)]))
    np.testing.assert_array_equal((X, fill), before)


@pytest.mark.parametrize("params", SETTINGS)
def test_pickle_keeps_predictions(params):
    X, clf = trained(**params)
    predictor = clf.occlusion_predictor(X, fill=X.mean(axis=0))
    loaded = pickle.loads(pickle.dumps(predictor))
    rows, windows = np.arange(60), [np.arange(3), np.arange(12)]
    (found, counts), (expected, as_before) = (
        each.predict_many(rows, windows) for each in (loaded, predictor)
    )
    np.testing.assert_array_equal(found, expected)
    assert counts == as_before


@pytest.mark.cuda
def test_predictions_on_a_gpu_are_those_on_the_cpu_and_survive_pickling():
    X, y = gaussian_classes(spread=1.0)
    windows, rows = [np.arange(3), np.arange(6)], np.arange(len(X))
    clf = tiny_classifier(device="cuda", max_iter=10).fit(X, y)
    predictor = clf.occlusion_predictor(X, fill=0.0)
    loaded = pickle.loads(pickle.dumps(predictor))
    assert loaded.network.device.type == "cpu"
    found, elsewhere = (p.predict_many(rows, windows) for p in (predictor, loaded))
    assert (found == elsewhere).mean() > 0.99


BAD_INPUTS = {
    "NaN": ({"X": np.full((4, 6), np.nan)}, "NaN"),
    "features": ({"X": np.zeros((4, 5))}, "5 features.*expecting 6"),
    "one sample": ({"X": np.zeros(6)}, "Expected 2D array"),
    "fill NaN": ({"fill": np.nan}, "fill with NaN"),
    "fill infinite": ({"fill": 1e300}, "fill with NaN or infinity"),
    "fill features": ({"fill": np.zeros(5)}, r"fill of shape \(5,\).*\(4, 6\)"),
    "fill samples": ({"fill": np.zeros((3, 6))}, r"fill of shape \(3, 6\).*\(4, 6\)"),
    "fill axes": ({"fill": np.zeros((1, 4, 6))}, r"fill of shape \(1, 4, 6\).*\(4, 6\)"),
    "fill text": ({"fill": "black"}, "black"),
}


@pytest.mark.parametrize(("bad", "message"), BAD_INPUTS.values(), ids=list(BAD_INPUTS))
def test_bad_input_is_refused_before_work(bad, message):
    X, y = gaussian_classes()
    clf = tiny_classifier().fit(X, y)
    X, fill = bad.get("X", np.zeros((4, 6))), bad.get("fill", 0.0)
    with (
        mock.patch.object(_predictor, "TrunkBounds", side_effect=AssertionError("worked")),
        pytest.raises(ValueError, match=message),
    ):
        clf.occlusion_predictor(X, fill=fill)
