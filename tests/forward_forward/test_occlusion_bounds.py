"""What bounds on the trunk claim: the goodness of every class lies between them."""

import pickle
from unittest import mock

import numpy as np
import pytest
from forward_forward.occlusion_cases import EPSILON, Case, cases, in_float64, scores_above, trained
from hypothesis import given, settings
from hypothesis import strategies as st

from skff.forward_forward.occlusion import _bounds
from skff.forward_forward.occlusion._bounds import BasePoint

pytestmark = pytest.mark.usefixtures("few_features_like_many")


def worst_margin(case):
    """Return how far goodness stays within its bounds at least, with no tolerance for two layers.

    More layers are given a tolerance for what float32 does to the layers between first and last.
    """
    calls, margins = [], [np.inf]
    leaders, decide = _bounds.leaders, BasePoint.decide

    def record(lower, width, allowance):
        bounds = in_float64([tensor.clone() for tensor in (lower, width, allowance)])
        found = leaders(lower, width, allowance)
        calls.append((*bounds, found[1].numpy()))
        return found

    def compare(base, k, D):
        Z, D_exact = in_float64([base.layers[0].Z[k], D])
        sizes = np.abs(Z) + np.abs(D_exact)
        exact, error = scores_above(case.clf, Z + D_exact, EPSILON * sizes)
        error = error if len(base.layers) > 2 else 0.0
        calls.clear()
        found = decide(base, k, D)
        pairs = np.arange(len(D))
        for lower, width, allowance, is_open in calls:
            # Half of the allowance is for each of the two classes compared.
            gap = allowance / 2 + np.broadcast_to(error, exact.shape)[pairs].T
            g = exact[pairs].T  # (n_classes, n_pairs)
            inside = np.minimum(g - lower + gap, lower + width + gap - g)
            margins.append(inside.min(initial=np.inf))
            pairs = pairs[is_open]
        return found

    with (
        mock.patch.object(_bounds, "leaders", record),
        mock.patch.object(BasePoint, "decide", compare),
    ):
        case.predictor().predict_many(np.arange(len(case.X)), case.windows)
    return min(margins)


@settings(max_examples=200)
@given(
    case=cases(
        least_layers=2,
        readouts=["goodness"],
        overlays=["layerwise"],
        goodness=["mean_square", "sum_square"],
    ),
    rank=st.integers(0, 12),
)
def test_goodness_never_lies_outside_the_bounds(case, rank):
    with mock.patch.object(_bounds, "RANK", rank):
        assert worst_margin(case) >= 0


def trained_case(**params):
    X, clf = trained((20, 16), **params)
    windows = [np.arange(k, k + 3) for k in range(10)] + [np.arange(12)]
    return Case(clf, X, np.float32(0), windows)


def without_last_width(last_layer):
    def weakened(*args):
        linear, width, allowance = last_layer(*args)
        return linear, 0 * width, allowance

    return weakened


def with_half_the_last_linear_terms(last_layer):
    def weakened(*args):
        linear, width, allowance = last_layer(*args)
        return linear / 2, width, allowance

    return weakened


def without_width_below(linear_below):
    def weakened(*args):
        total, width, allowance = linear_below(*args)
        return total, 0 * width, allowance

    return weakened


WEAKENED = [
    ("_last_layer", without_last_width),
    ("_last_layer", with_half_the_last_linear_terms),
    ("_linear_below", without_width_below),
]


@pytest.mark.parametrize(("name", "weaken"), WEAKENED)
def test_weakened_bounds_are_caught(name, weaken):
    case = trained_case()
    assert worst_margin(case) >= 0
    with mock.patch.object(BasePoint, name, weaken(getattr(BasePoint, name))):
        assert worst_margin(case) < 0


@pytest.mark.parametrize("share", [0.9, 0.5])
def test_curvatures_of_the_last_layer_may_not_be_lowered_much(share):
    case = trained_case()
    predictor = case.predictor()
    W, U = in_float64([predictor.network.layers[-1].weight, predictor.bounds.U])
    # x' (U'U + rest) x >= |W x|^2 for all x, and not with a share of the left side.
    curvature = U.T @ U + predictor.bounds.rest * np.eye(W.shape[1])
    assert np.linalg.eigvalsh(curvature - W.T @ W).min() >= 0
    assert np.linalg.eigvalsh(share * curvature - W.T @ W).min() < 0


def test_bounds_decide_nearly_all_of_small_changes():
    X, clf = trained((40, 30), n_samples=100)
    predictor = clf.occlusion_predictor(X, fill=X + 0.01)
    _, counts = predictor.predict_many(np.arange(100), [np.arange(k, k + 3) for k in range(10)])
    assert counts["decided_by_bounds"] > 0.95 * counts["pairs"]


def test_pickle_keeps_the_bounds():
    predictor = trained_case().predictor()
    with mock.patch("torch.linalg.svd", side_effect=AssertionError("built anew")):
        loaded = pickle.loads(pickle.dumps(predictor))
    rows, windows = np.arange(60), [np.arange(6)]
    counts = [each.predict_many(rows, windows)[1] for each in (predictor, loaded)]
    assert counts[0] == counts[1]
    assert counts[0]["decided_by_bounds"] > 0
