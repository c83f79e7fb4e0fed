"""Checkpoints of a fit: its whole state after the last epoch, in memory and in a file.

A state is a tree of dicts, lists, numbers and tensors, of which a file holds the tensors as arrays
and all else as JSON. What was read must have the form of a state that the fit makes itself: the
same names, types and shapes, and numbers that it can have.
"""

import math
from numbers import Number

import numpy as np
import torch
from sklearn.utils import check_random_state

from skff import _files
from skff._checkpoint import CheckpointFile, versions
from skff._fingerprint import describe, describe_array, describe_blocks
from skff.forward_forward._torch import as_numpy, check_generator, resolve_device

# Parameters that change no number, and those that the fingerprint describes in another way.
NOT_COMPARED = {"checkpoint", "checkpoint_every", "keep_interrupted", "verbose"}
NOT_COMPARED |= {"device", "parallel", "warm_start"}
# Of a record of the history: lists with an item per layer, and numbers.
LISTS, NUMBERS = {"layers", "loss", "positive_share"}, {"epoch", "seconds", "learning_rate"}
LARGEST = 1e15  # of weights: their squares and sums must fit into float32
NOT_NEGATIVE = {"step", "exp_avg_sq"}  # of what an optimizer keeps


class Progress:
    """How far a fit is, and the objects whose state it goes on from.

    Parameters
    ----------
    network : Network
        What is trained.
    generator : torch.Generator
        Source of randomness.
    history : list of dict
        One record per epoch.
    phases : list
        What is trained in turn.

    Attributes
    ----------
    phase : int
        Index of the phase; the number of phases once the fit is finished.
    epoch : int
        Whole epochs of this phase.
    is_over : bool
        Whether the phase needs no further epoch.
    trainer : Trainer or None
        Of this phase; None before the first and after the last one.
    best : object or None
        The best weights of this phase.
    """

    def __init__(self, network, generator, history, phases):
        self.network = network
        self.generator = generator
        self.history = history
        self.phases = phases
        self.phase, self.epoch, self.is_over = 0, 0, False
        self.trainer = self.best = None

    def enter(self, phase, trainer, best):
        """Begin a phase."""
        self.phase, self.epoch, self.is_over = phase, 0, False
        self.trainer, self.best = trainer, best

    @property
    def is_finished(self):
        """Whether no phase is left."""
        return self.phase == len(self.phases)

    def state(self):
        """Return a copy of all that the fit goes on from, but for the history."""
        trainer, best = self.trainer, self.best
        return {
            "phase": self.phase,
            "epoch": self.epoch,
            "is_over": self.is_over,
            "network": self.network.state(),
            "trainer": trainer and trainer.state(),
            "best": best and best.state(),
            "best_network": best and best.weights,
        }


class Snapshot:
    """A state as arrays and a JSON document.

    Parameters
    ----------
    arrays : dict of str -> ndarray
        By their place in the tree.
    document : dict
        The tree with None in place of the arrays.
    """

    def __init__(self, arrays, document):
        self.arrays, self.document = arrays, document

    @classmethod
    def of(cls, tree):
        """Take a state apart."""
        arrays = {}
        return cls(arrays, _take_apart(tree, "", arrays))

    def has(self, name):
        """Return whether there is something at the top of the tree under a name."""
        return self.document[name] is not None

    def take(self, place, form):
        """Return what is at a place of the tree.

        Parameters
        ----------
        place : str
            Names from the top, such as "trainer/generator".
        form : object
            Something of the same form.

        Returns
        -------
        part : object
            With new tensors on the CPU.

        Raises
        ------
        LookupError, TypeError, ValueError
            If there is nothing or something of another form.
        """
        part = self.document
        for name in place.split("/"):
            part = part[name]
        return _put_together(part, form, place, self.arrays)


def _take_apart(tree, place, arrays):
    """Return a tree as JSON; its tensors go to `arrays`."""
    if isinstance(tree, torch.Tensor):
        arrays[place] = as_numpy(tree)
        return None
    if isinstance(tree, (list, tuple)):
        return [_take_apart(part, f"{place}/{i}", arrays) for i, part in enumerate(tree)]
    if isinstance(tree, dict):
        inside = place and f"{place}/"
        return {str(key): _take_apart(tree[key], f"{inside}{key}", arrays) for key in tree}
    return tree


