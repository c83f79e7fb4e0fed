"""Fits that are killed and go on, and fits that are interrupted."""

import json
import math
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from forward_forward.samples import (
    Recorder,
    fingerprint,
    gaussian_classes,
    next_label,
    same_weights,
    tiny_classifier,
)
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from skff import FFClassifier, _checkpoint, _files
from skff.forward_forward import _fit, _trainer
from skff.forward_forward._checkpoint import NOT_COMPARED
from skff.forward_forward._trainer import Trainer
from skff.forward_forward.augmentation import ImageShift
from skff.forward_forward.losses import CrossEntropy
from skff.forward_forward.readouts import Softmax
from skff.forward_forward.solvers import SGD


class Killed(BaseException):
    """Ends a fit as a signal would: nothing in the package catches it."""


class Adafactor:
    """A solver of one's own, whose optimizer keeps tensors of other shapes than the weights'."""

    def make(self, tensors, learning_rate):
        return torch.optim.Adafactor(tensors, lr=learning_rate)


FITS = {
    "simultaneous": {"max_iter": 4, "dropout": 0.3, "augment": ImageShift()},
    "greedy": {"training": "greedy", "readout": "softmax"},
    "early stopping": {"max_iter": 6, "early_stopping": True, "learning_rate_init": 0.03},
    "greedy early stopping": {
        **{"max_iter": 4, "training": "greedy", "early_stopping": True, "n_iter_no_change": 1},
        **{"readout": "softmax", "learning_rate_init": 0.03},
    },
    "drawn negatives": {"loss": "symba", "negatives": "hard", "solver": "sgd", "batch_size": 7},
    "negatives of the head": {
        **{"negatives": "confused", "readout": Softmax(0.01, 0.1), "overlay": "append"},
        **{"peer_normalization": 0.1, "matmul_precision": "medium"},
    },
    "replace": {"overlay": "replace", "weight_decay": 0.1, "solver": SGD(0.5), "center": False},
    "weights": {"class_weight": {"a": 3.0}, "loss": CrossEntropy(max_candidates=2)},
    "own solver": {"solver": Adafactor(), "random_state": np.random.RandomState(3)},
}


def task(n_samples=60):
    """Return overlapping classes and weights, some of which are zero."""
    X, y = gaussian_classes(n_samples, n_features=9, spread=4.0)
    return X, np.array(["a", "b", "c"])[y], np.arange(n_samples) % 4


def same(left, right, X):
    """Return whether two fits gave the same in all but its duration."""
    histories = [[{**record, "seconds": 0} for record in clf.history_] for clf in (left, right)]
    probabilities = [clf.predict_proba(X).tobytes() for clf in (left, right)]
    return (
        same_weights(left, right)
        and histories[0] == histories[1]
        and probabilities[0] == probabilities[1]
    )


def ending(function, error, *, call, before=False):
    """Return a function that raises at its so-and-so-manieth call, after or before its work."""
    calls = []

    def wrapped(*args, **kwargs):
        calls.append(None)
        if before and len(calls) == call:
            raise error
        output = function(*args, **kwargs)
        if len(calls) == call:
            raise error
        return output

    return wrapped


