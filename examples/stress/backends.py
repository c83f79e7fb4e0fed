"""Explain on every backend of joblib, and kill workers while they compute.

Every backend must give the numbers of a serial run. Where a backend can lose a worker, workers are
killed with SIGKILL at random moments: nothing may be lost::

    python examples/stress/backends.py
    python examples/stress/backends.py --backends dask ray --kills 5 --seed 1
    python examples/stress/backends.py --smoke

``sent`` counts how often the classifier, and with it the data, was pickled to be sent to workers.
loky and multiprocessing pickle it for every block, with the names of memory-mapped files for large
arrays;
dask and ray get it once. A killed worker is answered by the backend (dask, and ray with
``max_restarts``) or by computing anew the blocks that did not arrive (loky). multiprocessing is not
tested for it: its pool waits for ever for what a killed worker had taken.

Backends whose package is not installed are skipped and say so. Exit status 1 if numbers differ or
get lost.
"""

import argparse
import os
import random
import sys
import tempfile
import warnings
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
from _mortal import MortalClassifier, make_data
from joblib import parallel_config

from skff import ADSExplainer, FFClassifier

BACKENDS = ["threading", "loky", "multiprocessing", "dask", "ray"]
LOSE_WORKERS = ["loky", "dask", "ray"]


def main(argv=None):
    """Run what the command line asks for; return the exit status."""
    options = parse_options(argv)
    shape = options.samples, options.side**2
    X, y = make_data(*shape, options.seed)
    model = MortalClassifier(seconds=options.seconds)
    ff = FFClassifier((50,), max_iter=2, random_state=options.seed).fit(X, y)
    expected = [explain(model, X, y, "predict", 1), explain(ff, X, y, "incremental", 1)]
    print(f"{'backend':<16} {'what':<28} {'same':<5} {'sent':>5} {'seconds':>8}", flush=True)
    failures = 0
    for name in options.backends:
        runs = [partial(check_both, name, model, ff, X, y, expected, options)]
        for kill in range(options.kills if name in LOSE_WORKERS else 0):
            runs.append(partial(check_killed, name, kill, X, y, expected[0], options))
        try:
            for run in runs:  # each with workers of its own
                with STARTS[name](options.jobs) as config, parallel_config(backend=name, **config):
                    failures += not run()
        except ImportError as missing:
            print(f"{name:<16} skipped: {missing}", flush=True)
    print(f"{'FAILED' if failures else 'passed'}: {failures} of the runs differ")
    return int(failures > 0)


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = "--smoke" in (sys.argv if argv is None else argv)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    few = ["threading", "loky", "multiprocessing"]
    add("--backends", nargs="+", choices=BACKENDS, default=few if smoke else BACKENDS)
    add("--jobs", type=int, default=2, help="workers")
    add("--samples", type=int, default=100 if smoke else 2000)
    add("--side", type=int, default=6 if smoke else 12, help="of the square images")
    add("--seconds", type=float, default=0.0 if smoke else 0.05, help="per prediction, at least")
    add("--kills", type=int, default=1 if smoke else 3, help="runs with killed workers, each")
    add("--seed", type=int, default=0)
    add("--smoke", action="store_true", help="tiny sizes, without dask and ray: a few seconds")
    return parser.parse_args(argv)


def explain(estimator, X, y, engine, n_jobs):
    """Return the map of an estimator."""
    explainer = ADSExplainer(
        estimator, scoring="accuracy", engine=engine, n_jobs=n_jobs, batch_size=len(X)
    )
    return explainer.explain(X, y).importances


def check_both(name, model, ff, X, y, expected, options):
    """Print a line on each of two engines; return whether their numbers are those expected."""
    runs = [(model, "predict", expected[0]), (ff, "incremental", expected[1])]
    return all(
        [
            check(name, f"{engine} engine", estimator, X, y, engine, numbers, options.jobs)
            for estimator, engine, numbers in runs
        ]
    )


def check(name, what, estimator, X, y, engine, expected, n_jobs):
    """Print a line on one run; return whether its numbers are those expected."""
    MortalClassifier.n_pickled = 0
    start = perf_counter()
    try:
        found = explain(estimator, X, y, engine, n_jobs)
    except Exception as error:  # what a backend raises is its own
        print(f"{name:<16} {what:<28} {type(error).__name__}: {str(error)[:200]}", flush=True)
        return False
    same = np.array_equal(found, expected)
    sent = str(MortalClassifier.n_pickled) if estimator.__module__ == "_mortal" else "-"
    seconds = perf_counter() - start
    print(
        f"{name:<16} {what:<28} {'yes' if same else 'NO':<5} {sent:>5} {seconds:>8.1f}", flush=True
    )
    return same


def check_killed(name, kill, X, y, expected, options):
    """Let one to `jobs` workers die at random moments; return whether the numbers are the same."""
    rng = random.Random(f"{options.seed} {name} {kill}")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Lost workers")
        deaths = rng.sample(range(1, 5), rng.randint(1, options.jobs))
        for moment in deaths:
            (Path(folder) / str(moment)).touch()
        model = MortalClassifier(options.seconds, folder)
        what = f"killed at predictions {', '.join(map(str, sorted(deaths)))}"
        same = check(name, what, model, X, y, "predict", expected, options.jobs)
        left = sorted(path.name for path in Path(folder).iterdir())
        if left:
            print(f"{'':<16} (no worker came to prediction {', '.join(left)})")
    return same


@contextmanager
def start_dask(n_jobs):
    """Start a scheduler and worker processes on this machine."""
    from distributed import Client, LocalCluster

    settings = {"n_workers": n_jobs, "threads_per_worker": 1, "processes": True}
    with (
        LocalCluster(dashboard_address=":0", silence_logs="CRITICAL", **settings) as cluster,
        Client(cluster),
    ):
        yield {}


@contextmanager
def start_ray(n_jobs):
    """Start ray on this machine; its workers are restarted and their tasks done again."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # which would be sent over the network
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"include_dashboard": False, "log_to_driver": False, "_temp_dir": folder}
        ray.init(num_cpus=n_jobs, logging_level="ERROR", **settings)
        try:
            restart = {"max_restarts": -1, "max_task_retries": -1}
            yield {"ray_remote_args": restart}
        finally:
            ray.shutdown()


def start_nothing(n_jobs):
    """Return the settings of a backend that starts its workers itself."""
    return nullcontext({})


STARTS = dict.fromkeys(BACKENDS, start_nothing) | {"dask": start_dask, "ray": start_ray}


if __name__ == "__main__":
    sys.exit(main())