def _put_together(part, form, place, arrays):
    """Return a part of a tree, of the same form as another one."""
    if isinstance(form, torch.Tensor):
        found, expected = arrays[place], as_numpy(form)
        if (found.dtype, found.shape) != (expected.dtype, expected.shape):
            raise ValueError(
                f"its {place} is {found.dtype} {found.shape}, not {expected.dtype} {expected.shape}"
            )
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise ValueError(f"its {place} has numbers that are not finite")
        return torch.from_numpy(found).clone()  # where torch would have it in memory
    if isinstance(form, dict) and isinstance(part, dict) and part.keys() == set(map(str, form)):
        return {
            key: _put_together(part[str(key)], value, f"{place}/{key}", arrays)
            for key, value in form.items()
        }
    if isinstance(form, (list, tuple)) and isinstance(part, list) and len(part) == len(form):
        pairs = zip(part, form, strict=True)
        parts = [_put_together(*pair, f"{place}/{i}", arrays) for i, pair in enumerate(pairs)]
        return type(form)(parts)
    if type(part) is type(form) or {type(part), type(form)} == {int, float}:
        if isinstance(part, float | int) and not 0 <= part < math.inf and part != form:
            raise ValueError(f"its {place} is {part!r:.50}, not a finite number of at least 0")
        return part
    raise ValueError(f"its {place} is {part!r:.50}, which is not of the form of {form!r:.50}")


class Checkpoint:
    """What is kept of a fit: its state after the last whole epoch, and a file of every k-th.

    Parameters
    ----------
    estimator : FFClassifier
        Its parameters, and its network if the fit goes on from that.
    task : Task
        The checked training data.
    go_on : bool
        Whether the fit goes on from the fitted network.
    ranks : OneRank or Ranks
        The processes of the fit; the first one alone reads and writes the file.

    Attributes
    ----------
    random_state : int or RandomState
        That of the estimator; in place of None a number that was drawn when the fit began.

    Raises
    ------
    ValueError
        If there is a file that is not of this fit.
    """

    def __init__(self, estimator, task, go_on, ranks):
        self.every = estimator.checkpoint_every
        self.file = self.last = self.seed = None
        self.path = estimator.checkpoint
        self.n_unwritten = 0  # epochs
        if self.path is not None:

            def read():
                described = _fingerprint(estimator, task, go_on)
                self.file = CheckpointFile(self.path, "fit", described)
                return self.file.read()

            content = ranks.ask_first(read)
            self.last = content and Snapshot(*content)
        self.was_read = self.last is not None
        self.keeps = estimator.keep_interrupted or self.file is not None
        self.goes_back = ranks.size == 1
        self.random_state = estimator.random_state
        if self.random_state is None:
            self.random_state = self.seed = int(ranks.first(self._drawn_seed()))

    def _drawn_seed(self):
        """Return a seed in place of None: that of the file, or one of NumPy's global state."""
        if self.last is None:
            return int(check_random_state(None).randint(np.iinfo(np.int32).max))
        with _files.refusing(self.path):
            return self.last.take("seed", 0) % 2**32

    def resume(self, progress):
        """Bring a fit that has not begun to the phase where the file left it, if there is one."""
        if self.last is None:
            return
        n_phases = len(progress.phases)
        with _files.refusing(self.path):
            progress.phase = self.last.take("phase", 0)
            if not 0 <= progress.phase <= n_phases:
                raise ValueError(f"it is of phase {progress.phase} of {n_phases}")
            state = self.last.take("network", progress.network.state())
            progress.network.restore(_checked_network(state))
            progress.history[:] = _checked_history(self.last.document["history"])

    def resume_phase(self, progress, max_iter):
        """Bring a phase that has not begun to where the file left it, if it is of this phase.

        Parameters
        ----------
        progress : Progress
            Of a fit that has entered the phase.
        max_iter : int
            Epochs of a phase.
        """
        last, trainer, best = self.last, progress.trainer, progress.best
        if last is None or last.document["phase"] != progress.phase:
            return
        with _files.refusing(self.path):
            progress.epoch, progress.is_over = last.take("epoch", 0), last.take("is_over", True)
            if not 0 <= progress.epoch < max_iter + progress.is_over:
                raise ValueError(f"it is of epoch {progress.epoch} of {max_iter}")
            form = trainer.state_after_a_step()
            trainer.restore(_checked_trainer(last.take("trainer", form), form))
            best.restore(last.take("best", best.state()))
            if last.has("best_network"):
                state = last.take("best_network", progress.network.state())
                best.weights = _checked_network(state)

    def keep(self, progress):
        """Keep the state after a whole epoch, and write it if it is the k-th since the last."""
        if not self.keeps:
            return
        self.last = Snapshot.of(progress.state())
        self.last.document |= {"history": list(progress.history), "seed": self.seed}
        self.n_unwritten += 1
        if self.n_unwritten >= self.every:
            self.write()

    def finish(self, progress):
        """Write the final state, unless the fit was resumed with it."""
        if self.file is not None and (not progress.is_finished or self.last is None):
            progress.enter(len(progress.phases), None, None)
            self.every = 1
            self.keep(progress)

    def write(self):
        """Write the last state unless it is written."""
        if self.file is not None and self.n_unwritten:
            self.file.write(self.last.arrays, self.last.document)
            self.n_unwritten = 0

    def name_file(self, error):
        """Note in an error that the fit was resumed from the file, which may be the cause."""
        if self.was_read:
            path = str(self.path)
            error.add_note(f"The fit was resumed from {path!r}; delete the file to begin anew.")

    def go_back(self, progress, interrupt):
        """Bring a fit back to its last whole epoch, and to the best weights by then.

        Parameters
        ----------
        progress : Progress
            At any moment of an epoch.
        interrupt : KeyboardInterrupt
            What ended the epoch.

        Returns
        -------
        interrupt : KeyboardInterrupt

        Raises
        ------
        KeyboardInterrupt
            If nothing is kept, or other processes are interrupted at other moments.
        """
        self.write()
        if self.last is None or not self.goes_back:
            raise interrupt
        network, generator = progress.network, progress.generator
        place = "best_network" if self.last.has("best_network") else "network"
        network.restore(self.last.take(place, network.state()))
        generator.set_state(self.last.take("trainer/generator", generator.get_state()))
        progress.history[:] = self.last.document["history"]
        return interrupt


