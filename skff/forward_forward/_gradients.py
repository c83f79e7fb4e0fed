"""Local gradients of one batch.

A layer's update is the product of its own error signal and its own inputs. The signal comes from
the layer's own goodness; no computation graph and no gradient passes from one layer to another.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import embedding_bag

from skff.forward_forward._batches import Share
from skff.forward_forward._network import rms_normalize
from skff.forward_forward._torch import add_relu
from skff.forward_forward.goodness import goodness_gradient
from skff.forward_forward.losses import (
    CrossEntropy,
    compares_all,
    comparison_gradients,
    pair_gradients,
)
from skff.forward_forward.negatives import draw_candidates, draw_negatives

MOST_DRAWN = 0.9  # of a batch
# Activities of candidate labels computed at once, in one buffer: 8 MB of float32.
SCRATCH_ELEMENTS = 2**21


@dataclass(frozen=True)
class LearningRule:
    """Components and settings of the learning rule, the same for all layers.

    Parameters
    ----------
    goodness, loss, negatives : callable
        Components as in the registries of this package; `negatives` is None if the loss compares
        all labels.
    peer_normalization : float, default=0.0
        Strength with which each unit's mean positive activity is pulled towards its layer's mean.
    always_used : float, default=0.0
        Strength of the error signal, in units of the batch mean, above which a sample is always
        part of the weights' gradient; see `_draw_samples`. With 0, all samples are used.
    worth_drawing : int, default=0
        Smallest number of samples of a batch times weights of a layer for which leaving out samples
        saves more than drawing them costs.
    """

    goodness: Any
    loss: Any
    negatives: Any
    peer_normalization: float = 0.0
    always_used: float = 0.0
    worth_drawing: int = 0


@dataclass(frozen=True)
class Signal:
    """A layer's error signal on a batch of n samples.

    Parameters
    ----------
    dZ : Tensor of shape (m, n_units)
        Gradient of the mean loss with respect to the pre-activations of m rows of the layer's
        inputs: of all rows, or of some, weighted so that they represent all.
    rows : LongTensor of shape (m,) or None
        These rows; None means all. There are 2 n rows if positives and negatives have different
        inputs.
    db : Tensor of shape (n_units,)
        Gradient with respect to the bias.
    du : Tensor of shape (n_classes, n_units) or None
        Gradient with respect to the label shifts; None if the layer does not read the label.
    h_pos : Tensor of shape (n, n_units) or None
        Activities under the true labels, if peer normalization needs them.
    loss, wins : Tensor of shape ()
        Summed loss, and number of positives above (all) their negatives.
    """

    dZ: torch.Tensor
    rows: torch.Tensor | None
    db: torch.Tensor
    du: torch.Tensor | None
    h_pos: torch.Tensor | None
    loss: torch.Tensor
    wins: torch.Tensor


class Scratch:
    """A buffer that is reused from batch to batch, as allocating memory is slow."""

    def __init__(self):
        self.buffer = None

    def take(self, shape, like):
        """Return an uninitialized tensor that is valid until the next call."""
        size = torch.Size(shape).numel()
        if self.buffer is None or self.buffer.numel() < size or self.buffer.device != like.device:
            self.buffer = like.new_empty(size)
        return self.buffer[:size].view(shape)


def batch_gradients(
    network, passes, y, weight, rule, layers, generators, *, head, peers, scratch, share=None
):
    """Set the gradients of some layers, and of the softmax head, from one batch.

    Parameters
    ----------
    network : Network
        Network whose tensors' `grad` is set.
    passes : iterable
        The items that `Network.trunk` yields for the batch, in float32 or bfloat16: up to the last
        of `layers`, or for all layers if the head learns. For a layer that does not learn, only the
        inputs are used, by the head.
    y : LongTensor of shape (n,)
        Encoded labels.
    weight : Tensor of shape (n,) or float
        Sample weights, of mean 1 over the data.
    rule : LearningRule
        Goodness, loss and negatives of the layers.
    layers : range
        Layers that learn.
    generators : list of torch.Generator
        Source of randomness of each layer of the network.
    head : Softmax or None
        The softmax head, if it learns too.
    peers : list of Tensor
        Running mean of each layer's positive activities, updated in place.
    scratch : Scratch
        Memory reused from batch to batch.
    share : Share, default=None
        The samples that `passes` contain, if the others are in other processes. Gradients and
        totals are then the contribution of this share. None means all samples.

    Returns
    -------
    totals : Tensor of shape (2, n_learners)
        Summed loss and number of wins per learning layer, then of the head: positives above
        their negatives, and samples that the head classifies correctly.
    """
    share = Share(len(y)) if share is None else share
    weight = weight / len(y)
    weight = weight if isinstance(weight, float) else share.own(weight)
    # The head comes first: it reads all layers, and its probabilities may draw the negatives.
    log_proba, head_totals = None, []
    if head is not None:
        passes = list(passes)
        log_proba, totals = _learn_head(head, network, passes, share.own(y), weight)
        head_totals = [totals]
    learn = _learn_from_trunk if network.has_trunk else _learn_from_pairs
    batch = _Batch(share.own(y), y, weight, rule, generators, log_proba, peers, scratch, share)
    layer_totals = learn(network, passes, layers, batch) if layers else []
    return torch.stack(layer_totals + head_totals, dim=1)


@dataclass(frozen=True)
class _Batch:
    """Data of a batch that all layers need: labels and weights of the share, and all labels."""

    y: torch.Tensor
    all_y: torch.Tensor
    weight: Any
    rule: LearningRule
    generators: list
    log_proba: torch.Tensor | None
    peers: list
    scratch: Scratch
    share: Share


def _learn_from_trunk(network, passes, layers, batch):
    """Let each layer compare all labels separately, given its inputs from the trunk."""
    totals = []
    for index, (layer, f, Z) in zip(range(layers.stop), passes, strict=False):
        if index not in layers:
            continue
        if compares_all(batch.rule.loss):
            signal = comparison_signal(layer, Z, batch, batch.generators[index])
        else:
            labels = torch.cat([batch.y, _wrong_labels(layer, Z, batch, batch.generators[index])])
            h = _activities_of_pairs(layer, Z, labels)
            signal = pair_signal(h, labels, layer, batch, batch.generators[index])
        _learn(layer, f, signal, batch.peers[index], batch)
        totals.append(torch.stack([signal.loss, signal.wins]))
    return totals


def _learn_from_pairs(network, passes, layers, batch):
    """Pass positives and negatives through layers of which only the first reads the label."""
    totals = []
    first, f, Z = next(iter(passes))
    labels = torch.cat([batch.y, _wrong_labels(first, Z, batch, batch.generators[0])])
    h = _activities_of_pairs(first, Z, labels)  # (2 n, n_units): positives, then negatives
    for index, layer in enumerate(network.layers[: layers.stop]):
        if index > 0:
            f = rms_normalize(h).to(f.dtype)
            h = layer.pre_activations(f).relu_()
        if index not in layers:
            continue
        signal = pair_signal(h, labels, layer, batch, batch.generators[index])
        _learn(layer, f, signal, batch.peers[index], batch)
        totals.append(torch.stack([signal.loss, signal.wins]))
    return totals


def _learn(layer, f, signal, running_mean, batch):
    """Set a layer's gradients from its signal."""
    if batch.rule.peer_normalization:
        pull = _peer_pull(signal.h_pos, running_mean, batch.rule, batch.share)
        signal.dZ[: len(batch.y)] += pull
        signal.db.add_(pull, alpha=len(batch.y))
        if signal.du is not None:
            signal.du.index_add_(0, batch.y, pull.expand(len(batch.y), -1))
    layer.set_gradients(f, signal.dZ, signal.rows, signal.db, signal.du)


