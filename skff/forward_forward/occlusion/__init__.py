"""Exact predictions under occlusion, at a fraction of the cost of predicting anew."""

from skff.forward_forward.occlusion._predictor import OcclusionPredictor

__all__ = ["OcclusionPredictor"]
