"""Choose settings for sequences (MNIST-1D), as carefully for Forward-Forward as for the plain loop.

The sequences are drawn with another seed than those that ``bench_tabular.py`` measures: 3,000 to
train on, as many as in its folds, and 2,000 to choose by. Each stage of `STAGES` tries its values
with the best of the stages before it, on the first seed; the two best of all are then trained with
a second seed, and the lower mean error wins::

    python examples/benchmarks/choose_sequence_settings.py --json docs/results/sequences.json
    python examples/benchmarks/choose_sequence_settings.py --smoke

Needs the package ``mnist1d``. Runs that the file has are not run again. The choice is printed, to
be copied to `SETTINGS` in ``_sequences.py``.
"""

import functools
import statistics

from _common import make_parser, print_machine, print_table
from _results import run_missing
from _sequences import CONTESTANTS, OTHER_SEED, installed, make_sequences
from _summary import describe_settings, settings_table
from sklearn.preprocessing import StandardScaler

N_TRAIN = 3000
START = {
    "hidden_layer_sizes": [500, 500],
    "label_smoothing": 0.1,
    "learning_rate_init": 2e-3,
    "weight_decay": 0.0,
}
STAGES = [
    {"hidden_layer_sizes": [[500, 500], [500] * 3]},
    {"label_smoothing": [0.1, 0.3, 0.5]},
    {"learning_rate_init": [1e-3, 2e-3, 4e-3]},
    {"weight_decay": [0.0, 0.1, 0.3]},
]
FIRST_SEED, SECOND_SEED = 0, 1
N_FINALISTS = 2


def main(argv=None):
    """Search for both contestants, print the tables and the choices."""
    options = parse_options(argv)
    print_machine()
    choices = {}
    for contestant in CONTESTANTS:
        rows = search(contestant, options)
        choices[contestant] = choice(rows)
        print(f"\n{contestant}: chosen {describe_settings(choices[contestant])}\n")
        print_table(*settings_table(rows))
    return choices


def parse_options(argv):
    """Return the options of the command line."""
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--smoke", action="store_true", help="two stages on few sequences: shows that all runs")
    add("--json", metavar="FILE", help="keep every run in this file")
    options = parser.parse_args(argv)
    if not installed():
        parser.exit(message="Nothing is chosen without the sequences: pip install mnist1d\n")
    options.stages, options.n_train = (STAGES[2:], 100) if options.smoke else (STAGES, N_TRAIN)
    return options


def search(contestant, options):
    """Return the rows of all candidates of a contestant."""
    rows = []

    def run(candidates, seed):
        runs = [
            {"data": "mnist-1d", "contestant": contestant, "n_train": options.n_train}
            | {"hidden": c["hidden_layer_sizes"], "settings": c, "seed": seed}
            for c in candidates
        ]
        rows.extend(run_missing(runs, measure, path=options.json, announce=announce))

    run([START], FIRST_SEED)
    for stage in options.stages:
        ((name, values),) = stage.items()
        best = ranked(rows)[0]
        run([best | {name: value} for value in values if value != best[name]], FIRST_SEED)
    run(ranked(rows)[:N_FINALISTS], SECOND_SEED)
    return rows


def measure(run, rows):
    """Return the error in percent on the sequences to choose by."""
    X, y, X_chosen_by, y_chosen_by = held_out(run["n_train"])
    model = CONTESTANTS[run["contestant"]](run["settings"], run["seed"]).fit(X, y)
    return {"error": float(100 * (model.predict(X_chosen_by) != y_chosen_by).mean())}


@functools.cache
def held_out(n_train):
    """Return X, y to train on and X, y to choose by, standardized."""
    X, y = make_sequences(OTHER_SEED, part="all")
    scaler = StandardScaler().fit(X[:n_train])
    X = scaler.transform(X)
    return X[:n_train], y[:n_train], X[N_TRAIN:], y[N_TRAIN:]


def announce(row):
    """Print a row as soon as it is there."""
    settings = describe_settings(row["settings"])
    print(f"{row['contestant']} seed {row['seed']} {row['error']:.2f} % {settings}", flush=True)


def ranked(rows):
    """Return the settings tried with the first seed, that with the lowest error first."""
    first = [row for row in rows if row["seed"] == FIRST_SEED]
    return [row["settings"] for row in sorted(first, key=lambda row: row["error"])]


def choice(rows):
    """Return the settings with the lowest mean error among those run with both seeds."""
    finalists = [row["settings"] for row in rows if row["seed"] == SECOND_SEED]
    return min(
        finalists,
        key=lambda s: statistics.fmean(row["error"] for row in rows if row["settings"] == s),
    )


if __name__ == "__main__":
    main()
