from itertools import permutations

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from saliency.oracle import (
    EitherClassifier,
    LinearClassifier,
    UnanimousClassifier,
    XorClassifier,
    own_feature_case,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge

from skff.saliency import ADSExplainer, shapley

CORNERS = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
METHODS = {
    "exact": {"method": "exact"},
    "permutation": {"method": "permutation", "n_permutations": 200, "random_state": 0},
}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def explainer(model, n_features, **params):
    return ADSExplainer(model, groups=[[k] for k in range(n_features)], **params)


def linear_case(n_features=6, n_samples=40, seed=0):
    """Return a classifier, samples, and labels of which it gets most right."""
    X = np.random.default_rng(seed).integers(-2, 3, (n_samples, n_features)).astype(float)
    model = LinearClassifier(n_features=n_features, seed=seed)
    return model, X, np.where(np.arange(n_samples) % 4, model.predict(X), 0)


@pytest.mark.parametrize("params", METHODS.values(), ids=list(METHODS))
def test_values_of_an_additive_game_are_its_terms(params):
    model, X, y = own_feature_case()
    found = shapley(explainer(model, 4), X, y, **params)
    # Each sample depends on one feature, so each feature carries its share of the samples.
    np.testing.assert_allclose(found.values, np.bincount(X[:, -1].astype(int)) / len(X))
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-12)
    assert (found.full_score, found.hidden_score) == (1, 0)


@pytest.mark.parametrize("model", [XorClassifier(), EitherClassifier()], ids=["xor", "either"])
@pytest.mark.parametrize("params", METHODS.values(), ids=list(METHODS))
def test_equal_players_share_equally(model, params):
    X = np.tile(CORNERS[[0, 3]] if isinstance(model, EitherClassifier) else CORNERS, (5, 1))
    found = shapley(explainer(model, 2), X, model.predict(X), **params)
    # Hidden alone, a redundant feature costs nothing and one of an exclusive or costs all.
    np.testing.assert_allclose(found.values, 0.25)


@pytest.mark.parametrize("params", METHODS.values(), ids=list(METHODS))
def test_a_feature_that_is_never_read_has_no_value(params):
    X = np.random.default_rng(0).choice([-1.0, 1.0], (40, 4))
    found = shapley(explainer(XorClassifier(), 4), X, XorClassifier().predict(X), **params)
    np.testing.assert_array_equal(found.values[2:], 0)
    assert (found.values[:2] > 0.1).all()


