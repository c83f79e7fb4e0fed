"""The closed forms of one batch against plain autograd, both in float64."""

import numpy as np
import pytest
import torch
from forward_forward.samples import gaussian_classes, next_label
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from skff.forward_forward import _gradients
from skff.forward_forward._batches import Share, TrainingData
from skff.forward_forward._features import Features
from skff.forward_forward._gradients import (
    LearningRule,
    Scratch,
    batch_gradients,
)
from skff.forward_forward._network import Layer, Network
from skff.forward_forward._trainer import SCHEDULES, Trainer
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES, CrossEntropy, SymBa, compares_all
from skff.forward_forward.negatives import NEGATIVES
from skff.forward_forward.overlays import OVERLAYS
from skff.forward_forward.readouts import Softmax
from skff.forward_forward.solvers import AdamW

CPU = torch.device("cpu")
SIZES = (5, 9, 7, 6)  # inputs, then units


def fourth_power(h):
    """Stand for a goodness of a user's own, without a closed form of its gradient."""
    return h.pow(4).mean(-1)


def random_network(n_classes=4, *, seed=0, sizes=SIZES, every_layer=True, head=False):
    """Return a float64 network whose every tensor is random."""
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    layers = [
        Layer(
            normal(n_units, n_inputs) / n_inputs**0.5,
            0.3 * normal(n_units),
            normal(n_classes, n_units) if every_layer or index == 0 else None,
            label_amplitude=0.5 + index,
        )
        for index, (n_inputs, n_units) in enumerate(zip(sizes, sizes[1:], strict=False))
    ]
    return Network(
        layers,
        center=torch.zeros(sizes[0], dtype=torch.float64),
        input_scale=1.0,
        largest_input=1.0,
        overlay=OVERLAYS["layerwise" if every_layer else "append"],
        goodness=GOODNESS["mean_square"],
        head=[normal(n_classes, sum(sizes[2:])), normal(n_classes)] if head else (),
    )


def single(net):
    """Return the network with its tensors in float32."""
    net.center, net.head = net.center.float(), [tensor.float() for tensor in net.head]
    for layer in net.layers:
        layer.weight, layer.bias = layer.weight.float(), layer.bias.float()
        layer.label_weight = None if layer.label_weight is None else layer.label_weight.float()
    return net


def random_batch(n_classes=4, *, n_samples=11, n_features=SIZES[0], seed=1):
    rng = torch.Generator().manual_seed(seed)
    f = torch.randn(n_samples, n_features, generator=rng, dtype=torch.float64)
    y = torch.randint(0, n_classes, (n_samples,), generator=rng)
    weight = torch.rand(n_samples, generator=rng, dtype=torch.float64) + 0.1
    return f, y, weight


def rule(goodness="mean_square", loss="cross_entropy", negatives=None, **settings):
    goodness, loss = GOODNESS.get(goodness, goodness), LOSSES.get(loss, loss)
    if negatives is None and not compares_all(loss):
        negatives = next_label
    return LearningRule(goodness, loss, negatives, **settings)


def learn(net, batch, rule, layers=None, *, seed=0, head=None):
    """Set the gradients from one batch; return the totals."""
    f, y, weight = batch
    layers = range(net.n_layers) if layers is None else layers
    peers = [torch.zeros_like(layer.bias) for layer in net.layers]
    generators = [torch.Generator().manual_seed(seed)] * net.n_layers
    learning = {"head": head, "peers": peers, "scratch": Scratch()}
    with torch.no_grad():
        passes = net.trunk(f, None if head else layers.stop)
        return batch_gradients(net, passes, y, weight, rule, layers, generators, **learning)


def gradients(net):
    """Return the gradients of every layer's tensors: weight, bias and label weights."""
    return [[tensor.grad for tensor in layer.tensors()] for layer in net.layers]


