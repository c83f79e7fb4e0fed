"""The learning rule from its equations: dense layers, plain autograd, float64."""

import numpy as np
import torch
from torch.nn.functional import cross_entropy, softplus

GOODNESS = {
    "mean_square": lambda h: h.pow(2).mean(-1),
    "sum_square": lambda h: h.pow(2).sum(-1),
}
LOSSES = {
    "symba": lambda g_pos, g_neg: softplus(-4 * (g_pos - g_neg)) / 4,
    "swish": lambda g_pos, g_neg: -(g_pos - g_neg) * torch.sigmoid(-6 * (g_pos - g_neg)),
    "logistic": lambda g_pos, g_neg: (softplus(2 - g_pos) + softplus(g_neg - 2)) / 2,
}


def smoothed_cross_entropy(g, y, scale=4.0, label_smoothing=0.1):
    """Return the loss of each sample over the goodness (n, n_classes) of all labels."""
    return cross_entropy(scale * g, y, label_smoothing=label_smoothing, reduction="none") / scale


def plain_network(clf):
    """Return a fitted classifier's weights in the plain network of its overlay."""
    if clf.overlay == "layerwise":
        return LayerwiseNetwork(clf)
    return PlainNetwork(clf, clf.overlay)


class PlainNetwork:
    """A fitted classifier's weights in dense layers; the first one reads label and features."""

    def __init__(self, clf, overlay="append"):
        (label_coefs,) = clf.label_coefs_
        self.n_classes = len(label_coefs)
        first, *others = clf.coefs_
        if overlay == "append":
            first = np.concatenate([label_coefs, first])
        self.coefs = [double(coef) for coef in [first, *others]]
        self.intercepts = [double(b) for b in clf.intercepts_]
        self.n_kept = len(first) - self.n_classes
        self.scale, self.amplitude = clf.input_scale_, clf.label_amplitude_

    def labelled(self, X, y):
        """Return amplitude times one-hot labels beside the kept features, all scaled."""
        units = torch.zeros(len(X), self.n_classes, dtype=torch.float64)
        units[torch.arange(len(X)), torch.as_tensor(y)] = self.amplitude
        return self.scale * torch.cat([units, self.kept(X)], dim=1)

    def neutral(self, X):
        """Return the input under a label that names every class equally."""
        units = torch.full((len(X), self.n_classes), self.amplitude / self.n_classes)
        return self.scale * torch.cat([units.double(), self.kept(X)], dim=1)

    def kept(self, X):
        """Return the features that the label leaves."""
        return double(np.asarray(X)[:, -self.n_kept :])

    def activities(self, inputs):
        """Return the activities of each layer, each reading the normalized ones below."""
        found = []
        for coef, intercept in zip(self.coefs, self.intercepts, strict=True):
            found.append(torch.relu(inputs @ coef + intercept))
            inputs = normalized(found[-1])
        return found

    def neutral_activities(self, X):
        """Return what each layer does under a label that names every class equally."""
        return self.activities(self.neutral(X))

    def class_goodness(self, X, goodness):
        """Return the goodness (n_layers, n_samples, n_classes): one whole pass per class."""
        labels = range(self.n_classes)
        passes = [self.activities(self.labelled(X, np.full(len(X), c))) for c in labels]
        g = [[goodness(h) for h in activities] for activities in passes]
        return np.stack([np.stack(layers, axis=-1) for layers in zip(*g, strict=True)])

    def gradients(self, X, y, y_wrong, *, goodness, loss, weight=1.0):
        """Return (dW, db) of each layer from two plain passes, each layer's graph on its own."""
        inputs = [self.labelled(X, y), self.labelled(X, y_wrong)]
        found = []
        for coef, intercept in zip(self.coefs, self.intercepts, strict=True):
            own = [coef.clone().requires_grad_(), intercept.clone().requires_grad_()]
            h_pos, h_neg = (torch.relu(x.detach() @ own[0] + own[1]) for x in inputs)
            mean = (weight * loss(goodness(h_pos), goodness(h_neg))).mean()
            found.append(torch.autograd.grad(mean, own))
            inputs = [normalized(h_pos.detach()), normalized(h_neg.detach())]
        return found

    def tensors(self):
        """Return (W, b) of each layer."""
        return list(zip(self.coefs, self.intercepts, strict=True))


