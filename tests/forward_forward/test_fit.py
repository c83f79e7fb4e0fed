import io
import re
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
import pytest
from forward_forward.samples import (
    Recorder,
    gaussian_classes,
    same_weights,
    tiny_classifier,
    weights,
)
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.model_selection import train_test_split

from skff.forward_forward import _fit
from skff.forward_forward.losses import CrossEntropy

every_training = pytest.mark.parametrize("training", ["simultaneous", "greedy"])
every_readout = pytest.mark.parametrize("readout", ["goodness", "softmax"])


class StopAfter(Recorder):
    """A callback that asks to stop after so many epochs."""

    def __init__(self, n_epochs):
        super().__init__()
        self.n_epochs = n_epochs

    def on_fit_task_end(self, estimator, context):
        self.names.append(context.task_name)
        return context.task_name == "epoch" and context.task_id + 1 == self.n_epochs


class Interrupt(Recorder):
    """A callback that raises after the first epoch."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            raise self.error


def hard_to_learn(n_samples=200):
    """Return overlapping classes, whose validation accuracy goes up and down."""
    return gaussian_classes(n_samples, n_features=5, spread=4.0)


# history


@every_training
@every_readout
def test_history_has_a_record_per_epoch_and_phase(training, readout):
    X, y = gaussian_classes()
    clf = tiny_classifier((6, 5, 4), max_iter=3, training=training, readout=readout).fit(X, y)
    layers = [[0, 1, 2]] if training == "simultaneous" else [[0], [1], [2]]
    if readout == "softmax" and training == "greedy":
        layers.append([])  # the head alone
    assert [row["layers"] for row in clf.history_] == [own for own in layers for _ in range(3)]
    assert [row["epoch"] for row in clf.history_] == [1, 2, 3] * len(layers)
    for row in clf.history_:
        assert len(row["loss"]) == len(row["positive_share"]) == len(row["layers"])
        assert np.isfinite(row["loss"]).all()
        assert all(0 <= share <= 1 for share in row["positive_share"])
        assert row["seconds"] > 0
        assert "validation_score" not in row
    assert clf.n_iter_ == 3


@every_training
def test_loss_curves_hold_the_history_per_layer(training):
    X, y = gaussian_classes()
    clf = tiny_classifier((6, 5, 4), max_iter=4, training=training).fit(X, y)
    losses = [row["loss"] for row in clf.history_]
    expected = np.transpose(losses) if training == "simultaneous" else np.reshape(losses, (3, 4))
    assert clf.loss_curves_.shape == (3, 4)
    np.testing.assert_array_equal(clf.loss_curves_, expected)


@pytest.mark.parametrize(
    "params",
    [{"loss": CrossEntropy(label_smoothing=0.0)}, {"loss": "symba"}, {"overlay": "append"}],
)
def test_recorded_loss_and_share_are_those_of_the_untouched_network(params):
    # So small a rate that every pair of the epoch meets the initial weights.
    X, y = gaussian_classes(n_classes=2)  # with two classes there is one wrong label
    clf = tiny_classifier(max_iter=1, solver="sgd", learning_rate_init=1e-30, **params).fit(X, y)
    goodness = clf.layer_goodness(X).astype(float)
    rows = np.arange(len(X))
    lead = goodness[:, rows, y] - goodness[:, rows, 1 - y]
    (record,) = clf.history_
    np.testing.assert_allclose(record["loss"], np.log1p(np.exp(-4 * lead)).mean(1) / 4, rtol=1e-4)
    np.testing.assert_allclose(record["positive_share"], (lead > 0).mean(1), atol=1e-6)


def test_history_goes_on_under_warm_start_and_partial_fit():
    X, y = gaussian_classes()
    clf = tiny_classifier(max_iter=2, warm_start=True)
    clf.fit(X, y).fit(X, y).partial_fit(X, y)
    assert clf.n_iter_ == 5
    assert [row["epoch"] for row in clf.history_] == [1, 2, 3, 4, 5]
    assert clf.loss_curves_.shape == (2, 5)
    clf.set_params(warm_start=False).fit(X, y)
    assert clf.n_iter_ == 2


# verbose


def printed(clf, *arguments, method="fit"):
    out = io.StringIO()
    with redirect_stdout(out):
        getattr(clf, method)(*arguments)
    return out.getvalue().splitlines()


@every_training
@every_readout
@pytest.mark.parametrize("early_stopping", [False, True])
def test_verbose_prints_a_line_per_epoch(training, readout, early_stopping):
    X, y = gaussian_classes()
    params = {"training": training, "readout": readout, "early_stopping": early_stopping}
    clf = tiny_classifier(max_iter=3, verbose=True, **params)
    lines = printed(clf, X, y)
    assert len(lines) == len(clf.history_)
    for line, row in zip(lines, clf.history_, strict=True):
        assert re.match(rf"epoch +{row['epoch']}/3 ", line)
        shown = [f"{loss:.4f}" for loss in row["loss"]]
        if early_stopping:
            shown.append(f"validation accuracy {row['validation_score']:.4f}")
        assert all(number in line for number in shown)
    assert all(re.search(r"about \d+ (s|min) left$", line) for line in lines[:-1])
    assert "left" not in lines[-1]


def test_partial_fit_prints_a_line_when_verbose_and_silence_is_the_default():
    X, y = gaussian_classes()
    assert len(printed(tiny_classifier(verbose=1), X, y, [0, 1, 2], method="partial_fit")) == 1
    assert printed(tiny_classifier(), X, y) == []


# early stopping


@every_training
@every_readout
def test_early_stopping_restores_the_best_weights(training, readout, monkeypatch):
    X, y = hard_to_learn(400)
    parts = []

    def spy(*arrays, **params):
        parts.append(train_test_split(*arrays, **params))
        return parts[-1]

    monkeypatch.setattr(_fit, "train_test_split", spy)
    params = {"training": training, "readout": readout, "max_iter": 12, "n_iter_no_change": 100}
    clf = tiny_classifier(early_stopping=True, learning_rate_init=0.02, **params).fit(X, y)
    ((_, held_out),) = parts
    scores = [row["validation_score"] for row in clf.history_[-12:]]  # of the last phase
    assert len(set(scores)) > 1
    assert clf.score(X[held_out], y[held_out]) == pytest.approx(max(scores))


def test_early_stopping_ends_with_the_weights_of_the_best_epoch():
    X, y = hard_to_learn()
    recorder = Recorder()
    clf = tiny_classifier(max_iter=12, early_stopping=True, learning_rate_init=0.02)
    clf.set_callbacks(recorder).fit(X, y)
    best = int(np.argmax([row["validation_score"] for row in clf.history_]))
    assert best < len(clf.history_) - 1
    for found, expected in zip(weights(clf), recorder.weights[best], strict=True):
        np.testing.assert_array_equal(found, expected)


@every_training
def test_early_stopping_waits_n_iter_no_change_epochs_for_a_gain_of_tol(training):
    X, y = gaussian_classes(n_samples=300)
    params = {"training": training, "early_stopping": True, "max_iter": 50}
    params |= {"validation_fraction": 0.5}  # so fine a score that it rises for many epochs
    clf = tiny_classifier(n_iter_no_change=3, tol=1.0, **params).fit(X, y)
    # No accuracy ever exceeds the first by more than 1: the first epoch and three more.
    assert [row["epoch"] for row in clf.history_] == [1, 2, 3, 4] * (1 + (training == "greedy"))
    assert clf.n_iter_ == 4
    assert clf.set_params(tol=0.0).fit(X, y).n_iter_ > 4


def test_loss_curves_of_layers_that_stopped_at_different_epochs_end_in_nan():
    X, y = hard_to_learn()
    params = {"training": "greedy", "early_stopping": True, "n_iter_no_change": 2}
    clf = tiny_classifier(max_iter=30, learning_rate_init=0.02, **params).fit(X, y)
    epochs = [sum(row["layers"] == [layer] for row in clf.history_) for layer in range(2)]
    assert clf.n_iter_ == max(epochs)
    assert clf.loss_curves_.shape == (2, max(epochs))
    np.testing.assert_array_equal(np.isfinite(clf.loss_curves_).sum(1), epochs)
    assert epochs[0] != epochs[1]


def test_early_stopping_holds_out_a_stratified_share(monkeypatch):
    X, y = gaussian_classes(n_samples=100, n_classes=4)
    parts = []

    def spy(*arrays, **params):
        parts.append(train_test_split(*arrays, **params))
        return parts[-1]

    monkeypatch.setattr(_fit, "train_test_split", spy)
    tiny_classifier(early_stopping=True, validation_fraction=0.2).fit(X, y)
    ((train, held_out),) = parts
    np.testing.assert_array_equal(np.bincount(y[held_out]), [5, 5, 5, 5])
    assert sorted([*train, *held_out]) == list(range(100))


# callbacks


@every_training
def test_a_callback_hears_every_task_in_order(training):
    X, y = gaussian_classes()
    recorder = Recorder()
    tiny_classifier(training=training).set_callbacks(recorder).fit(X, y)
    names = {
        "simultaneous": ["epoch", "epoch", "fit"],
        "greedy": ["epoch", "epoch", "layer 1", "epoch", "epoch", "layer 2", "fit"],
    }
    assert recorder.names == names[training]


@every_training
def test_a_callback_stops_the_epochs(training):
    X, y = gaussian_classes()
    clf = tiny_classifier(training=training, max_iter=50).set_callbacks(StopAfter(4)).fit(X, y)
    assert clf.n_iter_ == 4
    assert [row["epoch"] for row in clf.history_] == [1, 2, 3, 4] * (1 + (training == "greedy"))


def test_a_callback_that_only_listens_changes_no_weight():
    X, y = gaussian_classes()
    heard = tiny_classifier(dropout=0.2).set_callbacks(Recorder()).fit(X, y)
    assert same_weights(heard, tiny_classifier(dropout=0.2).fit(X, y))


def scores_of(monitor):
    return [(row["task_name"], row["accuracy"]) for row in monitor.get_logs().data]


@every_training
@pytest.mark.parametrize("as_frame", [False, True])
def test_scoring_monitor_logs_the_score_of_each_epoch(training, as_frame):
    X, y = gaussian_classes()
    X = pd.DataFrame(X, columns=list("abcdef")) if as_frame else X
    names = np.array(["u", "v", "w"])[y]
    monitor = ScoringMonitor(scoring="accuracy")
    clf = tiny_classifier(training=training).set_callbacks(monitor).fit(X, names)
    scores = scores_of(monitor)
    n_phases = 2 if training == "greedy" else 1
    assert [name for name, _ in scores].count("epoch") == 2 * n_phases
    assert dict(scores)["fit"] == clf.score(X, names)
    one_epoch = tiny_classifier(training=training, learning_rate="constant", max_iter=1)
    if training == "simultaneous":  # whose first epoch is at the full rate
        assert scores[1] == ("epoch", one_epoch.fit(X, names).score(X, names))


def test_scoring_monitor_weighs_samples_as_the_caller_does():
    X, y = gaussian_classes()
    weight = np.linspace(0, 1, len(X))
    monitor = ScoringMonitor(scoring="accuracy")
    clf = tiny_classifier(class_weight={0: 9.0}).set_callbacks(monitor)
    clf.fit(X, y, sample_weight=weight)
    assert dict(scores_of(monitor))["fit"] == pytest.approx(clf.score(X, y, weight))


def test_a_clone_keeps_its_callbacks():
    X, y = gaussian_classes()
    clf = clone(tiny_classifier().set_callbacks(StopAfter(1)))
    assert clf.fit(X, y).n_iter_ == 1


@pytest.mark.parametrize("error", [KeyError("callback"), KeyboardInterrupt()])
def test_an_interrupted_fit_leaves_the_estimator_as_it_was(error):
    X, y = gaussian_classes()
    wide = np.c_[X, X]
    clf = tiny_classifier().fit(X, y)
    before, predicted = weights(clf), clf.decision_function(X)
    with pytest.raises(type(error)):
        clf.set_callbacks(Interrupt(error)).fit(wide, y)
    assert clf.n_features_in_ == 6
    assert all(map(np.array_equal, weights(clf), before))
    np.testing.assert_array_equal(clf.decision_function(X), predicted)
    assert len(clf.history_) == 2
    clf.set_callbacks()
    assert same_weights(clf.fit(wide, y), tiny_classifier().fit(wide, y))


def test_an_interrupted_first_fit_leaves_the_estimator_unfitted():
    X, y = gaussian_classes()
    clf = tiny_classifier().set_callbacks(Interrupt(KeyError("callback")))
    before = set(vars(clf))
    with pytest.raises(KeyError, match="callback"):
        clf.fit(X, y)
    assert set(vars(clf)) == before
