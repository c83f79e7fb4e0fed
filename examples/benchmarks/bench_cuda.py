"""Run all that needs a GPU: the tests, training, prediction and saliency, and write JSON.

Made to run unattended. Every run is a process of its own; one that fails is reported and the others
go on; runs that the file has already are not run again::

    python examples/benchmarks/bench_cuda.py --json docs/results/cuda.json
    python examples/benchmarks/bench_cuda.py --hidden 500 500 --epochs 30 --data fashion-mnist
    python examples/benchmarks/bench_cuda.py --smoke --device cpu

tests
    ``pytest -m cuda``: how many passed.
train
    FFClassifier and the plain torch loop, both with the settings that ``choose_settings.py`` chose,
    each with and without CUDA graphs and products in bfloat16: seconds to fit and to predict the
    test images, test error, and the most memory that tensors took on the device.
graph
    Whether a model trained by a CUDA graph is that trained batch by batch.
explain
    An Accuracy Differential Saliency map of FFClassifier on the device, and whether the map is that
    of the same weights on the CPU.

CUDA graphs are not part of skff: `_graphed_trainer.py` puts them into the training for this
benchmark. On a CPU, graphs are replayed operation by operation, which shows that the code runs and
trains the same network, and says nothing about time.

Exit status: 0 if everything ran and all tests passed, and also where there is no CUDA device: a
row with ``"part": "device"`` then says so, and nothing else changes in the file. 1 if something
failed; a row with ``"part": "failed"`` says what.
"""

import os
import re
import subprocess
import sys
from functools import partial

import torch
from _common import DATA, make_parser, print_machine, print_table, wants_smoke
from _results import REPOSITORY, measure_in_process, provenance, read_rows, run_missing, write_rows
from _settings import SETTINGS, chosen_settings, read_settings_file
from _summary import cuda_explanation_table, cuda_training_table

CONTESTANTS = ["ff", "torch-lean"]
MODES = [
    {"graph": graph, "bfloat16": bfloat16} for graph in (False, True) for bfloat16 in (False, True)
]
NO_DEVICE = "no CUDA device"
MARK = re.compile(r"pytest\.mark\.cuda\b")


def main(argv=None):
    """Run what the command line asks for, print tables, and return the exit status."""
    options = parse_options(argv)
    print_machine()
    if torch.device(options.device).type == "cuda" and not torch.cuda.is_available():
        print(f"Got --device {options.device}, but found {NO_DEVICE}: nothing was measured.")
        note(options, {"part": "device", "device": options.device, "status": NO_DEVICE})
        return 0
    forget(options, "device", "failed")
    failures = run_tests(options)
    rows = []
    for run in plan(options):
        try:
            rows += run_missing([run], measure, path=options.json, announce=announce)
        except (RuntimeError, ValueError) as reason:
            failures.append({"run": run, "reason": str(reason)})
            print(f"FAILED: {describe(run)}: {reason}", flush=True)
    for failure in failures:
        note(options, {"part": "failed", "device": options.device} | failure)
    report(rows)
    print(f"\n{len(rows)} runs, {len(failures)} failures; results in {options.json}")
    return int(bool(failures))


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = wants_smoke(argv)
    parser = make_parser(__doc__)
    add = parser.add_argument
    found = torch.cuda.is_available()
    add("--device", default="cuda" if found or not smoke else "cpu", help="default: cuda")
    images = "mnist" if os.environ.get("SKFF_DATA") and not smoke else "digits"
    add("--data", choices=DATA, default=images, help="default: mnist if SKFF_DATA is set")
    add("--hidden", type=int, nargs="+", action="append", metavar="UNITS",
        help="units of each layer; may be given several times. "
        "Default: 500 500, then 2000 2000 2000 2000")  # fmt: skip
    add("--seeds", type=int, default=1 if smoke else 2, help="number of seeds")
    add("--epochs", type=int, default=2 if smoke else 10)
    add("--batch-size", type=int, default=64 if smoke else 256)
    add("--n-train", type=int, default=300 if smoke else None, help="first training images only")
    add("--samples", type=int, default=60 if smoke else 10_000, help="images to explain")
    add("--parts", nargs="+", choices=["tests", "train", "graph", "explain"],
        default=["tests", "train", "graph", "explain"])  # fmt: skip
    add("--settings", metavar="FILE", default=str(SETTINGS), help="chosen by choose_settings.py")
    add("--json", metavar="FILE", default="cuda.json", help="default: cuda.json")
    add("--smoke", action="store_true", help="tiny settings: shows in a minute that all runs")
    options = parser.parse_args(argv)
    options.hidden = options.hidden or ([[20, 20]] if smoke else [[500, 500], [2000] * 4])
    options.choices = read_settings_file(options.settings)
    return options


