"""One run of one contestant of ``bench_training.py``, in a process of its own.

Reads a description of the run as JSON from its argument and prints what was measured as JSON.
"""

import json
import pickle
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from _common import (
    expected_calibration_error,
    forget_peak,
    load,
    make_components,
    peak_mb,
    reliability,
)
from _parts import smoothed_loss
from _plain_networks import BackpropLoop, PublicForwardForward
from sklearn.metrics import log_loss
from skorch.callbacks import Callback

from skff import FFClassifier
from skff.mlp_baselines import sklearn_mlp, skorch_mlp
from skff.recipes import RECIPES


class Clock:
    """Time a training without what is done at the end of an epoch to evaluate it later.

    Parameters
    ----------
    folder : Path
        Gets one pickled model per `every` epochs: weights kept in memory would count as the
        contestant's own.
    every : int
        0 keeps no models.
    """

    def __init__(self, folder, every):
        self.folder = folder
        self.every = every
        self.seconds = {}  # epoch -> seconds of training until its end
        self.n_epochs = 0
        self.start = perf_counter()

    def elapsed(self):
        """Return the seconds of training so far."""
        return perf_counter() - self.start

    def end_epoch(self, make_model):
        """Put ``make_model()``, which has ``predict``, aside without counting the time."""
        elapsed = self.elapsed()
        self.n_epochs += 1
        if self.every and self.n_epochs % self.every == 0:
            self.seconds[self.n_epochs] = elapsed
            (self.folder / str(self.n_epochs)).write_bytes(pickle.dumps(make_model()))
        self.start = perf_counter() - elapsed

    def curve(self, X, y):
        """Return epoch, seconds and error of each model that was put aside."""
        points = []
        for epoch, seconds in self.seconds.items():
            model = pickle.loads((self.folder / str(epoch)).read_bytes())
            points.append({"epoch": epoch, "seconds": seconds, "error": error(model, X, y)})
        return points


def error(model, X, y):
    """Return the share of wrong predictions in percent."""
    return float(100 * (model.predict(X) != y).mean())


def train_ff(X, y, run, clock):
    """Train FFClassifier with the settings of the run."""
    return _fit_ff(FFClassifier(**_shared(run), **ff_settings(run["settings"])), X, y, clock)


def train_ff_default(X, y, run, clock):
    """Train FFClassifier with nothing set but the seed."""
    own = make_components(run["settings"])  # empty but for the warm-up
    return _fit_ff(FFClassifier(random_state=run["seed"], **own), X, y, clock)


def train_recipe(X, y, run, clock):
    """Train one of `skff.recipes`."""
    own = {"random_state": run["seed"]} | make_components(run["settings"])
    return _fit_ff(RECIPES[run["recipe"]].classifier(**own), X, y, clock)


def train_sklearn(X, y, run, clock):
    """Train scikit-learn's MLPClassifier, which has neither schedule nor dropout nor smoothing."""
    return sklearn_mlp(_baseline(run)).fit(X, y)


def train_skorch(X, y, run, clock):
    """Train the skorch network."""
    net = skorch_mlp(_baseline(run))
    net.set_params(callbacks=[*net.callbacks, ("clock", SkorchClock(clock))])
    return net.fit(X, y)


def train_torch_lean(X, y, run, clock):
    """Train the plain loop."""
    loop = BackpropLoop(**_shared(run), **make_components(run["settings"]))
    return loop.fit(X, y, clock.end_epoch)


def train_public(X, y, run, clock):
    """Train the simple public Forward-Forward recipe for as long as FFClassifier took."""
    network = PublicForwardForward(hidden_layer_sizes=run["hidden"], random_state=run["seed"])
    return network.fit(X, y, seconds=run["budget"])


CENTERED = ["sklearn", "skorch"]  # given images whose mean is subtracted; the others do so
CONTESTANTS = {
    "ff": train_ff,
    "ff-default": train_ff_default,
    "ff-input": train_ff,
    "recipe": train_recipe,
    "sklearn": train_sklearn,
    "skorch": train_skorch,
    "torch-lean": train_torch_lean,
    "public": train_public,
}


def _shared(run):
    """Return what `FFClassifier` and the plain loop call alike."""
    return {
        "hidden_layer_sizes": tuple(run["hidden"]),
        "batch_size": run["batch_size"],
        "max_iter": run["epochs"],
        "random_state": run["seed"],
    }


