"""FFClassifier as arrays and a JSON document, and back, with every claim of a file checked."""

from dataclasses import is_dataclass

import numpy as np
import torch

from skff._values import check_array, check_fields, check_number, check_type, decode, encode
from skff._versions import with_version
from skff.forward_forward import _parameters as parameters
from skff.forward_forward._checkpoint import LARGEST, NOT_NEGATIVE
from skff.forward_forward._classifier import FFClassifier
from skff.forward_forward._fit import count_epochs
from skff.forward_forward._network import Layer, Network
from skff.forward_forward._torch import as_numpy, check_generator
from skff.forward_forward._trainer import Trainer
from skff.forward_forward.augmentation import ImageShift
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES
from skff.forward_forward.negatives import NEGATIVES
from skff.forward_forward.overlays import OVERLAYS, reads_label_everywhere
from skff.forward_forward.readouts import Softmax
from skff.forward_forward.solvers import SOLVERS
from skff.recipes import ExcessSquare


def _kinds(registry):
    """Return the classes of a registry's dataclasses, and its functions as they are."""
    return {type(one) if is_dataclass(one) else one for one in registry.values()}


COMPONENTS = {
    "overlay": _kinds(OVERLAYS),
    "goodness": _kinds(GOODNESS) | {ExcessSquare},
    "loss": _kinds(LOSSES),
    "negatives": _kinds(NEGATIVES),
    "readout": {Softmax},
    "solver": _kinds(SOLVERS),
    "augment": {ImageShift},
}
# Attributes that a file holds, and the callbacks, which it does not.
HELD = {
    *("_network", "_trainer", "classes_", "history_", "n_iter_"),
    *("n_features_in_", "feature_names_in_", "_skl_callbacks"),
}


def to_parts(classifier):
    """Take a classifier apart.

    Parameters
    ----------
    classifier : FFClassifier
        Fitted or not.

    Returns
    -------
    arrays : dict of str -> ndarray
        May share memory with the classifier.
    document : dict
        JSON.

    Raises
    ------
    TypeError
        If it holds something that is not skff's own.
    """
    if type(classifier) is not FFClassifier:
        raise TypeError(
            f"Got a {type(classifier).__name__}, but expected an FFClassifier itself: a file "
            "cannot hold the code of a subclass. Use pickle or joblib."
        )
    if foreign := sorted(vars(classifier).keys() - HELD - classifier.get_params(deep=False).keys()):
        raise TypeError(
            f"Got an FFClassifier with the attributes {foreign}, but expected only its own: a file "
            "would lose the others. Use pickle or joblib."
        )
    arrays = {}
    document = {
        "parameters": {
            name: _encode_parameter(name, value, arrays)
            for name, value in classifier.get_params(deep=False).items()
        },
        "fitted": None,
    }
    if hasattr(classifier, "_network"):
        document["fitted"] = _encode_fitted(classifier, arrays)
    return arrays, document


def _encode_parameter(name, value, arrays):
    if name == "checkpoint":  # a file from others must not say where `fit` writes
        return None
    if isinstance(value, torch.device):
        return {"torch.device": str(value)}
    return encode(name, value, arrays, COMPONENTS.get(name, ()))


def _encode_fitted(classifier, arrays):
    names = getattr(classifier, "feature_names_in_", None)
    trainer = getattr(classifier, "_trainer", None)
    return {
        "classes": encode("classes", classifier.classes_, arrays),
        "n_features": int(classifier.n_features_in_),
        "feature_names": encode("feature_names", names, arrays),
        "n_iter": classifier.n_iter_,
        "history": classifier.history_,
        "network": _encode_network("network", classifier._network, arrays),
        "trainer": trainer and _encode_trainer(trainer, arrays),
    }


