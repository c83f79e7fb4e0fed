"""Accuracy Differential Saliency: how much a score depends on each region of the input."""

from skff.saliency._comparison import (
    MapComparison,
    RandomizationCheck,
    RefitExplanations,
    compare_explanations,
    explain_refits,
    randomization_check,
)
from skff.saliency._display import ADSDisplay
from skff.saliency._doors import OcclusionPredictor, register_feature_wise
from skff.saliency._explainer import ADSExplainer
from skff.saliency._explanation import ADSExplanation
from skff.saliency._interactions import Interactions, InteractionsDisplay, interactions
from skff.saliency._shapley import ShapleyValues, shapley
from skff.saliency.curves import (
    PerturbationCurves,
    PerturbationCurvesDisplay,
    deletion_curve,
    insertion_curve,
)

__all__ = [
    "ADSDisplay",
    "ADSExplainer",
    "ADSExplanation",
    "Interactions",
    "InteractionsDisplay",
    "MapComparison",
    "OcclusionPredictor",
    "PerturbationCurves",
    "PerturbationCurvesDisplay",
    "RandomizationCheck",
    "RefitExplanations",
    "ShapleyValues",
    "compare_explanations",
    "deletion_curve",
    "explain_refits",
    "insertion_curve",
    "interactions",
    "randomization_check",
    "register_feature_wise",
    "shapley",
]
