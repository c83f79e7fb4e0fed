from functools import partial

import numpy as np
import pytest
import torch
from forward_forward import oracle
from forward_forward.oracle import plain_network, train_plainly
from forward_forward.samples import (
    OVERLAYS_AND_LOSSES,
    Recorder,
    gaussian_classes,
    next_label,
    params_for,
    same_weights,
    tiny_classifier,
    weights,
)
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils import check_random_state

from skff.forward_forward import _gradients, _parameters, _trainer
from skff.forward_forward._parameters import resolve_max_iter
from skff.forward_forward._torch import PRECISIONS
from skff.forward_forward._trainer import SCHEDULES
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES
from skff.forward_forward.negatives import NEGATIVES
from skff.forward_forward.overlays import OVERLAYS
from skff.forward_forward.readouts import READOUTS, Softmax
from skff.forward_forward.solvers import SGD, SOLVERS

REGISTRIES = {
    "goodness": GOODNESS,
    "loss": LOSSES,
    "negatives": NEGATIVES,
    "overlay": OVERLAYS,
    "solver": SOLVERS,
    "training": ["simultaneous", "greedy"],
    "readout": READOUTS,
    "learning_rate": SCHEDULES,
}
COMPONENTS = [params_for(name, value) for name, names in REGISTRIES.items() for value in names]
every_component = pytest.mark.parametrize("params", COMPONENTS)

STILL = {"solver": "sgd", "learning_rate_init": 1e-30, "max_iter": 1}  # too small a rate to move


# schedules


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))
@given(progress=st.floats(0, 1), later=st.floats(0, 1))
def test_schedules_start_at_1_and_never_rise_nor_turn_negative(schedule, progress, later):
    progress, later = sorted([progress, later])
    assert schedule(0.0) == 1.0
    assert 1.0 >= schedule(progress) >= schedule(later) >= 0.0


@pytest.mark.parametrize(
    ("progress", "factor"), [(0, 1), (0.25, 1), (0.5, 1), (0.625, 0.75), (0.75, 0.5), (1, 0)]
)
def test_cooldown_keeps_the_rate_for_half_the_updates_then_falls_linearly(progress, factor):
    assert SCHEDULES["cooldown"](progress) == factor
    assert SCHEDULES["constant"](progress) == 1


@pytest.mark.parametrize("training", ["simultaneous", "greedy"])
def test_history_holds_the_rate_at_the_start_of_each_epoch(training):
    X, y = gaussian_classes()
    clf = tiny_classifier(max_iter=8, learning_rate_init=0.01, training=training).fit(X, y)
    rates = [0.01] * 5 + [0.0075, 0.005, 0.0025]
    phases = 2 if training == "greedy" else 1
    np.testing.assert_allclose([row["learning_rate"] for row in clf.history_], rates * phases)


def test_head_alone_is_trained_at_its_own_rate():
    X, y = gaussian_classes()
    clf = tiny_classifier((8,), max_iter=1, training="greedy", readout=Softmax(0.03)).fit(X, y)
    assert [row["learning_rate"] for row in clf.history_] == [clf.learning_rate_init, 0.03]


# updates


