"""The learning rule from its equations: labelled input, dense layers, plain autograd, float64."""

import numpy as np
import torch
from torch.nn.functional import softplus

GOODNESS = {
    "mean_square": lambda h: h.pow(2).mean(-1),
    "sum_square": lambda h: h.pow(2).sum(-1),
}
LOSSES = {
    "symba": lambda g_pos, g_neg: softplus(-4 * (g_pos - g_neg)) / 4,
    "swish": lambda g_pos, g_neg: -(g_pos - g_neg) * torch.sigmoid(-6 * (g_pos - g_neg)),
    "logistic": lambda g_pos, g_neg: (softplus(2 - g_pos) + softplus(g_neg - 2)) / 2,
}


class PlainNetwork:
    """A fitted classifier's weights in dense layers; the first one reads label and features."""

    def __init__(self, clf, overlay="append"):
        self.n_classes = len(clf.label_coefs_)
        first, *others = clf.coefs_
        if overlay == "append":
            first = np.concatenate([clf.label_coefs_, first])
        self.coefs = [torch.tensor(coef, dtype=torch.float64) for coef in [first, *others]]
        self.intercepts = [torch.tensor(b, dtype=torch.float64) for b in clf.intercepts_]
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
        return torch.as_tensor(np.asarray(X, dtype=np.float64)[:, -self.n_kept :])

    def activities(self, inputs):
        """Return the activities of each layer, each reading the normalized ones below."""
        found = []
        for coef, intercept in zip(self.coefs, self.intercepts, strict=True):
            found.append(torch.relu(inputs @ coef + intercept))
            inputs = normalized(found[-1])
        return found

    def class_goodness(self, X, goodness):
        """Return the goodness (n_layers, n_samples, n_classes): one whole pass per class."""
        passes = [self.activities(self.labelled(X, np.full(len(X), c))) for c in self.classes]
        g = [[goodness(h) for h in activities] for activities in passes]
        return np.stack([np.stack(layers, axis=-1) for layers in zip(*g, strict=True)])

    @property
    def classes(self):
        """Return the encoded labels."""
        return range(self.n_classes)

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


def normalized(h):
    """Return rows of mean square 1; rows of zeros stay zero."""
    rms = h.pow(2).mean(1, keepdim=True).sqrt()
    return h / torch.where(rms > 0, rms, 1.0)


def train_plainly(plain, X, batches, rates, *, solver, momentum, weight_decay):
    """Train a plain network in place on batches of (rows, labels, wrong labels), SymBa loss."""
    first, second = [], []
    for update, ((rows, y, y_wrong), rate) in enumerate(zip(batches, rates, strict=True), 1):
        gradients = plain.gradients(
            X[rows], y, y_wrong, goodness=GOODNESS["mean_square"], loss=LOSSES["symba"]
        )
        flat = [g for pair in gradients for g in pair]
        parameters = [t for pair in plain.tensors() for t in pair]
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
