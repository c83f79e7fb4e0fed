"""Train Forward-Forward and backprop networks of one size beside each other.

Every run of a contestant is a process of its own; all contestants of a seed run one after another
in a changing order, so that ratios to the plain torch loop are taken pairwise::

    python examples/benchmarks/bench_training.py --data both --seeds 3 --json FILE
    python examples/benchmarks/bench_training.py --data both --seeds 10 --jobs 2 --json FILE
    python examples/benchmarks/bench_training.py --data mnist --hidden 500 500 500 500 500
    python examples/benchmarks/bench_training.py --data mnist --recipe HINTON_2022
    python examples/benchmarks/bench_training.py --smoke

Contestants:

ff
    FFClassifier with the settings that ``choose_settings.py`` chose, labels at every layer.
ff-default
    FFClassifier with nothing set.
ff-input
    FFClassifier with the label given with the input only and a pair loss, as in the papers.
torch-lean
    A plain backprop loop with the settings chosen for it, the opponent that ratios refer to. It
    has the same batches, optimizer, schedule, centring, scaling and dropout as FFClassifier, and
    smooths its targets too.
skorch, sklearn
    The networks of `skff.mlp_baselines` with torch-lean's settings, as far as they have them.
public
    The best-known public Forward-Forward recipe, for the time that ff took.

Seconds are those of `fit` without evaluation; peak memory is that of `fit` above what data and
libraries hold. Runs that the file of ``--json`` has already are not run again. ``--jobs 2`` runs
two processes of one thread side by side, for errors only: their seconds are not reported.
"""

from functools import partial

from _common import (
    DATA,
    make_parser,
    print_machine,
    print_table,
    read_settings,
    setting,
    spread,
    wants_smoke,
)
from _results import measure_in_process, run_missing
from _settings import SETTINGS, chosen_settings, read_settings_file
from _summary import describe_settings, layer_table, training_table

CONTESTANTS = ["ff", "ff-default", "ff-input", "torch-lean", "skorch", "sklearn", "public"]
DEFAULT_HIDDEN = [500, 500]  # of FFClassifier
# The best on validation images for this way, before labels entered at every layer.
INPUT_SETTINGS = {
    "overlay": "append",
    "loss": "symba",
    "negatives": "hard",
    "label_scale": 0.5,
    "learning_rate_init": 3e-3,
    "dropout": 0.2,
}


def main(argv=None):
    """Run what the command line asks for, print tables and return the rows."""
    options = parse_options(argv)
    print_machine()
    for data in options.data:
        if not any(choice["data"] == data for choice in options.choices):
            print(f"No settings were chosen for {data}: taking those the search starts from.")
    runs = [run for data in options.data for run in plan(options, data)]
    rows = run_missing(runs, measure, path=options.json, jobs=options.jobs, announce=announce)
    for data in options.data:
        report(options, data, [row for row in rows if row["data"] == data])
    return rows


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = wants_smoke(argv)
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--data", choices=[*DATA, "both"], default="digits" if smoke else "mnist")
    add("--seeds", type=int, default=1 if smoke else 3, help="number of seeds")
    add("--first-seed", type=int, default=0, help="the others follow it")
    add("--contestants", nargs="+", choices=CONTESTANTS, help="default: all that apply")
    add("--hidden", type=int, nargs="+", default=DEFAULT_HIDDEN, help="units of each layer")
    add("--epochs", type=int, default=2 if smoke else 30)
    add("--batch-size", type=int, default=64 if smoke else 256)
    add("--settings", metavar="FILE", default=str(SETTINGS), help="chosen by choose_settings.py")
    add("--ff", type=setting, nargs="+", default=[], metavar="NAME=VALUE",
        help="parameters of ff, or of the recipe, whose epochs and rates are its own, such as "
        "dropout=0.3, label_smoothing=0.05 or loss='SymBa(scale=8.0)'")  # fmt: skip
    add("--torch", type=setting, nargs="+", default=[], metavar="NAME=VALUE",
        help="parameters of torch-lean, such as weight_decay=1e-4")  # fmt: skip
    add("--recipe", help="run this one of skff.recipes in place of the contestants")
    add("--validation", action="store_true", help="test on held-out training images")
    n_train = 400 if smoke else None
    add("--n-train", type=int, default=n_train, help="use only the first training images")
    add("--target", type=float, default=2.0, help="error in percent whose time is wanted")
    add("--evaluate-every", type=int, default=1, help="epochs between evaluations; 0 for none")
    add("--threads", type=int, default=1, help="of each process")
    add("--jobs", type=int, default=1, help="processes side by side, whose times do not count")
    add("--smoke", action="store_true", help="tiny settings: shows in seconds that all runs")
    add("--json", metavar="FILE", help="add results to this file and skip those that it has")
    options = parser.parse_args(argv)
    options.data = ["mnist", "fashion-mnist"] if options.data == "both" else [options.data]
    options.choices = read_settings_file(options.settings)
    if options.recipe:
        _check_recipe(parser, options.recipe)
        if smoke and not options.ff:
            options.ff = ["hidden_layer_sizes=(50, 50)", "max_iter=2"]
    _check_public(parser, options)
    if options.jobs > 1 and options.threads > 1:
        parser.error(f"Got --threads {options.threads} with --jobs, but expected 1 thread each.")
    return options


