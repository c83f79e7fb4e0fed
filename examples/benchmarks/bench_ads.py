"""Map Accuracy Differential Saliency of one model in several ways.

All ways hide one window of 3 x 3 pixels, or other sizes, around every pixel of all test images.
The plain loop copies the data, sets the window to 0 and calls ``score``::

    python examples/benchmarks/bench_ads.py --data mnist --windows 40
    python examples/benchmarks/bench_ads.py --data mnist --models ff --window-shape 5 7
    python examples/benchmarks/bench_ads.py --smoke

Contestants:

plain loop
    Copy, hide, ``estimator.score``.
ten passes
    The same loop around a Forward-Forward network that sends every image through the whole network
    once per label, as public code does; only where the label is given with the input
    (``--ff overlay=append loss=symba``).
captum
    captum's Occlusion with accuracy as its forward function. Its windows lie inside the image:
    there are fewer of them, and its time is scaled to the number of the others.
captum data set
    captum's DataLoaderAttribution of a FeatureAblation, which ablates one feature over all the data
    at a time. Its features are disjoint: only for ``--window-shape 1``.
score, predict, incremental engine
    Those of `skff.ADSExplainer`.

``--windows N`` lets the slow ones (the first five) score a random N of the windows and
extrapolates, which the table says. Peak memory is that above what the model and the data take.
"""

import argparse

import numpy as np
from _ads_contestants import CONTESTANTS, Task, can_run, warm_up
from _common import (
    DATA,
    forget_peak,
    load,
    make_parser,
    parse_settings,
    peak_mb,
    print_machine,
    print_table,
    setting,
    wants_smoke,
)
from _results import write_results
from sklearn.ensemble import RandomForestClassifier

from skff import FFClassifier
from skff.mlp_baselines import sklearn_mlp, skorch_mlp

MODELS = {
    "ff": lambda ff: ff,
    "sklearn": sklearn_mlp,
    "skorch": skorch_mlp,
    "forest": lambda ff: RandomForestClassifier(random_state=ff.random_state),
}


def main(argv=None):
    """Run what the command line asks for, print tables and write results after every run."""
    options = parse_options(argv)
    print_machine()
    runs = []
    for data in options.data:
        X_train, y_train, X, y = load(data, n_train=options.train_samples)
        X, y = X[: options.samples], y[: options.samples]
        for name in options.models:
            model = MODELS[name](make_ff(options)).fit(X_train, y_train)
            print(f"\n{data}, {name}: accuracy {model.score(X, y):.4f} on {len(y)} images")
            for window_shape in options.window_shape:
                about = {"data": data, "model": name, "samples": len(y), "window": window_shape}
                found = compare(model, X, y, make_task(X, window_shape, options), options)
                runs += [about | run for run in found]
                write_results(options.json, runs, ["data", "model", "window", "contestant"])
    return runs


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = wants_smoke(argv)
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--data", choices=[*DATA, "both"], default="digits" if smoke else "mnist")
    add("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    add("--window-shape", type=odd, nargs="+", default=[3], help="sides in pixels, odd")
    add("--windows", type=int, default=9 if smoke else None, help="sample for slow contestants")
    add("--samples", type=int, default=60 if smoke else None, help="test images; default: all")
    add("--train-samples", type=int, default=400 if smoke else None, help="default: all")
    add("--epochs", type=int, default=3 if smoke else 10, help="of the models to explain")
    add("--ff", type=setting, nargs="+", default=[], metavar="NAME=VALUE",
        help="parameters of FFClassifier, and of the MLPs where they have them")  # fmt: skip
    add("--seed", type=int, default=0)
    add("--smoke", action="store_true", help="tiny settings: shows in seconds that all runs")
    add("--json", metavar="FILE", help="write all results, in place of older ones")
    options = parser.parse_args(argv)
    options.data = ["mnist", "fashion-mnist"] if options.data == "both" else [options.data]
    return options


def odd(text):
    """Return the side of a window that has a pixel in its centre."""
    if int(text) % 2 == 0:
        raise argparse.ArgumentTypeError(f"Got {text}, but expected an odd number of pixels.")
    return int(text)


def make_ff(options):
    """Return the classifier that the others take their settings from."""
    settings = {"max_iter": options.epochs, "random_state": options.seed}
    return FFClassifier(**settings | parse_settings(options.ff))


def make_task(X, window_shape, options):
    """Return the windows to score."""
    side = round(X.shape[1] ** 0.5)
    windows = np.arange(side * side)
    if options.windows and options.windows < len(windows):
        rng = np.random.default_rng(options.seed)
        windows = np.sort(rng.choice(windows, options.windows, replace=False))
    centers = np.stack(np.unravel_index(windows, (side, side)), axis=1)
    return Task((side, side), window_shape, centers)


def compare(model, X, y, task, options):
    """Run the contestants on a model, print their table and return what was measured."""
    runs, loop = [], None
    for name in options.contestants:
        if not can_run(name, model, task.window_shape):
            continue
        warm_up(name, model, X, y, task)
        before = forget_peak()
        scores = CONTESTANTS[name](model, X, y, task)
        peak = peak_mb() - before
        loop = scores if name == "plain loop" else loop
        runs.append(describe(name, scores, loop, peak))
        print(f"  {name} done in {scores.seconds:.1f} s", flush=True)
    print_runs(runs, task)
    return runs


def describe(name, scores, loop, peak):
    """Return what is reported of a contestant, compared with the plain loop where it ran."""
    compared = scores.n_correct.keys() & loop.n_correct.keys() if loop else ()
    gaps = [abs(scores.n_correct[center] - loop.n_correct[center]) for center in compared]
    return {
        "contestant": name,
        "windows": len(scores.n_correct),
        "seconds": scores.seconds,
        "seconds_full": scores.seconds_full,
        "speedup": loop.seconds_full / scores.seconds_full if loop else None,
        "compared_windows": len(gaps),
        "differing_windows": sum(gap > 0 for gap in gaps),
        "largest_difference": max(gaps, default=0),
        "peak_mb": peak,
        "engine_stats": scores.stats,
    }


def print_runs(runs, task):
    """Print a row per contestant, then what the engines counted."""
    side = task.window_shape
    print(f"\n{task.n_windows} windows of {side} x {side} pixels\n")
    header = [f"contestant, {side} x {side}", f"seconds for {task.n_windows}", "faster than loop"]
    header += ["windows run", "differ from loop", "by samples", "peak MB"]
    rows = []
    for run in runs:
        scored = run["windows"]
        extrapolated = scored < task.n_windows
        speedup = "-" if run["speedup"] is None else f"{run['speedup']:.1f} x"
        rows.append([
            run["contestant"],
            f"{run['seconds_full']:.1f}{', extrapolated' if extrapolated else ''}",
            speedup,
            str(scored),
            *differences(run),
            f"{run['peak_mb']:.0f}",
        ])  # fmt: skip
    print_table(header, rows)
    for run in runs:
        if run["engine_stats"]:
            print(f"{run['contestant']}: {run['engine_stats']}")


def differences(run):
    """Return how many windows differ from the plain loop, and by how many samples at most."""
    if not run["compared_windows"]:
        return ["-", "-"]
    counts = f"{run['differing_windows']} of {run['compared_windows']}"
    return [counts, str(run["largest_difference"])]


if __name__ == "__main__":
    main()
