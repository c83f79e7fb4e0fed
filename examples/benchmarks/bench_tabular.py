"""Compare FFClassifier with scikit-learn's MLPClassifier on tables, both with nothing set.

Accuracy of 5-fold cross-validation after StandardScaler on the data sets that come with
scikit-learn, the same folds for both::

    python examples/benchmarks/bench_tabular.py --seeds 5
    python examples/benchmarks/bench_tabular.py --smoke
"""

import argparse
import statistics
import warnings

from _common import parse_settings, print_machine, print_table, setting
from _results import write_results
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skff import FFClassifier

DATA = {
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
    "iris": load_iris,
    "wine": load_wine,
}


def main(argv=None):
    """Run all data sets and seeds, print a table and write what is asked for."""
    options = parse_options(argv)
    print_machine()
    runs = [
        {"data": data, "seed": seed} | measure(data, seed, options)
        for data in options.data
        for seed in range(options.seeds)
    ]
    write_results(options.json, runs, ["data", "seed"])
    report(runs)
    return runs


def parse_options(argv):
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="+", choices=DATA, default=list(DATA))
    add("--seeds", type=int, default=3, help="number of seeds of folds and networks: 0, 1, ...")
    add("--ff", type=setting, nargs="+", default=[], metavar="NAME=VALUE",
        help="parameters of FFClassifier")  # fmt: skip
    add("--smoke", action="store_true", help="iris, two epochs: shows in seconds that all runs")
    add("--json", metavar="FILE", help="write all results, in place of older ones")
    options = parser.parse_args(argv)
    if options.smoke:
        options.data, options.seeds, options.ff = ["iris"], 1, ["max_iter=2"]
    return options


def measure(data, seed, options):
    """Return the mean accuracy over the folds, in percent, of both classifiers."""
    X, y = DATA[data](return_X_y=True)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    contestants = {
        "ff": FFClassifier(random_state=seed, **parse_settings(options.ff)),
        "mlp": MLPClassifier(random_state=seed),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the MLP stops at its 200 epochs
        return {
            name: 100 * cross_val_score(make_pipeline(StandardScaler(), c), X, y, cv=folds).mean()
            for name, c in contestants.items()
        }


def report(runs):
    """Print a row per data set and one of their means."""
    rows, means = [], []
    for data in dict.fromkeys(run["data"] for run in runs):
        own = [run for run in runs if run["data"] == data]
        means.append([statistics.fmean(run[name] for run in own) for name in ("ff", "mlp")])
        rows.append([data, *_row(*means[-1])])
    rows.append(["mean", *_row(*map(statistics.fmean, zip(*means, strict=True)))])
    print()
    print_table(["data", "FFClassifier %", "MLPClassifier %", "difference"], rows)


def _row(ff, mlp):
    return [f"{ff:.2f}", f"{mlp:.2f}", f"{ff - mlp:+.2f}"]


if __name__ == "__main__":
    main()
