import numpy as np
import pandas as pd
import pytest
from captum.attr import FeatureAblation
from hypothesis import given
from hypothesis import strategies as st
from saliency.oracle import LinearClassifier, OnePixelClassifier
from strategies import image_sets
from torch import tensor

from skff.saliency import ADSExplainer
from skff.saliency._engines import ENGINES
from skff.saliency._regions import AGGREGATES


def labelled(X, seed=1):
    flat = X.reshape(len(X), -1)
    model = LinearClassifier(n_features=flat.shape[1], seed=seed)
    return flat, np.where(np.arange(len(X)) % 4 == 3, 0, model.predict(flat)), model


@pytest.mark.parametrize("aggregate", AGGREGATES)
@given(X=image_sets(), seed=st.integers(0, 2**16), stride=st.integers(1, 3))
def test_a_mask_leaves_values_inside_as_they_are(aggregate, X, seed, stride):
    flat, y, model = labelled(X, seed)
    mask = np.random.default_rng(seed).random(X.shape[1:]) < 0.3
    mask[0, 0] = True
    params = {"image_shape": X.shape[1:], "aggregate": aggregate, "stride": stride}
    whole = ADSExplainer(model, **params).explain(flat, y)
    part = ADSExplainer(model, mask=mask, **params).explain(flat, y)
    for name in ("importances", "per_class", "p_values", "standard_error"):
        inside = getattr(whole, name)
        if inside is not None:
            np.testing.assert_array_equal(getattr(part, name)[..., mask], inside[..., mask])
    assert np.isnan(part.importances[~mask]).all()
    assert len(part.window_scores) == len(part.window_centers) <= len(whole.window_scores)


def test_a_mask_saves_the_windows_it_does_not_need():
    mask = np.zeros((8, 8), dtype=bool)
    mask[3, 4:6] = True
    found = ADSExplainer(OnePixelClassifier(27), mask=mask).explain(np.ones((4, 64)), [1] * 4)
    assert found.window_centers.tolist() == [[3, 4], [3, 5]]
    assert not found.significant()[~mask].any()


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((8, 8)), TypeError, "boolean array"),
        ([[True]], TypeError, "expected an instance of .*ndarray"),
        (np.ones((4, 8), dtype=bool), ValueError, r"mask of shape \(4, 8\)"),
        (np.zeros((8, 8), dtype=bool), ValueError, "without a pixel"),
    ],
)
def test_bad_masks_are_named(mask, error, message):
    with pytest.raises(error, match=message):
        ADSExplainer(OnePixelClassifier(), mask=mask).explain(np.ones((4, 64)), [1] * 4)


@pytest.mark.parametrize("engine", ENGINES)
def test_superpixels_equal_captum(engine):
    X = np.random.default_rng(0).integers(-2, 3, (50, 6, 6)).astype(float)
    flat, y, model = labelled(X)
    groups = np.arange(36).reshape(6, 6) // 5

    def accuracy(inputs):
        return tensor([(model.predict(inputs.reshape(50, -1).numpy()) == y).mean()])

    expected = FeatureAblation(accuracy).attribute(tensor(X), feature_mask=tensor(groups)[None])
    found = ADSExplainer(model, image_shape=(6, 6), groups=groups, engine=engine).explain(flat, y)
    np.testing.assert_allclose(found.importances, expected[0].numpy(), atol=1e-7)
    assert found.group_names.tolist() == [str(k) for k in range(8)]
    assert (found.aggregate, found.window_shape, found.stride) == ("groups", None, None)


def test_groups_hide_all_their_columns_at_once():
    X = pd.DataFrame(np.random.default_rng(0).integers(-2, 3, (80, 4)), columns=list("abcd"))
    _, y, model = labelled(X.to_numpy())
    groups = {"ends": ["a", "d"], "middle": [1, 2], "overlap": ["c", "d"]}
    found = ADSExplainer(model, groups=groups).explain(X, y)
    expected = {}
    for name, members in {"ends": [0, 3], "middle": [1, 2], "overlap": [2, 3]}.items():
        hidden = X.to_numpy().copy()
        hidden[:, members] = 0
        expected[name] = model.score(X, y) - model.score(hidden, y)
    frame = found.to_frame().set_index("group")
    assert frame["importance"].to_dict() == pytest.approx(expected)
    assert {"standard_error", "p_value"} <= set(frame)
    mean = (expected["middle"] + expected["overlap"]) / 2
    np.testing.assert_allclose(
        found.importances, [expected["ends"], expected["middle"], mean, found.importances[3]]
    )
    assert found.feature_names.tolist() == list("abcd")


def test_pixels_outside_all_groups_stay_blank():
    X = np.ones((4, 6))
    found = ADSExplainer(OnePixelClassifier(2), groups=[[2], [3, 4]]).explain(X, [1] * 4)
    np.testing.assert_array_equal(found.importances, [np.nan, np.nan, 1, 0, 0, np.nan])
    boolean = [np.arange(6) == 2, np.isin(np.arange(6), [3, 4])]
    again = ADSExplainer(OnePixelClassifier(2), groups=boolean).explain(X, [1] * 4)
    np.testing.assert_array_equal(found.importances, again.importances)


def test_a_mask_leaves_out_groups_it_does_not_meet():
    mask = np.arange(6) < 3
    explainer = ADSExplainer(OnePixelClassifier(2), groups={"x": [2, 3], "y": [4]}, mask=mask)
    found = explainer.explain(np.ones((4, 6)), [1] * 4)
    assert found.group_names.tolist() == ["x"]
    np.testing.assert_array_equal(found.importances, [np.nan, np.nan, 1, np.nan, np.nan, np.nan])


@pytest.mark.parametrize(
    ("groups", "error", "message"),
    [
        ({}, ValueError, "at least one group"),
        ({"a": []}, ValueError, "group 'a' without members"),
        ([[0], [6]], ValueError, "member .*6.* of group '1', but expected an index from 0 to 5"),
        ([[-1]], ValueError, "member .*-1"),
        ([[0.5]], ValueError, "member .*0.5"),
        ({"a": ["age"]}, ValueError, "member .*age"),
        ({"a": [(0, 0), (0, 1)]}, ValueError, r"group 'a' of shape \(2, 2\), but expected flat"),
        (np.zeros(5, int), ValueError, r"groups of shape \(5,\), but expected \(6,\)"),
        (np.array([0, 0, 1, 1, np.nan, 2]), ValueError, "groups with NaN"),
        ("abc", TypeError, "groups='abc'"),
    ],
)
def test_bad_groups_are_named(groups, error, message):
    with pytest.raises(error, match=message):
        ADSExplainer(OnePixelClassifier(), groups=groups).explain(np.ones((4, 6)), [1] * 4)


def test_unknown_columns_list_the_known_ones():
    X = pd.DataFrame(np.ones((4, 2)), columns=["age", "height"])
    with pytest.raises(ValueError, match="expected an index from 0 to 1 or one of .*'height'"):
        ADSExplainer(OnePixelClassifier(), groups=[["weight"]]).explain(X, [1] * 4)
