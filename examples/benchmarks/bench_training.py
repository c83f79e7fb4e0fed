"""Train Forward-Forward and backprop networks of one size beside each other.

Every run of a contestant is a process of its own; all contestants of a seed run one after another
in a changing order, so that ratios to the plain torch loop are taken pairwise::

    python examples/benchmarks/bench_training.py --data both --seeds 5 --epochs 30 --dropout 0.2
    python examples/benchmarks/bench_training.py --data mnist --learning-rates 1e-3 2e-3 4e-3
    python examples/benchmarks/bench_training.py --data mnist --recipe HINTON_2022
    python examples/benchmarks/bench_training.py --smoke

Contestants:

ff
    FFClassifier with the settings given here.
ff-default
    FFClassifier with nothing set.
sklearn, skorch
    The networks of `skff.mlp_baselines` at the same settings; sklearn's has no dropout and a
    constant learning rate.
torch
    A plain backprop loop with the same optimizer, schedule, batches, dropout and precision, the
    opponent that ratios refer to.
torch-lean
    The same with FFClassifier's cheaper way to draw the dropped features.
public
    The best-known public Forward-Forward recipe, for the time that ff took.

FFClassifier subtracts the training images' mean by itself. The backprop networks are given images
from which it is subtracted, which lowers their error too. ``--uncentered`` leaves it in for all but
ff-default and the recipes, which keep their own setting.

Seconds are those of `fit` without evaluation; peak memory is that of `fit` above what data and
libraries hold. Settings are to be chosen with ``--validation`` or ``--learning-rates``, which
never read the test images.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from _common import DATA, print_machine, print_table, setting, spread, write_json

CONTESTANTS = ["ff", "ff-default", "sklearn", "skorch", "torch", "torch-lean", "public"]
RUN_OPTIONS = [
    *["hidden", "batch_size", "epochs", "dropout", "learning_rate", "backprop_learning_rate"],
    *["uncentered", "precision", "ff", "torch", "recipe", "validation", "evaluate_every"],
    *["target", "n_train"],
]


def main(argv=None):
    """Run what the command line asks for, print tables and write results after every run."""
    options = parse_options(argv)
    print_machine()
    runs = []
    for data in options.data:
        for run in plan(options, data):
            runs.append(run | measure(run, runs))
            print(describe(runs[-1]), flush=True)
            write_json(options.json, runs=runs)
    for data in options.data:
        report(options, data, [run for run in runs if run["data"] == data])
    if options.plot:
        plot(runs, options.plot, options.target)
    return runs


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = "--smoke" in (sys.argv if argv is None else argv)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", choices=[*DATA, "both"], default="digits" if smoke else "mnist")
    add("--seeds", type=int, default=1 if smoke else 3, help="number of seeds")
    add("--first-seed", type=int, default=0, help="the others follow it")
    add("--contestants", nargs="+", choices=CONTESTANTS, help="default: all")
    add("--hidden", type=int, nargs="+", default=[500, 500], help="units of each layer")
    add("--epochs", type=int, default=2 if smoke else 30)
    add("--batch-size", type=int, default=64 if smoke else 256)
    add("--dropout", type=float, default=0.2, help="share of input features dropped")
    add("--learning-rate", type=float, default=2e-3, help="of ff")
    add("--backprop-learning-rate", type=float, default=1e-3, help="of sklearn, skorch, torch")
    add("--uncentered", action="store_true", help="leave the mean in the images")
    add("--precision", choices=["highest", "high", "medium"], default="highest")
    add("--ff", type=setting, nargs="+", default=[], metavar="NAME=VALUE",
        help="more parameters of ff, or of the recipe, whose epochs and rates are its own, "
        "such as max_iter=5 or loss='SymBa(scale=8.0)'")  # fmt: skip
    add("--torch", type=setting, nargs="+", default=[], metavar="NAME=VALUE",
        help="more parameters of torch, such as weight_decay=1e-4")  # fmt: skip
    add("--recipe", help="run this one of skff.recipes in place of the contestants")
    add("--learning-rates", type=float, nargs="+", help="scan ff and torch on validation data")
    add("--validation", action="store_true", help="test on held-out training images")
    n_train = 400 if smoke else None
    add("--n-train", type=int, default=n_train, help="use only the first training images")
    add("--target", type=float, default=2.0, help="error in percent whose time is wanted")
    add("--evaluate-every", type=int, default=1, help="epochs between evaluations; 0 for none")
    add("--smoke", action="store_true", help="tiny settings: shows in seconds that all runs")
    add("--plot", metavar="FILE", help="draw error against seconds of training")
    add("--json", metavar="FILE", help="write all results")
    options = parser.parse_args(argv)
    options.data = ["mnist", "fashion-mnist"] if options.data == "both" else [options.data]
    options.validation |= bool(options.learning_rates)
    if options.recipe:
        _check_recipe(parser, options.recipe)
        if smoke and not options.ff:
            options.ff = ["hidden_layer_sizes=(50, 50)", "max_iter=2"]
    if options.plot and not options.evaluate_every:
        parser.error("Got --plot with --evaluate-every 0, but expected epochs to draw.")
    if options.plot and options.learning_rates:
        parser.error("Got --plot with --learning-rates, but expected one rate per curve.")
    if "public" in (options.contestants or []) and "ff" not in options.contestants:
        parser.error("Got public without ff, but expected both: public gets the time ff takes.")
    return options


def _check_recipe(parser, name):
    from skff.recipes import RECIPES

    if name not in RECIPES:
        parser.error(f"Got --recipe {name}, but expected one of {', '.join(RECIPES)}.")


def plan(options, data):
    """Yield the runs on a data set: dicts of everything a contestant needs to know."""
    shared = {name: getattr(options, name) for name in RUN_OPTIONS} | {"data": data, "budget": 0.0}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for contestant in _turns(options, seed):
            run = shared | {"contestant": contestant, "seed": seed}
            if not options.learning_rates:
                yield run
            for rate in options.learning_rates or []:
                yield run | {"learning_rate": rate, "backprop_learning_rate": rate}


def _turns(options, seed):
    """Return the contestants, another one first for every seed; public needs ff's time."""
    if options.recipe:
        return ["recipe"]
    default = ["ff", "torch"] if options.learning_rates else CONTESTANTS
    wanted = [name for name in options.contestants or default if name != "public"]
    if not options.contestants and not options.dropout:
        wanted = [name for name in wanted if name != "torch-lean"]  # it would be torch again
    shift = seed % len(wanted)
    public = [name for name in options.contestants or default if name == "public"]
    return wanted[shift:] + wanted[:shift] + public


