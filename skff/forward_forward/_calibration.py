"""How sure a difference of goodness makes: the scale of the class probabilities."""

import math

import torch
from scipy.optimize import minimize_scalar
from torch.nn.functional import cross_entropy

from skff.forward_forward._batches import drop_features

N_SAMPLES = 1000
BATCH = 250
HIDDEN = 0.5  # share of the features
WIDEST = 100.0  # of the scale in which to look, over that of the loss


def probability_scale(network, rule, data, generator):
    """Return the factor on the mean goodness in the softmax of the class probabilities.

    For a loss without label smoothing, its own `scale` gives calibrated probabilities. Label
    smoothing makes the layers underconfident, but on the samples they were trained on they may be
    overconfident. The result is therefore the geometric mean of the loss's own scale and the
    maximum-likelihood scale on training samples with half of their features hidden, if that is
    larger.

    Parameters
    ----------
    network : Network
        Trained.
    rule : LearningRule
        What its layers learnt from.
    data : TrainingData
        Where up to 1,000 samples are drawn.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    scale : float
        At least that of the loss.

    References
    ----------
    .. [1] C. Guo et al., "On Calibration of Modern Neural Networks", arXiv:1706.04599, 2017
       (temperature scaling).
    """
    scale = float(getattr(rule.loss, "scale", 1.0))
    if network.head or network.n_classes == 1 or not getattr(rule.loss, "label_smoothing", 0.0):
        return scale
    order = torch.randperm(len(data), generator=generator, device=network.device)[:N_SAMPLES]
    parts = []
    for rows in order.split(BATCH):  # as many as in training, so that memory does not peak here
        f, y, weight = data.batch(rows, generator, dropout=0.0)
        logits = network.logits_of(network.scores(drop_features(f, HIDDEN, generator)), scale)
        parts.append((logits.double(), y, torch.as_tensor(weight, device=y.device).expand(len(y))))
    logits, y, weight = map(torch.cat, zip(*parts, strict=True))

    def loss(log_factor):
        losses = cross_entropy(math.exp(log_factor) * logits, y, reduction="none")
        return float((losses * weight).mean())

    found = minimize_scalar(loss, bounds=(0.0, math.log(WIDEST)), method="bounded")
    return scale * math.exp(found.x / 2)
