"""Small data, small classifiers and a fingerprint of an estimator's state."""

import joblib
import numpy as np

from skff import FFClassifier
from skff.forward_forward.losses import LOSSES, compares_all
from skff.forward_forward.negatives import NEGATIVES
from skff.forward_forward.overlays import OVERLAYS, reads_label_everywhere


def gaussian_classes(
    n_samples=60, n_features=6, n_classes=3, *, seed=0, spread=1.0, centered=False
):
    """Return float32 samples around one random center per class, and their labels in turn.

    With `centered` their mean is 0, so that intercepts are what the first layer learns.
    """
    rng = np.random.default_rng(seed)
    centers = 2 * rng.standard_normal((n_classes, n_features))
    y = np.arange(n_samples) % n_classes
    X = centers[y] + spread * rng.standard_normal((n_samples, n_features))
    return (X - X.mean(axis=0) if centered else X).astype(np.float32), y


def tiny_classifier(hidden_layer_sizes=(8, 6), **params):
    """Return an unfitted classifier that trains within milliseconds, the same at each run."""
    settings = {"max_iter": 2, "learning_rate_init": 2e-3, "dropout": 0.0}
    settings |= {"device": "cpu", "random_state": 0}
    return FFClassifier(hidden_layer_sizes, **(settings | params))


def params_for(name, value):
    """Return parameters with which a registered component can be used."""
    needs = getattr(NEGATIVES.get(value, value), "needs", None) if name == "negatives" else None
    return {name: value} | ({"readout": "softmax"} if needs == "readout" else {})


def losses_for(overlay):
    """Return the names of the losses that layers can learn from under a registered overlay."""
    everywhere = reads_label_everywhere(OVERLAYS[overlay])
    return [name for name, loss in LOSSES.items() if everywhere or not compares_all(loss)]


OVERLAYS_AND_LOSSES = [(overlay, loss) for overlay in OVERLAYS for loss in losses_for(overlay)]


def next_label(y, n_classes, generator):
    """Give the next class as the wrong label: a sampler without chance."""
    return (y + 1) % n_classes


def fingerprint(estimator):
    """Return a hash of everything an estimator holds, weights included."""
    return joblib.hash(vars(estimator), coerce_mmap=True)


def weights(clf):
    """Return all fitted weights in a list of arrays, as copies."""
    own = [*clf.coefs_, *clf.intercepts_, *clf.label_coefs_]
    return [np.array(array) for array in own]


def same_weights(left, right):
    """Return whether two fitted classifiers hold the same numbers."""
    return all(map(np.array_equal, weights(left), weights(right)))


class Recorder:
    """A callback that keeps each finished task's name, number and weights at that time."""

    def __init__(self):
        self.names, self.numbers, self.weights = [], [], []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.names.append(context.task_name)
        self.numbers.append(context.task_id)
        self.weights.append(weights(fitted_estimator))