@pytest.mark.usefixtures("whole_signal")
@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize(("solver", "momentum"), [("sgd", 0.0), ("sgd", 0.9), ("adamw", 0.9)])
@pytest.mark.parametrize(
    ("overlay", "loss"), [("append", "symba"), ("layerwise", "symba"), ("layerwise", "auto")]
)
def test_training_in_batches_equals_plain_training(overlay, loss, solver, momentum, weight_decay):
    # One sample per label, so that a sample's number is its label.
    X, y = gaussian_classes(10, n_features=12, n_classes=10, centered=True)
    seen = []

    def spy(batch, generator):
        seen.append([np.flatnonzero((X == x).all(1)).item() for x in batch.numpy()])
        return batch

    params = {"overlay": overlay, "loss": loss, "batch_size": 4}
    params |= {"negatives": "all" if loss == "auto" else next_label}
    plain = plain_network(tiny_classifier(**STILL, **params).fit(X, y))
    settings = {"solver": SGD(momentum) if solver == "sgd" else solver}
    settings |= {"weight_decay": weight_decay, "augment": spy}
    clf = tiny_classifier(max_iter=4, learning_rate_init=0.05, **params, **settings).fit(X, y)
    progress = [(epoch + start / 10) / 4 for epoch in range(4) for start in (0, 4, 8)]
    rates = [0.05 * min(1, 2 * (1 - share)) for share in progress]
    before = [tensor.clone() for layer in plain.tensors() for tensor in layer]

    def gradients(rows):
        wrong = None if loss == "auto" else (np.array(rows) + 1) % 10
        formula = oracle.LOSSES.get(loss, oracle.smoothed_cross_entropy)
        goodness = oracle.GOODNESS["mean_square"]
        return plain.gradients(X[rows], rows, wrong, goodness=goodness, loss=formula)

    batches = [partial(gradients, rows) for rows in seen[:12]]  # others fit the probabilities
    decay = {"weight_decay": weight_decay}
    train_plainly(plain, batches, rates, solver=solver, momentum=momentum, **decay)
    after = [tensor for layer in plain_network(clf).tensors() for tensor in layer]
    expected = [tensor for layer in plain.tensors() for tensor in layer]
    for start, found, wanted in zip(before, after, expected, strict=True):
        assert (wanted - start).abs().max() > 1e-3
        np.testing.assert_allclose(found, wanted, atol=5e-5)


def test_first_update_of_adamw_is_the_rate_against_the_sign_of_the_gradient():
    X, y = gaussian_classes(centered=True)
    params = {"batch_size": len(X), "learning_rate": "constant", "max_iter": 1}
    start = weights(tiny_classifier(**(params | STILL)).fit(X, y))
    end = weights(tiny_classifier(**params, learning_rate_init=0.01).fit(X, y))
    for before, after in zip(start, end, strict=True):
        moved = np.abs(after - before)
        assert ((moved < 0.0101) & ((moved > 0.0099) | (moved < 0.0099))).all()
        assert np.median(moved[moved > 0]) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("solver", ["adamw", "sgd"])
def test_weight_decay_shrinks_weights_by_rate_times_decay_and_spares_biases(solver):
    X, y = gaussian_classes(centered=True)
    params = {"solver": solver, "batch_size": len(X), "learning_rate_init": 0.01, "max_iter": 1}
    start = tiny_classifier(**(params | STILL)).fit(X, y)
    free = tiny_classifier(**params).fit(X, y)
    decayed = tiny_classifier(**params, weight_decay=0.5).fit(X, y)
    for name in ("coefs_", "intercepts_"):
        share = 0.01 * 0.5 if name == "coefs_" else 0.0
        for begin, kept, shrunk in zip(
            *(getattr(c, name) for c in (start, free, decayed)), strict=True
        ):
            np.testing.assert_allclose(kept - shrunk, share * begin, atol=1e-7)


