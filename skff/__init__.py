"""Forward-Forward networks and Accuracy Differential Saliency for scikit-learn."""

from skff.forward_forward import FFClassifier

__all__ = ["FFClassifier"]

__version__ = "0.1.0"
