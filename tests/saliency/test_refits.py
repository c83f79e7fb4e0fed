import matplotlib.pyplot as plt
import numpy as np
import pytest
from saliency.oracle import LinearClassifier, OnePixelClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import cross_validate

from skff.saliency import ADSExplainer, explain_refits


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def case(n_samples=200, n_features=16):
    X = np.random.default_rng(0).normal(size=(n_samples, n_features))
    return X, LinearClassifier(n_features, seed=1).predict(X)


def noisy(seed):
    """Return one of many training runs of the same classifier."""
    return NoisyClassifier(16, seed=seed)


class NoisyClassifier(LinearClassifier):
    """Adds noise of a seed to fixed coefficients."""

    def coefs(self):
        noise = np.random.default_rng(self.seed).normal(size=(self.n_features, 3))
        return LinearClassifier(self.n_features, seed=1).coefs() + 2 * noise


def explainer(**params):
    return ADSExplainer(None, image_shape=(4, 4), engine="predict", **params)


def test_identical_estimators_have_no_spread():
    X, y = case()
    model = LinearClassifier(16, seed=1)
    refits = explain_refits(explainer(), [model] * 3, X, y)
    single = ADSExplainer(model, image_shape=(4, 4)).explain(X, y)
    np.testing.assert_allclose(refits.importances, single.importances)
    np.testing.assert_allclose(refits.standard_deviation, 0, atol=1e-12)
    # All that is left is the error over samples, here from 50 parts of them.
    np.testing.assert_allclose(refits.standard_error, single.standard_error, rtol=0.35)
    np.testing.assert_allclose(refits.standard_error, refits.sampling_error)


def test_mean_and_spread_are_those_of_the_maps():
    X, y = case()
    refits = explain_refits(explainer(), [noisy(k) for k in range(4)], X, y)
    maps = [ADSExplainer(noisy(k), image_shape=(4, 4)).explain(X, y).importances for k in range(4)]
    np.testing.assert_allclose(refits.importances, np.mean(maps, axis=0))
    np.testing.assert_allclose(refits.standard_deviation, np.std(maps, axis=0, ddof=1))
    assert refits.n_runs == 4


def test_standard_error_is_that_of_a_mean_over_samples_and_runs():
    X, y = case(100 * 60)
    means, errors, without_runs = [], [], []
    for k in range(100):  # draws of 60 samples and 3 runs
        part = slice(60 * k, 60 * k + 60)
        models = [noisy(1000 + 3 * k + j) for j in range(3)]
        refits = explain_refits(
            ADSExplainer(None, groups=[list(range(8))], engine="predict"), models, X[part], y[part]
        )
        means.append(refits.importances[0])
        errors.append(refits.standard_error[0])
        without_runs.append(refits.sampling_error[0])
    ratio = np.sqrt(np.mean(np.square(errors))) / np.std(means, ddof=1)
    assert 0.85 < ratio < 1.35  # slightly large; 100 draws tell it to within a tenth or so
    assert np.mean(without_runs) < np.mean(errors)


def test_results_of_cross_validate_are_taken_as_they_are():
    X, y = case()
    fits = cross_validate(LogisticRegression(), X, y, cv=3, return_estimator=True)
    ads = ADSExplainer(LogisticRegression(), window_shape=1, image_shape=(16,))
    refits = explain_refits(ads, fits, X, y)
    alone = explain_refits(ads, list(fits["estimator"]), X, y)
    np.testing.assert_array_equal(refits.importances, alone.importances)
    assert refits.n_runs == 3


def test_all_runs_see_the_same_samples():
    X, y = case()
    params = {"max_samples": 40, "random_state": np.random.RandomState(0)}
    refits = explain_refits(explainer(**params), [LinearClassifier(16, seed=1)] * 2, X, y)
    assert refits.explanations[0].n_samples == 40
    np.testing.assert_array_equal(refits.standard_deviation, 0)


def test_other_scores_have_a_spread_but_no_standard_error():
    X, _ = case()
    models = [Ridge(alpha).fit(X, X[:, 0]) for alpha in (1, 1000)]
    refits = explain_refits(ADSExplainer(None, image_shape=(4, 4)), models, X, X[:, 0])
    assert refits.standard_error is None
    assert refits.standard_deviation.max() > 0


def test_mean_is_drawn_beside_the_spread():
    X, y = case()
    refits = explain_refits(explainer(), [noisy(0), noisy(1)], X, y)
    display = refits.plot(np.ones((4, 4)))
    assert [ax.get_title() for ax in display.ax_] == ["mean of 2 runs", "standard deviation"]
    np.testing.assert_array_equal(display.im_[1].get_array(), refits.standard_deviation)
    assert "2 runs" in repr(refits)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"estimators": [OnePixelClassifier()]}, ValueError, "1 estimators, but expected at least"),
        ({"estimators": {"test_score": [1]}}, ValueError, "return_estimator=True"),
        ({"estimators": OnePixelClassifier()}, TypeError, "expected an instance of 'list'"),
        ({"explainer": OnePixelClassifier()}, TypeError, "expected an instance of .*ADSExplainer"),
    ],
)
def test_bad_input_is_named(change, error, message):
    X, y = case()
    models = {"explainer": explainer(), "estimators": [noisy(0), noisy(1)]} | change
    with pytest.raises(error, match=message):
        explain_refits(**models, X=X, y=y)
