"""What a batch costs on several processes, by the rows of a batch or by layers.

Seconds of a batch of n samples in a layer of m units with d inputs, for C classes:

- n m d multiply-adds for each product: Forward-Forward makes two, backpropagation three (two in the
  first layer, which sends no error down);
- n m C for comparing the labels (Forward-Forward only);
- m (d + C + 1) weights to update, however many samples there are;
- a fixed part per layer, and n d_0 for the features of the first layer.

The rates are fitted to runs of one process. What is sent takes a latency and a time per byte,
fitted to bare messages. Nothing is fitted to runs of several processes: for these the model
predicts.
"""

import math
from dataclasses import astuple, dataclass
from itertools import pairwise

import numpy as np
from _parts import balanced
from scipy.optimize import nnls

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Rates:
    """Seconds of one process.

    Parameters
    ----------
    multiply_add, label, weight, layer, feature : float
        Per multiply-add of a product; per sample, unit and class; per weight and update; per layer
        and batch; per sample and feature of the input.
    """

    multiply_add: float
    label: float
    weight: float
    layer: float
    feature: float


@dataclass(frozen=True)
class Link:
    """Seconds of a message between two processes: ``latency + bytes * per_byte``."""

    latency: float
    per_byte: float

    def seconds(self, n_bytes):
        """Return the seconds of a message."""
        return self.latency + n_bytes * self.per_byte


@dataclass(frozen=True)
class Work:
    """What one batch asks for.

    Parameters
    ----------
    rule : {"ff", "backprop"}
        How the network learns.
    sizes : tuple of int
        Features, then the units of each layer.
    n_samples, n_classes : int
        Size of the batch, and number of labels.
    draws_samples : bool, default=True
        Whether the layers of Forward-Forward draw samples by the strength of their signal, as on
        a CPU: where a batch is shared, its strengths are.
    """

    rule: str
    sizes: tuple
    n_samples: int
    n_classes: int
    draws_samples: bool = True

    @property
    def layers(self):
        """Inputs and units of each layer; that of the labels is backpropagation's last."""
        last = (self.n_classes,) if self.rule == "backprop" else ()
        return list(pairwise((*self.sizes, *last)))

    def counts(self, n_samples=None):
        """Return, for each layer, how often each of `Rates` counts, (n_layers, 5)."""
        n, forward = n_samples or self.n_samples, self.rule == "ff"
        rows = []
        for index, (d, m) in enumerate(self.layers):
            products = 2 if forward or index == 0 else 3
            n_weights = m * (d + 1 + self.n_classes * forward)
            label = n * m * self.n_classes * forward
            feature = n * d * (index == 0)
            rows.append([products * n * m * d, label, n_weights, 1, feature])
        return np.array(rows, dtype=float)

    @property
    def n_weights(self):
        """Number of weights, biases and label weights."""
        return int(self.counts()[:, 2].sum())


def fit_rates(works, seconds):
    """Return the rates, not negative, that fit runs of one process best in relative terms."""
    counts = np.array([work.counts().sum(axis=0) for work in works])
    seconds = np.array(seconds)
    scale = (counts / seconds[:, None]).max(axis=0)
    scale[scale == 0] = 1.0
    found, _ = nnls(counts / seconds[:, None] / scale, np.ones(len(seconds)))
    return Rates(*map(float, found / scale))


def fit_link(n_bytes, seconds):
    """Return the link that fits messages of several sizes best in relative terms."""
    columns = np.column_stack([np.ones(len(n_bytes)), n_bytes]) / np.array(seconds)[:, None]
    scale = columns.max(axis=0)
    found, _ = nnls(columns / scale, np.ones(len(seconds)))
    return Link(*map(float, found / scale))


def layer_seconds(rates, work, n_samples=None):
    """Return the seconds of each layer in one process, for all of the batch or so many samples."""
    return work.counts(n_samples) @ np.array(astuple(rates))


def one_process(rates, work):
    """Return the seconds of a batch in one process."""
    return float(layer_seconds(rates, work).sum())


