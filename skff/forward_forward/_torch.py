"""What skff asks of torch: devices, precision, threads, and the way to and from NumPy."""

import ctypes
import struct
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from skff._locks import process_wide_lock
from skff._values import check_array

PRECISIONS = ("highest", "high", "medium")  # strictest first
STRICT = ("none", "ieee")  # what torch calls float32 of a backend that nothing has changed
LARGEST_GENERATOR = 2**16  # bytes of the state of a torch.Generator, on any device
# torch's state of a CPU generator: a seed, then two counters around the flag "seeded".
GENERATOR_COUNTERS = struct.Struct("=QiiQ")
GENERATOR_WORDS = 624

_precision_lock = process_wide_lock()
_precisions_in_use: list[str] = []  # of all computations that run now, in any thread
_precision_before = _precision_set = None


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
def on_own_terms():
    """Run as ever where the caller is in inference mode or lets NumPy raise on underflow.

    Usable as a decorator. Tensors that are made in inference mode could never be trained.
    """
    with torch.inference_mode(False), np.errstate(all="warn", under="ignore"):
        yield


@contextmanager
def computing(device, precision="highest"):
    """Compute without autograd, in float32 whatever autocast and torch's precision are set to.

    torch's precision of float32 products is a switch of the whole process. While several threads
    are in such a block it stands at the strictest precision that one of them asks for; when the
    last one leaves, it is what it was before, unless someone else has changed it meanwhile.

    Parameters
    ----------
    device : torch.device
        Where to compute.
    precision : {"highest", "high", "medium"}, default="highest"
        "high" allows TF32 on CUDA; "medium" as "highest": who wants bfloat16 rounds its operands.
    """
    precision = "highest" if precision == "medium" else precision
    _begin(precision)
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        _end(precision)


def _begin(precision):
    global _precision_before, _precision_set
    with _precision_lock:
        now = _read_precision()
        if not _precisions_in_use:
            _precision_before = now
        _precisions_in_use.append(precision)
        _precision_set = _ask_for_strictest(now)


def _end(precision):
    global _precision_set
    with _precision_lock:
        _precisions_in_use.remove(precision)
        now = _read_precision()
        if now != _precision_set:
            return  # it is no longer ours
        if _precisions_in_use:
            _precision_set = _ask_for_strictest(now)
        elif now != _precision_before:
            _restore_precision(_precision_before)


def _read_precision():
    """Return the precision of all backends, None where they differ, and that of each backend."""
    try:
        common = torch.get_float32_matmul_precision()
    except RuntimeError:  # set backend by backend
        common = None
    return common, [backend.fp32_precision for backend in _backends()]


@cache
def _backends():
    """Return what has a precision of its own, which torch before 2.9 has not."""
    matmuls = torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)
    return [matmul for matmul in matmuls if hasattr(matmul, "fp32_precision")]


def _ask_for_strictest(now):
    """Set the precision to the strictest one in use; return what torch then says."""
    precision = min(_precisions_in_use, key=PRECISIONS.index)
    common, of_backends = now
    is_strict = precision != "highest" or all(own in STRICT for own in of_backends)
    if common in (None, precision) and is_strict:
        return now
    if common not in (None, precision):
        torch.set_float32_matmul_precision(precision)
    for backend in _backends() if precision == "highest" else ():
        if backend.fp32_precision not in STRICT:
            backend.fp32_precision = "ieee"
    return _read_precision()


def _restore_precision(state):
    common, of_backends = state
    if common not in (None, _read_precision()[0]):
        torch.set_float32_matmul_precision(common)
    for backend, before in zip(_backends(), of_backends, strict=True):
        if backend.fp32_precision != before:
            backend.fp32_precision = "none"  # as all backends: what torch says of those unchanged
        if backend.fp32_precision != before:
            backend.fp32_precision = before


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


def add_relu(a, b, out=None):
    """Compute ``relu(a + b)``, on the CPU in one pass over memory.

    Parameters
    ----------
    a, b : Tensor
        Of shapes that broadcast; no gradient is recorded.
    out : Tensor, default=None
        Where to write; None allocates.

    Returns
    -------
    h : Tensor
        `out`, or a new tensor.
    """
    fused = getattr(torch, "_add_relu", None)  # private to torch: it may go
    if fused is None or a.device.type != "cpu":
        return torch.add(a, b, out=out).relu_()
    return fused(a, b) if out is None else fused(a, b, out=out)


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
    with ThreadPoolExecutor(n_threads, initializer=_compute_alone) as pool:
        return list(pool.map(lambda piece: function(*piece), pieces))


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
    with ThreadPoolExecutor(1, initializer=_compute_alone) as pool:
        return pool.submit(function, *args).result()


def _compute_alone():
    """Let torch use no other thread for what this one computes.

    `torch.set_num_threads` would do so for the whole process: threads that start meanwhile keep
    what they find, and MKL has one number for all.
    """
    torch.get_num_threads()  # a thread's first call sets its number
    _openmp().limit(limits=1)
    mkl = _set_mkl_threads_of_this_thread()
    if mkl is not None:
        mkl(1)


@cache
def _openmp():
    return ThreadpoolController().select(user_api="openmp")


@cache
def _set_mkl_threads_of_this_thread():
    """Return MKL's function for that, None where torch comes without MKL or hides it."""
    for path in (Path(torch.__file__).parent / "lib").glob("*torch_cpu.*"):
        try:
            return ctypes.CDLL(str(path)).MKL_Set_Num_Threads_Local
        except (OSError, AttributeError):
            continue
    return None


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


def check_generator(state):
    """Return the state of a torch.Generator if no generator reads beyond it, else raise.

    Parameters
    ----------
    state : ndarray of uint8 of shape (n_bytes,)
        From a file. torch looks at each of its counters, but not at both together.

    Returns
    -------
    state : ndarray

    Raises
    ------
    ValueError
        If there can be no such state.
    """
    check_array("the state of the generator", state, (None,), np.uint8)
    if not 8 <= len(state) <= LARGEST_GENERATOR:
        raise ValueError(f"its generator has a state of {len(state)} bytes")
    if len(state) == torch.Generator("cpu").get_state().numel():
        _, n_left, _, position = GENERATOR_COUNTERS.unpack_from(state)
        if n_left + position > GENERATOR_WORDS + 1:
            raise ValueError("its generator has a state that is none")
    return state
