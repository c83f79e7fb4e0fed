"""Training on several processes of torch.distributed.

A *team* says which part of the work is this process's own: all of it (`Alone`), a share of the
samples of every batch (`DataParallel`) or some of the layers (`LayerParallel`). Its *ranks* are how
the processes talk to each other.
"""

from collections import deque
from contextlib import contextmanager
from functools import cache

import torch
from sklearn.utils import check_random_state
from torch import distributed

from skff import _fingerprint as fingerprint
from skff._fingerprint import describe_blocks
from skff.forward_forward._batches import Share

LABEL_COST = 25  # multiply-adds of a product that take as long as one label's work at a unit
MOST_UNSENT = 4  # batches of activities that wait for the next process


class OneRank:
    """What a process that is alone hears from all processes."""

    rank, size = 0, 1

    def call(self, function):
        """Call a function of no arguments and return what it returns."""
        return function()

    def any(self, flag):
        """Return whether a flag is set."""
        return flag

    def first(self, value):
        """Return a number."""
        return value

    def ask_first(self, function):
        """Call a function of no arguments and return what it returns."""
        return function()

    def random_state(self, random_state):
        """Return the RandomState of a parameter."""
        return check_random_state(random_state)

    def check_alike(self, describe):
        """Compare with nobody."""


class Ranks:
    """The processes of torch.distributed's default group.

    All of them call the same methods in the same order; each call waits for the others. One that
    has ended, or is later than the group's timeout, is a RuntimeError on the others.

    Attributes
    ----------
    rank, size : int
        Number of this process, from 0, and of all.
    n_bytes : int
        Handed over by this process so far; whoever counts sets it back.
    """

    def __init__(self):
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self.device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        self.n_bytes = 0

    def call(self, function):
        """Call a function of no arguments on every rank; what fails on one fails on all.

        Parameters
        ----------
        function : callable

        Returns
        -------
        output : object
            What the function returned here.

        Raises
        ------
        Exception
            That of the function here; otherwise a ValueError or RuntimeError that quotes the
            first rank where it failed.
        """
        error, output = None, None
        try:
            output = function()
        except Exception as raised:
            error = raised
        if self.any(error is not None):
            found = error and (isinstance(error, ValueError), f"{type(error).__name__}: {error}")
            found = self._exchange(found)
            if error is not None:
                raise error
            rank, (is_value_error, text) = next(pair for pair in enumerate(found) if pair[1])
            kind = ValueError if is_value_error else RuntimeError
            raise kind(f"Got an error on rank {rank} of {self.size}: {text}")
        return output

    def any(self, flag):
        """Return whether a flag is set on any rank."""
        return bool(self.add_up(torch.tensor([float(flag)], device=self.device)) > 0)

    def first(self, value):
        """Return the number that rank 0 has, as a float."""
        number = torch.tensor([float(value)], dtype=torch.float64, device=self.device)
        self.broadcast([number], 0)
        return float(number)

    def ask_first(self, function):
        """Call a function on rank 0 and return what it returns there, which can be pickled."""
        answer = self.call(function if self.rank == 0 else lambda: None)
        return self.broadcast_object(answer, 0)

    def random_state(self, random_state):
        """Return the same RandomState on all ranks, where the parameter is alike."""
        if random_state is None:
            random_state = int(self.first(check_random_state(None).randint(2**31 - 1)))
        return check_random_state(random_state)

    def check_alike(self, describe):
        """Compare descriptions of what has to be the same on all ranks.

        Parameters
        ----------
        describe : callable
            Of no arguments -> dict of names -> descriptions.

        Raises
        ------
        ValueError
            On every rank, if a description differs on any of them.
        """
        found = self._exchange(self.call(describe))
        names = found[0] | {name: None for names in found for name in names}
        differing = {
            name: [rank for rank in range(self.size) if found[rank].get(name) != found[0].get(name)]
            for name in names
        }
        differing = {name: ranks for name, ranks in differing.items() if ranks}
        if differing:
            ranks = sorted(set().union(*differing.values()))
            raise ValueError(
                f"Got {', '.join(differing)} on rank {', '.join(map(str, ranks))} unlike on rank "
                f"0, but expected the same on all {self.size} ranks: every process passes all of "
                "the data, the same parameters and the same random_state, and takes its own part."
            )

    def add_up(self, tensor):
        """Replace a tensor by the sum of those of all ranks, in place, and return it."""
        self.n_bytes += tensor.nbytes
        with self._in_touch():
            distributed.all_reduce(tensor)
        return tensor

    def all_bytes(self):
        """Return what all ranks handed over since each set its count back."""
        count = torch.tensor([self.n_bytes], dtype=torch.float64, device=self.device)
        return int(self.add_up(count))

    def broadcast(self, tensors, rank):
        """Overwrite tensors, in place, by those of a rank."""
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        self.n_bytes += flat.nbytes * (rank == self.rank)
        with self._in_touch():
            distributed.broadcast(flat, rank)
        pieces = flat.split([tensor.numel() for tensor in tensors])
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))

    def broadcast_object(self, thing, rank):
        """Return what a rank has, an object that can be pickled."""
        things = [thing]
        with self._in_touch():
            distributed.broadcast_object_list(things, rank, device=torch.device(self.device))
        return things[0]

    def send(self, tensor, rank):
        """Begin to send a tensor, which must stay as it is; return a function that waits."""
        self.n_bytes += tensor.nbytes
        with self._in_touch():
            return self._waiting(distributed.isend(tensor, rank), tensor)

    def receive(self, tensor, rank):
        """Begin to receive a tensor in place; return a function that waits for and returns it."""
        with self._in_touch():
            return self._waiting(distributed.irecv(tensor, rank), tensor)

    def _waiting(self, work, tensor):
        def wait():
            with self._in_touch():
                work.wait()
            return tensor

        return wait

    def _exchange(self, thing):
        """Return what each rank has, in a list."""
        found = [None] * self.size
        with self._in_touch():
            distributed.all_gather_object(found, thing)
        return found

    @contextmanager
    def _in_touch(self):
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(
                f"Got no answer from another process on rank {self.rank} of {self.size}, but "
                "expected all of them to take part: one has ended or failed, or exceeds the "
                "timeout of the process group. The classifier is as it was before the call; "
                f"restart all processes. ({str(error).splitlines()[0]})"
            ) from error


