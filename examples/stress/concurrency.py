"""Train, predict and explain in several threads: no state in between, and no global left changed.

Threads fit classifiers of different precision, and predict from and explain one that others train
on by `partial_fit`, while Python switches between them as often as it can. Every prediction must be
that of a whole state, and torch's precision and numbers of threads, all random states and the
filters of warnings must be what they were.

    python examples/stress/concurrency.py --seconds 60
"""

import argparse
import copy
import random
import sys
import threading
import time
import warnings
from collections import Counter

import numpy as np
import torch

from skff import ADSExplainer, FFClassifier

PRECISIONS = ("highest", "high", "medium")
PARAMS = {"max_iter": 1, "device": "cpu", "random_state": 0}
SIZES = (12, 10)


def process_state():
    """Return what belongs to the whole process and must stay as it is, by name."""
    matmul = getattr(torch.backends.mkldnn, "matmul", None)
    return {
        "precision": (
            torch.get_float32_matmul_precision(),
            getattr(matmul, "fp32_precision", None),
        ),
        "threads": (torch.get_num_threads(), _threads_of_a_new_thread()),
        "torch's random state": torch.get_rng_state().tolist(),
        "NumPy's random state": repr(np.random.get_state()),  # noqa: NPY002
        "Python's random state": random.getstate(),
        "NumPy's errors": np.geterr(),
        "filters of warnings": [*warnings.filters],
        "default type": torch.get_default_dtype(),
    }


def _threads_of_a_new_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def _new_data(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 90)
    return (rng.standard_normal((90, 16)) + 2 * np.eye(3, 16)[y]).astype(np.float32), y


class Stress:
    """One classifier that is trained while others use it, and what they saw.

    Parameters
    ----------
    seed : int
        Of the data.
    """

    def __init__(self, seed):
        self.X, self.y = _new_data(seed)
        self.clf = FFClassifier(SIZES, **PARAMS).partial_fit(self.X, self.y, classes=[0, 1, 2])
        self.shared = copy.copy(self.clf)  # must not change with the original
        self.frozen = self.shared.predict_proba(self.X).tobytes()
        self.fits = {p: self._fit(p).predict_proba(self.X).tobytes() for p in PRECISIONS}
        self.map = ADSExplainer(self.shared, stride=2).explain(self.X, self.y).importances
        self.states = {self.clf.predict_proba(self.X).tobytes()}
        self.labels = {self.clf.predict(self.X).tobytes()}
        self.seen, self.seen_labels, self.counts, self.errors = set(), set(), Counter(), []
        self.stop = threading.Event()

    def _fit(self, precision):
        params = PARAMS | {"matmul_precision": precision}
        return FFClassifier(SIZES, **params).fit(self.X, self.y)

    def train(self):
        """Go on to train, remembering what each state predicts."""
        self.clf.partial_fit(self.X, self.y)
        self.states.add(self.clf.predict_proba(self.X).tobytes())
        self.labels.add(self.clf.predict(self.X).tobytes())

    def predict(self):
        """Predict from the classifier that is trained; it may be in any state, but a whole one."""
        self.seen.add(self.clf.predict_proba(self.X).tobytes())
        self.seen_labels.add(self.clf.predict(self.X).tobytes())

    def predict_frozen(self):
        """Predict from the shallow copy, which must not learn."""
        if self.shared.predict_proba(self.X).tobytes() != self.frozen:
            raise AssertionError("a shallow copy changed with the original")

    def explain(self):
        """Explain the shallow copy, on two threads of torch."""
        explainer = ADSExplainer(self.shared, stride=2)
        if not np.array_equal(explainer.explain(self.X, self.y).importances, self.map):
            raise AssertionError("an explanation changed")

    def fit(self):
        """Fit a classifier of each precision."""
        for precision in PRECISIONS:
            if self._fit(precision).predict_proba(self.X).tobytes() != self.fits[precision]:
                raise AssertionError(f"a fit in precision {precision!r} changed")

    def _repeat(self, work):
        while not self.stop.is_set():
            try:
                work()
                self.counts[work.__name__] += 1
            except Exception as error:
                self.errors.append(f"{work.__name__}: {type(error).__name__}: {error}")

    def run(self, seconds):
        """Let all threads work for a while; return what went wrong, a list of str."""
        works = [self.train, self.predict, self.predict, self.predict_frozen]
        works += [self.explain, self.fit, self.fit]
        threads = [threading.Thread(target=self._repeat, args=(work,)) for work in works]
        before = process_state()
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            for thread in threads:
                thread.start()
            time.sleep(seconds)
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()
            sys.setswitchinterval(interval)
        after = process_state()
        changed = [f"changed: {name}" for name in before if after[name] != before[name]]
        torn = [f"{len(self.seen - self.states)} torn probabilities"] * bool(
            self.seen - self.states
        )
        torn += [f"{len(self.seen_labels - self.labels)} torn sets of labels"] * bool(
            self.seen_labels - self.labels
        )
        return self.errors + changed + torn


def main():
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="two seconds")
    args = parser.parse_args()
    torch.set_num_threads(2)
    stress = Stress(args.seed)
    failures = stress.run(2 if args.smoke else args.seconds)
    for name, count in sorted(stress.counts.items()):
        print(f"{name:15s} {count:6d} calls")
    print(f"{len(stress.states)} states, {len(stress.seen)} of them seen by other threads")
    print("FAILED: " + "; ".join(sorted(set(failures))) if failures else "nothing torn or changed")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