def _checked_network(state):
    """Return the state of a network if its weights are not too large, as those of a model."""
    for tensor in state["tensors"]:
        if tensor.abs().max() > LARGEST:
            raise ValueError(f"its network has weights above {LARGEST}")
    return state


def _checked_trainer(state, form):
    """Return the state of a trainer if it can be one, beyond its form."""
    check_generator(state["generator"].numpy())
    optimizer, settings = state["optimizer"], form["optimizer"]["param_groups"]
    for found, expected in zip(optimizer["param_groups"], settings, strict=True):
        if found | {"lr": None} != expected | {"lr": None}:  # the rate follows a schedule
            raise ValueError(f"its optimizer has the settings {found}, not {expected}")
    for moments in optimizer["state"].values():
        for name in NOT_NEGATIVE & moments.keys():
            if (torch.as_tensor(moments[name]) < 0).any():
                raise ValueError(f"its optimizer has negative values of {name}")
    return state


def _checked_history(history):
    if not isinstance(history, list) or not all(map(_is_record, history)):
        raise ValueError("its history is no list of records of epochs")
    return history


def _is_record(record):
    if not isinstance(record, dict) or not record.keys() >= LISTS | NUMBERS:
        return False
    rows = [record[name] for name in LISTS]
    if not all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows):
        return False
    numbers = [value for name, value in record.items() if name not in LISTS]
    values = sum(rows, numbers)
    return all(isinstance(value, Number) and math.isfinite(value) for value in values)


def _fingerprint(estimator, task, go_on):
    """Return what the numbers of a fit depend on, in words."""
    X, y, weight = task.samples
    data = {"X": describe_blocks(X.blocks(len(X)), "float32", X.shape)}
    data |= {"y": describe_array(y), "classes": describe(task.classes)}
    data["sample_weight"] = "None" if weight is None else describe_array(weight)
    params = estimator.get_params(deep=False)
    described = {name: _describe(name, params[name]) for name in params.keys() - NOT_COMPARED}
    weights = describe(estimator._network.tensors()) if go_on else "drawn"
    machine = {"weights at the start": weights, "torch": torch.__version__}
    machine["device"] = _describe_device(resolve_device(estimator.device))
    return data | dict(sorted(described.items())) | machine | versions()


def _describe(name, value):
    try:
        return describe(value)
    except ValueError as error:
        raise ValueError(
            f"Got {name}={value!r} with a checkpoint, but expected a parameter that can be "
            f"compared when the fit is resumed: {error}"
        ) from error


def _describe_device(device):
    """Describe what kind of arithmetic a device does."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        capability = torch.backends.cpu.get_cpu_capability()
        return f"cpu {capability} with {torch.get_num_threads()} threads"
    return device.type
