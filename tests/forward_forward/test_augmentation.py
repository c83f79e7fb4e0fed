import numpy as np
import pytest
import torch
from forward_forward.samples import gaussian_classes, tiny_classifier
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from strategies import image_sets

from skff.forward_forward.augmentation import ImageShift


def shifts(images, max_shift):
    """Return all shifts of images (n, H, W) by slices of a padded copy, one list per shift."""
    pad, (height, width) = max_shift, images.shape[1:]
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad)))
    corners = [(i, j) for i in range(2 * pad + 1) for j in range(2 * pad + 1)]
    return [padded[:, i : i + height, j : j + width] for i, j in corners]


def shifted(images, generator, **params):
    flat = torch.from_numpy(images).flatten(1)
    shape = images.shape[1:]
    return ImageShift(image_shape=shape, **params)(flat, generator).view(-1, *shape).numpy()


@given(images=image_sets(), max_shift=st.integers(1, 3), seed=st.integers(0, 2**16))
def test_every_image_is_one_of_its_shifts_with_zeros_coming_in(images, max_shift, seed):
    found = shifted(images, torch.Generator().manual_seed(seed), max_shift=max_shift)
    matches = [(found == choice).all((1, 2)) for choice in shifts(images, max_shift)]
    assert np.any(matches, axis=0).all()


def test_all_shifts_are_equally_likely_and_each_image_has_its_own():
    images = np.repeat(np.arange(1, 26, dtype=np.float32).reshape(1, 5, 5), 9000, axis=0)
    found = shifted(images, torch.Generator().manual_seed(0))
    counts = [(found == choice).all((1, 2)).sum() for choice in shifts(images, 1)]
    assert sum(counts) == 9000
    assert chisquare(counts).pvalue > 1e-3


def test_the_batch_given_stays_as_it_is():
    batch = torch.rand(6, 16, generator=torch.Generator().manual_seed(0))
    before = batch.clone()
    ImageShift()(batch, torch.Generator().manual_seed(0))
    assert torch.equal(batch, before)


@pytest.mark.parametrize("image_shape", [None, (3, 4), (12,)])
def test_features_that_are_no_image_of_the_shape_are_refused(image_shape):
    with pytest.raises(ValueError, match=r"n_features=10.*expected"):
        ImageShift(image_shape=image_shape)(torch.zeros(2, 10), torch.Generator())


@pytest.mark.parametrize("max_shift", [0, -1, 1.5, None])
def test_a_shift_that_is_none_is_refused(max_shift):
    with pytest.raises(ValueError, match="Got max_shift=.*at least 1"):
        ImageShift(max_shift=max_shift)


def test_shifts_teach_a_classifier_images_it_has_not_seen():
    # One bright pixel on the left or on the right; tested one row away from those of training.
    images = np.zeros((2, 5, 5), np.float32)
    images[0, 2, 1] = images[1, 2, 3] = 1
    X, y = np.repeat(images.reshape(2, 25), 40, axis=0), np.repeat([0, 1], 40)
    away = np.concatenate([np.roll(images, rows, axis=1).reshape(2, 25) for rows in (-1, 1)])
    params = {"max_iter": 30, "learning_rate_init": 0.01}
    clf = tiny_classifier((20,), augment=ImageShift(), **params).fit(X, y)
    assert clf.score(away, [0, 1, 0, 1]) == 1


def test_a_classifier_names_features_that_are_no_image():
    X, y = gaussian_classes(n_features=6)
    with pytest.raises(ValueError, match="n_features=6"):
        tiny_classifier(augment=ImageShift()).fit(X, y)
