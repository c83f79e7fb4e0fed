"""Negative samplers: ``(y, n_classes, generator) -> y_wrong``, never the true label.

A sampler with the attribute ``needs`` receives a fourth argument, a function that scores candidate
labels: labels (n_candidates,) -> scores (n_samples, n_candidates). With ``needs = "goodness"`` the
scores are the goodness of the layer being trained (of the first layer if only that reads the
label), with ``needs = "readout"`` the log-probabilities of the softmax head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor


def uniform(y: Tensor, n_classes: int, generator: Generator) -> Tensor:
    """Draw one wrong label per sample, uniformly over the other classes.

    Parameters
    ----------
    y : LongTensor of shape (n_samples,)
        True labels, encoded as 0, ..., `n_classes` - 1.
    n_classes : int
        Number of classes, at least 2.
    generator : torch.Generator
        Source of randomness.

    Returns
    -------
    y_wrong : LongTensor of shape (n_samples,)
        Differs from `y` at every sample.

    Raises
    ------
    ValueError
        If `n_classes` < 2.

    Examples
    --------
    >>> import torch
    >>> from skff.forward_forward.negatives import uniform
    >>> y = torch.tensor([0, 1, 2, 2])
    >>> wrong = uniform(y, 3, torch.Generator().manual_seed(0))
    >>> bool((wrong == y).any())
    False
    """
    _check_n_classes(n_classes)
    # A shift of 1 to n_classes - 1 cannot reach the true label, so no redraw is needed.
    shift = torch.randint(1, n_classes, y.shape, generator=generator, device=y.device)
    return (y + shift) % n_classes


@dataclass(frozen=True)
class Hard:
    """Draw wrong labels to which the layer gives a high goodness.

    The label is drawn from a softmax over the wrong classes' goodness in the layer (in the first
    layer, if only that reads the label). The layer's product with its inputs is shared by all
    labels, so the draw costs only elementwise work.

    Parameters
    ----------
    sharpness : float, default=4.0
        Factor on the goodness inside the softmax; 0 draws uniformly.
    max_candidates : int, default=64
        With more classes than this, each batch draws among a random subset of this many.

    Examples
    --------
    >>> import torch
    >>> from skff.forward_forward.negatives import Hard
    >>> y = torch.tensor([0, 1])
    >>> goodness = torch.tensor([[9.0, 8.0, 0.0], [0.0, 9.0, 8.0]])
    >>> generator = torch.Generator().manual_seed(0)
    >>> Hard()(y, 3, generator, lambda labels: goodness[:, labels])  # best wrong label of each
    tensor([1, 2])
    """

    sharpness: float = 4.0
    max_candidates: int = 64

    needs: ClassVar[str] = "goodness"

    def __post_init__(self):
        """Validate the number of candidates."""
        if self.max_candidates < 2:
            raise ValueError(
                f"Got max_candidates={self.max_candidates}, but expected at least 2: one of the "
                "candidates may be the true label."
            )

    def __call__(
        self,
        y: Tensor,
        n_classes: int,
        generator: Generator,
        score: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Draw one wrong label per sample.

        Parameters
        ----------
        y : LongTensor of shape (n_samples,)
            True labels, encoded as 0, ..., `n_classes` - 1.
        n_classes : int
            Number of classes, at least 2.
        generator : torch.Generator
            Source of randomness.
        score : callable, default=None
            Labels (n_candidates,) -> goodness (n_samples, n_candidates). Without it every
            wrong label is equally hard.

        Returns
        -------
        y_wrong : LongTensor of shape (n_samples,)
            Differs from `y` at every sample.

        Raises
        ------
        ValueError
            If `n_classes` < 2.
        """
        _check_n_classes(n_classes)
        if score is None:
            return uniform(y, n_classes, generator)
        candidates = draw_candidates(n_classes, self.max_candidates, generator, y.device)
        logits = score(candidates) * self.sharpness
        # Gumbel noise turns the argmax into a draw from the softmax.
        noise = torch.empty_like(logits).exponential_(generator=generator).log_()
        logits.sub_(noise).masked_fill_(candidates == y.unsqueeze(1), -torch.inf)
        return candidates[logits.argmax(1)]


@dataclass(frozen=True)
class Confused(Hard):
    """Draw wrong labels in proportion to the probability that the softmax head gives them.

    Needs ``readout="softmax"``.

    Parameters
    ----------
    sharpness : float, default=1.0
        Factor on the log-probability.
    max_candidates : int, default=64
        With more classes than this, each batch draws among a random subset of this many.

    References
    ----------
    .. [1] G. Hinton, "The Forward-Forward Algorithm: Some Preliminary Investigations",
       arXiv:2212.13345, 2022, section 3.3 (hard negative labels).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skff import FFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> ff = FFClassifier((20, 20), negatives="confused", readout="softmax", max_iter=3)
    >>> ff.fit(X, y).n_iter_
    3
    """

    sharpness: float = 1.0

    needs: ClassVar[str] = "readout"


NEGATIVES = {"uniform": uniform, "hard": Hard(), "confused": Confused()}


def draw_candidates(n_classes, max_candidates, generator, device):
    """Return the labels to compare in a batch: all, or a random subset if there are too many.

    Parameters
    ----------
    n_classes, max_candidates : int
        Number of classes, and largest number of candidates.
    generator : torch.Generator
        Source of randomness.
    device : torch.device
        Device of the generator.

    Returns
    -------
    candidates : LongTensor of shape (min(n_classes, max_candidates),)
        Labels, in ascending order if all classes are candidates.
    """
    if n_classes <= max_candidates:
        return torch.arange(n_classes, device=device)
    shuffled = torch.randperm(n_classes, generator=generator, device=device)
    return shuffled[:max_candidates]


def draw_negatives(sampler, y, n_classes, generator, scores):
    """Call a sampler, with the scores that it declares to need.

    Parameters
    ----------
    sampler : callable
        A value of `NEGATIVES` or one of the same form.
    y : LongTensor of shape (n_samples,)
        True labels.
    n_classes : int
        Number of classes.
    generator : torch.Generator
        Source of randomness.
    scores : dict of str -> callable
        The scores that a sampler may need: labels (n_candidates,) -> scores
        (n_samples, n_candidates).

    Returns
    -------
    y_wrong : LongTensor of shape (n_samples,)
        Negative labels.
    """
    if hasattr(sampler, "needs"):
        return sampler(y, n_classes, generator, scores[sampler.needs])
    return sampler(y, n_classes, generator)


def _check_n_classes(n_classes):
    if n_classes < 2:
        raise ValueError(f"Got n_classes={n_classes}, but a wrong label needs at least 2.")
