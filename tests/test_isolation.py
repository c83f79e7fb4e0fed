"""What skff does not touch: the network, and files that it was not given."""

import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

REPOSITORY = Path(__file__).parents[1]
WATCHED = r"""
import json, os, socket, sys

given = os.path.realpath(sys.argv[1])
touched = []  # all that is done to files elsewhere, and to the network
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate")
NETWORK = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo")


def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, int) or not (flags & WRITES) or path == os.devnull:
            return
    elif event in CHANGES:
        path = arguments[0]
    elif event in NETWORK:
        touched.append([event, repr(arguments)])
        raise OSError("the network is not to be used")
    else:
        return
    path = os.path.realpath(os.fsdecode(path))
    if os.path.commonpath([path, given]) != given:
        touched.append([event, path])


def attempt(work):
    before = len(touched)
    try:
        work()
    except OSError:
        pass
    return len(touched) > before


sys.addaudithook(watch)

import numpy as np
from sklearn.naive_bayes import GaussianNB

import skff
from skff import ADSExplainer, FFClassifier
from skff.datasets import fetch_mnist

rng = np.random.default_rng(0)
X, y = rng.random((60, 16)), np.arange(60) % 3
for solver in ("sgd", "adamw"):
    ff = FFClassifier((8,), max_iter=2, solver=solver, random_state=0).fit(X, y)
    ff.partial_fit(X, y)
ff.predict_proba(X)
for model in (ff, GaussianNB().fit(X, y)):
    explanation = ADSExplainer(model).explain(X, y)
    explanation.significant()
skff.save(ff, os.path.join(given, "ff"))
skff.save(explanation, os.path.join(given, "explanation"))
skff.load(os.path.join(given, "ff")).predict(X)
skff.load(os.path.join(given, "explanation"))
os.environ["SKFF_DATA"] = given
by_skff = list(touched)
is_light = "torch._dynamo" not in sys.modules

caught = {
    "write": attempt(lambda: open(os.path.join(os.path.dirname(given), "elsewhere"), "w")),
    "folder": attempt(lambda: os.mkdir(os.path.join(os.path.dirname(given), "elsewhere"))),
    "network": attempt(lambda: socket.create_connection(("127.0.0.1", 9))),
    "download": attempt(lambda: fetch_mnist(data_home=os.path.join(given, "home"))),
}
print(json.dumps([by_skff, is_light, caught]))
"""


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Import, fit, explain, save and load under watch; return what was touched, and the proof."""
    folder = tmp_path_factory.mktemp("watched")
    (folder / "given").mkdir()
    environment = os.environ | {
        "HOME": str(folder / "no_such_home"),
        "TMPDIR": str(folder / "given"),  # where SciPy 1.14 makes a file on import
        "MPLCONFIGDIR": matplotlib.get_configdir(),  # whose cache of fonts is matplotlib's own
        "PYTHONPATH": str(REPOSITORY),
    }
    run = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED, str(folder / "given")],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_nothing_is_written_but_to_the_paths_given_and_nothing_is_sent(watched):
    touched, _, _ = watched
    assert touched == []


def test_torchs_compiler_is_not_imported(watched):
    _, is_light, _ = watched
    assert is_light


def test_the_watch_would_have_seen_it(watched):
    _, _, caught = watched
    assert caught == dict.fromkeys(["write", "folder", "network", "download"], True)
