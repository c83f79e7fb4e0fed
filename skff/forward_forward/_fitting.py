"""The course of a fit: layers together or in turn, epochs, early stopping, history."""

import math
from dataclasses import dataclass
from time import perf_counter

from skff.forward_forward._training import SCHEDULES


@dataclass(frozen=True)
class Course:
    """Settings of the epochs.

    Parameters
    ----------
    batch_size : int
        Samples per update.
    max_iter : int
        Epochs per set of layers.
    learning_rate : str
        A name in `SCHEDULES`.
    n_iter_no_change : int
        Epochs without improvement before training stops early.
    tol : float
        Smallest gain of the validation score that counts.
    """

    batch_size: int
    max_iter: int
    learning_rate: str
    n_iter_no_change: int
    tol: float


def train_layers(trainer, data, rule, course, monitor, validate=None):
    """Train some layers epoch by epoch; with `validate`, end with the best weights.

    Parameters
    ----------
    trainer : Trainer
        Layers and their optimizer.
    data : TrainingData
        Samples, encoded labels and weights.
    rule : Rule
        What the layers learn from.
    course : Course
        Settings.
    monitor : Monitor
        Hears of each epoch and may stop the training.
    validate : callable, default=None
        () -> validation score in [0, 1]; training stops early when given.

    Raises
    ------
    ValueError
        When a layer's loss is no longer finite.
    """
    schedule = SCHEDULES[course.learning_rate]
    best = _Best(trainer.network, course)
    for epoch in range(course.max_iter):
        monitor.begin_epoch()
        record = run_epoch(
            trainer,
            data,
            rule,
            course.batch_size,
            epoch,
            schedule=lambda done, epoch=epoch: schedule((epoch + done) / course.max_iter),
        )
        if validate is not None:
            record["validation_score"] = validate()
            best.update(record["validation_score"])
        if monitor.end_epoch(record) or best.n_stale >= course.n_iter_no_change:
            break
    best.restore()


def run_epoch(trainer, data, rule, batch_size, epoch, *, schedule):
    """Train for one epoch and describe it.

    Parameters
    ----------
    trainer, data, rule
        See `train_layers`.
    batch_size : int
        Samples per update.
    epoch : int
        Epochs already done with this trainer.
    schedule : callable
        Share of the epoch that is done, in [0, 1) -> factor on the learning rate.

    Returns
    -------
    record : dict
        See `FFClassifier.history_`.
    """
    start, factor = perf_counter(), schedule(0.0)
    loss, win_share = trainer.epoch(data, rule, batch_size=batch_size, schedule=schedule)
    n_layers = len(trainer.layers)
    for name, value in zip([*_names(trainer.layers), "the softmax head"], loss, strict=False):
        _check_finite(value, f"a loss of {value} in {name}", epoch, trainer)
    for name, layer in zip(_names(trainer.layers), trainer.layers, strict=True):
        size = sum(float(tensor.square().sum()) for tensor in trainer.network.parameters(layer))
        _check_finite(size, f"weights that are not finite in {name}", epoch, trainer)
    record = {
        "epoch": epoch + 1,
        "layers": list(trainer.layers),
        "seconds": perf_counter() - start,
        "learning_rate": trainer.learning_rate * factor,
        "loss": loss[:n_layers],
        "positive_share": win_share[:n_layers],
    }
    if trainer.readout:
        record |= {"readout_loss": loss[-1], "readout_accuracy": win_share[-1]}
    return record


def _names(layers):
    return [f"layer {layer + 1}" for layer in layers]


class _Best:
    """The weights with the best validation score so far, if there ever was a score."""

    def __init__(self, network, course):
        self.network = network
        self.tol = course.tol
        self.score = self.bar = -math.inf
        self.weights = None
        self.n_stale = 0

    def update(self, score):
        if score > self.bar + self.tol:
            self.bar, self.n_stale = score, 0
        else:
            self.n_stale += 1
        if score > self.score:
            self.score, self.weights = score, self.network.to(self.network.device)

    def restore(self):
        if self.weights is not None:
            self.network.copy_from(self.weights)


def _check_finite(value, what, epoch, trainer):
    if not math.isfinite(value):
        raise ValueError(
            f"Got {what} at epoch {epoch + 1}, but expected finite numbers: lower "
            f"learning_rate_init (now {trainer.learning_rate}) or label_scale."
        )
