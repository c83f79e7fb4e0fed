"""The network: a label-conditioned first layer and the hidden layers that follow.

With features x, label c, the training mean m and one fixed scale s for the data set, the first
layer computes ``z = s (W (x - m) + a L[c]) + b`` and every later one ``z = W n(h) + b``, where
``n(h) = h / rms(h)`` hides the goodness of the layer below. Activities are ``h = relu(z)``.
"""

import math
from functools import partial

import numpy as np
import torch

from skff.forward_forward._tensors import as_numpy, as_tensor, as_writable_tensor

SCRATCH_ELEMENTS = 2**22  # activities computed at once for prediction: 16 MB of float32
CLASS_BLOCK = 64
SMALLEST_NORM = 1e-8  # of activities; silent ones are not divided by zero


def rms_normalize(h, norm=None):
    """Divide each row by its root mean square, so that a layer cannot read the goodness below.

    Parameters
    ----------
    h : Tensor of shape (n, n_units)
        Activities.
    norm : Tensor of shape (n,), default=None
        Their Euclidean norms; None computes them.

    Returns
    -------
    normalized : Tensor of shape (n, n_units)
        Rows of mean square 1; rows of zeros stay zero.
    """
    if norm is None:
        norm = torch.linalg.vector_norm(h, dim=-1)
    return h * (math.sqrt(h.shape[-1]) / norm.clamp_min(SMALLEST_NORM)).unsqueeze(-1)


