"""What the benchmarks share: data, settings on the command line, memory, the machine, tables."""

import argparse
import ast
import ctypes
import gc
import json
import os
import platform
import resource
import statistics
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

DATA = ("mnist", "fashion-mnist", "digits")
N_VALIDATION = 10_000  # images of the training part, held out to choose settings


def make_parser(doc):
    """Return a parser of the command line that shows a script's docstring as it stands."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def wants_smoke(argv):
    """Return whether ``--smoke`` is given, which replaces the defaults; None is the real line."""
    return "--smoke" in (sys.argv if argv is None else argv)


def load(name, *, validation=False, n_train=None):
    """Return X, y to train on and X, y to test on; features in [0, 1], labels from 0.

    With `validation` the test images are not read: the last images of the training part, after a
    fixed shuffle, stand in for them.
    """
    train, test = _load_digits() if name == "digits" else _load_images(name, test=not validation)
    if validation:
        order = np.random.default_rng(0).permutation(len(train[0]))
        n_held_out = min(N_VALIDATION, len(order) // 5)
        fit_rows, test_rows = order[:-n_held_out], order[-n_held_out:]
        train, test = [[array[rows] for array in train] for rows in (fit_rows, test_rows)]
    return *(array[:n_train] for array in train), *test


def _load_digits():
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    return (X, y), (X_test, y_test)


def _load_images(name, test):
    from skff.datasets import fetch_fashion_mnist, fetch_mnist

    fetch = {"mnist": fetch_mnist, "fashion-mnist": fetch_fashion_mnist}[name]
    train = fetch(return_X_y=True)
    return train, fetch(subset="test", return_X_y=True) if test else None


def parse_settings(texts):
    """Turn texts such as "dropout=0.2" or "loss=SymBa(scale=8.0)" into a dict of parameters."""
    return make_components(read_settings(texts))


def read_settings(texts):
    """Turn texts such as "dropout=0.2" into a dict of what JSON can hold; calls remain texts."""
    pairs = (text.partition("=")[::2] for text in texts)
    return json.loads(json.dumps({name: _literal(value) for name, value in pairs}))


def _literal(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def make_components(settings):
    """Replace texts such as "SymBa(scale=8.0)" among the values by the components they call."""
    return {
        name: _make_component(value) if isinstance(value, str) and "(" in value else value
        for name, value in settings.items()
    }


def _make_component(text):
    from skff.forward_forward import augmentation, losses, negatives, readouts

    call = ast.parse(text, mode="eval").body
    name = getattr(getattr(call, "func", None), "id", None)
    components = {
        component.__name__: component
        for module in (augmentation, losses, negatives, readouts)
        for component in vars(module).values()
        if isinstance(component, type) and component.__module__ == module.__name__
    }
    if name not in components or call.args:
        raise ValueError(
            f"Got {text!r}, but expected a number, a name or one of {sorted(components)} with its "
            "parameters by name."
        )
    return components[name](**{k.arg: ast.literal_eval(k.value) for k in call.keywords})


def setting(text):
    """Check that an argument of the command line looks like NAME=VALUE."""
    if not text.partition("=")[2]:
        raise argparse.ArgumentTypeError(f"Got {text!r}, but expected NAME=VALUE.")
    return text


def reliability(proba, y, n_bins=15):
    """Compare the confidence in the predicted labels with their accuracy.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities in [0, 1].
    y : ndarray of shape (n_samples,)
        True labels, encoded as 0, 1, ...
    n_bins : int, default=15
        Bins of equal width that samples are grouped into by their confidence.

    Returns
    -------
    bins : list of list
        Mean confidence, accuracy, both in [0, 1], and number of samples of each bin that has any.
    """
    confidence = proba.max(axis=1)
    correct = proba.argmax(axis=1) == y
    index = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    bins = []
    for k in np.unique(index):
        inside = index == k
        bins.append([confidence[inside].mean(), correct[inside].mean(), inside.sum()])
    return [[float(mean), float(accuracy), int(count)] for mean, accuracy, count in bins]


def expected_calibration_error(bins):
    """Return the mean gap between confidence and accuracy, in [0, 1], of `reliability`'s bins."""
    gaps = sum(count * abs(confidence - accuracy) for confidence, accuracy, count in bins)
    return gaps / sum(count for _, _, count in bins)


def forget_peak():
    """Return resident memory in MB, from which `peak_mb` counts on."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # freed memory is not to be counted
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return peak_mb()
    return _status_mb("VmRSS")


def peak_mb():
    """Return the highest resident memory of this process in MB."""
    # Not ru_maxrss on Linux: it starts from the parent's memory.
    if sys.platform == "linux":
        return _status_mb("VmHWM")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _status_mb(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def machine():
    """Return what a reader needs to judge the figures: processor, cores, versions."""
    names = ["torch", "numpy", "scikit-learn", "skorch"]
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "threads": threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def processor():
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return fields[0] if fields else platform.processor()


def threads():
    """Return torch's number of threads, or what is asked for where torch is not loaded."""
    if "torch" in sys.modules:
        return sys.modules["torch"].get_num_threads()
    return os.environ.get("OMP_NUM_THREADS", "default")


def print_machine():
    """Print the machine, in one line."""
    print(", ".join(f"{name} {value}" for name, value in machine().items()), flush=True)


def spread(values, digits=2):
    """Return "median (min to max)", or "-" where nothing was measured."""
    values = [value for value in values if value is not None]
    if not values:
        return "-"
    median = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return median
    return f"{median} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def print_table(header, rows):
    """Print rows of texts in columns, as a table in Markdown."""
    cells = [header, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    cells.insert(1, ["-" * width for width in widths])
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(f"| {' | '.join(padded)} |", flush=True)
