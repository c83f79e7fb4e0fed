"""Losses of a layer: small if positives have a higher goodness than negatives.

A *pair loss* is a function ``(g_pos, g_neg)`` -> one loss per sample. A loss with the attribute
``compares_all = True`` receives the goodness of all labels at once: ``(g, y, comparable)`` with `g`
of shape (n, n_labels), `y` of shape (n,), the column of the true label, and `comparable`, a mask of
the columns that count, or None if all columns count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn.functional import softplus

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SymBa:
    """Softplus of the goodness difference: ``softplus(-scale * (g_pos - g_neg)) / scale``.

    Parameters
    ----------
    scale : float, default=4.0
        Sharpness, in inverse units of goodness: a sample hardly contributes to learning once the
        goodness of its positive exceeds that of its negative by a few times ``1 / scale``.

    References
    ----------
    .. [1] H.-C. Lee and J. Song, "SymBa: Symmetric Backpropagation-Free Contrastive Learning
       with Forward-Forward Algorithm for Optimizing Convergence", arXiv:2303.08418, 2023.

    Examples
    --------
    >>> import torch
    >>> from skff.forward_forward.losses import SymBa
    >>> g_pos, g_neg = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 3.0])
    >>> SymBa(scale=1.0)(g_pos, g_neg)  # small where the positive leads
    tensor([0.1269, 2.1269])
    """

    scale: float = 4.0

    def __call__(self, g_pos: Tensor, g_neg: Tensor) -> Tensor:
        """Compute the loss of each pair.

        Parameters
        ----------
        g_pos, g_neg : Tensor of shape (n,)
            Goodness of the positive and the negative samples.

        Returns
        -------
        loss : Tensor of shape (n,)
            Positive; decreases in `g_pos` and increases in `g_neg`.
        """
        return softplus(-self.scale * (g_pos - g_neg)) / self.scale

    def derivatives(self, g_pos: Tensor, g_neg: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives with respect to `g_pos` and `g_neg`, each of shape (n,)."""
        derivative = torch.sigmoid(self.scale * (g_neg - g_pos))
        return -derivative, derivative


@dataclass(frozen=True)
class Swish:
    """Swish-like loss of the goodness difference d: ``-d * sigmoid(-scale * d)``.

    Parameters
    ----------
    scale : float, default=6.0
        Sharpness, in inverse units of goodness.

    Examples
    --------
    >>> import torch
    >>> from skff.forward_forward.losses import Swish
    >>> g_pos, g_neg = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 3.0])
    >>> Swish(scale=1.0)(g_pos, g_neg)  # small where the positive leads
    tensor([-0.2384,  1.7616])
    """

    scale: float = 6.0

    def __call__(self, g_pos: Tensor, g_neg: Tensor) -> Tensor:
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

    def derivatives(self, g_pos: Tensor, g_neg: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives with respect to `g_pos` and `g_neg`, each of shape (n,)."""
        kd = self.scale * (g_pos - g_neg)
        s = torch.sigmoid(-kd)
        derivative = s * (1 - kd * (1 - s))
        return -derivative, derivative


@dataclass(frozen=True)
class Logistic:
    """Two logistic losses around a threshold, as in the papers.

    ``(softplus(threshold - g_pos) + softplus(g_neg - threshold)) / 2``

    Parameters
    ----------
    threshold : float, default=2.0
        Goodness at which a sample counts as positive with probability one half. With
        ``goodness="sum_square"``, Hinton's choice is the width of the layer.

    References
    ----------
    .. [1] G. Hinton, "The Forward-Forward Algorithm: Some Preliminary Investigations",
       arXiv:2212.13345, 2022, equation 1.
    .. [2] M. Bakhshi, "Novel Saliency Analysis for the Forward-Forward Algorithm",
       arXiv:2409.15365, 2024, equation 1 and Algorithm 1.

    Examples
    --------
    >>> import torch
    >>> from skff.forward_forward.losses import Logistic
    >>> g_pos, g_neg = torch.tensor([3.0, 2.0]), torch.tensor([1.0, 2.0])
    >>> Logistic(threshold=2.0)(g_pos, g_neg)  # log 2 with both on the threshold
    tensor([0.3133, 0.6931])
    """

    threshold: float = 2.0

    def __call__(self, g_pos: Tensor, g_neg: Tensor) -> Tensor:
        """Compute the loss of each pair.

        Parameters
        ----------
        g_pos, g_neg : Tensor of shape (n,)
            Goodness of the positive and the negative samples.

        Returns
        -------
        loss : Tensor of shape (n,)
            Equals log 2 if both goodness values lie on the threshold.
        """
        return (softplus(self.threshold - g_pos) + softplus(g_neg - self.threshold)) / 2

    def derivatives(self, g_pos: Tensor, g_neg: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives with respect to `g_pos` and `g_neg`, each of shape (n,)."""
        return (
            -torch.sigmoid(self.threshold - g_pos) / 2,
            torch.sigmoid(g_neg - self.threshold) / 2,
        )


@dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy over the goodness of all labels, divided by `scale`.

    With targets ``t = (1 - label_smoothing) * onehot(y) + label_smoothing / n_labels`` the loss is
    ``-sum_c t_c log softmax(scale * g)_c / scale``. The positive is the true label and every wrong
    label is a negative, weighted by the probability that the layer assigns to it. For two labels
    and without smoothing this is `SymBa`.

    Parameters
    ----------
    scale : float, default=4.0
        Sharpness, in inverse units of goodness.
    label_smoothing : float in [0, 1), default=0.1
        Share of the target that is spread evenly over all labels.
    max_candidates : int, default=64
        With more classes than this, each batch compares the true label with a random subset of
        this many.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    References
    ----------
    .. [1] C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision",
       arXiv:1512.00567, 2015, section 7 (label smoothing).

    Examples
    --------
    The first sample has most goodness under its label, the second one under another:

    >>> import torch
    >>> from skff.forward_forward.losses import CrossEntropy
    >>> g, y = torch.tensor([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]]), torch.tensor([0, 1])
    >>> CrossEntropy(scale=1.0, label_smoothing=0.0)(g, y)
    tensor([0.1698, 2.1698])

    Its settings are passed to the classifier with it:

    >>> from skff import FFClassifier
    >>> ff = FFClassifier(loss=CrossEntropy(label_smoothing=0.05))
    """

    scale: float = 4.0
    label_smoothing: float = 0.1
    max_candidates: int = 64

    compares_all: ClassVar[bool] = True

    def __post_init__(self):
        """Validate the parameters."""
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"Got scale={self.scale!r}, but expected a positive finite number.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"Got label_smoothing={self.label_smoothing!r}, but expected a number in [0, 1): "
                "at 1 the target would not depend on the label."
            )
        if self.max_candidates < 2:
            raise ValueError(
                f"Got max_candidates={self.max_candidates!r}, but expected at least 2: one of the "
                "candidates may be the true label."
            )

    def __call__(self, g: Tensor, y: Tensor, comparable: Tensor | None = None) -> Tensor:
        """Compute the loss of each sample.

        Parameters
        ----------
        g : Tensor of shape (n, n_labels)
            Goodness of each sample under each label.
        y : LongTensor of shape (n,)
            Column of the true label.
        comparable : Tensor of shape (n, n_labels), bool, default=None
            Which columns count; None means all.

        Returns
        -------
        loss : Tensor of shape (n,)
            At least the entropy of the targets divided by `scale`.
        """
        return self.with_derivatives(g, y, comparable)[0]

    def with_derivatives(
        self, g: Tensor, y: Tensor, comparable: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the losses, (n,), and their derivatives with respect to `g`: softmax - target."""
        logits = self.scale * g
        share: float | Tensor = self.label_smoothing / g.shape[1]
        if comparable is not None:
            logits = logits.masked_fill(~comparable, -torch.inf)
            n_comparable = comparable.sum(1, keepdim=True)
            share = comparable.to(g.dtype).mul_(self.label_smoothing).div_(n_comparable)
        target = torch.zeros_like(g).add_(share)
        own = torch.full((g.shape[0], 1), 1 - self.label_smoothing, dtype=g.dtype, device=g.device)
        target.scatter_add_(1, y.unsqueeze(1), own)
        log_p = logits.log_softmax(1)
        # Excluded columns have target 0 and log-probability -inf; their product has to be 0.
        counted = log_p if comparable is None else log_p.masked_fill(~comparable, 0.0)
        loss = (counted * target).sum(1).div_(-self.scale)
        return loss, log_p.exp().sub_(target)