def all_reduce_seconds(link, n_bytes, n_processes):
    """Return the seconds of a ring: each process sends 2 (W - 1) parts of 1 / W of the bytes."""
    steps = 2 * (n_processes - 1)
    return steps * link.seconds(n_bytes / n_processes)


def data_parallel(rates, link, work, n_processes):
    """Return the seconds of a batch whose rows are shared.

    The gradients of all weights are added up after the batch; with Forward-Forward and
    `draws_samples`, so are the strengths of all samples in each layer before.
    """
    share = math.ceil(work.n_samples / n_processes)
    seconds = float(layer_seconds(rates, work, share).sum())
    seconds += all_reduce_seconds(link, FLOAT * work.n_weights, n_processes)
    if work.rule == "ff" and work.draws_samples:
        messages = len(work.layers) * all_reduce_seconds(link, FLOAT * work.n_samples, n_processes)
        seconds += messages
    return seconds


def layer_parallel(rates, link, work, n_processes, copy=None):
    """Return the seconds of a batch on its way up through processes that have some layers each.

    Nothing comes down, so all processes are at work on batches one after the other, and the
    slowest says how long a batch takes. Filling the pipeline, once per epoch, is left out.

    Parameters
    ----------
    copy : Link, default=None
        What the processor has to do with a message, beside the link, which works at the same time.
        None means that the link's own seconds are the processor's.
    """
    per_layer = layer_seconds(rates, work)
    slowest = 0.0
    for start, stop, messages in _stages(per_layer, work, work.n_samples, n_processes):
        busy = per_layer[start:stop].sum() + sum(map((copy or link).seconds, messages))
        slowest = max(slowest, busy, *map(link.seconds, messages))
    return float(slowest)


def backprop_pipeline(rates, link, work, n_processes, n_parts=4, copy=None):
    """Return the seconds of a batch in a pipeline of backpropagation.

    The batch passes in `n_parts` parts up and their errors down, after which the weights change:
    of the n_parts + W - 1 steps each process waits for W - 1 [1]_. At a boundary between two
    processes activities go up and errors down.

    References
    ----------
    .. [1] Y. Huang et al., "GPipe: Efficient Training of Giant Neural Networks using Pipeline
       Parallelism", NeurIPS 2019.
    """
    n_samples = math.ceil(work.n_samples / n_parts)
    update = work.counts()[:, 2] * rates.weight
    per_layer = layer_seconds(rates, work, n_samples) - update
    step = longest_update = 0.0
    for start, stop, messages in _stages(per_layer, work, n_samples, n_processes):
        busy = per_layer[start:stop].sum() + 2 * sum(map((copy or link).seconds, messages))
        step = max(step, busy, *map(link.seconds, messages))
        longest_update = max(longest_update, update[start:stop].sum())
    return float((n_parts + n_processes - 1) * step + longest_update)


def bytes_of_a_batch(work, n_processes, how):
    """Return the bytes that all processes together send for a batch.

    Parameters
    ----------
    how : {"data", "layers", "pipeline"}
        All gradients by a ring; activities up; activities up and errors down.
    """
    if how == "data":
        return 2 * (n_processes - 1) * FLOAT * work.n_weights
    seconds = work.counts()[:, 0]  # any measure of work splits the layers
    stages = _stages(seconds, work, work.n_samples, n_processes)
    both_ends = sum(sum(messages) for _, _, messages in stages)
    return both_ends // 2 * (2 if how == "pipeline" else 1)


def _stages(seconds, work, n_samples, n_processes):
    """Return first and last layer (excluded) of each process, and bytes across its boundaries."""
    stops = balanced([float(each) for each in seconds], n_processes)
    boundaries = [FLOAT * n_samples * work.layers[stop][0] for stop in stops[:-1]]
    return [
        (start, stop, boundaries[max(index - 1, 0) : index + 1])
        for index, (start, stop) in enumerate(pairwise([0, *stops]))
    ]
