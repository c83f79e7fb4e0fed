import matplotlib.pyplot as plt
import numpy as np
import pytest
from saliency.oracle import FixedClassifier, LinearClassifier, OnePixelClassifier
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import Ridge
from sklearn.naive_bayes import GaussianNB

from skff.saliency import ADSExplainer, PerturbationCurves, deletion_curve, insertion_curve

CURVES = {"deletion": deletion_curve, "insertion": insertion_curve}


@pytest.fixture(scope="module")
def digits():
    """Return a fitted classifier and 400 digits it has not seen."""
    X, y = load_digits(return_X_y=True)
    return GaussianNB(var_smoothing=1e-2).fit(X[:900] / 16, y[:900]), X[900:1300] / 16, y[900:1300]


def linear_case():
    X = np.random.default_rng(0).integers(-2, 3, (60, 10)).astype(float)
    model = LinearClassifier(n_features=10, seed=2)
    return model, X, np.where(np.arange(60) % 3, model.predict(X), 0)


@pytest.mark.parametrize("kind", CURVES)
def test_scores_equal_a_plain_loop(kind):
    model, X, y = linear_case()
    importances = np.random.default_rng(1).permutation(10).astype(float)
    found = CURVES[kind](model, X, y, importances, fill=1.0, n_points=6, n_random=0)
    for share, score in zip(found.shares, found.scores["map"], strict=True):
        is_first = importances >= np.sort(importances)[::-1][round(share * 10) - 1]
        is_first &= share > 0
        hidden = np.where(is_first if kind == "deletion" else ~is_first, 1.0, X)
        assert score == pytest.approx(np.mean(model.predict(hidden) == y))
    np.testing.assert_allclose(found.shares, [0, 0.2, 0.4, 0.6, 0.8, 1])


@pytest.mark.parametrize("kind", CURVES)
def test_curves_begin_and_end_with_everything_shown_or_hidden(kind):
    model, X, y = linear_case()
    found = CURVES[kind](model, X, y, np.arange(10.0), random_state=0)
    ends = [model.score(X, y), model.score(np.zeros_like(X), y)]
    ends = ends if kind == "deletion" else ends[::-1]
    for scores in [found.scores["map"], *found.random_scores]:
        np.testing.assert_allclose(scores[[0, -1]], ends)


def test_a_perfect_order_of_one_pixel_has_the_extreme_areas():
    X = np.random.default_rng(0).choice([-1.0, 1.0], (50, 20))
    model = OnePixelClassifier(7)
    y = model.predict(X)
    importances = np.arange(20) == 7
    settings = {"n_points": 21, "n_random": 20, "random_state": 0}
    deleted = deletion_curve(model, X, y, importances * 1.0, **settings)
    inserted = insertion_curve(model, X, y, importances * 1.0, **settings)
    low = np.mean(y == 0)
    assert deleted.areas["map"] == pytest.approx(low + (1 - low) / 40)  # one trapezoid of 1 / 20
    assert inserted.areas["map"] == pytest.approx(1 - (1 - low) / 40)
    assert deleted.areas["map"] <= deleted.random_areas.min()
    assert inserted.areas["map"] >= inserted.random_areas.max()


def test_ads_of_digits_beats_random_and_reversed_orders(digits):
    model, X, y = digits
    ads = ADSExplainer(model).explain(X, y)
    maps = {"ADS": ads, "reversed": -ads.importances}
    deleted = deletion_curve(model, X, y, maps, random_state=0)
    assert deleted.areas["ADS"] < deleted.random_areas.min()
    assert deleted.areas["ADS"] < deleted.areas["reversed"]
    inserted = insertion_curve(model, X, y, maps, random_state=0)
    assert inserted.areas["ADS"] > inserted.random_areas.mean()


def test_results_are_reproducible_whatever_the_number_of_jobs(digits):
    model, X, y = digits
    settings = {"n_points": 4, "n_random": 3, "max_samples": 100, "random_state": 0}
    one, two = (deletion_curve(model, X, y, np.zeros((8, 8)), n_jobs=n, **settings) for n in (1, 2))
    np.testing.assert_array_equal(one.scores["map"], two.scores["map"])
    np.testing.assert_array_equal(one.random_scores, two.random_scores)


