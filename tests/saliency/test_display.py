import io
import re
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from saliency.oracle import OnePixelClassifier
from sklearn.dummy import DummyClassifier
from sklearn.naive_bayes import GaussianNB

import skff.saliency
from skff.saliency import ADSDisplay, ADSExplainer, interactions


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def explain(share=1.0, shape=(4, 5)):
    """Return a map that loses `share` of the samples around one pixel."""
    X = np.where(np.arange(20) < 20 * share, 1.0, -1.0)[:, None] * np.ones(20)
    model = OnePixelClassifier(7)
    return ADSExplainer(model, image_shape=shape).explain(X, model.predict(X))


def test_colours_are_centred_at_zero_and_named_by_units():
    found = explain()
    display = found.plot()
    low, high = display.im_.get_clim()
    assert -low == high == found.importances.max()
    assert display.figure_.axes[-1].get_ylabel() == "accuracy drop"
    np.testing.assert_array_equal(display.im_.get_array(), found.importances)


@pytest.mark.parametrize(
    ("scoring", "shown"),
    [("neg_log_loss", "log-likelihood drop"), ("balanced_accuracy", "balanced_accuracy drop")],
)
def test_the_scale_has_the_name_that_readers_know_the_score_by(scoring, shown):
    X = np.where(np.arange(20) < 10, 1.0, -1.0)[:, None] * np.ones(20)
    model = GaussianNB().fit(X + 0.1 * np.arange(20)[:, None], X[:, 0])
    found = ADSExplainer(model, image_shape=(4, 5), scoring=scoring).explain(X, X[:, 0])
    assert found.plot().figure_.axes[-1].get_ylabel() == shown


def test_several_maps_share_one_scale_and_one_colour_bar():
    weak, strong = explain(0.2), explain(0.8)
    display = ADSDisplay.from_explanation({"weak": weak, "strong": strong})
    assert [im.get_clim() for im in display.im_] == [(-0.8, 0.8)] * 2
    assert [ax.get_title() for ax in display.ax_] == ["weak", "strong"]
    assert len(display.figure_.axes) == 3


def test_more_maps_than_fit_a_row_continue_below():
    display = ADSDisplay([np.eye(3)] * 5).plot()
    assert len(display.ax_) == 5
    assert len(display.figure_.axes) == 6


@pytest.mark.parametrize(
    ("n_maps", "shape", "largest"),
    [(1, (28, 28), 0.07), (1, (8, 8), 0.7), (3, (28, 28), 0.7), (3, (8, 8), 0.07)],
)
def test_no_label_is_cut_at_the_edge_of_the_picture(n_maps, shape, largest):
    maps = [np.linspace(0, largest, np.prod(shape)).reshape(shape)] * n_maps
    display = ADSDisplay(maps, names=["backprop, scikit-learn"] * n_maps).plot(image=maps[0])
    display.figure_.suptitle("a title on top")
    assert_all_is_inside(display.figure_)


@pytest.mark.parametrize("n_regions", [2, 12])
def test_no_name_of_a_region_is_cut(n_regions):
    X = np.ones((20, n_regions))
    model = OnePixelClassifier(1)
    groups = {f"worst fractal dimension {k}": [k] for k in range(n_regions)}
    explainer = ADSExplainer(model, groups=groups)
    found = interactions(explainer, X, model.predict(X))
    assert_all_is_inside(found.plot().figure_)


def assert_all_is_inside(figure):
    figure.savefig(io.BytesIO())
    found = figure.get_tightbbox()  # in inches
    width, height = figure.get_size_inches()
    assert min(found.x0, found.y0, width - found.x1, height - found.y1) >= 0


def test_a_given_axes_is_drawn_into():
    figure, axis = plt.subplots()
    display = explain().plot(ax=axis, colorbar=False)
    assert (display.ax_, display.figure_) == (axis, figure)
    assert figure.axes == [axis]
    assert axis.get_xlabel() == "column (pixels)"


@pytest.mark.parametrize(
    "image",
    [
        np.eye(4, 5),
        np.ones(20),
        np.ones((4, 5, 3)),
        np.eye(4, 5).tolist(),
        np.ones(20).tolist(),
        np.ones((4, 5, 3)).tolist(),
        list(np.eye(4, 5)),
    ],
)
def test_an_image_shows_through_where_the_map_is_weak(image):
    found = explain()
    display = found.plot(image)
    alpha = display.im_.get_alpha()
    assert len(display.ax_.images) == 2
    assert alpha[found.importances == 0].max() == 0
    assert alpha[found.importances > 0].min() > 0.8


def test_an_image_of_bytes_is_drawn_as_that_of_floats():
    image = np.linspace(100, 250, 20).astype(np.uint8).reshape(4, 5)
    limits = [explain().plot(one).ax_.images[0].get_clim() for one in (image, image.astype(float))]
    assert limits == [(100, 400)] * 2


