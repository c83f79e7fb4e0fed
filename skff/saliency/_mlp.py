"""Predictions of scikit-learn's MLPClassifier under occlusion.

What a window adds to the first layer's pre-activations is a thin product with the weights of its
features, so the first layer costs the size of the window instead of all features, and rows in which
a window changes nothing cost nothing.
"""

from copy import copy

import numpy as np
from scipy.special import expit

ACTIVATIONS = {
    "identity": lambda z: z,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
}


class MLPOcclusionPredictor:
    """Predictions of a fitted MLPClassifier for samples with some features hidden.

    Parameters
    ----------
    mlp : MLPClassifier
        Fitted, with at least one hidden layer.
    X : array-like of shape (n_samples, n_features)
        Samples.
    fill : array-like of shape (1, n_features) or (n_samples, n_features)
        Values of hidden features.
    """

    def __init__(self, mlp, X, *, fill):
        self.X, self.fill = np.asarray(X), np.asarray(fill)
        self.activation = ACTIVATIONS[mlp.activation]
        # In double precision, so that taking off what a window hides leaves no rounding errors
        # worth mentioning.
        self.weights = mlp.coefs_[0].astype(np.float64)
        self.bias = mlp.intercepts_[0].astype(np.float64)
        self.dtype = mlp.coefs_[0].dtype
        self.rest = _without_first_layer(mlp)

    def predict(self, rows, pixels):
        """Predict ``X[rows]`` with the features `pixels` set to the fill.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,)
            Indices of samples.
        pixels : ndarray of shape (n_pixels,)
            Indices of features; may be empty.

        Returns
        -------
        y : ndarray of shape (n_rows,)
            Labels.
        """
        return self.predict_many(rows, [pixels])[0]

    def predict_many(self, rows, windows):
        """Predict ``X[rows]`` once per window with its features set to the fill.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,)
            Indices of samples.
        windows : list of ndarray
            Indices of the features that each window hides.

        Returns
        -------
        y : ndarray of shape (n_windows, n_rows)
            Labels.
        """
        x = self.X[rows].astype(np.float64)
        change = (self.fill if len(self.fill) == 1 else self.fill[rows]) - x
        Z = x @ self.weights + self.bias
        y = np.tile(self._predict_above(Z), (len(windows), 1))
        for labels, window in zip(y, windows, strict=True):
            window = np.unique(window)  # a feature named twice is hidden once
            hidden = change[:, window]
            changed = (hidden != 0).any(axis=1)
            if changed.any():
                shift = hidden[changed] @ self.weights[window]
                labels[changed] = self._predict_above(Z[changed] + shift)
        return y

    def _predict_above(self, Z):
        return self.rest.predict(self.activation(Z).astype(self.dtype))


def _without_first_layer(mlp):
    """Return the network that reads the activities of the first hidden layer."""
    rest = copy(mlp)
    rest.coefs_, rest.intercepts_ = mlp.coefs_[1:], mlp.intercepts_[1:]
    rest.n_layers_ -= 1
    rest.n_features_in_ = len(rest.coefs_[0])
    if hasattr(rest, "feature_names_in_"):
        del rest.feature_names_in_
    return rest
