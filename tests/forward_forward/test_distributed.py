"""Several real processes against one; `distributed_worker` is what they run."""

import itertools
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from forward_forward import distributed_worker as worker
from forward_forward.samples import gaussian_classes, tiny_classifier
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed

from skff import FFClassifier
from skff.forward_forward import _distributed
from skff.forward_forward import _parameters as parameters
from skff.forward_forward._batches import Share
from skff.forward_forward._distributed import balanced
from skff.forward_forward._monitor import Monitor

SIZES = (2, 3)
every_size = pytest.mark.parametrize("size", SIZES)
FITS = [(*fit, size) for size in SIZES for fit in worker.fits_of(size)]


@pytest.fixture(scope="session")
def found(tmp_path_factory):
    """Run two and three processes at the same time; return what each rank found, by size."""
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, worker.__file__, str(folder), *map(str, SIZES)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    by_size = {size: [read(folder, rank, size) for rank in range(size)] for size in SIZES}
    return by_size | {"printed": done.stdout, "folder": folder}


def read(folder, rank, size):
    """Return what a rank found, but for the stages in which it was lost."""
    files = {stage: folder / f"{stage}-{size}-{rank}.pickle" for stage in worker.STAGES}
    found = {stage: pickle.loads(f.read_bytes()) for stage, f in files.items() if f.exists()}
    return found.pop("checks") | found


@pytest.fixture(scope="module")
def alone():
    """Return a function that fits a case in this process, once."""
    kept = {}

    def fitted(name):
        if name not in kept:
            kept[name] = worker.fitted(name)
        return kept[name]

    return fitted


def assert_same(one, other, *, rtol):
    """Assert that two states are equal to rounding, or to the bit if `rtol` is 0."""
    for name in ("weights", "head"):
        for left, right in zip(one[name], other[name], strict=True):
            np.testing.assert_allclose(left, right, rtol=0, atol=rtol * abs(right).max())
    np.testing.assert_allclose(one["proba"], other["proba"], rtol=0, atol=10 * rtol)
    assert len(one["history"]) == len(other["history"])
    for row, expected in zip(one["history"], other["history"], strict=True):
        for key in expected.keys() - {"seconds"}:
            np.testing.assert_allclose(row[key], expected[key], rtol=10 * rtol, err_msg=key)


def same_on_all(ranks):
    """Return whether all ranks hold the same bits."""
    first, *others = [
        pickle.dumps([state[key] for key in ("weights", "head", "proba")]) for state in ranks
    ]
    return all(state == first for state in others)


# one and several


@pytest.mark.parametrize(("name", "parallel", "size"), FITS)
def test_several_processes_learn_what_one_learns(name, parallel, size, found, alone):
    states = [rank["alike"][name, parallel] for rank in found[size]]
    # Adding up in another order rounds differently; layers compute what they always do.
    # Sums of shares in bfloat16 have two digits, and Adam goes as far where gradients are small.
    rounding = 3e-2 if name == "bfloat16" else 1e-5
    assert_same(states[0], alone(name), rtol=rounding if parallel == "data" else 0.0)
    assert same_on_all(states)


@every_size
@pytest.mark.parametrize("readout", ["goodness", "softmax"])
@pytest.mark.parametrize("parallel", ["data", "layers"])
def test_passes_of_several_processes_can_be_continued_by_one(parallel, readout, size, found):
    ranks = [rank["alike"]["partial_fit", parallel, readout] for rank in found[size]]
    for step, expected in enumerate(worker.partially_fitted(readout=readout)):
        states = [states[step] for states in ranks]
        assert_same(states[0], expected, rtol=1e-5 if parallel == "data" else 0.0)
        assert same_on_all(states)


@every_size
def test_ranks_that_share_gradients_do_not_drift_apart(size, found):
    first, *others = [rank["drift"] for rank in found[size]]
    for weights in others:
        assert all(map(np.array_equal, weights, first))


@every_size
def test_without_a_seed_all_ranks_take_that_of_the_first(size, found):
    states = [rank["unseeded"] for rank in found[size]]
    assert same_on_all(states)
    assert not np.allclose(states[0]["weights"][0], worker.fitted("default")["weights"][0])


def test_only_the_first_rank_prints(found):
    assert found["printed"].count("epoch 1/2") == len(SIZES)


@every_size
def test_a_callback_of_one_rank_stops_all(size, found):
    assert [len(rank["stopped"]["history"]) for rank in found[size]] == [1] * size


# bytes


def n_weights(sizes, n_classes):
    return sum((n_inputs + n_classes + 1) * n for n_inputs, n in itertools.pairwise(sizes))


