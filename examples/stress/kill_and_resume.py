"""Kill fits and explanations at random moments, and let them go on until they are done.

Every one must end bit for bit as one that was never killed, in weights, probabilities, history and
maps::

    python examples/stress/kill_and_resume.py
    python examples/stress/kill_and_resume.py --seed 7 --kills 200
    python examples/stress/kill_and_resume.py --start fork --cases greedy "early stopping"
    python examples/stress/kill_and_resume.py --smoke

A process works with a checkpoint until it is killed with SIGKILL; the next one goes on from the
file. ``spawn`` starts a new interpreter each time, ``fork`` a copy of this process. Of the columns,
*kills* fell while a fit or an explanation was running; *progress* is how many of them came after a
first checkpoint, *writes* how many came while one was being written; *runs* were killed until they
were done. Exit status 1 if a run ends differently or not in ten minutes, a checkpoint is lost or
part of one stays.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import torch
from sklearn.naive_bayes import GaussianNB

from skff import ADSExplainer, FFClassifier
from skff.forward_forward.augmentation import ImageShift

SIDE = 8  # of the images
KILLS_PER_RUN = 8  # about, by the time that passes between two
PATIENCE = 600  # seconds that a run may take, kills included

FITS = {
    "simultaneous": {"dropout": 0.2, "augment": ImageShift()},
    "greedy": {"training": "greedy", "readout": "softmax", "loss": "symba"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 20, "learning_rate_init": 0.01},
}
EXPLANATIONS = {
    "incremental": {"window_shape": 3},
    "random fill": {"window_shape": 3, "fill": "permute", "n_repeats": 3},
    "sequential": {"window_shape": 1, "target_precision": 0.001},
}


def main(argv=None):
    """Run what the command line asks for; return the exit status."""
    options = parse_options(argv)
    if options.work:
        return work_when_told(options)
    warm_up()
    rng = np.random.default_rng(options.seed)
    print(f"{'case':<16} {'kills':>6} {'progress':>9} {'writes':>7} {'runs':>5}  {'same':<5}")
    failures, total = 0, 0
    for case in options.cases:
        with tempfile.TemporaryDirectory() as folder:
            start = STARTS[options.start](case, options)
            tally = attack(case, start, Path(folder), options, rng)
        total, failures = total + tally.kills, failures + tally.failures
        print(
            f"{case:<16} {tally.kills:>6} {tally.after_progress:>9} {tally.in_writes:>7} "
            f"{tally.runs:>5}  {'NO' if tally.failures else 'yes':<5}",
            flush=True,
        )
    print(f"{'FAILED' if failures else 'passed'}: {total} kills, {failures} runs ended otherwise")
    return int(failures > 0)


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = "--smoke" in (sys.argv if argv is None else argv)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    cases = [*FITS, *EXPLANATIONS]
    add("--kills", type=int, default=6 if smoke else 60, help="at least, of all cases together")
    add("--cases", nargs="+", choices=cases, default=cases)
    add("--start", choices=sorted(STARTS), default="fork" if smoke else "spawn")
    add("--epochs", type=int, default=20 if smoke else 60)
    add("--samples", type=int, default=300 if smoke else 2000)
    add("--seed", type=int, default=0, help="of the data and the moments")
    add("--smoke", action="store_true", help="a few seconds")
    add("--work", metavar="CASE", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


@dataclass
class Tally:
    """What was seen of a case."""

    kills: int = 0
    after_progress: int = 0
    in_writes: int = 0
    runs: int = 0
    failures: int = 0


def attack(case, start, folder, options, rng):
    """Kill one run after another until there were kills enough; compare how each ends."""
    tally = Tally()
    whole = folder / "whole"
    whole.mkdir()
    begun = time.perf_counter()
    start(whole).wait()
    mean = (time.perf_counter() - begun) / KILLS_PER_RUN
    expected = (whole / "outcome").read_text()
    while tally.kills < -(-options.kills // len(options.cases)):
        tally.runs += 1
        run = folder / f"run {tally.runs}"
        run.mkdir()
        n_started, left = 0, set()
        begun = time.perf_counter()
        while not (run / "outcome").exists() and time.perf_counter() < begun + PATIENCE:
            n_started += 1  # on a machine that became slower, later ones get more time
            seconds = rng.exponential(mean * max(1, n_started / KILLS_PER_RUN))
            killed = start(run).kill_after(min(seconds, PATIENCE))
            tally.kills += killed
            tally.after_progress += killed and (run / "checkpoint").exists()
            left.update(run.glob(".skff-*.tmp"))  # which the next write removes
        tally.in_writes += len(left)
        outcome = run / "outcome"
        is_same = outcome.exists() and outcome.read_text() == expected
        tally.failures += not is_same or any(run.glob(".skff-*.tmp"))
    return tally


# What a process does


def work(case, folder, options):
    """Fit or explain with a checkpoint, and write what came of it."""
    X, y = make_images(options.samples, options.seed)
    if case in FITS:
        found = fit(X, y, folder, max_iter=options.epochs, **FITS[case])
    else:
        found = explain(X, y, folder, **EXPLANATIONS[case])
    part = folder / "part"
    part.write_text(joblib.hash(found))
    part.replace(folder / "outcome")


def warm_up():
    """Let everything be imported, torch's optimizers among it, which takes seconds."""
    torch.set_num_threads(1)  # threads do not survive a fork
    X, y = make_images(20, seed=0)
    ADSExplainer(FFClassifier((2,), max_iter=1, device="cpu").fit(X, y)).explain(X, y)


