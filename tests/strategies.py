"""Hypothesis strategies shared by the tests: small shapes, bounded finite numbers."""

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def bounded_floats(bound=10.0):
    """Return a strategy of finite float32 numbers in [-bound, bound]."""
    return st.floats(-bound, bound, width=32, allow_subnormal=False)


def matrices(max_rows=12, max_columns=12, bound=10.0, min_columns=1):
    """Return a strategy of float32 matrices with at least one row."""
    shapes = st.tuples(st.integers(1, max_rows), st.integers(min_columns, max_columns))
    return hnp.arrays(np.float32, shapes, elements=bounded_floats(bound))


def image_sets(max_samples=6, max_side=7, min_side=3):
    """Return a strategy of float32 images (n, H, W) of small integers, so that sums are exact."""
    side = st.integers(min_side, max_side)
    shapes = st.tuples(st.integers(1, max_samples), side, side)
    return hnp.arrays(np.float32, shapes, elements=st.integers(-2, 2).map(float))


def activities(max_rows=6, max_units=6):
    """Return a strategy of activities: tensors (n, n_units) of sixteenths from 0 to 4."""
    shapes = st.tuples(st.integers(1, max_rows), st.integers(1, max_units))
    sixteenths = st.integers(0, 64).map(lambda n: n / 16)  # whose squares do not underflow
    return hnp.arrays(np.float32, shapes, elements=sixteenths).map(torch.from_numpy)


@st.composite
def goodness_pairs(draw, max_samples=6):
    """Draw float64 tensors (g_pos, g_neg) of one length, of goodness in [0, 8]."""
    n_samples = draw(st.integers(1, max_samples))
    numbers = hnp.arrays(np.float64, (2, n_samples), elements=st.floats(0, 8, width=32))
    return tuple(torch.from_numpy(draw(numbers)))


@st.composite
def encoded_labels(draw, max_samples=12, max_classes=12):
    """Draw (y, n_classes): a LongTensor of labels 0, ..., n_classes - 1."""
    n_classes = draw(st.integers(2, max_classes))
    labels = draw(st.lists(st.integers(0, n_classes - 1), min_size=1, max_size=max_samples))
    return torch.tensor(labels), n_classes
