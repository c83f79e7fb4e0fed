"""Plain loops written apart from the package, and classifiers with a known map."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


def plain_center_map(score, X, y, *, side=3, fill=0.0):
    """Return the map of the "center" rule at stride 1 for images X of shape (n, H, W)."""
    n_rows, n_columns = X.shape[1:]
    importances = np.empty((n_rows, n_columns))
    half = side // 2
    for i in range(n_rows):
        for j in range(n_columns):
            hidden = X.copy()
            hidden[:, max(i - half, 0) : i + half + 1, max(j - half, 0) : j + half + 1] = fill
            importances[i, j] = score(X, y) - score(hidden, y)
    return importances


class FixedClassifier(ClassifierMixin, BaseEstimator):
    """Classifies by a rule that needs no fitting."""

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True


class ConstantClassifier(FixedClassifier):
    """Says 0, whatever X is."""

    def predict(self, X):
        return np.zeros(len(X), dtype=int)


class OnePixelClassifier(FixedClassifier):
    """Says whether one feature of flat samples is above 0."""

    def __init__(self, feature=0):
        self.feature = feature

    def predict(self, X):
        return (np.asarray(X).reshape(len(X), -1)[:, self.feature] > 0).astype(int)


class RenamedClassifier(FixedClassifier):
    """Says `labels[0]`, or `labels[1]` where the fifth feature is above 0."""

    def __init__(self, labels=(0, 1)):
        self.labels = labels

    def predict(self, X):
        return np.asarray(self.labels)[(X[:, 4] > 0).astype(int)]


class XorClassifier(FixedClassifier):
    """Says whether the first two features have the same sign; a 0 has none."""

    def predict(self, X):
        return (X[:, 0] * X[:, 1] > 0).astype(int)


class EitherClassifier(FixedClassifier):
    """Says whether the first two features sum to more than 0."""

    def predict(self, X):
        return (X[:, 0] + X[:, 1] > 0).astype(int)


class OwnFeatureClassifier(FixedClassifier):
    """Reads one feature of each sample, that which the last feature names."""

    def predict(self, X):
        return (X[np.arange(len(X)), X[:, -1].astype(int)] > 0).astype(int)


def own_feature_case(n_features=4, n_samples=40):
    """Return samples of class 1, each of which depends on one feature."""
    X = np.ones((n_samples, n_features + 1))
    X[:, -1] = np.random.default_rng(0).integers(n_features, size=n_samples)
    return OwnFeatureClassifier(), X, np.ones(n_samples, int)


class BatchClassifier(FixedClassifier):
    """Says whether a sample's sum is above its batch's mean: depends on the batch."""

    def predict(self, X):
        sums = np.asarray(X).sum(axis=1)
        return (sums > sums.mean()).astype(int)


class LinearClassifier(FixedClassifier):
    """Takes the class of the largest of random linear functions; opens the occlusion door."""

    def __init__(self, n_features=1, n_classes=3, seed=0):
        self.n_features = n_features
        self.n_classes = n_classes
        self.seed = seed

    def coefs(self):
        # Small integers: sums are exact in any order, so ties are ties in every engine.
        rng = np.random.default_rng(self.seed)
        return rng.integers(-4, 5, (self.n_features, self.n_classes)).astype(float)

    def predict(self, X):
        return (np.asarray(X, dtype=float) @ self.coefs()).argmax(axis=1)

    def occlusion_predictor(self, X, *, fill):
        return LinearPredictor(np.asarray(X, dtype=float), fill, self.coefs())


class LinearPredictor:
    """Updates the linear functions by what a window changes."""

    def __init__(self, X, fill, coefs):
        self.X, self.fill, self.coefs = X, np.broadcast_to(fill, X.shape), coefs
        self.base = X @ coefs

    def predict_many(self, rows, windows):
        labels = [self.predict(rows, pixels) for pixels in windows]
        return np.stack(labels), {"updates": len(rows) * sum(map(len, windows))}

    def predict(self, rows, pixels):
        change = self.fill[rows][:, pixels] - self.X[rows][:, pixels]
        return (self.base[rows] + change @ self.coefs[pixels]).argmax(axis=1)


class UnanimousClassifier(FixedClassifier):
    """Is right about a sample only where all of the sample's own features are shown.

    The last feature says which sample it is; features are shown where they are 1. The Shapley
    value of a feature is 1 / k for each sample with k own features, of which it is one.
    """

    def __init__(self, own_features):
        self.own_features = own_features

    def predict(self, X):
        """Return 1 or 0 for each sample, 1 being right."""
        own = np.asarray(self.own_features, dtype=bool)[X[:, -1].astype(int)]
        return (X[:, :-1].astype(bool) | ~own).all(axis=1).astype(int)

    def shapley_values(self, weight=None):
        """Return the exact values with weights of the samples, in closed form."""
        own = np.asarray(self.own_features, dtype=float)
        return np.average(own / own.sum(axis=1, keepdims=True), axis=0, weights=weight)
