"""Warnings of skff for cases that scikit-learn's own warnings do not cover.

In addition, skff raises errors and issues warnings of scikit-learn's types
:class:`~sklearn.exceptions.NotFittedError`, :class:`~sklearn.exceptions.ConvergenceWarning` and
:class:`~sklearn.exceptions.DataConversionWarning`.
"""

__all__ = ["ConstantPredictionWarning", "ScaleWarning"]


class ScaleWarning(UserWarning):
    """Values are on a scale that differs too much from other features or from the training data.

    Examples
    --------
    >>> import warnings
    >>> from skff.exceptions import ScaleWarning
    >>> warnings.simplefilter("error", ScaleWarning)  # raise an error instead
    """


class ConstantPredictionWarning(UserWarning):
    """An estimator to be explained predicts the same label for all samples.

    Examples
    --------
    >>> import warnings
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.dummy import DummyClassifier
    >>> from skff import ADSExplainer
    >>> X, y = load_iris(return_X_y=True)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     explanation = ADSExplainer(DummyClassifier().fit(X, y), window_shape=1).explain(X, y)
    >>> caught[0].category.__name__
    'ConstantPredictionWarning'
    """