def _draw_samples(strength, n_weights, rule, generator, share):
    """Draw the samples that a layer's weights learn from, with factors that avoid any bias.

    A sample with a weak signal is drawn with a probability p proportional to its strength and
    is then weighted by 1 / p, so the gradient is unbiased. There are many weak samples with a small
    part of the signal: leaving most of them out saves their cost and adds little noise.

    Parameters
    ----------
    strength : Tensor of shape (n,)
        Strength of each sample's signal.
    n_weights : int
        Number of weights of the layer.
    rule : LearningRule
    generator : torch.Generator
        Source of randomness.
    share : Share
        The part of the batch to which these samples belong.

    Returns
    -------
    samples : LongTensor of shape (m,) or None
        Indices of the samples drawn; None if all are used.
    factor : Tensor of shape (m,) or None
        Number of samples that each of them represents.

    References
    ----------
    .. [1] A. Katharopoulos and F. Fleuret, "Not All Samples Are Created Equal: Deep Learning with
       Importance Sampling", ICML 2018.
    """
    # On an accelerator the choice would wait for the device, and the peer term needs all samples.
    if not rule.always_used or rule.peer_normalization or strength.device.type != "cpu":
        return None, None
    if share.n_samples * n_weights < rule.worth_drawing:
        return None, None
    strength = share.gather(strength)
    probability = strength.div(strength.mean() * rule.always_used).clamp_(max=1.0)
    # If most rows stay, gathering them costs more than it saves.
    if probability.sum() > MOST_DRAWN * len(strength):
        return None, None
    draw = torch.rand(
        strength.shape, generator=generator, dtype=strength.dtype, device=strength.device
    )
    draw, probability = share.own(draw), share.own(probability)
    samples = torch.nonzero(draw < probability).squeeze(1)
    return samples, probability.index_select(0, samples).reciprocal_()


