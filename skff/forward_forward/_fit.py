"""The stages of a fit: from an estimator and data to fitted attributes.

The estimator is not changed during training. The functions return a dict of all fitted attributes,
which the estimator then adopts in one step. A fit that fails or is interrupted therefore leaves the
estimator as it was, and predictions in another thread use either the old or the new state.
"""

import copy
import math
from collections import Counter
from functools import partial
from time import perf_counter

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from skff._locks import checks_lock
from skff.forward_forward import _parameters as parameters
from skff.forward_forward._batches import TrainingData, location_and_norms
from skff.forward_forward._calibration import probability_scale
from skff.forward_forward._checkpoint import Checkpoint, Progress
from skff.forward_forward._distributed import describe as describe_work
from skff.forward_forward._distributed import make_team
from skff.forward_forward._monitor import Monitor, describe
from skff.forward_forward._network import Network
from skff.forward_forward._outcome import warn_of_outcome
from skff.forward_forward._scale import some_rows, warn_of_scale, warn_of_strange_samples
from skff.forward_forward._targets import all_classes, check_same_task, check_task
from skff.forward_forward._torch import as_numpy, computing, resolve_device
from skff.forward_forward._trainer import SCHEDULES, Trainer, inverse_sqrt
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.overlays import OVERLAYS, reads_label_everywhere
from skff.forward_forward.readouts import READOUTS
from skff.forward_forward.solvers import SOLVERS

UNUSABLE_IN_PARTIAL_FIT = {
    "early_stopping": True,
    "training": "greedy",
    "class_weight": "balanced",
}


def fit(estimator, X, y, sample_weight):
    """Train a network.

    Parameters
    ----------
    estimator : FFClassifier
        Estimator whose parameters are used, and its network if training continues; not changed.
    X, y, sample_weight
        See `FFClassifier.fit`.

    Returns
    -------
    attributes : dict of str -> object
        All fitted attributes.
    interrupt : KeyboardInterrupt or None
        Interrupt that ended training, if any; the attributes are those after the last completed
        epoch.

    Raises
    ------
    ValueError
        If a parameter, the data or the checkpoint is invalid, or if the loss becomes non-finite.
    """
    hook_arguments = _hook_arguments(estimator, X, y, sample_weight)
    team = make_team(estimator.parallel)
    go_on = estimator.warm_start and hasattr(estimator, "_network")
    rule, task = team.ranks.call(partial(_check, estimator, X, y, sample_weight, go_on=go_on))
    team.ranks.check_alike(partial(describe_work, estimator, task, go_on=go_on))
    checkpoint = Checkpoint(estimator, task, go_on, team.ranks)
    random_state = check_random_state(checkpoint.random_state)
    samples, held_out = _split(task.samples, estimator, random_state)
    generator = _generator(estimator, random_state)
    if go_on:
        network = _continued(estimator, task, rule)
    else:
        network = _initialized(estimator, samples[0], task, rule, generator)
    history = list(estimator.history_) if go_on else []
    fitted = partial(_fitted_attributes, task, network, history)
    hook_arguments["reconstruction_attributes"] = lambda: copy.deepcopy(fitted())
    progress = Progress(network, generator, history, _phases(estimator, network))
    interrupt = _train(
        estimator, team, progress, checkpoint, rule, samples, held_out, hook_arguments
    )
    n_updates = count_epochs(history) * _updates_per_epoch(estimator, len(samples[0]))
    warn_of_outcome(estimator, network, samples, n_updates=n_updates)
    return fitted(), interrupt


