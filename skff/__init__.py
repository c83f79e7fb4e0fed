"""Forward-Forward networks and Accuracy Differential Saliency for scikit-learn."""

from skff.forward_forward import FFClassifier
from skff.saliency import ADSDisplay, ADSExplainer, ADSExplanation

__all__ = ["ADSDisplay", "ADSExplainer", "ADSExplanation", "FFClassifier"]

__version__ = "0.1.0"
