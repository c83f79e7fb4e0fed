"""MNIST-1D: sequences of 40 values in ten classes, and who is measured on them with settings.

The package ``mnist1d`` (Greydanus and Kobak, "Scaling Down Deep Learning with MNIST-1D", ICML 2024)
draws the sequences from a seed; nothing is downloaded.
"""

import importlib.util

import numpy as np
from _parts import smoothed_loss
from _plain_networks import BackpropLoop

from skff import FFClassifier

PUBLISHED_SEED = 42
OTHER_SEED = 1  # of the sequences on which settings are chosen, none of which is measured
# What batch_size="auto" and max_iter="auto" of FFClassifier are for the 3,000 sequences of four
# folds of which one is left out.
SHARED = {"batch_size": 30, "max_iter": 50}
# Chosen by choose_sequence_settings.py before any of the measured sequences was read.
SETTINGS = {
    "ff": {
        "hidden_layer_sizes": [500, 500, 500],
        "label_smoothing": 0.3,
        "learning_rate_init": 4e-3,
        "weight_decay": 0.1,
    },
    "torch-lean": {
        "hidden_layer_sizes": [500, 500, 500],
        "label_smoothing": 0.5,
        "learning_rate_init": 1e-3,
        "weight_decay": 0.3,
    },
}


def installed():
    """Return whether there is the package that draws the sequences."""
    return importlib.util.find_spec("mnist1d") is not None


def make_sequences(seed=PUBLISHED_SEED, *, part="train", n_samples=5000):
    """Return sequences X, (n, 40) in float32, and their labels y, 0 to 9.

    Of `n_samples`, four fifths are in the training part, and all with ``part="all"``.
    """
    from mnist1d.data import get_dataset_args, make_dataset

    arguments = get_dataset_args()
    arguments.seed, arguments.num_samples = seed, n_samples
    drawn = make_dataset(arguments)  # seeds NumPy's global generator, which nothing here reads
    parts = [""] if part == "train" else ["", "_test"]
    X, y = (np.concatenate([drawn[name + end] for end in parts]) for name in "xy")
    return X.astype(np.float32), y.astype(np.int64)


def make_ff(settings, seed):
    """Return an FFClassifier; `label_smoothing` among the settings is one of its loss."""
    own = dict(settings)
    loss = smoothed_loss(own.pop("label_smoothing"))
    return FFClassifier(loss=loss, random_state=seed, **SHARED, **own)


def make_loop(settings, seed):
    """Return the plain backprop loop."""
    return BackpropLoop(random_state=seed, **SHARED, **settings)


CONTESTANTS = {"ff": make_ff, "torch-lean": make_loop}
