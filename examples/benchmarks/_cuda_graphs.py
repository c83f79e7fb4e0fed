"""CUDA graphs of a training step, and what stands in for them where there is no CUDA.

A graph records the kernels of a step once, with the addresses of their tensors and the values of
their Python numbers, and replays them with a single launch. It pays where launching kernels takes
longer than running them.

On a CPU a `Tape` stands in: it records the operations of a step with the same rules, so that a
number which should have been a tensor, or memory that moved, gives wrong weights there too.
"""

import warnings
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

NONZERO = torch.ops.aten.nonzero.default
N_WARM_UP = 3  # steps; buffers, optimizer states and workspaces are made during these


def default_generator(device):
    """Return the generator that ``torch.manual_seed`` seeds on a device."""
    if device.type != "cuda":
        return torch.default_generator
    torch.cuda.init()
    index = torch.cuda.current_device() if device.index is None else device.index
    return torch.cuda.default_generators[index]


class GraphedSteps:
    """Call a step on batches: the first few as it is, then by replaying it.

    A batch of another size than the others is passed to the step as it is.

    Parameters
    ----------
    step : callable
        Changes tensors in place, given the rows of a batch, a LongTensor. It must neither wait for
        the device nor decide anything by what it computes.
    batch_size : int
        Rows of the batches that are replayed.
    generators : list of torch.Generator
        Sources of all randomness in the step; their device is the step's.
    """

    def __init__(self, step, batch_size, generators):
        self.step = step
        self.generators = generators
        self.device = generators[0].device
        self.rows = torch.empty(batch_size, dtype=torch.int64, device=self.device)
        self.n_warm_ups = 0
        self.n_replays = 0
        self.replay = None

    def __call__(self, rows):
        """Do the step on some rows."""
        if len(rows) != len(self.rows):
            self.step(rows)
            return
        self.rows.copy_(rows)
        if self.n_warm_ups < N_WARM_UP:
            self.n_warm_ups += 1
            with _side_stream(self.device):
                self.step(self.rows)
            return
        if self.replay is None:
            self.replay = capture(lambda: self.step(self.rows), self.generators)
        self.replay()
        self.n_replays += 1


@contextmanager
def _side_stream(device):
    """Run work on another stream than the default one, as must be before a capture."""
    if device.type != "cuda":
        yield
        return
    side, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        yield
    current.wait_stream(side)


def capture(work, generators):
    """Record some work without doing it.

    Parameters
    ----------
    work : callable
        Without arguments.
    generators : list of torch.Generator
        What it draws from.

    Returns
    -------
    replay : callable
        Does the work, on what its tensors hold by then and with new random numbers.
    """
    if generators[0].device.type != "cuda":
        return Tape(work, generators).replay
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        # Later releases of torch register it themselves and say so.
        warnings.simplefilter("ignore")
        for generator in generators:
            graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        work()
    return graph.replay


class Tape:
    """The operations of some work, to be replayed as a CUDA graph would.

    Every result lies where it lay during the recording, and every Python number has the value that
    it had then.

    Parameters
    ----------
    work : callable
        Without arguments. What it changes while it is recorded is set back.
    generators : list of torch.Generator
        What it draws from.
    """

    def __init__(self, work, generators):
        states = [generator.get_state() for generator in generators]
        recorder = _Recorder()
        with recorder:
            work()
        self.operations = recorder.operations
        for tensor, before in recorder.found.values():
            tensor.copy_(before)
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)

    @torch.no_grad()
    def replay(self):
        """Do the work."""
        for function, args, kwargs, results in self.operations:
            again = function(*args, **kwargs)
            for place, value in zip(tree_iter(results), tree_iter(again), strict=True):
                # What was changed in place, and views, are where they were already.
                if isinstance(place, torch.Tensor) and place.data_ptr() != value.data_ptr():
                    place.copy_(value)


class _Recorder(TorchDispatchMode):
    """Record operations, and what the tensors that they find held before."""

    def __init__(self):
        super().__init__()
        self.operations = []
        self.found = {}  # memory that was there before -> (a tensor in it, a copy)
        self.made = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if torch.Tag.data_dependent_output in function.tags or function is NONZERO:
            raise RuntimeError(
                f"Got {function} while a step is captured, but expected no operation whose result "
                "the host reads: it would wait for the device."
            )
        for tensor in _tensors((args, kwargs)):
            memory = _memory(tensor)
            if memory not in self.made and memory not in self.found:
                whole = tensor.new_empty(0).set_(tensor.untyped_storage())
                self.found[memory] = whole, whole.clone()
        results = function(*args, **kwargs)
        made = {_memory(tensor) for tensor in _tensors(results)}
        self.made |= made - self.found.keys()
        # As they are now: autograd lets go of their data when it is done with them.
        recorded = tree_map(_alias, (args, kwargs, results))
        self.operations.append((function, *recorded))
        return results


def _tensors(tree):
    return [leaf for leaf in tree_iter(tree) if isinstance(leaf, torch.Tensor)]


def _memory(tensor):
    return tensor.untyped_storage().data_ptr()


def _alias(value):
    return value.detach() if isinstance(value, torch.Tensor) else value
