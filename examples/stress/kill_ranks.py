"""Kill a process of a distributed fit at random moments: the others must notice, and resume.

In each round one of the processes gets SIGKILL at a random moment of the fit. The others must end
with skff's error before the timeout of the process group (and some seconds to start and stop) is
over. All are then started anew and go on from the checkpoint. The network must in the end be, bit
for bit, that of as many processes that nobody killed::

    python examples/stress/kill_ranks.py
    python examples/stress/kill_ranks.py --rounds 50 --processes 3 --seed 1
    python examples/stress/kill_ranks.py --smoke

Exit status 1 if a process hangs, dies of something else or if a network differs.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import skff

SCRIPT = Path(__file__).resolve().parents[1] / "distributed" / "train.py"
HINT = "Got no answer from another process"


def main(argv=None):
    """Run the rounds that the command line asks for; return the exit status."""
    options = parse_options(argv)
    rng = random.Random(options.seed)
    failures = n_killed = n_hit = 0
    print(f"{'parallel':<9} {'killed':>6} {'after s':>8} {'others ended after s':>21}  verdict")
    with tempfile.TemporaryDirectory() as folder:
        for parallel in options.parallel:
            unbroken = Path(folder) / f"{parallel}.skff"
            seconds = train(options, parallel, unbroken, Path(folder))
            expected = skff.load(unbroken)
            for number in range(options.rounds):
                place = Path(folder) / f"{parallel}-{number}"
                place.mkdir()
                found = attack(options, parallel, place, seconds, rng)
                verdict = found["verdict"] or resume(options, parallel, place, expected)
                failures += verdict != "same"
                n_killed += 1
                n_hit += found["hit"]
                print(
                    f"{parallel:<9} {found['victim']:>6} {found['moment']:>8.2f} "
                    f"{found['waited']:>21.2f}  {verdict}",
                    flush=True,
                )
    print(f"{n_killed} processes killed, {n_hit} of them in a fit that had not ended")
    print(f"{'FAILED' if failures else 'passed'}: {failures} of {n_killed} rounds failed")
    return int(failures > 0)


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = "--smoke" in (sys.argv if argv is None else argv)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parallel", nargs="+", choices=["data", "layers"],
        default=["layers"] if smoke else ["data", "layers"])  # fmt: skip
    add("--rounds", type=int, default=1 if smoke else 10, help="of each")
    add("--processes", type=int, default=2)
    add("--epochs", type=int, default=5 if smoke else 40)
    add("--timeout", type=float, default=30, help="seconds, of the process group")
    add("--patience", type=float, default=60, help="seconds beyond it, to start, stop or learn")
    add("--seed", type=int, default=0)
    add("--smoke", action="store_true", help="one round")
    return parser.parse_args(argv)


def start(options, parallel, place, save):
    """Start the processes of a fit, each with a file for what it prints."""
    processes = []
    port = str(_free_port())
    for rank in range(options.processes):
        environment = os.environ | {"RANK": str(rank), "WORLD_SIZE": str(options.processes)}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(SCRIPT), "--parallel", parallel, "--save", str(save)]
        command += ["--checkpoint", str(place / f"{parallel}.checkpoint")]
        command += ["--epochs", str(options.epochs), "--timeout", str(options.timeout)]
        command += ["--hidden", *["60"] * options.processes]
        with open(place / f"{rank}.txt", "w") as output:
            processes.append(
                subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            )
    return processes


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_all(processes, seconds, progress=None):
    """Wait for processes to end; kill those that do not, and return whether all did.

    With a file as `progress`, the seconds count from when it last grew: a slow fit is no hang.
    """
    end, size = time.monotonic() + seconds, 0
    while any(process.poll() is None for process in processes) and time.monotonic() < end:
        if progress is not None and progress.stat().st_size > size:
            end, size = time.monotonic() + seconds, progress.stat().st_size
        time.sleep(0.02)
    ended = all(process.poll() is not None for process in processes)
    for process in processes:
        process.kill()
        process.wait()
    return ended


def train(options, parallel, save, place):
    """Train without a kill; return the seconds from the first epoch to the end."""
    processes = start(options, parallel, place, save)
    began = wait_for_epochs(place / "0.txt", processes[0], options)
    patience = options.timeout + options.patience
    if not wait_all(processes, patience, place / "0.txt") or not save.exists():
        raise SystemExit(f"the fit without a kill failed: {(place / '0.txt').read_text()}")
    return time.monotonic() - began


def wait_for_epochs(path, process, options):
    """Wait until the first process has printed an epoch, or has ended; return when it was."""
    end = time.monotonic() + options.timeout + options.patience
    while time.monotonic() < end and process.poll() is None:
        if "epoch" in path.read_text():
            break
        time.sleep(0.01)
    return time.monotonic()


def attack(options, parallel, place, seconds, rng):
    """Kill a process at a random moment of a fit, and watch the others."""
    processes = start(options, parallel, place, place / "broken.skff")
    victim, moment = rng.randrange(options.processes), rng.uniform(0.0, seconds)
    wait_for_epochs(place / "0.txt", processes[0], options)
    time.sleep(moment)
    hit = all(process.poll() is None for process in processes)
    processes[victim].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    ended = wait_all(processes, options.timeout + options.patience)
    waited = time.monotonic() - killed
    verdict = None if ended else "HANGS"
    for rank, process in enumerate(processes):
        text = (place / f"{rank}.txt").read_text()
        # At the very end of a fit the others may have all that they need.
        if rank != victim and process.returncode and HINT not in text:
            verdict = verdict or f"rank {rank} DIED: {text[-200:]}"
    return {"victim": victim, "moment": moment, "waited": waited, "hit": hit, "verdict": verdict}


def resume(options, parallel, place, expected):
    """Start all processes again; return "same" if the network is the expected one."""
    save = place / "resumed.skff"
    processes = start(options, parallel, place, save)
    patience = options.timeout + options.patience
    if not wait_all(processes, patience, place / "0.txt") or not save.exists():
        return f"NOT RESUMED: {(place / '0.txt').read_text()[-300:]}"
    found = skff.load(save)
    pairs = zip(
        found.coefs_ + found.intercepts_ + found.label_coefs_,
        expected.coefs_ + expected.intercepts_ + expected.label_coefs_,
        strict=True,
    )
    return "same" if all(np.array_equal(*pair) for pair in pairs) else "DIFFERENT"


if __name__ == "__main__":
    sys.exit(main())
