"""Overlays: how a label joins the features in one input vector.

Every overlay puts `n_classes` label units in front of the features it keeps, so a network's
first layer splits into ``W @ kept + amplitude * L[label]`` and the product with the features is
shared by all labels. An overlay is a function ``(X, n_classes) -> kept features``.
"""

import torch


def append(X, n_classes):
    """Keep all features: the label units stand beside them and nothing is overwritten.

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
    """
    return X


def replace(X, n_classes):
    """Give up the first `n_classes` features, whose places the label takes.

    Parameters
    ----------
    X : Tensor or ndarray of shape (n_samples, n_features)
        Features; in images with a black border the first ones carry nothing.
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
    """
    if X.shape[1] <= n_classes:
        raise ValueError(
            f"Got overlay='replace' with n_features={X.shape[1]} and n_classes={n_classes}, but "
            "expected n_features > n_classes: the label would replace every feature. "
            "Use overlay='append'."
        )
    return X[:, n_classes:]


OVERLAYS = {"append": append, "replace": replace}


def overlay_labels(X, y, n_classes, *, amplitude=1.0, overlay=append):
    """Build the labelled input the network is defined on, for inspection and for pictures.

    Training and prediction never build it: they share the product with the features.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Features.
    y : array-like of shape (n_samples,)
        Labels, encoded as 0, ..., `n_classes` - 1.
    n_classes : int
        Number of classes.
    amplitude : float, default=1.0
        Value of the unit that stands for the label; the others are 0.
    overlay : callable, default=append
        A value of `OVERLAYS`.

    Returns
    -------
    labelled : Tensor of shape (n_samples, n_classes + n_kept)
        Label units, then the kept features.
    """
    X = torch.as_tensor(X)
    units = torch.nn.functional.one_hot(torch.as_tensor(y), n_classes).to(X.dtype)
    return torch.cat([amplitude * units, overlay(X, n_classes)], dim=1)
