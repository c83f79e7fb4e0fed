import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from strategies import activities

from skff import FFClassifier
from skff.forward_forward.goodness import SumSquare, goodness_gradient
from skff.recipes import RECIPES, ExcessSquare

every_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
TINY = {"hidden_layer_sizes": (60, 60), "max_iter": 15, "batch_size": 20, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, test_size=0.5, stratify=y, random_state=0)


@every_recipe
def test_recipe_learns_the_digits(recipe, digits):
    X_train, X_test, y_train, y_test = digits
    estimator = recipe.estimator(**TINY).fit(X_train, y_train)
    assert estimator.score(X_test, y_test) > 0.85


def test_both_readouts_of_hintons_recipe_learn_the_digits(digits):
    X_train, X_test, y_train, y_test = digits
    # A small network sees too few updates for a label as faint as that of MNIST's images.
    scaler, classifier = RECIPES["HINTON_2022"].estimator(**TINY, label_scale=0.5)
    classifier.fit(scaler.transform(X_train), y_train)
    X_test = scaler.transform(X_test)
    goodness = classifier.layer_goodness(X_test)[1:].sum(axis=0)
    for predicted in (classifier.predict(X_test), goodness.argmax(axis=1)):
        assert (predicted == y_test).mean() > 0.85


def test_hintons_network_does_not_see_how_dark_an_image_is(digits):
    X_train, X_test, y_train, _ = digits
    estimator = RECIPES["HINTON_2022"].estimator(**TINY | {"max_iter": 1}).fit(X_train, y_train)
    darker = X_test * np.linspace(0.1, 1, len(X_test))[:, np.newaxis]
    np.testing.assert_allclose(
        estimator.predict_proba(darker), estimator.predict_proba(X_test), atol=1e-5
    )


@every_recipe
def test_estimator_is_the_classifier_behind_the_preprocessing(recipe):
    estimator = recipe.estimator(max_iter=3)
    *before, classifier = getattr(estimator, "steps", [("", estimator)])
    assert classifier[1].get_params() == recipe.classifier(max_iter=3).get_params()
    assert len(before) == (recipe.preprocessing is not None)
    for _, step in before:
        assert type(step) is type(recipe.preprocessing)
        assert step is not recipe.preprocessing


@every_recipe
def test_recipe_sets_what_it_says_and_nothing_else(recipe):
    params = recipe.classifier().get_params()
    assert params == FFClassifier().get_params() | recipe.parameters


@every_recipe
def test_overrides_win(recipe):
    classifier = recipe.classifier(max_iter=3, loss="swish")
    assert (classifier.max_iter, classifier.loss) == (3, "swish")


@every_recipe
def test_unknown_override_is_refused(recipe):
    with pytest.raises(TypeError, match="n_epochs"):
        recipe.classifier(n_epochs=3)


@pytest.mark.parametrize("name", ["goodness", "loss"])
def test_every_classifier_gets_components_of_its_own(name):
    recipe = RECIPES["HINTON_2022"]
    components = [recipe.parameters[name], *(getattr(recipe.classifier(), name) for _ in "ab")]
    assert len(set(map(id, components))) == 3
    assert len(set(components)) == 1


@every_recipe
def test_recipe_names_its_source(recipe):
    assert recipe.source
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.measured = "0 %"


@pytest.mark.parametrize("n_units", [1, 7, 2000])
def test_hintons_threshold_is_the_width_of_the_layer(n_units):
    goodness, loss = (RECIPES["HINTON_2022"].parameters[name] for name in ("goodness", "loss"))
    g = goodness(torch.ones(3, n_units))  # a sum of squares equal to the width
    torch.testing.assert_close(loss(g, g), torch.full((3,), 2.0).log())


@given(h=activities())
def test_excess_square_is_the_sum_of_squares_above_the_width(h):
    excess = (h.square() - 1).sum(dim=1)
    torch.testing.assert_close(ExcessSquare()(h), excess, atol=1e-4, rtol=1e-5)
    upstream = torch.ones(len(h))
    torch.testing.assert_close(
        goodness_gradient(ExcessSquare(), h, upstream), goodness_gradient(SumSquare(), h, upstream)
    )
