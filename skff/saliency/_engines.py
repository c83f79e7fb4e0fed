"""Engines: ``task -> WindowScores``, three ways to score data with one window hidden at a time."""

from contextlib import closing
from dataclasses import dataclass
from numbers import Number

import numpy as np
from sklearn.utils.parallel import Parallel, delayed
from tqdm.auto import tqdm

from skff.saliency._pipelines import find_occlusion_predictor
from skff.saliency._samples import Samples
from skff.saliency._scoring import Score
from skff.saliency._tally import Tally, Truth, WindowScores

MIN_BLOCKS, MAX_BLOCKS = 8, 64  # of windows: shared by workers, each of whom gets the estimator
BLOCK_SAMPLES = 50_000  # samples times windows; less is not worth a block
MAX_ROWS = 512  # the incremental engine holds at a time
MAX_LABELS = 4_000_000  # it holds at a time, rows times windows
MAX_BATCH_BYTES = 32e6  # of one batch; estimators take a few copies of what they predict


@dataclass(frozen=True, eq=False)
class Task:
    """What an engine needs to know.

    Parameters
    ----------
    estimator : object
        Fitted.
    samples : Samples
    truth : Truth
    windows : list of ndarray
        Flat indices of the features each window hides.
    score : Score
        Used by the score engine unless the score is accuracy.
    accuracy : bool
        Whether the score is the share of correct predictions.
    row_by_row : bool
        Whether predictions do not depend on the batch.
    batch_size : int or None
        Rows per call of ``predict``; None bounds them by memory.
    n_jobs : int or None
    verbose : int
        Shows progress with the time left if above 0.
    """

    estimator: object
    samples: Samples
    truth: Truth
    windows: list
    score: Score
    accuracy: bool
    row_by_row: bool
    batch_size: int | None = None
    n_jobs: int | None = None
    verbose: int = 0

    @property
    def batch_rows(self):
        """Rows per call of ``predict``."""
        row_bytes = self.samples.values.dtype.itemsize * self.samples.values.shape[1]
        return self.batch_size or max(1, int(MAX_BATCH_BYTES / row_bytes))

    def is_correct(self, flat, rows):
        """Predict flat samples that stem from `rows`; return which are right."""
        labels = np.asarray(self.estimator.predict(self.samples.restore(flat)))
        if labels.shape != (len(flat),):
            raise ValueError(
                f"Got predictions of shape {labels.shape}, but expected ({len(flat)},): "
                "one label per sample."
            )
        return labels == self.truth.y[rows]


def score(task):
    """Score the whole data once per window, with any scorer.

    Accuracy is scored through ``predict``, so that it comes with a standard error and per class.
    With other scores, a classifier's losses within classes are still those of accuracy; ``predict``
    gets the changed rows for them.
    """
    everything = np.arange(len(task.samples))
    if task.accuracy:
        correct = task.is_correct(task.samples.values.copy(), everything)
        return _tally_blocks(task, _tally_whole, correct).summarize(task.truth)
    flat = task.samples.restore(task.samples.values.copy())
    baseline_score = task.score(flat, task.truth.y, task.truth.weight)
    correct = None
    if task.truth.classes is not None:
        correct = task.is_correct(task.samples.values.copy(), everything)
    parts = list(_run(task, _score_block, _window_blocks(task), "window", correct))
    window_scores = np.concatenate([scores for scores, _ in parts])
    if correct is None:
        return WindowScores(baseline_score, window_scores)
    class_losses = np.concatenate(
        [tally.summarize(task.truth).class_losses for _, tally in parts], 1
    )
    return WindowScores(baseline_score, window_scores, class_losses=class_losses)


def predict(task):
    """Predict anew only those rows in which a window changes something; accuracy only.

    The changed rows of several windows share a call of ``predict``.
    """
    rows = np.arange(len(task.samples))
    batches = np.split(rows, range(task.batch_rows, len(rows), task.batch_rows))
    correct = [task.is_correct(task.samples.values[batch], batch) for batch in batches]
    return _tally_blocks(task, _tally_changed, np.concatenate(correct)).summarize(task.truth)


