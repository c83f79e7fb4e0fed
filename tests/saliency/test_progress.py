import numpy as np
import pytest
from saliency.oracle import LinearClassifier

from skff.saliency import ADSExplainer, _progress, shapley

# Old releases of tqdm close a bar that the lock kept from being made.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class HeldForever:
    """The lock of tqdm that forked processes share, held by one that was killed."""

    def __enter__(self):
        raise AssertionError("waits forever")

    def __exit__(self, *error):
        return None

    acquire = __enter__


@pytest.mark.parametrize(
    "params", [{"engine": "score"}, {"engine": "predict"}, {"target_precision": 0.1}], ids=str
)
def test_without_progress_a_map_waits_for_no_forked_process(params, monkeypatch):
    monkeypatch.setattr(_progress.tqdm, "_lock", HeldForever(), raising=False)
    explainer = ADSExplainer(LinearClassifier(16), **params)
    X, y = np.ones((20, 16)), np.zeros(20, int)
    assert explainer.explain(X, y).importances.shape == (16,)
    with pytest.raises(AssertionError, match="waits forever"):
        explainer.set_params(verbose=1).explain(X, y)


def test_without_progress_shapley_values_wait_for_no_forked_process(monkeypatch):
    monkeypatch.setattr(_progress.tqdm, "_lock", HeldForever(), raising=False)
    explainer = ADSExplainer(LinearClassifier(2), groups=[[0], [1]])
    settings = {"method": "permutation", "random_state": 0}
    X, y = np.ones((20, 2)), np.zeros(20, int)
    assert len(shapley(explainer, X, y, **settings).values) == 2
    with pytest.raises(AssertionError, match="waits forever"):
        shapley(explainer, X, y, verbose=1, **settings)
