"""One run of one version for ``bench_versions.py``, in a process of its own.

Imports skff from where ``PYTHONPATH`` says, so that it uses what both versions have. Reads a
description of the run as JSON from its argument and prints what was measured as JSON.
"""

import json
import os
import statistics
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
from _common import forget_peak, load, peak_mb

import skff

N_PREDICTIONS = 3  # the median counts


def make_model(run):
    """Return the version's classifier, or the plain loop."""
    settings = {
        "hidden_layer_sizes": tuple(run["hidden"]),
        "batch_size": run["batch_size"],
        "max_iter": run["epochs"],
        "random_state": run["repeat"],
    }
    if run["contestant"] == "torch-lean":
        from _plain_networks import BackpropLoop

        return BackpropLoop(**settings, **run["settings"])
    return skff.FFClassifier(**settings, **run["settings"])


def measure_fit(run):
    """Time training and predicting images; peak memory is that of training."""
    X, y, X_test, _ = load_part(run)
    make_model(run | {"epochs": 1}).fit(X[:1024], y[:1024])  # loads what is loaded on first use
    model = make_model(run)
    before = forget_peak()
    start = perf_counter()
    model.fit(X, y)
    seconds = perf_counter() - start
    peak = peak_mb() - before
    return {"seconds": seconds, "peak_mb": peak, "predict_seconds": time_predict(model, X_test)}


def measure_classes(run):
    """Time predicting random features with many classes."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((run["n_predict"], run["n_features"]), dtype=np.float32)
    y = rng.permutation(np.arange(len(X)) % run["n_classes"])
    n_train = min(len(X), run["n_train"] or len(X))
    # Every class is there at least once, however few samples there are to train on.
    rows = np.argsort(y, kind="stable")[:: max(1, len(y) // n_train)]
    model = make_model(run).fit(X[rows], y[rows])
    return {"predict_seconds": time_predict(model, X, n_predictions=1)}


def measure_ads(run):
    """Time ADS over all windows of some sizes, of the version's own network."""
    X, y, X_test, y_test = load_part(run)
    model = make_model(run).fit(X, y)
    side = round(X.shape[1] ** 0.5)
    found = {"ads_seconds": {}, "accuracy": model.score(X_test, y_test)}
    explain(model, X_test[:16], y_test[:16], 3, side)  # loads what is loaded on first use
    before = forget_peak()
    for window in run["windows"]:
        start = perf_counter()
        explain(model, X_test, y_test, window, side)
        found["ads_seconds"][str(window)] = perf_counter() - start
    return found | {"peak_mb": peak_mb() - before}


PARTS = {"fit": measure_fit, "classes": measure_classes, "ads": measure_ads}


def load_part(run):
    """Return the data, the test images cut to as many as the run wants."""
    X, y, X_test, y_test = load(run["data"], n_train=run["n_train"])
    return X, y, X_test[: run["n_predict"]], y_test[: run["n_predict"]]


def time_predict(model, X, n_predictions=N_PREDICTIONS):
    """Return the median seconds of `predict`."""
    model.predict(X[:16])
    seconds = []
    for _ in range(n_predictions):
        start = perf_counter()
        model.predict(X)
        seconds.append(perf_counter() - start)
    return statistics.median(seconds)


def explain(model, X, y, window, side):
    """Compute the occlusion importance map with one window centred on every pixel."""
    explainer = skff.ADSExplainer(model, window_shape=window, image_shape=(side, side))
    return explainer.explain(X, y)


def check_version():
    """Refuse to measure another installation than the one asked for."""
    wanted = Path(os.environ["PYTHONPATH"].split(os.pathsep)[0]).resolve()
    found = Path(skff.__file__).resolve().parents[1]
    if found != wanted:
        raise ImportError(f"Got skff from {found}, but expected it from {wanted}.")


if __name__ == "__main__":
    check_version()
    run = json.loads(sys.argv[1])
    print(json.dumps(PARTS[run["part"]](run)))