def comparison_signal(layer, Z, batch, generator):
    """Compute a layer's signal from the goodness of all labels, or of a subset of many labels.

    With p the derivatives of the mean loss with respect to the goodness of each label, and
    mean-square goodness of m units, ``dZ = (2 / m) sum_c p_c h(c)`` and
    ``du[c] = (2 / m) sum_i p_ic h_i(c)``.
    The derivative of the ReLU needs no separate factor, because h is 0 where it is 0.

    Parameters
    ----------
    layer : Layer
        The layer that learns.
    Z : Tensor of shape (n, n_units)
        Its pre-activations without a label.
    batch : _Batch
        Labels and the learning rule.
    generator : torch.Generator
        The layer's source of randomness.

    Returns
    -------
    signal : Signal
        Its `h_pos` is None without peer normalization.
    """
    rule, shifts = batch.rule, layer.label_shifts()
    n_classes, n_samples = shifts.shape[0], batch.share.n_samples
    n_columns, is_subset = n_classes, n_classes > rule.loss.max_candidates
    if is_subset:  # column 0 is each sample's true label
        candidates = draw_candidates(n_classes, rule.loss.max_candidates, generator, Z.device)
        n_columns = 1 + len(candidates)
    n_blocks = min(n_samples, math.ceil(n_columns * n_samples * layer.n_units / SCRATCH_ELEMENTS))
    du, dZ, drawn, loss, wins = torch.zeros_like(shifts), [], [], 0.0, 0.0
    for rows, share in batch.share.blocks(math.ceil(n_samples / n_blocks)):
        z, y = Z[rows], batch.y[rows]
        weight = batch.weight if isinstance(batch.weight, float) else batch.weight[rows]
        h = batch.scratch.take((n_columns, *z.shape), z)  # label by label
        column, comparable = y, None
        if is_subset:
            add_relu(z, shifts[y], out=h[0])
            add_relu(z, shifts[candidates].unsqueeze(1), out=h[1:])
            column, comparable = torch.zeros_like(y), _comparable(candidates, y)
        else:
            add_relu(z, shifts.unsqueeze(1), out=h)
        g = rule.goodness(h.flatten(0, 1)).view(h.shape[:2])
        g = g.t().contiguous()  # (n_rows, n_columns)
        losses, dg = comparison_gradients(rule.loss, g, column, weight, comparable)
        if comparable is not None:
            dg = dg.masked_fill(~comparable, 0.0)
            g = g.masked_fill(~comparable, -torch.inf)
        loss, wins = loss + losses.sum(), wins + (g.argmax(1) == column).sum()
        samples, factor = _draw_samples(
            dg.abs().amax(1), layer.weight.numel(), rule, generator, share
        )
        if hasattr(rule.goodness, "gradient_factor"):  # dZ and du are weighted sums of h
            dg = dg * rule.goodness.gradient_factor(layer.n_units)
        else:
            h, dg = _gated_gradient(rule.goodness, h, dg.t()), torch.ones_like(dg)
        if samples is None:
            drawn.append(range(rows.start, rows.stop))
            dZ.append(torch.bmm(dg.unsqueeze(1), h.transpose(0, 1)).squeeze(1))
            du_columns = torch.bmm(dg.t().unsqueeze(1), h).squeeze(1)
        else:  # sums of some rows of h, label by label: no tensor as large as h is made
            drawn.append(samples + rows.start)
            index = _row_numbers(h).t().index_select(0, samples)
            dg = dg.index_select(0, samples).mul_(factor.unsqueeze(1))
            table = h.view(-1, layer.n_units)
            dZ.append(_weighted_sums(table, index, dg))
            du_columns = _weighted_sums(table, index.t(), dg.t())
        if is_subset:
            own, labels = (h[0], y) if samples is None else (h[0][samples], y[samples])
            du.index_add_(0, labels, own * dg[:, :1]).index_add_(0, candidates, du_columns[1:])
        else:
            du += du_columns
    h_pos = add_relu(Z, shifts[batch.y]) if rule.peer_normalization else None
    used = None
    if sum(map(len, drawn)) < len(Z):
        used = _cat([torch.as_tensor(samples, device=Z.device) for samples in drawn])
    return Signal(_cat(dZ), used, du.sum(0), du, h_pos, loss, wins)


def _row_numbers(h):
    """Return (n_labels, n) numbers of the rows of (n_labels, n, n_units); int32 is faster."""
    return torch.arange(h.shape[:2].numel(), dtype=torch.int32, device=h.device).view(h.shape[:2])


def _weighted_sums(table, rows, weight):
    """Return ``sum_j weight[i, j] table[rows[i, j]]`` for each i, in one pass over the table."""
    if weight.numel() == 0:  # a block with fewer samples than processes
        return table.new_zeros(len(rows), table.shape[1])
    return embedding_bag(rows, table, mode="sum", per_sample_weights=weight)


