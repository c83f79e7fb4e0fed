"""What FFClassifier's parameters may be, and what their names stand for."""

import math
import os
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skff.forward_forward._distributed import TEAMS
from skff.forward_forward._gradients import LearningRule
from skff.forward_forward._torch import PRECISIONS, resolve_device
from skff.forward_forward._trainer import SCHEDULES
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES, CrossEntropy, SymBa, compares_all
from skff.forward_forward.negatives import NEGATIVES, Hard
from skff.forward_forward.overlays import OVERLAYS, reads_label_everywhere
from skff.forward_forward.readouts import READOUTS, Softmax
from skff.forward_forward.solvers import SOLVERS

FEW_FEATURES = 64
# Of the mean strength of a batch: two in five samples are drawn once a network has learnt. Held-out
# images of MNIST and Fashion-MNIST do not tell 0.8 and 1.6 apart.
ALWAYS_USED = 1.6
WORTH_DRAWING = 2**23  # multiplications: some tenths of a millisecond

CONSTRAINTS = {
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "overlay": [StrOptions(set(OVERLAYS)), callable],
    "label_scale": [Interval(Real, 0, None, closed="neither")],
    "center": ["boolean"],
    "goodness": [StrOptions(set(GOODNESS)), callable],
    "loss": [StrOptions({"auto", *LOSSES}), callable],
    "negatives": [StrOptions({"auto", "all", *NEGATIVES}), callable],
    "training": [StrOptions({"simultaneous", "greedy"})],
    "readout": [StrOptions(set(READOUTS)), Softmax],
    "skip_first_goodness": ["boolean"],
    "peer_normalization": [Interval(Real, 0, None, closed="left")],
    "augment": [callable, None],
    "dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
    "solver": [StrOptions(set(SOLVERS)), HasMethods("make")],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
    "learning_rate": [StrOptions(set(SCHEDULES))],
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
    "parallel": [StrOptions(set(TEAMS)), None],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "checkpoint": [str, os.PathLike, None],
    "checkpoint_every": [Interval(Integral, 1, None, closed="left")],
    "keep_interrupted": ["boolean"],
    "verbose": ["verbose"],
}


def check(estimator):
    """Validate all parameters, each by itself and together.

    Parameters
    ----------
    estimator : FFClassifier

    Returns
    -------
    rule : LearningRule
        What the layers learn from.

    Raises
    ------
    ValueError
        Naming the parameters that are wrong or contradict each other.
    """
    estimator._validate_params()
    resolve_device(estimator.device)
    n_layers = len(layer_sizes(estimator.hidden_layer_sizes))
    if estimator.skip_first_goodness and n_layers < 2:
        raise ValueError(
            "Got skip_first_goodness=True with one layer, but expected at least two: nothing would "
            "be left to predict from."
        )
    _check_solver(estimator.solver)
    rule = learning_rule(estimator)
    needs = getattr(rule.negatives, "needs", None)
    learns_along = estimator.readout != "goodness" and estimator.training == "simultaneous"
    if needs == "readout" and not learns_along:
        raise ValueError(
            f"Got negatives={estimator.negatives!r} with readout={estimator.readout!r} and "
            f"training={estimator.training!r}, but expected readout='softmax' and "
            "training='simultaneous': these negatives come from a softmax head that is trained at "
            "the same time."
        )
    if estimator.parallel is not None and estimator.keep_interrupted:
        raise ValueError(
            f"Got keep_interrupted=True with parallel={estimator.parallel!r}, but expected False: "
            "processes are interrupted at different moments. Set a checkpoint to resume from."
        )
    if estimator.parallel == "layers":
        _check_layers_apart(estimator, needs)
    return rule


def _check_layers_apart(estimator, needs):
    """Refuse what a layer cannot learn from while it hears of nothing but the activities below."""
    for name, fits, wanted, why in [
        (
            "overlay",
            reads_label_everywhere(component(OVERLAYS, estimator.overlay)),
            "overlay='layerwise'",
            "elsewhere positives and negatives go up apart, with the labels that the first layer "
            "drew",
        ),
        (
            "training",
            estimator.training == "simultaneous",
            "training='simultaneous'",
            "one layer at a time gives the other processes nothing to do",
        ),
        (
            "negatives",
            needs != "readout",
            "another negatives",
            "these come from a softmax head, which reads the layers above",
        ),
    ]:
        if not fits:
            raise ValueError(
                f"Got parallel='layers' with {name}={getattr(estimator, name)!r}, but expected "
                f"{wanted}: {why}. Set parallel='data' instead."
            )


