"""Several scores, separate channels, and fills that know the window, in the explainer."""

import numpy as np
import pytest
from saliency.oracle import FixedClassifier, LinearClassifier, OnePixelClassifier
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from skff import ADSExplainer
from skff.saliency.fills import Blur, Conditional, Constant, Mean, Permute

ENGINES = ["score", "predict", "incremental"]


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


@pytest.fixture(scope="module")
def logistic(digits):
    return LogisticRegression(tol=0.01).fit(digits[0][:800], digits[1][:800])


# several scores


def test_several_scores_are_those_of_one_at_a_time(logistic, digits):
    X, y = digits[0][800:900], digits[1][800:900]
    names = ["accuracy", "f1_macro", "neg_log_loss"]
    found = ADSExplainer(logistic, scoring=names).explain(X, y)
    assert list(found) == names
    for name in names:
        alone = ADSExplainer(logistic, scoring=name).explain(X, y)
        np.testing.assert_allclose(found[name].importances, alone.importances, atol=1e-12)
        np.testing.assert_allclose(found[name].per_class, alone.per_class)
        assert found[name].scoring == name
        assert (found[name].standard_error is None) == (name != "accuracy")


def test_a_dict_gives_scores_the_users_names(logistic, digits):
    X, y = digits[0][800:850], digits[1][800:850]

    def own(estimator, X, y):
        assert estimator is logistic  # not something that answers for it
        return f1_score(y, estimator.predict(X), average="micro")

    found = ADSExplainer(logistic, scoring={"plain": None, "own": own}).explain(X, y)
    assert list(found) == ["plain", "own"]
    np.testing.assert_allclose(found["plain"].importances, found["own"].importances, atol=1e-12)


def test_scores_share_their_predictions(logistic, digits):
    class Counting(LogisticRegression):
        def predict(self, X):
            calls.append(len(X))
            return super().predict(X)

    X, y, counts = digits[0][:60], digits[1][:60], []
    model = Counting(tol=0.01).fit(X, y)
    for scoring in ("balanced_accuracy", ["balanced_accuracy", "f1_macro", "recall_micro"]):
        calls = []
        ADSExplainer(model, scoring=scoring).explain(X, y)
        counts.append(len(calls))
    assert counts[1] == counts[0]


def test_scores_of_an_estimator_that_writes_to_its_input_are_right(digits):
    class Writing(LinearClassifier):
        def predict(self, X):
            labels = super().predict(X)
            X[:] = 0
            return labels

    def own(estimator, X, y):
        return float(np.mean(estimator.predict(X) == y))

    X = digits[0][:60]
    y = np.where(np.arange(60) % 4 == 0, 0, LinearClassifier(64, 10).predict(X))
    scoring = {"first": own, "second": own, "accuracy": "accuracy"}
    found = ADSExplainer(Writing(64, 10), scoring=scoring).explain(X.copy(), y)
    expected = ADSExplainer(LinearClassifier(64, 10)).explain(X, y)
    for one in found.values():
        np.testing.assert_allclose(one.importances, expected.importances, atol=1e-12)


@pytest.mark.parametrize(
    ("scoring", "error", "match"),
    [
        ([], ValueError, "at least one score"),
        (["accuracy", "accuracy"], ValueError, "each name once"),
        ([None], TypeError, "names of scorers"),
        ({1: "accuracy"}, TypeError, "names of scorers"),
        (["nonsense"], ValueError, "nonsense"),
        ({"a": 3}, TypeError, "scoring=3"),
    ],
)
def test_scorings_that_are_none_are_refused(scoring, error, match, logistic, digits):
    with pytest.raises(error, match=match):
        ADSExplainer(logistic, scoring=scoring).explain(digits[0][:9], digits[1][:9])


# channels


class RedAndBlue(FixedClassifier):
    """Needs the corner pixel of channel 0 and the centre pixel of channel 2."""

    def predict(self, X):
        return ((X[:, 0, 0, 0] > 0) & (X[:, 2, 2, 2] > 0)).astype(int)


@pytest.mark.parametrize("engine", ["score", "predict"])
def test_each_channel_has_a_map_of_its_own(engine):
    X, y = np.ones((20, 3, 5, 5)), np.ones(20, dtype=int)
    settings = {"window_shape": 1, "engine": engine}
    found = ADSExplainer(RedAndBlue(), channels="separate", **settings).explain(X, y)
    expected = np.zeros((3, 5, 5))
    expected[0, 0, 0] = expected[2, 2, 2] = 1
    np.testing.assert_array_equal([one.importances for one in found], expected)
    joint = ADSExplainer(RedAndBlue(), **settings).explain(X, y)
    np.testing.assert_array_equal(joint.importances, expected.max(axis=0))


class LastAxis(RedAndBlue):
    def predict(self, X):
        return super().predict(np.moveaxis(X, -1, 1))


def test_channels_may_come_last():
    X, y = np.ones((20, 5, 5, 3)), np.ones(20, dtype=int)
    settings = {"window_shape": 1, "image_shape": (5, 5, 3), "channels": "separate"}
    found = ADSExplainer(LastAxis(), **settings).explain(X, y)
    assert [one.importances.sum() for one in found] == [1, 0, 1]


