"""One run of ``bench_distributed.py``, with processes of its own.

Reads a description of the run as JSON from its argument and prints what was measured as JSON.
"""

import json
import os
import sys
import tempfile
from itertools import pairwise
from time import perf_counter

import torch
from _plain_networks import BackpropLoop
from bench_scaling import make_data
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from skff import FFClassifier

DROPOUT = 0.1
N_MESSAGES = 40  # of each size


def measure_ff(run, parallel=None):
    """Train an FFClassifier; return the seconds of each epoch, the bytes and the last losses."""
    X, y = make_data(run["samples"], run["features"], run["classes"])
    classifier = FFClassifier(
        run["hidden"],
        batch_size=run["batch_size"],
        max_iter=run["epochs"],
        dropout=DROPOUT,
        random_state=run["repeat"],
        parallel=parallel,
    ).fit(X, y)
    history = classifier.history_
    return {
        "epoch_seconds": [row["seconds"] for row in history],
        "epoch_bytes": history[-1].get("communicated_bytes", 0),
        "loss": history[-1]["loss"],
    }


class SharedLoop(BackpropLoop):
    """The plain loop with torch's DistributedDataParallel around its network."""

    def _make_optimizer(self):
        self.net_ = DistributedDataParallel(self.net_)
        return super()._make_optimizer()


def measure_backprop(run, rank=0, size=1):
    """Train the plain loop; of several processes each has every so many-th sample."""
    X, y = make_data(run["samples"], run["features"], run["classes"])
    settings = {"batch_size": run["batch_size"] // size, "max_iter": run["epochs"]}
    loop = (SharedLoop if size > 1 else BackpropLoop)(
        run["hidden"], **settings, dropout=DROPOUT, random_state=run["repeat"]
    )
    ends = [perf_counter()]
    loop.fit(X[rank::size], y[rank::size], lambda make_model: ends.append(perf_counter()))
    n_weights = sum(parameter.numel() for parameter in loop.net_.parameters())
    n_batches = run["samples"] // run["batch_size"]
    return {
        "epoch_seconds": [end - start for start, end in pairwise(ends)],
        "epoch_bytes": 4 * n_weights * n_batches * size * (size > 1),
    }


def measure_messages(run, rank):
    """Time messages between two processes: sent to and fro, and added up."""
    found = []
    for n_bytes in run["sizes"]:
        message = torch.zeros(n_bytes // 4)
        for how in (_to_and_fro, distributed.all_reduce):
            seconds = []
            for _ in range(N_MESSAGES):
                distributed.barrier()
                start = perf_counter()
                how(message)
                seconds.append(perf_counter() - start)
            name = "all_reduce" if how is distributed.all_reduce else "send"
            halved = 2 if name == "send" else 1
            found.append([name, n_bytes, sorted(seconds)[N_MESSAGES // 2] / halved])
    return {"messages": found}


def _to_and_fro(message):
    rank = distributed.get_rank()
    for sender in (0, 1):
        if rank == sender:
            distributed.send(message, 1 - rank)
        else:
            distributed.recv(message, 1 - rank)


def measure(run, rank, meet):
    """Join the group of the run, if it has several processes, and measure."""
    torch.set_num_threads(run["threads"])
    size = run["processes"]
    if size > 1:
        where = {"init_method": f"file://{meet}", "rank": rank, "world_size": size}
        distributed.init_process_group("gloo", **where)
    contestants = {
        "ff": lambda: measure_ff(run),
        "ff-data": lambda: measure_ff(run, "data"),
        "ff-layers": lambda: measure_ff(run, "layers"),
        "backprop": lambda: measure_backprop(run),
        "backprop-data": lambda: measure_backprop(run, rank, size),
        "messages": lambda: measure_messages(run, rank),
    }
    measured = contestants[run["contestant"]]()
    if size > 1:
        distributed.barrier()
        distributed.destroy_process_group()
    return measured


def main(run):
    """Fork the other processes, measure in all of them and print what this one measured."""
    torch.set_flush_denormal(True)  # random data make gradients of backprop so small
    with tempfile.TemporaryDirectory() as folder:
        others = []
        for rank in range(1, run["processes"]):
            child = os.fork()
            if child == 0:
                measure(run, rank, f"{folder}/meet")
                os._exit(0)
            others.append(child)
        print(json.dumps(measure(run, 0, f"{folder}/meet")), flush=True)
        for child in others:
            os.waitpid(child, 0)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
