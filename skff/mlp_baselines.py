"""Multilayer perceptrons trained by backpropagation, matched to a Forward-Forward classifier."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from sklearn.utils.validation import validate_data

from skff._mlp_net import MLP, MLPNet, Schedule
from skff.forward_forward._parameters import (
    component,
    layer_sizes,
    learning_rule,
    resolve_batch_size,
    resolve_max_iter,
)
from skff.forward_forward._torch import resolve_device
from skff.forward_forward._trainer import SCHEDULES
from skff.forward_forward.solvers import SGD, SOLVERS

if TYPE_CHECKING:
    from skff.forward_forward._classifier import FFClassifier

__all__ = ["sklearn_mlp", "skorch_mlp"]


def sklearn_mlp(ff: FFClassifier, **overrides: Any) -> MLPClassifier:
    """Build scikit-learn's MLPClassifier with the settings of a Forward-Forward classifier.

    Parameters
    ----------
    ff : FFClassifier
        Fitted or not; only its parameters are read.
    **overrides
        Parameters of :class:`~sklearn.neural_network.MLPClassifier` to set otherwise.

    Returns
    -------
    mlp : MLPClassifier
        Not fitted. It runs all `max_iter` epochs and, unlike its base class, does not warn that
        it has not converged, because the number of epochs is fixed for the comparison.

    Raises
    ------
    ValueError
        If `ff` has a `weight_decay` and no fixed `batch_size`, and `overrides` no `alpha`.

    See Also
    --------
    skorch_mlp : The same network in torch, which supports more of the settings.

    Notes
    -----
    Taken over: `hidden_layer_sizes`, `batch_size` ("auto" resolved for the training set as
    :class:`~skff.FFClassifier` does), `max_iter`, `learning_rate_init`, `random_state`, the
    momentum of ``solver="sgd"``, and `weight_decay`, which becomes the penalty `alpha` with the
    same gradient. With ``solver="adamw"`` this is Adam on a penalized loss, not decoupled decay.

    With `center`, the network learns from features whose mean is subtracted. Its intercepts absorb
    the mean afterwards, so it predicts from the original features.

    MLPClassifier has no counterpart of ``learning_rate="cooldown"`` (the rate stays constant), of
    `dropout`, label smoothing, `augment`, `class_weight`, `matmul_precision` and `device`. Early
    stopping is off; to turn it on, override `n_iter_no_change` too.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skff import FFClassifier
    >>> from skff.mlp_baselines import sklearn_mlp
    >>> X, y = load_iris(return_X_y=True)
    >>> ff = FFClassifier((30, 30), max_iter=40, random_state=0)
    >>> mlp = sklearn_mlp(ff).fit(X, y)
    >>> mlp.n_iter_
    40
    >>> bool(mlp.score(X, y) > 0.9)
    True
    """
    params = ff.get_params(deep=False)
    batch_size = overrides.get("batch_size", params["batch_size"])
    decay = params["weight_decay"]
    if decay and batch_size == "auto" and "alpha" not in overrides:
        raise ValueError(
            f"Got weight_decay={decay} with batch_size='auto', but expected a number of samples: "
            "MLPClassifier divides its penalty alpha by the batch size."
        )
    solver = component(SOLVERS, params["solver"])
    settings = {
        "hidden_layer_sizes": tuple(layer_sizes(params["hidden_layer_sizes"])),
        "solver": "sgd" if isinstance(solver, SGD) else "adam",
        "momentum": getattr(solver, "momentum", 0.9),
        "nesterovs_momentum": False,
        "learning_rate_init": params["learning_rate_init"],
        "alpha": decay * batch_size if decay and batch_size != "auto" else 0.0,
        "batch_size": batch_size,
        "max_iter": params["max_iter"],
        "n_iter_no_change": np.inf,  # no stop before max_iter
        "random_state": params["random_state"],
    }
    network = CenteredMLPClassifier if params["center"] else FixedEpochsMLPClassifier
    return network(**(settings | overrides))


class _Epochs(int):
    """A number of epochs that equals no count, so that MLPClassifier does not warn on reaching it.

    Ignoring the warning instead would change the warning filters of all threads.
    """

    def __eq__(self, other):
        return False

    __hash__ = int.__hash__


class FixedEpochsMLPClassifier(MLPClassifier):
    """MLPClassifier for a set number of epochs, with FFClassifier's batch sizes."""

    def fit(self, X, y, sample_weight=None):
        """Fit as MLPClassifier does, without its warning that `max_iter` was reached."""
        batch_size, max_iter = self.batch_size, self.max_iter
        n_samples = X.shape[0] if hasattr(X, "shape") else len(X)
        try:
            if n_samples > 0 and (batch_size == "auto" or isinstance(batch_size, Integral)):
                self.batch_size = resolve_batch_size(batch_size, n_samples)
                self.max_iter = resolve_max_iter(max_iter, n_samples, batch_size)
            if isinstance(self.max_iter, Integral):
                self.max_iter = _Epochs(self.max_iter)
            return super().fit(X, y, sample_weight=sample_weight)
        finally:
            self.batch_size, self.max_iter = batch_size, max_iter


