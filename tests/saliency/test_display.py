import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from saliency.oracle import OnePixelClassifier

from skff.saliency import ADSDisplay, ADSExplainer


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
    assert display.figure_.axes[-1].get_ylabel() == "loss of accuracy"
    np.testing.assert_array_equal(display.im_.get_array(), found.importances)


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


def test_a_given_axes_is_drawn_into():
    figure, axis = plt.subplots()
    display = explain().plot(ax=axis, colorbar=False)
    assert (display.ax_, display.figure_) == (axis, figure)
    assert figure.axes == [axis]
    assert axis.get_xlabel() == "column (pixels)"


@pytest.mark.parametrize("image", [np.eye(4, 5), np.ones(20), np.ones((4, 5, 3))])
def test_an_image_shows_through_where_the_map_is_weak(image):
    found = explain()
    display = found.plot(image)
    alpha = display.im_.get_alpha()
    assert len(display.ax_.images) == 2
    assert alpha[found.importances == 0].max() == 0
    assert alpha[found.importances > 0].min() > 0.8


def test_sequences_are_drawn_as_bars():
    found = explain(shape=(20,))
    display = found.plot()
    assert [bar.get_height() for bar in display.im_] == found.importances.tolist()
    assert display.ax_.get_ylabel() == "loss of accuracy"


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
        ([np.ones(3)], {"image": np.eye(3)}, "image for a sequence"),
    ],
)
def test_bad_drawing_input_is_named(maps, params, message):
    with pytest.raises(ValueError, match=message):
        ADSDisplay(maps).plot(**params)


def test_names_match_maps():
    with pytest.raises(ValueError, match="1 names, but expected 2"):
        ADSDisplay([np.eye(3)] * 2, names=["one"]).plot()


def test_importing_the_saliency_room_imports_no_plotting_and_no_torch():
    code = "import sys, skff.saliency._explainer, skff.saliency._display as d;"
    code += "bad = {'matplotlib', 'torch', 'pandas'} & set(sys.modules) - {*sys.argv};"
    code += "print(sorted(bad))"
    skip = ["torch", "pandas"]  # the package itself may import them
    done = subprocess.run([sys.executable, "-c", code, *skip], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