# fills


@pytest.mark.parametrize(
    ("fill", "same"), [(Constant(0.3), 0.3), (Mean(), "mean"), ("mean", lambda X: X.mean(axis=0))]
)
@pytest.mark.parametrize("engine", ENGINES)
def test_fills_that_do_not_know_the_window_take_every_engine(engine, fill, same, digits):
    X, y = digits[0][:80], digits[1][:80]
    model = LinearClassifier(64, 10)
    found, other = (
        ADSExplainer(model, fill=one, engine=engine).explain(X, y) for one in (fill, same)
    )
    np.testing.assert_array_equal(found.importances, other.importances)
    assert found.engine == engine


@pytest.mark.parametrize("fill", [Permute(), Conditional(), "inpaint", Blur(1.0)])
def test_engines_and_jobs_agree_on_fills_that_know_the_window(fill, logistic, digits):
    X, y = digits[0][800:900], digits[1][800:900]
    settings = {"fill": fill, "random_state": 3, "n_repeats": 3}
    slow = ADSExplainer(logistic, engine="score", **settings).explain(X, y)
    assert slow.importances.any()
    for n_jobs in (1, 2):
        fast = ADSExplainer(logistic, n_jobs=n_jobs, **settings).explain(X, y)
        assert fast.engine == "predict"
        for field in ("importances", "standard_error", "p_values", "per_class"):
            np.testing.assert_array_equal(getattr(fast, field), getattr(slow, field))


def test_a_conditional_fill_of_a_duplicated_column_changes_nothing():
    X = np.random.default_rng(0).normal(size=(300, 6))
    X[:, 5] = X[:, 0]
    y = (X[:, 0] > 0).astype(int)
    settings = {"window_shape": 1, "image_shape": (6,)}
    plain = ADSExplainer(OnePixelClassifier(0), **settings).explain(X, y)
    fill = Conditional(alpha=1e-6, reach=None)
    found = ADSExplainer(OnePixelClassifier(0), fill=fill, **settings).explain(X, y)
    assert plain.importances[0] > 0.3
    assert abs(found.importances[0]) < 0.01


def test_draws_of_a_random_fill_are_averaged_and_their_spread_enters_the_error(digits):
    X, y = digits[0][:120], digits[1][:120]
    model = LinearClassifier(64, 10)
    y = np.where(np.arange(120) % 3 == 0, y, model.predict(X))
    singles = [
        ADSExplainer(model, fill="permute", n_repeats=1, random_state=seed).explain(X, y)
        for seed in range(25)
    ]
    maps = np.stack([one.importances for one in singles])
    found = ADSExplainer(model, fill="permute", n_repeats=25, random_state=0).explain(X, y)
    spread = np.sqrt(2 / 25) * maps.std(axis=0, ddof=1)
    assert (np.abs(found.importances - maps.mean(axis=0)) <= 5 * spread + 1e-12).all()
    # At least the error of sampling, and not that of a single draw on top of it.
    variance = np.mean([one.standard_error**2 for one in singles], axis=0)
    expected = np.sqrt(variance + maps.var(axis=0, ddof=1) / 25)
    np.testing.assert_allclose(found.standard_error, expected, rtol=0.3, atol=1e-4)


def test_a_plain_function_may_know_the_window(digits):
    X, y = digits[0][:50], digits[1][:50]
    seen = []

    def fill(X, pixels, random_state):
        seen.append((X.shape, pixels.shape, int(pixels.sum())))
        return np.zeros((1, pixels.sum(), 1))

    model = LinearClassifier(64, 10)
    found = ADSExplainer(model, fill=fill).explain(X, y)
    expected = ADSExplainer(model, fill=0.0).explain(X, y)
    np.testing.assert_array_equal(found.importances, expected.importances)
    assert {shape for shape, *_ in seen} == {(50, 8, 8, 1)}
    assert {n for *_, n in seen} == {1, 4, 6, 9}  # the first is a trial


def test_values_of_another_shape_are_refused(digits):
    def fill(X, pixels, random_state):
        return np.zeros((7, 7, 7))

    with pytest.raises(ValueError, match=r"values of shape \(7, 7, 7\) from fill"):
        ADSExplainer(LinearClassifier(64, 10), fill=fill).explain(digits[0][:9], digits[1][:9])


def test_one_channel_of_several_is_filled_apart():
    X = np.random.default_rng(0).normal(size=(40, 2, 5, 5))
    seen = []

    class Spy(FixedClassifier):
        def predict(self, X):
            seen.append(X.copy())
            return np.zeros(len(X), dtype=int)

    explainer = ADSExplainer(
        Spy(), fill="permute", n_repeats=1, channels="separate", window_shape=1, engine="score"
    )
    explainer.explain(X, np.zeros(40, dtype=int))
    changed = {
        tuple((images != X).any(axis=(0, 2, 3))) for images in seen if images.shape == X.shape
    }
    assert changed == {(False, False), (True, False), (False, True)}
