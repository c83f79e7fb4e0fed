from contextlib import nullcontext
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import Occlusion
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from saliency.oracle import FixedClassifier, LinearClassifier, OnePixelClassifier, plain_center_map
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_digits
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch import NeuralNetClassifier

from skff import FFClassifier
from skff.saliency import ADSExplainer
from skff.saliency._scoring import is_accuracy
from skff.saliency.fills import FILLS


@pytest.fixture(scope="module")
def digits():
    """Return half of the digits for fitting and 300 others, in [0, 1]."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    return X[:900], y[:900], X[900:1200], y[900:1200]


@pytest.fixture(scope="module")
def bayes(digits):
    return GaussianNB(var_smoothing=1e-2).fit(*digits[:2])


def skorch_mlp():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    return NeuralNetClassifier(
        module,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.01,
        max_epochs=10,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    )


def forward_forward():
    from skff import FFClassifier

    return FFClassifier((50, 50), max_iter=10, random_state=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MLPClassifier((32,), learning_rate_init=0.01, max_iter=300, random_state=0),
        lambda: RandomForestClassifier(20, random_state=0),
        skorch_mlp,
        forward_forward,
    ],
    ids=["mlp", "forest", "skorch", "forward_forward"],
)
def test_map_of_digits_equals_a_plain_loop_and_looks_at_the_strokes(make, digits):
    X, y, X_test, y_test = digits
    model = make().fit(X, y)
    found = ADSExplainer(model).explain(X_test, y_test)

    def score(images, y):
        return model.score(images.reshape(-1, 64), y)

    expected = plain_center_map(score, X_test.reshape(-1, 8, 8), y_test)
    np.testing.assert_allclose(found.importances, expected, atol=1e-12)
    assert found.baseline_score == model.score(X_test, y_test) > 0.7
    assert found.importances[2:6, 2:6].mean() > 5 * abs(found.importances[:, [0, 7]]).mean()


@pytest.mark.parametrize(
    ("shape", "image_shape", "window_shape", "stride"),
    [
        ((1, 8, 8), (8, 8), 3, 1),
        ((1, 8, 8), (8, 8), 4, 3),
        ((1, 5, 9), (5, 9), (2, 4), (2, 3)),
        ((3, 6, 7), (6, 7), 3, 2),
        ((3, 6, 7), (6, 7), (6, 1), 1),
        ((12,), (12,), 5, 3),
    ],
)
def test_coverage_equals_captum(shape, image_shape, window_shape, stride):
    rng = np.random.default_rng(0)
    X = rng.integers(-2, 3, (40, *shape)).astype(float)
    model = LinearClassifier(n_features=int(np.prod(shape)), seed=1)
    y = np.where(rng.random(40) < 0.8, model.predict(X.reshape(40, -1)), 0)

    def accuracy(inputs):
        return torch.tensor([(model.predict(inputs.reshape(40, -1).numpy()) == y).mean()])

    sides = np.broadcast_to(window_shape, len(image_shape)).tolist()
    steps = np.broadcast_to(stride, len(image_shape)).tolist()
    channels = [shape[0]] * (len(shape) - len(image_shape))
    expected = Occlusion(accuracy).attribute(
        torch.tensor(X),
        sliding_window_shapes=(*channels, *sides),
        strides=(*channels, *steps),
        baselines=1.0,
    )[0]
    explainer = ADSExplainer(
        FlatClassifier(model),
        window_shape=window_shape,
        stride=stride,
        image_shape=image_shape,
        fill=1.0,
        aggregate="coverage",
    )
    found = explainer.explain(X, y).importances
    expected = expected.numpy() if len(shape) == 1 else expected.numpy()[0]
    np.testing.assert_allclose(found, expected, atol=1e-7)


class FlatClassifier(FixedClassifier):
    """Flattens samples before a classifier."""

    def __init__(self, model):
        self.model = model

    def predict(self, X):
        return self.model.predict(np.asarray(X).reshape(len(X), -1))


def test_all_forms_of_the_same_images_give_the_same_map():
    rng = np.random.default_rng(0)
    images = rng.integers(-2, 3, (30, 5, 6, 2)).astype(float)  # channels last
    first = np.moveaxis(images, -1, 1)
    coefs = rng.integers(-4, 5, (5, 6, 2))

    class Rule(FixedClassifier):
        def predict(self, X):
            X = X.reshape(-1, 5, 6, 2) if X.shape[1:] != (2, 5, 6) else np.moveaxis(X, 1, -1)
            return (np.sum(X * coefs, axis=(1, 2, 3)) > 0).astype(int)

    y = Rule().predict(images)
    flat = ADSExplainer(Rule(), image_shape=(5, 6, 2)).explain(images.reshape(30, -1), y)
    for X, image_shape in [(first, None), (first, (5, 6)), (images, (5, 6, 2))]:
        found = ADSExplainer(Rule(), image_shape=image_shape).explain(X, y)
        assert found.image_shape == (5, 6)
        assert found.importances.any()
        np.testing.assert_array_equal(found.importances, flat.importances)


def test_strided_centers_pass_their_value_to_the_nearest_pixels(digits, bayes):
    X, y = digits[2:]
    fine = ADSExplainer(bayes).explain(X, y).importances
    coarse = ADSExplainer(bayes, stride=3).explain(X, y)
    nearest = [0, 0, 3, 3, 3, 6, 6, 6]
    np.testing.assert_array_equal(coarse.importances, fine[np.ix_(nearest, nearest)])
    assert len(coarse.window_scores) == 9


FILL_CASES = {
    "number": (0.5, lambda X: np.float32(0.5)),
    "mean": ("mean", lambda X: X.mean(axis=0)),
    "array": (np.linspace(0, 1, 64), lambda X: np.linspace(0, 1, 64, dtype=np.float32)),
    "image": (np.eye(8), lambda X: np.eye(8, dtype=np.float32).ravel()),
    "callable": (lambda X: X[:, ::-1], lambda X: X[:, ::-1]),
    "row": (lambda X: X.max(axis=0, keepdims=True), lambda X: X.max(axis=0)),
}


@pytest.mark.parametrize("engine", ["score", "predict"])
@pytest.mark.parametrize(("fill", "plain"), FILL_CASES.values(), ids=list(FILL_CASES))
def test_fill_replaces_the_hidden_features(fill, plain, engine, digits, bayes):
    X, y = digits[2:]
    found = ADSExplainer(bayes, fill=fill, engine=engine).explain(X, y)
    hidden = X.reshape(-1, 8, 8).copy()
    values = np.broadcast_to(plain(X), X.shape).reshape(-1, 8, 8)
    hidden[:, 3:6, 2:5] = values[:, 3:6, 2:5]
    expected = bayes.score(X, y) - bayes.score(hidden.reshape(-1, 64), y)
    assert found.importances[4, 3] == pytest.approx(expected)


@pytest.mark.parametrize("name", FILLS)
def test_every_named_fill_gives_a_finite_map(name, digits, bayes):
    assert np.isfinite(ADSExplainer(bayes, fill=name).explain(*digits[2:]).importances).all()


def test_integer_images_are_not_rounded_to_fit_a_fractional_fill():
    X = np.tile(np.array([[0], [1], [1], [1]], dtype=np.uint8), (1, 9)).reshape(4, 3, 3)

    class Mean(FixedClassifier):
        def predict(self, X):
            return (X[:, 1, 1] == 0.75).astype(int)

    found = ADSExplainer(Mean(), fill="mean", window_shape=1).explain(X, np.zeros(4, int))
    assert found.importances.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("engine", ["score", "predict"])
def test_read_only_data_is_never_written_to(engine, order, digits, bayes):
    X, y = digits[2:]
    X = np.array(X, order=order)
    before = X.copy()
    X.flags.writeable = False
    ADSExplainer(bayes, engine=engine).explain(X, y)
    np.testing.assert_array_equal(X, before)


def test_an_estimator_that_writes_to_its_input_harms_nothing(digits):
    X, y, X_test, y_test = digits
    model = make_pipeline(StandardScaler(copy=False), GaussianNB(var_smoothing=1e-2))
    model.fit(X.copy(), y)
    before = X_test.copy()
    maps = [
        ADSExplainer(model, engine=engine).explain(X_test, y_test).importances
        for engine in ("score", "predict")
    ]
    np.testing.assert_array_equal(X_test, before)
    np.testing.assert_array_equal(*maps)


def test_frames_keep_their_columns_and_types():
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "number": rng.normal(size=60),
            "count": rng.integers(0, 5, 60),
            "city": rng.choice(["Oslo", "Rome"], 60),
        }
    )
    y = np.where(X["city"] == "Oslo", "north", "south")
    model = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), ["city"]), remainder="passthrough"
        ),
        LogisticRegression(),
    ).fit(X, y)
    fill = np.array([0.0, 0, "nowhere"], dtype=object)
    for engine in ("score", "predict"):
        found = ADSExplainer(model, window_shape=1, fill=fill, engine=engine).explain(X, y)
        assert found.importances[2] > 0.3
        assert abs(found.importances[:2]).max() < 0.1
        assert found.classes.tolist() == ["north", "south"]


def test_frames_of_numbers_are_rebuilt_without_warning(digits):
    X, y, X_test, y_test = digits
    names = [f"pixel_{k}" for k in range(64)]
    X, X_test = (pd.DataFrame(part, columns=names) for part in (X, X_test))
    model = GaussianNB(var_smoothing=1e-2).fit(X, y)
    found = ADSExplainer(model).explain(X_test, y_test)
    plain = ADSExplainer(model.fit(X.to_numpy(), y)).explain(X_test.to_numpy(), y_test)
    np.testing.assert_array_equal(found.importances, plain.importances)


@pytest.mark.parametrize("fill", [0, "mean"])
def test_integer_columns_stay_integers_where_their_fill_is_one(fill):
    types = []

    class Watcher(FixedClassifier):
        def predict(self, X):
            types.append([str(dtype) for dtype in X.dtypes])
            return np.zeros(len(X), int)

    X = pd.DataFrame({"a": [0, 1, 1], "b": [0.5, 1.5, 2.0]})
    ADSExplainer(Watcher(), window_shape=1, fill=fill).explain(X, [0, 0, 0])
    assert all(one == ["int64" if fill == 0 else "float64", "float64"] for one in types)


def test_max_samples_draws_once_and_by_class(digits, bayes):
    X, y = digits[2:]
    explainer = ADSExplainer(bayes, max_samples=100, random_state=0)
    found, again = explainer.explain(X, y), explainer.explain(X, y)
    assert found.n_samples == 100
    np.testing.assert_array_equal(found.importances, again.importances)
    shares = np.bincount(y) / len(y)
    scores = ADSExplainer(bayes, max_samples=0.5, random_state=0, engine="score", scoring=counts)
    assert scores.explain(X, y).n_samples == 150
    np.testing.assert_allclose(np.bincount(counted[0]) / 150, shares, atol=1 / 150)
    assert all((labels == counted[0]).all() for labels in counted)


counted = []


def counts(estimator, X, y):
    counted.append(y)
    return 0.0


def test_samples_without_weight_are_left_out(digits, bayes):
    X, y = digits[2:]
    weight = (y < 5).astype(float)
    found = ADSExplainer(bayes).explain(X, y, weight)
    plain = ADSExplainer(bayes).explain(X[y < 5], y[y < 5])
    np.testing.assert_allclose(found.importances, plain.importances, atol=1e-15)
    assert found.classes.tolist() == [0, 1, 2, 3, 4]


def test_the_html_does_not_say_that_an_explainer_is_unfitted(bayes):
    explainer = ADSExplainer(bayes)
    for html in (explainer._repr_html_(), explainer._repr_mimebundle_()["text/html"]):
        assert "ADSExplainer" in html and "GaussianNB" in html
        assert "not fitted" not in html.lower()
        assert "<span>Needs no fit</span>" in html  # in its place


def explain_weighted(weight, **params):
    X = np.random.default_rng(len(weight)).choice([-1.0, 1.0], (len(weight), 9))
    y = np.arange(len(weight)) % 2
    return ADSExplainer(OnePixelClassifier(4), window_shape=1, **params).explain(X, y, weight)


def check_same_numbers(first, second, check):
    for name, value in vars(first).items():
        if isinstance(value, np.ndarray | float):
            check(value, getattr(second, name), err_msg=name)


weights = hnp.arrays(float, st.integers(2, 12), elements=st.integers(1, 64).map(lambda k: k / 64))


@given(weight=weights, exponent=st.integers(-1000, 1000))
@example(weight=np.ones(12), exponent=-1000)
@example(weight=np.ones(12), exponent=1000)
def test_weights_times_a_power_of_two_change_nothing(weight, exponent):
    first, second = explain_weighted(weight), explain_weighted(weight * 2.0**exponent)
    check_same_numbers(first, second, np.testing.assert_array_equal)


@given(weight=weights, factor=st.floats(1e-300, 1e300))
def test_weights_times_a_constant_change_nothing_but_rounding(weight, factor):
    first, second = explain_weighted(weight), explain_weighted(weight * factor)
    check_same_numbers(first, second, partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-7))


@pytest.mark.parametrize("factor", [1e-165, 1e154, 1e308])
def test_extreme_weights_give_the_map_of_equal_ones(digits, bayes, factor):
    X, y = (part[:60] for part in digits[2:])
    plain = ADSExplainer(bayes).explain(X, y, np.ones(60))
    scaled = ADSExplainer(bayes).explain(X, y, np.full(60, factor))
    check_same_numbers(plain, scaled, np.testing.assert_array_equal)
    for method in ("bh", "max-t"):
        marks = [one.significant(method=method) for one in (plain, scaled)]
        np.testing.assert_array_equal(*marks)
    assert scaled.fold_weights.sum() == 60


def test_a_scorer_gets_weights_whose_largest_is_one():
    seen = []

    def scorer(estimator, X, y, sample_weight):
        seen.append(sample_weight)
        return 0.0

    explain_weighted(np.array([1e300, 4e300, 0.0, 2e300]), scoring=scorer)
    for weight in seen:
        np.testing.assert_array_equal(weight, [0.25, 1.0, 0.5])


def test_light_samples_that_are_drawn_count_as_if_alone():
    weight = np.array([1.0, *np.full(11, 1e-170)])
    found = explain_weighted(weight, max_samples=6, random_state=1)
    np.testing.assert_array_equal(found.fold_weights, np.ones(6))  # the first is not drawn


def test_weights_reach_the_scorer(digits, bayes):
    X, y = digits[2:]
    weight = np.random.default_rng(0).random(300)
    params = {"scoring": "neg_log_loss", "window_shape": 5, "stride": 4}
    found = ADSExplainer(bayes, **params).explain(X, y, weight)
    hidden = X.reshape(-1, 8, 8).copy()
    hidden[:, 2:7, 2:7] = 0
    proba = bayes.predict_proba(hidden.reshape(-1, 64))
    expected = -log_loss(y, proba, sample_weight=weight)
    assert found.window_scores[4] == pytest.approx(expected, rel=1e-5)
    assert found.standard_error is None


def test_regressors_and_tables():
    X, y = load_diabetes(return_X_y=True)
    model = Ridge(0.1).fit(X, y)
    found = ADSExplainer(model, window_shape=1).explain(X, y)
    assert found.image_shape == (10,)
    hidden = X.copy()
    hidden[:, 2] = 0
    assert found.importances[2] == pytest.approx(model.score(X, y) - model.score(hidden, y))
    assert found.standard_error is None and found.per_class is None


def test_missing_values_pass_where_the_estimator_takes_them():
    X = np.random.default_rng(0).normal(size=(80, 4))
    y = (X[:, 0] > 0).astype(int)
    X[:10, 1] = np.nan
    model = HistGradientBoostingClassifier(max_iter=5).fit(X, y)
    for fill in (0.0, np.nan, "mean"):
        maps = [
            ADSExplainer(model, window_shape=1, fill=fill, engine=engine).explain(X, y)
            for engine in ("score", "predict")
        ]
        np.testing.assert_array_equal(maps[0].importances, maps[1].importances)
        assert np.isfinite(maps[0].importances).all()


class ScoreOnly:
    """Has nothing but a score."""

    def score(self, X, y):
        return float(np.mean(X[:, 1]))


def test_an_object_with_nothing_but_a_score_will_do():
    found = ADSExplainer(ScoreOnly(), window_shape=1).explain(np.ones((3, 4)), np.ones(3))
    assert found.importances.tolist() == [0, 1, 0, 0]
    assert (found.engine, found.scoring) == ("score", "score")


class OwnScore(OnePixelClassifier):
    """Scores by something else than accuracy."""

    def score(self, X, y):
        return -1.0


class Ducked:
    def predict(self, X):
        return X

    def score(self, X, y):
        return 1.0


@pytest.mark.parametrize(
    ("estimator", "scoring", "expected"),
    [
        (GaussianNB(), None, True),
        (GaussianNB(), "accuracy", True),
        (GaussianNB(), "f1_macro", False),
        (GaussianNB(), lambda estimator, X, y: 0.0, False),
        (Ridge(), None, False),
        (skorch_mlp(), None, True),
        (KNeighborsClassifier(), None, True),
        (OnePixelClassifier(), None, True),
        (OwnScore(), None, False),
        (OwnScore(), "accuracy", True),
        (Ducked(), None, False),
        (make_pipeline(StandardScaler(), GaussianNB()), None, True),
        (make_pipeline(StandardScaler(), Ridge()), None, False),
        (make_pipeline(StandardScaler(), OwnScore()), None, False),
    ],
)
def test_only_plain_accuracy_is_taken_for_accuracy(estimator, scoring, expected):
    assert is_accuracy(estimator, scoring) is expected


@pytest.mark.parametrize(
    ("scoring", "expected"), [(None, True), ("accuracy", True), ("neg_log_loss", False)]
)
def test_a_search_is_scored_as_its_own_scoring_says(scoring, expected, digits):
    X, y, X_test, y_test = digits
    grid = {"var_smoothing": [1e-2, 1e-1]}
    search = GridSearchCV(GaussianNB(), grid, cv=2, scoring=scoring).fit(X, y)
    assert is_accuracy(search, None) is expected
    found = ADSExplainer(search, window_shape=7, stride=7).explain(X_test, y_test)
    assert found.baseline_score == pytest.approx(search.score(X_test, y_test))
    assert found.engine == ("predict" if expected else "score")


def test_an_own_score_on_the_instance_is_not_taken_for_accuracy(bayes):
    model = clone(bayes)
    model.score = lambda X, y: 0.0
    assert not is_accuracy(model, None)


def nan_scorer(estimator, X, y):
    return float("nan")


def pair_scorer(estimator, X, y):
    return {"first": 1.0}


class Columns(OnePixelClassifier):
    def predict(self, X):
        return super().predict(X)[:, None]


IMAGES, LABELS = np.ones((6, 8, 8)), np.array([0, 1, 0, 1, 0, 1])
BAD = [
    ({"engine": "fast"}, ValueError, "engine='fast', but expected a str among {.*'auto'"),
    ({"engine": None}, ValueError, "engine=None"),
    ({"aggregate": "max"}, ValueError, "a str among {.*'center'"),
    ({"fill": "median"}, ValueError, "fill='median', but expected a number, one of 'blur'.*array"),
    ({"fill": np.ones(5)}, ValueError, r"fill of shape \(5,\)"),
    ({"fill": lambda X: np.ones((2, 8, 8))}, ValueError, r"fill of shape \(2, 8, 8\)"),
    ({"fill": np.nan}, ValueError, "fill contains NaN"),
    ({"fill": np.inf}, ValueError, "fill contains infinity"),
    ({"fill": None}, ValueError, "fill of type object, but expected numbers.* one of 'blur'"),
    ({"scoring": "precise"}, ValueError, "unknown scoring='precise'.* Expected one of"),
    ({"scoring": 3}, TypeError, "scoring=3"),
    ({"scoring": nan_scorer}, ValueError, "Got nan from the scorer 'nan_scorer'"),
    ({"scoring": pair_scorer}, TypeError, "expected a number"),
    ({"engine": "predict", "scoring": "f1"}, ValueError, "score to be accuracy"),
    ({"engine": "predict", "estimator": OwnScore()}, ValueError, "score to be accuracy"),
    ({"engine": "incremental"}, ValueError, "occlusion_predictor"),
    ({"n_jobs": 0}, ValueError, "n_jobs=0"),
    ({"n_jobs": 1.5}, TypeError, "n_jobs=1.5"),
    ({"batch_size": 0}, ValueError, "batch_size=0"),
    ({"batch_size": 2.0}, TypeError, "batch_size=2.0"),
    ({"max_samples": 0}, ValueError, "max_samples=0"),
    ({"max_samples": 7}, ValueError, "max_samples=7, but expected 1 to 6"),
    ({"max_samples": 1.5}, ValueError, "max_samples=1.5"),
    ({"max_samples": "half"}, TypeError, "max_samples='half'"),
    ({"random_state": "seed"}, ValueError, "random_state='seed'"),
    ({"verbose": -1}, ValueError, "verbose=-1"),
    ({"window_shape": 4}, ValueError, "odd number"),
    ({"window_shape": 9}, ValueError, "must fit"),
    ({"stride": 4}, ValueError, "pixels would be skipped"),
    ({"image_shape": 8}, ValueError, "image_shape=8"),
    ({"image_shape": (4, 16)}, ValueError, "trailing axes"),
    ({"estimator": GaussianNB()}, NotFittedError, "not fitted"),
    ({"estimator": object()}, TypeError, "without a score method"),
    ({"estimator": Columns()}, ValueError, r"predictions of shape \(6, 1\)"),
    ({"X": np.ones((0, 8, 8)), "y": []}, ValueError, r"X of shape \(0, 8, 8\)"),
    ({"X": np.ones(6)}, ValueError, "at least 2 axes"),
    ({"X": sparse.eye_array(6)}, TypeError, "sparse X"),
    ({"X": np.where(np.arange(64).reshape(8, 8) == 9, np.nan, IMAGES)}, ValueError, "X contains"),
    ({"X": np.where(np.arange(64).reshape(8, 8) == 9, np.inf, IMAGES)}, ValueError, "X contains"),
    ({"y": LABELS[:5]}, ValueError, "an array of 5 as y, but expected an array of 6"),
    ({"y": None}, ValueError, "y=None"),
    ({"y": 1}, ValueError, "a scalar as y"),
    ({"y": ["a"] * 6}, ValueError, "Mix of label input types"),
    ({"sample_weight": np.zeros(6)}, ValueError, "zero everywhere"),
    ({"sample_weight": -np.ones(6)}, ValueError, "negative"),
    ({"sample_weight": np.full(6, np.nan)}, ValueError, "non-finite"),
    ({"sample_weight": np.ones(6) + 1j}, ValueError, "complex sample_weight"),
    ({"sample_weight": np.ones(5)}, ValueError, r"sample_weight of shape \(5,\)"),
]


@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input_is_named_before_any_work(change, error, message):
    case = {"estimator": OnePixelClassifier(), "X": IMAGES, "y": LABELS, "sample_weight": None}
    case |= change
    data = [case.pop(name) for name in ("X", "y", "sample_weight")]
    state = dict(getattr(case["estimator"], "__dict__", {}))
    with pytest.raises(error, match=message):
        ADSExplainer(**case).explain(*data)
    assert getattr(case["estimator"], "__dict__", {}) == state


def test_x_with_other_features_than_fitted_is_named(bayes):
    with pytest.raises(ValueError, match="X with 63 features, but expected 64"):
        ADSExplainer(bayes).explain(np.ones((2, 63)), [0, 1])


def test_mean_of_words_is_refused():
    X = pd.DataFrame({"word": ["a", "b"]})
    with pytest.raises(ValueError, match=r"fill=Mean\(\) with features of type"):
        ADSExplainer(ScoreOnly(), window_shape=1, fill="mean").explain(X, [0, 1])


def test_explainer_clones_and_keeps_what_it_is_given(bayes):
    fill = np.zeros(64)
    explainer = ADSExplainer(bayes, fill=fill, window_shape=(3, 3))
    assert explainer.get_params(deep=False)["fill"] is fill
    assert clone(explainer).get_params(deep=False)["window_shape"] == (3, 3)


def test_a_mistyped_scorer_is_met_with_the_nearest_name(digits, bayes):
    *_, X, y = digits
    with pytest.raises(ValueError, match=r"scoring='acuracy'.* Did you mean 'accuracy'"):
        ADSExplainer(bayes, scoring="acuracy").explain(X, y)


@pytest.mark.parametrize(
    ("n_features", "warns"), [(192, True), (300, True), (147, False), (193, False), (196, False)]
)
def test_rows_that_may_be_colour_images_get_a_hint(n_features, warns):
    X, y = np.eye(4, n_features), np.array([0, 1, 0, 1])
    explainer = ADSExplainer(DummyClassifier().fit(X, y))
    side = int((n_features / 3) ** 0.5)
    expected = pytest.warns(UserWarning, match=rf"such as \({side}, {side}, 3\)")
    with expected if warns else nullcontext():
        explainer.explain(X, y)
    explainer.set_params(image_shape=(n_features,)).explain(X, y)  # no hint
    explainer.set_params(image_shape=None).explain(pd.DataFrame(X), y)


@pytest.mark.parametrize("engine", ["incremental", "predict", "score"])
def test_samples_of_another_scale_are_warned_of_once_at_the_callers_line(engine, digits):
    X, y, *_ = digits
    clf = forward_forward().set_params(max_iter=1).fit(X[:300], y[:300])
    with pytest.warns(UserWarning) as caught:
        ADSExplainer(clf, engine=engine, stride=3).explain(16 * X[:50], y[:50])
    texts = [str(warning.message) for warning in caught]
    assert len(set(texts)) == len(texts) and "times as far" in " ".join(texts)
    assert {warning.filename for warning in caught} == {__file__}


def test_diagrams_link_to_our_own_pages(bayes):
    link = ADSExplainer(bayes)._get_doc_link()
    assert link.endswith("skff.ADSExplainer.html") and "scikit-learn" not in link
    assert FFClassifier()._get_doc_link().endswith("skff.FFClassifier.html")


@pytest.mark.parametrize("names", [np.arange(10), np.array([*"abcdefghij"]), -np.arange(10.0)])
def test_samples_with_labels_that_the_classifier_does_not_know_are_counted(digits, names):
    X_train, y_train, X, y = digits
    known = y_train != 3
    model = GaussianNB(var_smoothing=1e-2).fit(X_train[known], names[y_train[known]])
    explainer = ADSExplainer(model, groups=np.indices((8, 8))[0])
    with pytest.warns(UserWarning, match=rf"{np.sum(y == 3)} of 300 samples have a label"):
        explainer.explain(X, names[y])
    explainer.explain(X[y != 3], names[y[y != 3]])  # no warning


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("engine", ["predict", "score"])
def test_a_fill_of_ones_own_is_checked_in_every_window(value, engine):
    def fill(X, pixels, random_state):
        return value if pixels[5] else 0.0

    explainer = ADSExplainer(OnePixelClassifier(3), fill=fill, window_shape=1, engine=engine)
    with pytest.raises(ValueError, match="Input fill contains (NaN|infinity)"):
        explainer.explain(np.ones((4, 9), np.float32), [1] * 4)


def test_a_fill_that_float32_does_not_hold_is_refused_without_other_warnings():
    explainer = ADSExplainer(OnePixelClassifier(3), fill=1e300)
    with pytest.raises(ValueError, match="Input fill contains infinity"):
        explainer.explain(np.ones((4, 9), np.float32), [1] * 4)
