"""Where tensors live, tested without an accelerator.

Tensors on torch's "meta" device have a shape but no data: they refuse to meet a tensor of another
device, and to be read by the host, which on an accelerator would wait for it.
"""

from unittest import mock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skff.forward_forward._batches import TrainingData
from skff.forward_forward._features import Features
from skff.forward_forward._gradients import LearningRule, Scratch, batch_gradients
from skff.forward_forward._network import Layer, Network
from skff.forward_forward._trainer import Trainer, constant
from skff.forward_forward.augmentation import ImageShift
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES, CrossEntropy, compares_all
from skff.forward_forward.negatives import NEGATIVES
from skff.forward_forward.overlays import OVERLAYS
from skff.forward_forward.readouts import Softmax
from skff.forward_forward.solvers import SOLVERS

META = torch.device("meta")


def network(every_layer=True, head=True):
    def empty(*shape):
        return torch.empty(shape, device=META)

    upper_label_weight = empty(3, 5) if every_layer else None
    return Network(
        [
            Layer(empty(8, 9), empty(8), empty(3, 8), 1.0),
            Layer(empty(5, 8), empty(5), upper_label_weight, 1.0),
        ],
        center=empty(9),
        input_scale=1.0,
        largest_input=1.0,
        overlay=OVERLAYS["layerwise" if every_layer else "append"],
        goodness=GOODNESS["mean_square"],
        head=[empty(3, 5), empty(3)] if head else [],
    )


def data(augment=None, weighted=False):
    X, y = np.zeros((40, 9), dtype=np.float32), np.arange(40) % 3
    weight = np.ones(40) if weighted else None
    settings = {"rescale": network().rescale, "device": META, "dropout": 0.5, "augment": augment}
    return TrainingData(Features(X), y, weight, keep=lambda X: X, **settings)


def rule(goodness="mean_square", loss="symba", negatives="hard", **settings):
    loss = LOSSES.get(loss, loss)
    negatives = None if compares_all(loss) else NEGATIVES[negatives]
    return LearningRule(GOODNESS[goodness], loss, negatives, **settings)


ANYWHERE = (
    [rule(negatives=name) for name in NEGATIVES]
    + [rule(loss=name) for name, loss in LOSSES.items() if not compares_all(loss)]
    + [rule(goodness=name) for name in GOODNESS]
    + [rule(peer_normalization=0.1), rule(always_used=0.8)]
)
ON_A_TRUNK = (
    [rule(loss=name) for name, loss in LOSSES.items() if compares_all(loss)]
    + [rule(loss="cross_entropy", goodness=name) for name in GOODNESS]
    + [
        rule(loss="cross_entropy", peer_normalization=0.1),
        rule(loss="cross_entropy", always_used=0.8),
    ]
    + [rule(loss=CrossEntropy(max_candidates=2))]
)


SHIFT = ImageShift(image_shape=(3, 3))
RULES = [(True, rule) for rule in ANYWHERE + ON_A_TRUNK] + [(False, rule) for rule in ANYWHERE]
# Solvers and augmentation know nothing of the rule: one that all labels, one that pairs teach.
LEARNERS = [
    (every_layer, rule, solver, augment)
    for every_layer, rule in [(True, ON_A_TRUNK[0]), (False, ANYWHERE[0])]
    for solver in SOLVERS
    for augment in (None, SHIFT)
]


@pytest.mark.parametrize(
    ("every_layer", "rule", "solver", "augment"),
    [(*each, "adamw", SHIFT) for each in RULES] + LEARNERS,
)
def test_an_epoch_stays_on_its_device_and_is_read_once(rule, every_layer, solver, augment):
    settings = {"learning_rate": 0.1, "weight_decay": 0.1, "head": Softmax()}
    net, average = network(every_layer), network(every_layer)
    trainer = Trainer(net, range(2), None, average=average, solver=SOLVERS[solver], **settings)
    read = []
    with mock.patch.object(torch.Tensor, "tolist", lambda tensor: read.append(tensor)):
        trainer.epoch(data(augment, weighted=True), rule, batch_size=16, schedule=constant)
    assert [totals.shape for totals in read] == [(2, 3)]
    for tensor in trainer.network.tensors() + trainer.average.tensors() + trainer.peers:
        assert tensor.device == META


class Transfers(TorchDispatchMode):
    """Record the operations in which a tensor of the host meets one of the device."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        results = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, results)) if isinstance(t, torch.Tensor)]
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.operations.append(str(function))
        return results


def test_an_epoch_sends_nothing_to_its_device():
    trainer = Trainer(network(), range(2), None, solver=SOLVERS["adamw"], learning_rate=0.1)
    with mock.patch.object(torch.Tensor, "tolist"), Transfers() as transfers:
        samples = data(ImageShift(image_shape=(3, 3)), weighted=True)
        assert len(transfers.operations) == 3  # features, labels and weights
        trainer.epoch(samples, rule(loss="cross_entropy"), batch_size=16, schedule=constant)
    assert len(transfers.operations) == 3


@pytest.mark.parametrize("every_layer", [True, False])
def test_gradients_are_where_the_weights_are(every_layer):
    net, (f, y, weight) = network(every_layer), data().batch(torch.arange(8), None)
    peers = [torch.zeros_like(layer.bias) for layer in net.layers]
    learning = {"head": Softmax(), "peers": peers, "scratch": Scratch()}
    batch_gradients(net, net.trunk(f), y, weight, rule(), range(2), [None] * 2, **learning)
    for tensor in net.tensors():
        assert tensor.grad.device == META
        assert tensor.grad.shape == tensor.shape


@pytest.mark.parametrize("every_layer", [True, False])
@pytest.mark.parametrize("n_layers", [1, 2])
def test_prediction_stays_on_its_device(n_layers, every_layer):
    net, f = network(every_layer), torch.empty(7, 9, device=META)
    assert net.layer_goodness(f, n_layers).shape == (n_layers, 7, 3)
    assert net.layer_goodness(f, n_layers).device == META
    for head in (True, False):
        scores = network(every_layer, head).scores(f)
        assert (scores.shape, scores.device) == ((7, 3), META)


def test_tensors_of_two_devices_do_not_meet():
    with pytest.raises(RuntimeError, match="device"):
        network().scores(torch.empty(7, 9))
