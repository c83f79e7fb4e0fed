from unittest import mock

import pytest

from skff.forward_forward import _gradients
from skff.forward_forward.occlusion import _predictor


@pytest.fixture
def whole_signal(monkeypatch):
    """Let every sample teach, however little: drawing them has tests of its own."""
    monkeypatch.setattr(_gradients, "_draw_samples", lambda *args: (None, None))


@pytest.fixture(scope="module")
def few_features_like_many():
    """Let the samples of tests, which have few features, be predicted as those with many are."""
    with mock.patch.object(_predictor, "FEWEST_FEATURES", 0):
        yield
