"""Checkpoints of an explanation: what was added up by the last whole block of results.

An explanation is a sequence of measurements: of the regions of each channel, of coarse and of fine
windows, of each round of the sequential mode. Each adds up the results of blocks of work in a fixed
order. The journal holds the sums of all measurements that have begun and how many blocks are in
them.
"""

import re
from time import monotonic

import numpy as np
from sklearn.utils import check_random_state

from skff import _files
from skff._checkpoint import CheckpointFile, versions
from skff._fingerprint import describe, describe_array
from skff._values import check_number
from skff.saliency._samples import read_data

# Parameters that change no number, and those that the fingerprint describes in another way.
NOT_COMPARED = {"checkpoint", "checkpoint_every", "estimator", "n_jobs", "verbose"}
# Attributes of estimators that differ from one training to the next where nothing else does.
TIMES = re.compile(r"(^|_)(dur|duration|seconds|time|times)(_|$)")


class Journal:
    """The sums of an explanation's measurements.

    Parameters
    ----------
    file : CheckpointFile or None, default=None
        Where they are kept; None keeps nothing.
    every : float, default=0.0
        Seconds from one write to the next.
    random_state : int, RandomState instance or None, default=None
        That of the explainer.

    Attributes
    ----------
    random_state : int, RandomState instance or None
        The same, or with a file in place of None a number that was drawn when the explanation
        began.

    Raises
    ------
    ValueError
        If the file is broken or of another explanation.
    """

    def __init__(self, file=None, every=0.0, random_state=None):
        self.file, self.every, self.random_state = file, every, random_state
        self.measurements, self.n_begun = [], 0
        self.is_written, self.written_at = True, monotonic()
        if file is None:
            return
        self.seed = int(check_random_state(None).randint(np.iinfo(np.int32).max))
        content = file.read()
        if content is not None:
            with _files.refusing(file.path):
                self._take_over(*content)
        if random_state is None:
            self.random_state = self.seed

    def _take_over(self, arrays, document):
        self.seed = int(document["seed"]) % 2**32
        for number, (n_blocks, stats) in enumerate(document["measurements"]):
            check_number(f"number of blocks in measurement {number}", n_blocks, 0, whole=True)
            for name, count in stats.items():
                check_number(f"count of {name!r} in measurement {number}", count, 0)
            start = f"{number}/"
            own = {k[len(start) :]: arrays[k] for k in arrays if k.startswith(start)}
            self.measurements.append((own, n_blocks, stats))

    def begin(self, arrays, stats=None, check=None):
        """Begin the next measurement, or go on where the file left it.

        Parameters
        ----------
        arrays : dict of str -> ndarray
            What results are added to in place. Gets what the file holds.
        stats : Counter, default=None
            The same for counts by name.
        check : callable, default=None
            Raises ValueError if the arrays hold what cannot be.

        Returns
        -------
        measurement : Measurement
        """
        number, n_blocks, stats = self.n_begun, 0, {} if stats is None else stats
        self.n_begun += 1
        if number < len(self.measurements):
            known, n_blocks, known_stats = self.measurements[number]
            with _files.refusing(self.file.path):
                _fill(arrays, known, number)
                if check is not None:
                    check()
            stats.update(known_stats)
        return Measurement(self, number, arrays, stats, n_blocks)

    def keep(self, number, arrays, n_blocks, stats):
        """Keep copies of a measurement's sums, and write them if it is time."""
        if self.file is None:
            return
        copies = {name: array.copy() for name, array in arrays.items()}
        stats = {k: v.item() if isinstance(v, np.generic) else v for k, v in stats.items()}
        self.measurements[number:] = [(copies, n_blocks, stats)]
        self.is_written = False
        if monotonic() - self.written_at >= self.every:
            self.write()

    def write(self):
        """Write all sums unless they are written."""
        if self.is_written:
            return
        arrays, measurements = {}, []
        for number, (own, n_blocks, stats) in enumerate(self.measurements):
            arrays |= {f"{number}/{name}": array for name, array in own.items()}
            measurements.append([n_blocks, stats])
        self.file.write(arrays, {"seed": self.seed, "measurements": measurements})
        self.is_written, self.written_at = True, monotonic()


class Measurement:
    """Sums to which the results of blocks are added, block by block.

    Parameters
    ----------
    journal : Journal
    number : int
        Measurements before it.
    arrays, stats : dict
        The sums.
    n_blocks : int
        Blocks in them.
    """

    def __init__(self, journal, number, arrays, stats, n_blocks):
        self.journal, self.number, self.arrays, self.stats = journal, number, arrays, stats
        self.n_blocks = self.n_known = n_blocks

    def left(self, blocks):
        """Return those of the measurement's next blocks whose results are not in the sums."""
        n_known = min(self.n_known, len(blocks))
        self.n_known -= n_known
        return blocks[n_known:]

    def finish(self):
        """Say that there are no more blocks.

        Raises
        ------
        ValueError
            If the file claims to hold more.
        """
        if self.n_known:
            with _files.refusing(self.journal.file.path):
                raise ValueError(
                    f"its measurement {self.number} has {self.n_known} blocks too many"
                )

    def keep(self):
        """Say that the results of one block more are in the sums."""
        self.n_blocks += 1
        self.journal.keep(self.number, self.arrays, self.n_blocks, self.stats)


def _fill(arrays, known, number):
    forms = [{k: (v.shape, v.dtype) for k, v in side.items()} for side in (arrays, known)]
    if forms[0] != forms[1]:
        raise ValueError(f"its measurement {number} has arrays of other names, shapes or types")
    for name, array in arrays.items():
        if not np.isfinite(known[name]).all():
            raise ValueError(f"its measurement {number} has sums of {name} that are not finite")
        array[...] = known[name]


def open_journal(explainer, X, y, sample_weight):
    """Open the journal of an explanation, at its checkpoint.

    Parameters
    ----------
    explainer : ADSExplainer
        With valid parameters and a checkpoint.
    X, y, sample_weight
        As in :meth:`ADSExplainer.explain`.

    Returns
    -------
    journal : Journal

    Raises
    ------
    ValueError
        If the file is broken or of another explanation, or something cannot be compared.
    """
    fingerprint = _fingerprint(explainer, X, y, sample_weight)
    file = CheckpointFile(explainer.checkpoint, "explanation", fingerprint)
    return Journal(file, explainer.checkpoint_every, explainer.random_state)


def _fingerprint(explainer, X, y, sample_weight):
    """Return what the numbers of an explanation depend on, in words."""
    data = read_data(explainer.estimator, X, y, sample_weight)
    types = [str(dtype) for dtype in X.dtypes] if hasattr(X, "dtypes") else None
    form = [data.sample_shape, data.columns, types]
    described = {"X": f"{describe_array(data.values)} {describe(form)}"}
    described["y"] = describe_array(data.y)
    weight = data.weight
    described["sample_weight"] = "None" if weight is None else describe_array(weight)
    params = explainer.get_params(deep=False)
    compared = ["estimator", *sorted(params.keys() - NOT_COMPARED)]
    return described | {name: _describe(name, params[name]) for name in compared} | versions()


def _describe(name, value):
    try:
        return describe(value, without=TIMES if name == "estimator" else None)
    except ValueError as error:
        raise ValueError(
            f"Got {name}={value!r} with a checkpoint, but expected something that can be compared "
            f"when the explanation is resumed: {error}"
        ) from error