class Alone:
    """One process that does all of the work.

    Another way to divide it needs the same attribute and methods.

    Attributes
    ----------
    ranks : OneRank or Ranks
        How to talk to the other processes.
    """

    ranks = OneRank()

    def share(self, n_samples):
        """Return the share of a batch that is computed here."""
        return Share(n_samples)

    def own_layers(self, network, layers):
        """Return which of some layers learn here, a range."""
        return layers

    def own_head(self, head):
        """Return whether the softmax head learns here, if it does at all."""
        return head

    def batches(self, trainer, data, batches, generator, dtype):
        """Pass batches through the layers.

        Parameters
        ----------
        trainer : Trainer
            Whose network and layers they are.
        data : TrainingData
            All samples.
        batches : list of LongTensor
            Rows of each batch.
        generator : torch.Generator
            Source of randomness of augmentation and dropout.
        dtype : torch.dtype
            Of the layers' inputs.

        Yields
        ------
        passes : iterable
            What `Network.trunk` yields, of the share of the batch.
        y : LongTensor of shape (n,)
            Encoded labels of all of the batch.
        weight : Tensor of shape (n,) or float
            Weights of all of the batch.
        """
        n_layers = None if trainer.head else trainer.layers.stop  # the head reads all layers
        for rows in batches:
            f, y, weight = data.batch(rows, generator, share=self.share(len(rows)))
            yield trainer.network.trunk(f.to(dtype), n_layers), y, weight

    def add_up(self, trainer, totals):
        """Complete the gradients of a batch that the optimizer is about to use, and its totals."""
        return totals

    def finish_epoch(self, trainer, totals):
        """Let every rank have the whole network, and return the totals of all learners."""
        return totals

    def complete(self, trainer):
        """Let every rank have all that training can go on from."""

    def record(self):
        """Return what the history tells of an epoch."""
        return {}


ALONE = Alone()


