import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from saliency.oracle import EitherClassifier, LinearClassifier, XorClassifier, own_feature_case
from scipy.stats import ttest_1samp
from sklearn.linear_model import Ridge

from skff.saliency import (
    ADSExplainer,
    explain_refits,
    interactions,
    randomization_check,
    shapley,
)

CORNERS = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def explainer(model, n_features=2, **params):
    return ADSExplainer(model, groups=[[k] for k in range(n_features)], **params)


def test_features_of_an_exclusive_or_work_together_only():
    X = np.tile(CORNERS, (10, 1))
    y = XorClassifier().predict(X)
    found = interactions(explainer(XorClassifier()), X, y)
    # Hidden, either makes the product 0 and the prediction 0: half the samples, whichever it is.
    np.testing.assert_allclose(found.importances, 0.5)
    assert found.matrix[0, 1] == pytest.approx(0.5 - 0.5 - 0.5)
    assert found.p_values[0, 1] < 1e-6


def test_redundant_features_lose_nothing_alone_and_interact_positively():
    X = np.tile(CORNERS[[0, 3]], (10, 1))
    y = EitherClassifier().predict(X)
    found = interactions(explainer(EitherClassifier()), X, y)
    np.testing.assert_allclose(found.importances, 0)
    assert found.matrix[0, 1] == pytest.approx(0.5)


def test_features_of_different_samples_do_not_interact():
    model, X, y = own_feature_case()
    found = interactions(explainer(model, 4), X, y)
    assert np.isnan(np.diag(found.matrix)).all()
    off = ~np.eye(4, dtype=bool)
    np.testing.assert_allclose(found.matrix[off], 0, atol=1e-12)
    np.testing.assert_array_equal(found.standard_error[off], 0)
    np.testing.assert_array_equal(found.p_values[off], 1)
    assert not found.significant().any()


