"""All or nothing: what failures, interrupts, other threads and global switches leave behind."""

import builtins
import copy
import sys
import threading
import warnings
from contextlib import contextmanager
from functools import cache

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
    weights,
)
from sklearn.base import clone

from skff.forward_forward import _fit, _monitor, _network, _trainer
from skff.forward_forward._batches import TrainingData
from skff.forward_forward._trainer import Trainer

METHODS = ["fit", "warm fit", "partial_fit"]
STATES = ["unfitted", "fitted", "begun"]
ERRORS = [RuntimeError("fault"), KeyboardInterrupt()]
SETTINGS = {"batch_size": 16, "verbose": True}


class SteadyClock:
    """Let every fit take the same time, so that equal fits have equal fingerprints."""

    def __call__(self):
        return 0.0


@pytest.fixture(autouse=True, scope="module")
def imported():
    """Let torch import what its first optimizer needs: that adds filters of warnings."""
    tiny_classifier().fit(*gaussian_classes())


@pytest.fixture(autouse=True)
def steady_and_silent(monkeypatch):
    monkeypatch.setattr(_fit, "perf_counter", SteadyClock())
    monkeypatch.setattr(builtins, "print", lambda *args, **kwargs: None)


def in_state(state, **params):
    """Return a classifier in a state, and its data."""
    return copy.deepcopy(_in_state(state, *params.items()))


@cache
def _in_state(state, *params):
    X, y = gaussian_classes(n_samples=40)
    clf = tiny_classifier((5, 4), **(SETTINGS | dict(params)))
    if state == "fitted":
        clf.fit(X, y)
    if state == "begun":
        clf.partial_fit(X, y, classes=[0, 1, 2])
    return clf, X, y


def train(clf, method, X, y):
    if method == "partial_fit":
        return clf.partial_fit(X, y, classes=[0, 1, 2])
    return clf.set_params(warm_start=method == "warm fit").fit(X, y)