def ff_settings(settings):
    """Return parameters of `FFClassifier`; `label_smoothing` is one of its loss."""
    settings = make_components(settings)
    smoothing = settings.pop("label_smoothing", None)
    if smoothing is not None:
        settings = {"loss": smoothed_loss(smoothing)} | settings
    return settings


def _baseline(run):
    """Return the classifier that `skff.mlp_baselines` take their settings from."""
    return FFClassifier(**_shared(run), **ff_settings(run["settings"]))


def _fit_ff(classifier, X, y, clock):
    if clock.every:
        classifier.set_callbacks(FFClock(clock))
    return classifier.fit(X, y)


class FFClock:
    """Callback of FFClassifier that tells the clock of each epoch."""

    def __init__(self, clock):
        self.clock = clock

    def setup(self, estimator, context):
        """Nothing to prepare."""

    def teardown(self, estimator, context):
        """Nothing to clean up."""

    def on_fit_task_begin(self, estimator, context):
        """Nothing to do before an epoch."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        """Put the classifier aside."""
        if context.task_name == "epoch":
            self.clock.end_epoch(lambda: fitted_estimator)


class SkorchClock(Callback):
    """Callback of skorch that tells the clock of each epoch."""

    def __init__(self, clock):
        self.clock = clock

    def on_epoch_end(self, net, **kwargs):
        """Put the weights aside."""
        self.clock.end_epoch(lambda: BackpropLoop.from_net(net.module_))


def measure(run):
    """Train a contestant and return what was measured: seconds, errors in percent, MB."""
    X, y, X_test, y_test = load(run["data"], validation=run["validation"], n_train=run["n_train"])
    if run["contestant"] in CENTERED:
        mean = X.mean(axis=0)
        X, X_test = X - mean, X_test - mean
    preprocessing = RECIPES[run["recipe"]].preprocessing if "recipe" in run else None
    if preprocessing is not None:
        X, X_test = preprocessing.fit_transform(X), preprocessing.transform(X_test)
    train = CONTESTANTS[run["contestant"]]
    _warm_up(train, X, y, run)
    with tempfile.TemporaryDirectory() as folder:
        before = forget_peak()
        clock = Clock(Path(folder), run["evaluate_every"])
        model = train(X, y, run, clock)
        result = {"seconds": clock.elapsed(), "peak_mb": peak_mb() - before}
        curve = clock.curve(X_test, y_test)
    start = perf_counter()
    result |= {"error": error(model, X_test, y_test), "predict_seconds": perf_counter() - start}
    return result | {
        "n_iter": getattr(model, "n_iter_", None),
        "torch_threads": torch.get_num_threads(),
        **probability_errors(model, X_test, y_test),
        **layer_errors(model, X_test, y_test),
        "curve": curve,
    }


def _warm_up(train, X, y, run):
    """Load what libraries load on first use, so that it counts neither as time nor as memory."""
    short = run | {"epochs": 1, "budget": 0.0}
    if run["contestant"] in ("ff-default", "recipe"):  # whose epochs are their own
        short["settings"] = run["settings"] | {"max_iter": 1}
    train(X[:1024], y[:1024], short, Clock(None, 0))


def probability_errors(model, X, y):
    """Return negative log-likelihood, calibration error in percent, and the latter's bins."""
    if not hasattr(model, "predict_proba"):
        return {"nll": None, "ece": None, "bins": None}
    proba = model.predict_proba(X).astype(np.float64)
    proba /= proba.sum(axis=1, keepdims=True)  # float32 sums miss 1 by more than log_loss accepts
    bins = reliability(proba, y)
    return {
        "nll": float(log_loss(y, proba)),
        "ece": 100 * expected_calibration_error(bins),
        "bins": bins,
    }


def layer_errors(model, X, y):
    """Return the error of each layer's goodness alone and of their sum, which is timed."""
    if not hasattr(model, "layer_goodness"):
        return {}
    start = perf_counter()
    goodness = model.layer_goodness(X)  # (n_layers, n_samples, n_classes)
    summed = goodness[int(model.skip_first_goodness) :].sum(axis=0)
    sum_error = _goodness_error(model, summed, y)
    seconds = perf_counter() - start
    return {
        "layer_errors": [_goodness_error(model, own, y) for own in goodness],
        "sum_error": sum_error,
        "sum_seconds": seconds,
    }


def _goodness_error(model, goodness, y):
    return float(100 * (model.classes_[goodness.argmax(axis=1)] != y).mean())


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
