"""Results as rows of a JSON file, one per run, each with what it takes to judge and repeat it.

A run is a dict that describes what is to be measured. Its row holds the same entries and, beside
them, what was measured and where: a file that has a run's row need not be given it again.
"""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from _common import processor, threads

REPOSITORY = Path(__file__).resolve().parents[2]
MEASURED_CODE = ["skff", "examples/benchmarks/*.py"]  # a change elsewhere changes no figure
VERSIONS = ["torch", "numpy", "scikit-learn", "skorch"]


def read_rows(path):
    """Return the rows of a file; none where there is no file."""
    if path is None or not Path(path).exists():
        return []
    return json.loads(Path(path).read_text(encoding="utf-8"))["runs"]


def write_rows(path, rows):
    """Write rows, a line each, so that an interrupt leaves either the old file or the new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row) for row in rows)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(f'{{"runs": [\n{lines}\n]}}\n', encoding="utf-8")
    os.replace(unfinished, path)


def find_row(rows, run):
    """Return the row of a run, whatever commit it was measured at, or None.

    A run without timing (``timed=False``) is satisfied by one with timing, on any number of
    threads.
    """
    ignored = () if run.get("timed", True) else ("timed", "threads")
    wanted = {name: value for name, value in run.items() if name not in ignored}
    missing = object()
    for row in rows:
        if all(row.get(name, missing) == value for name, value in wanted.items()):
            return row
    return None


def add_row(path, row, run):
    """Append a row to a file, in place of one of the same run without timing."""
    rows = read_rows(path)
    stale = find_row(rows, run | {"timed": False}) if run.get("timed") else None
    if stale is not None and not stale["timed"]:
        rows.remove(stale)
    write_rows(path, [*rows, row])


def write_results(path, runs, names):
    """Write results of this process to a file, if one is wanted.

    Parameters
    ----------
    path : str, Path or None
        None writes nothing.
    runs : list of dict
        Descriptions and figures; each is written with where it was measured.
    names : list of str
        Entries that tell one run from another: older rows that equal a new one in all of these
        are replaced, the others kept.
    """
    if path is None:
        return
    about = {"threads": threads()} | provenance()
    new = [[run[name] for name in names] for run in runs]
    kept = [row for row in read_rows(path) if [row.get(name) for name in names] not in new]
    write_rows(path, kept + [run | about for run in runs])


def run_missing(runs, measure, *, path=None, jobs=1, announce=print):
    """Measure the runs that have no row yet.

    Parameters
    ----------
    runs : list of dict
        What to measure; values as JSON has them.
    measure : callable
        ``(run, rows)`` -> dict of what was measured; `rows` are those finished before.
    path : str or Path, default=None
        File to read rows from and to add each new one to. None keeps them in memory only.
    jobs : int, default=1
        Runs at a time.
    announce : callable, default=print
        Is told of each row, once.

    Returns
    -------
    rows : list of dict
        One per run, in their order.
    """
    rows = read_rows(path)
    lock = threading.Lock()

    def finish(run):
        row = find_row(rows, run)
        if row is None:
            row = run | measure(run, rows) | provenance()
            with lock:
                rows.append(row)
                if path is not None:
                    add_row(path, row, run)
        with lock:
            announce(row)
        return row

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(finish, runs))


def measure_in_process(script, run, *, python_path=None):
    """Run a script in a process of its own and return the JSON that it prints last.

    Parameters
    ----------
    script : str
        File in this folder; gets `run` as JSON in its argument.
    run : dict
        Its ``threads`` is the number of threads that torch and BLAS use.
    python_path : str or Path, default=None
        Where to import skff from; None leaves ``PYTHONPATH`` as it is.

    Returns
    -------
    measured : dict
        What the script printed.

    Raises
    ------
    RuntimeError
        If the script fails; its own message is on stderr.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(run["threads"])}
    if python_path is not None:
        environment |= {"PYTHONPATH": str(python_path)}
    command = [sys.executable, str(Path(__file__).with_name(script)), json.dumps(run)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    if finished.returncode:
        raise RuntimeError(f"Got an error from {script}, see above, for the run {run}.")
    return json.loads(finished.stdout.splitlines()[-1])


def provenance():
    """Return commit, date, machine, versions and command, for a row."""
    return {
        "commit": commit(REPOSITORY),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
        },
        "versions": {"python": sys.version.split()[0]} | {name: version(name) for name in VERSIONS},
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def commit(repository):
    """Return the short name of a checkout's commit, with "-dirty" where its code was changed."""
    name = _git(repository, "rev-parse", "--short", "HEAD")
    if name is None:
        return "unknown"
    changed = _git(repository, "status", "--porcelain", "--", *MEASURED_CODE)
    return f"{name}-dirty" if changed else name


def _git(repository, *arguments):
    try:
        return subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