def _encode_network(prefix, network, arrays):
    for index, layer in enumerate(network.layers):
        arrays[f"{prefix}.{index}.weight"] = as_numpy(layer.weight)
        arrays[f"{prefix}.{index}.bias"] = as_numpy(layer.bias)
        if layer.label_weight is not None:
            arrays[f"{prefix}.{index}.label_weight"] = as_numpy(layer.label_weight)
    arrays[f"{prefix}.center"] = as_numpy(network.center)
    for name, tensor in zip(("weight", "bias"), network.head, strict=False):
        arrays[f"{prefix}.head.{name}"] = as_numpy(tensor)
    return {
        "label_amplitudes": [float(layer.label_amplitude) for layer in network.layers],
        "input_scale": float(network.input_scale),
        "largest_input": float(network.largest_input),
        "probability_scale": float(network.probability_scale),
        "overlay": encode("overlay", network.overlay, arrays, COMPONENTS["overlay"]),
        "goodness": encode("goodness", network.goodness, arrays, COMPONENTS["goodness"]),
        "skip_first": bool(network.skip_first),
        "has_head": bool(network.head),
    }


def _encode_trainer(trainer, arrays):
    state = trainer.__getstate__()
    arrays["trainer.generator"] = state["generator"]
    for index, peer in enumerate(state["peers"]):
        arrays[f"trainer.peers.{index}"] = peer
    moments = state["optimizer"]["state"]
    for index, values in moments.items():
        for name, value in values.items():
            arrays[f"trainer.optimizer.{index}.{name}"] = value
    return {
        "solver": encode("solver", trainer.solver, arrays, COMPONENTS["solver"]),
        "head": encode("head", trainer.head, arrays, COMPONENTS["readout"]),
        "learning_rate": float(trainer.learning_rate),
        "last_rates": [float(group["lr"]) for group in state["optimizer"]["param_groups"]],
        "weight_decay": float(trainer.weight_decay),
        "precision": trainer.precision,
        "n_updates": trainer.n_updates,
        "network": _encode_network("trainer.network", trainer.network, arrays),
        "updated": [[index, sorted(values)] for index, values in moments.items()],
    }


def from_parts(arrays, document):
    """Put a classifier together.

    Parameters
    ----------
    arrays : dict of str -> ndarray
        Becomes empty; the classifier takes over their memory.
    document : object
        JSON.

    Returns
    -------
    classifier : FFClassifier
        On the device that its parameter names where this machine has it, else on the CPU.

    Raises
    ------
    ValueError
        If anything in it is not as `to_parts` returns it. What is no value at all may raise other
        built-in exceptions.
    """
    check_fields("metadata", document, {"parameters", "fitted"})
    classifier = FFClassifier(**_decode_parameters(document["parameters"], arrays))
    if document["fitted"] is not None:
        state = vars(classifier) | _decode_fitted(document["fitted"], arrays)
        classifier.__setstate__(with_version(state))
    if arrays:
        raise ValueError(f"its arrays {sorted(arrays)} belong to nothing")
    return classifier


def _decode_parameters(nodes, arrays):
    check_fields("parameters", nodes, FFClassifier().get_params(deep=False))
    values = {name: _decode_parameter(name, node, arrays) for name, node in nodes.items()}
    if values["device"] != "auto":
        torch.device(values["device"])
    # The device may be one that this machine lacks.
    parameters.check(FFClassifier(**values | {"device": "cpu"}))
    return values


def _decode_parameter(name, node, arrays):
    if name == "checkpoint" and node is not None:
        raise ValueError(f"its checkpoint is {node!r}, not None")
    if name == "device" and isinstance(node, dict):
        check_fields("device", node, {"torch.device"})
        return torch.device(node["torch.device"])
    return decode(node, arrays, COMPONENTS.get(name, ()))


def _decode_fitted(node, arrays):
    names = {"classes", "n_features", "feature_names", "n_iter", "history", "network", "trainer"}
    check_fields("fitted attributes", node, names)
    classes = _check_classes(decode(node["classes"], arrays))
    n_features = node["n_features"]
    check_number("number of features", n_features, 1, whole=True)
    network = _decode_network("network", node["network"], arrays, n_features, len(classes))
    fitted = {
        "classes_": classes,
        "n_features_in_": n_features,
        "n_iter_": node["n_iter"],
        "history_": _check_history(node["history"], network.n_layers),
        "_network": network,
    }
    n_iter = count_epochs(node["history"])
    check_number("n_iter", node["n_iter"], n_iter, n_iter, whole=True)
    if node["feature_names"] is not None:
        feature_names = decode(node["feature_names"], arrays)
        check_array("feature names", feature_names, (n_features,), object)
        fitted["feature_names_in_"] = feature_names
    if node["trainer"] is not None:
        fitted["_trainer"] = _decode_trainer(node["trainer"], arrays, network, n_features)
    return fitted


