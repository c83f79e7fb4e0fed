"""Scripts that load the library, run small; their ``--smoke`` modes run beside the tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

STRESS = Path(__file__).parent.parent / "examples" / "stress"


def run(script, *arguments):
    """Run a script in a process of its own; return what it prints."""
    command = [sys.executable, STRESS / script, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts what a process may allocate")
def test_a_file_larger_than_the_memory_that_may_be_allocated_is_enough():
    # RLIMIT_DATA, set in a process of its own, counts what is allocated but not the mapped file;
    # the script fails if the file could be copied, and where results differ from those in memory.
    assert run("larger_than_memory.py", "--smoke", "--types", "float64").endswith("PASSED\n")
