"""Networks trained with the Forward-Forward algorithm."""

from skff.forward_forward._classifier import FFClassifier

__all__ = ["FFClassifier"]