def learning_rule(estimator):
    """Return what the layers learn from; "auto" follows from how the label enters.

    Parameters
    ----------
    estimator : FFClassifier
        Each parameter valid by itself.

    Returns
    -------
    rule : LearningRule
        Its `negatives` are None where the loss compares all labels.

    Raises
    ------
    ValueError
        If overlay, loss and negatives contradict each other.
    """
    overlay, loss, negatives = estimator.overlay, estimator.loss, estimator.negatives
    everywhere = reads_label_everywhere(component(OVERLAYS, overlay))
    if loss == "auto":
        loss = CrossEntropy() if everywhere and negatives in ("auto", "all") else SymBa()
    loss = component(LOSSES, loss)
    if compares_all(loss) and not everywhere:
        raise ValueError(
            f"Got loss={estimator.loss!r} with overlay={overlay!r}, but expected a layer that "
            "reads the label under a loss that compares all labels. Set overlay='layerwise', or "
            "a pair loss such as loss='symba'."
        )
    if compares_all(loss) and negatives not in ("auto", "all"):
        raise ValueError(
            f"Got negatives={negatives!r} with loss={estimator.loss!r}, but expected "
            "negatives='all': this loss compares all labels. Set a pair loss, such as "
            "loss='symba', to draw negatives."
        )
    if not compares_all(loss) and negatives == "all":
        raise ValueError(
            f"Got negatives='all' with loss={estimator.loss!r} and overlay={overlay!r}, but "
            "expected drawn negatives: a pair loss compares with one wrong label. Set "
            "negatives='hard', or "
            "overlay='layerwise' and loss='cross_entropy' to compare all labels."
        )
    if compares_all(loss):
        negatives = None
    elif negatives == "auto":
        negatives = Hard()
    return LearningRule(
        goodness=component(GOODNESS, estimator.goodness),
        loss=loss,
        negatives=component(NEGATIVES, negatives),
        peer_normalization=estimator.peer_normalization,
        always_used=ALWAYS_USED,
        worth_drawing=WORTH_DRAWING,
    )


def _check_solver(solver):
    """Let a solver make an optimizer, so that a wrong one is named before training."""
    try:
        optimizer = component(SOLVERS, solver).make([torch.zeros(1, device="cpu")], 0.1)
        (_,) = optimizer.param_groups  # whose learning rate the trainer sets
    except Exception as error:
        raise ValueError(
            f"Got solver={solver!r}, which failed with {type(error).__name__}: {error}; expected "
            f"one of {sorted(SOLVERS)}, an instance such as SGD(momentum=0.5) or an object of the "
            "same form, whose optimizer has one group of parameters."
        ) from error


def check_components(rule, network_classes):
    """Try custom components on two samples, so that a wrong one is named before training.

    Parameters
    ----------
    rule : LearningRule
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
    labels = torch.tensor([0, 1], device="cpu")
    table = torch.eye(2, max(2, network_classes), **on_cpu)
    arguments = (table, labels, None) if compares_all(rule.loss) else (pair, pair.flip(0))
    _check_output("loss", rule.loss, LOSSES, arguments)
    needs = getattr(rule.negatives, "needs", None)
    if needs not in (None, "goodness", "readout"):
        raise ValueError(
            f"Got negatives={rule.negatives!r} with needs={needs!r}, but expected 'goodness' or "
            "'readout'."
        )
    if network_classes < 2 or rule.negatives is None:
        return
    y = labels
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


def name(registry, component):
    """Return the name of a registered component, or the component if it is of a user's own.

    Parameters
    ----------
    registry : dict
        Names -> components.
    component : callable
        As returned by `component`.

    Returns
    -------
    name : str or callable
        What a message should show.
    """
    return next((name for name, known in registry.items() if known == component), component)


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


def check_memory(sizes, n_classes):
    """Refuse layers that no memory of this machine can hold.

    Parameters
    ----------
    sizes : list of int
        Kept features, then the units of each layer.
    n_classes : int
        Number of classes.

    Raises
    ------
    ValueError
        If weights, gradients and the optimizer's moments are larger than the main memory.
    """
    n_weights = sum((a + n_classes + 1) * b for a, b in zip(sizes, sizes[1:], strict=False))
    needed, available = 16 * n_weights, _main_memory()
    if needed > available:
        raise ValueError(
            f"Got hidden_layer_sizes={tuple(sizes[1:])!r}, but expected layers that fit into "
            f"memory: training them takes {needed / 1e9:.3g} GB, this machine has "
            f"{available / 1e9:.3g} GB."
        )


def _main_memory():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not on every system
        return 2**44


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
