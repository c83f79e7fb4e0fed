"""What FFClassifier's parameters may be, and what their names stand for."""

import math
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions

from skff.forward_forward._precision import PRECISIONS
from skff.forward_forward._training import SCHEDULES
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES
from skff.forward_forward.negatives import NEGATIVES
from skff.forward_forward.overlays import OVERLAYS

FEW_FEATURES = 64

CONSTRAINTS = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "overlay": [StrOptions(set(OVERLAYS)), callable],
    "label_scale": [Interval(Real, 0, None, closed="neither")],
    "center": ["boolean"],
    "goodness": [StrOptions(set(GOODNESS)), callable],
    "loss": [StrOptions(set(LOSSES)), callable],
    "negatives": [StrOptions(set(NEGATIVES)), callable],
    "training": [StrOptions({"simultaneous", "greedy"})],
    "readout": [StrOptions({"goodness", "softmax"})],
    "skip_first_goodness": ["boolean"],
    "peer_normalization": [Interval(Real, 0, None, closed="left")],
    "augment": [callable, None],
    "dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
    "solver": [StrOptions({"adamw", "sgd"})],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "learning_rate": [StrOptions(set(SCHEDULES))],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "max_iter": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "tol": [Interval(Real, 0, None, closed="left")],
    "class_weight": [StrOptions({"balanced"}), dict, None],
    "matmul_precision": [StrOptions(set(PRECISIONS))],
    "device": [str, torch.device],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "verbose": ["verbose"],
}


def check_consistency(estimator):
    """Refuse parameters that are valid alone but not together.

    Parameters
    ----------
    estimator : FFClassifier
        Each parameter valid by itself.

    Raises
    ------
    ValueError
        Naming the parameters that contradict each other.
    """
    n_layers = len(layer_sizes(estimator.hidden_layer_sizes))
    if estimator.skip_first_goodness and n_layers < 2:
        raise ValueError(
            "Got skip_first_goodness=True with one layer, but expected at least two: nothing would "
            "be left to predict from."
        )
    needs = getattr(component(NEGATIVES, estimator.negatives), "needs", None)
    if needs == "readout" and (estimator.readout, estimator.training) != (
        "softmax",
        "simultaneous",
    ):
        raise ValueError(
            f"Got negatives={estimator.negatives!r} with readout={estimator.readout!r} and "
            f"training={estimator.training!r}, but expected readout='softmax' and "
            "training='simultaneous': these negatives come from a softmax head that learns along."
        )


def check_components(rule, network_classes):
    """Try custom components on two samples, so that a wrong one is named before training.

    Parameters
    ----------
    rule : Rule
        Goodness, loss and negatives.
    network_classes : int
        Number of classes; with one there are no negatives to try.

    Raises
    ------
    ValueError
        Naming the component and what it returned.
    """
    on_cpu = {"dtype": torch.float32, "device": "cpu"}  # whatever torch's own defaults are
    pair = torch.tensor([0.5, 1.0], **on_cpu)
    _check_output("goodness", rule.goodness, GOODNESS, (torch.ones(2, 3, **on_cpu),))
    _check_output("loss", rule.loss, LOSSES, (pair, pair.flip(0)))
    needs = getattr(rule.negatives, "needs", None)
    if needs not in (None, "goodness", "readout"):
        raise ValueError(
            f"Got negatives={rule.negatives!r} with needs={needs!r}, but expected 'goodness' or "
            "'readout'."
        )
    if network_classes < 2:
        return
    y = torch.arange(2, device="cpu")
    arguments = (y, network_classes, torch.Generator("cpu").manual_seed(0))
    if needs is not None:
        arguments += (lambda candidates: torch.zeros(2, len(candidates), **on_cpu),)
    y_wrong = _check_output("negatives", rule.negatives, NEGATIVES, arguments)
    if (y_wrong == y).any() or y_wrong.min() < 0 or y_wrong.max() >= network_classes:
        raise ValueError(
            f"Got labels {y_wrong.tolist()} from negatives={rule.negatives!r} for the true labels "
            f"{y.tolist()} of {network_classes} classes, but expected other labels of these."
        )