def autograd_of_the_trunk(net, batch, goodness, losses_of):
    """Return every layer's gradients and summed losses; ``losses_of(g, y)`` is of each sample."""
    f, y, weight = batch
    found, totals = [], []
    for layer in net.layers:
        own = [tensor.detach().clone().requires_grad_() for tensor in layer.tensors()]
        W, b, L = own
        Z = f @ W.t() + b
        h = torch.relu(Z.unsqueeze(1) + layer.label_amplitude * L)  # (n, n_classes, n_units)
        losses = losses_of(goodness(h.flatten(0, 1)).view(len(f), -1), y)
        found.append(torch.autograd.grad((weight * losses).mean(), own))
        totals.append(float(losses.detach().sum()))
        up = torch.relu(Z + layer.label_amplitude * L.mean(0)).detach()
        f = up / up.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)
    return found, totals


def assert_same(found, expected):
    for layer, layer_expected in zip(found, expected, strict=True):
        for gradient, wanted in zip(layer, layer_expected, strict=True):
            # torch's softplus is linear from 20 on, where its derivative is off by 2e-9.
            torch.testing.assert_close(gradient, wanted, rtol=1e-8, atol=1e-9)


# cross-entropy over all labels


@pytest.mark.parametrize("goodness", [*GOODNESS, fourth_power], ids=[*GOODNESS, "custom"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_gradients_of_the_cross_entropy_are_those_of_autograd(n_classes, label_smoothing, goodness):
    loss = CrossEntropy(scale=3.0, label_smoothing=label_smoothing)
    net, batch = random_network(n_classes), random_batch(n_classes)
    totals = learn(net, batch, rule(goodness, loss))

    def losses(g, y):
        smoothing = {"label_smoothing": label_smoothing, "reduction": "none"}
        return cross_entropy(3.0 * g, y, **smoothing) / 3.0

    formula = GOODNESS.get(goodness, goodness)
    expected, summed = autograd_of_the_trunk(net, batch, formula, losses)
    assert_same(gradients(net), expected)
    np.testing.assert_allclose(totals[0], summed, rtol=1e-12)


def test_equal_weights_are_a_number():
    net, (f, y, _) = random_network(), random_batch()
    learn(net, (f, y, 1.0), rule())
    one_by_one = random_network()
    learn(one_by_one, (f, y, torch.ones(len(f), dtype=torch.float64)), rule())
    assert_same(gradients(net), gradients(one_by_one))


@pytest.mark.parametrize("scratch_elements", [1, 9 * 4 * 3, 2**21])
@pytest.mark.parametrize("max_candidates", [3, 64])
def test_the_size_of_the_buffer_changes_no_gradient(scratch_elements, max_candidates, monkeypatch):
    loss, batch = CrossEntropy(max_candidates=max_candidates), random_batch()
    expected = random_network()
    learn(expected, batch, rule(loss=loss))
    monkeypatch.setattr(_gradients, "SCRATCH_ELEMENTS", scratch_elements)
    net = random_network()
    learn(net, batch, rule(loss=loss))
    assert_same(gradients(net), gradients(expected))


@pytest.mark.parametrize("goodness", ["mean_square", fourth_power])
@pytest.mark.parametrize("max_candidates", [2, 5, 19])
def test_more_labels_than_candidates_compare_the_true_one_with_a_subset(
    max_candidates, goodness, monkeypatch
):
    n_classes, drawn = 20, []

    def spy(*arguments):
        drawn.append(_draw_candidates(*arguments))
        return drawn[-1]

    _draw_candidates = _gradients.draw_candidates
    monkeypatch.setattr(_gradients, "draw_candidates", spy)
    loss = CrossEntropy(max_candidates=max_candidates)
    net, batch = random_network(n_classes), random_batch(n_classes, n_samples=30)
    totals = learn(net, batch, rule(goodness, loss))
    candidates = iter(drawn)

    def losses(g, y):
        subset = set(next(candidates).tolist())
        found = []
        for row, label in zip(g, y.tolist(), strict=True):
            labels = [label, *sorted(subset - {label})]  # none twice
            target = torch.full((len(labels),), 0.1 / len(labels), dtype=torch.float64)
            target[0] += 0.9
            found.append(-(target * (4 * row[labels]).log_softmax(0)).sum() / 4)
        return torch.stack(found)

    formula = GOODNESS.get(goodness, goodness)
    expected, summed = autograd_of_the_trunk(net, batch, formula, losses)
    assert [len(labels.unique()) for labels in drawn] == [max_candidates] * 3
    assert_same(gradients(net), expected)
    np.testing.assert_allclose(totals[0], summed, rtol=1e-12)


def test_two_labels_without_smoothing_learn_as_from_symba():
    nets = random_network(2), random_network(2)
    batch = random_batch(2)
    compared = learn(nets[0], batch, rule(loss=CrossEntropy(5.0, label_smoothing=0.0)))
    paired = learn(nets[1], batch, rule(loss=SymBa(5.0)))
    assert_same(gradients(nets[0]), gradients(nets[1]))
    np.testing.assert_allclose(compared, paired, rtol=1e-8)


def test_wins_count_samples_whose_true_label_has_most_goodness():
    net, batch, expected = random_network(), random_batch(), []

    def losses(g, y):
        expected.append(int((g.argmax(1) == y).sum()))
        return g.sum(1)

    autograd_of_the_trunk(net, batch, GOODNESS["mean_square"], losses)
    _, wins = learn(net, batch, rule())
    assert wins.tolist() == expected


# pairs


@pytest.mark.parametrize("goodness", [*GOODNESS, fourth_power], ids=[*GOODNESS, "custom"])
@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if not compares_all(loss)])
def test_gradients_of_pairs_on_the_trunk_are_those_of_autograd(loss, goodness):
    net, batch = random_network(), random_batch()
    totals = learn(net, batch, rule(goodness, loss))

    def losses(g, y):
        rows = torch.arange(len(y))
        return LOSSES[loss](g[rows, y], g[rows, (y + 1) % 4])

    formula = GOODNESS.get(goodness, goodness)
    expected, summed = autograd_of_the_trunk(net, batch, formula, losses)
    assert_same(gradients(net), expected)
    np.testing.assert_allclose(totals[0], summed, rtol=1e-12)


