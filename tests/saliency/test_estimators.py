import os
import signal
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from saliency.oracle import LinearClassifier, plain_center_map
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC
from skorch import NeuralNetClassifier

from skff.saliency import ADSExplainer, _parallel, _progress

pytestmark = pytest.mark.usefixtures("few_features_like_many")


def as_rows(images):
    return images.reshape(-1, 64)


def as_channels(images):
    return images.reshape(-1, 1, 8, 8)


def as_frame(images):
    return pd.DataFrame(as_rows(images), columns=[f"pixel_{k}" for k in range(64)])


def skorch_net(*layers):
    torch.manual_seed(0)
    return NeuralNetClassifier(
        torch.nn.Sequential(*layers),
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=5,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    )


def forward_forward():
    from skff import FFClassifier

    return FFClassifier((30, 30), max_iter=5, random_state=0)


def column_pipeline():
    halves = [f"pixel_{k}" for k in range(32)], [f"pixel_{k}" for k in range(32, 64)]
    columns = make_column_transformer((StandardScaler(), halves[0]), (MinMaxScaler(), halves[1]))
    return make_pipeline(columns, LogisticRegression(tol=0.01))


class ScoreOnly:
    """Has nothing but a score, fitted or not."""

    def __init__(self):
        self.model = LogisticRegression(tol=0.01)

    def score(self, X, y):
        return self.model.score(X, y)


LINEAR, CONV = torch.nn.Linear, torch.nn.Conv2d
ESTIMATORS = {
    "forward_forward": (forward_forward, as_rows),
    "mlp": (lambda: MLPClassifier((20,), max_iter=300, tol=1e-2, random_state=0), as_rows),
    "forest": (lambda: RandomForestClassifier(10, random_state=0), as_rows),
    "boosting": (lambda: HistGradientBoostingClassifier(max_iter=3, random_state=0), as_rows),
    "svc": (lambda: SVC(), as_rows),
    "neighbours": (lambda: KNeighborsClassifier(), as_rows),
    "pipeline": (
        lambda: make_pipeline(StandardScaler(), LogisticRegression(tol=0.01)),
        as_rows,
    ),
    "search": (lambda: GridSearchCV(SVC(), {"C": [0.5, 5]}, cv=2), as_rows),
    "regressor": (lambda: Ridge(), as_rows),
    "skorch_mlp": (lambda: skorch_net(LINEAR(64, 20), torch.nn.ReLU(), LINEAR(20, 10)), as_rows),
    "skorch_cnn": (
        lambda: skorch_net(CONV(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), LINEAR(4 * 36, 10)),
        as_channels,
    ),
    "frame": (column_pipeline, as_frame),
}


@pytest.fixture(scope="module")
def images():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32).reshape(-1, 8, 8), y


@pytest.mark.parametrize(("make", "form"), ESTIMATORS.values(), ids=list(ESTIMATORS))
def test_map_equals_a_plain_loop(make, form, images):
    X, y = images
    model = make().fit(form(X[:500]), y[:500])
    X_test, y_test = X[500:580], y[500:580]
    found = ADSExplainer(model).explain(form(X_test), y_test)
    expected = plain_center_map(lambda X, y: model.score(form(X), y), X_test, y_test)
    np.testing.assert_allclose(found.importances, expected, atol=1e-6)
    assert found.importances.max() > 0.01
    is_classifier = not isinstance(model, Ridge)
    fast = "incremental" if hasattr(model, "occlusion_predictor") else "predict"
    assert found.engine == (fast if is_classifier else "score")


def test_an_object_with_nothing_but_a_score_equals_a_plain_loop(images):
    X, y = images
    duck = ScoreOnly()
    duck.model.fit(as_rows(X[:500]), y[:500])
    found = ADSExplainer(duck).explain(as_rows(X[500:600]), y[500:600])
    expected = plain_center_map(lambda X, y: duck.score(as_rows(X), y), X[500:600], y[500:600])
    np.testing.assert_array_equal(found.importances, expected)


@pytest.mark.parametrize("engine", ["score", "predict", "incremental"])
def test_two_jobs_on_a_read_only_memmap_give_the_numbers_of_one(engine, images, tmp_path):
    X, y = images
    model = LinearClassifier(n_features=64, n_classes=10)
    joblib.dump(np.tile(as_rows(X), (3, 1)), tmp_path / "X.joblib")  # enough to be memmapped
    X_map = joblib.load(tmp_path / "X.joblib", mmap_mode="r")
    assert isinstance(X_map, np.memmap) and not X_map.flags.writeable
    one, two = (
        ADSExplainer(model, engine=engine, n_jobs=n, stride=3).explain(X_map, np.tile(y, 3))
        for n in (1, 2)
    )
    for name in ("importances", "window_scores", "standard_error", "per_class"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


SLOW = """
import os, signal, sys, time
import numpy as np
from saliency.oracle import FixedClassifier
from skff.saliency import ADSExplainer

class Slow(FixedClassifier):
    def predict(self, X):
        with open(sys.argv[1], "a") as file:
            file.write(f"{os.getpid()}\\n")
        time.sleep(0.2)
        return np.zeros(len(X), int)

# Shells have their background jobs ignore the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    ADSExplainer(Slow(), engine="score", n_jobs=2).explain(np.ones((200, 8, 8)), np.zeros(200, int))
except KeyboardInterrupt:
    print("interrupted", os.getpid(), flush=True)
    time.sleep(30)
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to one process")
def test_keyboard_interrupt_stops_at_once_and_leaves_no_worker(tmp_path):
    record = tmp_path / "workers"
    tests = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(record)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        _wait(lambda: len(_workers(record, process.pid)) == 2, seconds=90)
        os.kill(process.pid, signal.SIGINT)
        _wait(lambda: not any(map(_is_alive, _workers(record, process.pid))), seconds=30)
        assert process.stdout.readline() == f"interrupted {process.pid}\n"
        assert process.poll() is None  # the caller lives on
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # workers that are left would hold stdout open
        process.communicate()


def test_an_interrupt_between_two_results_stops_the_workers_too(monkeypatch):
    parallel, closed = _parallel.Parallel, []

    class Recording(parallel):
        def __call__(self, jobs):
            try:
                yield from super().__call__(jobs)
            finally:
                closed.append(True)

    class Interrupted(_progress.NoBar):
        def update(self, n):
            raise KeyboardInterrupt

    monkeypatch.setattr(_parallel, "Parallel", Recording)
    monkeypatch.setattr(_progress, "NoBar", Interrupted)
    with pytest.raises(KeyboardInterrupt) as interrupt:
        ADSExplainer(LinearClassifier(64)).explain(np.ones((10, 64)), np.zeros(10, int))
    # While the traceback lives, so does all that its frames refer to.
    assert interrupt.tb is not None
    assert closed == [True]


def _workers(record, parent):
    """Return the ids of the processes other than the parent that have predicted."""
    lines = record.read_text().split() if record.exists() else []
    return {int(line) for line in lines} - {parent}


def _is_alive(process_id):
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait(condition, *, seconds):
    import time

    stop = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < stop, "waited too long"
        time.sleep(0.05)
