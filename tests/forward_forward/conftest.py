import pytest

from skff.forward_forward import _gradients


@pytest.fixture
def whole_signal(monkeypatch):
    """Let every sample teach, however little: drawing them has tests of its own."""
    monkeypatch.setattr(_gradients, "_draw_samples", lambda *args: (None, None))
