"""A predictor is believed only where it says what ``predict`` says."""

import numpy as np
import pytest
from saliency.oracle import LinearClassifier, LinearPredictor
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline

from skff import FFClassifier
from skff.forward_forward.occlusion import _predictor
from skff.saliency import ADSExplainer, OcclusionPredictor, register_feature_wise
from skff.saliency._doors import FEATURE_WISE

pytestmark = pytest.mark.usefixtures("few_features_like_many")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(np.float32), y


class RejectsUnsure(FFClassifier):
    """Says -1 where the most probable class has less than 90 %."""

    def predict(self, X):
        labels = super().predict(X)
        return np.where(self.predict_proba(X).max(axis=1) < 0.9, -1, labels)


class Inverts(FFClassifier):
    """Learns from inverted images."""

    def fit(self, X, y):
        return super().fit(1 - X, y)

    def predict(self, X):
        return super().predict(1 - X)


class Wrapper(ClassifierMixin, BaseEstimator):
    """Passes on everything but predictions, of which it swaps two labels."""

    def __init__(self, model):
        self.model = model

    def __sklearn_is_fitted__(self):
        return True

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.model, name)

    def predict(self, X):
        labels = self.model.predict(X)
        return np.where(labels < 2, 1 - labels, labels)


def on_the_instance(X, y):
    model = FFClassifier((20,), max_iter=3, random_state=0).fit(X, y)
    labels = model.predict
    model.predict = lambda X: 9 - labels(X)
    return model


class AlwaysWrong(LinearPredictor):
    def predict(self, rows, pixels):
        return super().predict(rows, pixels) + 1


class Strings(LinearPredictor):
    def predict_many(self, rows, windows):
        labels, counts = super().predict_many(rows, windows)
        return labels.astype(str), counts


class Short(LinearPredictor):
    def predict_many(self, rows, windows):
        labels, counts = super().predict_many(rows, windows)
        return labels[:, 1:], counts


class NoCounts(LinearPredictor):
    def predict_many(self, rows, windows):
        return super().predict_many(rows, windows)[0]


class WrongWhenHidden(LinearPredictor):
    def predict(self, rows, pixels):
        return super().predict(rows, pixels[:-1])


class NoMethod:
    def __init__(self, *args):
        pass


class Closed(LinearPredictor):
    def __init__(self, *args):
        raise NotImplementedError("not for this model")


class Fails(LinearPredictor):
    def predict_many(self, rows, windows):
        raise IndexError("out of range")


class Words(LinearPredictor):
    def predict_many(self, rows, windows):
        return super().predict_many(rows, windows)[0], {"speed": "fast"}


PREDICTORS = [
    AlwaysWrong,
    Strings,
    Short,
    NoCounts,
    WrongWhenHidden,
    NoMethod,
    Closed,
    Fails,
    Words,
]
OWN_PREDICTIONS = {
    "subclass": lambda X, y: RejectsUnsure((20,), max_iter=3, random_state=0).fit(X, y),
    "transforms": lambda X, y: Inverts((20,), max_iter=3, random_state=0).fit(X, y),
    "instance": on_the_instance,
    "wrapper": lambda X, y: Wrapper(FFClassifier((20,), max_iter=3, random_state=0).fit(X, y)),
}


def assert_not_believed(model, X, y, match):
    with pytest.warns(UserWarning, match=match):
        found = ADSExplainer(model).explain(X, y)
    assert found.engine == "predict"
    expected = ADSExplainer(model, engine="score").explain(X, y)
    np.testing.assert_array_equal(found.importances, expected.importances)
    assert found.baseline_score == expected.baseline_score
    with pytest.raises(ValueError, match=match):
        ADSExplainer(model, engine="incremental").explain(X, y)


@pytest.mark.parametrize("make", OWN_PREDICTIONS.values(), ids=OWN_PREDICTIONS)
def test_an_estimator_that_predicts_in_a_way_of_its_own_is_explained_as_it_predicts(make, digits):
    X, y = digits
    model = make(X[:600], y[:600])
    assert_not_believed(model, X[600:800], y[600:800], "other labels of 200.*those of its predict")


@pytest.mark.parametrize("predictor", PREDICTORS, ids=lambda p: p.__name__)
def test_a_predictor_that_breaks_its_promise_is_not_believed(predictor, digits, monkeypatch):
    X, y = digits
    monkeypatch.setattr(
        LinearClassifier,
        "occlusion_predictor",
        lambda self, X, *, fill: predictor(np.asarray(X, dtype=float), fill, self.coefs()),
    )
    model = LinearClassifier(n_features=64, n_classes=10)
    y = np.where(y < 8, model.predict(X), y)
    assert_not_believed(model, X[:150], y[:150], "but expected")


def test_a_classifier_that_depends_on_its_batch_is_not_believed(digits):
    class Centred(LinearClassifier):
        def predict(self, X):
            return super().predict(X - X.mean(axis=0))

    X, y = digits
    model = Centred(n_features=64, n_classes=10)
    with pytest.warns(UserWarning, match="used engine='score'"):
        found = ADSExplainer(model).explain(X[:100], y[:100])
    assert found.engine == "score"
    with pytest.raises(ValueError, match="use engine='score'"):
        ADSExplainer(model, engine="incremental").explain(X[:100], y[:100])


