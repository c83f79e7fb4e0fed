import pickle
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import numpy as np
import pytest
import torch
from forward_forward.samples import gaussian_classes, tiny_classifier
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from skff.forward_forward import (
    _classifier,
    _decider,
    _goodness_bounds,
    _occlusion,
    _rounded_goodness,
)
from skff.forward_forward._decider import Decider
from skff.forward_forward._goodness_bounds import GoodnessBounds
from skff.forward_forward._network import Network
from skff.forward_forward._rounded_goodness import RoundedGoodness
from skff.forward_forward.goodness import MeanSquare, SumSquare
from skff.recipes import ExcessSquare

SMALLEST_NORM = 1e-8
EPSILON = np.finfo(np.float32).eps


def mean(h):
    """Stand for a goodness of one's own: bounds do not know its slope."""
    return h.mean(-1)


GOODNESS = {
    "mean_square": lambda h: (h**2).mean(-1),
    "sum_square": lambda h: (h**2).sum(-1),
    mean: lambda h: h.mean(-1),
}


# Networks, samples and fills that are hard on bounds.


def dense(rng, n_units, n_inputs):
    return rng.standard_normal((n_units, n_inputs))


def of_rank_one(rng, n_units, n_inputs):
    return np.outer(rng.standard_normal(n_units), rng.standard_normal(n_inputs))


def ill_conditioned(rng, n_units, n_inputs):
    U, S, Vh = np.linalg.svd(dense(rng, n_units, n_inputs), full_matrices=False)
    return U * np.logspace(0, -rng.uniform(2, 9), len(S)) @ Vh


def with_zero_rows(rng, n_units, n_inputs):
    return dense(rng, n_units, n_inputs) * (rng.random((n_units, 1)) < 0.5)