def killed(monkeypatch, owner, name, clf, data, **when):
    """Fit, but end where a function is called; return whether that came to be."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, ending(getattr(owner, name), Killed(), **when))
        try:
            clf.fit(*data)
        except Killed:
            return True
    return False


# kills


@pytest.mark.parametrize("params", FITS.values(), ids=list(FITS))
def test_a_fit_that_is_killed_after_every_epoch_ends_as_if_it_never_was(
    params, tmp_path, monkeypatch
):
    data = task()
    unfitted = tiny_classifier(**params)
    expected = clone(unfitted).fit(*data)
    n_kills = 0
    while True:
        clf = clone(unfitted).set_params(checkpoint=tmp_path / "fit")
        if not killed(monkeypatch, _files, "write", clf, data, call=1):
            break
        assert not hasattr(clf, "_network")
        n_kills += 1
    assert n_kills == len(expected.history_) + 1  # at last when it is finished
    assert same(clf, expected, data[0])
    again = clone(unfitted).set_params(checkpoint=tmp_path / "fit").fit(*data)
    assert again.history_ == clf.history_  # seconds and all


# Where a fit is killed, and at which call at the latest.
MOMENTS = [
    (_trainer, "batch_gradients", 8),
    (Trainer, "_update", 8),
    (_fit, "run_epoch", 3),
    (_files, "encode", 2),
    (os, "replace", 2),
]


@pytest.mark.parametrize("seed", range(6))
def test_a_fit_that_is_killed_at_random_moments_ends_as_if_it_never_was(
    seed, tmp_path, monkeypatch
):
    rng = np.random.default_rng(seed)
    data = task()
    params = dict(FITS[["early stopping", "greedy early stopping"][seed % 2]], batch_size=16)
    unfitted = tiny_classifier(**params)
    expected = clone(unfitted).fit(*data)
    n_kills = 0
    while True:
        every = int(rng.integers(1, 4))
        clf = clone(unfitted).set_params(checkpoint=tmp_path / "fit", checkpoint_every=every)
        owner, name, latest = MOMENTS[rng.integers(len(MOMENTS))]
        when = {"call": 1 + int(rng.integers(latest)), "before": bool(rng.integers(2))}
        if not killed(monkeypatch, owner, name, clf, data, **when):
            break
        n_kills += 1
    assert n_kills > 0
    assert same(clf, expected, data[0])


def test_a_finished_fit_returns_at_once(tmp_path, monkeypatch):
    X, y, weight = task()
    path = tmp_path / "fit"
    for params in ({}, {"training": "greedy"}, {"loss": "symba"}):
        first = tiny_classifier(checkpoint=path, **params).fit(X, y, weight)
        content = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "epoch", None)
            again = tiny_classifier(checkpoint=str(path), **params).fit(X, y, weight)
        assert same(first, again, X)
        assert first.history_ == again.history_
        assert path.read_bytes() == content
        path.unlink()


def test_one_class_needs_no_epoch_and_has_a_checkpoint(tmp_path):
    X = gaussian_classes()[0]
    path = tmp_path / "fit"
    first = tiny_classifier(checkpoint=path).fit(X, np.zeros(len(X)))
    assert path.exists()
    assert same(first, tiny_classifier(checkpoint=path).fit(X, np.zeros(len(X))), X)


def test_a_warm_start_goes_on_from_a_checkpoint_of_its_own(tmp_path, monkeypatch):
    data = task()

    def fitted():
        return tiny_classifier(warm_start=True, max_iter=3).fit(*data)

    expected = fitted().fit(*data)
    clf = fitted().set_params(checkpoint=tmp_path / "fit")
    before = fingerprint(clf)
    assert killed(monkeypatch, _files, "write", clf, data, call=2)
    assert fingerprint(clf) == before
    with pytest.raises(ValueError, match=r"another fit, with weights at the start=drawn, but"):
        tiny_classifier(max_iter=3, checkpoint=tmp_path / "other").fit(*data)
        fitted().set_params(checkpoint=tmp_path / "other").fit(*data)
    clf = fitted().set_params(checkpoint=tmp_path / "fit").fit(*data)
    assert same(clf, expected, data[0])
    assert [row["epoch"] for row in clf.history_] == [1, 2, 3, 4, 5, 6]


def test_without_a_random_state_the_fit_goes_on_with_what_was_drawn(tmp_path, monkeypatch):
    X, y, _ = task()
    clf = tiny_classifier(max_iter=3, random_state=None, early_stopping=True)
    clf.set_params(checkpoint=tmp_path / "fit")
    assert killed(monkeypatch, _files, "write", clf, (X, y), call=1)
    _, _, document = _files.read(clf.checkpoint, {"fit checkpoint"})
    drawn = {"random_state": document["state"]["seed"], "checkpoint": None}
    assert same(clf.fit(X, y), clone(clf).set_params(**drawn).fit(X, y), X)


def test_a_checkpoint_is_written_after_every_kth_epoch_and_at_the_end(tmp_path, monkeypatch):
    X, y, _ = task()
    epochs = []

    def write(path, kind, arrays, document):
        epochs.append(len(document["state"]["history"]))

    monkeypatch.setattr(_files, "write", write)
    tiny_classifier(max_iter=7, checkpoint=tmp_path / "fit", checkpoint_every=3).fit(X, y)
    assert epochs == [3, 6, 7]


class Listener(Recorder):
    """A callback that asks to stop after the third epoch."""

    def on_fit_task_end(self, estimator, context):
        self.names.append((context.task_name, context.task_id))
        return (context.task_name, context.task_id) == ("epoch", 2)


@pytest.mark.parametrize("training", ["simultaneous", "greedy"])
def test_callbacks_hear_of_the_epochs_that_are_left_under_their_own_numbers(
    training, tmp_path, monkeypatch
):
    data = task()
    params = {"training": training, "max_iter": 6, "checkpoint": tmp_path / "fit"}
    heard, n_kills = [], 0
    while True:
        listener = Listener()
        clf = tiny_classifier(**params).set_callbacks(listener)
        is_killed = killed(monkeypatch, _files, "write", clf, data, call=1)
        heard += listener.names
        if not is_killed:
            break
        n_kills += 1
    listener = Listener()
    expected = tiny_classifier(**params | {"checkpoint": None}).set_callbacks(listener).fit(*data)
    # Only the end of the fit is heard of twice: the last kill came after it was written.
    assert heard == listener.names
    assert n_kills == len(clf.history_) + 1
    assert same(clf, expected, data[0])


# refusals


OTHER = {
    "hidden_layer_sizes": (8, 7),
    "overlay": "append",
    "label_scale": 0.5,
    "center": False,
    "goodness": "sum_square",
    "loss": "swish",
    "negatives": next_label,
    "training": "greedy",
    "readout": "softmax",
    "skip_first_goodness": True,
    "peer_normalization": 0.1,
    "augment": ImageShift(2),
    "dropout": 0.5,
    "solver": SGD(0.3),
    "learning_rate_init": 1e-3,
    "learning_rate": "constant",
    "weight_decay": 0.1,
    "batch_size": 9,
    "max_iter": 3,
    "early_stopping": True,
    "validation_fraction": 0.2,
    "n_iter_no_change": 3,
    "tol": 0.1,
    "class_weight": {0: 2.0},
    "matmul_precision": "high",
    "random_state": 1,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the path of a checkpoint and its fit."""
    path = tmp_path_factory.mktemp("fits") / "fit"
    X, y = gaussian_classes(n_features=9)
    return tiny_classifier(loss="symba", checkpoint=path).fit(X, y), X, y