def partial_fit(estimator, X, y, classes, sample_weight):
    """Train for one pass over some data, continuing from a copy of the current weights.

    Parameters
    ----------
    estimator : FFClassifier
        Estimator whose parameters, network and trainer (if any) are used; not changed.
    X, y, classes, sample_weight
        See `FFClassifier.partial_fit`.

    Returns
    -------
    attributes : dict of str -> object
        All fitted attributes, including the trainer.

    Raises
    ------
    ValueError
        If a parameter or the data are invalid, or if the loss becomes non-finite.
    """
    team = make_team(estimator.parallel)
    go_on = hasattr(estimator, "_network")
    rule, task = team.ranks.call(
        partial(_check_part, estimator, X, y, classes, sample_weight, go_on=go_on)
    )
    team.ranks.check_alike(partial(describe_work, estimator, task, go_on=go_on))
    trainer = _trainer_for_passes(estimator, team, task, rule, go_on)
    history = list(estimator.history_) if go_on else []
    if len(task.classes) > 1:
        history.append(_pass_once(estimator, trainer, rule, task.samples, len(history)))
        warn_of_outcome(estimator, trainer.average, task.samples, n_updates=trainer.n_updates)
        if estimator.verbose and team.ranks.rank == 0:
            print(describe(history[-1], history[-1]["epoch"]), flush=True)
    return _fitted_attributes(task, trainer.average, history) | {"_trainer": trainer}


# Stages of a fit


def _check(estimator, X, y, sample_weight, *, go_on):
    rule = parameters.check(estimator)
    return rule, check_task(estimator, X, y, sample_weight, rule, go_on=go_on)


def _split(samples, estimator, random_state):
    """Return samples (X, y, weight) to train on and, for early stopping, to hold out."""
    if not estimator.early_stopping:
        return samples, None
    X, y, weight = samples
    with checks_lock:
        train, held_out = train_test_split(
            np.arange(len(X)),
            test_size=estimator.validation_fraction,
            stratify=y,
            random_state=random_state,
        )
    parts = train, np.sort(held_out)  # read in full after every epoch, so in the order of the file
    return tuple((X[part], y[part], None if weight is None else weight[part]) for part in parts)


def _generator(estimator, random_state):
    generator = torch.Generator(resolve_device(estimator.device))
    return generator.manual_seed(int(random_state.randint(np.iinfo(np.int32).max)))


def _initialized(estimator, X, task, rule, generator):
    """Return a network with random weights, scaled for these samples."""
    overlay, n_classes = parameters.component(OVERLAYS, estimator.overlay), len(task.classes)
    keep = partial(overlay, n_classes=n_classes)
    center, norm, largest = location_and_norms(X, estimator.center, keep)
    warn_of_scale(X, keep, center, norm, task.seen.get("feature_names_in_"))
    sizes = [len(center), *parameters.layer_sizes(estimator.hidden_layer_sizes)]
    parameters.check_memory(sizes, n_classes)
    return Network.initialize(
        sizes,
        n_classes,
        label_scale=estimator.label_scale,
        every_layer=reads_label_everywhere(overlay),
        generator=generator,
        head=estimator.readout != "goodness",
        center=center,
        input_scale=math.sqrt(len(center)) / norm,  # samples get an rms of about 1
        largest_input=largest / norm,
        overlay=overlay,
        **_frozen(estimator, rule),
    )


def _continued(estimator, task, rule):
    """Return a copy of the fitted network, to continue training."""
    check_same_task(estimator, task)
    network = estimator._network.to(resolve_device(estimator.device))
    vars(network).update(_frozen(estimator, rule))
    _meet_samples(network, task.samples[0])
    return network


def _meet_samples(network, X):
    """Warn if new samples differ in scale from those of earlier fits, whose scale is kept."""
    kept = network.keep(X.read(some_rows(X)))
    sizes = np.linalg.norm(kept - as_numpy(network.center).astype(np.float64), axis=1)
    largest = float(sizes.max() * network.input_scale / math.sqrt(kept.shape[1]))
    warn_of_strange_samples(largest, network.largest_input)
    network.largest_input = max(largest, network.largest_input)


