"""Scripts that load the library, run small; their ``--smoke`` modes run beside the tests."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "stress"))

import concurrency
import fuzz_api
import fuzz_files
import soak
import threads

import skff
from skff import FFClassifier
from skff.forward_forward.augmentation import ImageShift
from skff.forward_forward.losses import CrossEntropy
from skff.forward_forward.solvers import SGD

STRESS = Path(__file__).parent.parent / "examples" / "stress"


def run(script, *arguments):
    """Run a script in a process of its own; return what it prints."""
    command = [sys.executable, STRESS / script, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts what a process may allocate")
def test_a_file_larger_than_the_memory_that_may_be_allocated_is_enough():
    # RLIMIT_DATA, set in a process of its own, counts what is allocated but not the mapped file;
    # the script fails if the file could be copied, and where results differ from those in memory.
    assert run("larger_than_memory.py", "--smoke", "--types", "float64").endswith("PASSED\n")


def test_calls_at_random_are_answered_or_refused():
    counts, failures = fuzz_api.fuzz(range(25))
    assert not failures
    assert min(counts["returned"], counts["refused"]) > 10


def test_the_fuzz_finds_a_changed_input_and_another_exception(monkeypatch):
    def spoil(self, X, y, sample_weight=None):
        if isinstance(X, np.ndarray) and X.flags.writeable and X.dtype == float:
            X[:] = 0
        raise KeyError("spoilt")

    monkeypatch.setattr(fuzz_api.FFClassifier, "fit", spoil)
    _, failures = fuzz_api.fuzz(range(12))
    assert any("KeyError" in error for _, _, error in failures)


def test_loading_executes_nothing(tmp_path):
    components = {"loss": CrossEntropy(scale=2.0), "augment": ImageShift(), "solver": SGD()}
    model = FFClassifier((5,), max_iter=1, **components).fit(np.eye(4, 9), [0, 1, 0, 1])
    skff.save(model, tmp_path / "components")
    contents = fuzz_files.make_files(tmp_path)
    contents["components"] = (tmp_path / "components").read_bytes(), skff.load
    fuzz_files.warm_up(contents)
    watch, path = fuzz_files.Watch(), tmp_path / "read"
    for content, reader in contents.values():
        path.write_bytes(content)
        outcome, _, wrong = fuzz_files.judge(path, reader, watch)
        assert (outcome, wrong) == ("loaded", None)
    assert fuzz_files.judge(path, lambda path: eval("1"), watch)[2] == "executed compile"


def test_threads_share_a_model():
    n_calls, wrong, n_left = threads.load(30, seed=0)
    assert (n_calls, wrong, n_left) == (30, [], 0)


def test_threads_tear_no_state_and_change_no_global():
    stress = concurrency.Stress(seed=0)
    assert stress.run(seconds=1) == []
    assert {"train", "predict", "predict_frozen", "explain", "fit"} >= set(stress.counts)
    assert stress.counts["predict"] > 10


def test_a_torn_state_and_a_changed_global_are_found():
    stress = concurrency.Stress(seed=0)
    stress.train = lambda: np.random.seed(1)  # noqa: NPY002
    stress.predict = lambda: stress.seen.add(b"torn")
    stress.train.__name__ = stress.predict.__name__ = "spoil"
    before = np.random.get_state()  # noqa: NPY002
    failures = stress.run(seconds=0.05)
    np.random.set_state(before)  # noqa: NPY002
    assert set(failures) == {"changed: NumPy's random state", "1 torn probabilities"}


def test_growth_is_told_from_noise():
    rounds = np.arange(0, 3000, 30)
    noise = np.random.default_rng(0).normal(size=len(rounds))
    assert not soak.verdict(rounds, 400 + noise)[2]
    assert soak.verdict(rounds, 400 + noise + rounds * 0.01)[2]
    assert not soak.verdict(rounds, np.full(len(rounds), 7))[2]
