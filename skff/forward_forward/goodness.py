"""Goodness: activities ``(..., n_units)`` -> one number per row ``(...)``, high on positives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SumSquare:
    """Sum of the squared activities, as in Hinton's equation 1.

    It grows with the number of units, so the loss or its threshold should be scaled with the width
    of the layer.

    References
    ----------
    .. [1] G. Hinton, "The Forward-Forward Algorithm: Some Preliminary Investigations",
       arXiv:2212.13345, 2022, section 2, equation 1.

    Examples
    --------
    >>> import torch
    >>> from skff.forward_forward.goodness import SumSquare
    >>> SumSquare()(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
    tensor([5., 9.])
    """

    def __call__(self, h: Tensor) -> Tensor:
        """Compute the goodness of each row of activities.

        Parameters
        ----------
        h : Tensor of shape (..., n_units)
            Activities after the rectifier.

        Returns
        -------
        g : Tensor of shape (...)
            Sum over the units of `h` squared.
        """
        # This reads h once; h.square().sum(-1) would write a tensor as large as h.
        return torch.linalg.vector_norm(h, dim=-1).square()

    def gradient_factor(self, n_units: int) -> float:
        """Return the number k for which the gradient is ``k * h``, so that autograd is not needed.

        Parameters
        ----------
        n_units : int
            Units of the layer.

        Returns
        -------
        factor : float
            The gradient of the goodness with respect to `h`, divided by `h`.
        """
        return 2.0


@dataclass(frozen=True)
class MeanSquare(SumSquare):
    """Mean of the squared activities: independent of the layer's width.

    Examples
    --------
    >>> import torch
    >>> from skff.forward_forward.goodness import MeanSquare
    >>> MeanSquare()(torch.tensor([[1.0, 2.0], [0.0, 3.0]]))
    tensor([2.5000, 4.5000])
    """

    def __call__(self, h: Tensor) -> Tensor:
        """Compute the goodness of each row of activities.

        Parameters
        ----------
        h : Tensor of shape (..., n_units)
            Activities after the rectifier.

        Returns
        -------
        g : Tensor of shape (...)
            Mean over the units of `h` squared.
        """
        return super().__call__(h) / h.shape[-1]

    def gradient_factor(self, n_units: int) -> float:
        """Return the number k for which the gradient is ``k * h``.

        Parameters
        ----------
        n_units : int
            Units of the layer.

        Returns
        -------
        factor : float
            The gradient of the goodness with respect to `h`, divided by `h`.
        """
        return 2.0 / n_units


GOODNESS = {"mean_square": MeanSquare(), "sum_square": SumSquare()}


def goodness_gradient(goodness, h, upstream):
    """Compute the gradient of ``(upstream * goodness(h)).sum()`` with respect to `h`.

    Parameters
    ----------
    goodness : callable
        Activities (n, n_units) -> goodness (n,). If it has a method `gradient_factor`, the
        gradient is computed in closed form, otherwise by autograd through `goodness` only.
    h : Tensor of shape (n, n_units)
        Activities.
    upstream : Tensor of shape (n,)
        Gradient of a loss with respect to each row's goodness.

    Returns
    -------
    dh : Tensor of shape (n, n_units)
        Gradient with respect to the activities.
    """
    if hasattr(goodness, "gradient_factor"):
        return h * (upstream * goodness.gradient_factor(h.shape[-1])).unsqueeze(-1)
    with torch.enable_grad():
        h = h.detach().requires_grad_()
        return torch.autograd.grad(goodness(h), h, upstream)[0]