def _frozen(estimator, rule):
    """Return the parameters that prediction needs, with their values at `fit`."""
    return {
        "goodness": parameters.component(GOODNESS, estimator.goodness),
        "skip_first": estimator.skip_first_goodness,
        "probability_scale": getattr(rule.loss, "scale", 1.0),
    }


def _train(estimator, team, progress, checkpoint, rule, samples, held_out, hook_arguments):
    """Train all phases, calling the callbacks after each epoch; return an interrupt, if any."""
    network, phases, interrupt = progress.network, progress.phases, None
    n_samples = len(samples[0])
    max_iter = parameters.resolve_max_iter(estimator.max_iter, n_samples, estimator.batch_size)
    n_subtasks = max_iter if len(phases) == 1 else len(phases)
    context = estimator._init_callback_context(max_subtasks=n_subtasks)
    context.call_on_fit_task_begin(**hook_arguments)
    monitor = Monitor(
        context,
        progress.history,
        hook_arguments,
        max_iter=max_iter,
        n_phases=len(phases),
        n_before=count_epochs(progress.history),
        verbose=estimator.verbose and team.ranks.rank == 0,
    )
    with computing(network.device, estimator.matmul_precision):
        team.ranks.call(partial(checkpoint.resume, progress))
        if not progress.is_finished:
            data = _training_data(estimator, network, *samples)
            try:
                _run_phases(estimator, team, progress, checkpoint, data, rule, held_out, monitor)
            except KeyboardInterrupt as error:
                interrupt = checkpoint.go_back(progress, error)
            except ValueError as error:
                checkpoint.name_file(error)
                raise
            scale = probability_scale(network, rule, data, progress.generator)
            network.probability_scale = team.ranks.first(scale)
    if interrupt is None:
        team.ranks.call(partial(checkpoint.finish, progress))
    context.call_on_fit_task_end(**hook_arguments)
    return interrupt


def _phases(estimator, network):
    """Return the phases of training: (layers that learn, whether the softmax head learns)."""
    n_layers, head = network.n_layers, bool(network.head)
    if network.n_classes == 1:
        return []  # there is no wrong label to learn from
    if estimator.training == "simultaneous":
        return [(range(n_layers), head)]
    layers = [(range(layer, layer + 1), False) for layer in range(n_layers)]
    return layers + [(range(0), True)] * head


def _run_phases(estimator, team, progress, checkpoint, data, rule, held_out, monitor):
    """Train phase by phase, starting where a checkpoint ended."""
    network, phases = progress.network, progress.phases
    for number, (layers, head) in enumerate(phases):
        if number < progress.phase:
            monitor.skip_phase()
            continue
        trainer = _make_trainer(estimator, team, network, layers, progress.generator, head)
        progress.enter(number, trainer, _Best(network, estimator.tol))
        team.ranks.call(partial(checkpoint.resume_phase, progress, monitor.max_iter))
        validate = held_out and partial(_validation_score, network, held_out, layers, head)
        with monitor.phase(layers, nested=len(phases) > 1, n_past=progress.epoch):
            _run_epochs(estimator, progress, checkpoint, data, rule, monitor, validate)


def _run_epochs(estimator, progress, checkpoint, data, rule, monitor, validate=None):
    """Train some layers epoch by epoch; with `validate`, stop early with the best weights."""
    schedule, max_iter = SCHEDULES[estimator.learning_rate], monitor.max_iter
    batch_size = parameters.resolve_batch_size(estimator.batch_size, len(data))
    best, ranks = progress.best, progress.trainer.team.ranks
    while not progress.is_over:
        epoch = progress.epoch
        monitor.begin_epoch()
        record = run_epoch(
            progress.trainer,
            data,
            rule,
            batch_size,
            epoch,
            schedule=lambda done, epoch=epoch: schedule((epoch + done) / max_iter),
        )
        if validate is not None:
            record["validation_score"] = ranks.first(validate())
            best.update(record["validation_score"])
        stop = ranks.any(ranks.call(partial(monitor.end_epoch, record)))
        stop = stop or best.n_stale >= estimator.n_iter_no_change
        progress.epoch, progress.is_over = epoch + 1, bool(stop or epoch + 1 == max_iter)
        if estimator.checkpoint is not None:
            progress.trainer.team.complete(progress.trainer)
        ranks.call(partial(checkpoint.keep, progress))
    best.apply()


