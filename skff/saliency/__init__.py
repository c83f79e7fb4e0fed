"""Accuracy Differential Saliency: how much of a score each region of the input carries."""

from skff.saliency._display import ADSDisplay
from skff.saliency._explainer import ADSExplainer
from skff.saliency._explanation import ADSExplanation

__all__ = ["ADSDisplay", "ADSExplainer", "ADSExplanation"]