class CenteredMLPClassifier(FixedEpochsMLPClassifier):
    """The same, fitted to features whose mean is subtracted.

    A centred first layer reads ``(x - mean) @ W + b``, which is ``x @ W + (b - mean @ W)``.
    """

    def fit(self, X, y, sample_weight=None):
        """Fit to centred features, then let the intercepts absorb their mean."""
        X, y = validate_data(self, X, y, dtype=np.float32, multi_output=True)
        mean = X.mean(axis=0, dtype=np.float64)
        if self.warm_start and hasattr(self, "coefs_"):
            self._move_origin(-mean)
        names = getattr(self, "feature_names_in_", None)
        super().fit(X - mean.astype(X.dtype), y, sample_weight=sample_weight)
        if names is not None:
            self.feature_names_in_ = names
        self._move_origin(mean)
        return self

    def _move_origin(self, mean):
        shift = mean @ self.coefs_[0]
        self.intercepts_[0] = (self.intercepts_[0] - shift).astype(self.intercepts_[0].dtype)


def skorch_mlp(ff: FFClassifier, **overrides: Any) -> MLPNet:
    """Build a skorch network with the settings of a Forward-Forward classifier.

    Parameters
    ----------
    ff : FFClassifier
        Fitted or not; only its parameters are read.
    **overrides
        Parameters of :class:`skorch.NeuralNetClassifier` to set otherwise, such as
        ``module__dropout=0.2`` or ``verbose=1``.

    Returns
    -------
    net : NeuralNetClassifier
        Not fitted. The numbers of features and classes are taken from the data at `fit`; labels
        may be of any type, and features float64. It can be cloned, searched over and put into
        a Pipeline.

    See Also
    --------
    sklearn_mlp : The same network in scikit-learn.

    Notes
    -----
    The network is linear layers with ReLU between them, trained by cross-entropy on all the data,
    in a new order every epoch. Taken over: `hidden_layer_sizes`, `batch_size` ("auto" resolved for
    the training set as :class:`~skff.FFClassifier` does), `max_iter`, `learning_rate_init`,
    `learning_rate` with its cooldown, `solver` (Adam, or AdamW where there is weight decay, or SGD
    with its momentum), `weight_decay` (not for the biases), `dropout` of input features,
    `center`, the label smoothing of the loss, `device` and `random_state`. Not taken over: early
    stopping, `augment`, `class_weight`, `matmul_precision` and sample weights.

    `fit` draws initial weights, order and dropout from a seed derived from `random_state` and then
    restores torch's random state; `partial_fit` draws from torch's global random state. On devices
    other than CPU and CUDA, dropout is not seeded.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skff import FFClassifier
    >>> from skff.mlp_baselines import skorch_mlp
    >>> iris = load_iris()
    >>> ff = FFClassifier((30, 30), max_iter=20, device="cpu", random_state=0)
    >>> net = skorch_mlp(ff).fit(iris.data, iris.target_names[iris.target])
    >>> net.predict(iris.data[:2])
    array(['setosa', 'setosa'], dtype='<U10')
    """
    params = ff.get_params(deep=False)
    decay, solver = params["weight_decay"], component(SOLVERS, params["solver"])
    settings = {
        "module": MLP,
        "module__hidden_layer_sizes": tuple(layer_sizes(params["hidden_layer_sizes"])),
        "module__dropout": params["dropout"],
        "center": params["center"],
        "criterion": torch.nn.CrossEntropyLoss,
        "criterion__label_smoothing": getattr(learning_rule(ff).loss, "label_smoothing", 0.0),
        "optimizer": torch.optim.AdamW if decay else torch.optim.Adam,
        "optimizer__weight_decay": decay,
        "optimizer__param_groups": [("*.bias", {"weight_decay": 0.0})],
        "lr": params["learning_rate_init"],
        "batch_size": params["batch_size"],
        "max_epochs": params["max_iter"],
        "iterator_train__shuffle": True,
        "iterator_valid__batch_size": 1024,
        "train_split": None,
        "callbacks": [("schedule", Schedule(SCHEDULES[params["learning_rate"]]))],
        "device": str(resolve_device(params["device"])),
        "random_state": params["random_state"],
        "verbose": 0,
    }
    if isinstance(solver, SGD):
        settings |= {"optimizer": torch.optim.SGD, "optimizer__momentum": solver.momentum}
    return MLPNet(**(settings | overrides))