class LayerwiseNetwork:
    """A fitted classifier's weights in layers that each read the label; neutral ones go up."""

    def __init__(self, clf):
        self.n_classes = len(clf.label_coefs_[0])
        self.coefs = [double(coef) for coef in clf.coefs_]
        self.intercepts = [double(b) for b in clf.intercepts_]
        self.label_coefs = [double(coef) for coef in clf.label_coefs_]
        self.scale = clf.input_scale_
        # Inputs of every layer have a root mean square of about 1, so a norm of sqrt(n_inputs).
        self.amplitudes = [clf.label_scale * len(coef) ** 0.5 for coef in self.coefs]

    def layers(self):
        """Return (W, b, L, a) of each layer."""
        return zip(self.coefs, self.intercepts, self.label_coefs, self.amplitudes, strict=True)

    def neutral_activities(self, X):
        """Return what each layer does when every label unit is on by its share."""
        f, found = self.scale * double(X), []
        for coef, intercept, label_coef, amplitude in self.layers():
            units = torch.full((len(X), self.n_classes), 1 / self.n_classes, dtype=f.dtype)
            found.append(torch.relu(f @ coef + amplitude * units @ label_coef + intercept))
            f = normalized(found[-1])
        return found

    def inputs(self, X):
        """Return what each layer reads beside the label."""
        return [self.scale * double(X), *map(normalized, self.neutral_activities(X)[:-1])]

    def class_goodness(self, X, goodness):
        """Return the goodness (n_layers, n_samples, n_classes), class by class."""
        found = []
        for f, (coef, intercept, label_coef, amplitude) in zip(
            self.inputs(X), self.layers(), strict=True
        ):
            h = [torch.relu(f @ coef + amplitude * row + intercept) for row in label_coef]
            found.append(np.stack([goodness(activities) for activities in h], axis=-1))
        return np.stack(found)

    def gradients(self, X, y, y_wrong=None, *, goodness, loss, weight=1.0):
        """Return (dW, db, dL) of each layer by autograd, each layer's graph on its own.

        With `y_wrong` the loss sees pairs, ``loss(g_pos, g_neg)``, else all, ``loss(g, y)``.
        """
        found, y = [], torch.as_tensor(y)
        for f, (*own, amplitude) in zip(self.inputs(X), self.layers(), strict=True):
            own = [tensor.clone().requires_grad_() for tensor in own]
            coef, intercept, label_coef = own
            h = torch.relu((f @ coef + intercept).unsqueeze(1) + amplitude * label_coef)
            g = goodness(h.flatten(0, 1)).view(len(X), -1)
            if y_wrong is None:
                losses = loss(g, y)
            else:
                rows = torch.arange(len(X))
                losses = loss(g[rows, y], g[rows, torch.as_tensor(y_wrong)])
            found.append(torch.autograd.grad((weight * losses).mean(), own))
        return found

    def tensors(self):
        """Return (W, b, L) of each layer."""
        return list(zip(self.coefs, self.intercepts, self.label_coefs, strict=True))


def double(values):
    """Return a float64 tensor of its own memory."""
    return torch.tensor(np.asarray(values), dtype=torch.float64)


def normalized(h):
    """Return rows of mean square 1; rows of zeros stay zero."""
    rms = h.pow(2).mean(1, keepdim=True).sqrt()
    return h / torch.where(rms > 0, rms, 1.0)


def train_plainly(plain, batches, rates, *, solver, momentum, weight_decay):
    """Train a plain network in place; `batches` are functions () -> gradients per layer."""
    first, second = [], []
    for update, (gradients, rate) in enumerate(zip(batches, rates, strict=True), 1):
        flat = [g for layer in gradients() for g in layer]
        parameters = [t for layer in plain.tensors() for t in layer]
        first, second = first or [0 * g for g in flat], second or [0 * g for g in flat]
        for tensor, g, m, v in zip(parameters, flat, first, second, strict=True):
            if tensor.ndim == 2:
                tensor *= 1 - rate * weight_decay
            if solver == "sgd":
                m.mul_(momentum).add_(g)
                tensor -= rate * m
            else:
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g**2)
                unbiased = (v / (1 - 0.999**update)).sqrt()
                tensor -= rate * (m / (1 - 0.9**update)) / (unbiased + 1e-8)