def linear_case(n_samples=60):
    X = np.random.default_rng(0).integers(-2, 3, (n_samples, 36)).astype(float)
    model = LinearClassifier(n_features=36, seed=2)
    return model, X, np.where(np.arange(n_samples) % 4, model.predict(X), 0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("engine", ["predict", "incremental"])
@pytest.mark.parametrize("aggregate", ["center", "coverage"])
def test_interactions_equal_a_plain_loop(weighted, engine, aggregate):
    model, X, y = linear_case()
    weight = np.linspace(0, 1, len(X)) if weighted else None
    ads = ADSExplainer(
        model, image_shape=(6, 6), stride=2, aggregate=aggregate, fill="mean", engine=engine
    )
    found = interactions(ads, X, y, top_k=4, overlap=True, sample_weight=weight)
    used = slice(1, None) if weighted else slice(None)  # a sample of weight 0 is left out
    X, y, weight = X[used], y[used], None if weight is None else weight[used]

    def drop(*centers):
        hidden = X.reshape(-1, 6, 6).copy()
        mean = X.mean(axis=0).reshape(6, 6)
        for row, column in np.array(centers).astype(int):
            area = np.s_[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            hidden[(slice(None), *area)] = mean[area]
        return model.score(X, y, weight) - model.score(hidden.reshape(-1, 36), y, weight)

    centers = found.centers
    if aggregate == "coverage":  # a last window that is cut has its centre between pixels
        centers = np.array([[min(int(c), 4) if c < 4.5 else 5 for c in one] for one in centers])
    for i in range(4):
        assert found.importances[i] == pytest.approx(drop(centers[i]))
        for j in range(i):
            expected = drop(centers[i], centers[j]) - drop(centers[i]) - drop(centers[j])
            assert found.matrix[i, j] == pytest.approx(expected, abs=1e-12)
            assert found.matrix[i, j] == found.matrix[j, i]


def test_standard_error_is_that_of_the_samples_where_each_is_a_part():
    model, X, y = linear_case(n_samples=30)
    found = interactions(explainer(model, 36), X, y, top_k=3)
    changes = {}
    right = (model.predict(X) == y).astype(float)
    for features in [(0,), (1,), (0, 1)]:
        hidden = X.copy()
        hidden[:, found.windows[list(features)]] = 0
        changes[features] = right - (model.predict(hidden) == y)
    excess = changes[0, 1] - changes[0,] - changes[1,]
    assert found.standard_error[0, 1] == pytest.approx(excess.std(ddof=1) / np.sqrt(30))
    assert found.p_values[0, 1] == pytest.approx(ttest_1samp(excess, 0).pvalue)


def test_chosen_windows_share_no_pixel_unless_they_may():
    model, X, y = linear_case()
    ads = ADSExplainer(model, image_shape=(6, 6))
    apart = interactions(ads, X, y, top_k=4)
    for i in range(len(apart.centers)):
        for j in range(i):
            assert np.abs(apart.centers[i] - apart.centers[j]).max() >= 3
    any_of_them = interactions(ads, X, y, top_k=4, overlap=True)
    importances = ads.explain(X, y).window_importances
    np.testing.assert_allclose(any_of_them.importances, np.sort(importances)[::-1][:4])
    assert apart.importances[0] == any_of_them.importances[0]


def test_a_drawn_part_of_the_samples_is_the_same_in_every_call():
    model, X, y = own_feature_case()
    ads = explainer(model, 4, max_samples=20, random_state=np.random.RandomState(0))
    found = interactions(ads, X, y)
    assert found.n_samples == 20
    np.testing.assert_allclose(found.matrix[~np.eye(4, dtype=bool)], 0, atol=1e-12)


def test_other_scores_have_interactions_without_errors():
    X = np.random.default_rng(0).normal(size=(30, 3))
    model = Ridge(alpha=1e-8).fit(X, X @ [1, 2, 3])
    found = interactions(explainer(model, 3, scoring="neg_mean_squared_error"), X, X @ [1, 2, 3])
    # Hiding w and v adds 2 a_w a_v x_w x_v to the squared error beyond what each adds.
    a, b = model.coef_[found.windows[:2]]
    expected = 2 * a * b * np.mean(X[:, found.windows[0]] * X[:, found.windows[1]])
    assert found.matrix[0, 1] == pytest.approx(expected, rel=1e-3)
    assert found.standard_error is None and found.p_values is None
    with pytest.raises(ValueError, match="neg_mean_squared_error"):
        found.significant()


def test_names_are_those_of_groups_columns_or_centres():
    model, X, y = own_feature_case(3)
    names = {"a": [0], "b": [1], "c": [2]}
    assert set(interactions(ADSExplainer(model, groups=names), X, y).names) == {"a", "b", "c"}
    frame = pd.DataFrame(X, columns=["north", "east", "south", "which"])
    ads = ADSExplainer(LinearClassifier(4), window_shape=1, fill="mean")
    assert set(interactions(ads, frame, y).names) == set(frame)
    model, X, y = linear_case()
    name = interactions(ADSExplainer(model, image_shape=(6, 6)), X, y).names[0]
    assert name[0] == "(" and len(name.split(", ")) == 2


def test_frame_has_a_row_per_pair_the_strongest_first():
    model, X, y = linear_case()
    found = interactions(explainer(model, 36), X, y, top_k=4)
    frame = found.to_frame()
    assert len(frame) == 6
    assert (np.diff(frame["interaction"].abs()) <= 0).all()
    first = frame.iloc[0]
    i, j = (list(found.names).index(first[name]) for name in ("first", "second"))
    assert first["interaction"] == found.matrix[i, j]
    assert first["p_value"] == found.p_values[i, j]


def test_heat_map_is_centred_at_zero_and_labelled():
    X = np.tile(CORNERS, (10, 1))
    found = interactions(explainer(XorClassifier()), X, XorClassifier().predict(X))
    display = found.plot(significance=0.05)
    assert repr(display) == f"<InteractionsDisplay: accuracy of {len(found.names)} regions>"
    assert display.im_.get_clim() == (-0.5, 0.5)
    assert display.figure_.axes[-1].get_ylabel() == "interaction (accuracy)"
    assert [tick.get_text() for tick in display.ax_.get_yticklabels()] == ["0", "1"]
    assert len(display.ax_.lines[0].get_xdata()) == 2
    figure, axis = plt.subplots()
    assert found.plot(ax=axis, colorbar=False).figure_ is figure
    assert figure.axes == [axis]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"top_k": 1}, ValueError, "top_k=1, but expected an int in the range \\[2"),
        ({"top_k": 2.0}, TypeError, "top_k=2.0"),
        ({"overlap": 1}, TypeError, "overlap=1"),
        ({"explainer": XorClassifier()}, TypeError, "expected an instance of .*ADSExplainer"),
        ({"explainer": explainer(XorClassifier(), scoring=["accuracy"])}, ValueError, "one score"),
        ({"explainer": explainer(XorClassifier(), channels="separate")}, ValueError, "'separate'"),
        ({"explainer": ADSExplainer(XorClassifier(), window_shape=2, aggregate="coverage")},
         ValueError, "Got 1 of 1 regions"),
    ],
)  # fmt: skip
def test_bad_input_is_named(change, error, message):
    case = {"explainer": explainer(XorClassifier()), "X": CORNERS, "y": [1, 0, 0, 1]} | change
    with pytest.raises(error, match=message):
        interactions(**case)


def refit_twice(explainer, X, y):
    return explain_refits(explainer, [explainer.estimator] * 2, X, y)


@pytest.mark.parametrize("params", [{"target_precision": 0.1}, {"refine": 1}])
@pytest.mark.parametrize("function", [interactions, shapley, randomization_check, refit_twice])
def test_maps_whose_windows_saw_different_samples_are_refused(function, params):
    X, y = np.random.default_rng(0).normal(size=(20, 64)), np.zeros(20, dtype=int)
    with pytest.raises(ValueError, match="expected None for both"):
        function(ADSExplainer(LinearClassifier(64), **params), X, y)
