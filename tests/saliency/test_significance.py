import numpy as np
import pytest
from saliency.oracle import FixedClassifier, LinearClassifier, OnePixelClassifier
from scipy.stats import binomtest, false_discovery_control

from skff.saliency import ADSExplainer, ADSExplanation

N_SIGNAL, N_NULL, N_IGNORED = 2, 8, 8


class SignalOrParity(FixedClassifier):
    """Votes with the signal pixels for half of the samples, guesses for the others.

    The guess is a parity of the signs of null pixels: hiding one changes it as often to the worse
    as to the better, so its importance is noise around zero. The last feature says which half.
    """

    def predict(self, X):
        signal = X[:, :N_SIGNAL].sum(axis=1) > 0
        guess = (X[:, N_SIGNAL : N_SIGNAL + N_NULL] > 0).sum(axis=1) % 2 == 1
        return np.where(X[:, -1] > 0, signal, guess).astype(int)


def draw(seed, n_samples=600):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n_samples)
    X = rng.normal(size=(n_samples, N_SIGNAL + N_NULL + N_IGNORED + 1))
    X[:, :N_SIGNAL] += (2 * y - 1)[:, None]
    return X, y


def marks(seed, alpha):
    explainer = ADSExplainer(SignalOrParity(), window_shape=1)
    return explainer.explain(*draw(seed)).significant(alpha)


@pytest.fixture(scope="module")
def many_marks():
    return np.stack([marks(seed, alpha=0.2) for seed in range(100)])


def test_false_discovery_rate_holds_over_many_seeds(many_marks):
    is_null = np.zeros(many_marks.shape[1], dtype=bool)
    is_null[N_SIGNAL:-1] = True
    false, found = many_marks[:, is_null].sum(axis=1), many_marks.sum(axis=1)
    # Benjamini and Hochberg: at most alpha times the share of true nulls; 0.05 for 100 seeds.
    assert np.mean(false / np.maximum(found, 1)) <= 0.2 * is_null.mean() + 0.05
    assert false.any()  # the nulls are a real temptation


def test_ignored_pixels_are_never_marked(many_marks):
    assert not many_marks[:, N_SIGNAL + N_NULL : -1].any()


def test_signal_pixels_are_found(many_marks):
    assert many_marks[:, :N_SIGNAL].mean() > 0.9


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_p_values_of_a_null_pixel_are_rarely_small(alpha):
    shares = []
    for seed in range(60):
        found = ADSExplainer(SignalOrParity(), window_shape=1).explain(*draw(seed))
        shares.append(found.p_values[N_SIGNAL : N_SIGNAL + N_NULL] <= alpha)
    assert np.mean(shares) <= alpha + 0.04


def test_p_values_are_mcnemars_exact_ones():
    X = np.random.default_rng(0).integers(-2, 3, (60, 9)).astype(float)
    model = LinearClassifier(n_features=9, seed=2)
    y = np.where(np.arange(60) % 3, model.predict(X), 0)
    found = ADSExplainer(model, window_shape=1).explain(X, y)
    for feature in range(9):
        hidden = X.copy()
        hidden[:, feature] = 0
        d = (model.predict(X) == y) * 1 - (model.predict(hidden) == y)
        n_flips = int(abs(d).sum())
        expected = binomtest(int((d > 0).sum()), n_flips).pvalue if n_flips else 1.0
        assert found.p_values[feature] == pytest.approx(expected)
    adjusted = false_discovery_control(found.p_values)
    for alpha in (0.01, 0.05, 0.5):
        np.testing.assert_array_equal(found.significant(alpha), adjusted <= alpha)
    assert found.significant(0.05, method="by").sum() <= found.significant(0.05).sum()


def test_weighted_p_values_agree_with_exact_ones_where_both_apply():
    X, y = draw(0)
    plain = ADSExplainer(SignalOrParity(), window_shape=1).explain(X, y)
    equal = ADSExplainer(SignalOrParity(), window_shape=1).explain(X, y, np.full(len(y), 2.0))
    assert (equal.p_values[N_SIGNAL + N_NULL : -1] == 1).all()
    np.testing.assert_allclose(equal.p_values, plain.p_values, atol=0.1)


def test_coverage_marks_only_pixels_that_share_a_window_with_a_used_one():
    X = np.random.default_rng(0).choice([-1.0, 1.0], (60, 8, 8))
    model = OnePixelClassifier(27)  # row 3, column 3
    y = model.predict(X)
    found = ADSExplainer(model, aggregate="coverage").explain(X, y)
    rows, columns = np.indices((8, 8))
    near = np.maximum(abs(rows - 3), abs(columns - 3)) <= 2
    assert not found.significant()[~near].any()
    assert found.significant()[3, 3]
    assert (0 <= found.p_values).all() and (found.p_values <= 1).all()


def test_significance_needs_accuracy_on_several_samples():
    model, X = OnePixelClassifier(3), np.ones((3, 9))
    with pytest.raises(ValueError, match="accuracy on at least 2"):
        ADSExplainer(model).explain(X[:1], [1]).significant()
    scored = ADSExplainer(model, scoring=minus_errors).explain(X, [1, 1, 1])
    with pytest.raises(ValueError, match="explanation of 'minus_errors'"):
        scored.significant()


def minus_errors(estimator, X, y):
    return -float((estimator.predict(X) != y).sum())


@pytest.mark.parametrize("alpha", [0, 1, -0.5])
def test_alpha_is_a_probability(alpha):
    found = ADSExplainer(OnePixelClassifier(3)).explain(np.ones((3, 9)), [1] * 3)
    with pytest.raises(ValueError, match="alpha="):
        found.significant(alpha)
    with pytest.raises(ValueError, match=r"one of \['bh', 'by'\]"):
        found.significant(method="holm")


def test_p_values_survive_saving(tmp_path):
    found = ADSExplainer(SignalOrParity(), window_shape=1).explain(*draw(0))
    found.save(tmp_path / "map.npz")
    loaded = ADSExplanation.load(tmp_path / "map.npz")
    np.testing.assert_array_equal(loaded.significant(), found.significant())
