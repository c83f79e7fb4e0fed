import copy

import numpy as np
import pytest
import torch
from forward_forward import oracle
from forward_forward.oracle import plain_network
from forward_forward.samples import (
    OVERLAYS_AND_LOSSES,
    gaussian_classes,
    next_label,
    tiny_classifier,
    weights,
)
from hypothesis import given
from strategies import activities

from skff.forward_forward import _network
from skff.forward_forward._network import Network, rms_normalize
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES, compares_all
from skff.forward_forward.negatives import Hard
from skff.forward_forward.overlays import OVERLAYS
from skff.forward_forward.readouts import Softmax
from skff.forward_forward.solvers import SGD

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
LAYERS = (9, 7, 5)


def mean(h):
    """Stand for a goodness with a gradient at 0, where the rectifier alone silences a unit."""
    return h.mean(-1)


def fitted(layers=LAYERS, *, centered=False, **params):
    X, y = gaussian_classes(n_samples=24, n_features=8, centered=centered)
    return X, y, tiny_classifier(layers, max_iter=5, batch_size=6, **params).fit(X, y)


def step(clf, X, y, *, rate, sample_weight=None, **params):
    """Return a copy of a fitted classifier after one plain step on all the data at once."""
    settings = {"solver": SGD(momentum=0.0), "learning_rate": "constant", "warm_start": True}
    settings |= {"max_iter": 1, "batch_size": len(X)}
    clf = copy.deepcopy(clf).set_params(**settings, learning_rate_init=rate, **params)
    return clf.fit(X, y, sample_weight)


def plain_loss(loss, y):
    """Return the oracle's form of a registered loss, with its negatives, and ours."""
    if compares_all(LOSSES[loss]):
        return {"loss": oracle.smoothed_cross_entropy, "y_wrong": None}, "all"
    return {"loss": oracle.LOSSES.get(loss, LOSSES[loss]), "y_wrong": (y + 1) % 3}, next_label


def assert_steps_follow(before, after, gradients, rate):
    """Assert that each layer's tensors moved by the rate against their gradients, and that some."""
    for layer, layer_after, layer_gradients in zip(before, after, gradients, strict=True):
        for tensor, moved, gradient in zip(layer, layer_after, layer_gradients, strict=True):
            np.testing.assert_allclose((tensor - moved) / rate, gradient, rtol=1e-5, atol=4e-5)
            assert gradient.ndim == 1 or gradient.abs().max() > 1e-3


# goodness


@every_overlay
@pytest.mark.parametrize("goodness", GOODNESS)
@pytest.mark.parametrize("layers", [(9,), LAYERS])
def test_goodness_equals_plain_passes(layers, goodness, overlay):
    X, _, clf = fitted(layers, goodness=goodness, overlay=overlay)
    formula = oracle.GOODNESS.get(goodness, GOODNESS[goodness])
    expected = plain_network(clf).class_goodness(X, formula)
    assert clf.layer_goodness(X).shape == (len(layers), len(X), 3)
    np.testing.assert_allclose(clf.layer_goodness(X), expected, rtol=1e-4, atol=1e-6)


@every_overlay
def test_goodness_of_more_classes_than_a_block_holds_equals_plain_passes(overlay, monkeypatch):
    X, y = gaussian_classes(n_samples=300, n_features=160, n_classes=150)
    clf = tiny_classifier((6, 5), max_iter=1, overlay=overlay).fit(X, y)
    expected = plain_network(clf).class_goodness(X[:7], oracle.GOODNESS["mean_square"])
    monkeypatch.setattr(_network, "CACHE_ELEMENTS", 64 * 6 * 3)  # of three samples
    np.testing.assert_allclose(clf.layer_goodness(X[:7]), expected, rtol=1e-4, atol=1e-6)


@every_overlay
@pytest.mark.parametrize("layers", [(9,), LAYERS])
def test_softmax_readout_reads_upper_activities_under_a_neutral_label(layers, overlay):
    X, _, clf = fitted(layers, readout="softmax", overlay=overlay)
    activities = plain_network(clf).neutral_activities(X)
    upper = activities[1:] or activities  # a single layer is read itself
    read = torch.cat([oracle.normalized(h) for h in upper], dim=1)
    weight, bias = clf._network.head
    logits = read @ weight.T.double() + bias
    expected = logits - logits.mean(1, keepdim=True)
    np.testing.assert_allclose(clf.decision_function(X), expected, rtol=1e-4, atol=1e-5)


