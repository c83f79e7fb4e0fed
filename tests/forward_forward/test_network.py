import copy

import numpy as np
import pytest
import torch
from forward_forward import oracle
from forward_forward.oracle import PlainNetwork
from forward_forward.samples import gaussian_classes, next_label, tiny_classifier
from hypothesis import given
from strategies import activities

from skff.forward_forward import _network
from skff.forward_forward._network import Network, rms_normalize
from skff.forward_forward._training import Rule, batch_gradients
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES
from skff.forward_forward.negatives import Hard, uniform
from skff.forward_forward.overlays import OVERLAYS

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
LAYERS = (9, 7, 5)


def mean(h):
    """Stand for a goodness with a slope at 0, where the rectifier alone silences a unit."""
    return h.mean(-1)


def fitted(layers=LAYERS, *, centered=False, **params):
    X, y = gaussian_classes(n_samples=24, n_features=8, centered=centered)
    return X, y, tiny_classifier(layers, max_iter=5, batch_size=6, **params).fit(X, y)


def step(clf, X, y, *, rate, sample_weight=None, **params):
    """Return a copy of a fitted classifier after one plain step on all the data at once."""
    settings = {"solver": "sgd", "momentum": 0.0, "learning_rate": "constant", "warm_start": True}
    settings |= {"max_iter": 1, "batch_size": len(X), "negatives": next_label}
    clf = copy.deepcopy(clf).set_params(**settings, learning_rate_init=rate, **params)
    return clf.fit(X, y, sample_weight)


def dense(clf, overlay="append"):
    return PlainNetwork(clf, overlay).tensors()


def assert_steps_follow(before, after, gradients, rate):
    """Assert that each (W, b) moved by the rate against its gradient, and that one moved."""
    for (W, b), (W_after, b_after), (dW, db) in zip(before, after, gradients, strict=True):
        np.testing.assert_allclose((W - W_after) / rate, dW, atol=2e-5)
        np.testing.assert_allclose((b - b_after) / rate, db, atol=2e-5)
        assert dW.abs().max() > 1e-3


# goodness


@every_overlay
@pytest.mark.parametrize("goodness", GOODNESS)
@pytest.mark.parametrize("layers", [(9,), LAYERS], ids=str)
def test_goodness_equals_one_plain_pass_per_label(layers, goodness, overlay):
    X, _, clf = fitted(layers, goodness=goodness, overlay=overlay)
    plain = PlainNetwork(clf, overlay)
    formula = oracle.GOODNESS.get(goodness, GOODNESS[goodness])
    expected = plain.class_goodness(X, formula)
    assert clf.layer_goodness(X).shape == (len(layers), len(X), 3)
    np.testing.assert_allclose(clf.layer_goodness(X), expected, rtol=1e-4, atol=1e-6)


def test_goodness_of_more_classes_than_a_block_holds_equals_plain_passes():
    X, y = gaussian_classes(n_samples=300, n_features=8, n_classes=150)
    clf = tiny_classifier((6, 5), max_iter=1).fit(X, y)
    expected = PlainNetwork(clf).class_goodness(X[:7], oracle.GOODNESS["mean_square"])
    np.testing.assert_allclose(clf.layer_goodness(X[:7]), expected, rtol=1e-4, atol=1e-6)


