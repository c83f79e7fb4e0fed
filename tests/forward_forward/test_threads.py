import threading
import time

import numpy as np
import pytest
import torch
from forward_forward.samples import gaussian_classes, tiny_classifier

from skff.forward_forward._torch import map_on_threads, on_one_thread
from skff.forward_forward.occlusion import _predictor

pytestmark = pytest.mark.usefixtures("few_features_like_many")

CPU = torch.device("cpu")


@pytest.fixture
def three_threads():
    """Let torch use three threads within a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def describe(k):
    return k, torch.get_num_threads(), threading.get_ident()


@pytest.mark.usefixtures("three_threads")
def test_each_thread_of_python_has_one_of_torch():
    numbers, n_threads, idents = zip(
        *map_on_threads(describe, [(k,) for k in range(20)], CPU), strict=True
    )
    assert numbers == tuple(range(20))
    assert set(n_threads) == {1}
    assert threading.get_ident() not in idents
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(
    ("device", "n_pieces"), [("cpu", 1), ("cpu", 0), ("meta", 5)], ids=["one", "none", "device"]
)
def test_what_threads_would_not_speed_up_is_done_in_turn(device, n_pieces):
    outputs = map_on_threads(describe, [(k,) for k in range(n_pieces)], torch.device(device))
    assert outputs == [(k, 3, threading.get_ident()) for k in range(n_pieces)]


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("error", [ValueError("piece"), KeyboardInterrupt()])
def test_an_error_stops_the_other_pieces_and_gives_the_threads_back(error):
    started = []

    def fail(k):
        started.append(k)
        time.sleep(0.001)
        raise error

    with pytest.raises(type(error)):
        map_on_threads(fail, [(k,) for k in range(10_000)], CPU)
    assert torch.get_num_threads() == 3
    assert len(started) < 10_000


def test_threads_change_neither_predictions_nor_counts(monkeypatch, three_threads):
    X, y = gaussian_classes(n_features=12)
    clf = tiny_classifier((10, 8)).fit(X, y)
    windows = [np.arange(k, k + 3) for k in range(10)]
    monkeypatch.setattr(_predictor, "SCRATCH_ELEMENTS", 500)  # many pieces
    found = []
    for n_threads in 3, 1:
        torch.set_num_threads(n_threads)
        predictor = clf.occlusion_predictor(X, fill=np.zeros((1, 12)))
        found.append(predictor.predict_many(np.arange(60), windows))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
    assert found[0][1]["pairs"] == 60 * 10


def test_one_thread_is_for_one_call(three_threads):
    assert on_one_thread(torch.get_num_threads) == 1
    assert torch.get_num_threads() == 3
    with pytest.raises(ZeroDivisionError):
        on_one_thread(divmod, 1, 0)
    assert torch.get_num_threads() == 3
