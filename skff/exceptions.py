"""Warnings of skff where scikit-learn's own do not fit.

Beside these, skff raises and warns with scikit-learn's
:class:`~sklearn.exceptions.NotFittedError`, :class:`~sklearn.exceptions.ConvergenceWarning` and
:class:`~sklearn.exceptions.DataConversionWarning`.
"""

__all__ = ["ConstantPredictionWarning", "ScaleWarning"]


class ScaleWarning(UserWarning):
    """Numbers are on a scale on which they are lost: beside others, or beside those of the fit.

    Examples
    --------
    >>> import warnings
    >>> from skff.exceptions import ScaleWarning
    >>> warnings.simplefilter("error", ScaleWarning)  # whoever would rather have an error
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
