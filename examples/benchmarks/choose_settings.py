"""Choose the settings of Forward-Forward and of the plain backprop loop on validation images.

Both sides are given the same number of candidates and seeds, on every data set and every network
size. The search goes through `STAGES`: each tries its values with the best of the stages before
it, on the first seed; the two best of all are then trained with a second seed, and the lower mean
wins. Validation images are the last of the training images after a fixed shuffle; test images are
never read::

    python examples/benchmarks/choose_settings.py --jobs 2
    python examples/benchmarks/choose_settings.py --smoke

Every run is kept in ``docs/results/validation.json`` and not run again. At the end the choice is
written to ``settings.json`` beside this script, which ``bench_training.py`` reads.
"""

import itertools
import json
import statistics
from pathlib import Path

from _common import DATA, make_parser, print_machine, print_table, wants_smoke
from _results import REPOSITORY, provenance, run_missing
from _settings import SETTINGS, START, read_settings_file
from _summary import describe_settings, settings_table
from bench_training import announce, describe_run, measure

# One dict of values per stage; several names in one stage are tried in all combinations.
SHARED_STAGES = [
    {"learning_rate_init": [1e-3, 2e-3, 3e-3]},
    {"dropout": [0.2, 0.3]},
    {"label_smoothing": [0.1, 0.05]},
]
STAGES = {
    "ff": [*SHARED_STAGES, {"label_scale": [1.0, 0.5]}],
    "torch-lean": [*SHARED_STAGES, {"weight_decay": [0.0, 0.05]}],
}
FIRST_SEED, SECOND_SEED = 0, 1
N_FINALISTS = 2
HIDDEN = [[500, 500]]  # deeper networks take over what two layers have chosen
RESULTS = REPOSITORY / "docs" / "results" / "validation.json"


def main(argv=None):
    """Search for every data set and size at once, print the tables and write the choices."""
    options = parse_options(argv)
    print_machine()
    searches = [
        Search(data, contestant, hidden, options)
        for data in options.data
        for hidden in options.hidden
        for contestant in STAGES
    ]
    for stage in range(len(STAGES["ff"])):
        run_all(searches, lambda search, k=stage: search.stage_runs(k), options)
    run_all(searches, Search.final_runs, options)
    for search in searches:
        print(f"\n{search.title}: chosen {describe_settings(search.choice()['settings'])}\n")
        print_table(*settings_table(search.rows))
    write_choices(options.settings, [search.choice() for search in searches])
    return searches


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = wants_smoke(argv)
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--data", nargs="+", choices=DATA,
        default=["digits"] if smoke else ["mnist", "fashion-mnist"])  # fmt: skip
    add("--epochs", type=int, default=1 if smoke else 20)
    add("--n-train", type=int, default=300 if smoke else None, help="use only the first images")
    add("--jobs", type=int, default=1, help="processes of one thread side by side")
    add("--json", metavar="FILE", default=None if smoke else str(RESULTS),
        help="where the runs are kept")  # fmt: skip
    add("--settings", metavar="FILE", default=None if smoke else str(SETTINGS),
        help="where the choices are written")  # fmt: skip
    add("--smoke", action="store_true", help="tiny settings: shows in seconds that all runs")
    options = parser.parse_args(argv)
    options.hidden = [[20, 20]] if smoke else HIDDEN
    options.batch_size = 64 if smoke else 256
    return options


def run_all(searches, runs_of, options):
    """Run one stage of all searches, so that no process waits for another search's stage."""
    planned = [(search, run) for search in searches for run in runs_of(search)]
    rows = run_missing(
        [run for _, run in planned],
        measure,
        path=options.json,
        jobs=options.jobs,
        announce=announce,
    )
    for (search, _), row in zip(planned, rows, strict=True):
        search.rows.append(row)


class Search:
    """The search for one contestant on one data set with one network size.

    Parameters
    ----------
    data, contestant : str
        What is searched for.
    hidden : list of int
        Units per layer.
    options : Namespace
        Of the command line.
    """

    def __init__(self, data, contestant, hidden, options):
        self.data = data
        self.contestant = contestant
        self.hidden = hidden
        self.options = options
        self.rows = []

    @property
    def title(self):
        """Name of the search, for a reader."""
        return f"{self.data}, {'-'.join(map(str, self.hidden))}, {self.contestant}"

    def stage_runs(self, stage):
        """Return the runs of a stage's candidates that no stage before it has run."""
        best = self.ranked()[0] if self.rows else START[self.contestant]
        names, values = zip(*STAGES[self.contestant][stage].items(), strict=True)
        candidates = [
            best | dict(zip(names, combination, strict=True))
            for combination in itertools.product(*values)
        ]
        tried = [row["settings"] for row in self.rows]
        return [self.run(c, FIRST_SEED) for c in candidates if c not in tried]

    def final_runs(self):
        """Return the runs of the best candidates with another seed."""
        return [self.run(settings, SECOND_SEED) for settings in self.ranked()[:N_FINALISTS]]

    def run(self, settings, seed):
        """Return a run on validation images."""
        return describe_run(
            self.data,
            self.contestant,
            settings,
            seed=seed,
            hidden=self.hidden,
            epochs=self.options.epochs,
            batch_size=self.options.batch_size,
            validation=True,
            n_train=self.options.n_train,
            timed=False,
        )

    def ranked(self):
        """Return the settings tried so far, that with the lowest error on the first seed first."""
        first = [row for row in self.rows if row["seed"] == FIRST_SEED]
        return [row["settings"] for row in sorted(first, key=lambda row: row["error"])]

    def choice(self):
        """Return the settings with the lowest mean error among those run with both seeds."""
        finalists = [row["settings"] for row in self.rows if row["seed"] == SECOND_SEED]
        means = [statistics.fmean(self._errors(settings)) for settings in finalists]
        best = means.index(min(means))
        return {
            "data": self.data,
            "contestant": self.contestant,
            "hidden": self.hidden,
            "settings": finalists[best],
            "validation_error": round(means[best], 4),
            "seeds": [FIRST_SEED, SECOND_SEED],
            "n_candidates": len(self.ranked()),
        }

    def _errors(self, settings):
        return [row["error"] for row in self.rows if row["settings"] == settings]


def write_choices(path, choices):
    """Write choices to a file, in place of those of the same data, contestants and sizes."""
    if path is None:
        return
    names = ["data", "contestant", "hidden"]
    new = [[choice[name] for name in names] for choice in choices]
    kept = [c for c in read_settings_file(path) if [c[name] for name in names] not in new]
    chosen = sorted(kept + choices, key=lambda c: [str(c[name]) for name in names])
    content = {"chosen": chosen} | provenance()
    Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