def measure(run, earlier):
    """Run a contestant in a process of its own and return what it measured."""
    if run["contestant"] == "public":
        times = {(r["data"], r["seed"], r["contestant"]): r["seconds"] for r in earlier}
        run = run | {"budget": times[run["data"], run["seed"], "ff"]}
    script = Path(__file__).with_name("_training_contestants.py")
    command = [sys.executable, str(script), json.dumps(run)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if finished.returncode:
        raise SystemExit(f"{run['contestant']} failed on {run['data']}, see above.")
    return json.loads(finished.stdout.splitlines()[-1])


def describe(run):
    """Return a line on a finished run."""
    name = run["recipe"] or run["contestant"]
    return (
        f"{run['data']:>13}  seed {run['seed']}  {name:<12} {run['seconds']:8.2f} s  "
        f"error {run['error']:5.2f} %  {run['threads']} threads"
    )


def report(options, data, runs):
    """Print the tables of a data set."""
    part = "held-out training images" if options.validation else "test images"
    print(f"\n{data}, {options.seeds} seeds, error on {part}: median (min to max)\n")
    if options.recipe:
        report_recipe(options.recipe, runs)
    elif options.learning_rates:
        report_scan(options.learning_rates, runs)
    else:
        report_contestants(runs, options.target)


def report_contestants(runs, target):
    """Print a row per contestant, with ratios to torch taken seed by seed."""
    by_name = {}
    for run in runs:
        by_name.setdefault(run["contestant"], {})[run["seed"]] = run
    reference = by_name.get("torch", {})
    header = ["contestant", "error %", "mean", "seconds", "/ torch", f"seconds to {target:g} %"]
    header += ["/ torch", "peak MB", "/ torch", "NLL", "ECE %"]
    rows = []
    for name, by_seed in by_name.items():
        row = [name, _spread(by_seed, "error"), f"{_mean(by_seed, 'error'):.2f}"]
        for key in ["seconds", "seconds_to_target", "peak_mb"]:
            row += [_spread(by_seed, key, 1), spread(ratios(by_seed, reference, key))]
        rows.append([*row, _spread(by_seed, "nll", 4), _spread(by_seed, "ece")])
    print_table(header, rows)
    if "public" in by_name:
        updates = spread([run["n_iter"] for run in by_name["public"].values()], 0)
        print(f"\npublic made {updates} updates, each on all training images, in the time of ff.")


def ratios(by_seed, reference, key):
    """Return a contestant's figure over the reference's for each seed where both have one."""
    pairs = [(run[key], reference.get(seed, {}).get(key)) for seed, run in by_seed.items()]
    return [mine / theirs for mine, theirs in pairs if mine is not None and theirs]


def _spread(by_seed, key, digits=2):
    return spread([run[key] for run in by_seed.values()], digits)


def _mean(by_seed, key):
    return statistics.fmean(run[key] for run in by_seed.values())


def report_recipe(name, runs):
    """Print a row per readout of a recipe, then what its source claims."""
    from skff.recipes import RECIPES

    readouts = {"goodness": ("error", "predict_seconds")}
    if "goodness_error" in runs[0]:
        readouts["softmax"] = readouts["goodness"]
        readouts["goodness"] = ("goodness_error", "goodness_predict_seconds")
    rows = [
        [name, readout, *(spread([run[key] for run in runs]) for key in ["seconds", *keys[::-1]])]
        for readout, keys in readouts.items()
    ]
    print_table(["recipe", "readout", "seconds to fit", "seconds to predict", "error %"], rows)
    print(f"\nSource: {RECIPES[name].source}\nClaim: {RECIPES[name].claim or 'none'}")


def report_scan(rates, runs):
    """Print the validation error of each contestant at each learning rate."""
    names = list(dict.fromkeys(run["contestant"] for run in runs))

    def cell(name, rate):
        own = [r for r in runs if r["contestant"] == name and r["learning_rate"] == rate]
        return spread([run["error"] for run in own])

    rows = [[f"{rate:g}", *(cell(name, rate) for name in names)] for rate in rates]
    print_table(["learning rate", *names], rows)


def median_curve(curves):
    """Return the seconds and the error of each evaluated epoch, medians over the curves."""
    epochs = list(zip(*curves, strict=True))
    return [
        [statistics.median(point[key] for point in points) for points in epochs]
        for key in ("seconds", "error")
    ]


def plot(runs, path, target):
    """Draw each contestant's error against its seconds of training, medians over the seeds."""
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    datasets = list(dict.fromkeys(run["data"] for run in runs))
    figure, axes = plt.subplots(
        1, len(datasets), figsize=(6 * len(datasets), 4), squeeze=False, layout="constrained"
    )
    for ax, data in zip(axes[0], datasets, strict=True):
        own = [run for run in runs if run["data"] == data and run["curve"]]
        for name in dict.fromkeys(run["contestant"] for run in own):
            curves = [run["curve"] for run in own if run["contestant"] == name]
            ax.semilogy(*median_curve(curves), ".-", label=f"{name}, seeds: {len(curves)}")
        ax.axhline(target, color="grey", linestyle=":")
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
        ax.set(title=data, xlabel="seconds of training", ylabel="error in percent")
        ax.legend()
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    main()
