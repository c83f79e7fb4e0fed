"""Memory that runs out within a chunk: the chunk is halved and the result stays the same."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from forward_forward.samples import gaussian_classes, tiny_classifier
from hypothesis import given
from hypothesis import strategies as st
from sklearn.naive_bayes import GaussianNB

from skff import ADSExplainer
from skff._memory import in_chunks, is_out_of_memory
from skff.forward_forward._network import Network
from skff.forward_forward.occlusion import OcclusionPredictor, _predictor
from skff.saliency import _engines

pytestmark = pytest.mark.usefixtures("few_features_like_many")

ERRORS = [
    MemoryError(),
    np._core._exceptions._ArrayMemoryError((3,), np.dtype(float)),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("std::bad_alloc"),
]


@given(
    n_items=st.integers(0, 40),
    size=st.integers(1, 50),
    room=st.integers(1, 50),
    error=st.sampled_from(ERRORS),
)
def test_every_item_is_worked_on_once_in_order_by_chunks_that_fit(n_items, size, room, error):
    sizes = []

    def work(items):
        sizes.append(items.stop - items.start)
        if sizes[-1] > room:
            raise error
        return list(range(items.start, items.stop))

    outputs = in_chunks(work, n_items, size)
    assert sum(outputs, []) == list(range(n_items))
    assert max(sizes, default=0) <= size
    too_large = [size for size in sizes if size > room]
    assert len(too_large) == len(set(too_large))  # what did not fit is not tried again


def test_one_item_that_does_not_fit_is_a_memory_error_that_says_so():
    def work(items):
        raise RuntimeError("not enough memory: you tried to allocate 7 bytes.")

    with pytest.raises(MemoryError, match="for one sample at a time.*tried to allocate 7 bytes"):
        in_chunks(work, 5, 3)


@pytest.mark.parametrize("error", [RuntimeError("shapes"), ValueError("bad"), KeyboardInterrupt()])
def test_other_errors_are_not_swallowed(error):
    def work(items):
        raise error

    with pytest.raises(type(error)):
        in_chunks(work, 5, 3)


def test_what_numpy_and_torch_really_raise_is_known():
    for allocate in (lambda: np.empty(2**60, np.uint8), lambda: torch.empty(2**60)):
        with pytest.raises((MemoryError, RuntimeError)) as caught:
            allocate()
        assert is_out_of_memory(caught.value)
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2) @ torch.ones(3)
    assert not is_out_of_memory(caught.value)


def short_of_memory(function, room, n_items, error=ERRORS[2]):
    """Return a function that fails with more items than there is room for."""

    def wrapped(*args, **kwargs):
        if n_items(*args, **kwargs) > room:
            raise error
        return function(*args, **kwargs)

    return wrapped


@pytest.mark.parametrize("params", [{}, {"readout": "softmax"}, {"overlay": "append"}])
def test_predictions_are_the_same_in_smaller_chunks(params, monkeypatch):
    X, y = gaussian_classes(n_samples=50)
    clf = tiny_classifier(**params).fit(X, y)
    expected = clf.predict_proba(X), clf.layer_goodness(X)
    count = lambda network, f, *args, **kwargs: len(f)  # noqa: E731
    for name in ("scores", "layer_goodness"):
        short = short_of_memory(getattr(Network, name), 7, count)
        monkeypatch.setattr(Network, name, short)
    np.testing.assert_array_equal(clf.predict_proba(X), expected[0])
    np.testing.assert_array_equal(clf.layer_goodness(X), expected[1])
    monkeypatch.setattr(Network, "scores", short_of_memory(Network.scores, 0, count))
    with pytest.raises(MemoryError, match="for one sample at a time"):
        clf.predict(X)


@pytest.mark.parametrize("params", [{}, {"readout": "softmax"}])
def test_predictions_under_occlusion_are_the_same_in_smaller_chunks(params, monkeypatch):
    X, y = gaussian_classes(n_samples=40, spread=3.0)
    clf = tiny_classifier(**params).fit(X, y)
    windows = [np.array([k, (k + 1) % 6]) for k in range(6)]
    rows = np.arange(3, 40)
    expected, counts = clf.occlusion_predictor(X, fill=0.5).predict_many(rows, windows)
    block = _predictor._Block
    for n_threads in (1, 2):
        n_before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        try:
            with monkeypatch.context() as patch:
                short = short_of_memory(block.predict, 5, lambda self: len(self.x))
                patch.setattr(block, "predict", short)
                labels, counted = clf.occlusion_predictor(X, fill=0.5).predict_many(rows, windows)
        finally:
            torch.set_num_threads(n_before)
        np.testing.assert_array_equal(labels, expected)
        assert counted == counts


def explained(estimator, X, y, **params):
    """Return all numbers of an explanation."""
    weight = np.linspace(0.1, 1.0, len(y))  # whose sums depend on their order
    explanation = ADSExplainer(estimator, window_shape=3, **params).explain(X, y, weight)
    explanation = explanation["accuracy"] if isinstance(explanation, dict) else explanation
    names = ("importances", "standard_error", "window_scores", "per_class", "fold_importances")
    return [getattr(explanation, name).tobytes() for name in names], explanation.engine_stats


def test_explanations_are_the_same_in_smaller_chunks(monkeypatch):
    X, y = gaussian_classes(n_samples=200, spread=4.0)
    bayes, network = GaussianNB().fit(X, y), tiny_classifier().fit(X, y)
    cases = [
        (bayes, {"engine": "predict"}),
        (bayes, {"scoring": {"accuracy": "accuracy", "own": one_sum}}),
        (network, {"engine": "incremental"}),
    ]
    expected = [explained(estimator, X, y, **params) for estimator, params in cases]
    count = lambda self, X, *args: len(X)  # noqa: E731
    monkeypatch.setattr(GaussianNB, "predict", short_of_memory(GaussianNB.predict, 37, count))
    asked = short_of_memory(OcclusionPredictor.predict_many, 37, count)
    monkeypatch.setattr(_engines, "open_door", with_room(_engines.open_door, asked))
    for (estimator, params), whole in zip(cases, expected, strict=True):
        assert explained(estimator, X, y, **params) == whole


def one_sum(estimator, X, y, sample_weight):
    """Give a score that asks for no predictions."""
    return float(np.sum(X))


def with_room(open_door, predict_many):
    """Let a door find out how much memory there is only when it is used."""

    def wrapped(task):
        predictor, reason = open_door(task)
        predictor.predict_many = predict_many.__get__(predictor)
        return predictor, reason

    return wrapped


def test_with_half_a_gigabyte_left_ten_are_explained_in_pieces():
    code = """
        import resource
        import numpy as np
        from skff.saliency import ADSExplainer

        class Greedy:
            "Takes 8 MB per sample."
            n_calls = 0

            def predict(self, X):
                self.n_calls += 1
                scratch = np.empty((len(X), 2**20))
                scratch[:, 0] = X.sum(axis=1)
                return (scratch[:, 0] > 0).astype(int)

        X = np.random.default_rng(0).standard_normal((600, 4))
        y = (X[:, 0] > 0).astype(int)
        params = {"scoring": "accuracy", "window_shape": 1, "engine": "predict"}
        explain = lambda **more: ADSExplainer(Greedy(), **params, **more).explain(X, y)
        expected = explain(batch_size=1).window_scores
        with open("/proc/self/statm") as file:
            in_use = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**29,) * 2)
        np.testing.assert_array_equal(explain(batch_size=600).window_scores, expected)
    """
    if not sys.platform.startswith("linux"):
        pytest.skip("the address space in use is read from /proc")
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
