"""Accuracy Differential Saliency: how much of a score each region of the input carries."""

from skff.saliency._comparison import MapComparison, compare_explanations
from skff.saliency._curves_display import PerturbationCurvesDisplay
from skff.saliency._display import ADSDisplay
from skff.saliency._doors import OcclusionPredictor, register_feature_wise
from skff.saliency._explainer import ADSExplainer
from skff.saliency._explanation import ADSExplanation
from skff.saliency.curves import PerturbationCurves, deletion_curve, insertion_curve

__all__ = [
    "ADSDisplay",
    "ADSExplainer",
    "ADSExplanation",
    "MapComparison",
    "OcclusionPredictor",
    "PerturbationCurves",
    "PerturbationCurvesDisplay",
    "compare_explanations",
    "deletion_curve",
    "insertion_curve",
    "register_feature_wise",
]
