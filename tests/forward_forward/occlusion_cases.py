"""Networks, samples and fills that are hard on bounds, and what float64 says of them."""

import copy
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from forward_forward.samples import gaussian_classes, tiny_classifier
from hypothesis import strategies as st

from skff.forward_forward._network import Layer, Network
from skff.forward_forward.goodness import GOODNESS as COMPONENTS
from skff.forward_forward.overlays import OVERLAYS

SMALLEST_NORM = 1e-8
EPSILON = np.finfo(np.float32).eps


def mean(h):
    """Stand for a goodness of one's own: bounds do not know its gradient."""
    return h.mean(-1)


GOODNESS = {
    "mean_square": lambda h: (h**2).mean(-1),
    "sum_square": lambda h: (h**2).sum(-1),
    mean: lambda h: h.mean(-1),
}


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
def cases(
    draw,
    least_layers=1,
    readouts=("goodness", "softmax"),
    overlays=tuple(OVERLAYS),
    goodness=tuple(GOODNESS),
):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_classes, n_samples = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    overlay = draw(st.sampled_from(overlays))
    sizes = draw(st.lists(st.integers(1, 12), min_size=1 + least_layers, max_size=6))
    n_features = sizes[0] + n_classes * (overlay == "replace")
    X = draw(SCALES) * rng.standard_normal((n_samples, n_features))
    X *= rng.random(X.shape) < 0.7
    params = {
        "overlay": overlay,
        "readout": draw(st.sampled_from(readouts)),
        "goodness": draw(st.sampled_from(goodness)),
        "skip_first_goodness": len(sizes) > 2 and draw(st.booleans()),
    }
    clf = tiny_classifier(sizes[1:], **params)
    clf._network = draw_network(draw, rng, sizes, n_classes, X[:, -sizes[0] :], params)
    clf.classes_ = np.array([f"label {c}" for c in range(n_classes)])
    clf.n_features_in_ = n_features
    W = np.zeros((sizes[1], n_features))
    W[:, -sizes[0] :] = clf._network.layers[0].weight.numpy()
    fill = FILLS[draw(st.sampled_from(list(FILLS)))](rng, X, W)
    windows = [np.flatnonzero(rng.random(n_features) < share) for share in (0.2, 0.5, 0.8)]
    windows += [np.arange(0), np.arange(n_features)]
    return Case(clf, X.astype(np.float32), np.asarray(fill, dtype=np.float32), windows)


def draw_network(draw, rng, sizes, n_classes, X, params):
    layers, inputs = [], X[0]
    for n_inputs, n_units in zip(sizes, sizes[1:], strict=False):
        weight = draw(SCALES) * draw(st.sampled_from(WEIGHTS))(rng, n_units, n_inputs)
        bias = BIASES[draw(st.sampled_from(list(BIASES)))](rng, weight @ inputs)
        inputs = normalized(np.maximum(weight @ inputs + bias, 0))
        labels, amplitude = None, draw(SCALES)
        if not layers or params["overlay"] == "layerwise":
            labels = as_float32(draw(SCALES) * rng.standard_normal((n_classes, n_units)))
        layers.append(Layer(as_float32(weight), as_float32(bias), labels, amplitude))
    head = []
    if params["readout"] == "softmax":
        n_read = sum(sizes[2:]) or sizes[1]
        head = [rng.standard_normal((n_classes, n_read)), rng.standard_normal(n_classes)]
    return Network(
        layers,
        center=as_float32(draw(st.sampled_from([0.0, 1.0])) * rng.standard_normal(sizes[0])),
        largest_input=np.inf,
        input_scale=draw(SCALES),
        overlay=OVERLAYS[params["overlay"]],
        goodness=COMPONENTS.get(params["goodness"], params["goodness"]),
        skip_first=params["skip_first_goodness"],
        head=[as_float32(a) for a in head],
    )


def trained(layers=(20, 10), n_samples=60, n_features=12, **params):
    """Return samples and a classifier of three classes that are hard to tell apart."""
    return copy.deepcopy(_trained(layers, n_samples, n_features, *params.items()))


@cache
def _trained(layers, n_samples, n_features, *params):
    X, y = gaussian_classes(n_samples, n_features, spread=4.0)
    return X, tiny_classifier(layers, **({"max_iter": 10} | dict(params))).fit(X, y)


def as_float32(array):
    return torch.tensor(array, dtype=torch.float32)


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

    Their first layer may have been found from the samples `before`. Both of shape
    (n_samples, n_classes).
    """
    network = case.clf._network
    W, b = in_float64([network.layers[0].weight, network.layers[0].bias])
    before, after = (X[:, -W.shape[1] :].astype(np.float64) for X in (before, after))
    s, center = network.input_scale, network.center.double().numpy()
    sizes = np.abs(before) + np.abs(after) + 2 * np.abs(center)
    terms = s * sizes @ np.abs(W).T + np.abs(b)
    return scores_above(case.clf, s * (after - center) @ W.T + b, rounding(W.shape[1]) * terms)


def scores_above(clf, Z, error):
    """Return scores and the bound on their errors from first pre-activations and theirs.

    Without a label, (n_samples, n_units). Inputs of upper layers have an axis for classes, of
    length 1 where one pass serves all labels.
    """
    network, total, total_error, read, read_error = clf._network, 0.0, 0.0, [], []
    Z, error = Z[:, None], error[:, None]
    n = n_error = None  # what goes up, and the bound on its error
    for index, layer in enumerate(network.layers):
        if index > 0:
            W, b = in_float64([layer.weight, layer.bias])
            terms = np.abs(n) @ np.abs(W).T + np.abs(b)
            # Bounded as a norm, which the first unit stands for.
            e = rounding(W.shape[1]) * np.linalg.norm(terms, axis=-1)
            error = (e + np.linalg.norm(W, 2) * n_error)[..., None] * (np.arange(len(W)) == 0)
            Z = n @ W.T + b
        u, neutral = np.zeros((1, Z.shape[-1])), None
        if layer.label_weight is not None:
            u = layer.label_amplitude * layer.label_weight.double().numpy()
            neutral = u.mean(0)
        # The label's shift and its mean are rounded, too.
        error = error + rounding(len(u)) * np.abs(u).max(0)
        h, h_error = np.maximum(Z + u, 0), np.linalg.norm(error, axis=-1)
        g, g_error = goodness_and_error(clf.goodness, h, h_error)
        if not (clf.skip_first_goodness and index == 0):
            total, total_error = total + g, total_error + g_error
        up = h if neutral is None or not (network.has_trunk or network.head) else None
        up = np.maximum(Z + neutral, 0) if up is None else up
        n, n_error = normalized(up), normalized_error(up, h_error)
        if index > 0 or network.n_layers == 1:
            read.append(n[:, 0])
            read_error.append(n_error[:, 0])
    if not network.head:
        return total, total_error + rounding(network.n_layers) * np.abs(total)
    weight, bias = in_float64(network.head)
    read, read_error = np.concatenate(read, 1), np.linalg.norm(read_error, axis=0)
    terms = np.abs(read) @ np.abs(weight).T + np.abs(bias)
    error = rounding(read.shape[1]) * terms + read_error[:, None] * np.linalg.norm(weight, axis=1)
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
