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


def parse_settings(settings):
    """Turn texts such as "dropout=0.2" or "loss=SymBa(scale=8.0)" into a dict."""
    pairs = (setting.partition("=")[::2] for setting in settings)
    return {name: _parse_value(value) for name, value in pairs}


def _parse_value(text):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    if "(" not in text:
        return text
    from skff.forward_forward import augmentation, losses, negatives

    call = ast.parse(text, mode="eval").body
    name = getattr(getattr(call, "func", None), "id", None)
    components = [losses.SymBa, losses.Swish, losses.Logistic, negatives.Hard, negatives.Confused]
    components = {c.__name__: c for c in [*components, augmentation.ImageShift]}
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


def expected_calibration_error(proba, y, n_bins=15):
    """Return the mean gap between the confidence in the predicted label and its accuracy.

    Samples are grouped into `n_bins` bins of equal width by their confidence; both numbers and
    the result lie in [0, 1].
    """
    confidence = proba.max(axis=1)
    correct = proba.argmax(axis=1) == y
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, confidence - correct, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(y))


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
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "threads": _threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    fields = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return fields[0] if fields else platform.processor()


def _threads():
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


def write_json(path, **content):
    """Write results with the machine and the command, if a file is wanted."""
    if path:
        content = {"command": sys.argv, "machine": machine()} | content
        Path(path).write_text(json.dumps(content, indent=1) + "\n")