def _check_classes(classes):
    check_array("classes", classes, (None,))
    if len(classes) == 0 or not np.array_equal(np.unique(classes), classes):
        raise ValueError("its classes are not sorted and different")
    return classes


def _check_history(history, n_layers):
    check_type("history", history, list)
    for record in history:
        check_type("epoch of the history", record, dict)
        check_number("number of an epoch", record["epoch"], 1, whole=True)
        layers = record["layers"]
        for layer in layers:
            check_number("layer of an epoch", layer, 0, n_layers - 1, whole=True)
        for name, value in record.items():
            is_per_layer = name in ("layers", "loss", "positive_share")
            if is_per_layer:
                check_type(f"history's {name}", value, list)
            if is_per_layer and len(value) != len(layers):
                raise ValueError(f"its history has {len(value)} of {name} for {len(layers)} layers")
            for number in value if is_per_layer else [value]:
                check_number(f"history's {name}", number)
        if not {"seconds", "learning_rate", "loss", "positive_share"} <= record.keys():
            raise ValueError(f"its history has an epoch with {sorted(record)} only")
    return history


def _decode_network(prefix, node, arrays, n_features, n_classes):
    names = {"label_amplitudes", "input_scale", "largest_input", "probability_scale", "overlay"}
    check_fields(prefix, node, names | {"goodness", "skip_first", "has_head"})
    overlay = decode(node["overlay"], arrays, COMPONENTS["overlay"])
    goodness = decode(node["goodness"], arrays, COMPONENTS["goodness"])
    if not (callable(overlay) and callable(goodness)):
        raise ValueError(f"its {prefix} has no overlay or no goodness")
    check_number("input_scale", node["input_scale"], 0)
    check_number("largest_input", node["largest_input"], 0)
    check_number("probability_scale", node["probability_scale"], 0, LARGEST)
    for name in ("skip_first", "has_head"):
        check_type(name, node[name], bool)
    center = _tensor(f"{prefix}.center", arrays, (None,), np.inf)
    check_number("scaled center", float(center.abs().max()) * node["input_scale"], 0, LARGEST)
    kept = overlay(np.broadcast_to(np.float32(0), (1, n_features)), n_classes)  # takes no memory
    if kept.shape != (1, len(center)):
        raise ValueError(f"its {prefix} reads {len(center)} features, not {kept.shape[1]}")
    layers, n_inputs = [], len(center)
    for index, amplitude in enumerate(node["label_amplitudes"]):
        check_number("label amplitude", amplitude, 0)
        reads_label = index == 0 or reads_label_everywhere(overlay)
        layers.append(
            _decode_layer(
                f"{prefix}.{index}", arrays, n_inputs, n_classes if reads_label else None, amplitude
            )
        )
        n_inputs = layers[-1].n_units
    if len(layers) < 1 + node["skip_first"]:
        raise ValueError(f"its {prefix} has {len(layers)} layers, too few")
    sizes = [layer.n_units for layer in layers]
    head = []
    if node["has_head"]:
        n_read = sum(sizes[1:]) or sizes[0]
        head.append(_tensor(f"{prefix}.head.weight", arrays, (n_classes, n_read)))
        head.append(_tensor(f"{prefix}.head.bias", arrays, (n_classes,)))
    return Network(
        layers,
        center=center,
        input_scale=node["input_scale"],
        largest_input=node["largest_input"],
        overlay=overlay,
        goodness=goodness,
        skip_first=node["skip_first"],
        probability_scale=node["probability_scale"],
        head=head,
    )


def _decode_layer(prefix, arrays, n_inputs, n_classes, amplitude):
    bias = _tensor(f"{prefix}.bias", arrays, (None,))
    weight = _tensor(f"{prefix}.weight", arrays, (len(bias), n_inputs))
    label_weight = None
    if n_classes is not None:
        label_weight = _tensor(f"{prefix}.label_weight", arrays, (n_classes, len(bias)))
        check_number("label shift", amplitude * float(label_weight.abs().max()), 0, LARGEST)
    return Layer(weight, bias, label_weight, amplitude)