def test_every_parameter_is_compared_or_changes_no_number():
    assert OTHER.keys() | NOT_COMPARED == FFClassifier().get_params().keys()
    assert not OTHER.keys() & NOT_COMPARED


@pytest.mark.parametrize("name", OTHER)
def test_a_checkpoint_of_other_parameters_is_refused_by_name(name, finished):
    clf, X, y = finished
    before = clf.checkpoint.read_bytes()
    other = clone(clf).set_params(**{name: OTHER[name]})
    with pytest.raises(ValueError, match=rf"another fit, with .*{name}=.*but expected .*{name}="):
        other.fit(X, y)
    assert not hasattr(other, "_network")
    assert clf.checkpoint.read_bytes() == before


def test_a_refusal_says_what_was_got_what_was_expected_and_what_to_do(finished):
    clf, X, y = finished
    expected = (
        f"Got checkpoint={str(clf.checkpoint)!r} of another fit, with max_iter=2, "
        "random_state=0, but expected max_iter=5, random_state=4: delete the file to start afresh, "
        "or set another path."
    )
    with pytest.raises(ValueError) as caught:
        clone(clf).set_params(max_iter=5, random_state=4).fit(X, y)
    assert str(caught.value) == expected


def test_what_changes_no_number_may_change(finished, tmp_path, monkeypatch):
    clf, X, y = finished
    monkeypatch.setattr(Trainer, "epoch", None)
    np.save(tmp_path / "X.npy", X.astype(float))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    other = {"verbose": True, "checkpoint_every": 4, "keep_interrupted": True, "device": "auto"}
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        other.pop("device")
    for stored in (X.astype(float), X.tolist(), mapped):
        assert same(clone(clf).set_params(**other).fit(stored, y.tolist()), clf, X)


