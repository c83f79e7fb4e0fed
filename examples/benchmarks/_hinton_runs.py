"""One run of ``bench_hinton.py``, in a process of its own.

Reads a description of the run as JSON from its argument and prints what was measured as JSON.
"""

import json
import sys

import numpy as np
from _common import load, make_components

from skff.recipes import RECIPES

HINTON = RECIPES["HINTON_2022"]


def measure(run):
    """Train a network and return its errors along the way, and at the end on test images.

    Parameters
    ----------
    run : dict
        As ``bench_hinton.plan`` yields them.

    Returns
    -------
    measured : dict
        ``seconds`` of training, without evaluation; ``curve``, a list of dicts with epoch, seconds
        and the errors of both readouts on held-out images in percent, empty where none are held
        out; ``test``, those on test images, or None where settings are to be chosen.
    """
    X, y, X_other, y_other = load(run["data"], validation=run["part"] != "whole")
    scale = HINTON.preprocessing.transform if run["normalize"] else np.asarray
    classifier = HINTON.classifier(
        hidden_layer_sizes=tuple(run["hidden"]),
        max_iter=run["epochs"],
        random_state=run["seed"],
        **make_components(run["settings"]),
    )
    points, test = [], None
    if run["part"] != "whole":
        curve = Curve(scale(X_other), y_other, run["evaluate_every"], run["epochs"])
        classifier.set_callbacks(curve)
        points = curve.points
    classifier.fit(scale(X), y)
    if run["part"] != "changes":
        _, _, X_test, y_test = load(run["data"])
        test = errors(classifier, scale(X_test), y_test)
    return {"seconds": seconds(classifier), "curve": points, "test": test}


class Curve:
    """Callback of FFClassifier that evaluates it every few epochs, and after the last.

    Parameters
    ----------
    X, y : ndarray
        Held-out images.
    every : int
        Epochs between evaluations; 0 evaluates after the last only.
    last : int
        The last epoch.
    """

    def __init__(self, X, y, every, last):
        self.X = X
        self.y = y
        self.every = every or last
        self.last = last
        self.points = []

    def setup(self, estimator, context):
        """Nothing to prepare."""

    def teardown(self, estimator, context):
        """Nothing to clean up."""

    def on_fit_task_begin(self, estimator, context):
        """Nothing to do before an epoch."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        """Evaluate the classifier."""
        if context.task_name != "epoch":
            return
        epoch = len(fitted_estimator.history_)
        if epoch % self.every == 0 or epoch == self.last:
            point = {"epoch": epoch, "seconds": seconds(fitted_estimator)}
            self.points.append(point | errors(fitted_estimator, self.X, self.y))
            print(self.points[-1], file=sys.stderr, flush=True)


def seconds(classifier):
    """Return the seconds of all epochs, without what callbacks did between them."""
    return sum(record["seconds"] for record in classifier.history_)


def errors(classifier, X, y):
    """Return the error in percent of the head and of the goodness of all layers but the first."""
    goodness = classifier.layer_goodness(X)[1:].sum(axis=0)
    predicted = {
        "head": classifier.predict(X),
        "goodness": classifier.classes_[goodness.argmax(axis=1)],
    }
    return {readout: float(100 * (found != y).mean()) for readout, found in predicted.items()}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
