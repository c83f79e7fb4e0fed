import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skff.saliency._regions import AGGREGATES, lay_out_pixels, sliding_windows


@st.composite
def axes(draw):
    """Draw (length, odd window, stride) for which windows fit and skip no pixel."""
    length = draw(st.integers(1, 12))
    window = draw(st.integers(0, (length - 1) // 2)) * 2 + 1
    return length, window, draw(st.integers(1, window))


def lay(sample_shape, *, image_shape=None, window_shape=3, stride=1, aggregate="center"):
    return sliding_windows(
        lay_out_pixels(sample_shape, image_shape),
        window_shape=window_shape,
        stride=stride,
        aggregate=aggregate,
    )


@pytest.mark.parametrize("place", AGGREGATES.values(), ids=list(AGGREGATES))
@given(axis=axes())
def test_every_pixel_is_hidden_by_a_window_and_reads_one_that_exists(place, axis):
    centers, hidden, read = place(*axis)
    assert hidden.shape == read.shape == (len(centers), axis[0])
    assert (hidden.sum(axis=0) >= 1).all()
    assert (read.sum(axis=0) >= 1).all()


@given(axis=axes())
def test_center_reads_exactly_the_nearest_centre(axis):
    centers, _, read = AGGREGATES["center"](*axis)
    for pixel, column in enumerate(read.toarray().T):
        assert column.sum() == 1
        distance = abs(centers[column.argmax()] - pixel)
        assert distance == min(abs(center - pixel) for center in centers)


@given(axis=axes())
def test_center_windows_reach_half_a_window_around_their_centre(axis):
    length, window, stride = axis
    centers, hidden, _ = AGGREGATES["center"](*axis)
    for center, row in zip(centers, hidden.toarray(), strict=True):
        around = range(max(0, center - window // 2), min(length, center + window // 2 + 1))
        assert row.nonzero()[0].tolist() == list(around)


@given(axis=axes())
def test_coverage_windows_stay_inside_and_are_read_by_what_they_hide(axis):
    length, window, stride = axis
    _, hidden, read = AGGREGATES["coverage"](*axis)
    starts = hidden.toarray().argmax(axis=1)
    assert (np.diff(starts) == stride).all()
    assert (hidden.sum(axis=1)[:-1] == window).all()
    assert (hidden.toarray() == read.toarray()).all()


@pytest.mark.parametrize(
    ("sample_shape", "image_shape", "map_shape", "n_channels"),
    [
        ((64,), None, (8, 8), 1),
        ((784,), None, (28, 28), 1),
        ((49,), None, (49,), 1),  # too few features to be taken for an image
        ((40,), None, (40,), 1),
        ((12,), (3, 4), (3, 4), 1),
        ((64,), (64,), (64,), 1),
        ((60,), (4, 5, 3), (4, 5), 3),
        ((4, 5), None, (4, 5), 1),
        ((4, 5), (4, 5), (4, 5), 1),
        ((3, 4, 5), None, (4, 5), 3),
        ((3, 4, 5), (4, 5), (4, 5), 3),
        ((4, 5, 3), (4, 5, 3), (4, 5), 3),
    ],
)
def test_image_shape_is_inferred_or_taken(sample_shape, image_shape, map_shape, n_channels):
    assert lay_out_pixels(sample_shape, image_shape).shape == (*map_shape, n_channels)


@pytest.mark.parametrize(
    ("sample_shape", "image_shape", "remedy"),
    [
        ((18, 24, 3), None, r"set image_shape=\(18, 24, 3\)"),
        ((1296,), (3, 18, 24), r"reshape it to \(n_samples, 3, 18, 24\)"),
        ((10, 12, 4), None, "set image_shape"),
    ],
)
def test_channels_at_the_other_end_are_noticed(sample_shape, image_shape, remedy):
    with pytest.warns(UserWarning, match=f"images with .* channels: .*{remedy}"):
        lay_out_pixels(sample_shape, image_shape)
    if image_shape is None:
        lay_out_pixels(sample_shape, sample_shape)  # in silence
    else:
        lay_out_pixels(image_shape, None)


def test_pixels_collect_their_channels_wherever_those_are_stored():
    first, last = np.arange(24).reshape(2, 3, 4), np.arange(24).reshape(3, 4, 2)
    assert lay_out_pixels((2, 3, 4), None)[1, 2].tolist() == first[:, 1, 2].tolist()
    assert lay_out_pixels((24,), (3, 4, 2))[1, 2].tolist() == last[1, 2].tolist()
    assert lay_out_pixels((3, 4, 2), (3, 4, 2))[1, 2].tolist() == last[1, 2].tolist()


def test_a_window_hides_all_channels_of_its_pixels():
    windows = lay((2, 3, 3), window_shape=1)
    hidden = [sorted(features) for features in windows.features()]
    assert hidden == [[pixel, pixel + 9] for pixel in range(9)]


def test_windows_are_ordered_row_by_row_with_their_centres():
    windows = lay((5, 7), stride=3)
    assert windows.centers.tolist() == [[i, j] for i in (0, 3) for j in (0, 3, 6)]


def test_a_constant_over_windows_is_a_constant_map():
    for aggregate in AGGREGATES:
        windows = lay((5, 7), stride=2, aggregate=aggregate)
        values = np.full(len(windows.centers), 0.3)
        np.testing.assert_allclose(windows.to_map(values), 0.3, rtol=1e-15)


def test_coverage_takes_the_mean_over_covering_windows():
    windows = lay((4,), window_shape=2, aggregate="coverage")
    assert windows.to_map(np.array([1.0, 2.0, 4.0])).tolist() == [1.0, 1.5, 3.0, 4.0]


def test_maps_keep_leading_axes():
    windows = lay((4, 4))
    values = np.random.default_rng(0).normal(size=(2, 16))
    assert (windows.to_map(values)[1] == windows.to_map(values[1])).all()


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"window_shape": 4}, ValueError, "window_shape=4, but expected an odd number"),
        ({"window_shape": 0}, ValueError, "window_shape=0"),
        ({"window_shape": -3}, ValueError, "window_shape=-3"),
        ({"window_shape": 9}, ValueError, r"window_shape=\(9, 9\), but expected at most"),
        ({"window_shape": 3.0}, TypeError, "window_shape=3.0"),
        ({"window_shape": True}, TypeError, "window_shape=True"),
        ({"window_shape": (3,)}, ValueError, "2 of them"),
        ({"window_shape": (3, 3, 3)}, ValueError, "2 of them"),
        ({"stride": 0}, ValueError, "stride=0"),
        ({"stride": 4}, ValueError, "pixels would be skipped"),
        ({"stride": (1, 4)}, ValueError, r"stride=\(1, 4\)"),
        ({"image_shape": (3, 3)}, ValueError, "has 9 values, but expected 64"),
        ({"image_shape": (2, 2, 4, 4)}, ValueError, r"expected \(H, W\)"),
        ({"image_shape": (8, 8.0)}, TypeError, "image_shape=8.0"),
        ({"sample_shape": (4, 5), "image_shape": (5, 4)}, ValueError, "trailing axes"),
        ({"sample_shape": (1, 3, 4, 5)}, ValueError, "samples of shape"),
    ],
)
def test_bad_geometry_is_named(params, error, message):
    params = {"sample_shape": (64,)} | params
    with pytest.raises(error, match=message):
        lay(params.pop("sample_shape"), **params)


def test_even_windows_are_welcome_where_they_need_no_centre():
    assert lay((8, 8), window_shape=4, aggregate="coverage").image_shape == (8, 8)