class Network:
    """Weights of a Forward-Forward network and what can be computed from them.

    Parameters
    ----------
    weights : list of Tensor of shape (n_units, n_inputs)
        One per layer; the first reads the kept features.
    biases : list of Tensor of shape (n_units,)
        One per layer.
    label_weight : Tensor of shape (n_classes, n_units)
        What each label adds to the first layer, per unit of amplitude.
    center : Tensor of shape (n_inputs,)
        What is subtracted from the first layer's input, m.
    input_scale : float
        Factor s on the first layer's input.
    label_amplitude : float
        Value a of the label unit, in units of X.
    readout : list of Tensor, default=()
        Weight (n_classes, n_inputs) and bias (n_classes,) of a softmax head, or empty.
    """

    def __init__(
        self, weights, biases, label_weight, center, input_scale, label_amplitude, readout=()
    ):
        self.weights = weights
        self.biases = biases
        self.label_weight = label_weight
        self.center = center
        self.input_scale = input_scale
        self.label_amplitude = label_amplitude
        self.readout = list(readout)

    @classmethod
    def initialize(
        cls, sizes, n_classes, *, center, input_scale, label_amplitude, generator, readout=False
    ):
        """Draw weights from N(0, 1 / n_inputs); biases start at 0.

        Parameters
        ----------
        sizes : list of int
            Kept features, then the units of each layer.
        n_classes : int
            Number of classes.
        center : ndarray of shape (n_kept,)
            See the class.
        input_scale, label_amplitude : float
            Likewise.
        generator : torch.Generator
            Source of randomness; its device is the network's.
        readout : bool, default=False
            Whether to add a softmax head, which starts at 0.

        Returns
        -------
        network : Network
            Untrained.
        """
        float32 = {"dtype": torch.float32, "device": generator.device}

        def normal(rows, columns, fan_in):
            draw = torch.randn(rows, columns, generator=generator, **float32)
            return draw.div_(math.sqrt(fan_in))

        weights = [
            normal(units, inputs, inputs) for inputs, units in zip(sizes, sizes[1:], strict=False)
        ]
        biases = [torch.zeros(units, **float32) for units in sizes[1:]]
        label_weight = normal(n_classes, sizes[1], sizes[0])
        center = torch.from_numpy(center).to(**float32)
        network = cls(weights, biases, label_weight, center, input_scale, label_amplitude)
        if readout:
            n_inputs = sum(sizes[2:]) or sizes[1]
            network.readout = [
                torch.zeros(n_classes, n_inputs, **float32),
                torch.zeros(n_classes, **float32),
            ]
        return network

    @property
    def n_layers(self):
        """Number of layers, each with a goodness of its own."""
        return len(self.weights)

    @property
    def n_classes(self):
        """Number of label units."""
        return len(self.label_weight)

    @property
    def device(self):
        """Where the weights are."""
        return self.label_weight.device

    def parameters(self, layer):
        """Return the tensors that only `layer` learns; the first also owns the label weights."""
        own = [self.weights[layer], self.biases[layer]]
        return [*own, self.label_weight] if layer == 0 else own

    def tensors(self):
        """Return all weights and biases, in a fixed order."""
        own = [tensor for layer in range(self.n_layers) for tensor in self.parameters(layer)]
        return own + self.readout

    def rescale(self, x):
        """Return kept features as the first layer reads them: centred and of rms 1."""
        return (x - self.center).mul_(self.input_scale)

    def project(self, x):
        """Compute the first layer's pre-activations without a label.

        Parameters
        ----------
        x : Tensor of shape (n, n_kept)
            Output of `rescale`.

        Returns
        -------
        Z : Tensor of shape (n, n_units)
            Shared by every label.
        """
        return torch.addmm(self.biases[0], x, self.weights[0].t())

    def label_shifts(self):
        """Return what each label adds to the first pre-activations, (n_classes, n_units)."""
        return self.label_weight * (self.input_scale * self.label_amplitude)

    def activities(self, layer, inputs):
        """Compute a hidden layer's activities from normalised ones below.

        Parameters
        ----------
        layer : int
            1 or more.
        inputs : Tensor of shape (n, n_inputs)
            Output of `rms_normalize`.

        Returns
        -------
        h : Tensor of shape (n, n_units)
            Activities.
        """
        return torch.addmm(self.biases[layer], inputs, self.weights[layer].t()).relu_()

    def class_goodness(self, Z, goodness, n_layers=None):
        """Compute every layer's goodness under every label.

        Parameters
        ----------
        Z : Tensor of shape (n, n_units)
            Output of `project`.
        goodness : callable
            Activities (n, n_units) -> goodness (n,).
        n_layers : int, default=None
            Layers to compute, from the first; None means all.

        Returns
        -------
        g : Tensor of shape (n_layers, n, n_classes)
            Goodness.
        """
        n_layers = self.n_layers if n_layers is None else n_layers
        g = Z.new_empty(n_layers, len(Z), self.n_classes)
        shifts = self.label_shifts()
        for start in range(0, self.n_classes, CLASS_BLOCK):
            block = shifts[start : start + CLASS_BLOCK]
            h = (Z.unsqueeze(1) + block).relu_().flatten(0, 1)  # (n * classes, n_units)
            for layer in range(n_layers):
                if layer > 0:
                    h = self.activities(layer, rms_normalize(h))
                g[layer, :, start : start + len(block)] = goodness(h).view(len(Z), -1)
        return g

    def neutral_activities(self, Z):
        """Compute what the softmax head reads: normalised activities under a neutral label.

        Parameters
        ----------
        Z : Tensor of shape (n, n_units)
            Output of `project`.

        Returns
        -------
        inputs : Tensor of shape (n, n_inputs)
            Those of all layers but the first, unless it is the only one.
        """
        # Every label unit at 1 / n_classes of its amplitude says nothing about the class.
        inputs = [rms_normalize((Z + self.label_shifts().mean(0)).relu_())]
        for layer in range(1, self.n_layers):
            inputs.append(rms_normalize(self.activities(layer, inputs[-1])))
        return torch.cat(inputs[1:] or inputs, dim=1)

    def logits(self, inputs):
        """Compute the softmax head's logits, (n, n_classes), from `neutral_activities`."""
        weight, bias = self.readout
        return torch.addmm(bias, inputs, weight.t())

    def rows_per_chunk(self):
        """Return how many samples `class_goodness` can take within the scratch memory."""
        widest = max(len(bias) for bias in self.biases)
        return max(1, SCRATCH_ELEMENTS // (widest * min(self.n_classes, CLASS_BLOCK)))

    def copy_from(self, other):
        """Take over the weights of a network of the same sizes, in place."""
        for mine, theirs in zip(self.tensors(), other.tensors(), strict=True):
            mine.copy_(theirs)

    def to(self, device):
        """Return a copy whose weights are on `device`."""
        copy = Network.__new__(Network)
        moved = {name: _map(partial(_move, device=device), v) for name, v in self.__dict__.items()}
        copy.__dict__.update(moved)
        return copy

    def __getstate__(self):
        # NumPy arrays load on any machine, and joblib can memory-map them.
        return {name: _map(as_numpy, value) for name, value in self.__dict__.items()}

    def __setstate__(self, state):
        self.__dict__.update({name: _map(as_writable_tensor, v) for name, v in state.items()})


def goodness_in_chunks(network, X, goodness, n_layers=None):
    """Compute class goodness within bounded scratch memory.

    Parameters
    ----------
    network : Network
        A trained network.
    X : ndarray of shape (n, n_kept), float32
        Kept features.
    goodness : callable
        Activities (n, n_units) -> goodness (n,).
    n_layers : int, default=None
        Layers to compute, from the first; None means all.

    Returns
    -------
    g : ndarray of shape (n_layers, n, n_classes)
        Goodness.
    """
    return _in_chunks(network, X, lambda Z: network.class_goodness(Z, goodness, n_layers), axis=1)


def logits_in_chunks(network, X):
    """Compute the softmax head's logits within bounded scratch memory.

    Parameters
    ----------
    network : Network
        With a readout.
    X : ndarray of shape (n, n_kept), float32
        Kept features.

    Returns
    -------
    logits : ndarray of shape (n, n_classes)
        One pass under the neutral label.
    """
    return _in_chunks(network, X, lambda Z: network.logits(network.neutral_activities(Z)), axis=0)


def _in_chunks(network, X, function, axis):
    rows = network.rows_per_chunk()
    chunks = []
    with torch.inference_mode():
        for start in range(0, len(X), rows):
            x = as_tensor(X[start : start + rows]).to(network.device)
            Z = network.project(network.rescale(x))
            chunks.append(function(Z).cpu().numpy())
    return np.concatenate(chunks, axis=axis)


def _map(function, value):
    return [function(v) for v in value] if isinstance(value, list) else function(value)


def _move(value, device):
    return value.to(device, copy=True) if isinstance(value, torch.Tensor) else value
