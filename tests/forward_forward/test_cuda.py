import pickle
import warnings

import numpy as np
import pytest
import torch
from forward_forward.samples import gaussian_classes, same_weights, tiny_classifier

import skff
from skff.forward_forward import _batches
from skff.forward_forward._trainer import Trainer

pytestmark = pytest.mark.cuda

VARIANTS = [
    {},
    {"training": "greedy", "solver": "sgd"},
    {"readout": "softmax", "negatives": "confused", "peer_normalization": 0.1},
    {"readout": "softmax", "matmul_precision": "medium"},
    {"overlay": "replace", "loss": "logistic", "negatives": "uniform", "dropout": 0.2},
]
every_variant = pytest.mark.parametrize("params", VARIANTS)


def on_cuda(**params):
    return tiny_classifier(
        **({"device": "cuda", "max_iter": 5, "learning_rate_init": 0.01} | params)
    )


@every_variant
def test_training_on_the_gpu_learns_and_repeats(params):
    X, y = gaussian_classes(n_features=8, spread=0.5)
    params = params | {"max_iter": 20, "learning_rate_init": 0.05}
    clf = on_cuda(**params).fit(X, y)
    assert clf.device_.type == "cuda"
    assert clf.score(X, y) > 0.9
    again = on_cuda(**params).fit(X, y)
    np.testing.assert_allclose(clf.decision_function(X), again.decision_function(X), rtol=1e-3)


def test_auto_takes_the_gpu():
    assert tiny_classifier(device="auto").fit(*gaussian_classes()).device_.type == "cuda"


@every_variant
def test_the_same_weights_predict_the_same_on_both_devices(params):
    X, y = gaussian_classes(n_features=8)
    clf = on_cuda(**params).fit(X, y)
    expected = clf.decision_function(X)
    clf.set_params(device="cpu")
    moved = pickle.loads(pickle.dumps(clf))
    assert moved.device_.type == "cpu"
    assert same_weights(moved, clf)
    np.testing.assert_allclose(moved.decision_function(X), expected, rtol=1e-3, atol=1e-5)


def test_a_loaded_model_returns_to_its_device():
    X, y = gaussian_classes()
    clf = on_cuda().fit(X, y)
    assert pickle.loads(pickle.dumps(clf)).device_.type == "cuda"


def test_partial_fit_goes_on_after_a_pickle():
    X, y = gaussian_classes()
    clf = on_cuda().partial_fit(X, y, classes=[0, 1, 2])
    found = pickle.loads(pickle.dumps(clf)).partial_fit(X, y)
    assert found.n_iter_ == 2
    assert np.isfinite(found.decision_function(X)).all()


def test_a_file_brings_a_model_of_the_gpu_back_to_it_and_to_the_cpu(tmp_path):
    X, y = gaussian_classes()
    clf = on_cuda().fit(X, y)
    skff.save(clf, tmp_path / "fitted")
    assert skff.load(tmp_path / "fitted").device_.type == "cuda"
    np.testing.assert_array_equal(
        skff.load(tmp_path / "fitted").decision_function(X), clf.decision_function(X)
    )
    clf = on_cuda().partial_fit(X, y, classes=[0, 1, 2])
    skff.save(clf, tmp_path / "learning")
    found = skff.load(tmp_path / "learning").partial_fit(X, y)
    assert found.n_iter_ == 2
    assert np.isfinite(found.decision_function(X)).all()


def test_data_too_large_for_the_gpu_come_batch_by_batch(monkeypatch):
    X, y = gaussian_classes()
    resident = on_cuda().fit(X, y)
    monkeypatch.setattr(_batches, "_fits", lambda X, device: False)
    streamed = on_cuda().fit(X, y)
    np.testing.assert_allclose(
        streamed.decision_function(X), resident.decision_function(X), rtol=1e-3
    )


def synchronizations(monkeypatch, batch_size):
    """Count how often training one epoch waits for the device."""
    plain_epoch = Trainer.epoch

    def watched(*arguments, **params):
        torch.cuda.set_sync_debug_mode("warn")
        try:
            return plain_epoch(*arguments, **params)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    X, y = gaussian_classes(n_samples=256)
    with monkeypatch.context() as patch, warnings.catch_warnings(record=True) as caught:
        patch.setattr(Trainer, "epoch", watched)
        warnings.simplefilter("always")
        on_cuda(dropout=0.2, batch_size=batch_size, max_iter=1).fit(X, y)
    return sum("synchronizing" in str(warning.message) for warning in caught)


def test_an_epoch_waits_for_the_device_no_more_often_with_more_batches(monkeypatch):
    many, few = (synchronizations(monkeypatch, batch_size) for batch_size in (8, 128))
    assert many == few > 0
