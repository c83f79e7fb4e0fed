"""Opponents of the training benchmark: plain loops as one would write them by hand in torch."""

from contextlib import nullcontext
from time import perf_counter

import numpy as np
import torch
from _cuda_graphs import GraphedSteps, default_generator
from _parts import SCHEDULES, drop_features
from torch import nn
from torch.nn.functional import cross_entropy, softplus


class BackpropLoop:
    """Backprop MLP: batches from resident tensors, fused AdamW, a schedule per update.

    Everything that lowers the error of `FFClassifier` and is not its rule is here too: the mean
    is subtracted, inputs have an rms of 1, features are dropped, targets are smoothed.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int
        Units per layer, of any number of layers.
    batch_size, max_iter : int
        Samples per update and epochs.
    learning_rate_init, learning_rate, weight_decay, dropout, center
        As in `FFClassifier`; dropout is that of the input features, drawn by the same function.
    label_smoothing : float in [0, 1)
        Share of each target that is spread over all labels.
    random_state : int
        Seed of weights, order and dropout.
    device : str
        Where the data lie during training, and the network always.
    bfloat16 : bool
        Whether to train under autocast to bfloat16; predictions are in float32.
    graph : bool
        Whether the batches of a fit replay one captured CUDA graph, but the first few and a
        smaller last one.
    """

    def __init__(
        self,
        hidden_layer_sizes=(500, 500),
        *,
        batch_size=256,
        max_iter=20,
        learning_rate_init=2e-3,
        learning_rate="cooldown",
        weight_decay=0.0,
        dropout=0.0,
        label_smoothing=0.0,
        center=True,
        random_state=0,
        device="cpu",
        bfloat16=False,
        graph=False,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.label_smoothing = label_smoothing
        self.center = center
        self.random_state = random_state
        self.device = torch.device(device)
        self.bfloat16 = bfloat16
        self.graph = graph

    @classmethod
    def from_net(cls, net):
        """Return a loop that predicts with `net`, a module that gives logits."""
        loop = cls()
        loop.net_ = net
        loop.scale_, loop.shift_ = torch.tensor(1.0), torch.tensor(0.0)
        return loop

    def fit(self, X, y, end_epoch=lambda make_model: None):
        """Train on float32 features and labels 0, 1, ...; `end_epoch` is told of each epoch."""
        torch.manual_seed(self.random_state)
        generator = default_generator(self.device)
        self.scale_, self.shift_ = _scale_and_shift(X, self.center, self.device)
        X, y = torch.from_numpy(X).to(self.device), torch.from_numpy(y).to(self.device)
        sizes = [X.shape[1], *self.hidden_layer_sizes, int(y.max()) + 1]
        self.net_ = _make_net(sizes).to(self.device)
        optimizer = self._make_optimizer()

        def learn(rows):
            self._learn(optimizer, X, y, rows, generator)

        if self.graph:
            learn = GraphedSteps(learn, self.batch_size, [generator])
        for epoch in range(self.max_iter):
            self._run_epoch(optimizer, learn, len(X), epoch, generator)
            end_epoch(lambda: self)
        return self

    def _make_optimizer(self):
        rate = self.learning_rate_init
        if self.graph:  # which reads it from the device
            rate = torch.tensor(rate, device=self.device)
        return torch.optim.AdamW(
            self.net_.parameters(),
            rate,
            weight_decay=self.weight_decay,
            fused=True,
            capturable=self.graph,
        )

    def _run_epoch(self, optimizer, learn, n_samples, epoch, generator):
        schedule, (group,) = SCHEDULES[self.learning_rate], optimizer.param_groups
        order = torch.randperm(n_samples, generator=generator, device=self.device)
        for start in range(0, n_samples, self.batch_size):
            rate = schedule((epoch + start / n_samples) / self.max_iter) * self.learning_rate_init
            if self.graph:
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
            learn(order[start : start + self.batch_size])

    def _learn(self, optimizer, X, y, rows, generator):
        x = self._normalize(X.index_select(0, rows))
        x = drop_features(x, self.dropout, generator)
        target = y.index_select(0, rows)
        with self._precision():
            loss = cross_entropy(self.net_(x), target, label_smoothing=self.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def _precision(self):
        if not self.bfloat16:
            return nullcontext()
        # Weights cast for one batch must not serve the next: a graph would not cast them again.
        return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=not self.graph)

    def _normalize(self, x):
        # (x - mean) * scale in one pass over a batch: a normalised copy of X would count as memory.
        return torch.addcmul(self.shift_, x, self.scale_)

    def predict_proba(self, X):
        """Return class probabilities (n_samples, n_classes)."""
        self.net_.eval()
        with torch.inference_mode():
            batches = torch.from_numpy(X).split(4096)
            logits = [self.net_(self._normalize(batch.to(self.device))) for batch in batches]
            return torch.cat(logits).softmax(1).cpu().numpy()

    def predict(self, X):
        """Return labels (n_samples,)."""
        return self.predict_proba(X).argmax(axis=1)


def _scale_and_shift(X, center, device):
    """Return what makes the samples' mean rms 1 about the mean: ``scale * x + shift``."""
    mean = X.mean(axis=0, dtype=np.float64) if center else np.zeros(X.shape[1])
    # In parts: a centred copy of all samples would be as large as the data.
    parts = np.array_split(X, -(-len(X) // 256))
    norm = sum(np.linalg.norm(part - mean, axis=1).sum() for part in parts) / len(X)
    scale = X.shape[1] ** 0.5 / norm
    shift = torch.from_numpy((-scale * mean).astype(np.float32))
    return torch.tensor(scale, dtype=torch.float32, device=device), shift.to(device)


def _make_net(sizes):
    layers = []
    for n_inputs, n_units in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(n_inputs, n_units), nn.ReLU()]
    return nn.Sequential(*layers[:-1])  # the last layer gives logits


class PublicForwardForward:
    """Forward-Forward as its best-known public implementation describes it.

    Layer after layer, each with the whole training set as one batch; negatives are the images
    with the labels of other images, a tenth of which are right; the label replaces the first
    pixels at the value of the brightest one, all after a standardization with one mean and one
    standard deviation; the loss is logistic around a threshold on the mean of squares; a layer's
    input has unit length.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int
        Units per layer.
    n_classes : int
        Number of labels.
    learning_rate : float
        Of Adam.
    threshold : float
        Of the goodness.
    random_state : int
        Seed of weights and negatives.
    """

    def __init__(
        self, hidden_layer_sizes, n_classes=10, learning_rate=0.03, threshold=2.0, random_state=0
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.n_classes = n_classes
        self.learning_rate = learning_rate
        self.threshold = threshold
        self.random_state = random_state

    def fit(self, X, y, seconds, max_updates=1000):
        """Train every layer for an equal part of `seconds`, with 1 to `max_updates` updates."""
        torch.manual_seed(self.random_state)
        self.mean_, self.scale_ = float(X.mean()), float(X.std())
        X, y = self._standardize(X), torch.from_numpy(y)
        h_pos = self._overlay(X, y)
        h_neg = self._overlay(X, y[torch.randperm(len(y))])
        self.layers_, self.n_iter_ = [], 0
        for n_units in self.hidden_layer_sizes:
            h_pos, h_neg = _unit_length(h_pos), _unit_length(h_neg)
            layer = nn.Linear(h_pos.shape[1], n_units)
            share = seconds / len(self.hidden_layer_sizes)
            self.n_iter_ += self._train_layer(layer, h_pos, h_neg, share, max_updates)
            self.layers_.append(layer)
            with torch.no_grad():
                h_pos, h_neg = layer(h_pos).relu_(), layer(h_neg).relu_()
        return self

    def _train_layer(self, layer, h_pos, h_neg, seconds, max_updates):
        optimizer = torch.optim.Adam(layer.parameters(), lr=self.learning_rate)
        start = perf_counter()
        for update in range(max_updates):
            if update > 0 and perf_counter() - start >= seconds:
                return update
            g_pos = layer(h_pos).relu().square().mean(1)
            g_neg = layer(h_neg).relu().square().mean(1)
            loss = softplus(torch.cat([self.threshold - g_pos, g_neg - self.threshold])).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return max_updates

    def _standardize(self, X):
        return torch.from_numpy((X - self.mean_) / self.scale_)

    def _overlay(self, X, y):
        labelled = X.clone()
        labelled[:, : self.n_classes] = 0
        labelled[torch.arange(len(X)), y] = X.max()
        return labelled

    def predict(self, X):
        """Return the labels (n_samples,) of the highest goodness summed over the layers."""
        X = self._standardize(X)
        goodness = np.empty((len(X), self.n_classes), dtype=np.float32)
        with torch.inference_mode():
            for label in range(self.n_classes):
                h = self._overlay(X, torch.full((len(X),), label))
                goodness[:, label] = self._summed_goodness(h)
        return goodness.argmax(axis=1)

    def _summed_goodness(self, h):
        total = 0.0
        for layer in self.layers_:
            h = layer(_unit_length(h)).relu_()
            total = total + h.square().mean(1)
        return total.numpy()


def _unit_length(h):
    return h / (torch.linalg.vector_norm(h, dim=1, keepdim=True) + 1e-4)
