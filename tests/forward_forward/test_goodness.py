import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import activities

from skff.forward_forward.goodness import (
    GOODNESS,
    MeanSquare,
    SumSquare,
    goodness_gradient,
)

every_goodness = pytest.mark.parametrize("goodness", GOODNESS.values(), ids=list(GOODNESS))


def fourth_power(h):
    """Stand for a user's own goodness, which has no closed form of its gradient."""
    return h.pow(4).sum(-1)


@every_goodness
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 3, 4)])
def test_goodness_is_zero_where_every_unit_is_silent(goodness, shape):
    np.testing.assert_array_equal(goodness(torch.zeros(shape)), torch.zeros(shape[:-1]))


@every_goodness
@given(h=activities(), seed=st.integers(0, 2**16))
def test_goodness_is_blind_to_the_order_of_units(goodness, h, seed):
    order = np.random.default_rng(seed).permutation(h.shape[1])
    np.testing.assert_allclose(goodness(h[:, order]), goodness(h), rtol=1e-5)


@every_goodness
@given(h=activities())
def test_goodness_of_a_row_ignores_the_other_rows(goodness, h):
    alone = torch.cat([goodness(row.unsqueeze(0)) for row in h])
    np.testing.assert_allclose(goodness(h), alone, rtol=1e-6)


@every_goodness
@given(h=activities())
def test_goodness_leaves_the_activities_as_they_are(goodness, h):
    before = h.clone()
    goodness(h)
    np.testing.assert_array_equal(h, before)


@pytest.mark.parametrize("goodness", [MeanSquare(), SumSquare()])
@given(h=activities(), factor=st.floats(-8, 8, width=16))
def test_goodness_grows_with_the_square_of_the_activities(goodness, h, factor):
    np.testing.assert_allclose(goodness(factor * h), factor**2 * goodness(h), rtol=1e-5)


def test_sum_and_mean_of_squares_of_known_activities():
    h = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.5, 0.0]])
    np.testing.assert_allclose(SumSquare()(h), [14, 0.25], rtol=1e-6)
    np.testing.assert_allclose(MeanSquare()(h), [14 / 3, 0.25 / 3], rtol=1e-6)


@every_goodness
@given(h=activities())
def test_goodness_can_be_differentiated_by_autograd(goodness, h):
    h = h.double().requires_grad_()
    assert torch.autograd.gradcheck(goodness, h)


@pytest.mark.parametrize("goodness", [*GOODNESS.values(), fourth_power], ids=[*GOODNESS, "custom"])
@given(h=activities(), seed=st.integers(0, 2**16))
def test_gradient_of_a_goodness_is_that_of_finite_differences(goodness, h, seed):
    h = h.double()
    upstream = torch.from_numpy(np.random.default_rng(seed).standard_normal(len(h)))
    step = 1e-4 * torch.eye(h.shape[1], dtype=h.dtype).unsqueeze(1)  # (units, 1, units)
    differences = (goodness(h + step) - goodness(h - step)) / 2e-4  # (units, n)
    np.testing.assert_allclose(
        goodness_gradient(goodness, h, upstream), upstream[:, None] * differences.T, atol=1e-5
    )
