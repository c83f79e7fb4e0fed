"""The tasks of the reproduction: each returns what JSON can hold."""

from itertools import combinations
from time import perf_counter

import numpy as np
import torch
from _common import load
from _plain_networks import BackpropLoop
from _plan import CONTESTANTS
from _settings import chosen_settings, read_settings_file
from sklearn.base import BaseEstimator, ClassifierMixin

from skff import ADSExplainer, FFClassifier
from skff.forward_forward.negatives import uniform
from skff.forward_forward.overlays import overlay_labels, replace
from skff.mlp_baselines import sklearn_mlp, skorch_mlp
from skff.recipes import BAKHSHI_2024
from skff.saliency import compare_explanations, deletion_curve

SIDE = {"mnist": 28, "fashion-mnist": 28, "digits": 8}
HIDDEN = (500, 500)


class LoopClassifier(ClassifierMixin, BaseEstimator):
    """The plain torch loop of the benchmarks behind scikit-learn's interface.

    Parameters
    ----------
    max_iter : int
        Epochs.
    settings : dict
        What validation images chose for the loop.
    random_state : int
        Seed.
    """

    def __init__(self, max_iter=30, settings=None, random_state=0):
        self.max_iter = max_iter
        self.settings = settings
        self.random_state = random_state

    def fit(self, X, y):
        """Train on float32 features and labels 0, 1, ..."""
        settings = {"hidden_layer_sizes": HIDDEN, "batch_size": 256, **(self.settings or {})}
        loop = BackpropLoop(max_iter=self.max_iter, random_state=self.random_state, **settings)
        self.loop_ = loop.fit(X, y)
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        """Return class probabilities (n_samples, n_classes)."""
        return self.loop_.predict_proba(np.ascontiguousarray(X, dtype=np.float32))

    def predict(self, X):
        """Return labels (n_samples,)."""
        return self.predict_proba(X).argmax(axis=1)


def make(contestant, data, plan, seed):
    """Return a contestant's estimator, not fitted."""
    if contestant == "paper":
        return BAKHSHI_2024.classifier(max_iter=plan.epochs, random_state=seed)
    ff = FFClassifier(HIDDEN, max_iter=plan.other_epochs, random_state=seed)
    if contestant == "default":
        return ff
    if contestant == "loop":
        settings = chosen_settings(read_settings_file(), data, "torch-lean", list(HIDDEN))
        return LoopClassifier(plan.other_epochs, settings, seed)
    return {"sklearn": sklearn_mlp, "skorch": skorch_mlp}[contestant](ff)


def samples(store, plan, data):
    """Draw four images with their own and with a wrong label, as the paper's Figure 1 shows."""
    _, _, X, y = load(data)
    X, y = torch.from_numpy(X[:4]), torch.from_numpy(y[:4]).long()
    wrong = uniform(y, 10, torch.Generator().manual_seed(0))
    pictures = [_rounded(overlay_labels(X, labels, 10, overlay=replace)) for labels in (y, wrong)]
    return {
        "pictures": pictures,
        "labels": [y.tolist(), wrong.tolist()],
        "summary": "labels " + ", ".join(f"{a}/{b}" for a, b in zip(y, wrong, strict=True)),
    }


def train(store, plan, data, contestant, seed):
    """Train a contestant and test it; keep the first seed's model for the maps."""
    X, y, X_test, y_test = load(data, n_train=plan.n_train)
    model = make(contestant, data, plan, seed)
    start = perf_counter()
    model.fit(X, y)
    seconds = perf_counter() - start
    error = 100 * float((model.predict(X_test) != y_test).mean())
    if seed == 0:
        store.write_object("model", {"data": data, "contestant": contestant}, model)
    records = [
        {key: record[key] for key in ("layers", "seconds", "loss")}
        for record in getattr(model, "history_", [])
        if isinstance(record, dict) and "layers" in record
    ]
    return {
        "error": error,
        "seconds": seconds,
        "history": records,
        "summary": f"{error:.2f} % error",
    }


def explain(store, plan, data, contestant):
    """Map the accuracy drop of a contestant, over all test images and within each class."""
    _, _, X, y = load(data)
    model = store.read_object("model", data=data, contestant=contestant)
    explainer = ADSExplainer(
        model, window_shape=plan.window, max_samples=plan.map_samples, random_state=0
    )
    start = perf_counter()
    explanation = explainer.explain(X, y)
    seconds = perf_counter() - start
    store.write_object("explanation", {"data": data, "contestant": contestant}, explanation)
    curves = deletion_curve(
        model,
        X,
        y,
        explanation,
        max_samples=plan.map_samples,
        n_random=plan.n_random,
        random_state=0,
    )
    (area,) = curves.areas.values()
    marked = explanation.significant(0.05, method="holm")
    return {
        "importances": _rounded(explanation.importances, 6),
        "per_class": _rounded(explanation.per_class, 5) if contestant == "paper" else None,
        "classes": np.asarray(explanation.classes).tolist(),
        "baseline": explanation.baseline_score,
        "n_samples": explanation.n_samples,
        "n_significant": int(marked.sum()),
        "engine": explanation.engine,
        "deletion_area": float(area),
        "random_areas": _rounded(curves.random_areas, 5),
        "seconds": seconds,
        "summary": f"largest drop {100 * np.nanmax(explanation.importances):.2f} points",
    }


def images(store, plan, data):
    """Map single images: one of each class that the paper's network recognizes, least surely."""
    _, _, X, y = load(data)
    model = store.read_object("model", data=data, contestant="paper")
    p = model.predict_proba(X)
    is_right = model.classes_[p.argmax(axis=1)] == y
    unsure = np.where(is_right, p.max(axis=1), 2)
    shown = [int(np.where(y == label, unsure, 2).argmin()) for label in model.classes_]
    explainer = ADSExplainer(model, window_shape=plan.window, scoring="neg_log_loss")
    maps = [explainer.explain(X[[k]], y[[k]]).importances for k in shown]
    means = [X[y == label].mean(axis=0) for label in model.classes_]
    return {
        "rows": shown,
        "labels": y[shown].tolist(),
        "pictures": _rounded(X[shown], 3),
        "means": _rounded(means, 3),
        "maps": _rounded(maps, 5),
        "summary": f"{len(shown)} images",
    }


def compare(store, plan, data):
    """Correlate the maps of all pairs of contestants."""
    maps = {
        contestant: store.read_object("explanation", data=data, contestant=contestant)
        for contestant in CONTESTANTS
    }
    pairs = []
    for first, second in combinations(maps, 2):
        found = compare_explanations(maps[first], maps[second], random_state=0)
        pairs.append(
            {
                "first": first,
                "second": second,
                "rank_correlation": found.rank_correlation,
                "interval": list(found.rank_correlation_interval),
                "top_overlap": found.top_overlap,
            }
        )
    lowest = min(pair["rank_correlation"] for pair in pairs)
    return {"pairs": pairs, "summary": f"rank correlations from {lowest:.2f}"}


def curve(store, plan, data, epochs):
    """Train the paper's rule for so many epochs per layer, from the first on, and test it."""
    X, y, X_test, y_test = load(data, n_train=plan.n_train)
    model = BAKHSHI_2024.classifier(max_iter=epochs, random_state=0)
    start = perf_counter()
    model.fit(X, y)
    seconds = perf_counter() - start
    error = 100 * float((model.predict(X_test) != y_test).mean())
    return {
        "error": error,
        "n_test": len(y_test),
        "seconds": seconds,
        "summary": f"{error:.2f} % error",
    }


def _rounded(values, digits=4):
    return np.round(np.asarray(values, dtype=float), digits).tolist()