def _check_output(name, function, registry, arguments):
    if function in registry.values():
        return function(*arguments)
    try:
        output = function(*arguments)
        shape = tuple(output.shape)
    except Exception as error:
        raise ValueError(
            f"Got {name}={function!r}, which failed on two samples with "
            f"{type(error).__name__}: {error}; expected one of {sorted(registry)}, an instance "
            "of such a component or a callable of the same form."
        ) from error
    if shape != (2,):
        raise ValueError(
            f"Got an output of shape {shape} from {name}={function!r} for two samples, but "
            "expected (2,): one number per sample."
        )
    return output


def component(registry, value):
    """Return the component that a parameter names, or the parameter if it is one.

    Parameters
    ----------
    registry : dict
        Names -> components.
    value : str or callable
        A parameter that passed validation.

    Returns
    -------
    component : callable
        What the network and the training use.
    """
    return registry[value] if isinstance(value, str) else value


def layer_sizes(hidden_layer_sizes):
    """Return the units of each layer as a list of int.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int
        The parameter.

    Returns
    -------
    sizes : list of int
        At least one, all positive.

    Raises
    ------
    ValueError
        If there is no layer or a layer without units.
    """
    try:
        sizes = np.atleast_1d(np.asarray(hidden_layer_sizes, dtype=object))
    except ValueError:
        sizes = np.empty(0)
    if (
        sizes.ndim != 1
        or sizes.size == 0
        or not all(isinstance(n, Integral) and not isinstance(n, bool) and n > 0 for n in sizes)
    ):
        raise ValueError(
            f"Got hidden_layer_sizes={hidden_layer_sizes!r}, but expected at least one layer, "
            "each with an integer number of units of at least 1."
        )
    return [int(n) for n in sizes]


def resolve_batch_size(batch_size, n_samples, auto=100):
    """Return the samples per update: "auto" is a small part of the data within [16, 256].

    Parameters
    ----------
    batch_size : int or "auto"
        The parameter.
    n_samples : int
        Size of the training set, an upper bound.
    auto : int, default=100
        Updates per pass that "auto" aims at.

    Returns
    -------
    batch_size : int
        At least 1.
    """
    if batch_size == "auto":
        batch_size = int(np.clip(n_samples // auto, 16, 256))
    return min(batch_size, n_samples)


def resolve_max_iter(max_iter, n_samples, batch_size):
    """Return the epochs: "auto" is enough for 5,000 updates within [20, 60].

    Parameters
    ----------
    max_iter : int or "auto"
        The parameter.
    n_samples : int
        Size of the training set.
    batch_size : int or "auto"
        The parameter.

    Returns
    -------
    max_iter : int
        At least 1.
    """
    if max_iter != "auto":
        return max_iter
    n_updates = math.ceil(n_samples / resolve_batch_size(batch_size, n_samples))
    return int(np.clip(math.ceil(5000 / n_updates), 20, 60))


def resolve_dropout(dropout, n_features):
    """Return the share of features to drop: "auto" drops none where they are few.

    Parameters
    ----------
    dropout : float or "auto"
        The parameter.
    n_features : int
        Features of a sample.

    Returns
    -------
    dropout : float
        In [0, 1).
    """
    if dropout != "auto":
        return dropout
    return 0.0 if n_features < FEW_FEATURES else 0.1


def resolve_device(device):
    """Return the torch device: "auto" is CUDA where there is one, then MPS, then the CPU.

    Parameters
    ----------
    device : str or torch.device
        The parameter.

    Returns
    -------
    device : torch.device
        One that this machine has.

    Raises
    ------
    ValueError
        If torch does not know the device or this machine lacks it.
    """
    if device == "auto":
        return torch.device(_best_device())
    try:
        resolved = torch.device(device)
        torch.Generator(resolved)
        torch.zeros(1, device=resolved).tolist()
    except Exception as error:  # torch raises another type for each kind of missing device
        raise ValueError(
            f"Got device={device!r}, but expected 'auto' or a torch device of this machine, such "
            f"as '{_best_device()}': {str(error).splitlines()[0]}"
        ) from error
    return resolved


def _best_device():
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
