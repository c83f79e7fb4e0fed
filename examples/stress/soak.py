"""Fit, predict and explain again and again: memory, threads and open files must not grow.

After a fifth of the rounds, which fill what is filled once, a line is fitted to what the process
uses. The verdict is about the slope: growth by a megabyte, a thread or a file in 1,000 rounds, and
more than could be noise (four standard errors), fails.

    python examples/stress/soak.py --rounds 3000
"""

import argparse
import gc
import pickle
import sys

import numpy as np
import torch
from _process import give_back, n_open_files, status
from scipy.stats import linregress

from skff import ADSExplainer, FFClassifier
from skff.saliency import deletion_curve

FIGURES = {
    "memory (MB)": lambda: status("RssAnon") / 1e6,
    "threads": lambda: status("Threads"),
    "open files": n_open_files,
}
PER_ROUND = 1e-3  # growth that is too much


def work(number, seed):
    """Do one round of everything."""
    rng = np.random.default_rng((seed, number))
    y = rng.integers(0, 3, 60)
    X = (rng.standard_normal((60, 16)) + 2 * np.eye(3, 16)[y]).astype(np.float32)
    readout = ["goodness", "softmax"][number % 2]
    params = {"max_iter": 2, "device": "cpu", "random_state": number, "readout": readout}
    clf = FFClassifier((8, 6), **params, early_stopping=number % 3 == 0).fit(X, y)
    clf.set_params(early_stopping=False).partial_fit(X, y).predict_proba(X)
    pickle.loads(pickle.dumps(clf)).predict(X)
    for bad in (X[:, :3], np.full_like(X, np.nan)):
        try:
            clf.predict(bad)
        except ValueError:
            pass
    explanation = ADSExplainer(clf, image_shape=(4, 4), n_jobs=1).explain(X, y)
    deletion_curve(clf, X, y, explanation, image_shape=(4, 4), n_points=3, n_random=1)


def soak(n_rounds, seed):
    """Return the figures, one list per name, and the rounds after which they were taken."""
    taken, rounds = {name: [] for name in FIGURES}, []
    every = max(1, n_rounds // 100)
    for number in range(n_rounds):
        work(number, seed)
        if number >= n_rounds // 5 and number % every == 0:
            gc.collect()
            give_back()
            rounds.append(number)
            for name, read in FIGURES.items():
                taken[name].append(read())
    return rounds, taken


def verdict(rounds, values):
    """Return the slope per round, its standard error, and whether it is growth."""
    line = linregress(rounds, values)
    return line.slope, line.stderr, line.slope > max(PER_ROUND, 4 * line.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="few rounds, in seconds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    n_rounds = 25 if args.smoke else args.rounds
    rounds, taken = soak(n_rounds, args.seed)
    print(f"{n_rounds} rounds")
    print(f"{'':12} {'start':>8} {'end':>8} {'per 1,000 rounds':>18}")
    has_grown = False
    for name, values in taken.items():
        slope, error, grows = verdict(rounds, values)
        # Few rounds do not tell slow growth of memory from what the allocator does.
        grows = grows and (not args.smoke or name != "memory (MB)" or slope > 0.05)
        has_grown |= grows
        change = f"{1000 * slope:.3f} +- {1000 * error:.3f}"
        print(f"{name:12} {values[0]:8.1f} {values[-1]:8.1f} {change:>18}{' GROWS' * int(grows)}")
    print("FAILED" if has_grown else "PASSED")
    return has_grown


if __name__ == "__main__":
    sys.exit(int(main()))
