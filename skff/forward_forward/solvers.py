"""Solvers: ``make(tensors, learning_rate)`` -> the torch optimizer that updates the layers."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization",
       arXiv:1711.05101, 2017.

    Examples
    --------
    >>> from skff import FFClassifier
    >>> ff = FFClassifier(solver="adamw", weight_decay=1e-3)  # the trainer decays the weights
    """

    def make(self, tensors: list[Tensor], learning_rate: float) -> torch.optim.Optimizer:
        """Return an optimizer for some tensors; the trainer applies the weight decay."""
        return _AdamW(tensors, lr=learning_rate, weight_decay=0.0, fused=_has_fused(tensors))


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum.

    Parameters
    ----------
    momentum : float in [0, 1), default=0.9
        Share of the previous step that is added to each step.

    Raises
    ------
    ValueError
        If `momentum` is out of its range.

    Examples
    --------
    >>> from skff import FFClassifier
    >>> from skff.forward_forward.solvers import SGD
    >>> ff = FFClassifier(solver=SGD(momentum=0.8), learning_rate_init=0.05)
    """

    momentum: float = 0.9

    def __post_init__(self):
        """Validate the momentum."""
        if not 0 <= self.momentum < 1:
            raise ValueError(f"Got momentum={self.momentum!r}, but expected a number in [0, 1).")

    def make(self, tensors: list[Tensor], learning_rate: float) -> torch.optim.Optimizer:
        """Return an optimizer for some tensors."""
        return _SGD(tensors, lr=learning_rate, momentum=self.momentum, fused=_has_fused(tensors))


SOLVERS = {"adamw": AdamW(), "sgd": SGD()}


def _without_compiler(optimizer):
    """Return a torch optimizer that does not import torch's compiler, which nothing here uses.

    Of these methods, the first one called would import it, in seconds and tens of megabytes.
    """
    names = ("add_param_group", "load_state_dict", "state_dict", "step")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in names}
    return type(optimizer.__name__, (optimizer,), methods)


_AdamW = _without_compiler(torch.optim.AdamW)
_SGD = _without_compiler(torch.optim.SGD)


def _has_fused(tensors):
    return tensors[0].device.type in ("cpu", "cuda")