class DataParallel(Alone):
    """Processes that each compute a share of every batch and add up their gradients.

    Random numbers are drawn for the whole batch on every rank. What a layer has to know of the
    whole batch is added up as well: how strong each sample's signal is where some are drawn, the
    goodness that negatives are drawn by, and the mean activity of peer normalization.
    """

    def __init__(self, ranks):
        self.ranks = ranks
        self.buffer = None

    def share(self, n_samples):
        """Return every so many-th sample, so that each block of a batch is shared evenly."""
        return Share(n_samples, self.ranks.rank, self.ranks.size, self.ranks.add_up)

    def batches(self, trainer, data, batches, generator, dtype):
        """Pass the share of each batch through the layers."""
        self.ranks.n_bytes = 0
        yield from super().batches(trainer, data, batches, generator, dtype)

    def add_up(self, trainer, totals):
        """Add up the gradients of all layers and the totals: one all-reduce per batch."""
        learned = trainer.learned()
        parts = [*(tensor.grad for tensor in learned), totals]
        if self.buffer is None or len(self.buffer) != sum(part.numel() for part in parts):
            self.buffer = totals.new_empty(sum(part.numel() for part in parts))
        torch.cat([part.flatten() for part in parts], out=self.buffer)
        self.ranks.add_up(self.buffer)
        *gradients, totals = (
            piece.view_as(part)
            for piece, part in zip(
                self.buffer.split([part.numel() for part in parts]), parts, strict=True
            )
        )
        for tensor, gradient in zip(learned, gradients, strict=True):
            tensor.grad = gradient
        return totals

    def finish_epoch(self, trainer, totals):
        """Take rank 0's weights, from which another kind of processor could have drifted."""
        self.ranks.broadcast(trainer.tensors(trainer.layers, bool(trainer.head)), 0)
        return totals

    def record(self):
        """Return how many bytes all ranks together handed over."""
        return {"communicated_bytes": self.ranks.all_bytes()}


class LayerParallel(Alone):
    """Processes that each have some layers on top of each other.

    Activities go up from process to process and nothing comes down, so one goes on with the next
    batch while those above it learn from the last.
    """

    def __init__(self, ranks):
        self.ranks = ranks

    def stages(self, network):
        """Return the layers of each rank, ranges that are about equally much work.

        Raises
        ------
        ValueError
            If there are more ranks than layers.
        """
        if self.ranks.size > network.n_layers:
            raise ValueError(
                f"Got parallel='layers' on {self.ranks.size} ranks with {network.n_layers} "
                "layers, but expected at least one layer for each rank. Start fewer processes, or "
                "set parallel='data'."
            )
        costs = [
            layer.n_units * (2 * layer.weight.shape[1] + LABEL_COST * network.n_classes)
            for layer in network.layers
        ]
        bounds = [0, *balanced(costs, self.ranks.size)]
        return [range(*pair) for pair in zip(bounds, bounds[1:], strict=False)]

    def own_layers(self, network, layers):
        """Return the layers of this rank; all layers learn at once."""
        return self.stages(network)[self.ranks.rank]

    def own_head(self, head):
        """Return whether this is the last rank, which has all that the head reads."""
        return head and self.ranks.rank == self.ranks.size - 1

    def batches(self, trainer, data, batches, generator, dtype):
        """Pass batches through the layers of this rank, and send what the next one reads.

        `passes` has an entry for each layer up to the last one here; those below it hold what the
        softmax head reads, if it learns.
        """
        self.ranks.n_bytes = 0
        network = trainer.network
        own = self.own_layers(network, trainer.layers)
        source = self._received if own.start else self._served
        sent = deque()
        for passes, f, targets in source(trainer, data, batches, generator, dtype):
            passes += network.trunk(f, own.stop, first=own.start)
            if own.stop < network.n_layers:
                sent.append(self._send_up(passes, bool(trainer.head), dtype))
                if len(sent) > MOST_UNSENT:
                    sent.popleft()()
            yield passes, *targets
        for wait in sent:
            wait()

    def _served(self, trainer, data, batches, generator, dtype):
        """Yield entries of the layers below the own (none), inputs and targets of each batch."""
        for rows in batches:
            f, *targets = data.batch(rows, generator)
            yield [], f.to(dtype), targets

    def _received(self, trainer, data, batches, generator, dtype):
        """Yield the same from what the rank below sends."""
        network = trainer.network
        own = self.own_layers(network, trainer.layers)
        widths = [network.layers[k].n_units for k in _sent(own.start, bool(trainer.head))]

        def receive(rows):
            message = torch.empty(len(rows), sum(widths), dtype=dtype, device=network.device)
            return self.ranks.receive(message, self.ranks.rank - 1)

        wait = receive(batches[0])
        for rows, next_rows in zip(batches, [*batches[1:], None], strict=True):
            message = wait()
            if next_rows is not None:  # on its way while this batch is learned from
                wait = receive(next_rows)
            *activities, f = (part.contiguous() for part in message.split(widths, dim=1))
            passes = [(layer, None, None) for layer in network.layers[: own.start]]
            for index, part in enumerate(activities, start=2):
                passes[index] = (network.layers[index], part, None)
            yield passes, f, data.targets(rows)

    def _send_up(self, passes, head, dtype):
        """Begin to send what the rank above reads; return a function that waits."""
        layer, _, Z = passes[-1]
        outputs = [f for _, f, _ in passes[1:]] + [layer.upward(Z).to(dtype)]
        message = torch.cat([outputs[k] for k in _sent(len(passes), head)], dim=1)
        return self.ranks.send(message, self.ranks.rank + 1)

    def finish_epoch(self, trainer, totals):
        """Let every rank have the weights of all layers, and return the totals of all."""
        network = trainer.network
        own = self.own_layers(network, trainer.layers)
        whole = totals.new_zeros(2, network.n_layers + bool(trainer.head))
        whole[:, own.start : own.start + totals.shape[1]] = totals
        self.ranks.add_up(whole)
        for rank, layers in enumerate(self.stages(network)):
            head = bool(trainer.head) and rank == self.ranks.size - 1
            self.ranks.broadcast(trainer.tensors(layers, head), rank)
        return whole

    def complete(self, trainer):
        """Let every rank have the optimizer's state of all layers."""
        network, states = trainer.network, trainer.optimizer.state
        for rank, layers in enumerate(self.stages(network)):
            tensors = network.tensors_of(layers) + network.head * (rank == self.ranks.size - 1)
            own = rank == self.ranks.rank
            found = self.ranks.broadcast_object([states.get(t) for t in tensors] * own, rank)
            if not own:
                states.update(zip(tensors, found, strict=True))

    record = DataParallel.record


