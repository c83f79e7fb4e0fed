"""Let eight threads use one model at once: each must get what one thread alone gets.

Predictions, scores and explanations run on a shared classifier while other threads fit their own.
Results must be equal, bit for bit, and threads of the process must not pile up.

    python examples/stress/threads.py --rounds 300
"""

import argparse
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from skff import ADSExplainer, FFClassifier

N_THREADS = 8
PARAMS = {"max_iter": 2, "device": "cpu", "random_state": 0}


def make_calls(seed):
    """Return what threads do, by name: calls without arguments that return arrays."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 200)
    X = (rng.standard_normal((200, 64)) + 2 * np.eye(3, 64)[y]).astype(np.float32)
    clf = FFClassifier((16, 12), **PARAMS).fit(X, y)
    explainer = ADSExplainer(clf, stride=3)
    return {
        "predict": lambda: clf.predict(X),
        "predict_proba": lambda: clf.predict_proba(X),
        "decision_function": lambda: clf.decision_function(X),
        "score": lambda: np.array(clf.score(X, y)),
        "explain": lambda: explainer.explain(X, y).importances,
        "fit": lambda: FFClassifier((16, 12), **PARAMS).fit(X, y).coefs_[0],
    }


def load(n_rounds, seed):
    """Return how many calls there were, which gave another result, and the threads left over."""
    calls = make_calls(seed)
    expected = {name: call() for name, call in calls.items()}
    order = np.random.default_rng(seed).choice(list(calls), n_rounds)
    before = threading.active_count()
    with ThreadPoolExecutor(N_THREADS) as pool:
        found = list(pool.map(lambda name: calls[name](), order))
    pairs = zip(order, found, strict=True)
    wrong = [name for name, result in pairs if not np.array_equal(result, expected[name])]
    return len(found), wrong, threading.active_count() - before


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=2000, help="calls, of all threads together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="few rounds, in seconds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        n_calls, wrong, n_left = load(60 if args.smoke else args.rounds, args.seed)
    finally:
        sys.setswitchinterval(interval)
    print(f"{n_calls} calls on {N_THREADS} threads: {len(wrong)} with another result {set(wrong)}")
    print(f"{n_left} threads more than before")
    print("FAILED" if wrong or n_left > 0 else "PASSED")
    return bool(wrong or n_left > 0)


if __name__ == "__main__":
    sys.exit(main())
