"""What all tests share.

Libraries are imported where they are used: the process that only hands tests to others needs
none of them.
"""

import gc
import os
import re

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before scipy loads, or a check is skipped
os.environ.setdefault("MPLBACKEND", "Agg")
# Threads on data this small only wait for each other; also in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path
from unittest import mock

import pytest


def pytest_sessionstart(session):
    if session.config.pluginmanager.hasplugin("dsession"):  # hands tests to processes of its own
        return
    import torch
    from hypothesis import settings

    torch.set_num_threads(1)
    settings.register_profile("skff", deadline=None, max_examples=20)
    settings.load_profile("skff")


def pytest_collection_finish(session):
    # What the libraries made is never garbage, and there is much of it to look through.
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    import torch

    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("cuda"):
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture(autouse=True)
def denormal_numbers():
    """Fail the test that leaves denormal numbers flushed, not the next one that draws some."""
    import numpy as np

    yield
    assert np.float64(5e-324) * np.float64(1) > 0, "denormal numbers are flushed to zero"


@pytest.fixture(scope="session")
def image_folder():
    """Return the folder with real image data, or skip the test with the reason."""
    folder = os.environ.get("SKFF_DATA")
    if not folder:
        pytest.skip("SKFF_DATA is not set: no real images to test on")
    return Path(folder)


def pytest_make_parametrize_id(val):
    """Name cases by what they are, without addresses: all processes must name them alike."""
    if val is None or isinstance(val, bool | int | float | str | bytes | type):
        return None  # pytest's own names
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(val))


@pytest.fixture(scope="module")
def few_features_like_many():
    """Let the samples of tests, which have few features, be predicted as those with many are."""
    from skff.forward_forward.occlusion import _predictor

    with mock.patch.object(_predictor, "FEWEST_FEATURES", 0):
        yield
