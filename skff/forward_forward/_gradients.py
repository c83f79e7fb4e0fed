"""Local gradients of one batch.

A layer's update is the product of its own error signal with its own inputs. The signal comes from
the layer's own goodness; no graph and no gradient ever crosses from one layer to another.
"""

from dataclasses import dataclass
from typing import Any

import torch

from skff.forward_forward._network import rms_normalize
from skff.forward_forward.goodness import goodness_gradient
from skff.forward_forward.losses import compares_all, comparison_gradients, pair_gradients
from skff.forward_forward.negatives import draw_candidates, draw_negatives

MOST_DRAWN = 0.9  # of a batch
# Activities of candidate labels computed at once, kept in one buffer: 8 MB of float32.
SCRATCH_ELEMENTS = 2**21


@dataclass(frozen=True)
class LearningRule:
    """What a layer learns from.

    Parameters
    ----------
    goodness, loss, negatives : callable
        Components as in the registries of this package; `negatives` is None where the loss
        compares all labels.
    peer_normalization : float, default=0.0
        Strength of the pull of each unit's mean positive activity towards its layer's mean.
    always_used : float, default=0.0
        Strength of a sample's signal, in units of the batch's mean, from which on the sample is
        part of the weights' gradient; see `_draw_samples`. With 0 all samples always are.
    """

    goodness: Any
    loss: Any
    negatives: Any
    peer_normalization: float = 0.0
    always_used: float = 0.0


@dataclass(frozen=True)
class Signal:
    """A layer's error signal on a batch of n samples.

    Parameters
    ----------
    dZ : Tensor of shape (n, n_units) or (2 n, n_units)
        Gradient of the mean loss with respect to the pre-activations; 2 n rows where positives and
        negatives have inputs of their own.
    du : Tensor of shape (n_classes, n_units) or None
        Gradient with respect to the label shifts; None if the layer does not read the label.
    strength : Tensor of shape (n,)
        Largest size of a sample's derivatives with respect to its goodness.
    h_pos : Tensor of shape (n, n_units) or None
        Activities under the true labels, where peer normalization wants them.
    loss, wins : Tensor of shape ()
        Summed loss, and number of positives above (all) their negatives.
    """

    dZ: torch.Tensor
    du: torch.Tensor | None
    strength: torch.Tensor
    h_pos: torch.Tensor | None
    loss: torch.Tensor
    wins: torch.Tensor


class Scratch:
    """A buffer that is kept from batch to batch: fresh memory costs more than the arithmetic."""

    def __init__(self):
        self.buffer = None

    def take(self, shape, like):
        """Return an uninitialized tensor that is valid until the next call."""
        size = torch.Size(shape).numel()
        if self.buffer is None or self.buffer.numel() < size or self.buffer.device != like.device:
            self.buffer = like.new_empty(size)
        return self.buffer[:size].view(shape)


def batch_gradients(network, f, y, weight, rule, layers, generator, *, head, peers, scratch):
    """Set the gradients of some layers, and of the softmax head, from one batch.

    Parameters
    ----------
    network : Network
        The gradients go to the `grad` of its tensors.
    f : Tensor of shape (n, n_kept)
        What the first layer reads, in float32 or bfloat16.
    y : LongTensor of shape (n,)
        Encoded labels.
    weight : Tensor of shape (n,) or float
        Sample weights, of mean 1 over the data.
    rule : LearningRule
        What the layers learn from.
    layers : range
        Layers that learn; those below run forward only, those above not at all.
    generator : torch.Generator
        Source of randomness.
    head : bool
        Whether the softmax head learns too.
    peers : list of Tensor
        Running mean of each layer's positive activities, updated in place.
    scratch : Scratch
        Memory that lasts from batch to batch.

    Returns
    -------
    totals : Tensor of shape (2, n_learners)
        Summed loss and number of wins per learning layer, then of the head: positives above
        their negatives, and samples that the head classifies correctly.
    """
    weight = weight / len(y)
    # The head reads all layers, and what it believes may draw the negatives: it comes first.
    passes = list(network.trunk(f)) if head else network.trunk(f, layers.stop)
    log_proba, head_totals = None, []
    if head:
        log_proba, totals = _learn_head(network, passes, y, weight)
        head_totals = [totals]
    learn = _learn_from_trunk if network.has_trunk else _learn_from_pairs
    batch = _Batch(y, weight, rule, generator, log_proba, peers, scratch)
    layer_totals = learn(network, passes, layers, batch) if layers else []
    return torch.stack(layer_totals + head_totals, dim=1)


