"""What the caller has set in torch, NumPy and scikit-learn changes no number of ours."""

import threading
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import sklearn
import torch
from forward_forward.samples import gaussian_classes, same_weights, tiny_classifier

from skff import ADSExplainer
from skff.exceptions import ScaleWarning
from skff.forward_forward._torch import computing, map_on_threads, on_one_thread

pytestmark = pytest.mark.usefixtures("few_features_like_many")

CPU = torch.device("cpu")
MATMUL = getattr(torch.backends.mkldnn, "matmul", None)


@contextmanager
def changed(set_to, value, before):
    set_to(value)
    try:
        yield
    finally:
        set_to(before)


def default_dtype(dtype):
    return lambda: changed(torch.set_default_dtype, dtype, torch.float32)


def attribute(owner, name, value, before):
    return lambda: changed(lambda to: setattr(owner, name, to), value, before)


SURROUNDINGS = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", dtype=torch.float16),
    "medium precision": lambda: changed(
        torch.set_float32_matmul_precision, "medium", torch.get_float32_matmul_precision()
    ),
    "float64 by default": default_dtype(torch.float64),
    "bfloat16 by default": default_dtype(torch.bfloat16),
    "another device by default": lambda: torch.device("meta"),
    "deterministic algorithms": lambda: changed(torch.use_deterministic_algorithms, True, False),
    "inference mode": torch.inference_mode,
    "gradients": torch.enable_grad,
    "NumPy raises": lambda: np.errstate(all="raise"),
    "pandas output": lambda: sklearn.config_context(transform_output="pandas"),
    "metadata routing": lambda: sklearn.config_context(enable_metadata_routing=True),
    "array API": lambda: sklearn.config_context(array_api_dispatch=True),
}
if hasattr(torch.backends, "fp32_precision"):  # from torch 2.9 on
    SURROUNDINGS["bfloat16 of one backend"] = attribute(MATMUL, "fp32_precision", "bf16", "none")
    everywhere = attribute(torch.backends, "fp32_precision", "tf32", "none")
    SURROUNDINGS["TF32 of all backends"] = everywhere


def plain_goodness(h):
    return h.pow(2).mean(-1)


PARAMS = ({"goodness": plain_goodness}, {"readout": "softmax", "overlay": "append"}, {})


def outputs(clf, X, y):
    explanation = ADSExplainer(clf, window_shape=3).explain(X, y)
    return [
        explanation.importances,
        clf.predict_proba(X),
        clf.layer_goodness(X),
        clf.predict_log_proba(100 * X[:1]),
        *clf.coefs_,
        *clf.intercepts_,
    ]


def trained(params, X, y):
    """Return a fitted classifier, and one that has begun to learn."""
    begun = tiny_classifier(**params).partial_fit(X, y, classes=[0, 1, 2])
    return tiny_classifier(**params).fit(X, y), begun


@pytest.fixture(scope="module")
def expected():
    """Return, for all parameters, what surroundings that nobody has changed give."""
    X, y = gaussian_classes()
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScaleWarning)
        for params in PARAMS:
            clf, begun = trained(params, X, y)
            found.append((clf, outputs(clf, X, y), begun.partial_fit(X, y)))
    return found


@pytest.mark.filterwarnings("ignore::skff.exceptions.ScaleWarning")
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_surroundings_change_neither_fit_nor_prediction_nor_explanation(name, expected):
    X, y = gaussian_classes()
    for params, (clf, numbers, goes_on) in zip(PARAMS, expected, strict=True):
        with SURROUNDINGS[name]():
            found = outputs(clf, X, y)
            again, begun = trained(params, X, y)
        assert all(map(np.array_equal, found, numbers))
        assert same_weights(again, clf)
        # What was made there can be trained elsewhere.
        assert same_weights(begun.partial_fit(X, y), goes_on)


def test_precision_that_someone_else_sets_meanwhile_stays():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with computing(CPU):
            assert torch.get_float32_matmul_precision() == "highest"
            torch.set_float32_matmul_precision("medium")
        assert torch.get_float32_matmul_precision() == "medium"
        with computing(CPU), computing(CPU, "high"):
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="one precision for all")
def test_a_backend_goes_on_to_follow_the_common_precision():
    MATMUL.fp32_precision = "none"
    try:
        torch.backends.fp32_precision = "bf16"
        with computing(CPU):
            assert MATMUL.fp32_precision == "ieee"
        assert MATMUL.fp32_precision == "bf16"
        torch.backends.fp32_precision = "ieee"
        assert MATMUL.fp32_precision == "ieee"
    finally:
        torch.backends.fp32_precision = "none"


@pytest.mark.parametrize("run", [on_one_thread, lambda f: map_on_threads(f, [()] * 2, CPU)[0]])
def test_threads_that_start_meanwhile_get_torchs_own_number(run):
    before, seen = torch.get_num_threads(), []

    def start_another():
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
        return torch.get_num_threads()

    torch.set_num_threads(3)
    try:
        assert run(start_another) == 1
        assert set(seen) == {3}
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_checks_in_many_threads_leave_the_filters_of_warnings_alone():
    X, y = gaussian_classes()
    clf = tiny_classifier().fit(X, y)
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [clf.predict(X) for _ in range(40)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
