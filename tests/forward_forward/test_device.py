"""Where tensors live, tested without an accelerator.

Tensors on torch's "meta" device have a shape but no data: they refuse to meet a tensor of another
device, and to be read by the host, which on an accelerator would wait for it.
"""

from unittest import mock

import numpy as np
import pytest
import torch

from skff.forward_forward._data import TrainingData
from skff.forward_forward._network import Network
from skff.forward_forward._training import Rule, Trainer, batch_gradients, constant
from skff.forward_forward.augmentation import ImageShift
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES
from skff.forward_forward.negatives import NEGATIVES

META = torch.device("meta")


def network():
    def empty(*shape):
        return torch.empty(shape, device=META)

    weights, biases = [empty(8, 9), empty(5, 8)], [empty(8), empty(5)]
    head = [empty(3, 5), empty(3)]
    return Network(weights, biases, empty(3, 8), empty(9), 1.0, 1.0, head)


def data(augment=None, weighted=False):
    X, y = np.zeros((40, 9), dtype=np.float32), np.arange(40) % 3
    weight = np.ones(40) if weighted else None
    settings = {"rescale": network().rescale, "device": META, "dropout": 0.5, "augment": augment}
    return TrainingData(X, y, weight, keep=lambda X: X, **settings)


def rule(goodness="mean_square", loss="symba", negatives="hard", **settings):
    return Rule(GOODNESS[goodness], LOSSES[loss], NEGATIVES[negatives], **settings)


@pytest.mark.parametrize("solver", ["adamw", "sgd"])
@pytest.mark.parametrize(
    "rule",
    [rule(negatives=name) for name in NEGATIVES]
    + [rule(loss=name) for name in LOSSES]
    + [rule(goodness=name) for name in GOODNESS]
    + [rule(peer_normalization=0.1), rule(negligible=0.1)],
)
@pytest.mark.parametrize("augment", [None, ImageShift(image_shape=(3, 3))], ids=str)
def test_an_epoch_stays_on_its_device_and_is_read_once(rule, solver, augment):
    trainer = Trainer(
        network(), range(2), None, solver=solver, weight_decay=0.1, readout=True, average=network()
    )
    read = []
    with mock.patch.object(torch.Tensor, "tolist", lambda tensor: read.append(tensor)):
        trainer.epoch(data(augment, weighted=True), rule, batch_size=16, schedule=constant)
    assert [totals.shape for totals in read] == [(2, 3)]
    for tensor in trainer.network.tensors() + trainer.average.tensors() + trainer.peers:
        assert tensor.device == META


def test_gradients_are_where_the_weights_are():
    net, (x, y, weight) = network(), data().batch(torch.arange(8), None)
    batch_gradients(net, x, y, weight, rule(), range(2), None, readout=True)
    for tensor in net.tensors():
        assert tensor.grad.device == META
        assert tensor.grad.shape == tensor.shape


@pytest.mark.parametrize("n_layers", [1, 2])
def test_prediction_stays_on_its_device(n_layers):
    net = network()
    Z = net.project(torch.empty(7, 9, device=META))
    assert net.class_goodness(Z, GOODNESS["mean_square"], n_layers).shape == (n_layers, 7, 3)
    assert net.logits(net.neutral_activities(Z)).device == META


def test_tensors_of_two_devices_do_not_meet():
    net = network()
    with pytest.raises(RuntimeError, match="device"):
        net.project(torch.empty(7, 9))