@every_overlay
@pytest.mark.parametrize("readout", ["goodness", "softmax"])
def test_scratch_size_changes_no_goodness(readout, overlay, monkeypatch):
    X, _, clf = fitted(readout=readout, overlay=overlay)
    whole = clf.decision_function(X)
    monkeypatch.setattr(_network, "SCRATCH_ELEMENTS", 60)
    monkeypatch.setattr(_network, "CACHE_ELEMENTS", 30)
    assert clf._network.rows_per_chunk() <= len(X) / 4
    np.testing.assert_allclose(clf.decision_function(X), whole, rtol=1e-5, atol=1e-6)


def test_what_goes_up_depends_on_the_mean_of_the_label_weights_alone():
    _, _, clf = fitted()
    net = clf._network
    f = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    before = net.layer_goodness(f)
    lifted = copy.deepcopy(net)
    # A label may weigh anything in the first layer: with the same mean, all above stays.
    label_weight = lifted.layers[0].label_weight
    label_weight += 3 * (label_weight - label_weight.mean(0))
    after = lifted.layer_goodness(f)
    assert not np.allclose(after[0], before[0], rtol=0.1)
    np.testing.assert_allclose(after[1:], before[1:], rtol=1e-4)


# a step against its oracle


@pytest.mark.parametrize("goodness", GOODNESS)
@pytest.mark.parametrize(("overlay", "loss"), OVERLAYS_AND_LOSSES)
@pytest.mark.usefixtures("whole_signal")
def test_a_step_follows_the_gradients_of_plain_passes(overlay, loss, goodness):
    X, y, clf = fitted(centered=True, loss=loss, goodness=goodness, overlay=overlay)
    rate = 0.01
    expected, negatives = plain_loss(loss, y)
    after = step(clf, X, y, rate=rate, negatives=negatives)
    plain = plain_network(clf)
    formula = oracle.GOODNESS.get(goodness, GOODNESS[goodness])
    gradients = plain.gradients(X, y, goodness=formula, **expected)
    assert_steps_follow(plain.tensors(), plain_network(after).tensors(), gradients, rate)


@pytest.mark.parametrize(
    "goodness",
    [mean, lambda h: h.sum(-1), lambda h: h.pow(4).sum(-1)],
    ids=["mean", "sum", "fourth powers"],
)
@pytest.mark.parametrize(
    ("overlay", "loss"), [("append", "symba"), ("layerwise", "symba"), ("layerwise", "auto")]
)
@pytest.mark.usefixtures("whole_signal")
def test_a_step_follows_autograd_for_a_goodness_of_ones_own(overlay, loss, goodness):
    X, y, clf = fitted(centered=True, overlay=overlay)
    expected, negatives = plain_loss("cross_entropy" if loss == "auto" else loss, y)
    after = step(clf, X, y, rate=0.01, goodness=goodness, loss=loss, negatives=negatives)
    plain = plain_network(clf)
    gradients = plain.gradients(X, y, goodness=goodness, **expected)
    assert_steps_follow(plain.tensors(), plain_network(after).tensors(), gradients, 0.01)


@pytest.mark.parametrize(("overlay", "loss"), OVERLAYS_AND_LOSSES[:3] + OVERLAYS_AND_LOSSES[-1:])
@pytest.mark.usefixtures("whole_signal")
def test_a_step_with_weights_follows_the_weighted_mean(overlay, loss):
    X, y, clf = fitted(centered=True, overlay=overlay)
    weight = np.random.default_rng(0).uniform(0.1, 3, len(X))
    expected, negatives = plain_loss(loss, y)
    settings = {"loss": loss, "negatives": negatives}
    after = step(clf, X, y, rate=0.01, sample_weight=weight, **settings)
    plain = plain_network(clf)
    gradients = plain.gradients(
        X,
        y,
        goodness=oracle.GOODNESS["mean_square"],
        weight=torch.from_numpy(weight / weight.mean()),
        **expected,
    )
    assert_steps_follow(plain.tensors(), plain_network(after).tensors(), gradients, 0.01)


