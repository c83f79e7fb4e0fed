"""Training of `FFClassifier` by CUDA graphs: not part of skff before it is measured on a GPU."""

from contextlib import contextmanager
from unittest import mock

import torch
from _cuda_graphs import GraphedSteps

from skff.forward_forward import _fit, _gradients
from skff.forward_forward._gradients import Scratch, batch_gradients
from skff.forward_forward._trainer import Trainer, draw_streams


@contextmanager
def graphed_batches():
    """Let every fit in this block replay its batches; not for several threads."""
    with mock.patch.object(_fit, "Trainer", GraphedTrainer):
        yield


@contextmanager
def all_samples():
    """Let weights learn from all samples of a batch on a CPU too, as they do on a GPU."""
    with mock.patch.object(_gradients, "_draw_samples", lambda *arguments: (None, None)):
        yield


class GraphedTrainer(Trainer):
    """A trainer of `FFClassifier` whose batches replay one captured graph.

    It takes the place of the trainer of one fit, which has one set of data, one rule and one batch
    size; see `Trainer`.
    """

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        shape = 2, len(self.layers) + (self.head is not None)
        self.totals = torch.zeros(shape, device=self.network.device)
        self.rounded = None
        self.scratch = Scratch()  # for all epochs, as a graph finds it where it was
        self.streams = None
        self.steps = None

    def epoch(self, data, rule, *, batch_size, schedule):
        """Pass once over the data; see `Trainer.epoch`."""
        order = torch.randperm(len(data), generator=self.generator, device=self.network.device)
        streams = draw_streams(self.generator, 1 + self.network.n_layers)
        self.streams = self.streams or streams
        for kept, stream in zip(self.streams, streams, strict=True):
            kept.set_state(stream.get_state())  # a graph draws from those that it was captured with
        self.totals.zero_()
        with self._rounded_weights() as dtype:
            if self.steps is None:

                def learn(rows):
                    self._learn(data, rule, rows, dtype)

                self.steps = GraphedSteps(learn, min(batch_size, len(order)), self.streams)
            for start in range(0, len(order), batch_size):
                self.factor.fill_(schedule(start / len(order)))
                self.steps(order[start : start + batch_size])
        self._clear_denormal_moments()
        return (self.totals / len(order)).tolist()

    def _learn(self, data, rule, rows, dtype):
        for_input, *for_layers = self.streams
        f, y, weight = data.batch(rows, for_input)
        passes = self.network.trunk(f.to(dtype), None if self.head else self.layers.stop)
        learning = {"head": self.head, "peers": self.peers, "scratch": self.scratch}
        batch = self.network, passes, y, weight, rule, self.layers, for_layers
        self.totals += batch_gradients(*batch, **learning)
        self._update(self.factor)

    def _make_optimizer(self):
        optimizer = super()._make_optimizer()
        device = self.network.device
        self.factor = torch.tensor(1.0, device=device)
        for group in optimizer.param_groups:
            group |= {"lr": torch.tensor(group["lr"], device=device), "capturable": True}
        return optimizer

    @contextmanager
    def _rounded_weights(self):
        with super()._rounded_weights() as dtype:
            if dtype == torch.bfloat16:
                layers = self.network.layers
                # A graph finds the rounded weights where they were when it was captured.
                self.rounded = self.rounded or [layer.rounded for layer in layers]
                for layer, rounded in zip(layers, self.rounded, strict=True):
                    layer.rounded = rounded.copy_(layer.weight)
            yield dtype