LOSSES = {
    "cross_entropy": CrossEntropy(),
    "symba": SymBa(),
    "swish": Swish(),
    "logistic": Logistic(),
}


def compares_all(loss):
    """Return whether a loss compares the goodness of all labels at once, not that of a pair."""
    return bool(getattr(loss, "compares_all", False))


def comparison_gradients(loss, g, y, weight, comparable=None):
    """Compute each sample's loss over all labels and the gradient of their weighted mean.

    Parameters
    ----------
    loss : callable
        A loss that compares all labels. If it has a method `with_derivatives`, the derivatives are
        computed in closed form, otherwise by autograd through the loss only.
    g : Tensor of shape (n, n_labels)
        Goodness.
    y : LongTensor of shape (n,)
        Column of the true label.
    weight : Tensor of shape (n,) or float
        Weight of each sample, divided by the size of the batch.
    comparable : Tensor of shape (n, n_labels), bool, default=None
        Which columns count; None means all.

    Returns
    -------
    losses : Tensor of shape (n,)
        Loss per sample, unweighted.
    dg : Tensor of shape (n, n_labels)
        Gradient of ``(weight * losses).sum()``.
    """
    if hasattr(loss, "with_derivatives"):
        losses, dg = loss.with_derivatives(g, y, comparable)
    else:
        with torch.enable_grad():
            g = g.detach().requires_grad_()
            losses = loss(g, y, comparable)
            (dg,) = torch.autograd.grad(losses.sum(), g)
    return losses.detach(), dg * (weight if isinstance(weight, float) else weight.unsqueeze(1))


def pair_gradients(loss, g_pos, g_neg, weight):
    """Compute each sample's loss and the gradients of their weighted mean.

    Parameters
    ----------
    loss : callable
        ``(g_pos, g_neg)`` -> loss per sample. If it has a method `derivatives`, they are computed
        in closed form, otherwise by autograd through the loss only.
    g_pos, g_neg : Tensor of shape (n,)
        Goodness of the positive and the negative samples.
    weight : Tensor of shape (n,) or float
        Weight of each sample, divided by the size of the batch.

    Returns
    -------
    losses : Tensor of shape (n,)
        Loss per sample, unweighted.
    dg_pos, dg_neg : Tensor of shape (n,)
        Gradient of ``(weight * losses).sum()``.
    """
    if hasattr(loss, "derivatives"):
        losses, derivatives = loss(g_pos, g_neg), loss.derivatives(g_pos, g_neg)
    else:
        with torch.enable_grad():
            pair = g_pos.detach().requires_grad_(), g_neg.detach().requires_grad_()
            losses = loss(*pair)
            derivatives = torch.autograd.grad(losses.sum(), pair)
    return losses.detach(), *(d * weight for d in derivatives)