def test_a_checkpoint_of_other_data_is_refused(finished):
    clf, X, y = finished
    changed = X.copy()
    changed[17, 3] = np.nextafter(changed[17, 3], np.inf)
    cases = {
        "X": (changed, y),
        "y": (X, np.roll(y, 1)),
        "classes": (X, y + 1),
        "sample_weight": (X, y, np.arange(len(y)) + 1.0),
    }
    for name, data in cases.items():
        with pytest.raises(ValueError, match=rf"another fit, with {name}=.*but expected {name}="):
            clone(clf).fit(*data)


def test_a_checkpoint_of_other_versions_threads_or_arithmetic_is_refused(finished, monkeypatch):
    clf, X, y = finished
    n_threads = torch.get_num_threads()
    for package in (_checkpoint.skff, _checkpoint.numpy, torch):
        with monkeypatch.context() as patch:
            patch.setattr(package, "__version__", "99")
            with pytest.raises(ValueError, match=f"{package.__name__}.*{package.__name__}=99"):
                clone(clf).fit(X, y)
    try:
        torch.set_num_threads(n_threads + 1)
        with pytest.raises(ValueError, match=f"device=cpu .* with {n_threads} threads, but"):
            clone(clf).fit(X, y)
    finally:
        torch.set_num_threads(n_threads)


def test_candidates_of_a_search_do_not_take_each_others_checkpoints(tmp_path):
    X, y, _ = task()
    grid = {"max_iter": [1, 2]}
    search = GridSearchCV(
        tiny_classifier(checkpoint=tmp_path / "fit"), grid, cv=2, error_score="raise"
    )
    with pytest.raises(ValueError, match="of another fit, with X="):
        search.fit(X, y)
    grid = {"checkpoint": [tmp_path / "a", tmp_path / "b"], "max_iter": [1]}
    with pytest.raises(ValueError, match="of another fit, with X="):  # each fold is another fit
        search.set_params(param_grid=grid).fit(X, y)


def test_a_component_that_cannot_be_compared_is_named(tmp_path):
    X, y, _ = task()
    augment = ImageShift()
    object.__setattr__(augment, "lock", threading.Lock())
    with pytest.raises(ValueError, match="Got augment=.*a parameter that can be compared"):
        tiny_classifier(augment=augment, checkpoint=tmp_path / "fit").fit(X, y)


def test_a_path_that_cannot_be_written_to_is_refused_before_training(tmp_path, monkeypatch):
    X, y, _ = task()
    monkeypatch.setattr(Trainer, "epoch", None)
    for path in (tmp_path, tmp_path / "none" / "fit"):
        with pytest.raises(ValueError, match="expected the name of a file in an existing folder"):
            tiny_classifier(checkpoint=path).fit(X, y)


# broken and hostile files


def test_a_file_that_is_no_checkpoint_is_refused_with_its_name(tmp_path):
    X, y, _ = task()
    path = tmp_path / "fit"
    clf = tiny_classifier(checkpoint=path).fit(X, y)
    content = path.read_bytes()
    for broken in (b"", content[:-1], content[:100], b"\x80\x04K\x01.", content[:-1] + b"!"):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=f"Got '{path}', but expected"):
            clone(clf).fit(X, y)
        assert path.read_bytes() == broken
    _files.write(path, "FFClassifier", {}, {})
    with pytest.raises(ValueError, match="fit checkpoint"):
        clone(clf).fit(X, y)