def make_images(n_samples, seed, n_classes=4):
    """Return small noisy images and their labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_samples) % n_classes
    centers = 2 * rng.standard_normal((n_classes, SIDE**2))
    X = centers[y] + 4 * rng.standard_normal((n_samples, SIDE**2))
    return X.astype(np.float32), y


def fit(X, y, folder, **params):
    """Return all that a fit determines, but for its duration."""
    clf = FFClassifier(
        (64, 64), **params, random_state=0, device="cpu", checkpoint=folder / "checkpoint"
    ).fit(X, y)
    history = [{**record, "seconds": 0} for record in clf.history_]
    weights = [*clf.coefs_, *clf.intercepts_, *clf.label_coefs_]
    return weights, clf.predict_proba(X), history


def explain(X, y, folder, **params):
    """Return all numbers of an explanation."""
    model = GaussianNB()
    if "fill" not in params:
        model = FFClassifier((64, 64), max_iter=2, random_state=0, device="cpu")
    explainer = ADSExplainer(
        model.fit(X, y),
        **params,
        random_state=0,
        checkpoint=folder / "checkpoint",
        checkpoint_every=0,
    )
    return vars(explainer.explain(X, y))


def work_when_told(options):
    """Say that everything is imported, and work once there is a line to read."""
    warm_up()
    try:
        print("ready", flush=True)
    except BrokenPipeError:  # nobody is there any more
        os._exit(0)
    folder = sys.stdin.readline().strip()
    if folder:  # else nobody needs this process
        work(options.work, Path(folder), options)
    return 0


# Processes


class Forked:
    """A copy of this process that works in a folder."""

    def __init__(self, case, folder, options):
        self.child = os.fork()
        if self.child == 0:
            try:
                work(case, folder, options)
            finally:
                os._exit(0)

    def wait(self):
        """Wait until it is done."""
        os.waitpid(self.child, 0)

    def kill_after(self, seconds):
        """Kill it after some time; return whether it was still there."""
        time.sleep(seconds)
        os.kill(self.child, signal.SIGKILL)
        _, status = os.waitpid(self.child, 0)
        return os.WIFSIGNALED(status)


class Spawned:
    """A new interpreter that works in a folder."""

    def __init__(self, case, options):
        same = ["--samples", options.samples, "--epochs", options.epochs, "--seed", options.seed]
        command = [sys.executable, __file__, *map(str, same), "--work", case]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes)

    def begin(self, folder):
        """Let it work once it has imported everything."""
        self.process.stdout.readline()
        self.process.stdin.write(f"{folder}\n")
        self.process.stdin.flush()
        return self

    def wait(self):
        """Wait until it is done."""
        self.process.communicate()

    def kill_after(self, seconds):
        """Kill it after some time; return whether it was still there."""
        time.sleep(seconds)
        self.process.kill()
        self.process.communicate()
        return self.process.returncode == -signal.SIGKILL


def start_spawned(case, options):
    """Return a function that starts processes, each of which is prepared while another works."""
    spare = [Spawned(case, options)]

    def start(folder):
        process = spare.pop().begin(folder)
        spare.append(Spawned(case, options))
        return process

    return start


STARTS = {
    "fork": lambda case, options: lambda folder: Forked(case, folder, options),
    "spawn": start_spawned,
}

if __name__ == "__main__":
    sys.exit(main())