def test_colours_that_would_be_clipped_are_refused():
    with pytest.raises(ValueError, match="colours of up to 255, but expected"):
        explain().plot(np.full((4, 5, 3), 255.0))


def test_a_nested_list_is_drawn_like_the_array():
    image = np.arange(20.0).reshape(4, 5)
    for drawn in (
        explain().plot(image.tolist()),
        ADSDisplay([np.eye(4, 5)] * 4).plot(image=[*image]),
    ):
        for axis in np.ravel(drawn.ax_):
            np.testing.assert_array_equal(axis.images[0].get_array(), image)


@pytest.mark.parametrize("make", [np.asarray, np.ravel, np.ndarray.tolist])
def test_a_list_of_images_has_one_per_map(make):
    images = [np.full((4, 5), 1.0), None, np.full((4, 5), 3.0)]
    listed = [None if one is None else make(one) for one in images]
    display = ADSDisplay([np.eye(4, 5)] * 3).plot(image=listed)
    for axis, image in zip(display.ax_, images, strict=True):
        assert len(axis.images) == (1 if image is None else 2)
        if image is not None:
            np.testing.assert_array_equal(axis.images[0].get_array(), image)


def test_sequences_are_drawn_as_bars():
    found = explain(shape=(20,))
    display = found.plot()
    assert [bar.get_height() for bar in display.im_] == found.importances.tolist()
    assert display.ax_.get_ylabel() == "accuracy drop"


def test_from_estimator_draws_what_the_explainer_finds():
    X = np.ones((5, 3, 4))
    model = OnePixelClassifier(0)
    display = ADSDisplay.from_estimator(model, X, np.ones(5, int), window_shape=1, cmap="PuOr")
    expected = ADSExplainer(model, window_shape=1).explain(X, np.ones(5, int))
    np.testing.assert_array_equal(display.im_.get_array(), expected.importances)
    assert display.im_.get_cmap().name == "PuOr"


def test_im_kw_reaches_the_image():
    assert explain().plot(im_kw={"vmax": 3.0}).im_.get_clim()[1] == 3.0


def test_a_zero_map_can_be_drawn():
    assert ADSDisplay([np.zeros((3, 3))]).plot().im_.get_clim() == (-1, 1)
    ADSDisplay([np.zeros(3)]).plot()


@pytest.mark.parametrize(
    ("maps", "params", "message"),
    [
        ([np.eye(3)] * 2, {"ax": [None]}, "1 axes, but expected 2"),
        ([np.eye(3)] * 2, {"image": [np.eye(3)]}, "1 images, but expected 2"),
        ([np.eye(3)], {"image": np.eye(4)}, r"image of shape \(4, 4\)"),
        ([np.eye(3)], {"image": np.eye(4).tolist()}, r"image of shape \(4, 4\)"),
        ([np.ones(3)], {"image": np.eye(3)}, "image for a sequence"),
    ],
)
def test_bad_drawing_input_is_named(maps, params, message):
    with pytest.raises(ValueError, match=message):
        ADSDisplay(maps).plot(**params)


def test_names_match_maps():
    with pytest.raises(ValueError, match="1 names, but expected 2"):
        ADSDisplay([np.eye(3)] * 2, names=["one"]).plot()


def test_maps_are_a_list():
    for maps in (np.eye(3), []):
        with pytest.raises(TypeError, match="expected a list"):
            ADSDisplay(maps).plot()


def test_classes_are_drawn_with_one_scale():
    found = explain(0.4)
    display = ADSDisplay.from_explanation(found, per_class=True)
    assert [ax.get_title() for ax in display.ax_] == ["class 0", "class 1"]
    for im, importances in zip(display.im_, found.per_class, strict=True):
        np.testing.assert_array_equal(im.get_array(), importances)
        assert im.get_clim() == (-1, 1)


def test_significant_pixels_are_outlined_along_their_edges():
    found = explain()
    display = found.plot(significance=0.05)
    segments = display.ax_.collections[0].get_segments()
    rows, columns = np.nonzero(found.significant(0.05))
    n_neighbours = sum(
        (rows[k] + i, columns[k] + j) in set(zip(rows, columns, strict=True))
        for k in range(len(rows))
        for i, j in [(0, 1), (1, 0), (0, -1), (-1, 0)]
    )
    assert len(rows) and len(segments) == 4 * len(rows) - n_neighbours
    inside = np.concatenate(segments)
    assert inside[:, 0].min() == columns.min() - 0.5
    assert inside[:, 1].max() == rows.max() + 0.5


@pytest.mark.parametrize("shape", [(4, 5), (20,)])
def test_the_level_of_outlines_is_checked(shape):
    found = explain(shape=shape)
    for level in (0, 1.5, np.nan):
        with pytest.raises(ValueError, match=r"expected a float in the range \(0"):
            found.plot(significance=level)
    for level in ("a", False, np.array([0.05])):
        with pytest.raises(TypeError, match="Got alpha="):
            found.plot(significance=level)