def test_batches_cover_every_sample_once_per_epoch_in_a_new_order():
    X, y = gaussian_classes(n_samples=20, n_classes=20)
    batches = []

    def spy(y, n_classes, generator):
        batches.append(y.tolist())
        return next_label(y, n_classes, generator)

    tiny_classifier((8,), negatives=spy, batch_size=6, max_iter=3).fit(X, y)
    batches = batches[-12:]
    assert [len(batch) for batch in batches] == [6, 6, 6, 2] * 3
    epochs = [sum(batches[i : i + 4], []) for i in range(0, 12, 4)]
    assert all(sorted(epoch) == sorted(y.tolist()) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize(
    ("batch_size", "n_samples", "expected"),
    [("auto", 40, 16), ("auto", 2500, 25), ("auto", 30_000, 256), (1000, 40, 40), (7, 40, 7)],
)
def test_batches_hold_as_many_samples_as_asked_for(batch_size, n_samples, expected):
    X, y = gaussian_classes(n_samples=n_samples, n_features=2, n_classes=2)
    sizes = []

    def spy(y, n_classes, generator):
        sizes.append(len(y))
        return next_label(y, n_classes, generator)

    tiny_classifier((2,), negatives=spy, batch_size=batch_size, max_iter=1).fit(X, y)
    assert max(sizes) == expected


@pytest.mark.parametrize(
    ("n_samples", "batch_size", "n_epochs"),
    [(48, 16, 60), (100, 1, 50), (101, 1, 50), (60_000, 256, 22), (10**6, "auto", 20)],
)
def test_auto_epochs_are_those_of_five_thousand_updates_within_bounds(
    n_samples, batch_size, n_epochs
):
    assert resolve_max_iter("auto", n_samples, batch_size) == n_epochs
    assert resolve_max_iter(7, n_samples, batch_size) == 7


def test_auto_epochs_are_run():
    X, y = gaussian_classes(n_samples=48)
    clf = tiny_classifier((2,), max_iter="auto", batch_size=16).fit(X, y)
    assert clf.n_iter_ == 60
    assert clf.history_[-1]["learning_rate"] < clf.history_[0]["learning_rate"] / 10


@pytest.mark.parametrize("overlay", ["layerwise", "append"])
def test_a_model_of_drawn_samples_comes_close_to_that_of_all(overlay, monkeypatch):
    X, y = gaussian_classes(n_samples=256, spread=0.7)
    params = {"overlay": overlay, "max_iter": 20, "learning_rate_init": 0.01}
    monkeypatch.setattr(_parameters, "WORTH_DRAWING", 0)
    drawn = tiny_classifier((20, 20), **params).fit(X, y)
    monkeypatch.setattr(_gradients, "_draw_samples", lambda *args: (None, None))
    whole = tiny_classifier((20, 20), **params).fit(X, y)
    assert not same_weights(drawn, whole)
    assert (drawn.predict(X) == whole.predict(X)).mean() > 0.98
    losses = drawn.loss_curves_[:, -1], whole.loss_curves_[:, -1]
    np.testing.assert_allclose(*losses, rtol=0.2, atol=1e-3)


# greedy


def test_greedy_training_leaves_finished_layers_as_they_are_and_later_ones_untouched():
    X, y = gaussian_classes()
    recorder = Recorder()
    params = {"training": "greedy", "max_iter": 3}
    clf = tiny_classifier((6, 5, 4), **params).set_callbacks(recorder).fit(X, y)
    start = weights(tiny_classifier((6, 5, 4), **STILL).fit(X, y))
    layers = [0, 1, 2] * 3  # of coefs_, intercepts_ and label_coefs_
    finished = [
        (int(name.removeprefix("layer ")) - 1, found)
        for name, found in zip(recorder.names, recorder.weights, strict=True)
        if name.startswith("layer")
    ]
    assert [layer for layer, _ in finished] == [0, 1, 2]
    for done, found in finished:
        for layer, now, begin, end in zip(layers, found, start, weights(clf), strict=True):
            assert np.array_equal(now, end) == (layer <= done)
            assert np.allclose(now, begin, atol=1e-20) == (layer > done)


def test_greedy_training_of_one_layer_is_simultaneous_training():
    X, y = gaussian_classes()
    greedy, simultaneous = (
        tiny_classifier((8,), training=training).fit(X, y)
        for training in ("greedy", "simultaneous")
    )
    assert same_weights(greedy, simultaneous)


# randomness


@every_component
def test_same_seed_same_model_and_another_seed_another(params):
    X, y = gaussian_classes(n_features=8)
    params = params | {"dropout": 0.2}
    first, again, other = (
        tiny_classifier(**params, random_state=seed).fit(X, y) for seed in (3, 3, 4)
    )
    assert same_weights(first, again)
    np.testing.assert_array_equal(first.decision_function(X), again.decision_function(X))
    assert not same_weights(first, other)


def test_random_state_instance_moves_on_and_none_differs():
    X, y = gaussian_classes()
    states = np.random.RandomState(0), np.random.RandomState(0)
    first = tiny_classifier(random_state=states[0]).fit(X, y)
    again = tiny_classifier(random_state=states[1]).fit(X, y)
    assert same_weights(first, again)
    assert not same_weights(first, tiny_classifier(random_state=states[0]).fit(X, y))
    unseeded = [tiny_classifier(random_state=None).fit(X, y) for _ in range(2)]
    assert not same_weights(*unseeded)


def test_training_leaves_global_random_states_as_they_are():
    X, y = gaussian_classes()
    before = torch.get_rng_state(), check_random_state(None).get_state()[1].copy()
    tiny_classifier(dropout=0.2, random_state=0).fit(X, y)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(check_random_state(None).get_state()[1], before[1])


@pytest.mark.parametrize("params", [{}, {"readout": "softmax", "peer_normalization": 0.1}])
def test_torch_defaults_of_the_callers_program_change_nothing(params):
    X, y = gaussian_classes()
    expected = tiny_classifier(**params).fit(X, y)
    torch.set_default_dtype(torch.float64)
    try:
        clf = tiny_classifier(**params).fit(X, y)
        found = clf.predict_proba(X)
    finally:
        torch.set_default_dtype(torch.float32)
    assert same_weights(clf, expected)
    np.testing.assert_array_equal(found, expected.predict_proba(X))


# precision


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("outside", PRECISIONS)
def test_torchs_precision_is_ours_while_training_and_the_callers_after(precision, outside):
    X, y = gaussian_classes()
    seen = []

    def spy(batch, generator):
        seen.append(torch.get_float32_matmul_precision())
        return batch

    def failing(batch, generator):
        raise KeyError("augment")

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(outside)
    try:
        clf = tiny_classifier(matmul_precision=precision, augment=spy).fit(X, y)
        clf.predict(X)
        assert torch.get_float32_matmul_precision() == outside
        # "medium" rounds the operands itself: torch's own is never set to it.
        assert set(seen) == {"high" if precision == "high" else "highest"}
        with pytest.raises(KeyError, match="augment"):
            clf.set_params(augment=failing).fit(X, y)
        assert torch.get_float32_matmul_precision() == outside
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("params", [{}, {"overlay": "append"}, {"readout": "softmax"}])
def test_rounded_operands_learn_about_the_same_and_predict_exactly(params, monkeypatch):
    monkeypatch.setattr(_trainer, "multiplies_bfloat16", lambda device: True)
    X, y = gaussian_classes(n_samples=120, spread=0.5)
    exact, rounded = (
        tiny_classifier((20, 20), matmul_precision=precision, max_iter=10, **params).fit(X, y)
        for precision in ("highest", "medium")
    )
    assert not same_weights(exact, rounded)
    for one, other in zip(exact.coefs_, rounded.coefs_, strict=True):
        assert np.linalg.norm(one - other) < 0.02 * np.linalg.norm(one)
    assert all(layer.rounded is None for layer in rounded._network.layers)
    expected = plain_network(rounded).class_goodness(X, oracle.GOODNESS["mean_square"])
    np.testing.assert_allclose(rounded.layer_goodness(X), expected, rtol=1e-4, atol=1e-6)


def test_processors_without_bfloat16_train_in_float32(monkeypatch):
    monkeypatch.setattr(_trainer, "multiplies_bfloat16", lambda device: False)
    X, y = gaussian_classes()
    clf = tiny_classifier(matmul_precision="medium").fit(X, y)
    assert same_weights(clf, tiny_classifier().fit(X, y))


def test_training_keeps_the_thread_count_and_the_gradient_mode():
    X, y = gaussian_classes()
    before = torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    tiny_classifier().fit(X, y).predict(X)
    after = torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    assert after == before


# what is learnt


@every_component
def test_every_component_separates_easy_classes(params):
    X, y = gaussian_classes(n_samples=120, n_features=12, spread=0.5)
    rate = 0.1 if params.get("solver") == "sgd" else 0.01
    settings = {"max_iter": 15, "batch_size": 30, "learning_rate_init": rate}
    clf = tiny_classifier((20, 20), **settings | params).fit(X, y)
    assert clf.score(X, y) > 0.95  # chance is 1/3; the classes hardly overlap


@pytest.mark.parametrize(("overlay", "loss"), OVERLAYS_AND_LOSSES)
def test_training_lowers_the_loss_and_lifts_positives_above_negatives(overlay, loss):
    X, y = gaussian_classes(n_samples=120, n_features=9)
    params = {"overlay": overlay, "loss": loss, "max_iter": 20, "learning_rate_init": 0.01}
    clf = tiny_classifier((20, 20), **params).fit(X, y)
    assert (clf.loss_curves_[:, -1] < clf.loss_curves_[:, 0]).all()
    assert min(clf.history_[-1]["positive_share"]) > max(0.8, *clf.history_[0]["positive_share"])


def test_every_layer_of_a_deep_trunk_classifies_on_its_own():
    X, y = gaussian_classes(n_samples=120, n_features=12, spread=0.5)
    clf = tiny_classifier((20,) * 6, max_iter=15, learning_rate_init=0.01).fit(X, y)
    assert ((clf.layer_goodness(X).argmax(2) == y).mean(1) > 0.95).all()
