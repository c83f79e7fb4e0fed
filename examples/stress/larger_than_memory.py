"""Train, predict and explain from a file that is larger than the memory that may be allocated.

Per type of features a file is written, block by block. After one round on few samples, which loads
what torch and scikit-learn load, the data segment of the process is limited to what it has plus
``--allowed`` (``RLIMIT_DATA``: memory that the process allocates. ``RLIMIT_AS`` would count the
mapped file as well, which takes no memory that the system could not have back at once). A copy of
the file must then fail, and everything else must not. What is computed from the first samples in
the file must be, bit for bit, what is computed from the same samples in memory.

    python examples/stress/larger_than_memory.py
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _process import PeakMemory, give_back, status
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skff import ADSExplainer, FFClassifier
from skff.saliency import deletion_curve

SHAPE, N_CLASSES = (128, 128), 10
N_FEATURES = SHAPE[0] * SHAPE[1]
MB = 10**6
N_FEW = 100  # samples that fit into memory
SMOKE = {
    "float64": ["fit", "predict_proba", "deletion curve"],
    "float32": ["fit, early stopping", "explain behind a scaler", "explain, log loss"],
    "uint8": ["partial_fit", "decision_function", "explain another classifier"],
}
PIXELS = np.arange(N_FEATURES).reshape(SHAPE)
REGIONS = {"top": PIXELS[:3, ::16], "middle": PIXELS[60:63, ::16], "bottom": PIXELS[-3:, ::16]}
ADS = {"image_shape": SHAPE, "groups": {name: part.ravel() for name, part in REGIONS.items()}}
CURVE = {"image_shape": SHAPE, "n_points": 3, "n_random": 0}
NETWORK = {"hidden_layer_sizes": (32, 16), "max_iter": 1, "device": "cpu", "random_state": 0}


def block(dtype, n_samples, seed):
    """Return samples of ten classes, each with a brighter stripe of its own, and labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(N_CLASSES, size=n_samples)
    X = rng.integers(0, 100, (n_samples, N_FEATURES), dtype=np.uint8)
    for label in range(N_CLASSES):
        stripe = range(12 * label * SHAPE[1], 12 * (label + 1) * SHAPE[1])
        X[np.ix_(y == label, stripe)] += 60
    return X.astype(dtype), y


def write(path, dtype, n_bytes, seed):
    """Write a file of about `n_bytes`; return it mapped, and the labels."""
    n_samples = n_bytes // (N_FEATURES * np.dtype(dtype).itemsize)
    step, labels = 100, []
    with path.open("wb") as file:
        for start in range(0, n_samples, step):
            X, y = block(dtype, min(step, n_samples - start), (seed, start))
            X.tofile(file)
            labels.append(y)
    X = np.memmap(path, dtype=dtype, mode="r", shape=(n_samples, N_FEATURES))
    return X, np.concatenate(labels)


def steps(X, y, models, names=None):
    """Yield (name, result) of what can be done with the data, of all or some, in turn."""
    clf, scaled, linear = models
    calls = {
        "fit": lambda: FFClassifier(**NETWORK).fit(X, y).coefs_[0],
        "fit, early stopping": lambda: (
            FFClassifier(**NETWORK, early_stopping=True).fit(X, y).coefs_[0]
        ),
        "partial_fit": lambda: (
            FFClassifier(**NETWORK).partial_fit(X, y, classes=range(N_CLASSES)).coefs_[0]
        ),
        "predict": lambda: clf.predict(X),
        "predict_proba": lambda: clf.predict_proba(X),
        "decision_function": lambda: clf.decision_function(X),
        "score": lambda: np.array(clf.score(X, y)),
        "explain": lambda: maps(clf, X, y),
        "explain, mean as fill": lambda: maps(clf, X, y, fill="mean", engine="predict"),
        "explain behind a scaler": lambda: maps(scaled, X, y),
        "explain, log loss": lambda: maps(clf, X, y, scoring="neg_log_loss"),
        "explain another classifier": lambda: maps(linear, X, y),
        "deletion curve": lambda: deletion_curve(clf, X, y, PIXELS, **CURVE).scores["map"],
    }
    for name in names or calls:
        yield name, calls[name]()


def maps(model, X, y, **params):
    return ADSExplainer(model, **ADS, **params).explain(X, y).importances


def make_models(X, y):
    """Return models fitted on few samples: ours, ours behind a scaler, and one of scikit-learn's.

    A Pipeline and SGDClassifier copy what they are fitted on.
    """
    scaled = make_pipeline(StandardScaler(), FFClassifier(**NETWORK))
    linear = SGDClassifier(random_state=0, max_iter=5, tol=None)
    return [model.fit(X, y) for model in (FFClassifier(**NETWORK), scaled, linear)]


def check(X, y, models, allowed, names):
    """Run steps on the file and print their figures; return what went wrong."""
    failures, size = [], X.nbytes / MB
    first, labels = X[:N_FEW], y[:N_FEW]
    in_memory = steps(np.array(first), labels, models, names)
    pairs = zip(steps(first, labels, models, names), in_memory, strict=True)
    for (name, mapped), (_, stored) in pairs:
        if not np.array_equal(mapped, stored, equal_nan=mapped.dtype.kind == "f"):
            failures.append(f"{X.dtype}: {name} of the file differs from that of the array")
    running = steps(X, y, models, names)
    while True:
        start = time.perf_counter()
        with PeakMemory() as peak:
            try:
                name, _ = next(running)
            except StopIteration:
                return failures
            except MemoryError as error:
                return [*failures, f"{X.dtype}: out of memory after {name!r}: {error}"]
        seconds = time.perf_counter() - start
        print(f"{X.dtype!s:>8}  {size:6.0f}  {name:28} {peak.added / MB:8.0f} {seconds:8.1f}")
        if peak.added > allowed:
            failures.append(f"{X.dtype}: {name} took {peak.added / MB:.0f} MB")


def limit(allowed):
    """Let the process allocate so many bytes more."""
    give_back(always=True)
    bound = status("VmData") + allowed
    resource.setrlimit(resource.RLIMIT_DATA, (bound, bound))


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=2000, help="size of each file")
    parser.add_argument("--allowed", type=int, default=300, help="MB that may be allocated")
    parser.add_argument("--types", nargs="+", default=["float32", "float64", "uint8"])
    parser.add_argument("--folder", type=Path, help="where the files go; default: temporary files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="small files, in seconds")
    args = parser.parse_args()
    if args.smoke:
        args.megabytes, args.allowed = 200, 180
    return args


def main():
    args = parse()
    torch.set_num_threads(1)
    few, labels = block("float32", N_FEW, args.seed)
    models, allowed = make_models(few, labels), args.allowed * MB
    names = SMOKE if args.smoke else dict.fromkeys(args.types)
    used = dict.fromkeys(name for dtype in args.types for name in names[dtype] or ())
    list(steps(few, labels, models, used))
    failures = []
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder, "X")
        print(f"baseline {status('RssAnon') / MB:.0f} MB, {args.allowed} MB more are allowed")
        print(f"{'type':>8}  {'MB':>6}  {'step':28} {'MB added':>8} {'seconds':>8}")
        limit(allowed)
        for dtype in args.types:
            X, y = write(path, dtype, args.megabytes * MB, args.seed)
            try:
                np.array(X)
                failures.append(
                    f"{dtype}: a copy of the file fits into the limit: it tests nothing"
                )
            except MemoryError:
                pass
            failures += check(X, y, models, allowed, names[dtype])
            del X
            os.remove(path)
    print(*failures, "FAILED" if failures else "PASSED", sep="\n")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
