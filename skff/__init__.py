"""Forward-Forward networks and Accuracy Differential Saliency for scikit-learn."""

from importlib import import_module
from typing import TYPE_CHECKING

from skff.saliency import ADSDisplay, ADSExplainer, ADSExplanation

if TYPE_CHECKING:
    from skff.forward_forward import FFClassifier
    from skff.persistence import load, save

__all__ = ["ADSDisplay", "ADSExplainer", "ADSExplanation", "FFClassifier", "load", "save"]

__version__ = "0.1.0"

# torch takes longer to import than all else: who only explains need not wait for it.
_LAZY = {
    "FFClassifier": "skff.forward_forward",
    "load": "skff.persistence",
    "save": "skff.persistence",
}
_MODULES = {"datasets", "exceptions", "forward_forward", "mlp_baselines", "persistence", "recipes"}


def __getattr__(name):
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _MODULES:
        return import_module(f"skff.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__, *_MODULES})
