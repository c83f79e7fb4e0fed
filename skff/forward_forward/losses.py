"""Losses: ``(g_pos, g_neg)`` -> one loss per sample, small when positives beat negatives."""

from dataclasses import dataclass

import torch
from torch.nn.functional import softplus


@dataclass(frozen=True)
class SymBa:
    """Softplus of the goodness difference: ``softplus(-scale * (g_pos - g_neg)) / scale``.

    Parameters
    ----------
    scale : float, default=4.0
        Sharpness, in inverse units of goodness: a sample stops teaching once its positive leads
        by a few times ``1 / scale``.

    References
    ----------
    .. [1] H.-C. Lee and J. Song, "SymBa: Symmetric Backpropagation-Free Contrastive Learning
       with Forward-Forward Algorithm for Optimizing Convergence", arXiv:2303.08418, 2023.
    """

    scale: float = 4.0

    def __call__(self, g_pos, g_neg):
        """Compute the loss of each pair.

        Parameters
        ----------
        g_pos, g_neg : Tensor of shape (n,)
            Goodness of the positive and the negative samples.

        Returns
        -------
        loss : Tensor of shape (n,)
            Positive; falls in `g_pos`, rises in `g_neg`.
        """
        return softplus(-self.scale * (g_pos - g_neg)) / self.scale

    def slopes(self, g_pos, g_neg):
        """Return the derivatives with respect to `g_pos` and `g_neg`, each of shape (n,)."""
        slope = torch.sigmoid(self.scale * (g_neg - g_pos))
        return -slope, slope


@dataclass(frozen=True)
class Swish:
    """Swish-like loss of the goodness difference d: ``-d * sigmoid(-scale * d)``.

    Parameters
    ----------
    scale : float, default=6.0
        Sharpness, in inverse units of goodness.
    """

    scale: float = 6.0

    def __call__(self, g_pos, g_neg):
        """Compute the loss of each pair.

        Parameters
        ----------
        g_pos, g_neg : Tensor of shape (n,)
            Goodness of the positive and the negative samples.

        Returns
        -------
        loss : Tensor of shape (n,)
            ``-d * sigmoid(-scale * d)`` with ``d = g_pos - g_neg``.
        """
        d = g_pos - g_neg
        return -d * torch.sigmoid(-self.scale * d)

    def slopes(self, g_pos, g_neg):
        """Return the derivatives with respect to `g_pos` and `g_neg`, each of shape (n,)."""
        kd = self.scale * (g_pos - g_neg)
        s = torch.sigmoid(-kd)
        slope = s * (1 - kd * (1 - s))
        return -slope, slope


@dataclass(frozen=True)
class Logistic:
    """Two logistic losses around a threshold, the papers' own.

    ``(softplus(threshold - g_pos) + softplus(g_neg - threshold)) / 2``

    Parameters
    ----------
    threshold : float, default=2.0
        Goodness at which a sample counts as positive with probability one half. With
        `goodness="sum_square"` Hinton's choice is the layer's width.

    References
    ----------
    .. [1] G. Hinton, "The Forward-Forward Algorithm: Some Preliminary Investigations",
       arXiv:2212.13345, 2022, equation 1.
    .. [2] M. Bakhshi, "Novel Saliency Analysis for the Forward-Forward Algorithm",
       arXiv:2409.15365, 2024, equation 1 and Algorithm 1.
    """

    threshold: float = 2.0

    def __call__(self, g_pos, g_neg):
        """Compute the loss of each pair.

        Parameters
        ----------
        g_pos, g_neg : Tensor of shape (n,)
            Goodness of the positive and the negative samples.

        Returns
        -------
        loss : Tensor of shape (n,)
            Equals log 2 where both goodness values lie on the threshold.
        """
        return (softplus(self.threshold - g_pos) + softplus(g_neg - self.threshold)) / 2

    def slopes(self, g_pos, g_neg):
        """Return the derivatives with respect to `g_pos` and `g_neg`, each of shape (n,)."""
        return (
            -torch.sigmoid(self.threshold - g_pos) / 2,
            torch.sigmoid(g_neg - self.threshold) / 2,
        )


LOSSES = {"symba": SymBa(), "swish": Swish(), "logistic": Logistic()}


def loss_gradients(loss, g_pos, g_neg, weight):
    """Compute each sample's loss and the gradients of their weighted mean.

    Parameters
    ----------
    loss : callable
        ``(g_pos, g_neg)`` -> loss per sample. With a method `slopes` the derivatives are taken
        in closed form, otherwise by autograd on this elementwise graph alone.
    g_pos, g_neg : Tensor of shape (n,)
        Goodness of the positive and the negative samples.
    weight : Tensor of shape (n,) or float
        Weight of each sample in the mean over the batch.

    Returns
    -------
    losses : Tensor of shape (n,)
        Loss per sample, unweighted.
    dg_pos, dg_neg : Tensor of shape (n,)
        Gradient of ``(weight * losses).sum() / n``.
    """
    if hasattr(loss, "slopes"):
        losses, slopes = loss(g_pos, g_neg), loss.slopes(g_pos, g_neg)
    else:
        with torch.enable_grad():
            pair = g_pos.detach().requires_grad_(), g_neg.detach().requires_grad_()
            losses = loss(*pair)
            slopes = torch.autograd.grad(losses.sum(), pair)
    return losses.detach(), *(slope * (weight / len(losses)) for slope in slopes)