def run_epoch(trainer, data, rule, batch_size, epoch, *, schedule):
    """Train for one epoch and return its record.

    Parameters
    ----------
    trainer : Trainer
        Layers and their optimizer.
    data : TrainingData
        Samples, encoded labels and weights.
    rule : LearningRule
        Goodness, loss and negatives of the layers.
    batch_size : int
        Samples per update.
    epoch : int
        Epochs already done with this trainer.
    schedule : callable
        Completed share of the epoch, in [0, 1) -> factor on the learning rate.

    Returns
    -------
    record : dict
        See `FFClassifier.history_`.

    Raises
    ------
    ValueError
        If a loss or a weight is no longer finite.
    """
    start, factor = perf_counter(), schedule(0.0)
    loss, win_share = trainer.epoch(data, rule, batch_size=batch_size, schedule=schedule)
    n_layers = len(trainer.layers)
    rate, head_rate = trainer.learning_rate, trainer.head_learning_rate
    for name, value in zip(_names(trainer.layers), loss, strict=False):
        _check_finite(value, f"a loss of {value} in {name}", epoch, rate)
    if trainer.head:
        _check_finite(loss[-1], f"a loss of {loss[-1]} in the softmax head", epoch, head_rate)
    for name, index in zip(_names(trainer.layers), trainer.layers, strict=True):
        tensors = trainer.network.layers[index].tensors()
        size = sum(float(tensor.square().sum()) for tensor in tensors)
        _check_finite(size, f"weights that are not finite in {name}", epoch, rate)
    record = {
        "epoch": epoch + 1,
        "layers": list(trainer.layers),
        "seconds": perf_counter() - start,
        "learning_rate": (rate if n_layers else head_rate) * factor,
        "loss": loss[:n_layers],
        "positive_share": win_share[:n_layers],
    }
    if trainer.head:
        record |= {"readout_loss": loss[-1], "readout_accuracy": win_share[-1]}
    return record | trainer.team.record()


def _names(layers):
    return [f"layer {layer + 1}" for layer in layers]


def _check_finite(value, what, epoch, learning_rate):
    if not math.isfinite(value):
        raise ValueError(
            f"Got {what} at epoch {epoch + 1}, but expected finite numbers: lower "
            f"learning_rate_init (now {learning_rate}) or label_scale."
        )


def _validation_score(network, held_out, layers, head):
    """Return the accuracy on held-out samples of the layers trained so far, or of the head."""
    X, y, weight = held_out
    n_layers = layers.stop if len(layers) else None
    scores = network.compute(X, partial(network.scores, n_layers=n_layers, use_head=head))
    return float(np.average(scores.argmax(axis=1) == y, weights=weight))


class _Best:
    """The weights with the best validation score so far, if there is any score."""

    def __init__(self, network, tol):
        self.network = network
        self.tol = tol
        self.score = self.bar = -math.inf
        self.weights = None
        self.n_stale = 0

    def update(self, score):
        if score > self.bar + self.tol:
            self.bar, self.n_stale = score, 0
        else:
            self.n_stale += 1
        if score > self.score:
            self.score, self.weights = score, self.network.state()

    def apply(self):
        if self.weights is not None:
            self.network.restore(self.weights)

    def state(self):
        return {"score": self.score, "bar": self.bar, "n_stale": self.n_stale}

    def restore(self, state):
        vars(self).update(state)


def _updates_per_epoch(estimator, n_samples):
    return math.ceil(n_samples / parameters.resolve_batch_size(estimator.batch_size, n_samples))