def test_softmax_readout_reads_upper_activities_under_a_neutral_label():
    X, _, clf = fitted(readout="softmax")
    plain = PlainNetwork(clf)
    _, *upper = plain.activities(plain.neutral(X))
    read = torch.cat([oracle.normalized(h) for h in upper], dim=1)
    weight, bias = clf._network.readout
    expected = read @ weight.T.double() + bias
    np.testing.assert_allclose(clf.decision_function(X), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("readout", ["goodness", "softmax"])
def test_scratch_size_changes_no_goodness(readout, monkeypatch):
    X, _, clf = fitted(readout=readout)
    whole = clf.decision_function(X)
    monkeypatch.setattr(_network, "SCRATCH_ELEMENTS", 60)
    assert clf._network.rows_per_chunk() < len(X) / 4
    np.testing.assert_allclose(clf.decision_function(X), whole, rtol=1e-5, atol=1e-7)


# gradients


@every_overlay
@pytest.mark.parametrize("goodness", GOODNESS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.usefixtures("whole_signal")
def test_a_step_follows_the_gradients_of_two_plain_passes(loss, goodness, overlay):
    X, y, clf = fitted(centered=True, loss=loss, goodness=goodness, overlay=overlay)
    rate = 0.01
    after = step(clf, X, y, rate=rate)
    plain = PlainNetwork(clf, overlay)
    gradients = plain.gradients(
        X,
        y,
        (y + 1) % 3,
        goodness=oracle.GOODNESS.get(goodness, GOODNESS[goodness]),
        loss=oracle.LOSSES.get(loss, LOSSES[loss]),
    )
    assert_steps_follow(plain.tensors(), dense(after, overlay), gradients, rate)


@pytest.mark.parametrize(
    "goodness",
    [mean, lambda h: h.sum(-1), lambda h: h.pow(4).sum(-1)],
    ids=["mean", "sum", "fourth powers"],
)
@pytest.mark.usefixtures("whole_signal")
def test_a_step_follows_autograd_for_a_goodness_of_ones_own(goodness):
    X, y, clf = fitted(centered=True)
    after = step(clf, X, y, rate=0.01, goodness=goodness)
    plain = PlainNetwork(clf)
    gradients = plain.gradients(X, y, (y + 1) % 3, goodness=goodness, loss=oracle.LOSSES["symba"])
    assert_steps_follow(plain.tensors(), dense(after), gradients, 0.01)


@pytest.mark.usefixtures("whole_signal")
def test_a_step_with_weights_follows_the_weighted_mean():
    X, y, clf = fitted(centered=True)
    weight = np.random.default_rng(0).uniform(0.1, 3, len(X))
    after = step(clf, X, y, rate=0.01, sample_weight=weight)
    plain = PlainNetwork(clf)
    gradients = plain.gradients(
        X,
        y,
        (y + 1) % 3,
        goodness=oracle.GOODNESS["mean_square"],
        loss=oracle.LOSSES["symba"],
        weight=torch.from_numpy(weight / weight.mean()),
    )
    assert_steps_follow(plain.tensors(), dense(after), gradients, 0.01)


def test_softmax_readout_learns_the_cross_entropy_of_neutral_activities():
    X, y, clf = fitted(centered=True, readout="softmax")
    after = step(clf, X, y, rate=0.01)
    plain = PlainNetwork(clf)
    _, *upper = plain.activities(plain.neutral(X))
    read = torch.cat([oracle.normalized(h) for h in upper], dim=1)
    head = [t.double().requires_grad_() for t in clf._network.readout]
    loss = torch.nn.functional.cross_entropy(read @ head[0].T + head[1], torch.as_tensor(y))
    for before, now, gradient in zip(
        clf._network.readout, after._network.readout, torch.autograd.grad(loss, head), strict=True
    ):
        np.testing.assert_allclose((before - now) / 0.01, gradient, atol=2e-5)


def test_hard_negatives_see_the_first_layers_goodness_of_every_label():
    X, y = gaussian_classes(n_samples=10, n_features=8, n_classes=10)  # a label names its sample
    clf = tiny_classifier(LAYERS, max_iter=5).fit(X, y)
    seen = {}

    class Spy(Hard):
        def __call__(self, y, n_classes, generator, score=None):
            scores = score(torch.arange(n_classes))
            seen.update(zip(y.tolist(), scores.tolist(), strict=True))
            return super().__call__(y, n_classes, generator, score)

    clf.set_params(warm_start=True, max_iter=1, batch_size=10, negatives=Spy())
    expected = PlainNetwork(clf).class_goodness(X, oracle.GOODNESS["mean_square"])[0]
    clf.fit(X, y)
    np.testing.assert_allclose([seen[label] for label in y], expected, rtol=1e-4, atol=1e-6)


# locality


def network(n_classes=3, n_inputs=4, seed=0):
    return Network.initialize(
        [n_inputs, *LAYERS],
        n_classes,
        center=np.zeros(n_inputs),
        input_scale=1.0,
        label_amplitude=1.0,
        generator=torch.Generator().manual_seed(seed),
    )


def gradients_of(net, layers, seed=0):
    """Return the gradient of every tensor after one batch that teaches some layers."""
    rng = torch.Generator().manual_seed(seed)
    x, y = torch.randn(12, 4, generator=rng), torch.arange(12) % 3
    rule = Rule(goodness=GOODNESS["mean_square"], loss=LOSSES["symba"], negatives=uniform)
    with torch.no_grad():
        batch_gradients(net, x, y, 1.0, rule, layers, rng)
    return [[tensor.grad for tensor in net.parameters(layer)] for layer in range(net.n_layers)]


@pytest.mark.parametrize("learning", range(3))
def test_loss_of_a_layer_leaves_the_gradients_of_all_others_empty(learning):
    found = gradients_of(network(), range(learning, learning + 1))
    for layer, gradients in enumerate(found):
        assert all((gradient is not None) == (layer == learning) for gradient in gradients)
    assert all(gradient.abs().sum() > 0 for gradient in found[learning])


def test_gradient_of_a_layer_is_the_same_whoever_learns_with_it():
    together = gradients_of(network(), range(3))
    for layer in range(3):
        alone = gradients_of(network(), range(layer, layer + 1))[layer]
        for one, other in zip(alone, together[layer], strict=True):
            np.testing.assert_array_equal(one, other)


@given(h=activities())
def test_normalized_rows_have_mean_square_1_and_ignore_a_factor(h):
    n = rms_normalize(h)
    alive = h.any(1)
    np.testing.assert_allclose(n[alive].square().mean(1), 1, rtol=1e-5)
    assert not n[~alive].any()
    np.testing.assert_array_equal(rms_normalize(0.125 * h), n)
    np.testing.assert_allclose(rms_normalize(7 * h), n, rtol=1e-5)


def test_layers_above_cannot_read_the_goodness_of_the_first():
    net, x = network(), torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    before = net.class_goodness(net.project(x), GOODNESS["mean_square"])
    for tensor in net.parameters(0):
        tensor.mul_(4.0)
    after = net.class_goodness(net.project(x), GOODNESS["mean_square"])
    np.testing.assert_allclose(after[0], 16 * before[0], rtol=1e-6)
    np.testing.assert_array_equal(after[1:], before[1:])


# peer normalization


def test_peer_normalization_wakes_a_dead_unit_and_nothing_else_does():
    X, y, clf = fitted((9,), centered=True)
    clf._network.biases[0][4] = -1e3
    alone, among_peers = (
        step(clf, X, y, rate=0.1, peer_normalization=share).intercepts_[0] for share in (0.0, 0.5)
    )
    assert alone[4] == -1e3
    assert among_peers[4] > -1e3


def test_peer_normalization_pulls_each_unit_to_the_mean_activity_of_its_layer():
    # One step: the running mean is a tenth of the batch's, and the pull needs no activity.
    X, y, clf = fitted((9,), centered=True)
    plain = PlainNetwork(clf)
    h = plain.activities(plain.labelled(X, y))[0]
    peers = 0.1 * h.mean(0)
    pull = 2 / 9 * (peers - peers.mean())
    without, with_peers = (
        step(clf, X, y, rate=0.1, peer_normalization=share).intercepts_[0] for share in (0.0, 0.5)
    )
    np.testing.assert_allclose((without - with_peers) / 0.1, 0.5 * pull, atol=1e-5)
