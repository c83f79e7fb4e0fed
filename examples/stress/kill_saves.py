"""Kill processes while they save, interrupt them, and give them no room on the disk.

Whatever comes in between, the file must be one of those that were saved, whole::

    python examples/stress/kill_saves.py
    python examples/stress/kill_saves.py --seed 7 --rounds 1000
    python examples/stress/kill_saves.py --smoke

A child process saves two models in turn to one file; it is stopped at a random moment. After a
kill, a file named .skff-*.tmp may remain beside the target, until the next save; after an interrupt
or an error nothing may. The exit status is 1 if anything was lost.
"""

import argparse
import itertools
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch

import skff

SHARE_OF_A_FILE = 0.5  # that fits on the disk that is full


def main(argv=None):
    """Stop savers in every way, print what was left, and say whether all was well."""
    options = parse_options(argv)
    torch.set_num_threads(1)  # threads do not survive a fork
    rng = np.random.default_rng(options.seed)
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.skff"
        models = make_models(options.units)
        seconds = time_of_a_save(models[0], path)
        previous = path.read_bytes()
        print(f"files of {len(previous):,} bytes, {1000 * seconds:.1f} ms per save")
        for way, stop in WAYS.items():
            counts = Counter()
            for _ in range(options.rounds):
                path.write_bytes(previous)
                stop(models, path, rng.uniform(0, 3 * seconds))
                counts.update(inspect(path, models, may_leave=way == "SIGKILL"))
            print(f"{way:<10}", ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
            failures += [what for what in counts.elements() if what.startswith("LOST")]
    print(f"{len(WAYS) * options.rounds} rounds, {len(failures)} failures")
    return int(bool(failures))


def parse_options(argv):
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=200, help="of each way to be stopped")
    parser.add_argument("--units", type=int, default=500, help="per layer of the models")
    parser.add_argument("--smoke", action="store_true", help="a few seconds")
    options = parser.parse_args(argv)
    options.rounds = 10 if options.smoke else options.rounds
    return options


def make_models(n_units):
    """Return two models in the middle of partial_fit, of the same size."""
    X = np.random.default_rng(0).normal(size=(60, 100)).astype(np.float32)
    y = np.arange(60) % 3
    return [
        skff.FFClassifier((n_units, n_units), random_state=seed, device="cpu").partial_fit(
            X, y, classes=[0, 1, 2]
        )
        for seed in (0, 1)
    ]


def time_of_a_save(model, path):
    """Return the seconds that a save takes."""
    start = time.perf_counter()
    for _ in range(3):
        skff.save(model, path)
    return (time.perf_counter() - start) / 3


# Ways to be stopped


def save_until(models, path, seconds, number):
    """Let a child save in turn and send it a signal some time after it began."""
    begun, begin = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            # A job in the background of a shell ignores it.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.write(begin, b".")
            for turn in itertools.count():
                skff.save(models[turn % 2], path)
        finally:
            os._exit(0)
    os.read(begun, 1)
    os.close(begun), os.close(begin)
    time.sleep(seconds)
    os.kill(child, number)
    os.waitpid(child, 0)


def kill(models, path, seconds):
    """Stop a saver at once, without a chance to tidy up."""
    save_until(models, path, seconds, signal.SIGKILL)


def interrupt(models, path, seconds):
    """Interrupt a saver as Ctrl-C does."""
    save_until(models, path, seconds, signal.SIGINT)


def fill_the_disk(models, path, seconds):
    """Let a child save where half a file has room."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            limit = int(SHARE_OF_A_FILE * path.stat().st_size)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            skff.save(models[1], path)
        except OSError:
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if status:
        path.write_bytes(b"a full disk went unnoticed")


WAYS = {"SIGKILL": kill, "SIGINT": interrupt, "full disk": fill_the_disk}


def inspect(path, models, may_leave):
    """Say what is in the folder, which the next save tidies up."""
    try:
        found = skff.load(path).coefs_[0]
        same = [np.array_equal(found, model.coefs_[0]) for model in models]
        yield ("first", "second")[same.index(True)] + " model whole"
    except (OSError, ValueError) as error:
        yield f"LOST the file: {error}"
    if may_leave and any(path.parent.glob(".skff-*.tmp")):
        yield "temporary file left"
        skff.save(models[0], path)
    for other in path.parent.iterdir():
        if other != path:
            yield f"LOST tidiness: {other.name}"
            other.unlink()


if __name__ == "__main__":
    sys.exit(main())
