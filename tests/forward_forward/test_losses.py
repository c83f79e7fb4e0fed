import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import lambertw
from strategies import goodness_pairs

from skff.forward_forward.losses import (
    LOSSES,
    CrossEntropy,
    Logistic,
    Swish,
    SymBa,
    compares_all,
    comparison_gradients,
    pair_gradients,
)

PAIR_LOSSES = {name: loss for name, loss in LOSSES.items() if not compares_all(loss)}
COMPARISONS = {name: loss for name, loss in LOSSES.items() if compares_all(loss)}
every_pair_loss = pytest.mark.parametrize("loss", PAIR_LOSSES.values(), ids=list(PAIR_LOSSES))
every_comparison = pytest.mark.parametrize("loss", COMPARISONS.values(), ids=list(COMPARISONS))
pair_losses_and_one_of_ones_own = pytest.mark.parametrize(
    "loss",
    [*PAIR_LOSSES.values(), lambda g_pos, g_neg: (g_neg - g_pos).exp()],
    ids=[*PAIR_LOSSES, "custom"],
)
OMEGA = lambertw(math.exp(-1)).real  # solves u * sigmoid(u) = 1 at u = 1 + OMEGA


def derivatives(loss, g_pos, g_neg):
    """Return each sample's derivatives with respect to its two goodness values."""
    _, dg_pos, dg_neg = pair_gradients(loss, g_pos, g_neg, 1.0)
    return dg_pos, dg_neg


@every_pair_loss
@given(pair=goodness_pairs())
def test_loss_falls_in_g_pos_and_rises_in_g_neg_while_the_negative_leads(loss, pair):
    low, high = torch.minimum(*pair), torch.maximum(*pair)
    dg_pos, dg_neg = derivatives(loss, low, high)
    assert (dg_pos < 0).all()
    assert (dg_neg > 0).all()


@pytest.mark.parametrize("loss", [SymBa(), SymBa(scale=0.5), Logistic(), Logistic(7.0)])
@given(pair=goodness_pairs())
def test_symba_and_logistic_fall_in_g_pos_and_rise_in_g_neg_everywhere(loss, pair):
    dg_pos, dg_neg = derivatives(loss, *pair)
    assert (dg_pos < 0).all()
    assert (dg_neg > 0).all()


@pytest.mark.parametrize("scale", [0.5, 6.0, 20.0])
@given(share=st.floats(-8, 0.999))
def test_swish_falls_in_the_lead_of_the_positive_up_to_its_turning_point(scale, share):
    turn = (1 + OMEGA) / scale
    g_neg = torch.tensor([1.0], dtype=torch.float64)
    dg_pos, dg_neg = derivatives(Swish(scale), g_neg + share * turn, g_neg)
    assert dg_pos < 0 < dg_neg


@pytest.mark.parametrize("scale", [0.5, 6.0, 20.0])
def test_swish_turns_where_the_lead_is_one_plus_omega_over_scale(scale):
    lead = torch.tensor([1 + OMEGA], dtype=torch.float64) / scale
    loss = Swish(scale)
    np.testing.assert_allclose(loss(lead, 0 * lead), -OMEGA / scale, rtol=1e-12)
    np.testing.assert_allclose(derivatives(loss, lead, 0 * lead), 0, atol=1e-15)
    assert loss(1.1 * lead, 0 * lead) > loss(lead, 0 * lead) < loss(0.9 * lead, 0 * lead)


