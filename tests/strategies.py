"""Hypothesis strategies shared by the tests: small shapes, bounded finite numbers."""

import numpy as np
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