@given(seed=st.integers(0, 2**16), n_features=st.integers(1, 6), exact=st.booleans())
def test_values_sum_to_what_all_regions_add(seed, n_features, exact):
    model, X, y = linear_case(n_features, 12, seed)
    params = METHODS["exact"] if exact else METHODS["permutation"] | {"n_permutations": 6}
    found = shapley(explainer(model, n_features), X, y, **params)
    assert found.full_score == pytest.approx(model.score(X, y))
    assert found.hidden_score == pytest.approx(model.score(0 * X, y))
    assert found.values.sum() == pytest.approx(found.full_score - found.hidden_score, abs=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_exact_values_are_the_mean_over_all_orders(weighted):
    model, X, y = linear_case(5)
    weight = np.linspace(0.1, 1, len(X)) if weighted else None
    found = shapley(explainer(model, 5, fill=1.0), X, y, sample_weight=weight)
    gains = np.zeros((120, 5))
    for order, row in zip(permutations(range(5)), gains, strict=True):
        hidden = np.ones_like(X)
        before = model.score(hidden, y, weight)
        for feature in order:
            hidden[:, feature] = X[:, feature]
            after = model.score(hidden, y, weight)
            row[feature], before = after - before, after
    np.testing.assert_allclose(found.values, gains.mean(axis=0), atol=1e-12)
    assert (found.n_permutations, found.n_coalitions) == (0, 32)


def test_sampled_values_are_exact_within_their_reported_error():
    model, X, y = linear_case(8)
    exact = shapley(explainer(model, 8), X, y).values
    runs = [
        shapley(explainer(model, 8), X, y, method="permutation", n_permutations=60, random_state=k)
        for k in range(12)
    ]
    errors = np.array([run.values - exact for run in runs])
    reported = np.array([run.standard_error for run in runs])
    assert (np.abs(errors) < 5 * reported).all()
    # Over the runs, the root mean square error is what they report.
    ratio = np.sqrt((errors**2).mean(axis=0) / (reported**2).mean(axis=0))
    assert 0.7 < np.median(ratio) < 1.4


def unanimous_case(n_features=49, n_samples=60, seed=0):
    """Return a classifier with known Shapley values, samples and labels it gets all right."""
    rng = np.random.default_rng(seed)
    own = rng.random((n_samples, n_features)) < rng.random((n_samples, 1)) / 3
    own[np.arange(n_samples), rng.integers(n_features, size=n_samples)] = True
    X = np.ones((n_samples, n_features + 1))
    X[:, -1] = np.arange(n_samples)
    return UnanimousClassifier(own), X, np.ones(n_samples, dtype=int)


def zeros(X, pixels, random_state):
    """A fill that might know the window, so that samples share their orders."""
    return np.zeros(1)


@pytest.mark.parametrize(
    ("n_features", "fill", "weighted"), [(49, 0.0, False), (49, 0.0, True), (14, zeros, False)]
)
def test_values_of_many_regions_are_known_within_their_reported_error(n_features, fill, weighted):
    model, X, y = unanimous_case(n_features, seed=3)
    weight = np.linspace(0.2, 1, len(y)) if weighted else None
    draws = {"n_permutations": 40, "random_state": 2, "sample_weight": weight}
    found = shapley(explainer(model, n_features, fill=fill), X, y, **draws)
    z = np.abs(found.values - model.shapley_values(weight)) / found.standard_error
    assert 0.7 < np.sqrt((z**2).mean()) < 1.4
    assert (z < 1.96).mean() > 0.85 and z.max() < 5
    assert found.values.sum() == pytest.approx(found.full_score - found.hidden_score, abs=1e-12)
    assert (found.full_score, found.hidden_score) == (1, 0)


def test_orders_of_their_own_tell_more_than_shared_ones():
    model, X, y = unanimous_case(16)
    own, shared = (
        shapley(explainer(model, 16, fill=fill), X, y, n_permutations=24, random_state=0)
        for fill in (0.0, zeros)
    )
    assert own.n_permutations == shared.n_permutations == 24
    assert own.standard_error.mean() < 0.7 * shared.standard_error.mean()


@pytest.mark.parametrize("params", [{"n_jobs": 2}, {"batch_size": 20}])
def test_orders_of_their_own_do_not_depend_on_how_the_work_is_shared(params):
    class Watched(UnanimousClassifier):
        def predict(self, X):
            assert len(X) <= params.get("batch_size", len(X))
            return super().predict(X)

    model, X, y = unanimous_case(14, 20)
    draws = {"n_permutations": 20, "random_state": 0}
    with joblib.parallel_config("threading"):
        found = shapley(explainer(Watched(model.own_features), 14, **params), X, y, **draws)
    expected = shapley(explainer(model, 14), X, y, **draws)
    if "n_jobs" in params:
        np.testing.assert_array_equal(found.values, expected.values)
    error = np.hypot(found.standard_error, expected.standard_error)
    assert (np.abs(found.values - expected.values) <= 5 * error).all()


def test_orders_are_drawn_until_the_tolerance_is_met():
    model, X, y = linear_case(8)
    params = {"method": "permutation", "random_state": 0}
    loose = shapley(explainer(model, 8), X, y, tolerance=0.1, **params)
    tight = shapley(explainer(model, 8), X, y, tolerance=0.02, **params)
    assert loose.relative_error <= 0.1 and tight.relative_error <= 0.02
    assert loose.n_permutations < tight.n_permutations
    assert tight.n_coalitions <= 2**8


def test_too_few_permutations_are_reported():
    model, X, y = linear_case(8)
    params = {"method": "permutation", "max_permutations": 5, "tolerance": 1e-4}
    with pytest.warns(ConvergenceWarning, match="max_permutations"):
        found = shapley(explainer(model, 8), X, y, random_state=0, **params)
    assert found.n_permutations == 6


def test_auto_scores_all_coalitions_of_few_regions_only():
    for n_features in (3, 13):
        model, X, y = linear_case(n_features, 10)
        found = shapley(explainer(model, n_features), X, y, tolerance=0.5, random_state=0)
        assert (found.n_permutations == 0) == (n_features == 3)


def test_the_seed_alone_determines_the_values():
    model, X, y = linear_case(8)
    with joblib.parallel_config("threading"):
        runs = [
            shapley(explainer(model, 8, n_jobs=n_jobs), X, y, **METHODS["permutation"])
            for n_jobs in (None, 2)
        ]
    np.testing.assert_array_equal(runs[0].values, runs[1].values)


def test_a_drawn_part_of_the_samples_is_the_same_in_every_coalition():
    model, X, y = own_feature_case()
    ads = explainer(model, 4, max_samples=20, random_state=np.random.RandomState(0))
    found = shapley(ads, X, y)
    assert found.n_samples == 20
    np.testing.assert_allclose(found.values * 20, np.round(found.values * 20), atol=1e-9)


def test_overlapping_windows_hide_a_pixel_as_long_as_one_of_them_is_hidden():
    model, X, y = linear_case(3)
    ads = ADSExplainer(model, groups=[[0, 1], [1, 2]])
    found = shapley(ads, X, y)

    def score(*shown):
        hidden = np.zeros_like(X)
        hidden[:, shown] = X[:, shown]
        return model.score(hidden, y)

    first = (score(0) - score()) / 2 + (score(0, 1, 2) - score(2)) / 2
    assert found.values[0] == pytest.approx(first)


def test_any_score_will_do():
    X = np.random.default_rng(0).normal(size=(40, 3))
    X -= X.mean(axis=0)
    y = X @ [1.0, 2.0, 3.0]
    found = shapley(explainer(Ridge(alpha=1e-8).fit(X, y), 3, scoring="r2"), X, y)
    # Of a linear model, a feature's value is its share of the variance.
    shares = np.cov(X.T, bias=True) @ [1, 2, 3] * [1, 2, 3] / y.var()
    np.testing.assert_allclose(found.values, shares, rtol=1e-5)


def test_values_are_laid_out_as_a_map():
    model, X, y = linear_case(16)
    ads = ADSExplainer(
        model,
        image_shape=(4, 4),
        window_shape=2,
        stride=2,
        aggregate="coverage",
        mask=np.eye(4) > 0,
    )
    found = shapley(ads, X, y)
    assert found.names.tolist() == ["(0.5, 0.5)", "(2.5, 2.5)"]
    expected = np.full((4, 4), np.nan)
    expected[:2, :2], expected[2:, 2:] = found.values
    np.testing.assert_array_equal(found.importances, expected)
    display = found.plot(np.ones((4, 4)))
    assert display.figure_.axes[-1].get_ylabel() == "Shapley value (accuracy)"


def test_values_of_a_table_are_drawn_as_named_bars_with_errors():
    model, X, y = linear_case(4)
    frame = pd.DataFrame(X, columns=["north", "east", "south", "west"])
    ads = ADSExplainer(LinearClassifier(4), window_shape=1, engine="predict")
    found = shapley(ads, frame, y, **METHODS["permutation"])
    display = found.plot()
    assert [bar.get_height() for bar in display.im_] == found.values.tolist()
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == list(frame)
    assert len(display.ax_.containers) == 2
    rows = found.to_frame()
    assert rows["region"].iloc[0] == frame.columns[found.values.argmax()]
    assert (np.diff(rows["value"]) <= 0).all()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "sage"}, ValueError, "method='sage'"),
        ({"n_permutations": 2}, ValueError, "n_permutations=2, but expected an int .* \\[4"),
        ({"max_permutations": None}, TypeError, "max_permutations=None"),
        ({"tolerance": 0}, ValueError, "tolerance=0"),
        ({"verbose": -1}, ValueError, "verbose=-1"),
        ({"explainer": None}, TypeError, "expected an instance of .*ADSExplainer"),
        ({"method": "exact", "X": np.ones((4, 21)), "explainer": explainer(XorClassifier(), 21)},
         ValueError, "21 regions, but expected at most 20"),
    ],
)  # fmt: skip
def test_bad_input_is_named(change, error, message):
    case = {"explainer": explainer(XorClassifier(), 2), "X": CORNERS, "y": [1, 0, 0, 1]} | change
    with pytest.raises(error, match=message):
        shapley(**case)
