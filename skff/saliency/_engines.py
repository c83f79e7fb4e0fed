"""Engines: three ways to score data with a region hidden, and which of them is valid."""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from skff._memory import in_chunks
from skff._warnings import warn
from skff.saliency._checkpoint import Journal
from skff.saliency._counts import CorrectnessCounts, Targets, WindowScores
from skff.saliency._doors import PartwisePredictor, open_door, read_labels
from skff.saliency._parallel import Work, run
from skff.saliency._progress import progress_bar
from skff.saliency._samples import FixedFill, hide
from skff.saliency._scoring import Predictions, RememberedEstimator
from skff.saliency._sequential import StoppingRule, measure_sequentially

ENGINES = ("score", "predict", "incremental")
MIN_BLOCKS, MAX_BLOCKS = 8, 64  # of windows: shared by workers, each of whom gets the estimator
BLOCK_SAMPLES = 50_000  # samples times windows; less is not worth a block
MAX_ROWS = 512  # the incremental engine holds at a time
MAX_LABELS = 4_000_000  # it holds at a time, rows times windows


@dataclass(frozen=True, eq=False)
class Task:
    """What an engine needs to know.

    Parameters
    ----------
    predictions : Predictions
        Of the fitted estimator for the samples.
    targets : Targets
    regions : list of ndarray
        Flat indices of the features each region hides.
    scores : dict of str -> Score or None
        What to compute, by name; None stands for the share of correct predictions.
    n_repeats : int
        Draws of a random fill per region. A region and a draw make a *window*.
    stopping : StoppingRule or None
        When windows are settled; None measures all on all samples.
    n_jobs : int or None
    verbose : int
        Shows progress with the time left if above 0.
    journal : Journal
        Where what is added up is kept, and how far it is already.
    """

    predictions: Predictions
    targets: Targets
    regions: list
    scores: dict
    n_repeats: int = 1
    stopping: StoppingRule | None = None
    n_jobs: int | None = None
    verbose: int = 0
    journal: Journal = field(default_factory=Journal)

    @property
    def estimator(self):
        """The fitted estimator."""
        return self.predictions.estimator

    @property
    def samples(self):
        """The data."""
        return self.predictions.samples

    @property
    def n_windows(self):
        """Number of pairs of region and draw of the fill."""
        return len(self.regions) * self.n_repeats

    def window(self, index):
        """Return the features that a window hides, and their fill."""
        features = self.regions[index // self.n_repeats]
        return features, self.samples.fill.values(features, index)

    @property
    def counts_labels(self):
        """Whether correct predictions are counted, in all and by class."""
        return self.targets.classes is not None

    @property
    def other_scores(self):
        """Scores other than accuracy, by name."""
        return {name: score for name, score in self.scores.items() if score is not None}


def choose_engine(task, name="auto"):
    """Return an engine that is valid for a task, and for the same task with other regions.

    Parameters
    ----------
    task : Task
    name : {"auto", "score", "predict", "incremental"}
        "auto" takes the last that is valid.

    Returns
    -------
    name : str
        Of the engine chosen.
    engine : callable
        ``engine(task)`` measures every score with every region hidden and returns a dict of
        :class:`WindowScores` by the names of ``task.scores``.

    Raises
    ------
    ValueError
        If the engine named is not valid for the task.
    """
    if task.stopping is not None and (task.other_scores or name == "score"):
        raise ValueError(
            f"Got target_precision={task.stopping.target_precision} with the score "
            f"{next(iter(task.scores))!r} and engine={name!r}, but expected accuracy and an engine "
            "that counts correct predictions: the sequential mode needs these counts."
        )
    if task.other_scores and name not in ("auto", "score"):
        raise ValueError(
            f"Got engine={name!r} with the score {list(task.other_scores)[0]!r} of "
            f"{type(task.estimator).__name__}, but expected the score to be accuracy and y to "
            "have one axis: this engine counts correct predictions. Use engine='score'."
        )
    if task.other_scores or name == "score":
        return "score", score
    if task.predictions.depend_on_batch:
        reason = (
            f"Got different predictions from {type(task.estimator).__name__} for the same rows in "
            "another batch, but expected none to depend on the batch"
        )
        if task.stopping is not None:
            raise ValueError(f"{reason}: windows can then not stop early; unset target_precision.")
        _refuse(name, reason, "score")
        return "score", score
    if name in ("auto", "incremental"):
        predictor, reason = open_door(task)
        if predictor is not None:
            return "incremental", partial(incremental, predictor=predictor)
        if reason is None and name == "incremental":
            reason = (
                f"Got engine='incremental' with {type(task.estimator).__name__}, but expected an "
                "estimator that has `occlusion_predictor`, or a Pipeline of scalers that ends in "
                "one, X with 2 axes, and a fill that does not know the window"
            )
        if reason is not None:
            _refuse(name, reason, "predict")
    return "predict", predict


def _refuse(name, reason, substitute):
    """Raise if an engine that is not valid was asked for by name, else warn."""
    if name != "auto":
        raise ValueError(f"{reason}: use engine={substitute!r}.")
    warn(f"{reason}: used engine={substitute!r}, set it to silence this.", UserWarning)


def score(task):
    """Score the whole data once per window, with any score.

    Accuracy is computed from ``predict``, so that it comes with a standard error and per class.
    With other scores, a classifier's drops within classes are still those of accuracy; ``predict``
    gets the changed rows for them, unless a score has called it already.

    A classifier whose labels do not depend on the batch is asked about large samples batch by
    batch, and scorers that only call its methods get its answers. Others need a copy of the data.
    """
    targets = task.targets
    in_batches = (
        task.samples.is_large and task.counts_labels and not task.predictions.depend_on_batch
    )
    bare = _Occluded(task, np.arange(0), np.empty((1, 0)), in_batches)
    baseline = {name: bare.score(one) for name, one in task.other_scores.items()}
    counts = correct = None
    if task.counts_labels:
        labels = bare.known_labels()  # of one call: they may depend on the batch
        if labels is None:
            labels = task.predictions.bare if in_batches else task.predictions.of_all(bare.copy())
        correct = task.predictions.read(labels, len(targets.y)) == targets.y
        counts = CorrectnessCounts(targets, task.n_windows)
        counts.add_baseline(targets, np.arange(len(correct)), correct)
    window_scores = {name: np.zeros(task.n_windows) for name in baseline}
    sums = {f"score {k}": scores for k, scores in enumerate(window_scores.values())}
    check = None if counts is None else partial(counts.check, targets)
    measurement = task.journal.begin(sums | ({} if counts is None else vars(counts)), check=check)
    blocks = measurement.left(_window_blocks(task, np.arange(task.n_windows)))
    results = _run(task, _score_block, blocks, len(targets.y), correct, in_batches)
    for block, (scores, part) in zip(blocks, results, strict=True):
        for name, values in scores.items():
            window_scores[name][block] = values
        if counts is not None:
            counts.add(part, block)
        measurement.keep()
    measurement.finish()
    accuracy = None if counts is None else counts.summarize(targets, task.n_repeats)
    found = {}
    for name, one in task.scores.items():
        if one is None:
            found[name] = accuracy
            continue
        by_draw = window_scores[name].reshape(-1, task.n_repeats)
        found[name] = WindowScores(
            baseline[name],
            by_draw.mean(axis=1),
            class_drops=None if accuracy is None else accuracy.class_drops,
        )
    return found


class _Occluded:
    """All samples with some features hidden, to be scored.

    Parameters
    ----------
    task : Task
    features : ndarray of shape (n_hidden,)
    fill : ndarray of shape (1, n_hidden) or (n_samples, n_hidden)
    in_batches : bool
        Whether scorers that only call the estimator's methods get answers computed in batches.
    buffer : ndarray of shape (n_samples, n_features), default=None
        Where to put a copy; None makes one.
    """

    def __init__(self, task, features, fill, in_batches, buffer=None):
        self.task, self.features, self.fill = task, features, fill
        self.in_batches, self.buffer, self.X = in_batches, buffer, None
        ask = partial(task.predictions.ask_hidden, features, fill) if in_batches else None
        self.remembered = RememberedEstimator(task.estimator, ask)

    def score(self, one):
        """Return a score."""
        task, y, weight = self.task, self.task.targets.y, self.task.targets.weight
        if self.in_batches and one.asks_methods_only:
            return one(task.samples.restore(task.samples.values), y, weight, self.remembered)
        if self.X is None or not one.asks_methods_only:
            self.X = task.samples.restore(self.copy())
        return one(self.X, y, weight, self.remembered)

    def copy(self):
        """Return all samples, flat; always anew, as an estimator may write to its input."""
        samples = self.task.samples
        if self.buffer is None:
            self.buffer = np.empty(samples.values.shape, samples.dtype)
        np.copyto(self.buffer, samples.values)
        hide(self.buffer, self.features, self.fill)
        return self.buffer

    def known_labels(self):
        """Return what a scorer got from ``predict``, or None."""
        return self.remembered.known_labels()


def _score_block(task, block, correct, in_batches):
    """Return other scores by name, (n_windows,) each, and the counts of correct predictions."""
    targets, others, everyone = task.targets, task.other_scores, np.arange(len(task.samples))
    scores = {name: np.empty(len(block)) for name in others}
    counts = CorrectnessCounts(targets, len(block)) if task.counts_labels else None
    buffer = None
    for place, window in enumerate(block):
        features, fill = task.window(window)
        occluded = _Occluded(task, features, fill, in_batches, buffer)
        for name, one in others.items():
            scores[name][place] = occluded.score(one)
        if counts is not None:
            rows, labels = everyone, occluded.known_labels()
            if labels is None and (in_batches or others and not task.predictions.depend_on_batch):
                rows = task.samples.rows_changed(features, fill, everyone)
                labels = task.predictions.hidden(rows, features, fill) if len(rows) else rows
            elif labels is None:
                labels = task.predictions.of_all(occluded.copy())
            labels = task.predictions.read(labels, len(rows))
            flipped = rows[correct[rows] != (labels == targets.y[rows])]
            counts.add_changes(targets, np.full(len(flipped), place), flipped, correct[flipped])
        buffer = occluded.buffer
    return scores, counts


def predict(task):
    """Predict anew only those rows in which a window changes something; accuracy only.

    The changed rows of several windows share a call of ``predict``.
    """
    return _count(task, _count_by_predicting)


def incremental(task, predictor):
    """Ask an :class:`OcclusionPredictor` for the labels, block of rows by block of rows.

    In a Pipeline of scalers the last step is asked, in a search the best estimator.
    """
    return _count(task, partial(_count_by_asking, predictor))


def _count(task, count_changes):
    """Return what a way to count changed predictions measures, on all samples or by a rule."""
    correct = task.predictions.bare == task.targets.y
    everyone, windows = np.arange(len(correct)), np.arange(task.n_windows)
    if task.stopping is not None:
        quiet = replace(task, verbose=0)
        found = measure_sequentially(task, correct, partial(count_changes, quiet, correct))
        return dict.fromkeys(task.scores, found)
    counts = CorrectnessCounts(task.targets, task.n_windows)
    counts.add_baseline(task.targets, everyone, correct)
    changes, stats = count_changes(task, correct, windows, everyone)
    found = counts.add(changes).summarize(task.targets, task.n_repeats)
    return dict.fromkeys(task.scores, replace(found, stats=stats or None))


def _count_by_predicting(task, correct, windows, rows):
    """Count changed predictions of `rows` by window; return their counts and no statistics."""
    counts, blocks = CorrectnessCounts(task.targets, len(windows)), _window_blocks(task, windows)
    measurement = task.journal.begin(vars(counts), check=partial(counts.check, task.targets))
    # Each window reads its rows anew: from a file, better a part of them than all. A fill that
    # knows the window is computed from all samples anyway.
    in_parts = task.samples.is_very_large and isinstance(task.samples.fill, FixedFill)
    for part in task.samples.parts(rows) if in_parts else [rows]:
        left = measurement.left(blocks)
        results = _run(task, _predict_block, left, len(part), part, correct)
        for block, found in zip(left, results, strict=True):
            counts.add(found, np.searchsorted(windows, block))
            measurement.keep()
    measurement.finish()
    return counts, {}


def _predict_block(task, block, rows, correct):
    counts = CorrectnessCounts(task.targets, len(block))
    for batch in _pack(task, block, rows):
        places = np.repeat([place for place, *_ in batch], [len(rows) for *_, rows in batch])
        rows = np.concatenate([rows for *_, rows in batch])
        labels = task.predictions.each(partial(_copies, task, batch, rows), len(rows))
        flipped = correct[rows] != (labels == task.targets.y[rows])
        rows = rows[flipped]
        counts.add_changes(task.targets, places[flipped], rows, correct[rows])
    return counts


def _copies(task, batch, rows, part):
    """Return a part of a batch's `rows`, a slice of them, with each window's features hidden."""
    flat, start = task.samples.take(rows[part]), 0
    for _, features, fill, piece in batch:
        first, last = max(start, part.start), min(start + len(piece), part.stop)
        if first < last:
            copies = flat[first - part.start : last - part.start]
            hide(copies, features, fill, piece[first - start : last - start])
        start += len(piece)
    return flat


def _pack(task, block, everyone):
    """Yield batches with at most `batch_rows` rows in all.

    A batch is a list of (place of the window in the block, its features, their fill, rows that it
    changes).
    """
    batch, space = [], task.predictions.batch_rows
    for place, window in enumerate(block):
        features, fill = task.window(window)
        rows = task.samples.rows_changed(features, fill, everyone)
        while len(rows):
            batch.append((place, features, fill, rows[:space]))
            rows, space = rows[space:], space - len(rows[:space])
            if space == 0:
                yield batch
                batch, space = [], task.predictions.batch_rows
    if batch:
        yield batch


def _count_by_asking(predictor, task, correct, windows, rows):
    """Count changed predictions of `rows` by window; return their counts and the predictor's."""
    counts, totals = CorrectnessCounts(task.targets, len(windows)), Counter()
    check = partial(counts.check, task.targets)
    measurement = task.journal.begin(vars(counts), totals, check)
    for blocks, opened in _opened(predictor, task, windows, rows, measurement):
        for part, stats in _run(task, _ask_block, blocks, len(windows), windows, correct, opened):
            counts.add(part)
            totals.update(stats)
            measurement.keep()
    measurement.finish()
    return counts, dict(totals)


def _opened(predictor, task, windows, rows, measurement):
    """Yield blocks of rows, a list of index arrays, with the predictor to ask about them."""
    part_rows = task.samples.part_rows
    block_rows = max(1, min(MAX_ROWS, MAX_LABELS // len(windows), part_rows))
    blocks = [rows[some] for some in _split(len(rows), -(-len(rows) // block_rows))]
    in_parts = isinstance(predictor, PartwisePredictor)
    n_at_once = part_rows // block_rows if in_parts else len(blocks)
    for start in range(0, len(blocks), n_at_once):
        left = measurement.left(blocks[start : start + n_at_once])
        if left:
            yield left, predictor.open(np.concatenate(left)) if in_parts else predictor


def _ask_block(task, rows, windows, correct, predictor):
    counts, totals = CorrectnessCounts(task.targets, len(windows)), Counter()
    regions, correct = [task.regions[window] for window in windows], correct[rows]
    ask = partial(read_labels, predictor, windows=regions)
    parts = in_chunks(lambda part: ask(rows[part]), len(rows), len(rows))
    labels = np.concatenate([labels for labels, _ in parts], axis=1)  # (n_windows, n_rows)
    changed, flipped = np.nonzero((labels == task.targets.y[rows]) != correct)
    counts.add_changes(task.targets, changed, rows[flipped], correct[flipped])
    for _, stats in parts:
        totals.update(stats)
    return counts, totals


def _window_blocks(task, windows):
    n_worth = len(windows) * len(task.samples) // BLOCK_SAMPLES
    blocks = _split(len(windows), min(max(n_worth, MIN_BLOCKS), MAX_BLOCKS))
    return [windows[block] for block in blocks]


def _split(n_items, n_blocks):
    """Cut range(n_items) into blocks; never by the number of jobs, so results do not depend on it.

    Returns a list of index arrays.
    """
    return np.array_split(np.arange(n_items), min(n_items, n_blocks))


def _run(task, function, blocks, n_pairs, *args):
    """Yield ``function(task, block, *args)`` for the blocks in order, with progress.

    It is counted in pairs of sample and window, of which each item of a block is `n_pairs`.
    """
    task = replace(task, journal=None)  # which workers do not need
    work = Work(partial(_on_block, function), (task, args), task.samples.values.nbytes)
    results = run(work, [(block,) for block in blocks], n_jobs=task.n_jobs)
    total = n_pairs * sum(map(len, blocks))
    with progress_bar(
        verbose=task.verbose, total=total, desc="ADS", unit="pair", unit_scale=True
    ) as progress:
        with closing(results):
            for block, result in zip(blocks, results, strict=True):
                progress.update(n_pairs * len(block))
                yield result


def _on_block(function, task, args, block):
    return function(task, block, *args)
