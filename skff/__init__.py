"""Forward-Forward networks and Accuracy Differential Saliency for scikit-learn."""

from skff.saliency import ADSDisplay, ADSExplainer, ADSExplanation

__all__ = ["ADSDisplay", "ADSExplainer", "ADSExplanation", "FFClassifier"]

__version__ = "0.1.0"


def __getattr__(name):
    # torch takes longer to import than all else: who only explains need not wait for it.
    if name == "FFClassifier":
        from skff.forward_forward import FFClassifier

        return FFClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