@every_overlay
def test_softmax_readout_learns_the_cross_entropy_of_neutral_activities(overlay):
    X, y, clf = fitted(centered=True, readout="softmax", overlay=overlay)
    after = step(clf, X, y, rate=0.01)
    _, *upper = plain_network(clf).neutral_activities(X)
    read = torch.cat([oracle.normalized(h) for h in upper], dim=1)
    head = [t.double().requires_grad_() for t in clf._network.head]
    loss = torch.nn.functional.cross_entropy(read @ head[0].T + head[1], torch.as_tensor(y))
    for before, now, gradient in zip(
        clf._network.head, after._network.head, torch.autograd.grad(loss, head), strict=True
    ):
        np.testing.assert_allclose((before - now) / 0.01, gradient, atol=4e-5)


@every_overlay
def test_softmax_head_learns_at_its_own_rate_with_its_own_decay(overlay):
    X, y, clf = fitted(centered=True, readout="softmax", overlay=overlay)
    settings = {"rate": 0.01, "weight_decay": 0.3, "negatives": next_label, "loss": "symba"}
    plain, free, own = (
        step(clf, X, y, **settings, readout=readout)
        for readout in ("softmax", Softmax(0.04, weight_decay=0.0), Softmax(0.04, weight_decay=0.5))
    )
    for other in (free, own):
        for layer, layer_of_other in zip(plain._network.layers, other._network.layers, strict=True):
            for tensor, same in zip(layer.tensors(), layer_of_other.tensors(), strict=True):
                assert torch.equal(tensor, same)
    start, slow, fast, decayed = ([*c._network.head] for c in (clf, plain, free, own))
    slow[0] = slow[0] + 0.01 * 0.3 * start[0]  # undo the classifier's decay, which it shares
    for before, slowly, quickly in zip(start, slow, fast, strict=True):
        torch.testing.assert_close(quickly - before, 4 * (slowly - before), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(fast[0] - decayed[0], 0.04 * 0.5 * start[0], rtol=1e-4, atol=1e-7)
    assert torch.equal(fast[1], decayed[1])


def goodness_seen_by_hard_negatives(clf, X, y):
    """Return what a sampler is told of each sample's labels, one table per call of a batch."""
    seen = []

    class Spy(Hard):
        def __call__(self, y, n_classes, generator, score=None):
            scores = score(torch.arange(n_classes))
            if len(y) == len(X):  # not when the component is tried on two samples
                seen.append(scores[y.argsort()].clone())
            return super().__call__(y, n_classes, generator, score)

    clf.set_params(warm_start=True, max_iter=1, batch_size=len(X), negatives=Spy(), loss="symba")
    clf.fit(X, y)
    return seen


@every_overlay
def test_hard_negatives_see_the_goodness_of_the_layers_that_read_the_label(overlay):
    X, y = gaussian_classes(n_samples=10, n_features=12, n_classes=10)  # a label names its sample
    clf = tiny_classifier(LAYERS, max_iter=5, overlay=overlay).fit(X, y)
    expected = plain_network(clf).class_goodness(X, oracle.GOODNESS["mean_square"])
    seen = goodness_seen_by_hard_negatives(clf, X, y)
    assert len(seen) == (3 if overlay == "layerwise" else 1)
    for found, g in zip(seen, expected, strict=False):
        np.testing.assert_allclose(found, g, rtol=1e-4, atol=1e-6)


# a network's own


def network(n_classes=3, n_inputs=4, seed=0):
    return Network.initialize(
        [n_inputs, *LAYERS],
        n_classes,
        label_scale=1.0,
        every_layer=False,
        generator=torch.Generator().manual_seed(seed),
        center=np.zeros(n_inputs),
        input_scale=1.0,
        largest_input=1.0,
        overlay=OVERLAYS["append"],
        goodness=GOODNESS["mean_square"],
    )


@given(h=activities())
def test_normalized_rows_have_mean_square_1_and_ignore_a_factor(h):
    n = rms_normalize(h)
    alive = h.any(1)
    np.testing.assert_allclose(n[alive].square().mean(1), 1, rtol=1e-5)
    assert not n[~alive].any()
    np.testing.assert_array_equal(rms_normalize(0.125 * h), n)
    np.testing.assert_allclose(rms_normalize(7 * h), n, rtol=1e-5)


@pytest.mark.parametrize("n_layers", [1, 2, 5, 9])
def test_the_sum_over_layers_of_a_sample_does_not_depend_on_its_batch(n_layers):
    net = network()
    for n_samples in (2, 9, 100):
        g = 1000 * torch.randn(n_layers, n_samples, 3, generator=torch.Generator().manual_seed(0))
        assert torch.equal(net.total_goodness(g)[:1], net.total_goodness(g[:, :1]))
        np.testing.assert_allclose(net.total_goodness(g), g.double().sum(0), rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("every_layer", [False, True])
def test_layers_above_cannot_read_the_goodness_of_the_first(every_layer):
    net = network()
    if every_layer:
        net = fitted()[2]._network
    n_inputs = len(net.center)
    x = torch.randn(12, n_inputs, generator=torch.Generator().manual_seed(0))
    before = net.layer_goodness(x)
    for tensor in net.layers[0].tensors():
        tensor.mul_(4.0)
    after = net.layer_goodness(x)
    np.testing.assert_allclose(after[0], 16 * before[0], rtol=1e-6)
    np.testing.assert_array_equal(after[1:], before[1:])


def test_initial_weights_keep_the_rms_of_their_inputs():
    generator = torch.Generator().manual_seed(0)
    net = Network.initialize(
        [400, 300, 200],
        50,
        label_scale=0.5,
        every_layer=True,
        generator=generator,
        center=np.zeros(400),
        input_scale=1.0,
        largest_input=1.0,
        overlay=OVERLAYS["layerwise"],
        goodness=GOODNESS["mean_square"],
    )
    for layer, n_inputs in zip(net.layers, (400, 300), strict=True):
        assert float(layer.weight.std()) == pytest.approx(n_inputs**-0.5, rel=0.02)
        assert float(layer.label_shifts().std()) == pytest.approx(0.5, rel=0.03)
        assert not layer.bias.any()


def test_a_copy_shares_no_memory_with_the_network():
    _, _, clf = fitted(readout="softmax")
    before = weights(clf)
    twin = clf._network.to(clf._network.device)
    for tensor in [*twin.tensors(), twin.center]:
        tensor.fill_(7.0)
    assert all(map(np.array_equal, weights(clf), before))


# peer normalization


@every_overlay
def test_peer_normalization_wakes_a_dead_unit_and_nothing_else_does(overlay):
    X, y, clf = fitted((9,), centered=True, overlay=overlay)
    clf._network.layers[0].bias[4] = -1e3
    alone, among_peers = (
        step(clf, X, y, rate=0.1, peer_normalization=share).intercepts_[0] for share in (0.0, 0.5)
    )
    assert alone[4] == -1e3
    assert among_peers[4] > -1e3


def test_peer_normalization_pulls_each_unit_to_the_mean_activity_of_its_layer():
    # One step: the running mean is a tenth of the batch's, and the pull needs no activity.
    X, y, clf = fitted((9,), centered=True, overlay="append")
    plain = plain_network(clf)
    h = plain.activities(plain.labelled(X, y))[0]
    peers = 0.1 * h.mean(0)
    pull = 2 / 9 * (peers - peers.mean())
    without, with_peers = (
        step(clf, X, y, rate=0.1, negatives=next_label, peer_normalization=share).intercepts_[0]
        for share in (0.0, 0.5)
    )
    np.testing.assert_allclose((without - with_peers) / 0.1, 0.5 * pull, atol=1e-5)


@pytest.mark.usefixtures("whole_signal")
def test_peer_normalization_pulls_the_label_weights_of_every_layer_along():
    X, y, clf = fitted(centered=True)
    without, with_peers = (
        step(clf, X, y, rate=0.1, peer_normalization=share) for share in (0.0, 0.5)
    )
    plain = plain_network(clf)
    onehot = np.eye(3)[y]
    for index, (f, (coef, intercept, label_coef, amplitude)) in enumerate(
        zip(plain.inputs(X), plain.layers(), strict=True)
    ):
        h = torch.relu(f @ coef + amplitude * label_coef[y] + intercept)
        peers = 0.1 * h.mean(0)
        pull = 0.5 * 2 / len(intercept) * (peers - peers.mean()) / len(X)  # of each sample
        moved = (
            without.label_coefs_[index] - with_peers.label_coefs_[index],
            without.coefs_[index] - with_peers.coefs_[index],
        )
        expected = amplitude * np.outer(onehot.sum(0), pull), np.outer(f.sum(0), pull)
        for difference, gradient in zip(moved, expected, strict=True):
            np.testing.assert_allclose(difference / 0.1, gradient, atol=2e-5)
