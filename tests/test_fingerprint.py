"""Descriptions of values: equal where the values are, in any process."""

import functools
import os
import subprocess
import sys
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from skff import _fingerprint
from skff._fingerprint import describe, describe_array
from skff.forward_forward.losses import SymBa


def scaled(factor):
    return lambda batch, generator: factor * batch


class Scaled:
    """A component of one's own."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, batch, generator):
        return self.factor * batch


class ScaledTwice(Scaled):
    """The same state, other code."""

    def __call__(self, batch, generator):
        return self.factor * self.factor * batch


class Cyclic:
    """An object that holds itself."""

    def __init__(self, number):
        self.own, self.number = self, number


# Each made anew at every call; all differ from each other.
VALUES = [
    lambda: None,
    lambda: True,
    lambda: 1,
    lambda: 1.5,
    lambda: "a",
    lambda: b"a",
    lambda: "a" * 500,
    lambda: "a" * 501,
    lambda: [1, [2, 3]],
    lambda: [[1, 2], 3],
    lambda: {"a": 1, "b": 2},
    lambda: {"a": 2, "b": 1},
    lambda: {"x", "y", "z"},
    lambda: np.arange(6),
    lambda: np.arange(6.0),
    lambda: np.arange(6).reshape(2, 3),
    lambda: np.array(["a", None], dtype=object),
    lambda: torch.ones(2),
    lambda: torch.float32,
    lambda: torch.device("cpu"),
    lambda: scaled(1),
    lambda: scaled(2),
    lambda: functools.partial(scaled, 1),
    lambda: functools.partial(scaled, 2),
    lambda: scaled,
    lambda: lambda batch, generator: batch,
    lambda: lambda batch, generator: -batch,
    lambda: lambda batch, generator=1: batch,
    lambda: lambda batch: batch in {"u", "v", "w"},
    lambda: Scaled(1),
    lambda: Scaled(2),
    lambda: ScaledTwice(1),
    lambda: Scaled(1).__call__,
    lambda: Scaled,
    lambda: property(scaled),
    lambda: [classmethod(scaled)],
    lambda: SymBa(),
    lambda: SymBa(2.0),
    lambda: Cyclic(1),
    lambda: Cyclic(2),
    lambda: np.random.RandomState(0),
    lambda: np.random.RandomState(1),
    lambda: np.sin,
    lambda: max,
    lambda: pd.DataFrame({"a": [1, 2]}),
    lambda: pd.DataFrame({"a": [1, 3]}),
    lambda: LogisticRegression(C=2.0),
    lambda: LogisticRegression(C=3.0),
]


def test_equal_values_have_equal_descriptions_and_others_differ():
    descriptions = [describe(make()) for make in VALUES]
    assert descriptions == [describe(make()) for make in VALUES]
    assert len(set(descriptions)) == len(VALUES)
    assert all(len(description) < 250 for description in descriptions)


DESCRIBED = """
import numpy as np
from skff._fingerprint import describe

class Words:
    def __init__(self):
        self.words = {"u", "v", "w", "x"}

    def __contains__(self, word):
        return word in {"a", "b", "c", "d"} or word in self.words

words = Words()
values = [{"p", "q", "r", "s"}, words, lambda word: word in words, np.ones(3)]
found = list(map(describe, values))
"""


def test_another_process_describes_values_alike():
    found = {"__name__": "__main__"}
    exec(DESCRIBED, found)
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", DESCRIBED + "print(found)"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == repr(found["found"])


def test_plain_values_stay_readable_whatever_their_container():
    assert describe((500, 500)) == describe([500, 500]) == "[500, 500]"
    assert describe(np.float64(0.5)) == describe(0.5) == "0.5"
    assert describe(SymBa(2.0)) == "skff.forward_forward.losses.SymBa {'scale': 2.0}"


def test_what_no_pickle_can_hold_is_refused():
    for value in (threading.Lock(), [1, (x for x in [])], scaled(threading.Lock())):
        with pytest.raises(ValueError, match="expected one that can be pickled"):
            describe(value)


class Recording(np.ndarray):
    """An array that notes how much is read at once."""

    n_bytes = []

    def tobytes(self):
        self.n_bytes.append(self.nbytes)
        return np.ndarray.tobytes(self)


def test_arrays_are_read_in_blocks_whatever_their_layout(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 7))
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    expected = describe_array(X)
    monkeypatch.setattr(_fingerprint, "BLOCK", 1000)
    for array in (X, mapped, np.asfortranarray(X), X[::-1][::-1]):
        assert describe_array(array) == expected
    Recording.n_bytes.clear()
    assert describe_array(mapped.view(Recording)) == expected
    assert sum(Recording.n_bytes) == X.nbytes
    assert max(Recording.n_bytes) <= 1000
    for other in (X.astype(np.float32), X.reshape(7, 1000), X[:-1], X + 1e-15, np.asarray(0.0)):
        assert describe_array(other) != expected
    assert describe_array(np.empty((0, 3))) != describe_array(np.empty((0, 4)))
