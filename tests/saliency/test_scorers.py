import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from saliency.oracle import BatchClassifier, OnePixelClassifier
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import get_scorer, log_loss
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC

from skff.saliency import ADSExplainer
from skff.saliency.scorers import SCORERS, margin, neg_log_loss


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return LogisticRegression(tol=0.01).fit(X[:900] / 16, y[:900]), X[900:1200] / 16, y[900:1200]


def test_margin_is_the_true_value_minus_the_best_other():
    X, y = load_iris(return_X_y=True)
    model = LinearSVC(random_state=0).fit(X, y)
    values = model.decision_function(X)
    expected = [v[label] - np.delete(v, label).max() for v, label in zip(values, y, strict=True)]
    assert margin(model, X, y) == pytest.approx(np.mean(expected))
    weight = np.arange(len(y))
    assert margin(model, X, y, weight) == pytest.approx(np.average(expected, weights=weight))


def test_margin_of_two_classes_is_the_signed_decision_value():
    X, y = load_iris(return_X_y=True)
    names = np.array(["no", "yes"])[(y == 0).astype(int)]
    model = LinearSVC(random_state=0).fit(X, names)
    expected = model.decision_function(X) * np.where(names == "yes", 1, -1)
    assert margin(model, X, names) == pytest.approx(expected.mean())


def test_margin_takes_probabilities_where_there_is_no_decision_function():
    X, y = load_iris(return_X_y=True)
    model = GaussianNB().fit(X, y)
    p = model.predict_proba(X[:1])[0]
    assert margin(model, X[:1], y[:1]) == pytest.approx(p[0] - p[1:].max())


def test_margin_refuses_labels_it_does_not_know(digits):
    model, X, y = digits
    with pytest.raises(ValueError, match=r"labels \[11\]"):
        margin(model, X[:1], [11])


def test_neg_log_loss_is_that_of_scikit_learn_and_takes_one_sample(digits):
    model, X, y = digits
    assert neg_log_loss(model, X, y) == pytest.approx(get_scorer("neg_log_loss")(model, X, y))
    expected = np.log(model.predict_proba(X[:1])[0, y[0]])
    assert neg_log_loss(model, X[:1], y[:1]) == pytest.approx(expected)


class Says:
    """A classifier that gives the probabilities it was made with."""

    def __init__(self, p, classes=("a", "b", "c")):
        self.p = p
        self.classes_ = np.array(classes)

    def predict_proba(self, X):
        return self.p


@given(
    st.integers(1, 8),
    st.integers(2, 5),
    st.sampled_from([np.float32, np.float64]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_neg_log_loss_is_that_of_scikit_learn_for_any_probabilities(n, k, dtype, weighs, seed):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(k, 0.02), n).astype(dtype)  # some are 0 and 1
    y = rng.integers(0, k, n)
    weight = rng.random(n) + 0.1 if weighs else None
    expected = -log_loss(y, p, labels=np.arange(k), sample_weight=weight)
    found = neg_log_loss(Says(p, np.arange(k)), np.zeros((n, 1)), y, weight)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("p", "error"),
    [
        ([[0.5, 0.5, np.nan]], "NaN"),
        ([[1.5, -0.5, 0.0]], "greater than 1"),
        ([[0.5, 0.5]], "classes"),
    ],
)
def test_neg_log_loss_refuses_what_is_no_probability(p, error):
    with pytest.raises(ValueError, match=error):
        neg_log_loss(Says(np.array(p)), np.zeros((1, 1)), ["a"])


def test_neg_log_loss_refuses_labels_it_does_not_know():
    with pytest.raises(ValueError, match=r"labels \['d'\]"):
        neg_log_loss(Says(np.full((1, 3), 1 / 3)), np.zeros((1, 1)), ["d"])


def test_neg_log_loss_warns_of_what_does_not_sum_to_one():
    with pytest.warns(UserWarning, match="sum to one"):
        neg_log_loss(Says(np.array([[0.2, 0.2, 0.2]])), np.zeros((1, 1)), ["a"])


@pytest.mark.parametrize("scoring", SCORERS)
@pytest.mark.parametrize("n_samples", [1, 4])
def test_a_handful_of_images_has_a_map_that_points_at_their_strokes(scoring, n_samples, digits):
    model, X, y = digits
    found = ADSExplainer(model, scoring=scoring).explain(X[:n_samples], y[:n_samples])
    assert found.scoring == scoring
    assert len(np.unique(found.importances)) > 20
    assert found.standard_error is None and found.p_values is None
    ink = X[:n_samples].mean(axis=0).reshape(8, 8)
    around = sum(ink[i : 8 - 2 + i, j : 8 - 2 + j] for i in range(3) for j in range(3))
    importances = abs(found.importances[1:-1, 1:-1])
    assert importances[around > np.median(around)].sum() > importances.sum() / 2
    hidden = X[:n_samples].reshape(-1, 8, 8).copy()
    hidden[:, 2:5, 3:6] = 0
    hidden = hidden.reshape(-1, 64)
    scores = [SCORERS[scoring](model, data, y[:n_samples]) for data in (X[:n_samples], hidden)]
    assert found.importances[3, 4] == pytest.approx(scores[0] - scores[1])


def test_per_class_maps_of_any_score_are_those_of_accuracy(digits):
    model, X, y = digits
    plain = ADSExplainer(model).explain(X, y)
    for scoring in ("neg_log_loss", "margin", "f1_macro"):
        found = ADSExplainer(model, scoring=scoring).explain(X, y)
        np.testing.assert_allclose(found.per_class, plain.per_class, atol=1e-15)
        assert found.classes.tolist() == plain.classes.tolist()


def test_per_class_maps_of_a_batch_dependent_classifier_are_those_of_the_whole_batch():
    X = np.random.default_rng(0).normal(size=(60, 16))
    y = (X.sum(axis=1) > 0).astype(int)
    plain = ADSExplainer(BatchClassifier(), engine="score", image_shape=(4, 4)).explain(X, y)
    found = ADSExplainer(BatchClassifier(), scoring=minus_errors, image_shape=(4, 4)).explain(X, y)
    np.testing.assert_allclose(found.per_class, plain.per_class, atol=1e-15)
    np.testing.assert_allclose(found.importances, plain.importances * 60)


def minus_errors(estimator, X, y):
    return -float((estimator.predict(X) != y).sum())


def test_labels_of_another_kind_than_predictions_leave_no_maps_per_class():
    found = ADSExplainer(OnePixelClassifier(4), scoring=always_one).explain(
        np.ones((2, 9)), ["a", "b"]
    )
    assert found.per_class is None and not found.importances.any()


def always_one(estimator, X, y):
    return 1.0
