"""A skorch multilayer perceptron that behaves as a scikit-learn classifier."""

import contextlib

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import validate_data
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback

from skff._locks import process_wide_lock
from skff.forward_forward._parameters import (
    resolve_batch_size,
    resolve_dropout,
    resolve_max_iter,
)

_random_state_lock = process_wide_lock()  # torch's own, that dropout and initial weights draw from


class MLP(torch.nn.Module):
    """Linear layers with ReLU between them, and dropout of input features.

    Parameters
    ----------
    n_features, n_classes : int
        Input and output units.
    hidden_layer_sizes : sequence of int
        Units of each hidden layer.
    dropout : float or "auto", default=0.0
        Share of input features dropped per sample while training; "auto" is that of
        `FFClassifier`.
    mean : ndarray of shape (n_features,), default=None
        Subtracted from the features; None subtracts nothing.
    """

    def __init__(self, n_features, n_classes, hidden_layer_sizes, dropout=0.0, mean=None):
        super().__init__()
        mean = np.zeros(n_features) if mean is None else mean
        self.register_buffer("mean", torch.as_tensor(mean, dtype=torch.float32))
        sizes = [n_features, *hidden_layer_sizes]
        layers = [torch.nn.Dropout(resolve_dropout(dropout, n_features))]
        for n_in, n_out in zip(sizes, sizes[1:], strict=False):
            layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
        self.layers = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], n_classes))

    def forward(self, X):
        """Return the logits (n_samples, n_classes) of features (n_samples, n_features)."""
        return self.layers(X - self.mean)


class Schedule(Callback):
    """Set the learning rate before every update.

    Parameters
    ----------
    factor : callable
        Share of the updates that are done, in [0, 1) -> factor on the net's `lr`.
    """

    def __init__(self, factor):
        self.factor = factor

    def on_train_begin(self, net, **kwargs):
        """Start counting updates."""
        self.update_ = 0

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Learn how many updates the training takes."""
        n_batches = len(net.get_iterator(dataset_train, training=True))
        self.n_updates_ = net.max_epochs * n_batches

    def on_batch_begin(self, net, training=False, **kwargs):
        """Set the rate of this update."""
        if not training:
            return
        for group in net.optimizer_.param_groups:
            group["lr"] = net.lr * self.factor(self.update_ / self.n_updates_)
        self.update_ += 1


class MLPNet(NeuralNetClassifier):
    """NeuralNetClassifier that takes sizes and labels from the data and seeds its own `fit`.

    Parameters
    ----------
    *args, **kwargs
        Parameters of :class:`skorch.NeuralNetClassifier`. In addition, `batch_size` and
        `max_epochs` may be "auto".
    center : bool, default=False
        Whether to subtract the training samples' mean from the features.
    random_state : int, RandomState instance or None, default=None
        Source of `fit`'s seed.
    """

    def __init__(self, *args, center=False, random_state=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.center = center
        self.random_state = random_state

    def fit(self, X, y, **fit_params):
        """Fit from the beginning (unless `warm_start`), seeded by `random_state`."""
        if not (self.warm_start and self.initialized_):
            self._learn_sizes(X, y)
        with _seeded(self.random_state, torch.device(self.device)):
            return super().fit(X, y, **fit_params)

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Continue to fit with further epochs over `X`, with labels that `fit` has seen."""
        if not self.initialized_:
            self._learn_sizes(X, y if classes is None else classes)
        X, y = validate_data(self, X, y, dtype=np.float32, reset=False)
        if unseen := np.setdiff1d(y, self.classes_).tolist():
            raise ValueError(f"Got labels {unseen}, but expected some of {self.classes_.tolist()}.")
        return super().partial_fit(X, np.searchsorted(self.classes_, y), **fit_params)

    def predict_proba(self, X):
        """Return class probabilities (n_samples, n_classes)."""
        self.check_is_fitted()
        return super().predict_proba(validate_data(self, X, dtype=np.float32, reset=False))

    def predict(self, X):
        """Return the labels (n_samples,) as they were given to `fit`."""
        proba = self.predict_proba(X)
        return self.classes_[proba.argmax(axis=1)]

    def _learn_sizes(self, X, y):
        X = validate_data(self, X, dtype=np.float32)
        check_classification_targets(y)
        self.mean_ = X.mean(axis=0, dtype=np.float64) if self.center else None
        self.classes_inferred_ = np.unique(y)

    def check_data(self, X, y):
        """Keep the classes: `X` and `y` are already checked and encoded."""

    def initialize_module(self):
        """Build the network for the data's numbers of features and classes."""
        sizes = {}
        if hasattr(self, "n_features_in_"):
            sizes = {"n_features": self.n_features_in_, "n_classes": len(self.classes_)}
            sizes["mean"] = self.mean_
        self.module_ = self.initialized_instance(self.module, sizes | self.get_params_for("module"))
        return self

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Resolve ``max_epochs="auto"`` for the data set."""
        max_epochs = self.max_epochs
        self.max_epochs = resolve_max_iter(max_epochs, len(X), self.batch_size)
        try:
            return super().fit_loop(X, y, epochs, **fit_params)
        finally:
            self.max_epochs = max_epochs

    def get_iterator(self, dataset, training=False):
        """Resolve ``batch_size="auto"`` for the data set."""
        if self.batch_size != "auto":
            return super().get_iterator(dataset, training=training)
        name = "iterator_train" if training else "iterator_valid"
        automatic = {"batch_size": resolve_batch_size("auto", len(dataset))}
        return getattr(self, name)(dataset, **(automatic | self.get_params_for(name)))


@contextlib.contextmanager
def _seeded(random_state, device):
    """Seed torch inside and give its random state back as it was, one thread at a time."""
    seed = check_random_state(random_state).randint(2**31 - 1)
    cuda = [device] if device.type == "cuda" else []
    with _random_state_lock, torch.random.fork_rng(devices=cuda, device_type="cuda"):
        # Not torch.manual_seed: it would also seed devices that nobody gives back.
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
