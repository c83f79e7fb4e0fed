"""Train one network on several processes, and go on where a killed run ended.

torchrun starts the processes and, with ``--max-restarts``, starts all of them anew if one dies::

    torchrun --nproc-per-node=2 examples/distributed/train.py --parallel data
    torchrun --nproc-per-node=2 examples/distributed/train.py --parallel layers --hidden 300 300
    torchrun --nproc-per-node=2 --max-restarts=3 examples/distributed/train.py \
        --parallel data --checkpoint fit.checkpoint --save model.skff

Every process calls `fit` with all of the data and the same parameters. On several machines, give
torchrun ``--nnodes`` and ``--rdzv-endpoint``; the checkpoint is a file of the first process.
"""

import argparse
from datetime import timedelta

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import distributed

import skff
from skff.datasets import fetch_fashion_mnist, fetch_mnist

IMAGES = {"mnist": fetch_mnist, "fashion-mnist": fetch_fashion_mnist}


def main(argv=None):
    """Join the other processes, train, and let the first one tell and save."""
    options = parse_options(argv)
    torch.set_num_threads(options.threads)
    distributed.init_process_group("gloo", timeout=timedelta(seconds=options.timeout))
    X, y, X_test, y_test = load(options.data)
    classifier = skff.FFClassifier(
        options.hidden,
        max_iter=options.epochs,
        parallel=options.parallel,
        checkpoint=options.checkpoint,
        device="cpu",
        random_state=0,
        verbose=True,  # of which the first process alone takes notice
    ).fit(X, y)
    if distributed.get_rank() == 0:
        print(f"accuracy {classifier.score(X_test, y_test):.4f}", flush=True)
        if options.save:
            skff.save(classifier, options.save)
    distributed.destroy_process_group()


def parse_options(argv):
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--parallel", choices=["data", "layers"], default="data")
    add("--data", choices=["digits", *IMAGES], default="digits")
    add("--hidden", type=int, nargs="+", default=[200, 200], help="units of each layer")
    add("--epochs", type=int, default=10)
    add("--threads", type=int, default=1, help="of each process")
    add("--timeout", type=float, default=60, help="seconds to wait for another process")
    add("--checkpoint", metavar="FILE", help="go on from it, and write it after every epoch")
    add("--save", metavar="FILE", help="write the classifier in the end")
    return parser.parse_args(argv)


def load(name):
    """Return X, y to train on and X, y to test on."""
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=0)
        return X, y, X_test, y_test
    fetch = IMAGES[name]
    return *fetch(return_X_y=True), *fetch(subset="test", return_X_y=True)


if __name__ == "__main__":
    main()