def incremental(task):
    """Ask ``estimator.occlusion_predictor`` for the predictions, block of rows by block of rows.

    In a Pipeline of scalers the last step is asked, in a search the best estimator. The predictor's
    ``predict(rows, pixels)`` gives the labels of the samples `rows` with the features `pixels`
    hidden; ``predict_many(rows, windows)``, where it exists, does so for a list of them and returns
    labels of shape (n_windows, n_rows). Counts in its ``stats``, a dict of numbers, are added up
    over all calls.
    """
    flat = task.samples.values
    make_predictor = find_occlusion_predictor(task.estimator)
    predictor = make_predictor(task.samples.restore(flat), fill=task.samples.fill)
    tally, stats = Tally(task.truth, len(task.windows)), {}
    block_rows = max(1, min(MAX_ROWS, MAX_LABELS // len(task.windows)))
    blocks = _split(len(task.samples), -(-len(task.samples) // block_rows))
    for part, counts in _run(task, _tally_rows, blocks, "sample", predictor):
        tally.add(part)
        stats = _add_counts(stats, counts)
    return tally.summarize(task.truth, stats or None)


ENGINES = {"score": score, "predict": predict, "incremental": incremental}


def _window_blocks(task):
    n_worth = len(task.windows) * len(task.samples) // BLOCK_SAMPLES
    return _split(len(task.windows), min(max(n_worth, MIN_BLOCKS), MAX_BLOCKS))


def _split(n_items, n_blocks):
    """Cut range(n_items) into blocks; never by the number of jobs, so results do not depend on it.

    Returns a list of index arrays.
    """
    return np.array_split(np.arange(n_items), min(n_items, n_blocks))


def _run(task, work, blocks, unit, *args):
    """Yield ``work(task, block, *args)`` for the blocks in order, with progress."""
    parallel = Parallel(n_jobs=task.n_jobs, return_as="generator")
    n_items = sum(map(len, blocks))
    with (
        # Workers are to stop at an interrupt that does not arrive while they are waited for.
        closing(parallel(delayed(work)(task, block, *args) for block in blocks)) as results,
        tqdm(total=n_items, desc="ADS", unit=unit, disable=not task.verbose) as progress,
    ):
        for block, result in zip(blocks, results, strict=True):
            progress.update(len(block))
            yield result


def _tally_blocks(task, work, correct):
    tally, blocks = Tally(task.truth, len(task.windows)), _window_blocks(task)
    tally.add_baseline(task.truth, np.arange(len(correct)), correct)
    for block, part in zip(blocks, _run(task, work, blocks, "window", correct), strict=True):
        tally.add(part, block)
    return tally


def _whole_samples_hidden(task, block):
    """Yield all samples with each window of the block hidden, in one buffer."""
    flat = np.empty_like(task.samples.values, order="C")
    for window in block:
        np.copyto(flat, task.samples.values)  # the whole: an estimator may write to its input
        task.samples.hide(flat, task.windows[window])
        yield flat


def _score_block(task, block, correct):
    scores, tally = [], None if correct is None else Tally(task.truth, len(block))
    for window, flat in enumerate(_whole_samples_hidden(task, block)):
        if tally is not None:
            rows = np.arange(len(flat))
            if task.row_by_row:
                rows = task.samples.rows_changed_by(task.windows[block[window]])
            _tally_window(task, tally, window, flat[rows], rows, correct)
        scores.append(task.score(task.samples.restore(flat), task.truth.y, task.truth.weight))
    return scores, tally


def _tally_whole(task, block, correct):
    tally, rows = Tally(task.truth, len(block)), np.arange(len(correct))
    for window, flat in enumerate(_whole_samples_hidden(task, block)):
        _tally_window(task, tally, window, flat, rows, correct)
    return tally


def _tally_window(task, tally, window, flat, rows, correct):
    if len(rows):
        flipped = rows[correct[rows] != task.is_correct(flat, rows)]
        tally.add_flips(task.truth, np.full(len(flipped), window), flipped, correct[flipped])


def _tally_changed(task, block, correct):
    tally = Tally(task.truth, len(block))
    for batch in _pack(task, block):
        windows = np.repeat([w for w, _ in batch], [len(rows) for _, rows in batch])
        rows = np.concatenate([rows for _, rows in batch])
        flat = task.samples.values[rows]
        start = 0
        for window, piece in batch:
            stop = start + len(piece)
            task.samples.hide(flat[start:stop], task.windows[block[window]], piece)
            start = stop
        flipped = correct[rows] != task.is_correct(flat, rows)
        rows = rows[flipped]
        tally.add_flips(task.truth, windows[flipped], rows, correct[rows])
    return tally


def _pack(task, block):
    """Yield batches: lists of (window, rows it changes) with at most `batch_rows` rows in all."""
    batch, space = [], task.batch_rows
    for window, features in enumerate(task.windows[w] for w in block):
        rows = task.samples.rows_changed_by(features)
        while len(rows):
            batch.append((window, rows[:space]))
            rows, space = rows[space:], space - len(rows[:space])
            if space == 0:
                yield batch
                batch, space = [], task.batch_rows
    if batch:
        yield batch


def _tally_rows(task, rows, predictor):
    tally, before = Tally(task.truth, len(task.windows)), dict(getattr(predictor, "stats", {}))
    y, labels = task.truth.y[rows], np.asarray(predictor.predict(rows, np.arange(0)))
    correct = labels == y
    tally.add_baseline(task.truth, rows, correct)
    if hasattr(predictor, "predict_many"):
        labels = np.asarray(predictor.predict_many(rows, task.windows))
    else:
        labels = _labels_under_windows(task, rows, predictor, labels)
    windows, flipped = np.nonzero((labels == y) != correct)
    tally.add_flips(task.truth, windows, rows[flipped], correct[flipped])
    after = getattr(predictor, "stats", {})
    return tally, {k: v - before.get(k, 0) for k, v in after.items() if isinstance(v, Number)}


def _labels_under_windows(task, rows, predictor, labels):
    """Predict window by window the rows it changes; return labels of shape (n_windows, n_rows)."""
    labels = np.tile(labels, (len(task.windows), 1))
    block = slice(rows[0], rows[-1] + 1)
    for window, features in enumerate(task.windows):
        changed = task.samples.rows_changed_by(features, block)
        if len(changed):
            labels[window, changed] = predictor.predict(rows[changed], features)
    return labels


def _add_counts(stats, counts):
    return {k: stats.get(k, 0) + counts.get(k, 0) for k in stats | counts}
