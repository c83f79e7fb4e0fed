"""Processes that are really killed, and go on."""

import importlib.util
import signal
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "stress" / "kill_and_resume.py"


@pytest.fixture(scope="module")
def script():
    """Return the stress script as a module."""
    spec = importlib.util.spec_from_file_location("kill_and_resume", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("case", ["early stopping", "sequential"])
def test_a_process_that_is_killed_goes_on_where_it_was(case, script, tmp_path):
    options = script.parse_options(["--smoke", "--epochs", "8", "--samples", "200"])
    script.warm_up()
    (tmp_path / "run").mkdir()
    process = script.Spawned(case, options).begin(tmp_path / "run")
    while not (tmp_path / "run" / "checkpoint").exists():
        assert process.process.poll() is None
    assert process.kill_after(0.02) or (tmp_path / "run" / "outcome").exists()
    for folder in ("run", "whole"):
        (tmp_path / folder).mkdir(exist_ok=True)
        script.work(case, tmp_path / folder, options)
    outcomes = [(tmp_path / folder / "outcome").read_text() for folder in ("run", "whole")]
    assert outcomes[0] == outcomes[1]