@dataclass(frozen=True)
class _Batch:
    """What all layers know about a batch."""

    y: torch.Tensor
    weight: Any
    rule: LearningRule
    generator: torch.Generator
    log_proba: torch.Tensor | None
    peers: list
    scratch: Scratch


def _learn_from_trunk(network, passes, layers, batch):
    """Let each layer compare labels on its own, on top of what the trunk sends up."""
    totals = []
    for index, (layer, f, Z) in zip(range(layers.stop), passes, strict=False):
        if index not in layers:
            continue
        if compares_all(batch.rule.loss):
            signal = comparison_signal(layer, Z, batch)
        else:
            labels = torch.cat([batch.y, _wrong_labels(layer, Z, batch)])
            h = _activities_of_pairs(layer, Z, labels)
            signal = pair_signal(h, labels, layer, batch)
        _learn(layer, f, signal, batch.peers[index], batch)
        totals.append(torch.stack([signal.loss, signal.wins]))
    return totals


def _learn_from_pairs(network, passes, layers, batch):
    """Send positives and negatives up through layers of which only the first reads the label."""
    totals = []
    first, f, Z = next(iter(passes))
    labels = torch.cat([batch.y, _wrong_labels(first, Z, batch)])
    h = _activities_of_pairs(first, Z, labels)  # (2 n, n_units): positives, then negatives
    for index, layer in enumerate(network.layers[: layers.stop]):
        if index > 0:
            f = rms_normalize(h).to(f.dtype)
            h = layer.pre_activations(f).relu_()
        if index not in layers:
            continue
        signal = pair_signal(h, labels, layer, batch)
        _learn(layer, f, signal, batch.peers[index], batch)
        totals.append(torch.stack([signal.loss, signal.wins]))
    return totals


def _learn(layer, f, signal, running_mean, batch):
    """Set a layer's gradients from its signal."""
    rule, dZ, du = batch.rule, signal.dZ, signal.du
    if rule.peer_normalization:
        pull = _peer_pull(signal.h_pos, running_mean, rule)
        dZ[: len(batch.y)] += pull
        if du is not None:
            du.index_add_(0, batch.y, pull.expand(len(batch.y), -1))
    drawn = _draw_samples(signal.strength, rule, batch.generator)
    if drawn is None:
        layer.set_gradients(dZ, f, du)
        return
    samples, factor = drawn
    # Rows of positives, and of negatives where these have inputs of their own.
    n_copies = len(f) // len(batch.y)
    rows = torch.cat([samples + copy * len(batch.y) for copy in range(n_copies)])
    layer.set_gradients(dZ, f, du, rows=rows, factor=factor.repeat(n_copies))


def _draw_samples(strength, rule, generator):
    """Draw the samples that a layer's weights learn from, with factors that leave no bias.

    A sample whose signal is weak is drawn with a probability p proportional to its strength and
    then counts 1 / p times, so the gradient is right on average. Weak samples are many and hold
    little of the signal: what they cost is spared, and the noise is small.

    Parameters
    ----------
    strength : Tensor of shape (n,)
        Of each sample's signal.
    rule : LearningRule
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    drawn : tuple of (LongTensor of shape (m,), Tensor of shape (m,)) or None
        Samples and their factors; None where all are used.

    References
    ----------
    .. [1] A. Katharopoulos and F. Fleuret, "Not All Samples Are Created Equal: Deep Learning with
       Importance Sampling", ICML 2018.
    """
    # On an accelerator the choice would have to wait for the device; and a peer's pull acts on all.
    if not rule.always_used or rule.peer_normalization or strength.device.type != "cpu":
        return None
    probability = strength.div(strength.mean() * rule.always_used).clamp_(max=1.0)
    # Gathering rows costs more than it saves when most of them stay.
    if probability.sum() > MOST_DRAWN * len(strength):
        return None
    draw = torch.rand(len(strength), generator=generator, dtype=strength.dtype)
    samples = torch.nonzero(draw < probability).squeeze(1)
    return samples, probability[samples].reciprocal_()


