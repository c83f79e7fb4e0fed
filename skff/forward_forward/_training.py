"""Training: one batch, one epoch; the only place with an optimizer and an update.

A layer's update is the product of its own error signal with its own input. The signal comes from
the layer's own goodness; no graph and no gradient ever crosses from one layer to another.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map

from skff.forward_forward._network import rms_normalize
from skff.forward_forward._tensors import as_numpy, as_writable_tensor
from skff.forward_forward.goodness import goodness_gradient
from skff.forward_forward.losses import loss_gradients
from skff.forward_forward.negatives import draw_negatives

TEACHING_STEP = 32  # samples
STEADY_UPDATES = 1000
AVERAGE_POWER = 4
# Activities of candidate labels computed at once: 1 MB of float32 stays in a core's cache.
CANDIDATE_ELEMENTS = 2**18


@dataclass(frozen=True)
class Rule:
    """What a layer learns from.

    Parameters
    ----------
    goodness, loss, negatives : callable
        Components as in the registries of this package.
    peer_normalization : float, default=0.0
        Strength of the pull of each unit's mean positive activity towards its layer's mean.
    negligible : float, default=0.0
        Samples whose signal is weaker than this share of the batch's mean are left out of a
        layer's update: together they are at most this share of it, and late in training they
        are most of the batch, whose matrix product is spared.
    """

    goodness: Any
    loss: Any
    negatives: Any
    peer_normalization: float = 0.0
    negligible: float = 0.0


def constant(progress):
    """Keep the learning rate."""
    return 1.0


def cooldown(progress):
    """Keep the learning rate for the first half of the updates, then lower it linearly to 0."""
    return min(1.0, 2.0 * (1.0 - progress))


def open_ended(n_updates):
    """Keep the learning rate for some updates, then lower it as one over the root of their number.

    For a training whose end is not known.
    """
    return math.sqrt(STEADY_UPDATES / max(n_updates, STEADY_UPDATES))


SCHEDULES = {"constant": constant, "cooldown": cooldown}

_CPU_STATE_SIZE = torch.Generator().get_state().numel()


class Trainer:
    """Some layers of a network with their optimizer: what training goes on from.

    Parameters
    ----------
    network : Network
        Updated in place.
    layers : range
        Layers to update; those below run forward only, those above not at all.
    generator : torch.Generator
        Source of randomness.
    solver : {"adamw", "sgd"}, default="adamw"
        Update rule.
    learning_rate : float, default=2e-3
        Before the schedule.
    momentum : float, default=0.9
        For "sgd" only.
    weight_decay : float, default=0.0
        Decoupled; spares the biases.
    readout : bool, default=False
        Whether the network's softmax head learns too.
    average : Network, default=None
        Of the same sizes; becomes a mean of the network after all updates, which weighs the k-th
        as the fourth power of k. It is to the network what a fallen learning rate would be,
        whenever training stops.

    References
    ----------
    .. [1] O. Shamir and T. Zhang, "Stochastic Gradient Descent for Non-smooth Optimization:
       Convergence Results and Optimal Averaging Schemes", ICML 2013 (polynomial-decay averaging).
    """

    def __init__(
        self,
        network,
        layers,
        generator,
        *,
        solver="adamw",
        learning_rate=2e-3,
        momentum=0.9,
        weight_decay=0.0,
        readout=False,
        average=None,
    ):
        self.network = network
        self.layers = layers
        self.generator = generator
        self.solver = solver
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.readout = readout
        self.average = average
        self.n_updates = 0
        self.peers = [torch.zeros_like(bias) for bias in network.biases]
        self.optimizer = self._make_optimizer()

    def epoch(self, data, rule, *, batch_size, schedule):
        """Pass once over the data in a random order, updating the layers after every batch.

        Parameters
        ----------
        data : TrainingData
            Samples, encoded labels and weights.
        rule : Rule
            What the layers learn from.
        batch_size : int
            Samples per update.
        schedule : callable
            Share of the epoch that is done, in [0, 1) -> factor on the learning rate.

        Returns
        -------
        loss : list of float
            Mean loss of the samples per updated layer, then of the softmax head if it learns.
        win_share : list of float
            Share of samples whose positive has more goodness than their negative, and of those
            that the head classifies correctly.
        """
        order = torch.randperm(len(data), generator=self.generator, device=self.network.device)
        totals = 0.0
        for start in range(0, len(order), batch_size):
            x, y, weight = data.batch(order[start : start + batch_size], self.generator)
            totals += batch_gradients(
                self.network,
                x,
                y,
                weight,
                rule,
                self.layers,
                self.generator,
                readout=self.readout,
                peers=self.peers,
            )
            self._update(self.learning_rate * schedule(start / len(order)))
        self._tidy()
        # The only read from the device in the whole epoch.
        return (totals / len(order)).tolist()

    def _make_optimizer(self):
        tensors = [t for layer in self.layers for t in self.network.parameters(layer)]
        if self.readout:
            tensors = tensors + self.network.readout
        fused = self.network.device.type in ("cpu", "cuda")
        if self.solver == "adamw":
            return torch.optim.AdamW(tensors, lr=self.learning_rate, weight_decay=0.0, fused=fused)
        return torch.optim.SGD(tensors, lr=self.learning_rate, momentum=self.momentum, fused=fused)

    def _update(self, rate):
        (group,) = self.optimizer.param_groups
        group["lr"] = rate
        if self.weight_decay:  # ours for both solvers: torch couples that of SGD to the gradient
            for tensor in group["params"]:
                if tensor.ndim == 2:
                    tensor.mul_(1 - rate * self.weight_decay)
        self.optimizer.step()
        self.optimizer.zero_grad()  # before the next gradients take as much memory again
        self.n_updates += 1
        if self.average is not None:
            share = (1 + AVERAGE_POWER) / (self.n_updates + AVERAGE_POWER)
            for mean, now in zip(self.average.tensors(), self.network.tensors(), strict=True):
                mean.lerp_(now, share)

    def _tidy(self):
        # Moments of units that died decay into denormal numbers, where arithmetic is slow.
        for state in self.optimizer.state.values():
            for moment in state.values():
                if isinstance(moment, torch.Tensor) and moment.ndim > 0:
                    moment.masked_fill_(moment.abs() < 1e-30, 0.0)

    def __getstate__(self):
        state = self.__dict__.copy()
        state["peers"] = [as_numpy(peer) for peer in self.peers]
        state["optimizer"] = tree_map(as_numpy, self.optimizer.state_dict())
        state["generator"] = self.generator.get_state().numpy()
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.generator = torch.Generator(self.network.device)
        # A state of another kind of device does not fit: start a stream from its first bytes.
        if self.network.device.type == "cpu" and state["generator"].size == _CPU_STATE_SIZE:
            self.generator.set_state(torch.from_numpy(state["generator"].copy()))
        else:
            self.generator.manual_seed(int.from_bytes(state["generator"][:8].tobytes(), "little"))
        self.peers = [as_writable_tensor(peer).to(self.network.device) for peer in state["peers"]]
        self.optimizer = self._make_optimizer()
        self.optimizer.load_state_dict(tree_map(as_writable_tensor, state["optimizer"]))


def batch_gradients(network, x, y, weight, rule, layers, generator, *, readout=False, peers=None):
    """Set the gradients of some layers, and of the softmax head, from one batch.

    Parameters
    ----------
    network : Network
        The gradients go to the `grad` of its tensors.
    x : Tensor of shape (n, n_kept)
        Kept features times the network's input scale.
    y : LongTensor of shape (n,)
        Encoded labels.
    weight : Tensor of shape (n,) or float
        Sample weights, of mean 1 over the data.
    rule : Rule
        What the layers learn from.
    layers : range
        Layers that learn; those below run forward only, those above not at all.
    generator : torch.Generator
        Source of randomness.
    readout : bool, default=False
        Whether the softmax head learns too.
    peers : list of Tensor, default=None
        Running mean of each layer's positive activities, updated in place; needed for peer
        normalization.

    Returns
    -------
    totals : Tensor of shape (2, n_learners)
        Summed loss and number of wins per learning layer, then of the head: positives above
        their negatives, and samples that the head classifies correctly.
    """
    Z = network.project(x)
    totals = []
    log_proba = None
    if readout:
        log_proba, head_totals = _learn_readout(network, Z, y, weight)
    if len(layers):
        h, labels = _pairs(network, Z, y, rule, generator, log_proba)
    for layer in range(layers.stop if len(layers) else 0):
        if layer > 0:
            inputs = rms_normalize(h)
            h = network.activities(layer, inputs)
        if layer not in layers:
            continue
        teaching, dz, loss, wins = layer_signal(h, weight, rule)
        if rule.peer_normalization:
            _add_peer_signal(dz[: len(x)], h[: len(x)], peers[layer], rule)
        totals.append(torch.stack([loss, wins]))
        if layer > 0:
            _set_gradients(network, layer, dz, _pairs_of(inputs, teaching))
        else:
            _set_first_gradients(network, dz, x[teaching], _pairs_of(labels, teaching))
    if readout:
        totals.append(head_totals)
    return torch.stack(totals, dim=1)


def layer_signal(h, weight, rule):
    """Compute a layer's error signal from its own activities alone.

    Parameters
    ----------
    h : Tensor of shape (2 n, n_units)
        Activities of the n positives, then of their negatives.
    weight : Tensor of shape (n,) or float
        Sample weights.
    rule : Rule
        What the layer learns from.

    Returns
    -------
    teaching : slice or LongTensor of shape (m,)
        Samples with a signal that is worth an update.
    dz : Tensor of shape (2 m, n_units)
        Their gradient of the batch's mean loss with respect to the pre-activations. Where a
        unit is silent, so is its signal: a goodness is flat at zero activity.
    loss, wins : Tensor of shape ()
        Summed loss and number of positives above their negatives, of all n samples.
    """
    g_pos, g_neg = rule.goodness(h).chunk(2)
    losses, dg_pos, dg_neg = loss_gradients(rule.loss, g_pos, g_neg, weight)
    upstream = torch.cat([dg_pos, dg_neg])
    teaching = _teaching_samples(upstream, rule)
    h, upstream = _pairs_of(h, teaching), _pairs_of(upstream, teaching)
    dz = goodness_gradient(rule.goodness, h, upstream)
    if not hasattr(rule.goodness, "slope"):
        dz = dz * (h > 0)  # the rectifier's gate, which a multiple of h has built in
    return teaching, dz, losses.sum(), (g_pos > g_neg).sum()


def _teaching_samples(upstream, rule):
    """Leave out samples learnt so well that their signal is a negligible part of the batch's."""
    everyone = slice(None)
    # On an accelerator the choice would have to wait for the device; and a peer's pull acts on all.
    if not rule.negligible or rule.peer_normalization or upstream.device.type != "cpu":
        return everyone
    strength = upstream.abs().view(2, -1).amax(0)
    n_teaching = int((strength > rule.negligible * strength.mean()).sum())
    # Products in low precision are compiled for each shape they meet: let them meet few.
    n_teaching = -(-n_teaching // TEACHING_STEP) * TEACHING_STEP
    # Gathering rows costs more than it saves when most of them stay.
    if n_teaching >= 0.8 * len(strength):
        return everyone
    return strength.topk(n_teaching).indices


def _pairs_of(values, samples):
    """Select the positives and the negatives of some samples from (2 n, ...)."""
    if isinstance(samples, slice):
        return values
    return values.view(2, -1, *values.shape[1:])[:, samples].flatten(0, 1)


def _pairs(network, Z, y, rule, generator, log_proba):
    """Draw a wrong label per sample; return first activities (2 n, n_units) and labels (2 n,)."""
    shifts = network.label_shifts()

    def goodness_of(rows, candidates):
        h = (rows.unsqueeze(1) + shifts[candidates]).relu_()
        return rule.goodness(h.flatten(0, 1)).view(len(rows), -1)

    def first_layer_goodness(candidates):
        chunk = max(1, CANDIDATE_ELEMENTS // (len(candidates) * Z.shape[1]))
        return torch.cat([goodness_of(rows, candidates) for rows in Z.split(chunk)])

    scores = {
        "goodness": first_layer_goodness,
        "readout": None if log_proba is None else lambda candidates: log_proba[:, candidates],
    }
    y_wrong = draw_negatives(rule.negatives, y, network.n_classes, generator, scores)
    labels = torch.cat([y, y_wrong])  # positives, then negatives
    return shifts[labels].view(2, *Z.shape).add_(Z).relu_().flatten(0, 1), labels


def _learn_readout(network, Z, y, weight):
    inputs = network.neutral_activities(Z)
    log_proba = network.logits(inputs).log_softmax(1)
    rows = torch.arange(len(y), device=y.device)
    losses = -log_proba[rows, y]
    error = log_proba.exp()
    error[rows, y] -= 1
    error *= (weight / len(y)) if isinstance(weight, float) else (weight / len(y)).unsqueeze(1)
    head, bias = network.readout
    head.grad, bias.grad = error.t() @ inputs, error.sum(0)
    return log_proba, torch.stack([losses.sum(), (log_proba.argmax(1) == y).sum()])


def _add_peer_signal(dz, h, running_mean, rule):
    running_mean.mul_(0.9).add_(h.mean(0), alpha=0.1)
    # Not gated by the rectifier: the pull reaches units that are dead.
    slope = rule.goodness.slope(h.shape[1]) if hasattr(rule.goodness, "slope") else 2 / h.shape[1]
    pull = running_mean - running_mean.mean()
    dz += pull * (rule.peer_normalization * slope / len(h))


def _set_gradients(network, layer, dz, inputs):
    network.weights[layer].grad = dz.t() @ inputs
    network.biases[layer].grad = dz.sum(0)


def _set_first_gradients(network, dz, x, labels):
    # Positive and negative share their features, so one product serves both.
    by_label = torch.zeros_like(network.label_weight).index_add_(0, labels, dz)
    shared = dz[: len(x)].add_(dz[len(x) :])
    network.weights[0].grad = shared.t() @ x
    network.biases[0].grad = shared.sum(0)
    network.label_weight.grad = by_label.mul_(network.input_scale * network.label_amplitude)
