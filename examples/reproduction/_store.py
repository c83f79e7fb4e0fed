"""Results that outlive the process: one JSON file per finished task, and the course of a run."""

import hashlib
import json
import os
import pickle
from dataclasses import asdict
from time import perf_counter

import _tasks
from _results import provenance

# Rough seconds of a task, only to say how long the rest will take; measured ones correct them.
GUESS = {"samples": 1, "train": 60, "explain": 60, "images": 5, "compare": 5, "curve": 2}


class Store:
    """Results of the tasks of one plan in a folder.

    Parameters
    ----------
    folder : Path
        Created where it is missing.
    plan : Plan
        Results of another plan or of other versions are not found, and stay where they are.
    """

    def __init__(self, folder, plan):
        self.folder = folder
        self.kept = folder / "kept"
        self.kept.mkdir(parents=True, exist_ok=True)
        sizes = {k: v for k, v in asdict(plan).items() if k not in ("curve", "hours", "seeds")}
        self.sizes = sizes
        self.about = provenance()
        self.settings = sizes | self.about["versions"]

    def path(self, name, arguments, suffix=".json"):
        """Return where the result of a task is kept."""
        text = json.dumps([name, arguments, self.settings], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        words = "-".join([name, *map(str, arguments.values())])
        return self.kept / f"{words}-{digest}{suffix}"

    def read(self, name, **arguments):
        """Return the result of a task, or None where it is not finished."""
        path = self.path(name, arguments)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write(self, name, arguments, result):
        """Keep the result of a task."""
        self._move_in(self.path(name, arguments), json.dumps(result).encode())

    def read_object(self, name, **arguments):
        """Return what `write_object` kept: our own pickle, of this folder alone."""
        return pickle.loads(self.path(name, arguments, ".pickle").read_bytes())

    def write_object(self, name, arguments, thing):
        """Keep a fitted model or an explanation for later tasks."""
        self._move_in(self.path(name, arguments, ".pickle"), pickle.dumps(thing))

    def _move_in(self, path, content):
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(content)
        os.replace(partial, path)


def run_all(store, plan, datasets):
    """Run the tasks that are not finished, saying how long the rest will take."""
    tasks = plan.tasks(datasets)
    open_tasks = [task for task in tasks if store.read(task[0], **task[1]) is None]
    if len(open_tasks) < len(tasks):
        print(f"{len(tasks) - len(open_tasks)} of {len(tasks)} tasks were finished before")
    guess, spent = 0.0, 0.0
    too_late = set()  # data sets whose curve gets no further point
    start = perf_counter()
    for k, (name, arguments) in enumerate(open_tasks):
        words = " ".join(map(str, arguments.values()))
        if name == "curve":
            if arguments["data"] in too_late:
                continue
            needed = expected_seconds(store, plan, **arguments)
            if perf_counter() - start + needed > 3600 * plan.hours:
                too_late.add(arguments["data"])
                print(
                    f"{name} {words} epochs and more: left out, as {needed / 60:.0f} min more "
                    f"would end after {plan.hours:g} h"
                )
                continue
        began = perf_counter()
        result = getattr(_tasks, name)(store, plan, **arguments)
        result["seconds_of_task"] = perf_counter() - began
        result |= {"sizes": store.sizes} | store.about
        store.write(name, arguments, result)
        guess += GUESS[name]
        spent += result["seconds_of_task"]
        rest = sum(GUESS[later] for later, _ in open_tasks[k + 1 :] if later != "curve")
        left = f"; about {rest * spent / guess / 60:.0f} min left before the curve" if rest else ""
        print(
            f"[{k + 1}/{len(open_tasks)}] {name} {words}: {result['summary']} "
            f"({result['seconds_of_task']:.0f} s{left})",
            flush=True,
        )


def expected_seconds(store, plan, data, epochs):
    """Return how long a point of the curve will take, by those that were measured before.

    Parameters
    ----------
    store : Store
    plan : Plan
    data : str
        Name of the data set.
    epochs : int
        Epochs per layer of the point.

    Returns
    -------
    seconds : float
        In proportion to the point with the most epochs, or else to the same network's first run.
    """
    known = [(n, store.read("curve", data=data, epochs=n)) for n in plan.curve]
    known += [(plan.epochs, store.read("train", data=data, contestant="paper", seed=0))]
    measured = [(n, result["seconds_of_task"]) for n, result in known if result is not None]
    most, seconds = max(measured, default=(1, 0.0))
    return seconds * epochs / most