@pair_losses_and_one_of_ones_own
@given(pair=goodness_pairs(), seed=st.integers(0, 2**16))
def test_gradients_of_the_weighted_sum_are_those_of_finite_differences(loss, pair, seed):
    g_pos, g_neg = pair
    weight = torch.from_numpy(np.random.default_rng(seed).uniform(0, 3, len(g_pos)))
    losses, dg_pos, dg_neg = pair_gradients(loss, g_pos, g_neg, weight)
    step = 1e-5
    rise_pos = (loss(g_pos + step, g_neg) - loss(g_pos - step, g_neg)) / (2 * step)
    rise_neg = (loss(g_pos, g_neg + step) - loss(g_pos, g_neg - step)) / (2 * step)
    np.testing.assert_array_equal(losses, loss(g_pos, g_neg))
    np.testing.assert_allclose(dg_pos, weight * rise_pos, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(dg_neg, weight * rise_neg, rtol=1e-6, atol=1e-8)


@every_pair_loss
@given(pair=goodness_pairs())
def test_loss_of_a_sample_ignores_the_other_samples(loss, pair):
    alone = torch.cat([loss(p.view(1), n.view(1)) for p, n in zip(*pair, strict=True)])
    np.testing.assert_array_equal(loss(*pair), alone)


@every_pair_loss
def test_loss_and_gradients_stay_finite_at_huge_goodness(loss):
    g = torch.tensor([0.0, 1e4, 1e4, 0.0]), torch.tensor([1e4, 0.0, 1e4, 0.0])
    for values in pair_gradients(loss, *g, 1.0):
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


@pytest.mark.parametrize("loss", [SymBa(), Swish()])
@given(pair=goodness_pairs(), shift=st.integers(-8, 8))
def test_symba_and_swish_see_only_the_difference(loss, pair, shift):
    g_pos, g_neg = pair
    np.testing.assert_allclose(loss(g_pos + shift, g_neg + shift), loss(g_pos, g_neg), atol=1e-12)


# losses that compare all labels


@st.composite
def goodness_tables(draw, max_labels=6):
    """Draw (g, y, comparable): float64 goodness in [0, 8] and a mask that holds the true label."""
    n_labels = draw(st.integers(2, max_labels))
    n_samples = draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    g = torch.from_numpy(8 * rng.random((n_samples, n_labels)))
    y = torch.from_numpy(rng.integers(0, n_labels, n_samples))
    comparable = torch.from_numpy(rng.random((n_samples, n_labels)) < 0.7)
    return g, y, comparable.scatter(1, y.unsqueeze(1), True)


every_cross_entropy = pytest.mark.parametrize(
    "loss",
    [CrossEntropy(), CrossEntropy(0.5, label_smoothing=0.0), CrossEntropy(9.0, 0.7)],
)


@every_cross_entropy
@given(table=goodness_tables())
def test_cross_entropy_is_that_of_torch_divided_by_its_scale(loss, table):
    g, y, _ = table
    expected = torch.nn.functional.cross_entropy(
        loss.scale * g, y, label_smoothing=loss.label_smoothing, reduction="none"
    )
    np.testing.assert_allclose(loss(g, y), expected / loss.scale, rtol=1e-10, atol=1e-12)


@every_cross_entropy
@given(table=goodness_tables())
def test_labels_that_are_not_comparable_count_as_absent(loss, table):
    g, y, comparable = table
    found, dg = loss.with_derivatives(g, y, comparable)
    for row, label, counts, value, derivatives in zip(g, y, comparable, found, dg, strict=True):
        column = counts[:label].sum().view(1)
        expected = loss.with_derivatives(row[counts].unsqueeze(0), column)
        torch.testing.assert_close(value, expected[0][0], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(derivatives[counts], expected[1][0], rtol=1e-10, atol=1e-12)
        assert not derivatives[~counts].any()


@every_cross_entropy
@given(table=goodness_tables())
def test_cross_entropy_is_at_least_the_entropy_of_its_target(loss, table):
    g, y, _ = table
    target = torch.full((g.shape[1],), loss.label_smoothing / g.shape[1], dtype=g.dtype)
    target[0] += 1 - loss.label_smoothing
    entropy = torch.special.entr(target).sum()
    assert (loss(g, y) >= entropy / loss.scale - 1e-12).all()
    reached = target.clamp_min(1e-30).log().unsqueeze(0) / loss.scale
    np.testing.assert_allclose(loss(reached, torch.tensor([0])), entropy / loss.scale, atol=1e-12)


@every_comparison
@given(table=goodness_tables(), shift=st.integers(-8, 8))
def test_cross_entropy_sees_only_differences_between_labels(loss, table, shift):
    g, y, comparable = table
    np.testing.assert_allclose(loss(g + shift, y, comparable), loss(g, y, comparable), atol=1e-12)
    _, dg = comparison_gradients(loss, g, y, 1.0, comparable)
    np.testing.assert_allclose(dg.sum(1), 0, atol=1e-12)


@given(pair=goodness_pairs(), scale=st.sampled_from([0.5, 4.0, 9.0]))
def test_cross_entropy_of_two_labels_without_smoothing_is_symba(pair, scale):
    loss, y = CrossEntropy(scale, label_smoothing=0.0), torch.zeros(len(pair[0]), dtype=torch.long)
    losses, dg = comparison_gradients(loss, torch.stack(pair, 1), y, 1.0)
    expected = pair_gradients(SymBa(scale), *pair, 1.0)
    np.testing.assert_allclose(losses, expected[0], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(dg.T, torch.stack(expected[1:]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [*COMPARISONS.values(), lambda g, y, comparable: g.logsumexp(1) - g.mean(1)],
    ids=[*COMPARISONS, "custom"],
)
@pytest.mark.parametrize("weighted", [False, True])
@given(table=goodness_tables())
def test_gradients_of_a_comparison_are_those_of_finite_differences(loss, weighted, table):
    g, y, comparable = table
    weight = 0.3 + torch.arange(len(g)) if weighted else 0.7
    losses, dg = comparison_gradients(loss, g, y, weight, comparable)
    np.testing.assert_array_equal(losses, loss(g, y, comparable))
    for column in range(g.shape[1]):
        step = torch.zeros_like(g)
        step[:, column] = 1e-5
        rise = (loss(g + step, y, comparable) - loss(g - step, y, comparable)) / 2e-5
        np.testing.assert_allclose(dg[:, column], weight * rise, rtol=1e-6, atol=1e-8)


@every_comparison
@given(table=goodness_tables())
def test_comparison_falls_in_the_true_label_while_another_leads_and_rises_in_the_leader(
    loss, table
):
    g, y, _ = table
    rows, leader = torch.arange(len(g)), g.argmax(1)
    _, dg = comparison_gradients(loss, g, y, 1.0)
    behind = leader != y
    assert (dg[rows, y][behind] < 0).all()
    assert (dg[rows, leader][behind] > 0).all()


@every_comparison
def test_comparison_stays_finite_at_huge_goodness(loss):
    g = torch.tensor([[0.0, 1e4, 1e4], [1e4, 0.0, 0.0], [1e4, 1e4, 1e4]])
    comparable = torch.tensor([[True, True, False]] * 3)
    for mask in (None, comparable):
        for values in comparison_gradients(loss, g, torch.zeros(3, dtype=torch.long), 1.0, mask):
            assert torch.isfinite(values).all()


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"label_smoothing": value}, r"label_smoothing=.*\[0, 1\)")
        for value in (-0.1, 1, 1.5, math.nan)
    ]
    + [({"scale": value}, "scale=.*positive finite") for value in (0, -1.0, math.inf, math.nan)]
    + [({"max_candidates": value}, "max_candidates=.*at least 2") for value in (1, 0, -5)],
)
def test_settings_of_the_cross_entropy_out_of_range_are_refused(params, match):
    with pytest.raises(ValueError, match=f"Got {match}"):
        CrossEntropy(**params)
