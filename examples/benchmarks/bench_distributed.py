"""Measure training on two processes, by the rows of each batch and by layers, beside one process.

Every run starts processes of its own, with one thread each, and the contestants of a repeat take
turns::

    python examples/benchmarks/bench_distributed.py --json docs/results/distributed.json
    python examples/benchmarks/bench_distributed.py --smoke

ff, ff-data, ff-layers
    FFClassifier in one process, and in two with ``parallel="data"`` or ``"layers"``.
backprop, backprop-data
    The plain loop in one process, and in two with torch's DistributedDataParallel.
messages
    Seconds to send messages of several sizes between two processes, and to add them up.

From the runs of one process and the messages, a model of the costs predicts those of two processes
(``_cost_model.py``): the table shows both.
"""

import statistics

from _common import make_parser, print_machine, print_table, wants_smoke
from _cost_model import Work, data_parallel, fit_link, fit_rates, layer_parallel, one_process
from _results import measure_in_process, run_missing

CONTESTANTS = {"ff": 1, "backprop": 1, "ff-data": 2, "ff-layers": 2, "backprop-data": 2}
HIDDEN = [[500] * 2, [500] * 4, [1000] * 4]
BATCH_SIZES = [64, 256, 1024]
MESSAGES = [2**10, 2**14, 2**18, 2**20, 2**22, 2**24]
SMOKE = {"hidden": [[40] * 2], "batch_sizes": [16], "messages": [2**10, 2**16]}


def main(argv=None):
    """Run what has no row yet, and print a table."""
    options = parse_options(argv)
    print_machine()
    rows = run_missing(plan(options), measure, path=options.json, announce=announce)
    print()
    print_table(*comparison(rows))
    return rows


def parse_options(argv):
    """Return the options of the command line."""
    smoke = wants_smoke(argv)
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--repeats", type=int, default=1 if smoke else 3, help="runs of each contestant")
    add("--epochs", type=int, default=2 if smoke else 6, help="of which the first is not timed")
    add("--batches", type=int, default=3 if smoke else 10, help="updates per epoch")
    add("--smoke", action="store_true", help="tiny sizes: shows in seconds that all runs")
    add("--json", metavar="FILE", help="read results from it, and add new ones")
    return parser.parse_args(argv)


def plan(options):
    """Yield the descriptions of all runs."""
    sizes = {"hidden": HIDDEN, "batch_sizes": BATCH_SIZES, "messages": MESSAGES}
    sizes = SMOKE if options.smoke else sizes
    fixed = {"features": 784, "classes": 10, "threads": 1, "epochs": options.epochs}
    runs = []
    for repeat in range(options.repeats):
        common = {"repeat": repeat, "threads": 1}
        runs.append(common | {"contestant": "messages", "processes": 2, "sizes": sizes["messages"]})
        for hidden in sizes["hidden"]:
            for batch_size in sizes["batch_sizes"]:
                task = fixed | {"hidden": hidden, "batch_size": batch_size}
                task["samples"] = batch_size * options.batches
                for contestant, n_processes in CONTESTANTS.items():
                    who = {"contestant": contestant, "processes": n_processes}
                    runs.append(common | task | who)
    return runs


def measure(run, rows):
    """Return what a run measures, in processes of its own."""
    return measure_in_process("_distributed_contestants.py", run)


def announce(row):
    """Print a line of a run."""
    if row["contestant"] == "messages":
        print(f"messages: {row['messages']}", flush=True)
        return
    name = f"{row['contestant']:13} {'-'.join(map(str, row['hidden'])):20} {row['batch_size']:5}"
    print(f"{name} {1e3 * batch_seconds(row):9.2f} ms per batch", flush=True)


def batch_seconds(row):
    """Return the seconds of a batch, the median over the epochs but the first."""
    n_batches = row["samples"] / row["batch_size"]
    return statistics.median(row["epoch_seconds"][1:]) / n_batches


def work_of(row):
    """Return what a batch of a run asks for."""
    rule = "backprop" if row["contestant"].startswith("backprop") else "ff"
    sizes = (row["features"], *row["hidden"])
    return Work(rule, sizes, row["batch_size"], row["classes"])


def calibrate(rows):
    """Return rates and links, fitted to the runs of one process and to the messages.

    Returns
    -------
    rates : dict of str -> Rates
        By rule, "ff" and "backprop".
    links : dict of str -> Link
        "send" and "all_reduce".

    Raises
    ------
    LookupError
        If the rows lack such runs.
    """
    missing = {"ff", "backprop", "messages"} - {row["contestant"] for row in rows}
    if missing:
        raise LookupError(f"no rows of {sorted(missing)}")
    rates = {}
    for rule in ("ff", "backprop"):
        own = medians([row for row in rows if row["contestant"] == rule])
        rates[rule] = fit_rates([work_of(row) for row, _ in own], [seconds for _, seconds in own])
    links = {}
    for name in ("send", "all_reduce"):
        found = [m for row in rows if row["contestant"] == "messages" for m in row["messages"]]
        own = [(n_bytes, seconds) for how, n_bytes, seconds in found if how == name]
        # Two processes add up in two steps, in each of which half of the bytes are sent.
        steps = 2 if name == "all_reduce" else 1
        links[name] = fit_link([n / steps for n, _ in own], [s / steps for _, s in own])
    return rates, links


def medians(rows):
    """Return (a row, the median seconds of a batch) for each task that the rows repeat."""
    tasks = {}
    for row in rows:
        key = (row["contestant"], tuple(row["hidden"]), row["batch_size"])
        tasks.setdefault(key, []).append(row)
    return [(own[0], statistics.median(map(batch_seconds, own))) for own in tasks.values()]


def predicted(row, rates, links):
    """Return the seconds of a batch that the model predicts for a run."""
    work, n = work_of(row), row["processes"]
    if n == 1:
        return one_process(rates[work.rule], work)
    if row["contestant"].endswith("-data"):
        return data_parallel(rates[work.rule], links["all_reduce"], work, n)
    return layer_parallel(rates[work.rule], links["send"], work, n)


def comparison(rows):
    """Return header and rows of texts: measured and predicted, and times one process's speed."""
    rates, links = calibrate(rows)
    timed = medians([row for row in rows if row["contestant"] in CONTESTANTS])
    alone = {
        (row["contestant"], tuple(row["hidden"]), row["batch_size"]): seconds
        for row, seconds in timed
        if row["processes"] == 1
    }
    header = [
        "layers",
        "batch",
        "contestant",
        "ms per batch",
        "predicted",
        "speed over one process",
    ]
    header.append("MB per batch")
    body = []
    for row, seconds in timed:
        one = alone[work_of(row).rule, tuple(row["hidden"]), row["batch_size"]]
        n_bytes = row["epoch_bytes"] * row["batch_size"] / row["samples"]
        body.append(
            [
                *["-".join(map(str, row["hidden"])), str(row["batch_size"]), row["contestant"]],
                *[f"{1e3 * seconds:.2f}", f"{1e3 * predicted(row, rates, links):.2f}"],
                *[f"{one / seconds:.2f}", f"{n_bytes / 1e6:.2f}"],
            ]
        )
    return header, body


if __name__ == "__main__":
    main()