def _tensor(name, arrays, shape, largest=LARGEST):
    """Return an array as a tensor, if it is finite, not empty, not too large and of this shape."""
    array = arrays.pop(name)
    check_array(name, array, shape, np.float32)
    if array.size == 0 or not np.isfinite(array).all() or np.abs(array).max() > largest:
        raise ValueError(f"its {name} is empty or not finite, or has numbers above {largest}")
    return torch.from_numpy(array)


def _decode_trainer(node, arrays, average, n_features):
    names = {"solver", "head", "learning_rate", "last_rates", "weight_decay", "precision"}
    check_fields("trainer", node, names | {"n_updates", "network", "updated"})
    for name in ("learning_rate", "weight_decay"):
        check_number(name, node[name], 0)
    check_number("number of updates", node["n_updates"], 0, whole=True)
    if node["precision"] not in parameters.PRECISIONS:
        raise ValueError(f"its precision is {node['precision']!r}")
    network = _decode_network(
        "trainer.network", node["network"], arrays, n_features, average.n_classes
    )
    if [t.shape for t in network.tensors()] != [t.shape for t in average.tensors()]:
        raise ValueError("its trainer has a network of other sizes")
    head = decode(node["head"], arrays, COMPONENTS["readout"])
    if not isinstance(head, Softmax if network.head else type(None)):
        raise ValueError(f"its trainer has a head of {head!r}")
    trainer = Trainer(
        network,
        range(network.n_layers),
        torch.Generator("cpu"),
        solver=decode(node["solver"], arrays, COMPONENTS["solver"]),
        learning_rate=node["learning_rate"],
        weight_decay=node["weight_decay"],
        precision=node["precision"],
        head=head,
        average=average,
    )
    state = trainer.__getstate__() | {
        "n_updates": node["n_updates"],
        "generator": check_generator(arrays.pop("trainer.generator")),
        "peers": [
            _tensor(f"trainer.peers.{index}", arrays, (layer.n_units,)).numpy()
            for index, layer in enumerate(network.layers)
        ],
    }
    groups = state["optimizer"]["param_groups"]
    check_type("last rates", node["last_rates"], list)
    if len(node["last_rates"]) != len(groups):
        raise ValueError(f"its trainer has {len(node['last_rates'])} last rates")
    for group, rate in zip(groups, node["last_rates"], strict=True):
        check_number("last rate", rate, 0)
        group["lr"] = rate
    state["optimizer"]["state"] = _decode_moments(node["updated"], arrays, trainer)
    trainer.__setstate__(state)
    return trainer


def _decode_moments(updated, arrays, trainer):
    """Return what the optimizer knows of each tensor, after checks against one of its own steps."""
    tensors = [tensor for group in trainer.optimizer.param_groups for tensor in group["params"]]
    moments = {}
    known = _moments_after_a_step(trainer.solver)
    for index, names in updated:
        check_number("index of a tensor", index, 0, len(tensors) - 1, whole=True)
        tensor = tensors[index]
        check_fields("optimizer", dict.fromkeys(names), known)
        moments[index] = {
            name: _tensor(
                f"trainer.optimizer.{index}.{name}", arrays, tensor.shape if known[name] else ()
            ).numpy()
            for name in names
        }
        for name, value in moments[index].items():
            if name in NOT_NEGATIVE and value.min() < 0:
                raise ValueError(f"its optimizer has negative values of {name}")
    if len(moments) < len(updated):
        raise ValueError("its optimizer names a tensor twice")
    return moments


def _moments_after_a_step(solver):
    """Return the names of what a solver's optimizer keeps per tensor, and the number of axes."""
    tensor = torch.zeros(1, dtype=torch.float32, device="cpu")
    tensor.grad = torch.zeros_like(tensor)
    optimizer = solver.make([tensor], 0.1)
    optimizer.step()
    return {name: value.ndim for name, value in optimizer.state[tensor].items()}
