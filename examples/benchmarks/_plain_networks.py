"""Opponents of the training benchmark: plain loops as one would write them by hand in torch."""

from time import perf_counter

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softplus

from skff.forward_forward._data import drop_features
from skff.forward_forward._precision import matmul_precision
from skff.forward_forward._training import SCHEDULES


class BackpropLoop:
    """Backprop MLP: batches drawn from resident tensors, fused AdamW, a schedule per update.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int
        Units per layer.
    batch_size, max_iter : int
        Samples per update and epochs.
    learning_rate_init, learning_rate, weight_decay, dropout, matmul_precision
        As in `FFClassifier`; dropout is that of the input features.
    cheap_dropout : bool
        Whether to draw the dropped features as `FFClassifier` does, which takes less time than
        `torch.nn.Dropout`.
    random_state : int
        Seed of weights, order and dropout.
    """

    def __init__(
        self,
        hidden_layer_sizes=(500, 500),
        *,
        batch_size=256,
        max_iter=20,
        learning_rate_init=1e-3,
        learning_rate="cooldown",
        weight_decay=0.0,
        dropout=0.0,
        matmul_precision="highest",
        cheap_dropout=False,
        random_state=0,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.matmul_precision = matmul_precision
        self.cheap_dropout = cheap_dropout
        self.random_state = random_state

    @classmethod
    def from_net(cls, net):
        """Return a loop that predicts with `net`, a module that gives logits."""
        loop = cls()
        loop.net_ = net
        return loop

    def fit(self, X, y, end_epoch):
        """Train on float32 features and labels 0, 1, ...; `end_epoch` hears of each epoch."""
        torch.manual_seed(self.random_state)
        X, y = torch.from_numpy(X), torch.from_numpy(y)
        net = self.net_ = self._make_net(X.shape[1], int(y.max()) + 1)
        optimizer = torch.optim.AdamW(
            net.parameters(), self.learning_rate_init, weight_decay=self.weight_decay, fused=True
        )
        with matmul_precision(self.matmul_precision):
            for epoch in range(self.max_iter):
                self._run_epoch(net, optimizer, X, y, epoch)
                end_epoch(lambda: self)
        return self

    def _make_net(self, n_features, n_classes):
        layers, n_inputs = [nn.Dropout(0.0 if self.cheap_dropout else self.dropout)], n_features
        for n_units in self.hidden_layer_sizes:
            layers += [nn.Linear(n_inputs, n_units), nn.ReLU()]
            n_inputs = n_units
        return nn.Sequential(*layers, nn.Linear(n_inputs, n_classes))

    def _run_epoch(self, net, optimizer, X, y, epoch):
        schedule = SCHEDULES[self.learning_rate]
        net.train()
        order = torch.randperm(len(X))
        for start in range(0, len(X), self.batch_size):
            rows = order[start : start + self.batch_size]
            rate = schedule((epoch + start / len(X)) / self.max_iter)
            optimizer.param_groups[0]["lr"] = self.learning_rate_init * rate
            x = X.index_select(0, rows)
            if self.cheap_dropout:
                x = drop_features(x, self.dropout, torch.default_generator)
            optimizer.zero_grad()
            cross_entropy(net(x), y[rows]).backward()
            optimizer.step()

    def predict_proba(self, X):
        """Return class probabilities (n_samples, n_classes)."""
        self.net_.eval()
        with torch.inference_mode():
            logits = [self.net_(batch) for batch in torch.from_numpy(X).split(4096)]
            return torch.cat(logits).softmax(1).numpy()

    def predict(self, X):
        """Return labels (n_samples,)."""
        return self.predict_proba(X).argmax(axis=1)


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
