import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import lambertw
from strategies import goodness_pairs

from skff.forward_forward.losses import LOSSES, Logistic, Swish, SymBa, loss_gradients

every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
losses_and_one_of_ones_own = pytest.mark.parametrize(
    "loss", [*LOSSES.values(), lambda g_pos, g_neg: (g_neg - g_pos).exp()], ids=[*LOSSES, "custom"]
)
OMEGA = lambertw(math.exp(-1)).real  # solves u * sigmoid(u) = 1 at u = 1 + OMEGA


def slopes(loss, g_pos, g_neg):
    """Return each sample's derivatives with respect to its two goodness values."""
    _, dg_pos, dg_neg = loss_gradients(loss, g_pos, g_neg, float(len(g_pos)))
    return dg_pos, dg_neg


@every_loss
@given(pair=goodness_pairs())
def test_loss_falls_in_g_pos_and_rises_in_g_neg_while_the_negative_leads(loss, pair):
    low, high = torch.minimum(*pair), torch.maximum(*pair)
    dg_pos, dg_neg = slopes(loss, low, high)
    assert (dg_pos < 0).all()
    assert (dg_neg > 0).all()


@pytest.mark.parametrize("loss", [SymBa(), SymBa(scale=0.5), Logistic(), Logistic(7.0)], ids=repr)
@given(pair=goodness_pairs())
def test_symba_and_logistic_fall_in_g_pos_and_rise_in_g_neg_everywhere(loss, pair):
    dg_pos, dg_neg = slopes(loss, *pair)
    assert (dg_pos < 0).all()
    assert (dg_neg > 0).all()


@pytest.mark.parametrize("scale", [0.5, 6.0, 20.0])
@given(share=st.floats(-8, 0.999))
def test_swish_falls_in_the_lead_of_the_positive_up_to_its_turning_point(scale, share):
    turn = (1 + OMEGA) / scale
    g_neg = torch.tensor([1.0], dtype=torch.float64)
    dg_pos, dg_neg = slopes(Swish(scale), g_neg + share * turn, g_neg)
    assert dg_pos < 0 < dg_neg


@pytest.mark.parametrize("scale", [0.5, 6.0, 20.0])
def test_swish_turns_where_the_lead_is_one_plus_omega_over_scale(scale):
    lead = torch.tensor([1 + OMEGA], dtype=torch.float64) / scale
    loss = Swish(scale)
    np.testing.assert_allclose(loss(lead, 0 * lead), -OMEGA / scale, rtol=1e-12)
    np.testing.assert_allclose(slopes(loss, lead, 0 * lead), 0, atol=1e-15)
    assert loss(1.1 * lead, 0 * lead) > loss(lead, 0 * lead) < loss(0.9 * lead, 0 * lead)


@losses_and_one_of_ones_own
@given(pair=goodness_pairs(), seed=st.integers(0, 2**16))
def test_gradients_of_the_weighted_mean_are_those_of_finite_differences(loss, pair, seed):
    g_pos, g_neg = pair
    weight = torch.from_numpy(np.random.default_rng(seed).uniform(0, 3, len(g_pos)))
    losses, dg_pos, dg_neg = loss_gradients(loss, g_pos, g_neg, weight)
    scale, step = weight / len(g_pos), 1e-5
    rise_pos = (loss(g_pos + step, g_neg) - loss(g_pos - step, g_neg)) / (2 * step)
    rise_neg = (loss(g_pos, g_neg + step) - loss(g_pos, g_neg - step)) / (2 * step)
    np.testing.assert_array_equal(losses, loss(g_pos, g_neg))
    np.testing.assert_allclose(dg_pos, scale * rise_pos, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(dg_neg, scale * rise_neg, rtol=1e-6, atol=1e-8)


@every_loss
@given(pair=goodness_pairs())
def test_loss_of_a_sample_ignores_the_other_samples(loss, pair):
    alone = torch.cat([loss(p.view(1), n.view(1)) for p, n in zip(*pair, strict=True)])
    np.testing.assert_array_equal(loss(*pair), alone)


@every_loss
def test_loss_and_gradients_stay_finite_at_huge_goodness(loss):
    g = torch.tensor([0.0, 1e4, 1e4, 0.0]), torch.tensor([1e4, 0.0, 1e4, 0.0])
    for values in loss_gradients(loss, *g, 1.0):
        assert torch.isfinite(values).all()


@pytest.mark.parametrize("threshold", [0.0, 2.0, 5.0])
def test_logistic_equals_log_2_where_both_lie_on_the_threshold(threshold):
    g = torch.tensor([threshold], dtype=torch.float64)
    np.testing.assert_allclose(Logistic(threshold)(g, g), math.log(2), rtol=1e-12)


@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_symba_equals_log_2_over_scale_at_a_tie_and_the_gap_far_behind(scale):
    tie, gap = torch.zeros(1, dtype=torch.float64), torch.full((1,), 200.0, dtype=torch.float64)
    np.testing.assert_allclose(SymBa(scale)(tie, tie), math.log(2) / scale, rtol=1e-12)
    np.testing.assert_allclose(SymBa(scale)(tie, gap), gap, rtol=1e-12)


@pytest.mark.parametrize("loss", [SymBa(), Swish()], ids=repr)
@given(pair=goodness_pairs(), shift=st.integers(-8, 8))
def test_symba_and_swish_see_only_the_difference(loss, pair, shift):
    g_pos, g_neg = pair
    np.testing.assert_allclose(loss(g_pos + shift, g_neg + shift), loss(g_pos, g_neg), atol=1e-12)
