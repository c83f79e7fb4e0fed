"""What the benchmarks use of FFClassifier's inner parts, in one place."""

try:
    from skff.forward_forward._batches import drop_features
    from skff.forward_forward._trainer import SCHEDULES
    from skff.forward_forward.losses import CrossEntropy
except ImportError:  # before labels entered at every layer
    from skff.forward_forward._data import drop_features
    from skff.forward_forward._training import SCHEDULES

    CrossEntropy = None

try:
    from skff.forward_forward._distributed import balanced
except ImportError:  # before several processes could train together
    balanced = None

__all__ = ["SCHEDULES", "balanced", "drop_features", "label_weights", "smoothed_loss"]


def smoothed_loss(label_smoothing):
    """Return the loss of layers that compare all labels, with smoothed targets."""
    return CrossEntropy(label_smoothing=label_smoothing) if CrossEntropy else "symba"


def label_weights(classifier):
    """Return what each label adds to the first layer, an array (n_classes, n_units)."""
    weights = classifier.label_coefs_
    return weights[0] if isinstance(weights, list) else weights