def leaves(tree, place=()):
    """Yield the place and the value of all numbers and texts in a JSON document."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, (dict, list)) and value:
            yield from leaves(value, (*place, key))
        else:
            yield (*place, key), value


def replaced(tree, place, value):
    """Return a copy of a JSON document with another value at a place."""
    copied = parent = json.loads(json.dumps(tree))
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    return copied


def test_whole_and_signed_nonsense_raises_value_error_or_ends_in_a_fit(tmp_path, monkeypatch):
    X, y, _ = task()
    path = tmp_path / "fit"
    params = {"early_stopping": True, "max_iter": 2, "checkpoint": path, "readout": "softmax"}
    clf = tiny_classifier((3, 2), **params)
    assert killed(monkeypatch, _files, "write", clf, (X, y), call=1)
    kind, arrays, document = _files.read(path, {"fit checkpoint"})
    rng, n_refused = np.random.default_rng(0), 0

    def check(arrays, document, *, must_raise):
        nonlocal n_refused
        _files.write(path, kind, arrays, document)
        try:
            clf.fit(X, y)
            assert not must_raise
        except ValueError:
            n_refused += 1

    for name, array in list(arrays.items())[::2]:
        rest = {key: value for key, value in arrays.items() if key != name}
        others = [rest, rest | {name: array[..., None]}, rest | {name: array.astype(np.int16)}]
        check(others[rng.integers(3)], document, must_raise=True)
    for place, value in list(leaves(document))[::2]:
        other = ["text", [value], {"a": 1}, None, -1, 2**70, math.nan][rng.integers(7)]
        is_number = isinstance(value, (int, float)) and isinstance(other, int | float)
        may_end = is_number or value is None  # in place of arrays is None
        check(arrays, replaced(document, place, other), must_raise=not may_end)
    assert n_refused > 30


def test_an_error_of_a_resumed_fit_names_the_file(tmp_path, monkeypatch):
    X, y, _ = task()
    path = tmp_path / "fit"
    clf = tiny_classifier((3, 2), max_iter=3, checkpoint=path)
    assert killed(monkeypatch, _files, "write", clf, (X, y), call=1)
    kind, arrays, document = _files.read(path, {"fit checkpoint"})
    moments = [name for name in arrays if name.endswith("/exp_avg")]
    # Finite and of the right form, but such that the next step leaves all bounds.
    forged = {name: np.full_like(arrays[name], 3e38) for name in moments}
    _files.write(path, kind, arrays | forged, document)
    with pytest.raises(ValueError, match="expected finite numbers") as caught:
        clf.fit(X, y)
    (note,) = caught.value.__notes__
    assert note == f"The fit was resumed from '{path}'; delete the file to begin anew."
    path.unlink()
    clf.fit(X, y)
    with pytest.raises(ValueError, match="expected finite numbers") as caught:
        tiny_classifier((3, 2), learning_rate_init=1e30, checkpoint=tmp_path / "new").fit(X, y)
    assert not hasattr(caught.value, "__notes__")


def not_negative(values):
    values.flat[0] = -1
    return values


def not_finite(values):
    values.flat[-1] = math.inf
    return values


def too_large(values):
    values.flat[0] = 1e30
    return values


def reading_too_far(state):
    state[8:12] = np.frombuffer(np.int32(600).tobytes(), np.uint8)
    state[16:24] = np.frombuffer(np.uint64(600).tobytes(), np.uint8)
    return state


LIES = {
    "a generator that reads too far": ("trainer/generator", reading_too_far, "generator"),
    "a generator of no state": ("trainer/generator", np.zeros_like, "mt19937"),
    "weights that are not finite": ("network/tensors/0", not_finite, "not finite"),
    "best weights that are not finite": ("best_network/tensors/0", not_finite, "not finite"),
    "weights that are too large": ("network/tensors/1", too_large, "above"),
    "best weights that are too large": ("best_network/tensors/0", too_large, "above"),
    "moments that are not finite": ("trainer/optimizer/state/0/exp_avg", not_finite, "not finite"),
    "squares below 0": ("trainer/optimizer/state/0/exp_avg_sq", not_negative, "exp_avg_sq"),
    "a step below 0": ("trainer/optimizer/state/0/step", not_negative, "step"),
    "decay that is not ours": ("trainer/optimizer/param_groups/0/weight_decay", 7.0, "settings"),
    "other tensors": ("trainer/optimizer/param_groups/0/params/0", 3, "settings"),
    "a rate below 0": ("trainer/optimizer/param_groups/0/lr", -0.1, "at least 0"),
    "a scale that is no number": ("network/probability_scale", math.nan, "finite number"),
    "updates below 0": ("trainer/n_updates", -1, "at least 0"),
    "an infinite score": ("best/score", math.inf, "finite number"),
    "a record of nothing": ("history/0/loss/0", math.nan, "history"),
}


@pytest.fixture(scope="module")
def half_way(tmp_path_factory):
    """Return a classifier whose fit was killed after its first epoch, and what its file holds."""
    X, y, _ = task()
    path = tmp_path_factory.mktemp("half") / "fit"
    clf = tiny_classifier((3, 2), early_stopping=True, max_iter=3, checkpoint=path)
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert killed(monkeypatch, _files, "write", clf, (X, y), call=1)
    return clf, X, y, path.read_bytes()


@pytest.mark.parametrize("lie", LIES)
def test_a_checkpoint_that_lies_is_refused_with_file_and_reason(lie, half_way):
    clf, X, y, content = half_way
    place, change, reason = LIES[lie]
    Path(clf.checkpoint).write_bytes(content)
    kind, arrays, document = _files.read(clf.checkpoint, {"fit checkpoint"})
    if callable(change):
        arrays[place] = change(arrays[place])
    else:
        names = [int(name) if name.isdigit() else name for name in place.split("/")]
        document = replaced(document, ("state", *names), change)
    _files.write(clf.checkpoint, kind, arrays, document)
    with pytest.raises(ValueError, match=f"(?si)Got '{clf.checkpoint}', but expected.*{reason}"):
        clone(clf).fit(X, y)


# interrupts


def interrupted(clf, data, monkeypatch, *, call, owner=Trainer, name="_update"):
    """Fit with an interrupt at a call; return the warnings and whether the interrupt got out."""
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, ending(getattr(owner, name), KeyboardInterrupt(), call=call))
        with pytest.warns(ConvergenceWarning) as caught:
            try:
                clf.fit(*data)
                is_out = False
            except KeyboardInterrupt:
                is_out = True
    (warning,) = caught
    assert warning.filename == __file__
    return str(warning.message), is_out


class Stop(Listener):
    """A callback that asks to stop after some epoch of a phase."""

    def __init__(self, n_epochs):
        super().__init__()
        self.n_epochs = n_epochs

    def on_fit_task_end(self, estimator, context):
        return context.task_name == "epoch" and context.task_id + 1 == self.n_epochs


@pytest.mark.parametrize("readout", ["goodness", "softmax"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_an_interrupted_fit_that_is_kept_is_one_that_was_asked_to_stop(
    readout, early_stopping, monkeypatch
):
    data = task()
    params = {"readout": readout, "early_stopping": early_stopping, "learning_rate_init": 0.03}
    clf = tiny_classifier(max_iter=9, keep_interrupted=True, batch_size=20, **params)
    expected = clone(clf).set_callbacks(Stop(5)).fit(*data)
    n_batches = 2 if early_stopping else 3  # of 40 or 45 samples of positive weight
    message, is_out = interrupted(clf, data, monkeypatch, call=5 * n_batches + 1)
    assert not is_out
    assert message.startswith("Training was interrupted: the classifier is as it was after epoch 5")
    assert len(clf.history_) == 5
    assert same(clf, expected, data[0])


def test_an_interrupt_in_a_later_phase_keeps_the_phases_before(monkeypatch):
    data = task()
    clf = tiny_classifier(training="greedy", keep_interrupted=True, batch_size=60, max_iter=3)
    message, _ = interrupted(clf, data, monkeypatch, call=5)
    assert "after epoch 1 of layers [2]" in message
    assert [row["layers"] for row in clf.history_] == [[0], [0], [0], [1]]
    whole = tiny_classifier(training="greedy", batch_size=60, max_iter=3).fit(*data)
    np.testing.assert_array_equal(clf.coefs_[0], whole.coefs_[0])


@pytest.mark.parametrize("keep", [False, True])
def test_an_interrupted_fit_goes_on_from_its_checkpoint(keep, tmp_path, monkeypatch):
    data = task()
    params = {"max_iter": 6, "batch_size": 45, "dropout": 0.2}
    expected = tiny_classifier(**params).fit(*data)
    more = {"checkpoint": tmp_path / "fit", "checkpoint_every": 4, "keep_interrupted": keep}
    clf = tiny_classifier(**params, **more)
    message, is_out = interrupted(clf, data, monkeypatch, call=4)
    assert is_out is not keep  # a script that should stop does
    assert f"resumes from there with checkpoint={tmp_path / 'fit'!r}." in message
    assert len(clf.history_) == 3
    kept = clf.predict_proba(data[0])
    with monkeypatch.context() as patch:
        update = ending(Trainer._update, AssertionError, call=4, before=True)
        patch.setattr(Trainer, "_update", update)  # three epochs are left, not more
        clf.fit(*data)
    assert same(clf, expected, data[0])
    assert not np.array_equal(clf.predict_proba(data[0]), kept)


def test_an_interrupt_before_the_first_whole_epoch_leaves_the_estimator_as_it_was(
    tmp_path, monkeypatch
):
    data = task()
    for more in ({"keep_interrupted": True}, {"checkpoint": tmp_path / "fit"}):
        clf = tiny_classifier(**more)
        before = fingerprint(clf)
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "_update", ending(Trainer._update, KeyboardInterrupt(), call=1))
            with pytest.raises(KeyboardInterrupt):
                clf.fit(*data)
        assert fingerprint(clf) == before
        assert not (tmp_path / "fit").exists()


def test_an_error_is_no_interrupt(tmp_path, monkeypatch):
    data = task()
    path = tmp_path / "fit"
    clf = tiny_classifier(keep_interrupted=True, checkpoint=path, batch_size=60)
    before = fingerprint(clf)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", ending(Trainer._update, RuntimeError("fault"), call=2))
        with pytest.raises(RuntimeError, match="fault"):
            clf.fit(*data)
    assert fingerprint(clf) == before
    assert same(clf.fit(*data), tiny_classifier(batch_size=60).fit(*data), data[0])


def test_partial_fit_keeps_nothing_of_an_interrupted_pass(tmp_path, monkeypatch):
    X, y, _ = task()
    clf = tiny_classifier(keep_interrupted=True, checkpoint=tmp_path / "fit")
    clf.partial_fit(X, y, classes=["a", "b", "c"])
    before = fingerprint(clf)
    monkeypatch.setattr(Trainer, "_update", ending(Trainer._update, KeyboardInterrupt(), call=2))
    with pytest.raises(KeyboardInterrupt):
        clf.partial_fit(X, y)
    assert fingerprint(clf) == before
    assert list(tmp_path.iterdir()) == []


# disks


def test_a_full_disk_is_warned_of_and_ends_no_fit(tmp_path, monkeypatch):
    data = task()
    path = tmp_path / "fit"
    clf = tiny_classifier(checkpoint=path, max_iter=3)
    assert killed(monkeypatch, _files, "write", clf, data, call=1)
    content = path.read_bytes()
    with monkeypatch.context() as patch:
        full = OSError(28, "No space left on device")
        patch.setattr(os, "fsync", ending(os.fsync, full, call=1, before=True))
        with pytest.warns(UserWarning, match="Could not write checkpoint=.*No space left"):
            clf.fit(*data)
    assert same(clf, tiny_classifier(max_iter=3).fit(*data), data[0])
    assert path.read_bytes() != content  # later ones were written
    assert [file.name for file in tmp_path.iterdir()] == ["fit"]