TEAMS = {"data": DataParallel, "layers": LayerParallel}


def make_team(parallel):
    """Return the team that a parameter asks for.

    Parameters
    ----------
    parallel : {"data", "layers"} or None
        The parameter.

    Returns
    -------
    team : Alone, DataParallel or LayerParallel

    Raises
    ------
    ValueError
        If there is no process group.
    """
    if not (isinstance(parallel, str) and parallel in TEAMS):
        return ALONE  # a value that is not valid is refused along with all others
    if not (distributed.is_available() and distributed.is_initialized()):
        raise ValueError(
            f"Got parallel={parallel!r} without a process group, but expected one: call "
            "torch.distributed.init_process_group() in a script that torchrun starts."
        )
    return TEAMS[parallel](Ranks())


def describe(estimator, task, *, go_on):
    """Describe all that has to be the same on all ranks.

    Parameters
    ----------
    estimator : FFClassifier
        Its parameters, and what it has learned.
    task : Task
        Its data.
    go_on : bool
        Whether training goes on from what it has learned.

    Returns
    -------
    descriptions : dict of str -> str
        By what a message calls them.
    """
    X, y, weight = task.samples
    described = {"X": describe_blocks(X.blocks(len(X)), "float32", X.shape), "y": _described(y)}
    described |= {"sample_weight": _described(weight), "labels": _described(task.classes)}
    for name, value in estimator.get_params(deep=False).items():
        if name not in ("device", "verbose"):  # each process may have its own
            described[name] = _described(value)
    if go_on:
        learned = [estimator._network.tensors()]
        if hasattr(estimator, "_trainer"):
            trainer = estimator._trainer
            learned.append([trainer.network.tensors(), trainer.generator.get_state()])
        described["fitted weights"] = _described(learned)
    return described


def _described(value):
    try:
        return fingerprint.describe(value)
    except ValueError:  # nothing tells it from another one of its type
        return type(value).__qualname__


def balanced(costs, n_parts):
    """Split a sequence into contiguous parts whose largest sum is as small as can be.

    Parameters
    ----------
    costs : list of float
        Not negative.
    n_parts : int
        From 1 to the number of costs.

    Returns
    -------
    stops : list of int
        Where each part ends.
    """

    @cache
    def best(start, n_parts):
        if n_parts == 1:
            return sum(costs[start:]), [len(costs)]
        options = []
        for stop in range(start + 1, len(costs) - n_parts + 2):
            rest, stops = best(stop, n_parts - 1)
            options.append((max(sum(costs[start:stop]), rest), [stop, *stops]))
        return min(options)

    return best(0, n_parts)[1]


def _sent(stop, head):
    """Return the layers whose outputs go up to the rank that begins with layer `stop`."""
    return range(1 if head and stop > 1 else stop - 1, stop)
