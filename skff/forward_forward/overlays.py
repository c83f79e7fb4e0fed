"""Overlays: how a label enters the network.

Label units are additional inputs of a layer, so its pre-activations are
``W @ inputs + amplitude * L[label]`` and the product with the inputs is shared by all labels. An
overlay is a function ``(X, n_classes) -> kept features``, which returns the features that the first
layer reads in addition to the label units. With the attribute ``every_layer = True`` all layers
have label units, otherwise only the first layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

Features = TypeVar("Features", torch.Tensor, np.ndarray)


@dataclass(frozen=True)
class Layerwise:
    """Keep all features and give label units to every layer.

    Each layer passes its activity under a neutral label to the next layer, so one pass through the
    network serves all labels, and each layer compares them separately.

    References
    ----------
    .. [1] G. Hinton, "The Forward-Forward Algorithm: Some Preliminary Investigations",
       arXiv:2212.13345, 2022, section 3.4 (the label as a top-down input of every layer).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skff import FFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> ff = FFClassifier((20, 10), overlay="layerwise", max_iter=1).fit(X, y)
    >>> [weights.shape for weights in ff.label_coefs_]  # label units at every layer
    [(3, 20), (3, 10)]
    """

    every_layer: ClassVar[bool] = True

    def __call__(self, X: Features, n_classes: int) -> Features:
        """Keep all features.

        Parameters
        ----------
        X : Tensor or ndarray of shape (n_samples, n_features)
            Features.
        n_classes : int
            Number of classes.

        Returns
        -------
        kept : Tensor or ndarray of shape (n_samples, n_features)
            `X`.
        """
        return X


def append(X: Features, n_classes: int) -> Features:
    """Keep all features, and give label units to the first layer only.

    Parameters
    ----------
    X : Tensor or ndarray of shape (n_samples, n_features)
        Features.
    n_classes : int
        Number of classes.

    Returns
    -------
    kept : Tensor or ndarray of shape (n_samples, n_features)
        A view of `X`.

    Examples
    --------
    >>> import numpy as np
    >>> from skff.forward_forward.overlays import append, overlay_labels
    >>> overlay_labels(np.full((1, 4), 0.5), [1], 3, overlay=append).tolist()
    [[0.0, 1.0, 0.0, 0.5, 0.5, 0.5, 0.5]]
    """
    return X


def replace(X: Features, n_classes: int) -> Features:
    """Drop the first `n_classes` features, and put the label in their place.

    Parameters
    ----------
    X : Tensor or ndarray of shape (n_samples, n_features)
        Features; in images with a black border, the first ones carry no information.
    n_classes : int
        Number of classes, less than `n_features`.

    Returns
    -------
    kept : Tensor or ndarray of shape (n_samples, n_features - n_classes)
        A view of `X`.

    Raises
    ------
    ValueError
        If no feature would be left.

    References
    ----------
    .. [1] G. Hinton, arXiv:2212.13345, 2022, section 3.3.
    .. [2] M. Bakhshi, "Novel Saliency Analysis for the Forward-Forward Algorithm",
       arXiv:2409.15365, 2024, Figure 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skff.forward_forward.overlays import overlay_labels, replace
    >>> overlay_labels(np.full((1, 4), 0.5), [1], 3, overlay=replace).tolist()
    [[0.0, 1.0, 0.0, 0.5]]
    """
    if X.shape[1] <= n_classes:
        raise ValueError(
            f"Got overlay='replace' with n_features={X.shape[1]} and n_classes={n_classes}, but "
            "expected n_features > n_classes: the label would replace every feature. "
            "Use overlay='append'."
        )
    return X[:, n_classes:]


OVERLAYS = {"layerwise": Layerwise(), "append": append, "replace": replace}


def reads_label_everywhere(overlay):
    """Return whether an overlay gives label units to every layer."""
    return bool(getattr(overlay, "every_layer", False))


def overlay_labels(
    X: ArrayLike,
    y: ArrayLike,
    n_classes: int,
    *,
    amplitude: float = 1.0,
    overlay: Callable[[Tensor, int], Tensor] = append,
) -> Tensor:
    """Build the labelled input of the first layer, for inspection and plots.

    Training and prediction do not build it, because they share the product with the features.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Features.
    y : array-like of shape (n_samples,)
        Labels, encoded as 0, ..., `n_classes` - 1.
    n_classes : int
        Number of classes.
    amplitude : float, default=1.0
        Value of the label unit that is on; the others are 0.
    overlay : callable, default=append
        A value of `OVERLAYS`.

    Returns
    -------
    labelled : Tensor of shape (n_samples, n_classes + n_kept)
        Label units, then the kept features.

    Examples
    --------
    The label in the first ten pixels, as in Figure 1 of Bakhshi (2024):

    >>> from sklearn.datasets import load_digits
    >>> from skff.forward_forward.overlays import overlay_labels, replace
    >>> X, y = load_digits(return_X_y=True)
    >>> labelled = overlay_labels(X / 16, y, 10, overlay=replace)
    >>> bool((labelled[:, :10].argmax(dim=1).numpy() == y).all())
    True
    """
    X = torch.as_tensor(X)
    units = torch.nn.functional.one_hot(torch.as_tensor(y), n_classes).to(X.dtype)
    return torch.cat([amplitude * units, overlay(X, n_classes)], dim=1)