def comparison_signal(layer, Z, batch):
    """Compute a layer's signal from the goodness of all labels, or of some where they are many.

    With p the derivatives of the mean loss with respect to the goodness of each label, and
    mean-square goodness of m units, ``dZ = (2 / m) sum_c p_c h(c)`` and
    ``du[c] = (2 / m) sum_i p_ic h_i(c)``.
    No gate is needed: h is 0 where the rectifier is shut.

    Parameters
    ----------
    layer : Layer
        The layer that learns.
    Z : Tensor of shape (n, n_units)
        Its pre-activations without a label.
    batch : _Batch
        Labels and the learning rule.

    Returns
    -------
    signal : Signal
        Whose `h_pos` is None without peer normalization.
    """
    rule, y, shifts = batch.rule, batch.y, layer.label_shifts()
    n_candidates = rule.loss.max_candidates
    candidates = draw_candidates(len(shifts), n_candidates, batch.generator, Z.device)
    is_subset = len(candidates) < len(shifts)
    compared = shifts[candidates] if is_subset else shifts
    n_columns = len(compared) + is_subset  # of a subset, column 0 is each sample's true label
    dZ, strength = torch.empty_like(Z), Z.new_empty(len(Z))
    du, du_compared = torch.zeros_like(shifts), torch.zeros_like(compared)
    loss = wins = 0.0
    n_rows = min(len(Z), max(1, SCRATCH_ELEMENTS // (n_columns * layer.n_units)))
    for start in range(0, len(Z), n_rows):
        rows = slice(start, start + n_rows)
        z, labels = Z[rows], y[rows]
        h = batch.scratch.take((n_columns, *z.shape), z)  # label by label
        torch.add(z, compared.unsqueeze(1), out=h[int(is_subset) :])
        column, comparable = labels, None
        if is_subset:
            torch.add(z, shifts[labels], out=h[0])
            column, comparable = torch.zeros_like(labels), _comparable(candidates, labels)
        g = rule.goodness(h.relu_().flatten(0, 1)).view(n_columns, -1)
        g = g.t().contiguous()  # (n_rows, n_columns)
        weight = batch.weight if isinstance(batch.weight, float) else batch.weight[rows]
        losses, dg = comparison_gradients(rule.loss, g, column, weight, comparable)
        if comparable is not None:
            dg = dg.masked_fill(~comparable, 0.0)
            g = g.masked_fill(~comparable, -torch.inf)
        loss, wins = loss + losses.sum(), wins + (g.argmax(1) == column).sum()
        torch.linalg.vector_norm(dg, torch.inf, 1, out=strength[rows])
        dh = _gated_gradient(rule.goodness, h, dg.t())
        torch.sum(dh, 0, out=dZ[rows])
        du_compared += dh[int(is_subset) :].sum(1)
        if is_subset:
            du.index_add_(0, labels, dh[0])
    du = du.index_add_(0, candidates, du_compared) if is_subset else du_compared
    h_pos = (Z + shifts[y]).relu_() if rule.peer_normalization else None
    return Signal(dZ, du, strength, h_pos, loss, wins)


def pair_signal(h, labels, layer, batch):
    """Compute a layer's signal from positives and their negatives.

    Parameters
    ----------
    h : Tensor of shape (2 n, n_units)
        Activities of the n positives, then of their negatives.
    labels : LongTensor of shape (2 n,)
        Their labels.
    layer : Layer
        The layer that learns.
    batch : _Batch
        Weights and the learning rule.

    Returns
    -------
    signal : Signal
        If the layer reads the label, positive and negative share their inputs and `dZ` is the sum
        of both gradients; else `dZ` has 2 n rows and `du` is None.
    """
    rule = batch.rule
    g_pos, g_neg = rule.goodness(h).chunk(2)
    losses, dg_pos, dg_neg = pair_gradients(rule.loss, g_pos, g_neg, batch.weight)
    dg = torch.cat([dg_pos, dg_neg])
    dZ, du = _gated_gradient(rule.goodness, h.clone(), dg), None
    if layer.label_weight is not None:
        du = torch.zeros_like(layer.label_weight).index_add_(0, labels, dZ)
        dZ = dZ[: len(dg_pos)].add_(dZ[len(dg_pos) :])
    strength = torch.maximum(dg_pos.abs(), dg_neg.abs())
    h_pos = h[: len(dg_pos)]
    return Signal(dZ, du, strength, h_pos, losses.sum(), (g_pos > g_neg).sum())


def _gated_gradient(goodness, h, dg):
    """Return the gradient with respect to the pre-activations; may overwrite `h`.

    `h` has shape (..., n_units), `dg` (...). Where a unit is silent, so is its signal.
    """
    if hasattr(goodness, "gradient_factor"):  # the gate is built into a multiple of h
        return h.mul_((dg * goodness.gradient_factor(h.shape[-1])).unsqueeze(-1))
    flat = h.flatten(0, -2)
    return (goodness_gradient(goodness, flat, dg.flatten()) * (flat > 0)).view_as(h)


def _comparable(candidates, labels):
    """Return which of (the true label, the candidates) differ from each other, (n, 1 + k)."""
    wrong = candidates != labels.unsqueeze(1)
    return torch.cat([torch.ones_like(wrong[:, :1]), wrong], dim=1)


def _wrong_labels(layer, Z, batch):
    """Draw a wrong label per sample, (n,)."""
    shifts, rule = layer.label_shifts(), batch.rule

    def layer_goodness(candidates):
        step = max(1, SCRATCH_ELEMENTS // (len(candidates) * layer.n_units))
        parts = []
        for rows in Z.split(step):
            h = batch.scratch.take((len(candidates), *rows.shape), rows)
            torch.add(rows.unsqueeze(0), shifts[candidates].unsqueeze(1), out=h).relu_()
            parts.append(rule.goodness(h.flatten(0, 1)).view(len(candidates), -1).t())
        return torch.cat(parts)

    def head_log_probability(candidates):
        return batch.log_proba[:, candidates]

    scores = {"goodness": layer_goodness, "readout": head_log_probability}
    return draw_negatives(rule.negatives, batch.y, len(shifts), batch.generator, scores)


def _activities_of_pairs(layer, Z, labels):
    """Return the activities under the true, then under the wrong labels, (2 n, n_units)."""
    return layer.label_shifts()[labels].view(2, *Z.shape).add_(Z).relu_().flatten(0, 1)


def _learn_head(network, passes, y, weight):
    """Set the gradients of the softmax head; return its log-probabilities and totals."""
    inputs = network.head_inputs(passes)
    log_proba = network.logits(inputs).log_softmax(1)
    rows = torch.arange(len(y), device=y.device)
    losses = -log_proba[rows, y]
    error = log_proba.exp()
    error[rows, y] -= 1
    error *= weight if isinstance(weight, float) else weight.unsqueeze(1)
    head, bias = network.head
    head.grad, bias.grad = error.t() @ inputs, error.sum(0)
    return log_proba, torch.stack([losses.sum(), (log_proba.argmax(1) == y).sum()])


def _peer_pull(h_pos, running_mean, rule):
    """Return the gradient of the peer term with respect to each positive's activities, (m,)."""
    running_mean.mul_(0.9).add_(h_pos.mean(0), alpha=0.1)
    # Not gated by the rectifier: the pull reaches units that are dead.
    n_units = h_pos.shape[1]
    factor = 2 / n_units
    if hasattr(rule.goodness, "gradient_factor"):
        factor = rule.goodness.gradient_factor(n_units)
    return (running_mean - running_mean.mean()) * (rule.peer_normalization * factor / len(h_pos))