def cancelling(rng, n_units, n_inputs):
    """Return large weights of opposite sign in pairs of units, so that gradients cancel."""
    half = 10 ** rng.uniform(0, 4) * dense(rng, -(-n_units // 2), n_inputs)
    return np.concatenate([half, 10 ** rng.uniform(-4, 0) * dense(rng, *half.shape) - half])[
        :n_units
    ]


WEIGHTS = [dense, of_rank_one, ill_conditioned, with_zero_rows, cancelling]
BIASES = {
    "none": lambda rng, z: np.zeros(len(z)),
    "random": lambda rng, z: rng.standard_normal(len(z)),
    "some units dead": lambda rng, z: -10 * np.abs(z) * (rng.random(len(z)) < 0.5),
    "all units dead": lambda rng, z: -10 * np.abs(z) - 1,
    "at the threshold": lambda rng, z: 10 ** rng.uniform(-6, 0) * rng.standard_normal(len(z)) - z,
}
FILLS = {
    "zero": lambda rng, X, W: 0.0,
    "mean": lambda rng, X, W: X.mean(axis=0),
    "random": lambda rng, X, W: rng.standard_normal(X.shape),
    "what is there": lambda rng, X, W: X,
    "nearly what is there": lambda rng, X, W: X * (1 + 1e-6 * rng.standard_normal(X.shape)),
    "twice": lambda rng, X, W: 2 * X,
    "huge": lambda rng, X, W: 1e5 * np.abs(X).max() * rng.standard_normal(X.shape),
    "silencing": lambda rng, X, W: X - 10 ** rng.uniform(-2, 4) * W.sum(axis=0),
}
SCALES = st.sampled_from([1e-3, 1.0, 1.0, 1.0, 1e3])


@dataclass
class Case:
    """A classifier, samples and what is hidden in them."""

    clf: object
    X: np.ndarray
    fill: np.ndarray
    windows: list

    def predictor(self):
        return self.clf.occlusion_predictor(self.X, fill=self.fill)

    def occluded(self, window):
        X = self.X.copy()
        X[:, window] = np.broadcast_to(self.fill, X.shape)[:, window]
        return X


@st.composite
def cases(draw, least_layers=1, readouts=("goodness", "softmax"), goodness=tuple(GOODNESS)):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_classes, n_samples = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    overlay = draw(st.sampled_from(["append", "replace"]))
    sizes = draw(st.lists(st.integers(1, 12), min_size=1 + least_layers, max_size=5))
    n_features = sizes[0] + n_classes * (overlay == "replace")
    X = draw(SCALES) * rng.standard_normal((n_samples, n_features))
    X *= rng.random(X.shape) < 0.7
    params = {
        "overlay": overlay,
        "readout": draw(st.sampled_from(readouts)),
        "goodness": draw(st.sampled_from(goodness)),
        "skip_first_goodness": len(sizes) > 2 and draw(st.booleans()),
    }
    network = draw_network(draw, rng, sizes, n_classes, X[:, -sizes[0] :], params["readout"])
    clf = tiny_classifier(sizes[1:], **params)
    classes = np.array([f"label {c}" for c in range(n_classes)])
    vars(clf).update(_classifier._fitted_attributes(network, classes, []))
    clf.n_features_in_ = n_features
    W = np.zeros((sizes[1], n_features))
    W[:, -sizes[0] :] = network.weights[0]
    fill = FILLS[draw(st.sampled_from(list(FILLS)))](rng, X, W)
    windows = [np.flatnonzero(rng.random(n_features) < share) for share in (0.2, 0.5, 0.8)]
    windows += [np.arange(0), np.arange(n_features)]
    return Case(clf, X.astype(np.float32), np.asarray(fill, dtype=np.float32), windows)


def draw_network(draw, rng, sizes, n_classes, X, readout):
    weights, biases, inputs = [], [], X[0]
    for n_inputs, n_units in zip(sizes, sizes[1:], strict=False):
        weight = draw(st.sampled_from(WEIGHTS))(rng, n_units, n_inputs)
        weights.append(draw(SCALES) * weight)
        bias = BIASES[draw(st.sampled_from(list(BIASES)))]
        biases.append(bias(rng, weights[-1] @ inputs))
        inputs = normalized(np.maximum(weights[-1] @ inputs + biases[-1], 0))
    labels = draw(SCALES) * rng.standard_normal((n_classes, sizes[1]))
    head = []
    if readout == "softmax":
        n_read = sum(sizes[2:]) or sizes[1]
        head = [rng.standard_normal((n_classes, n_read)), rng.standard_normal(n_classes)]
    weights, biases, head = ([as_float32(a) for a in some] for some in (weights, biases, head))
    center = as_float32(draw(st.sampled_from([0.0, 1.0])) * rng.standard_normal(sizes[0]))
    return Network(weights, biases, as_float32(labels), center, draw(SCALES), draw(SCALES), head)


def as_float32(array):
    return torch.tensor(array, dtype=torch.float32)


# What float64 says, and how far float32 may be from it.


def normalized(h):
    norm = np.linalg.norm(h, axis=-1, keepdims=True)
    return h * np.sqrt(h.shape[-1]) / np.maximum(norm, SMALLEST_NORM)


def in_float64(tensors):
    return [tensor.double().numpy() for tensor in tensors]


def rounding(n_terms):
    """Return the share of its terms' sizes by which a float32 sum may be off, with products."""
    return EPSILON * (n_terms + 4)


def class_scores(case, before, after):
    """Return the scores of occluded samples `after` and a bound on the errors of float32.

    Its first layer may have been found from the samples `before`. Both of shape
    (n_samples, n_classes).
    """
    network = case.clf._network
    n_kept = network.weights[0].shape[1]
    before, after = (X[:, -n_kept:].astype(np.float64) for X in (before, after))
    W, b = in_float64([network.weights[0], network.biases[0]])
    labels = network.label_amplitude * network.label_weight.double().numpy()
    if network.readout:
        labels = labels.mean(axis=0, keepdims=True)
    s = network.input_scale
    center = network.center.double().numpy()
    z = s * ((after - center) @ W.T)[:, None] + s * labels + b
    sizes = np.abs(before) + np.abs(after) + 2 * np.abs(center)
    terms = s * (sizes @ np.abs(W).T)[:, None]
    terms = terms + s * np.abs(labels) + np.abs(b)
    return scores_above(case.clf, z, rounding(n_kept + len(labels)) * terms)


def scores_above(clf, z, error):
    """Return scores and the bound on their errors from first pre-activations and theirs."""
    network = clf._network
    h, h_error = np.maximum(z, 0), np.linalg.norm(error, axis=-1)
    n, n_error = normalized(h), normalized_error(h, h_error)
    read, read_error = n, n_error
    total, total_error = goodness_and_error(clf.goodness, h, h_error)
    if clf.skip_first_goodness:
        total, total_error = 0.0, 0.0
    for layer in range(1, network.n_layers):
        W, b = in_float64([network.weights[layer], network.biases[layer]])
        terms = np.linalg.norm(np.abs(n) @ np.abs(W).T + np.abs(b), axis=-1)
        h = np.maximum(n @ W.T + b, 0)
        h_error = rounding(W.shape[1]) * terms + np.linalg.norm(W, 2) * n_error
        n, n_error = normalized(h), normalized_error(h, h_error)
        read = n if layer == 1 else np.concatenate([read, n], axis=-1)
        read_error = n_error if layer == 1 else np.hypot(read_error, n_error)
        g, g_error = goodness_and_error(clf.goodness, h, h_error)
        total, total_error = total + g, total_error + g_error
    if not network.readout:
        return total, total_error + rounding(network.n_layers) * np.abs(total)
    weight, bias = in_float64(network.readout)
    read = read[:, 0]
    terms = np.abs(read) @ np.abs(weight).T + np.abs(bias)
    error = rounding(read.shape[1]) * terms + read_error * np.linalg.norm(weight, axis=1)
    return read @ weight.T + bias, error


def normalized_error(h, error):
    """Bound the error, as a norm, of normalized activities that may be off by `error`."""
    size = np.maximum(np.linalg.norm(h, axis=-1), SMALLEST_NORM)
    root = np.sqrt(h.shape[-1])
    return root * error / np.maximum(size - error / 2, error / 2 + 1e-300) + (
        rounding(h.shape[-1]) * root
    )


def goodness_and_error(goodness, h, error):
    """Return goodness and the bound on its error for activities that may be off by `error`."""
    size, n_units = np.linalg.norm(h, axis=-1), h.shape[-1]
    if goodness is mean:
        return h.mean(-1), (error + rounding(n_units) * size) / np.sqrt(n_units)
    factor = 1 / n_units if goodness == "mean_square" else 1
    g_error = 2 * size * error + error**2 + rounding(n_units) * (size + error) ** 2
    return GOODNESS[goodness](h), factor * g_error


def is_best(scores, errors, labels):
    """Return for each sample whether its label may have the highest score."""
    mine = np.take_along_axis(scores + errors, labels[:, None], axis=1)
    return (mine >= scores - errors).all(axis=1)


# predictions


@settings(max_examples=200)
@given(case=cases())
def test_predictions_are_those_on_an_occluded_copy_up_to_ties(case):
    assert_predicts_up_to_ties(case)


def assert_predicts_up_to_ties(case):
    found = case.predictor().predict_many(np.arange(len(case.X)), case.windows)
    for window, labels in zip(case.windows, found, strict=True):
        occluded = case.occluded(window)
        scores = class_scores(case, case.X, occluded)
        expected = case.clf.predict(occluded)
        tied = is_best(*scores, np.searchsorted(case.clf.classes_, labels))
        assert ((labels == expected) | tied).all()
        # The plain way is judged likewise, or else being tied would mean little.
        assert is_best(*scores, np.searchsorted(case.clf.classes_, expected)).all()


@pytest.mark.parametrize("readout", ["goodness", "softmax"])
@pytest.mark.parametrize("layers", [(20,), (20, 10), (12, 16, 14, 10)], ids=str)
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


def trained(layers=(20, 10), n_samples=60, n_features=12, **params):
    """Return samples and a classifier of three classes that are hard to tell apart."""
    X, y = gaussian_classes(n_samples, n_features, spread=4.0)
    return X, tiny_classifier(layers, **({"max_iter": 10} | params)).fit(X, y)


def assert_predicts_as_on_copies(case, rows=None):
    rows = np.arange(len(case.X)) if rows is None else rows
    predictor = case.predictor()
    found = predictor.predict_many(rows, case.windows)
    expected = [case.clf.predict(case.occluded(window)[rows]) for window in case.windows]
    np.testing.assert_array_equal(found, expected)
    return predictor


SETTINGS = [
    {},
    {"overlay": "replace"},
    {"readout": "softmax"},
    {"goodness": "sum_square"},
    {"goodness": mean},
    {"skip_first_goodness": True},
]


@pytest.mark.parametrize("fill", ["0", "mean", "sample"])
@pytest.mark.parametrize("params", SETTINGS, ids=str)
@pytest.mark.parametrize("layers", [(9,), (20, 10), (12, 16, 14, 10)], ids=str)
def test_trained_networks_predict_as_on_copies(layers, params, fill):
    params = params | {"skip_first_goodness": False} if len(layers) == 1 else params
    X, clf = trained(layers, **params)
    fills = {"0": 0.0, "mean": X.mean(axis=0), "sample": X[::-1]}
    windows = [np.arange(k, k + 3) for k in range(10)] + [np.arange(0), np.arange(12)]
    case = Case(clf, X, np.float32(fills[fill]), windows)
    predictor = assert_predicts_as_on_copies(case)
    assert len(np.unique(predictor.predict_many(np.arange(60), windows))) > 1
    has_bounds = len(layers) > 1 and not {"readout", mean} & {*params, params.get("goodness")}
    assert (predictor.stats["decided_by_bounds"] > 0) == has_bounds


def test_rows_may_come_in_any_order_and_repeatedly():
    X, clf = trained()
    case = Case(clf, X, X[::-1].copy(), [np.arange(4), np.arange(6, 9)])
    rows = np.random.default_rng(0).integers(0, len(X), 100)
    assert_predicts_as_on_copies(case, rows)
    assert case.predictor().predict_many(np.arange(0), case.windows).shape == (2, 0)
    assert case.predictor().predict_many(rows, []).shape == (0, 100)


def test_one_window_is_predicted_as_among_many():
    X, clf = trained()
    windows = [np.array([7, 2]), np.array([3, 3, 3]), np.arange(0), np.arange(12)]
    case = Case(clf, X, np.float32(0.5), windows)
    many = assert_predicts_as_on_copies(case).predict_many(np.arange(60), windows)
    for window, labels in zip(windows, many, strict=True):
        np.testing.assert_array_equal(case.predictor().predict(np.arange(60), window), labels)


@pytest.mark.parametrize("scratch", [1, 50, 300, 2000])
@pytest.mark.parametrize("params", SETTINGS[:3], ids=str)
def test_block_boundaries_change_no_prediction(params, scratch, monkeypatch):
    X, clf = trained(n_samples=20, **params)
    windows = [np.arange(k, k + k % 4) for k in range(9)]
    case = Case(clf, X, X[::-1].copy(), windows)
    monkeypatch.setattr(_occlusion, "SCRATCH_ELEMENTS", scratch)
    monkeypatch.setattr(_decider, "SCRATCH_ELEMENTS", scratch)
    assert_predicts_as_on_copies(case)


def test_one_class_is_predicted_everywhere():
    X = gaussian_classes()[0]
    clf = tiny_classifier().fit(X, np.full(len(X), "only"))
    case = Case(clf, X, np.float32(0), [np.arange(3)])
    assert (assert_predicts_as_on_copies(case).predict(np.arange(5), np.arange(2)) == "only").all()


@dataclass(frozen=True)
class LowSquare:
    """Prefers silent units: its goodness is concave."""

    def __call__(self, h):
        return -h.square().sum(-1)

    def slope(self, n_units):
        return -2.0


def test_a_concave_goodness_is_evaluated_exactly():
    X, clf = trained(goodness=LowSquare())
    windows = [np.arange(k, k + 3) for k in range(10)]
    predictor = assert_predicts_as_on_copies(Case(clf, X, np.float32(0), windows))
    assert predictor.stats["decided_by_bounds"] == 0


def test_a_value_that_dwarfs_the_others_leaves_no_trace_when_hidden():
    X, clf = trained(n_samples=200)
    hidden = X.copy()
    hidden[:, 4] = np.where(np.arange(200) % 2, 1e8, X[:, 4])
    windows = [np.array([4]), np.array([3, 4, 5]), np.array([3])]
    predictor = assert_predicts_as_on_copies(Case(clf, hidden, np.float32(0), windows))
    clean = clf.occlusion_predictor(X, fill=0)
    rows = np.arange(200)
    np.testing.assert_array_equal(
        predictor.predict_many(rows, windows[:2]), clean.predict_many(rows, windows[:2])
    )


def test_sums_that_overflow_are_predicted_as_on_copies():
    X, clf = trained()
    for fill in (1e25, -1e25):
        assert_predicts_as_on_copies(Case(clf, X, np.float32(fill), [np.arange(3), np.arange(12)]))
    clf._network.label_weight[1] *= 1e25  # the goodness of this class is infinite
    predictor = assert_predicts_as_on_copies(Case(clf, X, np.float32(0), [np.arange(3)]))
    assert (predictor.predict(np.arange(60), np.arange(3)) == 1).all()


def test_windows_on_the_label_alone_change_nothing():
    X, clf = trained(overlay="replace")
    predictor = clf.occlusion_predictor(X, fill=7.0)
    found = predictor.predict_many(np.arange(60), [np.arange(3), np.array([1]), np.arange(2, 5)])
    np.testing.assert_array_equal(found[:2], [clf.predict(X)] * 2)
    assert predictor.stats["unchanged"] == 2 * 60
    assert (found[2] != found[0]).any()


# bounds


@settings(max_examples=200)
@given(
    case=cases(least_layers=2, readouts=["goodness"], goodness=["mean_square", "sum_square"]),
    rank=st.integers(0, 12),
)
def test_exact_goodness_never_lies_outside_the_bounds(case, rank):
    calls = []

    def record(method):
        def recorded(self, *arguments):
            output = method(self, *arguments)
            kept = [tensor.clone() for tensor in output]  # the caller may write to it
            calls.append((method, self, arguments, kept))
            return output

        return recorded

    around, bounds_of_all = GoodnessBounds.around, Decider._bounds
    with (
        mock.patch.object(GoodnessBounds, "around", record(around)),
        mock.patch.object(Decider, "_bounds", record(bounds_of_all)),
        mock.patch.object(Decider, "_up_to_last", record(Decider._up_to_last)),
        mock.patch.object(_occlusion, "LARGEST_INPUT", np.inf),
        mock.patch.object(_goodness_bounds, "RANK", rank),
    ):
        case.predictor().predict_many(np.arange(len(case.X)), case.windows)
    activities = []
    for method, owner, arguments, output in calls:
        if method is around:
            n_computed = output[0].numel()  # of all classes; base points may have come before
            h = torch.cat(activities)[-n_computed:].view(*output[0].shape, -1)
            activities.clear()
            assert_contains_last_goodness(case.clf, owner, *in_float64([h, *output]))
        elif method is bounds_of_all:
            assert_contains_all_goodness(case.clf, owner, *arguments, *in_float64(output))
        else:
            activities.append(output[0])


def assert_contains_last_goodness(clf, bounds, h, lower, upper):
    """Assert it for the last layer above the activities `h`, with no tolerance."""
    weight, bias = in_float64([bounds.weight, bounds.bias])
    exact = GOODNESS[clf.goodness](np.maximum(normalized(h) @ weight.T + bias, 0))
    assert (lower <= exact).all()
    assert (exact <= upper).all()


def assert_contains_all_goodness(clf, decider, base, k, shift, lower, upper):
    """Assert it for the sum over the layers, given how far those between may be off."""
    (z,) = in_float64([base.A[k] + shift[:, None]])
    exact, error = scores_above(clf, z, np.zeros_like(z))
    error = error if clf.n_layers_ > 2 else 0.0
    assert (lower.T <= exact + error).all()
    assert (exact - error <= upper.T).all()


# bounds in bfloat16


@contextmanager
def deciding_in_bfloat16():
    """Let bfloat16 narrow down even small problems, on any processor."""
    with (
        mock.patch.object(_rounded_goodness, "bfloat16_pays", lambda weight: True),
        mock.patch.object(_decider, "FEWEST_ROUNDED", 1),
    ):
        yield


@pytest.fixture
def bfloat16_everywhere():
    with deciding_in_bfloat16():
        yield


def assert_contains_rounded_goodness(network, goodness, h):
    """Assert that the bounds hold with no tolerance, and return them with what they hold."""
    bounds = GoodnessBounds.of(network, goodness)
    lower, upper = RoundedGoodness(bounds).around(h, torch.linalg.vector_norm(h, dim=1))
    weight, bias, h = in_float64([bounds.weight, bounds.bias, h])
    last = torch.from_numpy(np.maximum(normalized(h) @ weight.T + bias, 0))
    exact = goodness(last)
    assert (lower <= exact).all()
    assert (exact <= upper).all()
    return lower, exact, upper


@settings(max_examples=200)
@given(
    case=cases(least_layers=2, readouts=["goodness"], goodness=["mean_square"]),
    goodness=st.sampled_from([SumSquare(), MeanSquare()]),
    share=st.floats(0, 1),
    scale=st.floats(-6, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_goodness_never_lies_outside_the_bounds_in_bfloat16(case, goodness, share, scale, seed):
    rng = np.random.default_rng(seed)
    network = case.clf._network
    h = 10**scale * rng.random((300, network.weights[-1].shape[1]))
    h *= rng.random(h.shape) < share
    assert_contains_rounded_goodness(network, goodness, as_float32(h))


@pytest.mark.parametrize("n_units", [100, 501, 1500])
@pytest.mark.parametrize("n_inputs", [31, 500, 1000])
def test_bounds_in_bfloat16_are_close_in_wide_layers(n_inputs, n_units):
    rng = np.random.default_rng(n_inputs + n_units)
    weight = rng.standard_normal((n_units, n_inputs)) / np.sqrt(n_inputs)
    first, shifts = np.eye(n_inputs), np.zeros((3, n_inputs))
    weights, biases = [first, weight], [np.zeros(n_inputs), rng.standard_normal(n_units)]
    weights, biases = ([as_float32(a) for a in some] for some in (weights, biases))
    network = Network(weights, biases, as_float32(shifts), as_float32(shifts[0]), 1.0, 1.0)
    h = as_float32(rng.standard_normal((700, n_inputs)).clip(0))
    lower, exact, upper = assert_contains_rounded_goodness(network, MeanSquare(), h)
    assert ((upper - lower) / exact).max() < 0.2


@pytest.mark.parametrize("params", SETTINGS, ids=str)
@pytest.mark.parametrize("layers", [(20, 10), (12, 16, 14, 10)], ids=str)
def test_deciding_in_bfloat16_changes_no_prediction(layers, params, bfloat16_everywhere):
    X, clf = trained(layers, **params)
    case = Case(clf, X, np.float32(0), [np.arange(k, k + 6) for k in range(7)])
    stats = assert_predicts_as_on_copies(case).stats
    has_bounds = not {"readout", mean} & {*params, params.get("goodness")}
    assert (stats["decided_in_bfloat16"] > 0) == has_bounds


@settings(max_examples=100)
@given(case=cases(least_layers=2, readouts=["goodness"]))
def test_predictions_through_bfloat16_are_those_on_an_occluded_copy_up_to_ties(case):
    with deciding_in_bfloat16():
        assert_predicts_up_to_ties(case)


def test_pickle_keeps_what_is_decided_in_bfloat16(bfloat16_everywhere):
    X, clf = trained()
    predictor = clf.occlusion_predictor(X, fill=0.0)
    loaded = pickle.loads(pickle.dumps(predictor))
    for each in (predictor, loaded):
        each.predict_many(np.arange(60), [np.arange(6)])
    assert loaded.stats == predictor.stats
    assert loaded.stats["decided_in_bfloat16"] > 0


@pytest.mark.parametrize(
    ("n_units", "capabilities", "pays"),
    [(128, {"amx_bf16": True}, True), (127, {"amx_bf16": True}, False), (128, {}, False)],
)
def test_bfloat16_pays_for_large_weights_where_the_processor_has_matrix_units(
    n_units, capabilities, pays, monkeypatch
):
    weight = torch.zeros(n_units, 128)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert _rounded_goodness.bfloat16_pays(weight) == pays
    assert not _rounded_goodness.bfloat16_pays(weight.to("meta"))
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # older versions have none
    assert not _rounded_goodness.bfloat16_pays(weight)


@pytest.mark.parametrize("goodness", [SumSquare(), MeanSquare(), ExcessSquare()], ids=repr)
def test_a_goodness_with_a_slope_is_known_from_the_norm(goodness):
    h = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    found = _goodness_bounds.goodness_of_norm(goodness, torch.linalg.vector_norm(h, dim=1), 7)
    torch.testing.assert_close(found, goodness(h))


def test_bounds_decide_nearly_all_of_small_changes():
    X, clf = trained((40, 30), n_samples=100)
    predictor = clf.occlusion_predictor(X, fill=X + 0.01)
    predictor.predict_many(np.arange(100), [np.arange(k, k + 3) for k in range(10)])
    assert predictor.stats["decided_by_bounds"] > 0.95 * predictor.stats["pairs"]


# counts, memory, inputs


@settings(max_examples=50)
@given(case=cases())
def test_counts_add_up(case):
    predictor = case.predictor()
    predictor.predict_many(np.arange(len(case.X)), case.windows)
    stats, n_classes = predictor.stats, len(case.clf.classes_)
    kept = case.clf._network.weights[0].shape[1]
    changed = sum(
        (case.occluded(window) != case.X)[:, -kept:].any(axis=1).sum() for window in case.windows
    )
    assert stats["pairs"] == len(case.X) * len(case.windows)
    assert stats["unchanged"] == stats["pairs"] - changed
    rest = changed - stats["decided_by_bounds"] - stats["decided_in_bfloat16"]
    n_passes = 1 if case.clf.readout == "softmax" else n_classes
    fewest = (
        n_passes if predictor.decider.bounds is None else 2
    )  # at least two classes were in doubt
    assert fewest * rest <= stats["exact_class_evaluations"] <= n_passes * rest or n_classes == 1


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that is computed."""

    n_elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else [output]:
            if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided:
                self.n_elements = max(self.n_elements, tensor.untyped_storage().nbytes() // 4)
        return output


@pytest.mark.parametrize("params", [{}, {"goodness": mean}, {"readout": "softmax"}], ids=str)
@pytest.mark.parametrize(
    ("n_classes", "layers", "n_pixels"),
    [(100, (6, 5), 3), (2, (6, 5), 60), (3, (4, 250, 5), 3), (3, (60, 20), 1)],
)
def test_scratch_memory_is_bounded(n_classes, layers, n_pixels, params, monkeypatch):
    X, y = gaussian_classes(600, 64, n_classes, spread=4.0)
    clf = tiny_classifier(layers, max_iter=1, **params).fit(X, y)
    scratch = 20_000
    monkeypatch.setattr(_occlusion, "SCRATCH_ELEMENTS", scratch)
    monkeypatch.setattr(_decider, "SCRATCH_ELEMENTS", scratch)
    monkeypatch.setattr(_decider, "CACHE_ELEMENTS", scratch)
    monkeypatch.setattr("skff.forward_forward._network.SCRATCH_ELEMENTS", scratch)
    windows = np.random.default_rng(0).integers(0, 64, (100, n_pixels))
    predictor = clf.occlusion_predictor(X, fill=X[::-1])
    for some, rows in [(windows, np.arange(60)), (windows[:1], np.arange(600))]:
        with LargestTensor() as largest:
            predictor.predict_many(rows, some)
        assert scratch / 100 < largest.n_elements <= 3 * scratch  # lower and upper bounds are one


def test_samples_are_not_changed_and_may_be_read_only():
    X, clf = trained()
    fill = X[::-1].copy()
    before = X.copy(), fill.copy()
    for array in (X, fill):
        array.setflags(write=False)
    assert_predicts_as_on_copies(Case(clf, X, fill, [np.arange(3), np.arange(12)]))
    np.testing.assert_array_equal((X, fill), before)


@pytest.mark.parametrize("params", SETTINGS, ids=str)
def test_pickle_keeps_predictions(params):
    X, clf = trained(**params)
    predictor = clf.occlusion_predictor(X, fill=X.mean(axis=0))
    loaded = pickle.loads(pickle.dumps(predictor))
    rows, windows = np.arange(60), [np.arange(3), np.arange(12)]
    np.testing.assert_array_equal(
        loaded.predict_many(rows, windows), predictor.predict_many(rows, windows)
    )


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
        mock.patch.object(GoodnessBounds, "of", side_effect=AssertionError("worked")),
        pytest.raises(ValueError, match=message),
    ):
        clf.occlusion_predictor(X, fill=fill)