def test_nothing_is_outlined_where_nothing_is_significant():
    assert explain(0.1).plot(significance=0.05).ax_.collections[0].get_segments() == []


def test_significant_bars_get_a_star_above_them():
    found = explain(shape=(20,))
    display = found.plot(significance=0.05)
    stars = display.ax_.lines[-1]
    assert stars.get_xdata().tolist() == np.flatnonzero(found.significant(0.05)).tolist()
    assert (stars.get_ydata() > found.importances.max()).all()


def test_groups_of_a_table_are_drawn_as_named_bars():
    X = pd.DataFrame(np.ones((20, 4)), columns=["age", "height", "north", "south"])
    explainer = ADSExplainer(OnePixelClassifier(2), groups={"body": [0, 1], "place": [2, 3]})
    found = explainer.explain(X, np.ones(20, int))
    display = found.plot(significance=0.05)
    assert [bar.get_height() for bar in display.im_] == [0, 1]
    assert [label.get_text() for label in display.ax_.get_xticklabels()] == ["body", "place"]
    assert display.ax_.lines[-1].get_xdata().tolist() == [1]


def test_columns_of_a_table_name_the_bars():
    X = pd.DataFrame(np.ones((5, 2)), columns=["age", "height"])
    found = ADSExplainer(OnePixelClassifier(0), window_shape=1).explain(X, np.ones(5, int))
    labels = found.plot().ax_.get_xticklabels()
    assert [label.get_text() for label in labels] == ["age", "height"]


def test_unexplained_pixels_stay_blank():
    mask = np.zeros((4, 5), dtype=bool)
    mask[1:3, 1:3] = True
    X = np.ones((6, 20))
    explainer = ADSExplainer(OnePixelClassifier(7), image_shape=(4, 5), mask=mask)
    display = explainer.explain(X, np.ones(6, int)).plot(np.ones((4, 5)))
    np.testing.assert_array_equal(np.ma.getmaskarray(display.im_.get_array()), ~mask)


@pytest.mark.parametrize(
    ("several", "params"), [(2, {}), (1, {"significance": 0.05})], ids=["two", "significance"]
)
def test_maps_per_class_are_those_of_one_explanation(several, params):
    with pytest.raises(ValueError, match="per_class=True"):
        ADSDisplay.from_explanation([explain()] * several, per_class=True, **params)


def test_nothing_cannot_be_drawn():
    with pytest.raises(ValueError, match="no explanation"):
        ADSDisplay.from_explanation({})


def test_an_array_is_no_explanation():
    with pytest.raises(TypeError, match=r"a ndarray as explanation.*ADSDisplay\(maps\)"):
        ADSDisplay.from_explanation(np.eye(3))


def test_explaining_imports_no_library_that_it_does_not_need():
    code = "import sys, skff, skff.saliency; print({'matplotlib', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_the_package_names_what_it_imports_when_it_is_asked_for():
    import skff

    assert set(skff.__all__) <= set(dir(skff))
    assert skff.recipes.RECIPES and skff.datasets.fetch_mnist
    assert skff.FFClassifier.__name__ == "FFClassifier"
    with pytest.raises(AttributeError, match="'skff' has no attribute 'FFRegressor'"):
        _ = skff.FFRegressor


@pytest.mark.parametrize("path", sorted(Path(skff.saliency.__file__).parent.glob("*.py")))
def test_the_saliency_room_knows_neither_torch_nor_forward_forward(path):
    words = re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE)
    assert not any(word.startswith(("torch", "skorch", "skff.forward_forward")) for word in words)


def test_a_notebook_shows_the_map_its_facts_and_what_is_significant():
    found = explain()
    html = found._repr_html_()
    assert plt.get_fignums() == []  # it would be shown twice
    assert "<img alt=" in html and "data:image/png;base64," in html
    assert f"<td>{found.baseline_score:.4g}</td>" in html
    assert "3 x 3 pixels, 20 regions" in html
    assert f"{found.significant().sum()} of 20 pixels (false discovery rate)" in html


def test_a_notebook_shows_groups_and_scores_without_p_values():
    X, y = np.ones((6, 4)), np.array([0, 1] * 3)
    model = DummyClassifier().fit(X, y)
    settings = {"groups": {"<a>": [0, 1], "b": [2, 3]}, "scoring": "balanced_accuracy"}
    html = ADSExplainer(model, **settings).explain(X, y)._repr_html_()
    assert "groups, 2 regions" in html
    assert "significant" not in html
    assert "<a>" not in html


def test_what_is_drawn_says_what_it_is():
    found = explain()
    assert repr(found.plot()) == "<ADSDisplay: 1 map of accuracy drop>"
    display = ADSDisplay.from_explanation([found, found])
    assert repr(display) == "<ADSDisplay: 2 maps of accuracy drop>"
