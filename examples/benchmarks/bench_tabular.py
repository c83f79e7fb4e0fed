"""Compare FFClassifier with scikit-learn's MLPClassifier on tables, both with nothing set.

Accuracy of 5-fold cross-validation after StandardScaler on the data sets that come with
scikit-learn, the same folds for both, and of 4 folds on the 4,000 sequences of MNIST-1D, where
FFClassifier and the plain backprop loop are also measured with the settings that
``choose_sequence_settings.py`` chose on other sequences. These are left out unless ``mnist1d`` is
installed (``pip install mnist1d``)::

    python examples/benchmarks/bench_tabular.py --seeds 5
    python examples/benchmarks/bench_tabular.py --data mnist-1d
    python examples/benchmarks/bench_tabular.py --smoke
"""

import statistics
import warnings
from functools import partial

from _common import make_parser, parse_settings, print_machine, print_table, setting
from _results import write_results
from _sequences import CONTESTANTS, SETTINGS, installed, make_sequences
from _summary import tabular_tables
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

from skff import FFClassifier

SEQUENCES = "mnist-1d"
DATA = {
    "breast cancer": partial(load_breast_cancer, return_X_y=True),
    "digits": partial(load_digits, return_X_y=True),
    "iris": partial(load_iris, return_X_y=True),
    "wine": partial(load_wine, return_X_y=True),
    SEQUENCES: make_sequences,
}


def main(argv=None):
    """Run all data sets and seeds, print a table and write what is asked for."""
    options = parse_options(argv)
    print_machine()
    runs = []
    for data in available(options.data):
        for seed in range(options.seeds):
            runs.append({"data": data, "seed": seed} | measure(data, seed, options))
            write_results(options.json, runs[-1:], ["data", "seed"])
    report(runs)
    return runs


def parse_options(argv):
    """Return the options of the command line."""
    parser = make_parser(__doc__)
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


def available(names):
    """Return the names of the data sets that are there, and say which one is not."""
    if SEQUENCES in names and not installed():
        print(f"{SEQUENCES} is left out: pip install mnist1d")
        return [name for name in names if name != SEQUENCES]
    return names


def measure(data, seed, options):
    """Return the mean accuracy over the folds, in percent, of every contestant."""
    X, y = DATA[data]()
    n_folds = 4 if data == SEQUENCES else 5
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    figures = {
        name: cross_validate(make, X, y, folds) for name, make in defaults(seed, options).items()
    }
    if data == SEQUENCES:
        figures["settings"] = SETTINGS
        figures["chosen"] = {
            name: cross_validate(partial(CONTESTANTS[name], settings, seed), X, y, folds)
            for name, settings in SETTINGS.items()
        }
    return figures


def defaults(seed, options):
    """Return what makes the classifiers with nothing set: name -> callable without arguments."""
    return {
        "ff": partial(FFClassifier, random_state=seed, **parse_settings(options.ff)),
        "mlp": partial(MLPClassifier, random_state=seed),
    }


def cross_validate(make, X, y, folds):
    """Return the mean accuracy in percent over folds, of features that are standardized."""
    accuracies = []
    for fit_rows, test_rows in folds.split(X, y):
        scaler = StandardScaler().fit(X[fit_rows])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the MLP stops at 200 epochs
            model = make().fit(scaler.transform(X[fit_rows]), y[fit_rows])
        predicted = model.predict(scaler.transform(X[test_rows]))
        accuracies.append(100 * (predicted == y[test_rows]).mean())
    return float(statistics.fmean(accuracies))


def report(runs):
    """Print a row per data set, then one per contestant with chosen settings."""
    for header, body in tabular_tables(runs):
        if body:
            print()
            print_table(header, body)


if __name__ == "__main__":
    main()
