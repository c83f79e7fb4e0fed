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
from _common import expected_calibration_error, forget_peak, load, parse_settings, peak_mb
from _plain_networks import BackpropLoop, PublicForwardForward
from sklearn.metrics import log_loss
from skorch.callbacks import Callback

import skff
from skff import FFClassifier
from skff.forward_forward._precision import matmul_precision
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
    """Train FFClassifier with the settings of the command line."""
    settings = _shared_settings(run, "learning_rate") | {"center": not run["uncentered"]}
    settings |= parse_settings(run["ff"])
    return _fit_ff(FFClassifier(**settings), X, y, clock)


def train_ff_default(X, y, run, clock):
    """Train FFClassifier with nothing set but the seed."""
    return _fit_ff(FFClassifier(random_state=run["seed"]), X, y, clock)


def train_recipe(X, y, run, clock):
    """Train one of `skff.recipes`."""
    own = {"random_state": run["seed"]} | parse_settings(run["ff"])
    return _fit_ff(RECIPES[run["recipe"]].classifier(**own), X, y, clock)


def train_sklearn(X, y, run, clock):
    """Train scikit-learn's MLPClassifier, which has neither the schedule nor the dropout."""
    return sklearn_mlp(FFClassifier(**_shared_settings(run, "backprop_learning_rate"))).fit(X, y)


def train_skorch(X, y, run, clock):
    """Train the skorch network."""
    net = skorch_mlp(FFClassifier(**_shared_settings(run, "backprop_learning_rate")))
    net.set_params(callbacks=[*net.callbacks, ("clock", SkorchClock(clock))])
    with matmul_precision(run["precision"]):
        return net.fit(X, y)


def train_torch(X, y, run, clock, *, cheap_dropout=False):
    """Train the plain loop."""
    settings = _shared_settings(run, "backprop_learning_rate") | parse_settings(run["torch"])
    return BackpropLoop(**settings, cheap_dropout=cheap_dropout).fit(X, y, clock.end_epoch)


def train_torch_lean(X, y, run, clock):
    """Train the plain loop with our cheap way to draw the dropped features."""
    return train_torch(X, y, run, clock, cheap_dropout=True)


def train_public(X, y, run, clock):
    """Train the simple public Forward-Forward recipe for as long as FFClassifier took."""
    network = PublicForwardForward(hidden_layer_sizes=run["hidden"], random_state=run["seed"])
    return network.fit(X, y, seconds=run["budget"])


BACKPROP = ["sklearn", "skorch", "torch", "torch-lean"]
CONTESTANTS = {
    "ff": train_ff,
    "ff-default": train_ff_default,
    "recipe": train_recipe,
    "sklearn": train_sklearn,
    "skorch": train_skorch,
    "torch": train_torch,
    "torch-lean": train_torch_lean,
    "public": train_public,
}


def _shared_settings(run, learning_rate):
    """Return what `FFClassifier` and the backprop networks have in common."""
    return {
        "hidden_layer_sizes": tuple(run["hidden"]),
        "batch_size": run["batch_size"],
        "max_iter": run["epochs"],
        "dropout": run["dropout"],
        "learning_rate_init": run[learning_rate],
        "matmul_precision": run["precision"],
        "random_state": run["seed"],
    }


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
    if run["contestant"] in BACKPROP and not run["uncentered"]:
        mean = X.mean(axis=0)
        X, X_test = X - mean, X_test - mean
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
    reached = [point["seconds"] for point in curve if point["error"] <= run["target"]]
    return result | {
        "seconds_to_target": reached[0] if reached else None,
        "n_iter": getattr(model, "n_iter_", None),
        "threads": torch.get_num_threads(),
        "skff": skff.__version__,
        **_probability_errors(model, X_test, y_test),
        **_goodness_readout(model, X_test, y_test),
        "curve": curve,
    }


def _warm_up(train, X, y, run):
    """Load what libraries load on first use, so that it counts neither as time nor as memory."""
    short = {"epochs": 1, "budget": 0.0, "ff": [*run["ff"], "max_iter=1"]}
    train(X[:1024], y[:1024], run | short, Clock(None, 0))


def _probability_errors(model, X, y):
    if not hasattr(model, "predict_proba"):
        return {"nll": None, "ece": None}
    proba = model.predict_proba(X).astype(np.float64)
    proba /= proba.sum(axis=1, keepdims=True)  # float32 sums miss 1 by more than log_loss accepts
    return {
        "nll": float(log_loss(y, proba)),
        "ece": 100 * expected_calibration_error(proba, y),
    }


def _goodness_readout(model, X, y):
    """Return what the goodness predicts where a softmax head is the classifier's own readout."""
    if getattr(model, "readout", "goodness") == "goodness":
        return {}
    start = perf_counter()
    summed = model.layer_goodness(X)[int(model.skip_first_goodness) :].sum(axis=0)
    labels = model.classes_[summed.argmax(axis=1)]
    return {
        "goodness_error": float(100 * (labels != y).mean()),
        "goodness_predict_seconds": perf_counter() - start,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
