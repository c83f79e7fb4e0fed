"""Say what a batch of training spends its time on, for FFClassifier and for the plain loop.

Both are trained as they are, to time an epoch, and for one epoch under torch's profiler, which
tells how much of it each kind of operation took::

    python examples/benchmarks/bench_breakdown.py --data mnist --json FILE
    python examples/benchmarks/bench_breakdown.py --smoke

The kinds: matrix products; rectifying and comparing labels, which every layer of Forward-Forward
does and the loop in its output layer only; the optimizer; reading, copying and dropping features.
The rest is what remains of an epoch's time: small operations, and Python between the operations.
"""

import statistics
from time import perf_counter

import torch
from _common import DATA, load, make_parser, print_machine, print_table, wants_smoke
from _plain_networks import BackpropLoop
from _results import write_results
from _settings import chosen_settings, read_settings_file
from _summary import breakdown_table
from _training_contestants import ff_settings
from torch.profiler import ProfilerActivity, profile

from skff import FFClassifier

CONTESTANTS = ["ff", "torch-lean"]
KINDS = {
    "products": ["mm", "addmm", "bmm"],
    "labels": [
        "_add_relu",
        "linalg_vector_norm",
        "_embedding_bag_forward_only",
        "_log_softmax",
        "_log_softmax_backward_data",
        "clamp_min",
        "clamp_min_",
        "threshold_backward",
    ],
    "optimizer": ["_fused_adamw_"],
    "batches": ["index_select", "index", "copy_", "random_", "ge", "mul_", "sub", "addcmul"],
}


def main(argv=None):
    """Measure both contestants, print a table and return the rows."""
    options = parse_options(argv)
    print_machine()
    rows = []
    for contestant in CONTESTANTS:
        run = describe(options, contestant)
        rows.append(run | measure(run, options.repeats))
        write_results(options.json, rows, ["data", "contestant", "hidden"])
    print_table(*breakdown_table(rows))
    return rows


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = wants_smoke(argv)
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--data", choices=list(DATA), default="digits" if smoke else "mnist")
    add("--hidden", type=int, nargs="+", default=[20, 20] if smoke else [500, 500])
    add("--repeats", type=int, default=1 if smoke else 5, help="epochs timed; the median counts")
    add("--smoke", action="store_true", help="tiny settings: shows in seconds that all runs")
    add("--json", metavar="FILE", help="add the results to this file")
    options = parser.parse_args(argv)
    options.batch_size = 64 if smoke else 256
    return options


def describe(options, contestant):
    """Return what tells a row from others."""
    settings = chosen_settings(read_settings_file(), options.data, contestant, options.hidden)
    return {
        "data": options.data,
        "contestant": contestant,
        "hidden": options.hidden,
        "batch_size": options.batch_size,
        "settings": settings,
    }


def measure(run, n_repeats):
    """Return milliseconds per batch: of each kind of operation, of the rest, and of all."""
    X, y, _, _ = load(run["data"])
    n_batches = -(-len(X) // run["batch_size"])
    make(run, 1).fit(X[:1024], y[:1024])  # loads what is loaded on first use
    whole = statistics.median(time_epoch(run, X, y) for _ in range(n_repeats))
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        make(run, 1).fit(X, y)
    spent = dict.fromkeys(KINDS, 0.0)
    for event in profiled.key_averages():
        for kind, names in KINDS.items():
            if event.key.removeprefix("aten::") in names:
                spent[kind] += event.self_cpu_time_total / 1000 / n_batches
    whole = 1000 * whole / n_batches
    return {"milliseconds": spent | {"rest": whole - sum(spent.values())}, "whole": whole}


def make(run, epochs):
    """Return the contestant of a run, which is to train for some epochs."""
    about = {
        "hidden_layer_sizes": tuple(run["hidden"]),
        "batch_size": run["batch_size"],
        "max_iter": epochs,
        "random_state": 0,
    }
    if run["contestant"] == "torch-lean":
        return BackpropLoop(**about, **run["settings"])
    return FFClassifier(**about, **ff_settings(run["settings"]))


def time_epoch(run, X, y):
    """Return the seconds of an epoch, without what a fit does before its first."""
    seconds = []
    for epochs in (1, 3):
        model = make(run, epochs)
        start = perf_counter()
        model.fit(X, y)
        seconds.append(perf_counter() - start)
    return (seconds[1] - seconds[0]) / 2


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
