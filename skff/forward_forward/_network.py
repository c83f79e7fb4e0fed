"""The network: layers that read a label, and which class has the highest goodness.

With features x, their training mean m and one fixed scale s, the first layer reads
``f_0 = s (x - m)``. Layer l computes ``Z = W f + b`` from its inputs and, under label c, the
activities ``h(c) = relu(Z + u[c])`` with the label shifts ``u = a L``. Its goodness of c is that of
h(c). The next layer receives normalized activities, ``n(h) = h / rms(h)``, which do not show the
goodness:

- if every layer reads the label, ``n(relu(Z + mean_c u[c]))``, which is the same for all labels, so
  that one pass through this *trunk* serves all labels;
- if only the first layer does, n(h(c)), so that the layers above it run once per label.
"""

import math
from functools import partial, reduce

import numpy as np
import torch
from scipy.special import log_softmax

from skff._memory import in_chunks
from skff.forward_forward._scale import (
    some_rows,
    warn_of_little_spread,
    warn_of_strange_samples,
)
from skff.forward_forward._torch import (
    add_relu,
    as_numpy,
    as_tensor,
    as_writable_tensor,
    computing,
)

SCRATCH_ELEMENTS = 2**22  # activities computed at once in prediction: 16 MB of float32
CACHE_ELEMENTS = 2**19  # values that are written and soon read again: 2 MB
CLASS_BLOCK = 64
NARROW = 16  # units
FEW_ROWS = 8
SMALLEST_NORM = 1e-8  # of activities, to avoid dividing by zero if all units are silent
FARTHEST = 1e4  # root mean square of inputs over the largest in training: its goodness has 8 digits


def rms_normalize(h, norm=None):
    """Divide each row by its root mean square, so that the next layer cannot read the goodness.

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


def _affine(f, weight, bias):
    """Compute ``f W' + b``, each row whatever the others are."""
    # MKL rounds products of few rows differently from those of many rows, and in a product of few
    # columns the rounding depends on the position of a row. With padding, the result of a row
    # depends on that row only.
    n_rows, n_units, pad = f.shape[0], bias.shape[0], torch.nn.functional.pad
    if n_rows < FEW_ROWS:
        f = pad(f, (0, 0, 0, FEW_ROWS - n_rows))
    if n_units < NARROW:
        weight = pad(weight, (0, 0, 0, NARROW - n_units))
        bias = pad(bias, (0, NARROW - n_units))
    return torch.addmm(bias, f, weight.t())[:n_rows, :n_units]


class Layer:
    """A dense layer with a goodness, which may read the label in addition to its inputs.

    Another kind of layer needs the same methods: `pre_activations`, `label_shifts`, `upward`,
    `tensors` and `set_gradients`.

    Parameters
    ----------
    weight : Tensor of shape (n_units, n_inputs)
        W.
    bias : Tensor of shape (n_units,)
        b.
    label_weight : Tensor of shape (n_classes, n_units) or None, default=None
        L, what each label adds per unit of amplitude; None if the layer does not read the label.
    label_amplitude : float, default=0.0
        Value a of the label unit that is on, where the inputs have a root mean square of 1.
    """

    def __init__(self, weight, bias, label_weight=None, label_amplitude=0.0):
        self.weight = weight
        self.bias = bias
        self.label_weight = label_weight
        self.label_amplitude = label_amplitude
        self.rounded = None  # the weight in bfloat16, while a trainer needs it

    @property
    def n_units(self):
        """Number of units."""
        return self.bias.shape[0]  # len() of a tensor takes several times as long

    def tensors(self):
        """Return the learned tensors: weight, bias and, if there are any, label weights."""
        own = [self.weight, self.bias]
        return own if self.label_weight is None else [*own, self.label_weight]

    def pre_activations(self, f):
        """Compute ``Z = W f + b`` in float32, (n, n_units), from inputs (n, n_inputs).

        Inputs in bfloat16 are multiplied by the weight rounded to bfloat16.
        """
        if f.dtype == torch.bfloat16:
            return (f @ self.rounded.t()).float().add_(self.bias)
        return _affine(f, self.weight, self.bias)

    def label_shifts(self):
        """Return what each label adds to the pre-activations, u, (n_classes, n_units)."""
        return self.label_weight * self.label_amplitude

    def upward(self, Z):
        """Compute the next layer's inputs, under the neutral label, (n, n_units), from Z."""
        # Neutral label: every label unit has 1 / n_classes of its amplitude.
        if self.label_weight is None:
            return rms_normalize(Z.relu())
        return rms_normalize(add_relu(Z, self.label_shifts().mean(0)))

    def set_gradients(self, f, dZ, rows, db, du=None):
        """Set the gradients of the layer's own tensors.

        Parameters
        ----------
        f : Tensor of shape (n, n_inputs)
            The inputs; their type is that of the product.
        dZ : Tensor of shape (m, n_units)
            Gradient of the layer's loss with respect to some rows of `Z`.
        rows : LongTensor of shape (m,) or None
            These rows; None means all of them.
        db : Tensor of shape (n_units,)
            Gradient with respect to the bias.
        du : Tensor of shape (n_classes, n_units), default=None
            Gradient with respect to the label shifts; needed if the layer reads the label.
        """
        f = f if rows is None else f.index_select(0, rows)  # several times as fast as f[rows]
        self.weight.grad = (dZ.to(f.dtype).t() @ f).to(self.weight.dtype)
        self.bias.grad = db
        if self.label_weight is not None:
            self.label_weight.grad = du * self.label_amplitude


