"""Time an epoch of FFClassifier against the size of the data and of the network.

One size at a time grows from a common base, on synthetic data::

    python examples/benchmarks/bench_scaling.py --plot scaling.png --json scaling.json
    python examples/benchmarks/bench_scaling.py --axes n_classes --ff negatives=uniform
    python examples/benchmarks/bench_scaling.py --smoke

The slope in the table is the exponent of the growth since the row before: 1 is linear. Peak memory
is that of `fit` above what the data take.
"""

import math
import statistics
from time import perf_counter

import numpy as np
from _common import (
    forget_peak,
    make_parser,
    parse_settings,
    peak_mb,
    print_machine,
    print_table,
    setting,
    wants_smoke,
)
from _results import write_results

from skff import FFClassifier

BASE = {"n_samples": 5000, "n_features": 784, "n_units": 500, "n_layers": 2, "n_classes": 10}
AXES = {
    "n_samples": [2500, 5000, 10_000, 20_000, 40_000],
    "n_features": [196, 392, 784, 1568, 3136],
    "n_units": [125, 250, 500, 1000, 2000],
    "n_layers": [1, 2, 4, 8, 16],
    "n_classes": [10, 30, 100, 300, 1000],
}
SMOKE_BASE = {"n_samples": 300, "n_features": 20, "n_units": 30, "n_layers": 2, "n_classes": 5}
SMOKE_AXES = {
    "n_samples": [300, 600],
    "n_features": [20, 40],
    "n_units": [30, 60],
    "n_layers": [1, 2],
    "n_classes": [5, 80],
}
N_PREDICTED = 200  # samples whose prediction is timed


def main(argv=None):
    """Measure every axis, print a table each, and write and draw what is asked for."""
    options = parse_options(argv)
    print_machine()
    base, axes = (SMOKE_BASE, SMOKE_AXES) if options.smoke else (BASE, AXES)
    measure(base, options)  # loads what is loaded on first use
    runs = []
    for axis in options.axes:
        for value in axes[axis]:
            sizes = base | {axis: value}
            runs.append({"axis": axis, **sizes} | measure(sizes, options))
            write_results(options.json, runs, ["axis", *BASE])
        print_axis(axis, [run for run in runs if run["axis"] == axis])
    if options.plot:
        plot(runs, options.plot)
    return runs


def parse_options(argv):
    """Return the options of the command line."""
    smoke = wants_smoke(argv)
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--axes", nargs="+", choices=AXES, default=list(AXES))
    add("--epochs", type=int, default=2 if smoke else 4, help="per fit; the median is reported")
    add("--ff", type=setting, nargs="+", default=[], metavar="NAME=VALUE",
        help="parameters of FFClassifier")  # fmt: skip
    add("--smoke", action="store_true", help="tiny sizes: shows in seconds that all runs")
    add("--plot", metavar="FILE", help="draw all axes")
    add("--json", metavar="FILE", help="write all results, in place of older ones")
    return parser.parse_args(argv)


def measure(sizes, options):
    """Fit on synthetic data and return seconds per epoch and per prediction, and MB."""
    X, y = make_data(sizes["n_samples"], sizes["n_features"], sizes["n_classes"])
    settings = {
        "hidden_layer_sizes": (sizes["n_units"],) * sizes["n_layers"],
        "batch_size": 256,
        "max_iter": options.epochs,
        "random_state": 0,
    }
    classifier = FFClassifier(**settings | parse_settings(options.ff))
    before = forget_peak()
    classifier.fit(X, y)
    peak = peak_mb() - before
    start = perf_counter()
    classifier.predict(X[:N_PREDICTED])
    seconds = perf_counter() - start
    return {
        "epoch_seconds": statistics.median(row["seconds"] for row in classifier.history_),
        "predict_seconds": seconds / min(N_PREDICTED, len(X)),
        "peak_mb": peak,
    }


def make_data(n_samples, n_features, n_classes):
    """Return normal clusters: float32 features and labels, every class present."""
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((n_classes, n_features), dtype=np.float32)
    y = rng.permutation(np.arange(n_samples) % n_classes)
    X = rng.standard_normal((n_samples, n_features), dtype=np.float32)
    X += centers[y]
    return X, y


def slopes(values, seconds):
    """Return the exponent of the growth from each point to the next."""
    points = list(zip(map(math.log, values), map(math.log, seconds), strict=True))
    return [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(points, points[1:], strict=False)]


def print_axis(axis, runs):
    """Print a row per size."""
    values, seconds = [run[axis] for run in runs], [run["epoch_seconds"] for run in runs]
    growth = ["-", *(f"{slope:.2f}" for slope in slopes(values, seconds))]
    rows = [
        [
            str(value),
            f"{run['epoch_seconds']:.3f}",
            slope,
            f"{1e3 * run['predict_seconds']:.3f}",
            f"{run['peak_mb']:.0f}",
        ]
        for value, run, slope in zip(values, runs, growth, strict=True)
    ]
    print()
    print_table([axis, "seconds per epoch", "slope", "ms to predict one", "peak MB"], rows)


def plot(runs, path):
    """Draw all axes into a file."""
    import matplotlib.pyplot as plt

    figure = draw(runs)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw(runs):
    """Draw seconds per epoch against each size, relative to its smallest, on two log scales."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 5), layout="constrained")
    reach = 1.0
    for axis in dict.fromkeys(run["axis"] for run in runs):
        own = [run for run in runs if run["axis"] == axis]
        growth = [run[axis] / own[0][axis] for run in own]
        ax.loglog(growth, [r["epoch_seconds"] for r in own], "o-", label=f"{axis} / {own[0][axis]}")
        reach = max(reach, *growth)
    low = min(run["epoch_seconds"] for run in runs)
    ax.loglog([1, reach], [low, low * reach], ":", color="grey", label="linear growth")
    ax.set(xlabel="size, relative to the smallest", ylabel="seconds per epoch")
    ax.set_title("FFClassifier: time of an epoch")
    ax.legend()
    return figure


if __name__ == "__main__":
    main()
