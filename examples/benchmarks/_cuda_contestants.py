"""One run of ``bench_cuda.py``, in a process of its own.

Reads a description of the run as JSON from its argument and prints what was measured as JSON, or
``{"failed": reason}``.
"""

import json
import pickle
import statistics
import sys
import traceback
from contextlib import nullcontext
from time import perf_counter

import numpy as np
import torch
from _common import load
from _graphed_trainer import all_samples, graphed_batches
from _plain_networks import BackpropLoop
from _training_contestants import error, ff_settings

from skff import ADSExplainer, FFClassifier
from skff.forward_forward._torch import multiplies_bfloat16

N_PREDICTIONS = 5  # of all test images; the median is reported


def measure(run):
    """Return what a run measures: seconds, errors in percent, MB on the device."""
    with all_samples():
        return PARTS[run["part"]](run) | describe_device(run["device"])


def describe_device(name):
    """Return what tells this device from others."""
    device = torch.device(name)
    if device.type != "cuda":
        return {"gpu": None}
    about = torch.cuda.get_device_properties(device)
    return {
        "gpu": about.name,
        "compute_capability": f"{about.major}.{about.minor}",
        "cuda": torch.version.cuda,
    }


def measure_training(run):
    """Train one contestant, then predict the test images several times."""
    X, y, X_test, y_test = load(run["data"], n_train=run["n_train"])
    n_warm_up = 2 * run["batch_size"]
    with graphed_batches() if run["graph"] else nullcontext():
        make_contestant(run | {"epochs": 4}).fit(X[:n_warm_up], y[:n_warm_up])
        model = make_contestant(run)
        _forget_peak(run["device"])
        seconds = _seconds(lambda: model.fit(X, y), run["device"])
    peak_mb = _peak_mb(run["device"])
    model.predict(X_test[:1])
    predictions = [
        _seconds(lambda: model.predict(X_test), run["device"]) for _ in range(N_PREDICTIONS)
    ]
    return {
        "seconds": seconds,
        "predict_seconds": statistics.median(predictions),
        "n_predicted": len(X_test),
        "peak_mb": peak_mb,
        "error": error(model, X_test, y_test),
        "multiplies_bfloat16": multiplies_bfloat16(torch.device(run["device"])),
    }


def make_contestant(run):
    """Return an unfitted contestant: ``ff`` or ``torch-lean``, whose capture is not yet on."""
    shared = {
        "hidden_layer_sizes": tuple(run["hidden"]),
        "batch_size": run["batch_size"],
        "max_iter": run["epochs"],
        "random_state": run["seed"],
        "device": run["device"],
    }
    if run["contestant"] == "torch-lean":
        modes = {name: run[name] for name in ("graph", "bfloat16")}
        return BackpropLoop(**shared, **modes, **run["settings"])
    precision = "medium" if run["bfloat16"] else "highest"
    return FFClassifier(**shared, matmul_precision=precision, **ff_settings(run["settings"]))


def measure_graph(run):
    """Compare a model trained batch by batch with one trained by a graph, for a few epochs.

    Both draw the same random numbers, so their outputs differ by rounding only.
    """
    X, y, X_test, _ = load(run["data"], n_train=run["n_train"])
    outputs = []
    for graph in (False, True):
        with graphed_batches() if graph else nullcontext():
            model = make_contestant(run | {"graph": graph}).fit(X, y)
        outputs.append(model.predict_proba(X_test))
    plain, graphed = outputs
    return {
        "largest_difference": float(np.abs(plain - graphed).max()),
        "same_labels": float((plain.argmax(1) == graphed.argmax(1)).mean()),
    }


def measure_explanation(run):
    """Explain a classifier on the device, then its copy on the CPU."""
    X, y, X_test, y_test = load(run["data"], n_train=run["n_train"])
    X_test, y_test = X_test[: run["samples"]], y_test[: run["samples"]]
    model = make_contestant(run).fit(X, y)
    explain = ADSExplainer(model, window_shape=run["window"]).explain
    explain(X_test[:20], y_test[:20])
    found = []
    _forget_peak(run["device"])
    seconds = _seconds(lambda: found.append(explain(X_test, y_test)), run["device"])
    peak_mb = _peak_mb(run["device"])
    on_cpu = pickle.loads(pickle.dumps(model.set_params(device="cpu")))
    again = ADSExplainer(on_cpu, window_shape=run["window"]).explain(X_test, y_test)
    difference = np.abs(found[0].importances - again.importances)
    return {
        "seconds": seconds,
        "peak_mb": peak_mb,
        "engine": found[0].engine,
        "windows": int(difference.size),
        "windows_unlike_cpu": int((difference > 0).sum()),
        "largest_difference": float(difference.max()),
    }


PARTS = {
    "train": measure_training,
    "graph": measure_graph,
    "explain": measure_explanation,
}


def _seconds(work, device):
    _wait(device)
    start = perf_counter()
    work()
    _wait(device)
    return perf_counter() - start


def _wait(device):
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _forget_peak(device):
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak_mb(device):
    """Return the most memory that tensors took on the GPU, data included; None elsewhere."""
    if torch.device(device).type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / 2**20


if __name__ == "__main__":
    try:
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    except Exception as reason:  # whatever a GPU may raise: the other runs go on
        traceback.print_exc()
        print(json.dumps({"failed": f"{type(reason).__name__}: {reason}"}))
