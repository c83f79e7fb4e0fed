"""Explanations and searches on joblib's backends, those with a scheduler among them.

All of one process: loky keeps its workers, which take seconds to import what they need.
"""

from concurrent.futures import CancelledError

import numpy as np
import pytest
from forward_forward.samples import gaussian_classes, tiny_classifier
from joblib import delayed, parallel_config
from saliency.workers import TravelingClassifier
from sklearn.callback import ScoringMonitor
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skff import ADSExplainer, FFClassifier
from skff.forward_forward.losses import SymBa
from skff.saliency import _parallel, deletion_curve
from skff.saliency._parallel import Work, run

pytestmark = pytest.mark.usefixtures("few_features_like_many")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


@pytest.fixture(scope="module")
def dask():
    """Start a scheduler and two worker processes, on free ports of this machine."""
    distributed = pytest.importorskip("distributed", reason="dask is not installed")
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    with (
        distributed.LocalCluster(dashboard_address=":0", **settings) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("backend", ["multiprocessing", "threading", "loky"])
def test_any_backend_of_joblib_gives_the_same(backend, digits):
    X, y = digits
    explainer = ADSExplainer(TravelingClassifier(64, 10), engine="predict")
    expected = explainer.explain(X[:40], y[:40])
    with parallel_config(backend=backend, n_jobs=2):
        found = explainer.explain(X[:40], y[:40])
    np.testing.assert_array_equal(found.importances, expected.importances)


def test_grid_search_over_names_and_instances_is_reproducible():
    X, y = gaussian_classes(n_samples=90, n_features=8)
    grid = {
        "ffclassifier__overlay": ["append", "layerwise"],
        "ffclassifier__loss": ["symba", SymBa(scale=8.0)],
        "ffclassifier__negatives": ["hard", "uniform"],
    }
    model = make_pipeline(StandardScaler(), tiny_classifier(max_iter=5))
    parallel, serial = (
        GridSearchCV(model, grid, cv=2, n_jobs=n_jobs).fit(X, y) for n_jobs in (2, 1)
    )
    scores = parallel.cv_results_["mean_test_score"]
    assert len(scores) == 8
    assert len(set(scores)) > 1
    np.testing.assert_array_equal(serial.cv_results_["mean_test_score"], scores)
    assert parallel.best_params_ == serial.best_params_
    np.testing.assert_array_equal(parallel.predict_proba(X), serial.predict_proba(X))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_scoring_monitor_hears_the_candidates_of_a_search(n_jobs):
    X, y = gaussian_classes()
    monitor = ScoringMonitor(scoring="accuracy")
    clf = tiny_classifier().set_callbacks(monitor)
    GridSearchCV(clf, {"loss": ["symba", "swish"]}, cv=2, n_jobs=n_jobs).fit(X, y)
    names = [row["task_name"] for log in monitor.get_logs("all") for row in log.data]
    assert names.count("epoch") == 2 * (2 * 2 + 1)  # epochs of the candidates' folds and the refit


def test_dask_gives_the_same_and_is_sent_the_model_once(dask, digits):
    X, y = digits
    model = TravelingClassifier(64, 10)
    expected = ADSExplainer(model, engine="predict").explain(X[:40], y[:40])
    curve = deletion_curve(model, X[:40], y[:40], expected, n_points=3, random_state=0)
    with parallel_config(backend="dask"):
        n_pickled = TravelingClassifier.n_pickled
        found = ADSExplainer(model, engine="predict", n_jobs=2).explain(X[:40], y[:40])
        assert TravelingClassifier.n_pickled == n_pickled + 1
        again = deletion_curve(
            model, X[:40], y[:40], expected, n_points=3, random_state=0, n_jobs=2
        )
        assert TravelingClassifier.n_pickled == n_pickled + 2
    np.testing.assert_array_equal(found.importances, expected.importances)
    np.testing.assert_array_equal(again.random_scores, curve.random_scores)


def test_search_and_fast_engine_on_dask_give_the_same(dask, digits):
    X, y = digits
    ff = FFClassifier((20,), max_iter=2, random_state=0)
    search = GridSearchCV(ff, {"dropout": [0.0, 0.3]}, cv=2, n_jobs=2)
    found = []
    for backend in ("threading", "dask"):
        with parallel_config(backend=backend):
            fitted = search.fit(X[:600], y[:600]).best_estimator_
            explanation = ADSExplainer(fitted, n_jobs=2).explain(X[600:1200], y[600:1200])
        found.append((search.cv_results_["mean_test_score"], explanation.importances))
        assert explanation.engine == "incremental"
    np.testing.assert_array_equal(*[scores for scores, _ in found])
    np.testing.assert_array_equal(*[importances for _, importances in found])


@pytest.mark.filterwarnings("ignore:Lost workers")  # whoever was the first to get the data
def test_a_dask_worker_that_is_killed_loses_nothing(dask, digits, tmp_path):
    X, y = digits
    model = TravelingClassifier(64, 10, folder=str(tmp_path))
    expected = ADSExplainer(model, engine="predict").explain(X[:40], y[:40])
    (tmp_path / "life").touch()
    with parallel_config(backend="dask"):
        found = ADSExplainer(model, engine="predict", n_jobs=2).explain(X[:40], y[:40])
    assert list(tmp_path.iterdir()) == []  # who takes it kills itself
    np.testing.assert_array_equal(found.importances, expected.importances)


class Losing:
    """A joblib.Parallel that loses its workers after some results each time it is called."""

    def __init__(self, *n_results):
        self.n_results = list(n_results)

    def __call__(self, n_jobs, return_as):
        return self.call

    def call(self, jobs):
        n_results = self.n_results.pop(0)
        for k, (function, args, params) in enumerate(jobs):
            if k == n_results:
                raise CancelledError("lost dependencies\n and more")
            yield function(*args, **params)


def _square(offset, number):
    return offset + number**2


def test_what_lost_workers_had_not_returned_is_computed_anew(monkeypatch):
    monkeypatch.setattr(_parallel, "delayed", delayed)
    monkeypatch.setattr(_parallel, "Parallel", Losing(2, 0, 0, 1, None))
    work = Work(_square, (10,), n_bytes=8)
    with pytest.warns(UserWarning, match="Lost workers after .* of 5 blocks") as warnings:
        assert list(run(work, [(k,) for k in range(5)], n_jobs=2)) == [10, 11, 14, 19, 26]
    assert [str(w.message).split()[3] for w in warnings] == ["2", "2", "2", "3"]
    assert str(warnings[0].message).endswith("again. CancelledError: lost dependencies")


@pytest.mark.filterwarnings("ignore:Lost workers")
def test_workers_that_are_lost_again_and_again_are_given_up(monkeypatch):
    monkeypatch.setattr(_parallel, "delayed", delayed)
    monkeypatch.setattr(_parallel, "Parallel", Losing(1, 0, 0, 0, 0))
    results = run(Work(_square, (10,), n_bytes=8), [(k,) for k in range(5)], n_jobs=2)
    assert next(results) == 10
    with pytest.raises(CancelledError):
        next(results)