@every_size
def test_bytes_of_the_gradients_are_those_of_all_weights_once_per_batch(size, found):
    sizes, n_samples, n_batches = [64, 20, 16, 12, 10], len(worker.y), 3
    n_layers = len(sizes) - 1
    per_batch = n_weights(sizes, 4) + 2 * n_layers  # and a loss and a count per layer
    strengths = n_samples * n_layers  # of all samples' signals, from which some are drawn
    to_others = n_weights(sizes, 4) + sum(sizes[1:])  # by rank 0, with the peers' means
    expected = 4 * (size * (n_batches * per_batch + strengths) + to_others)
    for rank in found[size]:
        history = rank["alike"]["default", "data"]["history"]
        assert [row["communicated_bytes"] for row in history] == [expected] * 2


@pytest.mark.parametrize("readout", ["goodness", "softmax"])
def test_bytes_of_the_activities_are_those_of_a_layer_for_each_sample(readout, found):
    head = readout == "softmax"
    sizes, stages = [64, 20, 16, 12, 10], [[64, 20], [20, 16, 12, 10]]  # equally much work
    activities = len(worker.y) * stages[0][-1]
    totals = 2 * 2 * (4 + head)  # once per epoch, from both
    weights = n_weights(sizes, 4) + sum(sizes[1:])
    weights += (4 * sum(sizes[2:]) + 4) * head
    for rank in found[2]:
        name = "softmax head" if head else "default"
        history = rank["alike"][name, "layers"]["history"]
        expected = 4 * (activities + totals + weights)
        assert [row["communicated_bytes"] for row in history] == [expected] * 2


# ranks that differ


@every_size
@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("data", "X"),
        ("labels", "y"),
        ("weights", "sample_weight"),
        ("parameters", "dropout"),
        ("seed", "random_state"),
        ("no seed", "random_state"),
        ("generator", "random_state"),
        ("fitted weights", "fitted weights"),
    ],
)
def test_ranks_that_do_not_agree_are_refused_on_all(what, named, size, found):
    for rank in found[size]:
        kind, text = rank["refused"][what]
        assert kind == "ValueError"
        assert text.startswith(f"Got {named} on rank 1 unlike on rank 0, but expected the same")


@every_size
def test_data_refused_on_one_rank_are_refused_on_all(size, found):
    texts = [rank["refused"]["NaN"] for rank in found[size]]
    assert {kind for kind, _ in texts} == {"ValueError"}
    assert texts[1][1].startswith("Input X contains NaN")
    for _, text in [texts[0], *texts[2:]]:
        assert text.startswith(f"Got an error on rank 1 of {size}: ValueError: Input X contains")


@every_size
def test_a_callback_that_fails_on_one_rank_fails_on_all(size, found):
    errors = [rank["refused"]["callback"] for rank in found[size]]
    assert errors[1] == ("OSError", "no space")
    others = ("RuntimeError", f"Got an error on rank 1 of {size}: OSError: no space")
    assert {errors[0], *errors[2:]} == {others}


@every_size
def test_fewer_layers_than_ranks_are_refused(size, found):
    for rank in found[size]:
        kind, text = rank["refused"]["too few layers"]
        assert kind == "ValueError"
        assert f"on {size} ranks with 1 layers" in text


@every_size
@pytest.mark.parametrize("how", ["late", "dead"])
def test_a_lost_rank_is_an_error_on_all_others_and_leaves_them_as_they_were(how, size, found):
    for rank in found[size][:-1]:
        (kind, text), unchanged = rank[how]
        assert kind == "RuntimeError"
        assert "Got no answer from another process on rank" in text
        assert unchanged


# going on


@every_size
@pytest.mark.parametrize("parallel", ["data", "layers"])
def test_a_fit_that_failed_goes_on_from_the_checkpoint_of_the_first_rank(parallel, size, found):
    for rank, own in enumerate(found[size]):
        (kind, _), resumed, unbroken = own["resumed"][parallel]
        assert kind == ("OSError" if rank == 1 else "RuntimeError")
        assert_same(resumed, unbroken, rtol=0.0)
        assert len(resumed["history"]) == 3


@every_size
@pytest.mark.parametrize("how", ["late", "dead"])
def test_one_process_goes_on_where_a_rank_was_lost(how, size, found):
    path = str(found["folder"] / f"{size}-{how}.fit")
    clf = FFClassifier(**worker.SETTINGS, checkpoint=path).fit(worker.X, worker.y)
    alone = worker.state(FFClassifier(**worker.SETTINGS).fit(worker.X, worker.y))
    assert "communicated_bytes" in clf.history_[0]
    assert "communicated_bytes" not in clf.history_[1]
    assert_same(worker.state(clf), alone, rtol=1e-5)


# without other processes


@pytest.mark.parametrize("parallel", ["data", "layers"])
def test_without_a_process_group_there_is_nobody_to_train_with(parallel):
    X, y = gaussian_classes()
    for fit in ("fit", "partial_fit"):
        with pytest.raises(ValueError, match=f"parallel='{parallel}' without.*torchrun"):
            getattr(tiny_classifier(parallel=parallel), fit)(X, y)