def global_state():
    """Return what a failure must not leave changed in torch and warnings."""
    return (
        torch.get_float32_matmul_precision(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_num_threads(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        list(warnings.filters),
    )


# failures


def failing(function, error, *, call, after=False):
    """Return a function that raises at a call, counted from 0 or from the end, or after it."""
    calls = []

    def wrapped(*args, **kwargs):
        calls.append(None)
        if len(calls) - 1 != call:
            return function(*args, **kwargs)
        if after:
            function(*args, **kwargs)
        raise error

    return wrapped


# Where it fails: (owner, name of a function, call that fails, whether after its work).
POINTS = {
    "validation of data": (_fit, "check_task", 0, False),
    "after validation": (_fit, "check_task", 0, True),
    "scale of the data": (_fit, "_training_data", 0, False),
    "first batch": (TrainingData, "batch", 0, False),
    "last batch": (TrainingData, "batch", 2, False),
    "first gradients": (_trainer, "batch_gradients", 0, True),
    "last gradients": (_trainer, "batch_gradients", 2, True),
    "first update": (Trainer, "_update", 0, True),
    "last update": (Trainer, "_update", 2, True),
    "after the epoch": (Trainer, "epoch", 0, True),
    "check of the epoch": (_fit, "_check_finite", 0, False),
    "calibration": (_fit, "probability_scale", 0, False),
    "after calibration": (_fit, "probability_scale", 0, True),
    "print": (builtins, "print", 0, False),
    "fitted attributes": (_fit, "_fitted_attributes", 0, False),
}
POINTS_OF_FIT = {
    "second epoch": (Trainer, "epoch", 1, True),
    "history": (_monitor.Monitor, "end_epoch", 0, True),
    "validation score": (_fit, "_validation_score", 1, True),
    "best weights": (_network.Network, "restore", 0, True),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("method", METHODS)
def test_a_failure_anywhere_leaves_the_estimator_as_it_was(method, state, error, monkeypatch):
    points = POINTS | ({} if method == "partial_fit" else POINTS_OF_FIT)
    stops = {"early_stopping": True} if method != "partial_fit" else {}
    for point, (owner, name, call, after) in points.items():
        clf, X, y = in_state(state)
        early = stops if point in ("validation score", "best weights") else {}
        clf.set_params(**early, warm_start=method == "warm fit")
        before, globally = fingerprint(clf), global_state()
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing(getattr(owner, name), error, call=call, after=after))
            with pytest.raises(type(error)):
                train(clf, method, X, y)
        assert fingerprint(clf) == before, point
        assert global_state() == globally, point
    expected, _, _ = in_state(state)
    for one in (clf, expected):
        train(one.set_params(early_stopping=False), method, X, y)
    assert fingerprint(clf) == fingerprint(expected)


def raising(error, *, from_call):
    """Return a component that works until it raises: a sampler or an augmentation."""
    calls = []

    def component(first, *others):
        calls.append(None)
        if len(calls) > from_call:
            raise error
        return first if len(others) == 1 else next_label(first, *others)

    return component


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["augment", "negatives"])
def test_a_component_that_fails_leaves_the_estimator_as_it_was(name, method, state, error):
    for from_call in (1, 2) if name == "augment" else (1, 2, 3):
        clf, X, y = in_state(state, loss="symba")
        clf.set_params(warm_start=method == "warm fit")
        clf.set_params(**{name: raising(error, from_call=from_call)})
        kept = {key: value for key, value in vars(clf).items() if key != name}
        before = fingerprint_of(kept)
        with pytest.raises(type(error)):
            train(clf, method, X, y)
        assert vars(clf).keys() == {*kept, name}
        assert fingerprint_of({key: vars(clf)[key] for key in kept}) == before


def fingerprint_of(attributes):
    stand_in = tiny_classifier()
    vars(stand_in).clear()
    vars(stand_in).update(attributes)
    return fingerprint(stand_in)


class Fault(Recorder):
    """A callback that raises at a hook."""

    def __init__(self, hook, error):
        super().__init__()
        self.hook, self.error = hook, error

    def setup(self, estimator, context):
        self._meet("setup")

    def on_fit_task_begin(self, estimator, context):
        self._meet(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context):
        self._meet(f"end {context.task_name}")

    def _meet(self, hook):
        if hook == self.hook:
            raise self.error


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("hook", ["setup", "begin fit", "begin epoch", "end epoch", "end fit"])
@pytest.mark.parametrize("state", STATES)
def test_a_callback_that_fails_leaves_the_estimator_as_it_was(state, hook, error):
    clf, X, y = in_state(state)
    before = fingerprint(clf)
    clf.set_callbacks(Fault(hook, error))
    with pytest.raises(type(error)):
        clf.fit(X, y)
    clf.set_callbacks()
    vars(clf).pop("_skl_callbacks", None)
    assert fingerprint(clf) == before


@contextmanager
def interrupt_at_line(number):
    """Raise KeyboardInterrupt at a line of the package's fitting code, counted from 0."""
    seen = [0]
    files = {module.__file__ for module in (_fit, _trainer, _monitor)}
    files |= {sys.modules["skff.forward_forward._classifier"].__file__}

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            seen[0] += 1
            if seen[0] - 1 == number:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield seen
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("method", METHODS)
def test_an_interrupt_at_any_line_leaves_the_old_state_or_the_new_one(method, state):
    clf, X, y = in_state(state)
    clf.set_params(warm_start=method == "warm fit")
    old, finished = fingerprint(clf), copy.deepcopy(clf)
    with interrupt_at_line(-1) as n_lines:
        train(finished, method, X, y)
    new, globally = fingerprint(finished), global_state()
    assert n_lines[0] > 100
    numbers = {*range(0, n_lines[0], 37), *range(n_lines[0] - 12, n_lines[0])}  # the end in full
    for number in sorted(numbers):
        other = copy.deepcopy(clf)
        with pytest.raises(KeyboardInterrupt), interrupt_at_line(number):
            train(other, method, X, y)
        assert fingerprint(other) in (old, new), number
        assert global_state() == globally, number


# other threads


@contextmanager
def reading(function):
    """Call a function in another thread over and over; give a list of what it returned."""
    seen, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                seen.append(function())
            except Exception as error:
                seen.append(error)

    reader = threading.Thread(target=read)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    reader.start()
    try:
        yield seen
    finally:
        stop.set()
        reader.join()
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("method", ["partial_fit", "warm fit"])
def test_predictions_during_training_belong_to_the_state_before_or_after_a_call(method):
    clf, X, y = in_state("begun", verbose=False)
    states = [clf.predict_proba(X)]
    with reading(lambda: clf.predict_proba(X)) as seen:
        for _ in range(25):
            train(clf, method, X, y)
            states.append(clf.predict_proba(X))
    known = {state.tobytes() for state in states}
    assert len(seen) > 10
    assert all(isinstance(output, np.ndarray) and output.tobytes() in known for output in seen)


def test_predictions_while_other_labels_and_features_are_learnt_are_of_one_of_the_two():
    X, y = gaussian_classes(n_samples=40)
    names = np.array(["a", "b"])[y % 2]
    clf = tiny_classifier((5, 4), max_iter=1).fit(X, y)
    numbers = clf.predict(X).tolist(), clf.predict_proba(X).tolist()
    words = clone(clf).fit(X, names)
    known = [numbers, (words.predict(X).tolist(), words.predict_proba(X).tolist())]
    with (
        reading(lambda: clf.predict(X).tolist()) as labels,
        reading(lambda: clf.predict_proba(X).tolist()) as probabilities,
    ):
        for _ in range(15):
            clf.fit(X, names)
            clf.fit(X, y)
    assert len(labels) > 10
    assert all(found in [state[0] for state in known] for found in labels)
    assert all(found in [state[1] for state in known] for found in probabilities)


def test_concurrent_fits_of_different_precision_leave_torch_as_it_was():
    X, y = gaussian_classes(n_samples=40)
    before, failures = global_state(), []
    expected = {}
    for precision in ("highest", "high", "medium"):
        clf = tiny_classifier((5, 4), matmul_precision=precision, max_iter=3)
        expected[precision] = clf.fit(X, y)

    def work(precision):
        for _ in range(5):
            clf = clone(expected[precision]).fit(X, y)
            if not same_weights(clf, expected[precision]):
                failures.append(precision)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with warnings.catch_warnings():
        threads = [
            threading.Thread(target=work, args=(precision,))
            for precision in ("highest", "high", "medium", "medium")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        after = global_state()
    sys.setswitchinterval(interval)
    assert failures == []
    assert after[:-1] == before[:-1]
    # scikit-learn's validation in several threads may leave its filters behind; we set none.
    left = [entry for entry in after[-1] if entry not in before[-1]]
    assert {entry[2].__module__ for entry in left} <= {"numpy.exceptions"}


# copies


def test_a_shallow_copy_keeps_its_state_while_the_original_learns():
    for state in ("fitted", "begun"):
        clf, X, y = in_state(state)
        shallow, stand_in = copy.copy(clf), object.__new__(type(clf))
        vars(stand_in).update(vars(clf))
        expected, held = clf.predict_proba(X), weights(clf)
        views = [*clf.coefs_, *clf.intercepts_, *clf.label_coefs_]
        for method in ("partial_fit", "warm fit", "fit"):
            train(clf, method, X, y)
            for other in (shallow, stand_in):
                np.testing.assert_array_equal(other.predict_proba(X), expected)
            assert all(map(np.array_equal, views, held))
        train(clf, "partial_fit", X, y)
        assert not np.array_equal(clf.predict_proba(X), expected)
        after = fingerprint(clf)
        shallow.partial_fit(X, y)
        assert fingerprint(clf) == after


# the caller's switches


@contextmanager
def bfloat16_everywhere():
    """Let torch round products to bfloat16 wherever a program can ask for it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    "params", [{}, {"overlay": "append"}, {"readout": "softmax"}, {"training": "greedy"}]
)
def test_low_precision_around_our_calls_changes_no_fit_and_no_prediction(params):
    X, y = gaussian_classes()
    expected = tiny_classifier(**params).fit(X, y)
    with bfloat16_everywhere():
        clf = tiny_classifier(**params).fit(X, y)
        found = clf.predict_proba(X), clf.layer_goodness(X), clf.label_amplitude_
        assert same_weights(clf, expected)
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_float32_matmul_precision() == "medium"
    np.testing.assert_array_equal(found[0], expected.predict_proba(X))
    np.testing.assert_array_equal(found[1], expected.layer_goodness(X))
    if params.get("training") != "greedy":
        with bfloat16_everywhere():
            partial = tiny_classifier(**params).partial_fit(X, y, classes=[0, 1, 2])
        assert same_weights(partial, tiny_classifier(**params).partial_fit(X, y, classes=[0, 1, 2]))


def test_fitted_attributes_need_no_gradient_and_follow_no_autocast():
    X, y = gaussian_classes()
    clf = tiny_classifier().fit(X, y)
    expected = weights(clf)
    with bfloat16_everywhere(), torch.enable_grad():
        assert all(map(np.array_equal, weights(clf), expected))
    assert not any(tensor.requires_grad for tensor in clf._network.tensors())
