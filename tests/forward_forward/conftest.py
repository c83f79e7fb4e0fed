import pytest

from skff.forward_forward import _classifier


@pytest.fixture
def whole_signal(monkeypatch):
    """Let every sample teach, however little: what is left out has a test of its own."""
    monkeypatch.setattr(_classifier, "NEGLIGIBLE_SIGNAL", 0.0)
