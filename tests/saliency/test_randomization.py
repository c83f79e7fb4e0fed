import copy

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from saliency.oracle import OnePixelClassifier
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from skorch import NeuralNetClassifier

from skff import FFClassifier
from skff.saliency import ADSExplainer, randomization_check
from skff.saliency._comparison import permute_weights


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def digits():
    """Return 1000 digits to fit to, and 400 others."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    return (X[:1000], y[:1000]), (X[1000:1400], y[1000:1400])


@pytest.fixture(scope="module")
def forward_forward(digits):
    return FFClassifier((60, 60), max_iter=8, random_state=0).fit(*digits[0])


def test_the_map_of_a_forward_forward_network_is_forgotten_with_its_weights(
    forward_forward, digits
):
    ads = ADSExplainer(forward_forward)
    check = randomization_check(ads, *digits[1], n_repeats=3, random_state=0)
    assert forward_forward.score(*digits[1]) > 0.85
    assert check.scores.mean() < 0.25
    assert abs(check.rank_correlations.mean()) < 0.4
    again = randomization_check(ads, *digits[1], n_repeats=3, random_state=0)
    np.testing.assert_array_equal(again.rank_correlations, check.rank_correlations)
    np.testing.assert_array_equal(check.original.importances, ads.explain(*digits[1]).importances)


def test_an_estimator_that_is_not_changed_has_the_same_map(forward_forward, digits):
    ads = ADSExplainer(forward_forward, max_samples=200, random_state=np.random.RandomState(0))
    check = randomization_check(ads, *digits[1], randomize=lambda model, seed: model, n_repeats=2)
    np.testing.assert_allclose(check.rank_correlations, 1)
    np.testing.assert_allclose(check.absolute_rank_correlations, 1)


def test_correlations_are_spearmans_of_the_pixels_explained():
    X = np.random.default_rng(0).normal(size=(100, 36))
    y = (X @ np.arange(36) > 0).astype(int)
    mask = np.ones((6, 6), dtype=bool)
    mask[0] = False
    ads = ADSExplainer(LogisticRegression().fit(X, y), mask=mask, image_shape=(6, 6))
    check = randomization_check(ads, X, y, n_repeats=3, random_state=0)
    inside = check.original.importances[mask]
    for k, one in enumerate(check.randomized):
        expected = spearmanr(inside, one.importances[mask]).statistic
        assert check.rank_correlations[k] == pytest.approx(expected)
        expected = spearmanr(np.abs(inside), np.abs(one.importances[mask])).statistic
        assert check.absolute_rank_correlations[k] == pytest.approx(expected)


def test_a_flat_map_has_no_correlation():
    X = np.random.default_rng(0).normal(size=(50, 9))
    model = OnePixelClassifier(4)
    ads = ADSExplainer(model, image_shape=(3, 3), window_shape=1)
    other = OnePixelClassifier(8)
    flat = randomization_check(
        ads, np.where(np.arange(9) == 8, 0, X), model.predict(X), randomize=lambda m, seed: other
    )
    np.testing.assert_array_equal(flat.rank_correlations, 0)


def test_a_refit_on_permuted_labels_is_a_randomisation_too(digits):
    def refit(model, random_state):
        X, y = digits[0]
        return clone(model).fit(X, np.random.default_rng(random_state).permutation(y))

    model = GaussianNB(var_smoothing=1e-2).fit(*digits[0])
    check = randomization_check(ADSExplainer(model), *digits[1], randomize=refit, n_repeats=2)
    assert (check.scores < 0.3).all()
    assert "2 randomised estimators" in repr(check)


def skorch_net():
    torch.manual_seed(0)
    layers = torch.nn.Linear(64, 20), torch.nn.ReLU(), torch.nn.Linear(20, 10)
    return NeuralNetClassifier(
        torch.nn.Sequential(*layers),
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=2,
        train_split=None,
        verbose=0,
    )


MODELS = {
    "linear": LogisticRegression(tol=0.01),
    "network": MLPClassifier((20,), random_state=0, max_iter=20, learning_rate_init=0.01),
    "pipeline": make_pipeline(MinMaxScaler(), LogisticRegression(tol=0.01)),
    "search": GridSearchCV(LogisticRegression(tol=0.01), {"C": [1.0]}, cv=2),
    "forward_forward": FFClassifier((20,), max_iter=1, random_state=0),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", [*MODELS, "skorch"])
def test_weights_are_permuted_in_a_copy(name, digits):
    model = skorch_net() if name == "skorch" else clone(MODELS[name])
    (X, y), (X_test, _) = digits
    model.fit(X, y)
    before = copy.deepcopy(model).predict(X_test)
    first, same, other = (permute_weights(model, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(model.predict(X_test), before)
    np.testing.assert_array_equal(first.predict(X_test), same.predict(X_test))
    for randomized in (first, other):
        assert np.mean(randomized.predict(X_test) == before) < 0.5
    assert (first.predict(X_test) != other.predict(X_test)).any()


def test_maps_are_drawn_side_by_side(forward_forward, digits):
    check = randomization_check(
        ADSExplainer(forward_forward, max_samples=50), *digits[1], n_repeats=2
    )
    titles = [ax.get_title() for ax in check.plot().ax_]
    assert titles == ["fitted", "randomised 1", "randomised 2"]


@pytest.mark.filterwarnings("ignore::skff.exceptions.ConstantPredictionWarning")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"explainer": ADSExplainer(OnePixelClassifier())}, TypeError, "pass randomize="),
        ({"randomize": "weights"}, TypeError, "randomize='weights'"),
        ({"n_repeats": 0}, ValueError, "n_repeats=0"),
        ({"explainer": None}, TypeError, "expected an instance of .*ADSExplainer"),
    ],
)
def test_bad_input_is_named(change, error, message, forward_forward, digits):
    X, y = digits[1]
    with pytest.raises(error, match=message):
        randomization_check(
            **({"explainer": ADSExplainer(forward_forward), "X": X, "y": y} | change)
        )
