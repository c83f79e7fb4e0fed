import numpy as np
import pytest
import torch
from forward_forward.samples import gaussian_classes, tiny_classifier
from hypothesis import given
from hypothesis import strategies as st
from strategies import matrices

from skff.forward_forward.overlays import OVERLAYS, append, overlay_labels, replace

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS.values(), ids=list(OVERLAYS))


@given(X=matrices(), n_classes=st.integers(1, 12))
def test_append_keeps_every_feature(X, n_classes):
    np.testing.assert_array_equal(append(X, n_classes), X)


@given(X=matrices(min_columns=2), n_classes=st.integers(1, 11))
def test_replace_gives_up_as_many_leading_features_as_there_are_classes(X, n_classes):
    n_classes = min(n_classes, X.shape[1] - 1)
    np.testing.assert_array_equal(replace(X, n_classes), X[:, n_classes:])


@given(X=matrices(), excess=st.integers(0, 5))
def test_replace_needs_more_features_than_classes(X, excess):
    n_classes = X.shape[1] + excess
    with pytest.raises(
        ValueError, match=f"n_features={X.shape[1]} and n_classes={n_classes}.*expected.*>"
    ):
        replace(X, n_classes)


@every_overlay
@given(X=matrices(min_columns=4))
def test_overlay_is_a_view_and_the_same_for_tensors_and_arrays(overlay, X):
    kept = overlay(X, 3)
    assert np.shares_memory(kept, X)
    np.testing.assert_array_equal(overlay(torch.from_numpy(X), 3), kept)


@every_overlay
@given(X=matrices(min_columns=4), seed=st.integers(0, 2**16), amplitude=st.floats(0.25, 8))
def test_labelled_input_is_the_label_unit_and_then_the_kept_features(overlay, X, seed, amplitude):
    y = np.random.default_rng(seed).integers(0, 3, len(X))
    labelled = overlay_labels(X, y, 3, amplitude=amplitude, overlay=overlay).numpy()
    units, kept = labelled[:, :3], labelled[:, 3:]
    np.testing.assert_array_equal(kept, overlay(X, 3))
    np.testing.assert_array_equal(units, np.float32(amplitude) * np.eye(3, dtype=np.float32)[y])


def test_replaced_input_is_as_wide_as_the_features():
    assert overlay_labels(np.ones((2, 7)), [0, 3], 4, overlay=replace).shape == (2, 7)


@pytest.mark.filterwarnings("ignore::skff.exceptions.ScaleWarning")
@pytest.mark.parametrize("readout", ["goodness", "softmax"])
def test_replaced_features_decide_nothing_and_kept_ones_do(readout):
    X, y = gaussian_classes(n_features=8, n_classes=3)
    clf = tiny_classifier(overlay="replace", readout=readout).fit(X, y)
    other = X.copy()
    other[:, :3] = 1e3
    np.testing.assert_array_equal(clf.decision_function(other), clf.decision_function(X))
    other = X.copy()
    other[:, 3] = 1e3
    assert not np.allclose(clf.decision_function(other), clf.decision_function(X))


def test_replaced_features_do_not_enter_training():
    X, y = gaussian_classes(n_features=8, n_classes=3)
    other = X.copy()
    other[:, :3] = np.float32(1e3) * y[:, None]
    fits = [tiny_classifier(overlay="replace").fit(Z, y) for Z in (X, other)]
    np.testing.assert_array_equal(*(clf.decision_function(X) for clf in fits))
