"""Call FFClassifier and ADSExplainer at random, with what is valid and what is not.

Each round draws an estimator's parameters, data and a few calls in any order. Every call must
return, or raise ValueError, TypeError or NotFittedError; no prediction may hold NaN, and no input
may change. A round depends on its number alone: ``--only NUMBER`` repeats it.

    python examples/stress/fuzz_api.py --rounds 3000
"""

import argparse
import pickle
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skff import ADSExplainer, FFClassifier

ALLOWED = (ValueError, TypeError, NotFittedError)
STRANGE = [None, -1, 0, 1, 2.5, np.nan, np.inf, -np.inf, 1e300, "", "auto", (), [], {}, True, b"x"]
CLASSIFIER = {
    "hidden_layer_sizes": [(5,), (4, 3), 6, np.array([3, 3])],
    "overlay": ["layerwise", "append", "replace"],
    "label_scale": [0.1, 1, 1e8],
    "center": [True, False],
    "goodness": ["mean_square", "sum_square"],
    "loss": ["auto", "cross_entropy", "symba", "swish", "logistic"],
    "negatives": ["auto", "all", "hard", "uniform", "confused"],
    "training": ["simultaneous", "greedy"],
    "readout": ["goodness", "softmax"],
    "skip_first_goodness": [True, False],
    "peer_normalization": [0.0, 0.1, 1e6],
    "dropout": ["auto", 0.0, 0.5, 0.999],
    "solver": ["adamw", "sgd"],
    "learning_rate_init": [1e-3, 1e-30, 1.0, 1e6],
    "learning_rate": ["cooldown", "constant"],
    "weight_decay": [0.0, 0.1],
    "batch_size": ["auto", 1, 7, 10**6],
    "early_stopping": [True, False],
    "validation_fraction": [0.1, 0.5, 0.999],
    "class_weight": [None, "balanced", {0: 2.0}, {"a": 1}],
    "matmul_precision": ["highest", "high", "medium"],
    "warm_start": [True, False],
    "random_state": [None, 0, np.random.RandomState(0)],
}
EXPLAINER = {
    "window_shape": [1, 2, 3, (1, 3), 100],
    "stride": [1, 2, (1, 2)],
    "image_shape": [None, (3, 3), (9,), (3, 1, 3), (2, 2)],
    "fill": [0.0, 0.5, np.nan, "mean", "blur", "permute", "conditional", "inpaint", np.ones(9)],
    "n_repeats": [1, 2],
    "channels": ["joint", "separate"],
    "aggregate": ["center", "coverage"],
    "mask": [None, np.ones((3, 3), bool), np.zeros((3, 3), bool)],
    "groups": [None, [[0, 1], [2]], {"a": [3]}, np.arange(9).reshape(3, 3) // 3],
    "scoring": [None, "accuracy", "neg_log_loss", "margin", ["accuracy", "margin"], "r2"],
    "engine": ["auto", "score", "predict", "incremental"],
    "max_samples": [None, 5, 0.5],
    "target_precision": [None, 0.1],
    "top_k": [None, 2],
    "refine": [None, 1],
    "random_state": [0, 1],
}
FORMS = {
    "float64": lambda X, folder: X,
    "float32": lambda X, folder: X.astype(np.float32),
    "int": lambda X, folder: np.round(X).astype(int),
    "uint8": lambda X, folder: np.abs(np.round(X)).astype(np.uint8),
    "bool": lambda X, folder: X > 0,
    "object": lambda X, folder: X.astype(object),
    "float16": lambda X, folder: X.astype(np.float16),
    "fortran": lambda X, folder: np.asfortranarray(X),
    "reversed": lambda X, folder: X[::-1, ::-1],
    "strided": lambda X, folder: np.repeat(X, 2, axis=1)[:, ::2],
    "list": lambda X, folder: X.tolist(),
    "frame": lambda X, folder: pd.DataFrame(X),
    "named": lambda X, folder: pd.DataFrame(X).rename(columns=str),
    "masked": lambda X, folder: np.ma.masked_greater(X, 1),
    "sparse": lambda X, folder: sparse.csr_array(X),
    "map": lambda X, folder: mapped(X, folder),
    "map of float32": lambda X, folder: mapped(X.astype(np.float32), folder),
    "read-only": lambda X, folder: read_only(X),
    "words": lambda X, folder: X.astype(str),
    "complex": lambda X, folder: X + 1j,
    "3-D": lambda X, folder: X[:, :, None],
    "1-D": lambda X, folder: X[:, 0],
    "tensor": lambda X, folder: torch.from_numpy(X.copy()),
    "NaN": lambda X, folder: np.where(X > 1, np.nan, X),
    "infinite": lambda X, folder: np.where(X > 1, np.inf, X),
    "huge": lambda X, folder: X * 1e37,
    "tiny": lambda X, folder: X * 1e-37,
    "overflowing": lambda X, folder: X * 1e300,
    "constant": lambda X, folder: 0 * X + 3,
    "empty": lambda X, folder: X[:0],
    "one sample": lambda X, folder: X[:1],
    "other features": lambda X, folder: X[:, :5],
    "none": lambda X, folder: None,
}
TARGETS = {
    "int": lambda y: y,
    "words": lambda y: np.array(["a", "b", "c"])[y],
    "objects": lambda y: np.array(["a", "b", "c"], object)[y],
    "one class": lambda y: 0 * y,
    "floats": lambda y: y.astype(float),
    "continuous": lambda y: y + 0.5,
    "NaN": lambda y: np.where(y > 0, np.nan, y),
    "short": lambda y: y[:-1],
    "column": lambda y: y[:, None],
    "two columns": lambda y: np.c_[y, y],
    "list": lambda y: y.tolist(),
    "bool": lambda y: y > 0,
    "none": lambda y: None,
}
WEIGHTS = {
    "none": lambda y: None,
    "ones": lambda y: np.ones(len(y)),
    "zeros": lambda y: np.zeros(len(y)),
    "some zeros": lambda y: (y > 0).astype(float),
    "wide": lambda y: np.geomspace(1e-300, 1e300, len(y)),
    "negative": lambda y: -np.ones(len(y)),
    "NaN": lambda y: np.full(len(y), np.nan),
    "number": lambda y: 2.0,
}
PREDICTIONS = ["predict", "predict_proba", "predict_log_proba", "decision_function"]
CALLS = [
    *("fit", "fit", "fit", "partial_fit", *PREDICTIONS, "layer_goodness", "score"),
    *("set_params", "clone", "pickle", "explain", "explain", "repr", "behind a scaler"),
]


def mapped(X, folder):
    path = Path(folder, "X")
    X.tofile(path)
    return np.memmap(path, dtype=X.dtype, mode="r", shape=X.shape)


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def choose(rng, options):
    return options[rng.integers(len(options))]


def often(rng, options, usual, share=0.6):
    """Return the usual option most of the time."""
    return usual if rng.random() < share else choose(rng, list(options))


def draw_params(rng, table):
    """Draw a few parameters, some of them strange."""
    names = rng.choice(list(table), size=rng.integers(0, 5), replace=False)
    return {
        str(name): choose(rng, STRANGE if rng.random() < 0.1 else table[name]) for name in names
    }


def snapshot(value):
    return pickle.dumps(value)


class Round:
    """One estimator and some calls."""

    def __init__(self, number, seed, folder):
        self.rng = np.random.default_rng((seed, number))
        self.folder, self.log, self.counts = folder, [], Counter()

    def _data(self):
        rng, n = self.rng, int(self.rng.integers(1, 40))
        y = rng.integers(0, 3, n)
        X = rng.standard_normal((n, 9)) + 2 * np.eye(3, 9)[y]
        form, target = often(rng, FORMS, "float64"), often(rng, TARGETS, "int")
        weight = often(rng, WEIGHTS, "none", 0.8)
        self.log[-1] += f"  # X: {n} samples, {form}; y: {target}; sample_weight: {weight}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return FORMS[form](X, self.folder), TARGETS[target](y), WEIGHTS[weight](y)

    def run(self):
        """Return the traceback of what may not happen, or None."""
        params = {"hidden_layer_sizes": (4, 3), "max_iter": 2, "device": "cpu"}
        params |= draw_params(self.rng, CLASSIFIER)
        self.log.append(f"clf = FFClassifier(**{params!r})")
        try:
            self.clf = FFClassifier(**params)
            for _ in range(self.rng.integers(1, 7)):
                self._call(choose(self.rng, CALLS))
        except Exception:
            return traceback.format_exc()
        return None

    def _call(self, name):
        self.log.append(name)
        X, y, weight = self._data()
        before = snapshot((X, y, weight))
        try:
            result = self._perform(name, X, y, weight)
            self.counts["returned"] += 1
        except ALLOWED:
            self.counts["refused"] += 1
            result = None
        if snapshot((X, y, weight)) != before:
            raise AssertionError(f"{name} changed its input")
        if name in PREDICTIONS and result is not None and result.dtype.kind == "f":
            if np.isnan(result).any():
                raise AssertionError(f"{name} returned NaN")

    def _perform(self, name, X, y, weight):
        rng, clf = self.rng, self.clf
        if name == "fit":
            clf.fit(X, y, sample_weight=weight)
        elif name == "partial_fit":
            classes = choose(rng, [None, [0, 1, 2], ["a", "b", "c"], [0], [np.nan, 1]])
            clf.partial_fit(X, y, classes=classes, sample_weight=weight)
        elif name in PREDICTIONS or name == "layer_goodness":
            return getattr(clf, name)(X)
        elif name == "score":
            return clf.score(X, y, weight)
        elif name == "set_params":
            params = draw_params(rng, CLASSIFIER)
            self.log[-1] += f"  # {params!r}"
            clf.set_params(**params)
        elif name == "clone":
            self.clf = clone(clf)
        elif name == "pickle":
            self.clf = pickle.loads(pickle.dumps(clf))
        elif name == "repr":
            repr(clf), clf._repr_html_()
        elif name == "behind a scaler":
            model = make_pipeline(StandardScaler(), clone(clf)).fit(X, y)
            self._explain(model, X, y, None)
        else:
            self._explain(clf, X, y, weight)

    def _explain(self, model, X, y, weight):
        params = draw_params(self.rng, EXPLAINER)
        self.log[-1] += f"  # ADSExplainer(clf, **{params!r})"
        found = ADSExplainer(model, **params).explain(X, y, sample_weight=weight)
        for one in found.values() if isinstance(found, dict) else [found]:
            for explanation in one if isinstance(one, list) else [one]:
                repr(explanation)
                if np.isnan(explanation.window_scores).any():
                    raise AssertionError("explain returned NaN scores")


def fuzz(rounds, seed=0):
    """Run rounds; return what they counted, and the failures as (number, calls, traceback)."""
    counts, failures = Counter(), []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in rounds:
            one, start = Round(number, seed, folder), time.perf_counter()
            error = one.run()
            counts.update(one.counts)
            if error is None and time.perf_counter() - start > 120:
                error = "took more than two minutes"
            if error is not None:
                failures.append((number, "\n".join(one.log), error))
    return counts, failures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--only", type=int, help="repeat the round of this number")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="few rounds, in seconds")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rounds = range(60 if args.smoke else args.rounds) if args.only is None else [args.only]
    counts, failures = fuzz(rounds, args.seed)
    for number, calls, error in failures:
        print(f"--- round {number} of seed {args.seed}", calls, error, sep="\n")
    print(f"{len(rounds)} rounds, {counts['returned']} calls returned, {counts['refused']} refused")
    print(f"{len(failures)} FAILED" if failures else "PASSED")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