def run_tests(options):
    """Run the tests that need a GPU; return what failed, of at most one entry."""
    if "tests" not in options.parts:
        return []
    files = [
        path
        for path in sorted((REPOSITORY / "tests").rglob("test_*.py"))
        if MARK.search(path.read_text())
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-p", "no:cacheprovider"]
    run = subprocess.run([*command, *files], cwd=REPOSITORY, capture_output=True, text=True)
    lines = run.stdout.strip().splitlines() or [run.stderr.strip()[-500:]]
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (passed|failed)", lines[-1])}
    print(f"pytest -m cuda: {lines[-1]}", flush=True)
    note(options, {"part": "tests", "device": options.device, "summary": lines[-1]} | counts)
    if run.returncode == 0:
        return []
    print(run.stdout[-5000:], run.stderr[-5000:], flush=True)
    return [{"run": {"part": "tests"}, "reason": lines[-1]}]


def plan(options):
    """Yield the runs: dicts of everything a contestant needs to know."""
    for hidden in options.hidden:
        settings = partial(chosen_settings, options.choices, options.data, hidden=hidden)
        shared = {
            "device": options.device,
            "data": options.data,
            "hidden": hidden,
            "batch_size": options.batch_size,
            "n_train": options.n_train,
            "threads": 1,
        }
        for seed in range(options.seeds * ("train" in options.parts)):
            # Another one is first for every seed.
            runs = [(mode, name) for mode in MODES for name in CONTESTANTS]
            shift = seed % len(runs)
            for mode, name in runs[shift:] + runs[:shift]:
                own = {"contestant": name, "settings": settings(name), "epochs": options.epochs}
                yield {"part": "train", "seed": seed} | shared | own | mode
        for name in CONTESTANTS * ("graph" in options.parts):
            own = {"contestant": name, "settings": settings(name), "epochs": 2, "bfloat16": False}
            yield {"part": "graph", "seed": 0} | shared | own
        if "explain" in options.parts:
            own = {"contestant": "ff", "settings": settings("ff"), "epochs": 2, "bfloat16": False}
            own |= {"window": 3, "samples": options.samples}
            yield {"part": "explain", "seed": 0} | shared | own


def measure(run, rows):
    """Measure a run in a process of its own."""
    found = measure_in_process("_cuda_contestants.py", run)
    if "failed" in found:
        raise ValueError(found["failed"])
    return found


def announce(row):
    """Print a line on a finished run."""
    names = ["seconds", "error", "largest_difference", "windows_unlike_cpu"]
    found = [f"{name} {row[name]:.4g}" for name in names if name in row]
    print(f"{describe(row)}: {', '.join(found)}", flush=True)


def describe(run):
    """Return what a run is, in a few words."""
    if run["part"] == "tests":
        return "tests"
    modes = [name for name in ("graph", "bfloat16") if run.get(name)]
    sizes = "-".join(map(str, run["hidden"]))
    return " ".join([run["part"], run["contestant"], sizes, f"seed {run['seed']}", *modes])


def note(options, about):
    """Put a row into the file in place of that of the same part, device and run."""
    forget(options, about["part"], device=options.device, run=about.get("run"))
    write_rows(options.json, [*read_rows(options.json), about | provenance()])


def forget(options, *parts, **what):
    """Take out the rows of some parts, or those of them that hold `what`."""
    rows = read_rows(options.json)
    kept = [
        row
        for row in rows
        if row["part"] not in parts or any(row.get(name) != what[name] for name in what)
    ]
    if len(kept) < len(rows):
        write_rows(options.json, kept)


def report(rows):
    """Print the tables."""
    sizes = {tuple(row["hidden"]) for row in rows}
    for hidden in sorted(sizes):
        own = [row for row in rows if tuple(row["hidden"]) == hidden and row["part"] == "train"]
        if own:
            print(f"\n{own[0]['data']}, layers of {hidden}, median (min to max)\n")
            print_table(*cuda_training_table(own))
    explanations = [row for row in rows if row["part"] == "explain"]
    if explanations:
        print("\nAccuracy Differential Saliency\n")
        print_table(*cuda_explanation_table(explanations))


if __name__ == "__main__":
    sys.exit(main())