def pair_signal(h, labels, layer, batch, generator):
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
    generator : torch.Generator
        The layer's source of randomness.

    Returns
    -------
    signal : Signal
        If the layer reads the label, positive and negative share their inputs and `dZ` is the sum
        of both gradients; otherwise each has its own rows and `du` is None.
    """
    rule, n = batch.rule, len(batch.y)
    g_pos, g_neg = rule.goodness(h).chunk(2)
    losses, dg_pos, dg_neg = pair_gradients(rule.loss, g_pos, g_neg, batch.weight)
    dZ, du = _gated_gradient(rule.goodness, h.clone(), torch.cat([dg_pos, dg_neg])), None
    db = dZ.sum(0)
    if layer.label_weight is not None:
        du = torch.zeros_like(layer.label_weight).index_add_(0, labels, dZ)
        dZ = dZ[:n].add_(dZ[n:])
    strength = torch.maximum(dg_pos.abs(), dg_neg.abs())
    rows, factor = _draw_samples(strength, layer.weight.numel(), rule, generator, batch.share)
    if rows is not None:
        if du is None:
            rows, factor = torch.cat([rows, rows + n]), factor.repeat(2)
        dZ = dZ[rows] * factor.unsqueeze(1)
    return Signal(dZ, rows, db, du, h[:n], losses.sum(), (g_pos > g_neg).sum())


def _gated_gradient(goodness, h, dg):
    """Return the gradient with respect to the pre-activations; may overwrite `h`.

    `h` has shape (..., n_units), `dg` (...). The gradient is 0 where a unit is silent.
    """
    if hasattr(goodness, "gradient_factor"):  # the gate is built into a multiple of h
        return h.mul_((dg * goodness.gradient_factor(h.shape[-1])).unsqueeze(-1))
    flat = h.flatten(0, -2)
    return (goodness_gradient(goodness, flat, dg.flatten()) * (flat > 0)).view_as(h)


def _cat(pieces):
    return torch.cat(pieces) if len(pieces) > 1 else pieces[0]


def _comparable(candidates, labels):
    """Return which of (the true label, the candidates) differ from each other, (n, 1 + k)."""
    wrong = candidates != labels.unsqueeze(1)
    return torch.cat([torch.ones_like(wrong[:, :1]), wrong], dim=1)


def _wrong_labels(layer, Z, batch, generator):
    """Draw a wrong label per sample of the share, (n,), as for the whole batch."""
    shifts, rule = layer.label_shifts(), batch.rule

    def layer_goodness(candidates):
        step = max(1, SCRATCH_ELEMENTS // (len(candidates) * layer.n_units))
        parts = []
        for rows in Z.split(step):
            h = batch.scratch.take((len(candidates), *rows.shape), rows)
            add_relu(rows.unsqueeze(0), shifts[candidates].unsqueeze(1), out=h)
            parts.append(rule.goodness(h.flatten(0, 1)).view(len(candidates), len(rows)).t())
        return batch.share.gather(torch.cat(parts))

    def head_log_probability(candidates):
        return batch.share.gather(batch.log_proba[:, candidates])

    scores = {"goodness": layer_goodness, "readout": head_log_probability}
    drawn = draw_negatives(rule.negatives, batch.all_y, len(shifts), generator, scores)
    return batch.share.own(drawn)


def _activities_of_pairs(layer, Z, labels):
    """Return the activities under the true, then under the wrong labels, (2 n, n_units)."""
    return add_relu(layer.label_shifts()[labels].view(2, *Z.shape), Z).flatten(0, 1)


def _learn_head(head, network, passes, y, weight):
    """Set the gradients of the softmax head; return its log-probabilities and totals."""
    inputs = network.head_inputs(passes)
    logits = network.logits(inputs)
    log_proba = logits.log_softmax(1)
    loss = CrossEntropy(scale=1.0, label_smoothing=head.label_smoothing)
    losses, error = comparison_gradients(loss, logits, y, weight)
    head_weight, bias = network.head
    head_weight.grad, bias.grad = error.t() @ inputs, error.sum(0)
    return log_proba, torch.stack([losses.sum(), (log_proba.argmax(1) == y).sum()])


def _peer_pull(h_pos, running_mean, rule, share):
    """Return the gradient of the peer term with respect to each positive's activities, (m,)."""
    running_mean.mul_(0.9).add_(share.mean(h_pos), alpha=0.1)
    # Not multiplied by the derivative of the ReLU, so that the pull also reaches dead units.
    n_units = h_pos.shape[1]
    factor = 2 / n_units
    if hasattr(rule.goodness, "gradient_factor"):
        factor = rule.goodness.gradient_factor(n_units)
    return (running_mean - running_mean.mean()) * (
        rule.peer_normalization * factor / share.n_samples
    )