def test_as_many_labels_as_there_are_near_ties_may_differ(digits, monkeypatch):
    class Rounds(LinearPredictor):
        def predict_many(self, rows, windows):
            labels, counts = super().predict_many(rows, windows)
            labels[0, 0] += 1
            return labels, counts | {"near_ties": self.n_ties}

    X, y = digits
    monkeypatch.setattr(
        LinearClassifier,
        "occlusion_predictor",
        lambda self, X, *, fill: Rounds(np.asarray(X, dtype=float), fill, self.coefs()),
    )
    model = LinearClassifier(n_features=64, n_classes=10)
    Rounds.n_ties = 1
    assert ADSExplainer(model).explain(X[:50], y[:50]).engine == "incremental"
    Rounds.n_ties = 0
    with pytest.warns(UserWarning, match="1 other labels"):
        assert ADSExplainer(model).explain(X[:50], y[:50]).engine == "predict"


def test_forward_forward_keeps_the_promise(digits):
    X, y = digits
    model = FFClassifier((20,), max_iter=3, random_state=0).fit(X[:600], y[:600])
    predictor = model.occlusion_predictor(X, fill=np.zeros((1, 64)))
    assert isinstance(predictor, OcclusionPredictor)
    assert ADSExplainer(model).explain(X[600:700], y[600:700]).engine == "incremental"


class Doubles(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return 2 * np.asarray(X)


def test_a_transformer_of_ones_own_can_be_declared_feature_wise(digits, monkeypatch):
    X, y = digits
    monkeypatch.setattr("skff.saliency._doors.FEATURE_WISE", set(FEATURE_WISE))
    model = make_pipeline(Doubles(), LinearClassifier(n_features=64, n_classes=10)).fit(X, y)
    assert ADSExplainer(model).explain(X[:50], y[:50]).engine == "predict"
    assert register_feature_wise(Doubles) is Doubles
    fast = ADSExplainer(model).explain(X[:50], y[:50])
    assert fast.engine == "incremental"
    slow = ADSExplainer(model, engine="score").explain(X[:50], y[:50])
    np.testing.assert_array_equal(fast.importances, slow.importances)


@pytest.mark.parametrize("thing", [Doubles(), FFClassifier, "scaler"])
def test_only_transformers_can_be_declared(thing):
    with pytest.raises(TypeError, match="class that has a method transform"):
        register_feature_wise(thing)


def test_counts_do_not_depend_on_threads(digits):
    from joblib import parallel_config

    X, y = digits
    model = FFClassifier((20,), max_iter=3, random_state=0).fit(X[:600], y[:600])
    stats = []
    for n_jobs in (1, 2, 4):
        with parallel_config(backend="threading", n_jobs=n_jobs):
            stats.append(ADSExplainer(model).explain(X, y).engine_stats)
    assert stats[0] == stats[1] == stats[2]
    assert stats[0]["pairs"] == 64 * len(X)


def test_labels_of_another_kind_are_refused_by_every_engine(digits):
    class Words(LinearClassifier):
        def predict(self, X):
            return super().predict(X).astype(str)

    X, y = digits
    for engine in ("auto", "score", "predict", "incremental"):
        with pytest.raises(ValueError, match="labels of the same kind"):
            ADSExplainer(Words(64, 10), engine=engine).explain(X[:50], y[:50])


def test_a_score_above_all_floats_is_refused(digits):
    X, y = digits
    explainer = ADSExplainer(LinearClassifier(64), scoring=lambda *args: 10**400)
    with pytest.raises(ValueError, match="Got inf"):
        explainer.explain(X[:5], y[:5])


def test_groups_whose_names_read_alike_are_refused(digits):
    X, y = digits
    explainer = ADSExplainer(LinearClassifier(64, 10), groups={1: [0, 1], "1": [2, 3]})
    with pytest.raises(ValueError, match="names read '1'"):
        explainer.explain(X[:5], y[:5])


def test_a_mask_that_spares_every_group_is_refused(digits):
    X, y = digits
    mask = np.zeros((8, 8), dtype=bool)
    mask[7, 7] = True
    explainer = ADSExplainer(LinearClassifier(64, 10), groups=[[0, 1]], mask=mask)
    with pytest.raises(ValueError, match="spares every group"):
        explainer.explain(X[:5], y[:5])


@pytest.fixture(scope="module")
def small_networks(digits):
    X, y = digits
    params = {"max_iter": 2, "skip_first_goodness": True}
    return [
        FFClassifier((8, 6), **params, random_state=seed).fit(X[:600], y[:600]) for seed in range(2)
    ]


@pytest.mark.filterwarnings("ignore::skff.exceptions.ScaleWarning")
@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("fill", [0.0, 1e4, 1e8])
def test_engines_agree_on_small_networks_and_large_fills(
    fill, copies, digits, small_networks, monkeypatch
):
    monkeypatch.setattr(_predictor, "FEWEST_FEATURES", 65 if copies else 0)
    X, y = digits
    for model in small_networks:
        found = [
            ADSExplainer(model, engine=engine, fill=fill).explain(X[600:800], y[600:800])
            for engine in ("score", "predict", "incremental")
        ]
        for other in found[1:]:
            np.testing.assert_array_equal(other.window_scores, found[0].window_scores)