def test_ties_are_broken_at_random_and_unexplained_pixels_come_last():
    model, X, y = OnePixelClassifier(0), np.ones((5, 10)), np.ones(5, int)
    starts = [
        deletion_curve(model, X, y, np.zeros(10), n_points=11, n_random=0, random_state=seed)
        .scores["map"]
        .argmin()
        for seed in range(30)
    ]
    assert len(set(starts)) > 5
    importances = np.arange(10.0)
    importances[0] = np.nan
    found = deletion_curve(model, X, y, importances, n_points=11, n_random=0)
    assert found.scores["map"].tolist() == [1.0] * 10 + [0.0]


class ChannelSum(FixedClassifier):
    """Looks at all channels of one pixel."""

    def predict(self, X):
        return (X[:, :, 1, 2].sum(axis=1) != 0).astype(int)


def test_pixels_take_their_channels_with_them():
    X, importances = np.ones((6, 3, 4, 5)), np.zeros((4, 5))
    importances[1, 2] = 1
    found = deletion_curve(ChannelSum(), X, np.ones(6, int), importances, n_points=21, n_random=0)
    assert found.scores["map"].tolist() == [1.0] + [0.0] * 20


def test_any_score_and_weights_will_do():
    X, y = load_diabetes(return_X_y=True)
    model, weight = Ridge(0.1).fit(X, y), np.linspace(0, 1, len(y))
    found = deletion_curve(model, X, y, np.arange(10.0), sample_weight=weight, n_random=1)
    assert found.scores["map"][0] == pytest.approx(model.score(X, y, weight))
    assert found.scoring == "score"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n_points": 1}, ValueError, "n_points=1, but expected an int in the range \\[2"),
        ({"n_points": 2.0}, TypeError, "n_points=2.0"),
        ({"n_random": -1}, ValueError, "n_random=-1"),
        ({"n_jobs": 0}, ValueError, "n_jobs=0"),
        ({"maps": np.zeros(9)}, ValueError, r"map 'map' of shape \(9,\), but expected \(10,\)"),
        ({"maps": {"IG": np.zeros(9)}}, ValueError, "map 'IG'"),
        ({"fill": "median"}, ValueError, "fill='median'"),
        ({"scoring": "precise"}, ValueError, "scoring='precise'"),
        ({"image_shape": (3, 3)}, ValueError, "9 values, but expected 10"),
        ({"y": [0, 1]}, ValueError, "an array of 2 as y"),
    ],
)
def test_bad_input_is_named(change, error, message):
    model, X, y = linear_case()
    case = {"X": X, "y": y, "maps": np.zeros(10)} | change
    data = [case.pop(name) for name in ("X", "y", "maps")]
    with pytest.raises(error, match=message):
        deletion_curve(model, *data, **case)


def test_display_draws_a_line_per_map_and_the_range_of_random_orders():
    model, X, y = linear_case()
    maps = {"first": np.arange(10.0), "second": -np.arange(10.0)}
    found = deletion_curve(model, X, y, maps, n_points=5, random_state=0)
    display = found.plot()
    np.testing.assert_array_equal(display.lines_["second"].get_ydata(), found.scores["second"])
    assert display.ax_.get_ylabel() == "accuracy"
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts[0] == f"first (area {found.areas['first']:.3f})"
    assert len(texts) == 3
    figure, axis = plt.subplots()
    assert found.plot(ax=axis).figure_ is figure
    plt.close("all")


def test_curves_say_their_areas_in_one_line():
    curves = PerturbationCurves(
        kind="deletion",
        shares=np.array([0.0, 1.0]),
        scores={"ADS": np.array([1.0, 0.0])},
        random_scores=np.array([[1.0, 0.5]]),
        scoring="accuracy",
    )
    areas = "ADS 0.5, random orders 0.75"
    assert repr(curves) == f"<PerturbationCurves: deletion of accuracy, areas: {areas}>"
    assert repr(curves.plot()) == "<PerturbationCurvesDisplay: deletion of 1 map>"
    plt.close("all")
