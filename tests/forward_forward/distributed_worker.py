"""Groups of processes that run, each once, all that `test_distributed` looks at.

They are forked from one process, so that torch is imported once.
"""

import os
import pickle
import sys
import time
import traceback
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from forward_forward.samples import Recorder, gaussian_classes, weights
from torch import distributed

from skff import FFClassifier
from skff.forward_forward import _checkpoint, _distributed, _gradients, _parameters, _trainer
from skff.forward_forward._checkpoint import CheckpointFile
from skff.forward_forward._trainer import Trainer
from skff.forward_forward.augmentation import ImageShift
from skff.forward_forward.losses import CrossEntropy, SymBa

X, y = gaussian_classes(86, 64, 4, spread=3.0)
X_UNSEEN, _ = gaussian_classes(50, 64, 4, seed=1, spread=3.0)
SAMPLE_WEIGHT = np.random.default_rng(0).random(len(y)) + 0.1
SETTINGS = {"hidden_layer_sizes": (20, 16, 12, 10), "batch_size": 32, "max_iter": 2}
SETTINGS |= {"random_state": 0, "device": "cpu"}

TIMEOUT = 3  # seconds

# Parameters of fits that are the same on one process and on several; the last batch has 22 samples.
CASES = {
    "default": {},
    "softmax head": {"readout": "softmax"},
    "hard negatives": {"loss": "symba"},
    "peers": {"peer_normalization": 0.1, "solver": "sgd", "weight_decay": 0.01},
    "augmented": {"augment": ImageShift(), "goodness": "sum_square", "loss": SymBa(scale=0.1)},
    "few candidates": {"loss": CrossEntropy(max_candidates=2)},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.2, "max_iter": 3},
    "fewer samples than processes": {"batch_size": 85, "label_scale": 0.5},  # in the last batch
    "blocks": {"class_weight": "balanced"},  # with little scratch memory
    "bfloat16": {"matmul_precision": "medium"},
}
DATA_ONLY = {
    "greedy": {"training": "greedy", "readout": "softmax"},
    "append": {"overlay": "append", "peer_normalization": 0.1},
    "replace": {"overlay": "replace"},
    "confused": {"loss": "symba", "negatives": "confused", "readout": "softmax"},
}
# Where it may matter how many processes there are; the others are run by two.
EVERY_SIZE = ("default", "softmax head", "blocks", "fewer samples than processes")


def fits_of(size):
    """Return the cases that so many processes run, and how they train together."""
    found = [(name, "data") for name in CASES | DATA_ONLY]
    found += [(name, "layers") for name in CASES]
    return [(name, how) for name, how in found if size == 2 or name in EVERY_SIZE]


@contextmanager
def conditions(name):
    """Patch what a case needs to be different."""
    with (
        mock.patch.object(_gradients, "SCRATCH_ELEMENTS", 2000 if name == "blocks" else 2**21),
        mock.patch.object(_parameters, "WORTH_DRAWING", 0),
        mock.patch.object(_trainer, "multiplies_bfloat16", lambda device: name == "bfloat16"),
    ):
        yield


def fitted(name, parallel=None):
    """Return what a classifier is after a fit of a case."""
    clf = FFClassifier(**SETTINGS | (CASES | DATA_ONLY)[name], parallel=parallel)
    with conditions(name):
        return state(clf.fit(X, y, SAMPLE_WEIGHT))


def partially_fitted(parallel=None, **params):
    """Return the same after passes over parts, and after one more pass of an unpickled copy."""
    clf = FFClassifier(**SETTINGS | params, parallel=parallel)
    for part in (slice(0, 40), slice(40, 86), slice(0, 30)):
        clf.partial_fit(X[part], y[part], classes=[0, 1, 2, 3])
    copy = pickle.loads(pickle.dumps(clf)).set_params(parallel=None)
    return [state(clf), state(copy.partial_fit(X, y))]


def state(clf):
    own = {"weights": weights(clf), "proba": clf.predict_proba(X_UNSEEN), "history": clf.history_}
    return own | {"head": [tensor.numpy() for tensor in clf._network.head]}


class StopHere(Recorder):
    """A callback that asks to stop after an epoch, or fails there, on one rank."""

    def __init__(self, rank, error=None, epoch=1):
        super().__init__()
        self.rank, self.error, self.epoch = rank, error, epoch

    def on_fit_task_end(self, estimator, context):
        is_epoch = (context.task_name, context.task_id) == ("epoch", self.epoch - 1)
        here = is_epoch and distributed.get_rank() == self.rank
        if here and self.error is not None:
            raise self.error
        return here


def error_of(fit):
    """Return the type and text of the error that a call raises."""
    try:
        fit()
    except Exception as error:
        return type(error).__name__, str(error)
    return None