def _check_recipe(parser, name):
    from skff.recipes import RECIPES

    if name not in RECIPES:
        parser.error(f"Got --recipe {name}, but expected one of {', '.join(RECIPES)}.")


def _check_public(parser, options):
    wanted = options.contestants or []
    if "public" in wanted and "ff" not in wanted:
        parser.error("Got public without ff, but expected both: public gets the time ff takes.")
    if "public" in wanted and options.jobs > 1:
        parser.error("Got public with --jobs, but expected 1 job: public gets the time ff takes.")


def plan(options, data):
    """Yield the runs on a data set: dicts of everything a contestant needs to know."""
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for contestant in _turns(options, seed):
            run = describe_run(
                data,
                contestant,
                settings_of(contestant, options, data),
                seed=seed,
                hidden=options.hidden,
                epochs=options.epochs,
                batch_size=options.batch_size,
                validation=options.validation,
                n_train=options.n_train,
                evaluate_every=options.evaluate_every,
                threads=options.threads,
                timed=options.jobs == 1,
            )
            yield run | ({"recipe": options.recipe} if options.recipe else {})


def _turns(options, seed):
    """Return the contestants, another one first for every seed; public needs ff's time."""
    if options.recipe:
        return ["recipe"]
    default = [name for name in CONTESTANTS if name != "public" or options.jobs == 1]
    if options.hidden != DEFAULT_HIDDEN:
        default.remove("ff-default")
    wanted = [name for name in options.contestants or default if name != "public"]
    shift = seed % len(wanted)
    public = [name for name in options.contestants or default if name == "public"]
    return wanted[shift:] + wanted[:shift] + public


def settings_of(contestant, options, data):
    """Return a contestant's own parameters: chosen on validation images, then those given here."""
    chosen = partial(chosen_settings, options.choices, data, hidden=options.hidden)
    if contestant == "recipe":
        return read_settings(options.ff)
    if contestant == "ff":
        return chosen("ff") | read_settings(options.ff)
    if contestant == "ff-input":
        return INPUT_SETTINGS
    if contestant == "torch-lean":
        return chosen("torch-lean") | read_settings(options.torch)
    return chosen("torch-lean") if contestant in ("skorch", "sklearn") else {}


def describe_run(
    data,
    contestant,
    settings,
    *,
    seed,
    hidden=DEFAULT_HIDDEN,
    epochs=30,
    batch_size=256,
    validation=False,
    n_train=None,
    evaluate_every=0,
    threads=1,
    timed=True,
):
    """Return a run: what `_training_contestants.measure` reads, and what tells it from others."""
    own = contestant in ("ff-default", "recipe")  # sizes, epochs and batches of its own
    return {
        "data": data,
        "contestant": contestant,
        "settings": settings,
        "seed": seed,
        "hidden": DEFAULT_HIDDEN if own else hidden,
        "epochs": None if own else epochs,
        "batch_size": None if own else batch_size,
        "validation": validation,
        "n_train": n_train,
        "evaluate_every": evaluate_every,
        "threads": threads,
        "timed": timed,
    }


def measure(run, rows):
    """Run a contestant in a process of its own and return what it measured."""
    budget = {}
    if run["contestant"] == "public":
        same = ["data", "seed", "hidden", "validation", "n_train", "threads"]
        seconds = [
            row["seconds"]
            for row in rows
            if row["contestant"] == "ff" and row["timed"] and all(row[k] == run[k] for k in same)
        ]
        budget = {"budget": seconds[-1]}
    return budget | measure_in_process("_training_contestants.py", run | budget)


def announce(row):
    """Print a line on a finished run."""
    name = row.get("recipe") or row["contestant"]
    seconds = f"{row['seconds']:8.2f} s" if row["timed"] else " untimed"
    print(
        f"{row['data']:>13}  seed {row['seed']}  {name:<12} {seconds}  "
        f"error {row['error']:5.2f} %  {describe_settings(row['settings'])}",
        flush=True,
    )


def report(options, data, rows):
    """Print the tables of a data set."""
    part = "held-out training images" if options.validation else "test images"
    print(f"\n{data}, {options.seeds} seeds, error on {part}: median (min to max)\n")
    if options.recipe:
        report_recipe(options.recipe, rows)
        return
    target = options.target if any(row["curve"] for row in rows) else None
    print_table(*training_table(rows, target))
    print("\nError of each layer's goodness alone and of their sum, percent\n")
    print_table(*layer_table(rows))
    updates = [row["n_iter"] for row in rows if row["contestant"] == "public"]
    if updates:
        print(f"\npublic made {spread(updates, 0)} updates, each on all images, in ff's time.")


def report_recipe(name, rows):
    """Print a row per readout of a recipe, then what its source claims."""
    from skff.recipes import RECIPES

    readouts = {"its own": ("predict_seconds", "error"), "goodness": ("sum_seconds", "sum_error")}
    body = [
        [name, readout, *(spread([row[key] for row in rows]) for key in ["seconds", *keys])]
        for readout, keys in readouts.items()
    ]
    print_table(["recipe", "readout", "seconds to fit", "seconds to predict", "error %"], body)
    print(f"\nSource: {RECIPES[name].source}\nClaim: {RECIPES[name].claim or 'none'}")


if __name__ == "__main__":
    main()
