"""Train Hinton's recipe and find which of its settings matter.

Both readouts are evaluated, the softmax head and the goodness of all layers but the first::

    python examples/benchmarks/bench_hinton.py --parts changes --json FILE
    python examples/benchmarks/bench_hinton.py --parts curve whole --json FILE
    python examples/benchmarks/bench_hinton.py --parts curve --heads recipe --threads 2 \
        --hidden 2000 2000 2000 2000 --epochs 40 --json FILE
    python examples/benchmarks/bench_hinton.py --smoke

Parts:

changes
    The settings that the recipe began with (`BEFORE`), each of `CHANGES` alone, all of them, all of
    them with hard negatives, and with a smoothed head too, which is the recipe: error on held-out
    training images, the last 10,000 after a fixed shuffle, after a short training. Test images are
    not read.
curve
    The recipe, with its head and with an unsmoothed one: error on the held-out images every few
    epochs, and on test images after the last.
whole
    Both trained on all training images: error on test images after the last epoch.

Every run is a process of its own; runs that the file of ``--json`` has already are not run again.
"""

from _common import DATA, make_parser, print_machine, print_table, wants_smoke
from _results import measure_in_process, run_missing
from _summary import hinton_changes_table, hinton_networks_table

# His head, without the label smoothing that the recipe has.
UNSMOOTHED = {"readout": "Softmax(learning_rate_init=0.01, weight_decay=0.03)"}
HEADS = {"recipe": {}, "head without label smoothing": UNSMOOTHED}
BEFORE = {
    "negatives": "uniform",
    "label_scale": 0.5,
    "readout": "softmax",
    "weight_decay": 3e-4,
    "peer_normalization": 0.03,
    "normalize": False,
}
# What the recipe sets otherwise, by the name that the tables give the change.
CHANGES = {
    "label as strong as a white pixel": "label_scale",
    "images scaled to the same norm": "normalize",
    "head learns faster and decays more": "readout",
    "more weight decay": "weight_decay",
    "less peer normalization": "peer_normalization",
}


def main(argv=None):
    """Run what the command line asks for, print tables and return the rows."""
    options = parse_options(argv)
    print_machine()
    rows = run_missing(
        list(plan(options)), measure, path=options.json, jobs=options.jobs, announce=announce
    )
    for tabulate in (hinton_changes_table, hinton_networks_table):
        header, body = tabulate(rows)
        if body:
            print()
            print_table(header, body)
    return rows


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = wants_smoke(argv)
    parser = make_parser(__doc__)
    add = parser.add_argument
    parts = ["changes", "curve", "whole"]
    add("--parts", nargs="+", choices=parts, default=parts)
    add("--heads", nargs="+", choices=HEADS, default=list(HEADS), help="of a curve or the whole")
    add("--data", choices=DATA, default="digits" if smoke else "mnist")
    add("--hidden", type=int, nargs="+", default=[40, 40] if smoke else [1000, 1000, 1000])
    add("--epochs", type=int, default=2 if smoke else 60, help="of a curve or the whole")
    add("--short", type=int, default=1 if smoke else 20, help="epochs of a change")
    add("--evaluate-every", type=int, default=1 if smoke else 5, help="epochs between points")
    add("--precision", default="medium", help="matmul_precision of training")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1, help="of each process")
    add("--jobs", type=int, default=1, help="processes side by side, whose times do not count")
    add("--smoke", action="store_true", help="tiny settings: shows in seconds that all runs")
    add("--json", metavar="FILE", help="add results to this file and skip those that it has")
    return parser.parse_args(argv)


def plan(options):
    """Yield the runs: dicts of everything that tells one from another."""
    for part in options.parts:
        is_short = part == "changes"
        heads = {head: HEADS[head] for head in options.heads}
        for change, settings in (settings_by_change() if is_short else heads).items():
            settings = {"matmul_precision": options.precision} | settings
            yield {
                "part": part,
                "change": change,
                "data": options.data,
                "hidden": options.hidden,
                "epochs": options.short if is_short else options.epochs,
                "normalize": settings.pop("normalize", True),
                "settings": settings,
                "evaluate_every": options.evaluate_every if part == "curve" else 0,
                "seed": options.seed,
                "threads": options.threads,
                "timed": options.jobs == 1,
            }


def settings_by_change():
    """Return what to set in place of the recipe's settings, by the name of the change."""
    alone = {
        change: UNSMOOTHED | {name: value for name, value in BEFORE.items() if name != changed}
        for change, changed in CHANGES.items()
    }
    every = {
        "all of these": UNSMOOTHED | {"negatives": "uniform"},
        "all, and hard negatives": UNSMOOTHED,
        "all, hard negatives and a smoothed head": {},
    }
    return {"none": BEFORE} | alone | every


def measure(run, rows):
    """Measure a run in a process of its own."""
    return measure_in_process("_hinton_runs.py", run)


def announce(row):
    """Print a line on a finished run."""
    errors = [("held-out", point) for point in row["curve"][-1:]]
    errors += [("test", row["test"])] if row["test"] else []
    shown = "; ".join(
        f"{name} error {found['head']:.2f} % (head), {found['goodness']:.2f} % (goodness)"
        for name, found in errors
    )
    print(f"{row['part']}: {row['change']}, {row['seconds']:.0f} s, {shown}", flush=True)


if __name__ == "__main__":
    main()