@pytest.fixture
def group_of_one():
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"overlay": "append"}, "overlay='append', but expected overlay='layerwise'"),
        ({"training": "greedy"}, "training='greedy', but expected training='simultaneous'"),
        (
            {"loss": "symba", "negatives": "confused", "readout": "softmax"},
            "negatives='confused', but expected",
        ),
    ],
)
def test_what_layers_cannot_learn_apart_is_refused_with_the_remedy(params, expected, group_of_one):
    X, y = gaussian_classes()
    with pytest.raises(ValueError, match=f"parallel='layers' with {expected}.*parallel='data'"):
        tiny_classifier(parallel="layers", **params).fit(X, y)
    tiny_classifier(parallel="data", **params).fit(X, y)


def test_an_interrupt_cannot_be_kept_where_each_process_has_its_own():
    with pytest.raises(ValueError, match="keep_interrupted=True with parallel='data'.*checkpoint"):
        parameters.check(tiny_classifier(parallel="data", keep_interrupted=True))


def test_an_interrupt_of_several_processes_leaves_the_estimator_as_it_was(tmp_path, monkeypatch):
    X, y = gaussian_classes()
    path = tmp_path / "fit.checkpoint"
    ranks = _distributed.OneRank()
    ranks.size = 2
    monkeypatch.setattr(_distributed.Alone, "ranks", ranks)
    clf = tiny_classifier(checkpoint=path, checkpoint_every=9, max_iter=3)
    end_epoch, calls = Monitor.end_epoch, []

    def interrupted(monitor, record):
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return end_epoch(monitor, record)

    monkeypatch.setattr(Monitor, "end_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, y)
    assert not hasattr(clf, "classes_")
    monkeypatch.undo()
    assert path.exists()  # of the second epoch
    assert len(clf.fit(X, y).history_) == 3
    np.testing.assert_array_equal(
        clf.predict_proba(X), tiny_classifier(max_iter=3).fit(X, y).predict_proba(X)
    )


@pytest.mark.parametrize("parallel", [None, "data", "layers"])
def test_one_process_has_all_of_the_work(parallel, group_of_one):
    X, y = gaussian_classes()
    one, other = (tiny_classifier(parallel=each).fit(X, y) for each in (None, parallel))
    np.testing.assert_array_equal(other.predict_proba(X), one.predict_proba(X))
    assert ("communicated_bytes" in other.history_[0]) == (parallel is not None)


def test_a_group_that_nobody_asked_for_is_left_alone(group_of_one, monkeypatch):
    for name in ("all_reduce", "broadcast", "all_gather_object"):
        monkeypatch.delattr(_distributed.distributed, name)
    tiny_classifier().fit(*gaussian_classes())


# shares


@given(
    n_samples=st.integers(0, 30),
    n_shares=st.integers(1, 5),
    n_rows=st.integers(1, 12),
)
def test_shares_of_a_batch_and_of_its_blocks_are_all_samples_once_and_even(
    n_samples, n_shares, n_rows
):
    values = torch.arange(n_samples)
    shares = [Share(n_samples, first, n_shares) for first in range(n_shares)]
    owned = [share.own(values) for share in shares]
    assert sorted(torch.cat(owned).tolist()) == values.tolist()
    assert max(map(len, owned)) - min(map(len, owned)) <= 1
    blocks = [list(share.blocks(n_rows)) for share in shares]
    for block, start in zip(zip(*blocks, strict=True), range(0, n_samples, n_rows), strict=True):
        whole = values[start : start + n_rows]
        for (rows, part), own in zip(block, owned, strict=True):
            assert part.n_samples == len(whole)
            assert torch.equal(own[rows], part.own(whole))
        sizes = [rows.stop - rows.start for rows, _ in block]
        assert sum(sizes) == len(whole)
        assert max(sizes) - min(sizes) <= 1


@given(n_samples=st.integers(1, 20), n_shares=st.integers(1, 4), columns=st.integers(1, 3))
def test_what_shares_gather_is_the_whole_batch(n_samples, n_shares, columns):
    values = torch.arange(n_samples * columns, dtype=torch.float64).view(n_samples, columns) ** 2
    parts = []
    for add_up in (lambda part: parts.append(part), lambda part: sum(parts)):
        shares = [Share(n_samples, first, n_shares, add_up) for first in range(n_shares)]
        gathered = [share.gather(share.own(values)) for share in shares]
    assert all(torch.equal(whole, values) for whole in gathered)


@given(
    costs=st.lists(st.integers(0, 50), min_size=1, max_size=7),
    data=st.data(),
)
def test_layers_are_split_as_evenly_as_can_be(costs, data):
    n_parts = data.draw(st.integers(1, len(costs)))
    stops = balanced(costs, n_parts)

    def largest(stops):
        return max(sum(costs[a:b]) for a, b in itertools.pairwise([0, *stops]))

    others = itertools.combinations(range(1, len(costs)), n_parts - 1)
    assert largest(stops) == min(largest([*other, len(costs)]) for other in others)
    assert sorted(set(stops)) == stops and len(stops) == n_parts and stops[-1] == len(costs)