def refused(rank):
    """Return the errors where the ranks do not agree."""
    new = FFClassifier(**SETTINGS, parallel="data")
    other, X_nan = rank == 1, X.copy()
    X_nan[3, 4] = np.nan
    begun = FFClassifier(**SETTINGS).partial_fit(X, y, classes=[0, 1, 2, 3])
    begun.set_params(parallel="data")
    if other:
        begun._network.layers[0].bias[0] += 1e-6
    fails = FFClassifier(**SETTINGS, parallel="data").set_callbacks(
        StopHere(1, OSError("no space"))
    )
    found = {
        "data": error_of(lambda: new.fit(X + other * 1e-4, y)),
        "labels": error_of(lambda: new.fit(X, y[:: 1 - 2 * other])),
        "weights": error_of(lambda: new.fit(X, y, SAMPLE_WEIGHT + other)),
        "parameters": error_of(lambda: changed(new, dropout=0.2 * other).fit(X, y)),
        "seed": error_of(lambda: changed(new, random_state=int(other)).fit(X, y)),
        "no seed": error_of(lambda: changed(new, random_state=3 if other else None).fit(X, y)),
        "generator": error_of(
            lambda: changed(new, random_state=np.random.RandomState(other)).fit(X, y)
        ),
        "fitted weights": error_of(lambda: begun.partial_fit(X, y)),
        "NaN": error_of(lambda: new.fit(X_nan if other else X, y)),
        "callback": error_of(lambda: fails.fit(X, y)),
        "too few layers": error_of(
            lambda: changed(new, parallel="layers", hidden_layer_sizes=(9,)).fit(X, y)
        ),
    }
    assert not hasattr(new, "classes_")
    return found


def changed(clf, **params):
    return FFClassifier(**clf.get_params() | params)


def drift(rank):
    """Return the weights as they are where no rank takes over those of another."""
    with mock.patch.object(_distributed.Ranks, "broadcast", lambda *arguments: None):
        return fitted("default", "data")["weights"]


def resumed(parallel, path, rank):
    """Return a fit that failed in its second epoch and went on, and one that never failed."""
    settings = SETTINGS | {"readout": "softmax", "max_iter": 3, "parallel": parallel}
    clf = FFClassifier(**settings, checkpoint=path)
    clf.set_callbacks(StopHere(1, OSError("no space"), epoch=2))
    with mock.patch.object(_checkpoint, "CheckpointFile", CheckpointFile if rank == 0 else None):
        error = error_of(lambda: clf.fit(X, y))
        clf.set_callbacks().fit(X, y)
    return error, state(clf), state(FFClassifier(**settings).fit(X, y))


def lost(parallel, lose, path):
    """Lose the last rank in the second epoch; return what the others raise and hold afterwards."""
    update, calls = Trainer._update, []

    def update_or_lose(*arguments):
        calls.append(None)
        if len(calls) == 5 and distributed.get_rank() == distributed.get_world_size() - 1:
            lose()
        update(*arguments)

    clf = FFClassifier(**SETTINGS, parallel=parallel, checkpoint=path)
    with mock.patch.object(Trainer, "_update", update_or_lose):
        error = error_of(lambda: clf.fit(X, y))
    return error, vars(clf).keys() == vars(changed(clf)).keys()


def join(path, rank, size, seconds):
    """Join a process group that waits for so long."""
    where = {"init_method": f"file://{path}", "rank": rank, "world_size": size}
    distributed.init_process_group("gloo", **where, timeout=timedelta(seconds=seconds))


def all_checks(folder, rank, size):
    alike = {fit: fitted(*fit) for fit in fits_of(size)}
    for parallel in ("data", "layers"):
        for readout in ("goodness", "softmax"):
            alike["partial_fit", parallel, readout] = partially_fitted(parallel, readout=readout)
    unseeded = changed(FFClassifier(**SETTINGS), random_state=None, parallel="data", verbose=1)
    stops = FFClassifier(**SETTINGS | {"max_iter": 5}, parallel="layers")
    found = {
        "alike": alike,
        "refused": refused(rank),
        "drift": drift(rank),
        "unseeded": state(unseeded.fit(X, y)),
        "resumed": {
            parallel: resumed(parallel, str(folder / f"{size}-{parallel}.fit"), rank)
            for parallel in ("data", "layers")
        },
        "stopped": state(stops.set_callbacks(StopHere(size - 1)).fit(X, y)),
    }
    distributed.barrier()  # who exits early would be missed
    return found


def lose_late(folder, rank, size):
    parallel = "data" if size == 2 else "layers"
    return lost(parallel, lambda: time.sleep(TIMEOUT + 1), str(folder / f"{size}-late.fit"))


def lose_dead(folder, rank, size):
    parallel = "layers" if size == 2 else "data"
    return lost(parallel, lambda: os._exit(0), str(folder / f"{size}-dead.fit"))


# What is run, by processes of their own: a group that lost one may never end. And its timeout.
STAGES = {"checks": (all_checks, 300), "late": (lose_late, TIMEOUT), "dead": (lose_dead, TIMEOUT)}


def run(stage, folder, rank, size):
    """Write what a rank found, unless it is lost before."""
    work, seconds = STAGES[stage]
    join(folder / f"{stage}{size}", rank, size, seconds)
    found = work(folder, rank, size)
    (folder / f"{stage}-{size}-{rank}.pickle").write_bytes(pickle.dumps(found))


def run_and_exit(*arguments):
    try:
        run(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main(folder, sizes):
    """Run a group of processes of each size, all at the same time, stage after stage."""
    torch.set_num_threads(1)
    fitted("default")  # what is imported on first use is imported once
    ranks = [(rank, size) for size in sizes for rank in range(size)]
    statuses = []
    for stage in STAGES:
        children = []
        for rank, size in ranks:
            children.append(os.fork())
            if children[-1] == 0:
                run_and_exit(stage, folder, rank, size)
        statuses += [os.waitpid(child, 0)[1] for child in children]
    return int(any(statuses))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), [int(size) for size in sys.argv[2:]]))
