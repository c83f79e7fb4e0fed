"""Compare this version of skff with another checkout, in alternating runs.

::

    git clone . ../old && git -C ../old checkout fa6b3c6
    python examples/benchmarks/bench_versions.py --old ../old --data both --threads 1 2 \
        --json docs/results/versions.json
    python examples/benchmarks/bench_versions.py --smoke

Every run is a process of its own, which imports skff from one checkout or the other; the order of
the two changes with every repeat, and quotients are taken between runs of the same repeat. Parts:

fit
    Seconds and peak memory of `fit` with the same sizes, epochs, rate and dropout, also of the
    plain backprop loop (``torch-lean``); then seconds to predict the test images.
classes
    Seconds to predict random features with 1,000 classes.
ads
    Seconds of ADS over all windows of 3 x 3, 5 x 5 and 7 x 7 pixels, each version's engine on its
    own network.
"""

from _common import DATA, make_parser, print_machine, print_table, wants_smoke
from _results import REPOSITORY, commit, measure_in_process, run_missing
from _summary import versions_table
from _version_contestants import PARTS

FF_SETTINGS = {"learning_rate_init": 3e-3, "dropout": 0.2}
LOOP_SETTINGS = {"learning_rate_init": 2e-3, "dropout": 0.2, "label_smoothing": 0.1}


def main(argv=None):
    """Run what the command line asks for, print a table and return the rows."""
    options = parse_options(argv)
    print_machine()

    def measure(run, rows):
        checkout = options.old if run["contestant"] == "old" else REPOSITORY
        measured = measure_in_process("_version_contestants.py", run, python_path=checkout)
        return measured | {"version": commit(checkout)}

    rows = run_missing(list(plan(options)), measure, path=options.json, announce=announce)
    print("\nmedian (min to max); quotients of runs with the same repeat\n")
    print_table(*versions_table(rows))
    return rows


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = wants_smoke(argv)
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--old", required=not smoke, default=str(REPOSITORY), metavar="PATH",
        help="checkout of the other version")  # fmt: skip
    add("--data", choices=[*DATA, "both"], default="digits" if smoke else "mnist")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--repeats", type=int, default=1 if smoke else 3)
    add("--threads", type=int, nargs="+", default=[1], help="of each process")
    add("--hidden", type=int, nargs="+", default=[20, 20] if smoke else [500, 500])
    add("--epochs", type=int, default=1 if smoke else 4, help="of fit and of the models to explain")
    add("--class-epochs", type=int, default=1, help="of the models with many classes")
    add("--classes", type=int, default=20 if smoke else 1000, help="of the random labels")
    add("--samples", type=int, default=40 if smoke else 10_000, help="to predict and to explain")
    add("--windows", type=int, nargs="+", default=[3] if smoke else [3, 5, 7], help="in pixels")
    add("--smoke", action="store_true", help="tiny settings: shows in seconds that all runs")
    add("--json", metavar="FILE", help="add results to this file and skip those that it has")
    options = parser.parse_args(argv)
    options.data = ["mnist", "fashion-mnist"] if options.data == "both" else [options.data]
    options.n_train, options.batch_size = (300, 64) if smoke else (None, 256)
    return options


def plan(options):
    """Yield the runs: alternately of both versions, with the plain loop between them."""
    for repeat in range(options.repeats):
        for threads in options.threads:
            for part in options.parts:
                for data in ["random"] if part == "classes" else options.data:
                    for contestant in turns(part, repeat):
                        yield describe_run(options, part, data, contestant, repeat, threads)


def turns(part, repeat):
    """Return the contestants of a part, in reverse order for every other repeat."""
    contestants = ["old", "torch-lean", "new"] if part == "fit" else ["old", "new"]
    return contestants[::-1] if repeat % 2 else contestants


def describe_run(options, part, data, contestant, repeat, threads):
    """Return a run: what `_version_contestants` reads, and what tells it from others."""
    run = {
        "part": part,
        "data": data,
        "contestant": contestant,
        "repeat": repeat,
        "threads": threads,
        "hidden": options.hidden,
        "batch_size": options.batch_size,
        "epochs": options.class_epochs if part == "classes" else options.epochs,
        "settings": LOOP_SETTINGS if contestant == "torch-lean" else FF_SETTINGS,
        "n_train": options.n_train,
        "n_predict": options.samples,
    }
    if part == "classes":
        run |= {"n_classes": options.classes, "n_features": 784}
    return run | ({"windows": options.windows} if part == "ads" else {})


def announce(row):
    """Print a line on a finished run."""
    seconds = {name: row[name] for name in ("seconds", "predict_seconds") if name in row}
    seconds |= {f"ads {k}": value for k, value in row.get("ads_seconds", {}).items()}
    figures = "  ".join(f"{name} {value:.3f}" for name, value in seconds.items())
    print(
        f"{row['part']:>8}  {row['data']:<13}  {row['contestant']:<10}  repeat {row['repeat']}  "
        f"{row['threads']} threads  {figures}",
        flush=True,
    )


if __name__ == "__main__":
    main()
