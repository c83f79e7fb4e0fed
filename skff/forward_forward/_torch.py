"""What skff asks of torch: devices, precision, threads, and the way to and from NumPy."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch

PRECISIONS = ("highest", "high", "medium")  # strictest first

_precision_lock = threading.Lock()
_precisions_in_use = []  # of all computations that run now, in any thread
_precision_before = None


def resolve_device(device):
    """Return the torch device: "auto" is CUDA where there is one, then MPS, then the CPU.

    Parameters
    ----------
    device : str or torch.device
        The parameter.

    Returns
    -------
    device : torch.device
        One that this machine has.

    Raises
    ------
    ValueError
        If torch does not know the device or this machine lacks it.
    """
    if device == "auto":
        return torch.device(_best_device())
    try:
        resolved = torch.device(device)
        torch.Generator(resolved)
        torch.zeros(1, device=resolved).tolist()
    except Exception as error:  # torch raises another type for each kind of missing device
        raise ValueError(
            f"Got device={device!r}, but expected 'auto' or a torch device of this machine, such "
            f"as '{_best_device()}': {_what_is_missing(str(device), error)}"
        ) from error
    return resolved


def _what_is_missing(device, error):
    if device.startswith("cuda") and not torch.cuda.is_available():
        build = torch.version.cuda
        return "torch was built without CUDA." if build is None else "torch finds no CUDA device."
    return str(error).splitlines()[0].partition(". ")[0]


def _best_device():
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@contextmanager
def computing(device, precision="highest"):
    """Compute without autograd, in float32 whatever autocast and torch's precision are set to.

    torch's precision of float32 products is a switch of the whole process. While several threads
    are in such a block it stands at the strictest precision that one of them asks for; when the
    last one leaves, it is what it was before.

    Parameters
    ----------
    device : torch.device
        Where to compute.
    precision : {"highest", "high", "medium"}, default="highest"
        "high" allows TF32 on CUDA; "medium" as "highest": who wants bfloat16 rounds its operands.
    """
    precision = "highest" if precision == "medium" else precision
    _change_precision(_precisions_in_use.append, precision)
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        _change_precision(_precisions_in_use.remove, precision)


def _change_precision(change, precision):
    global _precision_before
    with _precision_lock:
        if not _precisions_in_use:
            _precision_before = torch.get_float32_matmul_precision()
        change(precision)
        strictest = min(_precisions_in_use, key=PRECISIONS.index, default=_precision_before)
        if torch.get_float32_matmul_precision() != strictest:
            torch.set_float32_matmul_precision(strictest)


def multiplies_bfloat16(device):
    """Return whether matrix products in bfloat16 run in hardware, at least as fast as float32.

    Parameters
    ----------
    device : torch.device
        Where to compute.

    Returns
    -------
    multiplies : bool
        True for CUDA from compute capability 8.0 on, and for processors with AVX512-BF16 or AMX.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def map_on_threads(function, pieces, device):
    """Apply a function to pieces of work, on as many threads as torch would use.

    Threads that share every operation wait for each other at its end; operations of less than a
    millisecond are quicker with a thread of their own for each piece.

    Parameters
    ----------
    function : callable
        Called with the items of a piece; must not change what other pieces use.
    pieces : list of tuple
        Pieces of work.
    device : torch.device
        Where the function computes; on others than the CPU the pieces are done in turn.

    Returns
    -------
    outputs : list
        In the order of the pieces.
    """
    n_threads = torch.get_num_threads()
    if device.type != "cpu" or min(n_threads, len(pieces)) < 2:
        return [function(*piece) for piece in pieces]
    try:
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=[1]) as pool:
            return list(pool.map(lambda piece: function(*piece), pieces))
    finally:
        torch.set_num_threads(n_threads)


def on_one_thread(function, *args):
    """Call a function with one torch thread: LAPACK's wait for each other, on busy machines long.

    Parameters
    ----------
    function : callable
    *args
        Its arguments.

    Returns
    -------
    output : object
        What the function returns.
    """
    n_threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=[1]) as pool:
            return pool.submit(function, *args).result()
    finally:
        torch.set_num_threads(n_threads)


def as_tensor(X):
    """Wrap an array without copying it; the caller must not write to the result.

    Parameters
    ----------
    X : ndarray
        May be read-only or memory-mapped.

    Returns
    -------
    tensor : Tensor
        Shares the memory of `X`.
    """
    return torch.from_numpy(X if X.flags.writeable else np.asarray(_SaidToBeWritable(X)))


class _SaidToBeWritable:
    """A read-only array, as arrives in joblib's workers, of which torch would warn.

    The warning could be ignored, but the filters of warnings belong to all threads.
    """

    def __init__(self, X):
        self.X = X
        self.__array_interface__ = X.__array_interface__ | {"data": (X.ctypes.data, False)}


def as_numpy(value):
    """Return a tensor as a NumPy array in main memory, anything else as it is."""
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else value


def as_writable_tensor(value):
    """Return a copy of an array as a tensor, since a memory map is read-only; else the value."""
    return torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) else value