class Network:
    """The layers, the settings fixed at `fit`, and the computations of prediction.

    Parameters
    ----------
    layers : list of Layer
        The first one reads the label; either all others do, too, or none.
    center : Tensor of shape (n_kept,)
        Mean m that is subtracted from the kept features.
    input_scale : float
        Factor s on the centred features.
    largest_input : float
        Largest root mean square of a training sample's inputs f_0; their mean is 1.
    overlay : callable
        A value of `OVERLAYS` or one of the same form.
    goodness : callable
        Activities (n, n_units) -> goodness (n,).
    skip_first : bool, default=False
        Whether to leave the first layer out of the summed goodness.
    probability_scale : float, default=1.0
        Factor on the mean goodness of the layers in the softmax of the probabilities.
    head : list of Tensor, default=()
        Weight (n_classes, n_inputs) and bias (n_classes,) of a softmax head, or empty.
    """

    def __init__(
        self,
        layers,
        *,
        center,
        input_scale,
        largest_input,
        overlay,
        goodness,
        skip_first=False,
        probability_scale=1.0,
        head=(),
    ):
        self.layers = layers
        self.center = center
        self.input_scale = input_scale
        self.largest_input = largest_input
        self.overlay = overlay
        self.goodness = goodness
        self.skip_first = skip_first
        self.probability_scale = probability_scale
        self.head = list(head)

    @classmethod
    def initialize(
        cls, sizes, n_classes, *, label_scale, every_layer, generator, center, head=False, **fixed
    ):
        """Draw weights from N(0, 1 / n_inputs); biases and the head start at 0.

        Parameters
        ----------
        sizes : list of int
            Kept features, then the units of each layer.
        n_classes : int
            Number of classes.
        label_scale : float
            Amplitude of the label units over the norm of a layer's inputs.
        every_layer : bool
            Whether every layer reads the label, not the first one only.
        generator : torch.Generator
            Source of randomness; its device is the network's.
        center : ndarray of shape (n_kept,)
            See the class.
        head : bool, default=False
            Whether to add a softmax head.
        **fixed
            The other parameters of the class.

        Returns
        -------
        network : Network
            Untrained.
        """
        float32 = {"dtype": torch.float32, "device": generator.device}

        def normal(rows, columns, fan_in):
            draw = torch.randn(rows, columns, generator=generator, **float32)
            return draw.div_(math.sqrt(fan_in))

        layers = []
        for n_inputs, n_units in zip(sizes, sizes[1:], strict=False):
            weight, bias = normal(n_units, n_inputs, n_inputs), torch.zeros(n_units, **float32)
            label_weight = None
            if every_layer or not layers:
                label_weight = normal(n_classes, n_units, n_inputs)
            layers.append(Layer(weight, bias, label_weight, label_scale * math.sqrt(n_inputs)))
        center = torch.from_numpy(center).to(**float32)
        network = cls(layers, center=center, **fixed)
        if head:
            n_inputs = sum(sizes[2:]) or sizes[1]
            network.head = [
                torch.zeros(n_classes, n_inputs, **float32),
                torch.zeros(n_classes, **float32),
            ]
        return network

    @property
    def n_layers(self):
        """Number of layers, each with a goodness of its own."""
        return len(self.layers)

    @property
    def n_classes(self):
        """Number of label units."""
        return len(self.layers[0].label_weight)

    @property
    def device(self):
        """Device of the weights."""
        return self.center.device

    @property
    def has_trunk(self):
        """Whether every layer reads the label, so that one pass serves all labels."""
        return all(layer.label_weight is not None for layer in self.layers)

    @property
    def n_passes(self):
        """Number of passes through the upper layers that a prediction takes."""
        return 1 if self.has_trunk or self.head else self.n_classes

    def tensors(self):
        """Return all weights and biases, in a fixed order."""
        return self.tensors_of(range(self.n_layers)) + self.head

    def tensors_of(self, layers):
        """Return all weights and biases of some layers, given by their numbers."""
        return [tensor for layer in layers for tensor in self.layers[layer].tensors()]

    def keep(self, X):
        """Return the features that the first layer reads, (n, n_kept)."""
        return self.overlay(X, self.n_classes)

    def rescale(self, x, factor=1.0):
        """Return kept features as the first layer reads them, f_0: centred and of rms `factor`."""
        return (x - self.center).mul_(self.input_scale * factor)

    def inputs(self, x):
        """Return kept features as the first layer reads them for a prediction, f_0.

        A sample so far from the training samples that its goodness would overflow float32 is moved
        closer, in the same direction.

        Parameters
        ----------
        x : Tensor of shape (n, n_kept)
            Kept features.

        Returns
        -------
        f : Tensor of shape (n, n_kept)
            Inputs.
        size : Tensor of shape (n,)
            Root mean square of what `rescale` makes of each sample, in double precision.
        """
        f = self.rescale(x)
        size = torch.linalg.vector_norm(f, dim=1).cpu().double().div_(math.sqrt(f.shape[1]))
        farthest = FARTHEST * self.largest_input
        is_far = ~(size <= farthest)  # also True if the size overflows
        if is_far.any():
            direction = x[is_far.to(x.device)].cpu().double() - self.center.cpu().double()
            norm = torch.linalg.vector_norm(direction, dim=1, keepdim=True)
            f[is_far.to(f.device)] = (direction * (farthest * math.sqrt(f.shape[1]) / norm)).to(f)
            size[is_far] = norm.squeeze(1) * (self.input_scale / math.sqrt(f.shape[1]))
        return f, size

    # Scores of the classes

    def scores(self, f, n_layers=None, *, use_head=True):
        """Compute scores that are largest for the predicted class.

        Parameters
        ----------
        f : Tensor of shape (n, n_kept)
            Output of `rescale`.
        n_layers : int, default=None
            Layers whose goodness is summed, from the first; None means all.
        use_head : bool, default=True
            Whether to use the softmax head, if there is one.

        Returns
        -------
        scores : Tensor of shape (n, n_classes)
            Logits of the head, or the goodness summed over the layers used for prediction.
        """
        return self.scores_from(self.layers[0].pre_activations(f), n_layers, use_head=use_head)

    def scores_from(self, Z, n_layers=None, *, use_head=True):
        """Compute the same from the first layer's pre-activations, (n, n_units)."""
        if self.head and use_head:
            passes = list(self.trunk(None, Z=Z))
            return self.logits(self.head_inputs(passes))
        return self.total_goodness(self.layer_goodness_from(Z, n_layers))

    def log_probabilities(self, scores):
        """Compute the logarithm of the classes' probabilities.

        Parameters
        ----------
        scores : ndarray of shape (n, n_classes)
            Output of `scores`; a number added to a row changes nothing.

        Returns
        -------
        log_p : ndarray of float64 of shape (n, n_classes)
            Of a softmax, in the order of the scores.
        """
        scores = scores.astype(np.float64)  # so that probabilities sum to 1 in any array
        return log_softmax(self.logits_of(scores, self.probability_scale), axis=1)

    def logits_of(self, scores, scale):
        """Return the head's logits as they are, the mean goodness of a layer times a scale."""
        n_counted = self.n_layers - self.first_counted(self.n_layers)
        return scores if self.head else scores * (scale / n_counted)

    def total_goodness(self, g):
        """Sum the goodness (n_layers, ...) over the layers used for prediction."""
        # One after another: in which order torch's sum adds five or more depends on the shape, and
        # with it the rounding of a sample on the others of its batch.
        return reduce(torch.add, g[self.first_counted(len(g)) :])

    def first_counted(self, n_layers):
        """Return the first of so many layers whose goodness counts."""
        return int(self.skip_first and n_layers > 1)

    def layer_goodness(self, f, n_layers=None):
        """Compute every layer's goodness under every label.

        Parameters
        ----------
        f : Tensor of shape (n, n_kept)
            Output of `rescale`.
        n_layers : int, default=None
            Layers to compute, from the first; None means all.

        Returns
        -------
        g : Tensor of shape (n_layers, n, n_classes)
            Goodness.
        """
        return self.layer_goodness_from(self.layers[0].pre_activations(f), n_layers)

    def layer_goodness_from(self, Z, n_layers=None):
        """Compute the same from the first layer's pre-activations, (n, n_units)."""
        n_layers = self.n_layers if n_layers is None else n_layers
        g = Z.new_empty(n_layers, len(Z), self.n_classes)
        if self.has_trunk:
            for layer_g, (layer, _, z) in zip(g, self.trunk(None, n_layers, Z=Z), strict=True):
                self._label_goodness(layer, z, out=layer_g)
        else:
            self._tower_goodness(Z, out=g)
        return g

    def trunk(self, f, n_layers=None, *, Z=None, first=0):
        """Pass through the layers under the neutral label.

        Parameters
        ----------
        f : Tensor of shape (n, n_kept) or None
            Output of `rescale`; None if `Z` is given.
        n_layers : int, default=None
            Layers to pass, from the first; None means all.
        Z : Tensor of shape (n, n_units), default=None
            The first layer's pre-activations; None computes them.
        first : int, default=0
            The layer that reads `f`.

        Yields
        ------
        layer : Layer
            Each layer in turn.
        f : Tensor of shape (n, n_inputs)
            Its inputs, of the type of the first layer's inputs.
        Z : Tensor of shape (n, n_units)
            Its pre-activations without a label.
        """
        dtype = torch.float32 if f is None else f.dtype
        below = None
        for layer in self.layers[first:n_layers]:
            if below is not None:
                f = below.upward(Z).to(dtype)
            if below is not None or Z is None:
                Z = layer.pre_activations(f)
            yield layer, f, Z
            below = layer

    def _label_goodness(self, layer, Z, out):
        """Write the goodness of relu(Z + u[c]) for all labels c to `out`, (n, n_classes)."""
        shifts = layer.label_shifts()
        n_classes = min(len(shifts), CLASS_BLOCK)
        n_rows = min(max(1, CACHE_ELEMENTS // (n_classes * layer.n_units)), len(Z))
        # One buffer for all blocks, because allocation is slower than the arithmetic.
        scratch = Z.new_empty(n_classes * n_rows * layer.n_units)
        for g, rows in zip(out.split(n_rows), Z.split(n_rows), strict=True):
            for g_block, block in zip(
                g.split(n_classes, dim=1), shifts.split(n_classes), strict=True
            ):
                h = scratch[: len(block) * rows.numel()].view(len(block), *rows.shape)
                add_relu(rows.unsqueeze(0), block.unsqueeze(1), out=h)
                g_block.copy_(self.goodness(h.flatten(0, 1)).view(len(block), -1).t())

    def _tower_goodness(self, Z, out):
        """Write each layer's goodness to `out`, (n_layers, n, n_classes): a pass per label."""
        first, *others = self.layers[: len(out)]
        for start, block in _blocks(first.label_shifts(), CLASS_BLOCK):
            h = add_relu(Z.unsqueeze(1), block).flatten(0, 1)  # (n * classes, n_units)
            for index, layer in enumerate([first, *others]):
                if index > 0:
                    h = layer.pre_activations(rms_normalize(h)).relu_()
                out[index, :, start : start + len(block)] = self.goodness(h).view(len(Z), -1)

    def head_inputs(self, passes):
        """Return the inputs of the softmax head, (n, n_inputs), from the items of `trunk`.

        These are the normalized activities of all layers but the first, unless it is the only one.
        """
        layer, _, Z = passes[-1]
        above = [f for _, f, _ in passes[2:]] + [layer.upward(Z)]
        return torch.cat([f.float() for f in above], dim=1)

    def logits(self, inputs):
        """Compute the softmax head's logits, (n, n_classes), from `head_inputs`."""
        return _affine(inputs, *self.head)

    # Arrays in, arrays out

    def compute(self, X, function, dim=0, *, finish=lambda chunk: chunk):
        """Apply a function of the first layer's inputs to samples, within bounded memory.

        If memory runs out, fewer samples are processed at once; the output is the same.

        Parameters
        ----------
        X : Features of shape (n, n_features)
            Samples, read chunk by chunk.
        function : callable
            Output of `inputs` -> Tensor of finite numbers.
        dim : int, default=0
            The axis of the samples in that tensor.
        finish : callable, default=identity
            Applied to the function's output for each chunk of samples, an ndarray; keeps the axis
            of the samples.

        Returns
        -------
        output : ndarray
            The function of all samples.

        Raises
        ------
        ValueError
            If values overflow.

        Warns
        -----
        ScaleWarning
            If samples are far from the training samples.
        """
        output, largest = None, 0.0

        def write(rows):
            nonlocal output, largest
            x = as_tensor(self.keep(X.read(rows))).to(self.device)
            inputs, size = self.inputs(x)
            chunk = function(inputs)
            if not chunk.isfinite().all():
                raise ValueError(
                    "Got goodness or logits that are not finite, but expected those of a network "
                    "that has learned: fit it with a lower learning_rate_init or label_scale."
                )
            chunk = finish(chunk.cpu().numpy())
            if output is None:
                shape = [*chunk.shape[:dim], len(X), *chunk.shape[dim + 1 :]]
                output = np.empty(shape, chunk.dtype)
            output[*[slice(None)] * dim, rows] = chunk
            largest = max(largest, float(size.max()))

        with computing(self.device), torch.inference_mode():
            in_chunks(write, len(X), X.rows_per_block(self.rows_per_chunk()))
        warn_of_strange_samples(largest, self.largest_input)
        return output

    def compare_spread(self, X):
        """Warn if samples, `Features` (n, n_features), differ by less than the training samples."""
        center = as_numpy(self.center).astype(np.float64)
        inputs = (self.keep(X.read(some_rows(X))) - center) * self.input_scale
        warn_of_little_spread(inputs, is_centered=bool(center.any()))

    def rows_per_chunk(self):
        """Return how many samples to pass through the layers at once."""
        widest = max(layer.n_units for layer in self.layers)
        return max(1, SCRATCH_ELEMENTS // (widest * min(self.n_passes, CLASS_BLOCK)))

    # Copies and pickles

    def state(self):
        """Return copies of all that training changes: tensors and the scale of probabilities."""
        tensors = [tensor.clone() for tensor in self.tensors()]
        return {"tensors": tensors, "probability_scale": self.probability_scale}

    def restore(self, state):
        """Adopt the `state` of a network of the same sizes, in place."""
        for mine, theirs in zip(self.tensors(), state["tensors"], strict=True):
            mine.copy_(theirs)
        self.probability_scale = state["probability_scale"]

    def to(self, device):
        """Return a copy whose weights are on `device`, even if they already are."""
        return _with_tensors(self, partial(_copy_to, device=device))

    def permuted(self, rng):
        """Return a copy with the entries of each learned tensor permuted, by a RandomState."""
        copy = self.to(self.device)
        for tensor in copy.tensors():
            order = torch.from_numpy(rng.permutation(tensor.numel())).to(tensor.device)
            tensor.copy_(tensor.flatten()[order].view_as(tensor))
        return copy

    def __getstate__(self):
        # NumPy arrays load on any machine, and joblib can memory-map them.
        return _map_values(vars(self), as_numpy)

    def __setstate__(self, state):
        vars(self).update(_map_values(state, as_writable_tensor))


def _blocks(tensor, size):
    return ((start, tensor[start : start + size]) for start in range(0, len(tensor), size))


def _with_tensors(thing, function):
    """Return a copy of a network or layer with a function applied to its tensors."""
    copy = type(thing).__new__(type(thing))
    vars(copy).update(_map_values(vars(thing), function))
    return copy


def _map_values(attributes, function):
    return {name: _map(value, function) for name, value in attributes.items()}


def _map(value, function):
    if isinstance(value, list):
        return [_map(item, function) for item in value]
    return _with_tensors(value, function) if isinstance(value, Layer) else function(value)


def _copy_to(value, device):
    return value.to(device, copy=True) if isinstance(value, torch.Tensor) else value
