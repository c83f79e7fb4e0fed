"""Blocks of work on whatever backend joblib uses."""

import os
import sys
import warnings
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import closing, nullcontext

from joblib import Parallel, delayed
from joblib.parallel import get_active_backend
from sklearn import config_context, get_config

# Of dask where all workers that held the data are gone, and of loky where one worker is.
LOST = (CancelledError, BrokenExecutor)
MAX_LOSSES = 3  # one after another, without a result in between


class Work:
    """A function with all arguments that its calls have in common.

    Parameters
    ----------
    function : callable
        ``function(*shared, *own)``.
    shared : tuple
        Arguments, the data among them.
    n_bytes : int
        Size of the data.
    """

    def __init__(self, function, shared, n_bytes):
        self.function = function
        self.shared = shared
        self.n_bytes = n_bytes

    def __sizeof__(self):
        # By this size dask tells what to send to each worker once, not with every call.
        return object.__sizeof__(self) + self.n_bytes

    def __call__(self, own):
        """Call the function with the arguments of one call."""
        return self.function(*self.shared, *own)


class RayWork:
    """Work in ray's object store: sent there once, read by every worker in place.

    Parameters
    ----------
    work : Work
    """

    def __init__(self, work):
        import ray

        self.reference = ray.put(work)

    def __call__(self, own):
        """Call the function with the arguments of one call."""
        import ray

        return ray.get(self.reference)(own)


def run(work, calls, *, n_jobs):
    """Yield the results of some calls, in order.

    Where workers are lost and the backend gives up, calls whose results had not arrived are made
    again.

    Parameters
    ----------
    work : Work
    calls : list of tuple
        Arguments of each call.
    n_jobs : int or None

    Yields
    ------
    result : object
    """
    n_done = n_losses = 0
    while n_done < len(calls):
        try:
            with closing(_results(work, calls[n_done:], n_jobs)) as results:
                for result in results:
                    yield result
                    n_done, n_losses = n_done + 1, 0
        except LOST as error:
            n_losses += 1
            if n_losses > MAX_LOSSES:
                raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            warnings.warn(
                f"Lost workers after {n_done} of {len(calls)} blocks: the others are computed "
                f"again. {reason}",
                stacklevel=2,
            )


class WithSettings:
    """A function that runs with the settings of scikit-learn and warnings of where this was made.

    `sklearn.utils.parallel` does so too, but swaps the filters of warnings of all threads for it,
    also in the process that has them already.

    Parameters
    ----------
    function : callable
    """

    def __init__(self, function):
        self.function = function
        self.config, self.filters, self.process = get_config(), [*warnings.filters], os.getpid()

    def __call__(self, *args):
        """Call the function."""
        with config_context(**self.config):
            if os.getpid() == self.process:
                return self.function(*args)
            with warnings.catch_warnings():
                warnings.filters[:] = self.filters
                return self.function(*args)


def _results(work, calls, n_jobs):
    backend, _ = get_active_backend()
    # Some backends, multiprocessing and ray among them, return all results at the end only.
    as_generator = getattr(backend, "supports_return_generator", False)
    if _is_running_ray(backend):
        work = RayWork(work)
    parallel = Parallel(n_jobs=n_jobs, return_as="generator" if as_generator else "list")
    # A tuple goes with its call: as an argument of its own, dask would keep an array of a block on
    # one worker only, and lose it with that worker.
    do = delayed(WithSettings(_do))
    results = parallel(do(work, own) for own in calls)
    # Stop the workers even if an interrupt comes while nobody waits for them.
    with closing(results) if as_generator else nullcontext(results) as results:
        yield from results


def _is_running_ray(backend):
    """Return whether calls will be made by a ray that has been started: nothing here starts it."""
    return type(backend).__module__.startswith("ray.") and sys.modules["ray"].is_initialized()


def _do(work, own):
    return work(own)
