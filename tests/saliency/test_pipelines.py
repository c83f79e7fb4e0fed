import numpy as np
import pandas as pd
import pytest
from saliency.oracle import LinearClassifier
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, OneHotEncoder, StandardScaler

from skff import FFClassifier
from skff.saliency import ADSExplainer
from skff.saliency._doors import FEATURE_WISE, find_door

pytestmark = pytest.mark.usefixtures("few_features_like_many")

FIELDS = ("importances", "window_scores", "standard_error", "p_values", "per_class")


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X.astype(np.float32), y


def linear():
    return LinearClassifier(n_features=64, n_classes=10)


def forward_forward(**params):
    return FFClassifier((20, 20), max_iter=3, random_state=0, **params)


def assert_engines_agree(model, X, y, **params):
    fast, plain = (
        ADSExplainer(model, engine=engine, **params).explain(X, y) for engine in ("auto", "score")
    )
    assert fast.engine == "incremental"
    assert fast.importances.any()
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(fast, field), getattr(plain, field))


@pytest.mark.parametrize("fill", [0.0, "mean", lambda X: X.max(axis=1, keepdims=True)])
@pytest.mark.parametrize("scaler", sorted(FEATURE_WISE, key=str))
def test_a_feature_wise_step_before_the_door_agrees_with_the_score_engine(scaler, fill, digits):
    X, y = digits
    few = {"n_quantiles": 50} if "n_quantiles" in scaler().get_params() else {}
    model = make_pipeline(scaler(**few), linear()).fit(X[:300], y[:300])
    assert_engines_agree(model, X[300:400], y[300:400], fill=fill)


def test_clipping_is_done_to_the_fill_too(digits):
    X, y = digits
    model = make_pipeline(MinMaxScaler(clip=True), linear()).fit(X[:300], y[:300])
    assert_engines_agree(model, X[300:400], y[300:400], fill=-50.0)


@pytest.mark.parametrize("params", [{}, {"overlay": "replace"}, {"readout": "softmax"}])
def test_forward_forward_behind_a_scaler_agrees_with_the_score_engine(params, digits):
    X, y = digits
    model = make_pipeline(StandardScaler(), forward_forward(**params)).fit(X[:600], y[:600])
    assert_engines_agree(model, X[600:700], y[600:700], fill="mean")


def test_pipelines_may_be_nested_pass_through_and_be_searched(digits):
    X, y = digits
    inner = make_pipeline("passthrough", MinMaxScaler(), linear())
    search = GridSearchCV(make_pipeline(StandardScaler(), inner), {}, cv=2)
    assert_engines_agree(search.fit(X[:300], y[:300]), X[300:400], y[300:400])


def test_columns_keep_their_names_and_types(digits):
    X, y = digits
    frame = pd.DataFrame(X.astype(int), columns=[f"pixel_{k}" for k in range(64)])
    scaler = StandardScaler().set_output(transform="pandas")
    model = make_pipeline(scaler, forward_forward()).fit(frame[:600], y[:600])
    assert_engines_agree(model, frame[600:680], y[600:680], fill=0.5)


class OwnPredict(Pipeline):
    """Predicts in a way of its own."""

    def predict(self, X):
        return super().predict(X) // 2


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(PCA(8), LinearClassifier(n_features=8, n_classes=10)),
        make_pipeline(StandardScaler(), Normalizer(), linear()),
        make_pipeline(linear(), StandardScaler()),
        OwnPredict([("scale", StandardScaler()), ("linear", linear())]),
        GridSearchCV(linear(), {}, refit=False),
        StandardScaler(),
        None,
    ],
    ids=["mixes features", "mixes within samples", "no end", "own", "no refit", "no door", "none"],
)
def test_other_estimators_have_no_door(model):
    assert find_door(model) is None


def test_a_step_that_mixes_features_is_left_to_the_predict_engine(digits):
    X, y = digits
    model = make_pipeline(PCA(64), linear()).fit(X[:300], y[:300])
    assert ADSExplainer(model).explain(X[300:350], y[300:350]).engine == "predict"
    with pytest.raises(ValueError, match="Pipeline.*occlusion_predictor.*scalers"):
        ADSExplainer(model, engine="incremental").explain(X[300:350], y[300:350])


@pytest.mark.parametrize("fill", ["mean", "conditional", 0.5])
def test_booleans_beside_numbers_are_numbers(fill):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"size": rng.normal(size=60), "is_new": rng.random(60) < 0.5})
    X["count"] = pd.array(rng.integers(0, 5, 60), dtype="Int64")
    y = (X["size"] + X["is_new"] > 0.5).astype(int)
    model = LogisticRegression().fit(X, y)
    found = ADSExplainer(model, window_shape=1, fill=fill).explain(X, y)
    as_numbers = X.astype(float)
    plain = LogisticRegression().fit(as_numbers, y)
    expected = ADSExplainer(plain, window_shape=1, fill=fill).explain(as_numbers, y)
    np.testing.assert_array_equal(found.importances, expected.importances)


def test_a_fill_that_is_no_category_is_named():
    X = pd.DataFrame({"kind": pd.Categorical(["a", "b"] * 10), "size": np.arange(20.0)})
    y = np.arange(20) % 2
    encode = make_column_transformer((OneHotEncoder(), ["kind"]), remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression(max_iter=500)).fit(X, y)
    with pytest.raises(ValueError, match=r"fill 0.0 for the column 'kind'.*\['a', 'b'\]"):
        ADSExplainer(model, window_shape=1).explain(X, y)
    fill = np.array(["b", 3.0], dtype=object)  # a value of its own for each column
    found = ADSExplainer(model, window_shape=1, fill=fill).explain(X, y)
    hidden = X.assign(kind=pd.Categorical(["b"] * 20, categories=["a", "b"]))
    assert found.importances[0] == pytest.approx(model.score(X, y) - model.score(hidden, y))
    assert found.importances[0] > 0.3