# Stages of a partial fit


def _check_part(estimator, X, y, classes, sample_weight, *, go_on):
    rule = parameters.check(estimator)
    _refuse_what_needs_all_data(estimator)
    classes = all_classes(estimator, classes)
    return rule, check_task(estimator, X, y, sample_weight, rule, go_on=go_on, classes=classes)


def _refuse_what_needs_all_data(estimator):
    for name, unusable in UNUSABLE_IN_PARTIAL_FIT.items():
        if getattr(estimator, name) == unusable:
            raise ValueError(
                f"Got {name}={unusable!r}, but partial_fit cannot use it: it needs all the "
                "data at once. Use fit."
            )


def _trainer_for_passes(estimator, team, task, rule, go_on):
    """Return a trainer to continue with: a copy of the last one, or a new one."""
    if hasattr(estimator, "_trainer"):
        check_same_task(estimator, task)
        trainer = estimator._trainer.copy()
        trainer.team = team
        for network in (trainer.network, trainer.average):
            vars(network).update(_frozen(estimator, rule))
        _meet_samples(trainer.average, task.samples[0])
    else:
        generator = _generator(estimator, team.ranks.random_state(estimator.random_state))
        if go_on:
            average = _continued(estimator, task, rule)
        else:
            average = _initialized(estimator, task.samples[0], task, rule, generator)
        layers, head = range(average.n_layers), bool(average.head)
        learning = average.to(average.device)
        trainer = _make_trainer(estimator, team, learning, layers, generator, head, average)
    trainer.learning_rate = estimator.learning_rate_init
    trainer.head = parameters.component(READOUTS, estimator.readout)
    return trainer


def _pass_once(estimator, trainer, rule, samples, n_before):
    """Train for one epoch on a part of the data."""

    def schedule(done):
        constant = estimator.learning_rate == "constant"
        return 1.0 if constant else inverse_sqrt(trainer.n_updates)

    with computing(trainer.network.device, estimator.matmul_precision):
        data = _training_data(estimator, trainer.network, *samples)
        # One call usually has only one of several parts of the data.
        batch_size = parameters.resolve_batch_size(estimator.batch_size, len(data), auto=25)
        record = run_epoch(trainer, data, rule, batch_size, n_before, schedule=schedule)
        trainer.team.complete(trainer)
        scale = probability_scale(trainer.average, rule, data, trainer.generator)
        trainer.average.probability_scale = trainer.team.ranks.first(scale)
    return record


# Shared by both


def _make_trainer(estimator, team, network, layers, generator, head, average=None):
    return Trainer(
        network,
        layers,
        generator,
        solver=parameters.component(SOLVERS, estimator.solver),
        learning_rate=estimator.learning_rate_init,
        weight_decay=estimator.weight_decay,
        precision=estimator.matmul_precision,
        head=parameters.component(READOUTS, estimator.readout) if head else None,
        average=average,
        team=team,
    )


def _training_data(estimator, network, X, y, sample_weight):
    return TrainingData(
        X,
        y,
        sample_weight,
        keep=network.keep,
        rescale=network.rescale,
        device=network.device,
        dropout=parameters.resolve_dropout(estimator.dropout, X.shape[1]),
        augment=estimator.augment,
    )


def _hook_arguments(estimator, X, y, sample_weight):
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    return {"estimator": estimator, "X": X, "y": y, "metadata": metadata}


def _fitted_attributes(task, network, history):
    return task.seen | {
        "_network": network,
        "classes_": task.classes,
        "history_": history,
        "n_iter_": count_epochs(history),
    }


def count_epochs(history):
    """Count the epochs of the layer that was trained most.

    Parameters
    ----------
    history : list of dict
        See `FFClassifier.history_`.

    Returns
    -------
    n_epochs : int
        0 if nothing was trained.
    """
    layers = [layer for record in history for layer in record["layers"]]
    return max(Counter(layers).values(), default=0)