@pytest.mark.parametrize(
    "negatives", [s for s in NEGATIVES.values() if getattr(s, "needs", None) != "readout"]
)
def test_negatives_on_the_trunk_are_drawn_for_each_layer_and_learnt_from(negatives):
    drawn = []

    class Spy:
        needs = "goodness"

        def __call__(self, y, n_classes, generator, score):
            needs = [score] if hasattr(negatives, "needs") else []
            drawn.append(negatives(y, n_classes, generator, *needs))
            return drawn[-1]

    net, batch = random_network(), random_batch(n_samples=40)
    learn(net, batch, rule(loss="symba", negatives=Spy()))
    wrong = iter(drawn)

    def losses(g, y):
        rows = torch.arange(len(y))
        return SymBa()(g[rows, y], g[rows, next(wrong)])

    expected, _ = autograd_of_the_trunk(net, batch, GOODNESS["mean_square"], losses)
    assert len(drawn) == 3
    assert not torch.equal(drawn[0], drawn[1])
    assert_same(gradients(net), expected)


# the softmax head


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("every_layer", [True, False])
def test_gradients_of_the_head_are_those_of_autograd_and_reach_no_layer(every_layer, smoothing):
    net, with_head = (single(random_network(every_layer=every_layer, head=True)) for _ in "ab")
    f, y, weight = (tensor.to(torch.float32, copy=True) for tensor in random_batch())
    batch, loss = (f, y.long(), weight), "cross_entropy" if every_layer else "symba"
    learn(net, batch, rule(loss=loss))
    totals = learn(with_head, batch, rule(loss=loss), head=Softmax(label_smoothing=smoothing))
    assert_same(gradients(net), gradients(with_head))
    head, y = [tensor.clone().requires_grad_() for tensor in net.head], y.long()
    inputs = net.head_inputs(list(net.trunk(f)))
    settings = {"reduction": "none", "label_smoothing": smoothing}
    losses = cross_entropy(inputs @ head[0].t() + head[1], y, **settings)
    expected = torch.autograd.grad((weight * losses).mean(), head)
    for tensor, wanted in zip(with_head.head, expected, strict=True):
        torch.testing.assert_close(tensor.grad, wanted, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(totals[0, -1], losses.detach().sum(), rtol=1e-5)


# locality


every_kind = pytest.mark.parametrize(
    ("every_layer", "loss"), [(True, "cross_entropy"), (True, "symba"), (False, "symba")]
)


@every_kind
@pytest.mark.parametrize("learning", range(3))
def test_loss_of_a_layer_leaves_the_gradients_of_all_others_empty(learning, every_layer, loss):
    net = random_network(every_layer=every_layer)
    learn(net, random_batch(), rule(loss=loss), range(learning, learning + 1))
    for layer, own in enumerate(gradients(net)):
        assert all((gradient is not None) == (layer == learning) for gradient in own)
    assert all(gradient.abs().sum() > 0 for gradient in gradients(net)[learning])


@every_kind
def test_gradient_of_a_layer_is_the_same_whoever_learns_with_it(every_layer, loss):
    together, batch = random_network(every_layer=every_layer), random_batch()
    learn(together, batch, rule(loss=loss))
    for layer in range(3):
        alone = random_network(every_layer=every_layer)
        learn(alone, batch, rule(loss=loss), range(layer, layer + 1))
        for one, other in zip(gradients(alone)[layer], gradients(together)[layer], strict=True):
            np.testing.assert_array_equal(one, other)


def trained(net, n_layers, rule):
    """Return the tensors of the first layers after two epochs in float32."""
    X, y = gaussian_classes(n_samples=40, n_features=SIZES[0], n_classes=4)
    net = single(net)
    data = TrainingData(
        Features(X), y, None, keep=net.keep, rescale=net.rescale, device=CPU, dropout=0.2
    )
    rng = torch.Generator().manual_seed(3)
    trainer = Trainer(net, range(net.n_layers), rng, solver=AdamW(), learning_rate=0.01)
    with torch.no_grad():
        for _ in range(2):
            trainer.epoch(data, rule, batch_size=8, schedule=SCHEDULES["constant"])
    return [tensor for layer in net.layers[:n_layers] for tensor in layer.tensors()]


@every_kind
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("drawn", [False, True])
def test_updates_of_a_layer_are_bit_identical_whatever_lies_above(
    drawn, n_layers, every_layer, loss
):
    whole, changed, cut = (random_network(every_layer=every_layer) for _ in range(3))
    for layer in changed.layers[n_layers:]:
        for tensor in layer.tensors():
            tensor.mul_(-3.0).add_(1.0)
    del cut.layers[n_layers:]
    negatives = None if loss == "cross_entropy" else NEGATIVES["hard"] if drawn else next_label
    learnt = rule(loss=loss, negatives=negatives, always_used=0.8 * drawn)
    start = [tensor.float() for layer in cut.layers for tensor in layer.tensors()]
    expected = trained(whole, n_layers, learnt)
    assert all((now != before).any() for now, before in zip(expected, start, strict=True))
    for other in (changed, cut):
        assert all(map(torch.equal, trained(other, n_layers, learnt), expected))


def test_what_goes_up_does_not_depend_on_the_true_label(monkeypatch):
    read = []

    def spy(layer, f, *signal):
        read.append(f.clone())
        return _set_gradients(layer, f, *signal)

    _set_gradients = Layer.set_gradients
    monkeypatch.setattr(Layer, "set_gradients", spy)
    f, y, weight = random_batch()
    for labels in (y, (y + 1) % 4):
        learn(random_network(), (f, labels, weight), rule())
    assert len(read) == 6
    assert all(map(torch.equal, read[:3], read[3:]))


@given(seed=st.integers(0, 2**16))
def test_a_step_against_the_gradient_lowers_every_layers_own_loss(seed):
    net, batch = random_network(seed=seed), random_batch(seed=seed + 1)
    batch = (*batch[:2], 1.0)
    for layer in range(3):
        before = learn(net, batch, rule(), range(layer, layer + 1))[0]
        for tensor in net.layers[layer].tensors():
            tensor -= 1e-6 * tensor.grad
        assert learn(net, batch, rule(), range(layer, layer + 1))[0] < before


# samples drawn by the strength of their signal


def well_learnt(net, n_samples=60):
    """Return a batch most of whose labels are those that the first layer finds best."""
    f, y, weight = random_batch(n_samples=n_samples)
    best = net.layer_goodness(f, 1)[0].argmax(1)
    return f, torch.where(torch.arange(n_samples) < 0.8 * n_samples, best, y), weight


@pytest.mark.parametrize(
    ("every_layer", "loss"),
    [(True, CrossEntropy(2.0, label_smoothing=0.0)), (True, SymBa(2.0)), (False, SymBa(2.0))],
)
def test_gradients_from_drawn_samples_are_right_on_average(every_layer, loss):
    settings = {"every_layer": every_layer, "sizes": SIZES[:3]}
    net = random_network(**settings)
    batch = well_learnt(net)
    learn(net, batch, rule(loss=loss))
    expected, draws = gradients(net), []
    for seed in range(300):
        learn(net, batch, rule(loss=loss, always_used=0.8), seed=seed)
        draws.append(gradients(net))
    n_drawn = 3 if every_layer and compares_all(loss) else 1  # pairs spare the weights alone
    for layer, wanted in enumerate(expected):
        for k, want in enumerate(wanted):
            drawn = torch.stack([draw[layer][k] for draw in draws])
            if k >= n_drawn:  # what costs little learns from every sample
                torch.testing.assert_close(drawn, want.expand_as(drawn), rtol=1e-8, atol=1e-9)
                continue
            standard_error = drawn.std(0) / len(draws) ** 0.5
            assert (standard_error > 0).any()  # some were left out
            assert ((drawn.mean(0) - want).abs() <= 5 * standard_error + 1e-12).all()


def draw_samples(strength, rule, generator):
    return _gradients._draw_samples(strength, 1, rule, generator, Share(len(strength)))


def test_strong_samples_are_always_drawn_and_weak_ones_by_their_strength():
    strength = torch.tensor([0.0, 0.1, 0.2, 0.4, 1.3, 4.0]).repeat(50)
    learnt, counts = rule(always_used=0.8), torch.zeros(6)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        samples, factor = draw_samples(strength, learnt, generator)
        counts += torch.bincount(samples % 6, minlength=6)
        probability = (strength / (0.8 * strength.mean())).clamp_max(1.0)
        torch.testing.assert_close(factor, 1 / probability[samples])
    expected = probability[:6] * 50 * 200
    assert counts[0] == 0
    assert counts[-2:].tolist() == expected[-2:].tolist()
    np.testing.assert_allclose(counts[1:4], expected[1:4], rtol=0.1)


def test_samples_of_small_batches_and_layers_are_all_used():
    strength, generator = torch.arange(100.0), torch.Generator().manual_seed(0)
    learnt = rule(always_used=0.8, worth_drawing=100)
    assert draw_samples(strength[:99], learnt, generator) == (None, None)
    assert len(draw_samples(strength, learnt, generator)[0]) < 100


def test_a_batch_in_which_all_samples_count_alike_is_used_whole():
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    alike = draw_samples(torch.ones(100), rule(always_used=0.8), generator)
    assert alike == (None, None)
    assert draw_samples(torch.rand(100), rule(), generator) == (None, None)
    peers = rule(always_used=0.8, peer_normalization=0.1)  # whose pull acts on all
    assert draw_samples(torch.rand(100), peers, generator) == (None, None)
    assert torch.equal(generator.get_state(), before)


def test_a_batch_without_a_signal_moves_no_weight():
    generator = torch.Generator().manual_seed(0)
    samples, factor = draw_samples(torch.zeros(9), rule(always_used=0.8), generator)
    assert len(samples) == len(factor) == 0
