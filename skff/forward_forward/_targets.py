"""Labels and weights as training wants them, and whether training can go on from a network."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils import column_or_1d
from sklearn.utils._missing import is_pandas_na, is_scalar_nan
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight

from skff._inputs import refuse_masked
from skff._locks import checks_lock
from skff._warnings import warn
from skff.exceptions import ScaleWarning
from skff.forward_forward import _parameters as parameters
from skff.forward_forward._features import as_array, validate_features
from skff.forward_forward._scale import warn_of_rounding
from skff.forward_forward.overlays import OVERLAYS

N_TRIED = 100  # samples that an overlay is tried on


@dataclass(frozen=True)
class Task:
    """Checked training data.

    Parameters
    ----------
    samples : tuple of (X, y, weight)
        Those of positive weight: their `Features` (n_samples, n_features), encoded labels
        (n_samples,) and weights (n_samples,), or None where all are equal.
    classes : ndarray of shape (n_classes,)
        What the encoded labels stand for.
    n_kept : int
        Features that the first layer reads.
    seen : dict of str -> object
        What scikit-learn's estimators remember of `X`, such as `n_features_in_`.
    """

    samples: tuple
    classes: np.ndarray
    n_kept: int
    seen: dict


def check_task(estimator, X, y, sample_weight, rule, *, go_on, classes=None):
    """Validate training data.

    Parameters
    ----------
    estimator : FFClassifier
        With valid parameters; not changed.
    X, y, sample_weight
        See `FFClassifier.fit`.
    rule : LearningRule
        Whose components are tried.
    go_on : bool
        Whether training goes on from the fitted network.
    classes : ndarray of shape (n_classes,), default=None
        All labels, sorted; None takes those in `y`.

    Returns
    -------
    task : Task
        What to train on.

    Raises
    ------
    ValueError
        On data that cannot be used.
    """
    # scikit-learn's validation sets attributes: on a stand-in, since the fit may fail yet.
    stand_in = object.__new__(type(estimator))
    vars(stand_in).update(vars(estimator))
    given, y = as_array(X), read_labels(y)
    X, y = validate_features(stand_in, given, y, reset=not go_on)
    with checks_lock:
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
    classes, y = encode_labels(y, np.unique(y) if go_on and classes is None else classes)
    n_kept = _check_kept(estimator, X, len(classes))
    parameters.check_components(rule, len(classes))
    used, weight = combine_weights(y, classes, sample_weight, estimator.class_weight)
    if used is not None:
        X, y = X[used], y[used]
    names = ("n_features_in_", "feature_names_in_")
    seen = {name: getattr(stand_in, name) for name in names if hasattr(stand_in, name)}
    warn_of_rounding(given, seen.get("feature_names_in_"))
    return Task((X, y, weight), classes, n_kept, seen)


def read_labels(y):
    """Return labels as an array, where they are one, without judging what they may be.

    Parameters
    ----------
    y : array-like of shape (n_samples,)

    Returns
    -------
    y : array-like of shape (n_samples,)

    Raises
    ------
    ValueError
        If labels are masked or missing, or of types that have no common order.
    """
    refuse_masked("y", y)
    if isinstance(y, torch.Tensor):
        return y.detach().cpu().numpy()
    labels = np.asarray(y) if hasattr(y, "__len__") else np.empty(0)
    if labels.dtype != object or labels.ndim != 1:
        return y
    missing = [k for k, label in enumerate(labels) if label is None or is_pandas_na(label)]
    missing += [k for k, label in enumerate(labels) if is_scalar_nan(label)]
    if missing:
        raise ValueError(
            f"Got y with {len(missing)} missing labels, such as number {missing[0]}, but expected "
            "a label for each sample: leave the others out."
        )
    try:
        np.unique(labels)
    except TypeError:
        types = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise ValueError(
            f"Got labels of the types {types}, but expected labels that can be sorted: convert "
            "them to one type, as with y.astype(str)."
        ) from None
    return y


def _check_kept(estimator, X, n_classes):
    X = next(X.blocks(N_TRIED))
    kept = parameters.component(OVERLAYS, estimator.overlay)(X, n_classes)
    if kept.ndim != 2 or len(kept) != len(X) or kept.shape[1] == 0:
        raise ValueError(
            f"Got an array of shape {kept.shape} from overlay={estimator.overlay!r} for X of shape "
            f"{X.shape}, but expected the same samples with at least one feature."
        )
    return kept.shape[1]


def all_classes(estimator, classes):
    """Return the labels that `partial_fit` learns, sorted.

    Parameters
    ----------
    estimator : FFClassifier
        Fitted or not.
    classes : array-like of shape (n_classes,) or None
        The parameter.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        Those of the first call.

    Raises
    ------
    ValueError
        If they are missing at the first call, not finite or not those of the first call.
    """
    if classes is None and not hasattr(estimator, "classes_"):
        raise ValueError(
            "Got classes=None at the first call of partial_fit, but expected all labels that "
            "will ever occur: the network has one label unit for each."
        )
    if classes is None:
        return estimator.classes_
    classes = np.unique(column_or_1d(classes))
    if classes.dtype.kind == "f" and not np.isfinite(classes).all():
        raise ValueError(f"Got classes={classes!r}, but expected finite labels.")
    if hasattr(estimator, "classes_") and not np.array_equal(classes, estimator.classes_):
        raise ValueError(
            f"Got classes={classes!r}, but expected those of the first call of partial_fit or "
            f"fit, {estimator.classes_!r}."
        )
    return classes


def encode_labels(y, classes=None):
    """Return the classes and `y` as their indices.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels.
    classes : ndarray of shape (n_classes,), default=None
        All labels, sorted; None takes those in `y`.

    Returns
    -------
    classes : ndarray of shape (n_classes,)
        Sorted.
    encoded : ndarray of shape (n_samples,), int64
        Indices into `classes`.

    Raises
    ------
    ValueError
        If a label is not among `classes`.
    """
    if classes is None:
        return np.unique(y, return_inverse=True)
    unknown = np.setdiff1d(y, classes)
    if len(unknown):
        raise ValueError(f"Got labels {unknown!r}, but expected only those in {classes!r}.")
    return classes, np.searchsorted(classes, y)


def check_same_task(estimator, task):
    """Refuse to go on from weights that belong to another task or architecture.

    Parameters
    ----------
    estimator : FFClassifier
        Fitted.
    task : Task
        The new data.

    Raises
    ------
    ValueError
        If the fitted network does not fit.
    """
    network = estimator._network
    overlay = parameters.component(OVERLAYS, estimator.overlay)
    sizes = parameters.layer_sizes(estimator.hidden_layer_sizes)
    head = "softmax" if network.head else "goodness"
    asked = {
        "labels": (task.classes.tolist(), estimator.classes_.tolist()),
        "hidden_layer_sizes": (sizes, [layer.n_units for layer in network.layers]),
        "overlay": tuple(parameters.name(OVERLAYS, used) for used in (overlay, network.overlay)),
        "features kept by the overlay": (task.n_kept, len(network.center)),
        "readout": ("goodness" if estimator.readout == "goodness" else "softmax", head),
    }
    for name, (got, expected) in asked.items():
        if got != expected:
            raise ValueError(
                f"Got {name}={got!r}, but expected {expected!r} as in the previous fit: training "
                "goes on from its weights."
            )


def combine_weights(y, classes, sample_weight, class_weight):
    """Multiply sample and class weights, and find the samples that count.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Encoded labels.
    classes : ndarray of shape (n_classes,)
        What they stand for.
    sample_weight : array-like of shape (n_samples,) or None
        Non-negative weights.
    class_weight : dict, "balanced" or None
        As in scikit-learn.

    Returns
    -------
    used : ndarray of shape (n_samples,), bool, or None
        Samples of positive weight; None where all count.
    weight : ndarray of shape (n_used,) or None
        Their weights, the largest of which is 1; None where all are equal.

    Raises
    ------
    ValueError
        On a weight that is negative or not finite, or where no sample has a positive one.
    """
    if sample_weight is None and class_weight is None:
        return None, None
    refuse_masked("sample_weight", sample_weight)
    with checks_lock:
        weight = _check_sample_weight(
            sample_weight,
            y,
            dtype=np.float64,
            ensure_non_negative=True,
            allow_all_zero_weights=True,
        )
    is_positive = weight > 0
    weight = _over_largest(weight)  # so that products stay within the range of numbers
    if class_weight is not None:
        by_class = compute_class_weight(class_weight, classes=classes, y=classes[y])
        if not np.isfinite(by_class).all() or (by_class < 0).any():
            raise ValueError(
                f"Got class_weight={class_weight!r}, but expected finite weights of at least 0."
            )
        is_positive &= by_class[y] > 0
        weight = _over_largest(weight * _over_largest(by_class)[y])
    if not weight.any():
        raise ValueError(
            "Got sample weights that, with the class weights, are all zero, but expected at least "
            "one positive weight."
        )
    used = weight > np.finfo(np.float32).tiny
    n_lost = np.count_nonzero(is_positive) - np.count_nonzero(used)
    if n_lost:
        warn(
            f"Got sample weights, {n_lost} of {len(weight)}, of less than 1e-38 of the largest, "
            "which float32 does not hold: left these samples out. Bring the weights nearer to each "
            "other, or set these to 0.",
            ScaleWarning,
        )
    return (None, weight) if used.all() else (used, weight[used])


def _over_largest(weight):
    """Return non-negative weights over the largest of them, or zeros as they are."""
    return weight / weight.max() if weight.any() else weight
