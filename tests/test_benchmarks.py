"""The benchmarks' parts; their ``--smoke`` modes, which take a minute, are run beside the tests."""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits

from skff import FFClassifier

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "benchmarks"))

import _ads_contestants as ads
import _common as common
import _training_contestants as training
import bench_ads
import bench_scaling
import bench_tabular
import bench_training
from _plain_networks import BackpropLoop, PublicForwardForward

RUN = {
    "data": "digits",
    "validation": False,
    "n_train": 300,
    "seed": 0,
    "hidden": [40, 40],
    "batch_size": 20,
    "epochs": 8,
    "dropout": 0.1,
    "learning_rate": 3e-3,
    "backprop_learning_rate": 3e-3,
    "uncentered": False,
    "precision": "highest",
    "evaluate_every": 1,
    "target": 20.0,
    "budget": 0.1,
    "ff": [],
    "torch": [],
    "recipe": None,
}


@pytest.fixture(autouse=True)
def torch_state():
    """Give torch's random state back: the opponents seed it as a script of its own would."""
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.fixture(scope="module")
def digits():
    return common.load("digits")


@pytest.fixture(scope="module")
def small_ff(digits):
    X, y, _, _ = digits
    return FFClassifier((30, 20), max_iter=3, random_state=0).fit(X[:300], y[:300])


def test_validation_data_are_training_data_held_out(digits):
    X, y, X_test, _ = digits
    X_fit, y_fit, X_held_out, y_held_out = common.load("digits", validation=True)
    assert len(X_held_out) == len(X) // 5
    pooled = np.column_stack([np.concatenate([X_fit, X_held_out]), [*y_fit, *y_held_out]])
    whole = np.column_stack([X, y])
    assert_array_equal(pooled[np.lexsort(pooled.T)], whole[np.lexsort(whole.T)])
    assert len(X) + len(X_test) == len(load_digits().data)


def test_settings_of_the_command_line_become_values():
    found = common.parse_settings(["dropout=0.2", "loss=Logistic(threshold=3.0)", "solver=sgd"])
    assert (found["dropout"], found["loss"].threshold, found["solver"]) == (0.2, 3.0, "sgd")


@pytest.mark.parametrize("text", ["loss=print()", "loss=SymBa(4.0)", "loss=eval('1')(x=1)"])
def test_only_components_can_be_called_on_the_command_line(text):
    with pytest.raises(ValueError, match="Got .* but expected"):
        common.parse_settings([text])


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    y = np.array([0, 1, 1, 1])  # right in half at 0.9, always at 0.6
    assert_allclose(common.expected_calibration_error(proba, y), (0.4 + 0.4) / 2)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="no peak to reset")
def test_peak_memory_rises_by_what_was_held_for_a_moment():
    before = common.forget_peak()
    held = np.ones(20 * 2**17)  # 20 MB
    del held
    assert 19 < common.peak_mb() - before < 30
    common.forget_peak()
    assert common.peak_mb() - before < 10


def test_clock_does_not_count_what_happens_between_epochs(tmp_path):
    clock = training.Clock(tmp_path, every=1)
    clock.end_epoch(lambda: time.sleep(0.5) or "model")
    assert clock.elapsed() < 0.4
    assert list(clock.seconds) == [1]


def test_clock_keeps_every_second_model(tmp_path):
    clock = training.Clock(tmp_path, every=2)
    for _ in range(5):
        clock.end_epoch(lambda: "model")
    assert list(clock.seconds) == [2, 4]


@pytest.mark.parametrize("contestant", sorted(training.CONTESTANTS.keys() - {"public", "recipe"}))
def test_contestant_learns_and_is_measured(contestant):
    result = training.measure(RUN | {"contestant": contestant})
    assert result["error"] < 30
    assert result["seconds"] > 0
    assert 0 < result["nll"] < 1.5
    assert 0 < result["ece"] < 60
    if contestant != "sklearn":  # which says nothing of its epochs
        assert result["curve"][-1]["error"] == pytest.approx(result["error"])
        assert result["seconds_to_target"] <= result["seconds"]


@pytest.mark.parametrize("contestant", ["ff", "torch"])
def test_the_mean_of_the_images_is_left_in_on_request(contestant):
    run = RUN | {"contestant": contestant, "epochs": 2, "evaluate_every": 0}
    centered, raw = (training.measure(run | {"uncentered": left}) for left in (False, True))
    assert centered["nll"] != raw["nll"]


def test_recipe_reports_both_readouts():
    run = {"contestant": "recipe", "recipe": "HINTON_2022"}
    tiny = ["hidden_layer_sizes=(40, 40)", "max_iter=15", "batch_size=20"]
    tiny.append("learning_rate_init=4e-3")
    result = training.measure(RUN | run | {"ff": tiny})
    assert result["error"] < 40
    assert result["goodness_error"] < 40
    assert result["goodness_error"] != result["error"]


def test_public_recipe_learns_slowly(digits):
    X, y, X_test, y_test = digits
    network = PublicForwardForward((40,), learning_rate=0.03).fit(X[:300], y[:300], seconds=60)
    assert network.n_iter_ == 1000
    assert (network.predict(X_test) == y_test).mean() > 0.7


def test_public_recipe_keeps_to_its_time(digits):
    X, y, _, _ = digits
    assert PublicForwardForward((20, 20)).fit(X, y, seconds=0.0).n_iter_ == 2


def test_plain_loop_draws_the_same_model_from_the_same_seed(digits):
    X, y, X_test, _ = digits
    loops = [
        BackpropLoop((20,), max_iter=1, dropout=0.2, random_state=seed).fit(X, y, lambda model: 0)
        for seed in (1, 1, 2)
    ]
    first, again, other = (loop.predict_proba(X_test) for loop in loops)
    assert_array_equal(first, again)
    assert abs(first - other).max() > 0.01


def test_ratios_are_taken_seed_by_seed():
    mine = {0: {"seconds": 2.0}, 1: {"seconds": 9.0}, 2: {"seconds": None}, 3: {"seconds": 1.0}}
    reference = {0: {"seconds": 1.0}, 1: {"seconds": 3.0}, 2: {"seconds": 1.0}}
    assert bench_training.ratios(mine, reference, "seconds") == [2.0, 3.0]


def test_every_seed_runs_every_contestant_and_public_after_ff():
    options = bench_training.parse_options(["--seeds", "3", "--data", "digits"])
    runs = list(bench_training.plan(options, "digits"))
    orders = [[run["contestant"] for run in runs if run["seed"] == seed] for seed in range(3)]
    assert {frozenset(order) for order in orders} == {frozenset(training.CONTESTANTS) - {"recipe"}}
    assert len({order[0] for order in orders}) == 3
    assert {order[-1] for order in orders} == {"public"}


def test_training_benchmark_runs_in_processes_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    path = tmp_path / "results.json"
    picture = tmp_path / "curve.png"
    files = ["--json", str(path), "--plot", str(picture)]
    bench_training.main(["--smoke", "--contestants", "torch", *files])
    assert picture.stat().st_size > 5000
    written = json.loads(path.read_text())
    assert [run["contestant"] for run in written["runs"]] == ["torch"]
    assert written["machine"]["torch"] == torch.__version__
    assert "| torch " in capsys.readouterr().out


def test_curves_are_medians_at_each_epoch():
    seconds, errors = [[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]], [[5.0, 3.0], [7.0, 1.0], [6.0, 2.0]]
    curves = [
        [{"seconds": second, "error": error} for second, error in zip(*curve, strict=True)]
        for curve in zip(seconds, errors, strict=True)
    ]
    assert bench_training.median_curve(curves) == [[3.0, 4.0], [6.0, 2.0]]


@pytest.mark.parametrize("option", ["--evaluate-every 0", "--learning-rates 1e-3 2e-3"])
def test_a_plot_without_a_curve_per_contestant_is_refused(option, capsys):
    with pytest.raises(SystemExit):
        bench_training.parse_options(["--plot", "curve.png", *option.split()])
    assert f"--plot with {option[:16]}" in capsys.readouterr().err


def test_unknown_recipe_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        bench_training.parse_options(["--recipe", "HINTON"])
    assert "HINTON_2022" in capsys.readouterr().err


@pytest.mark.parametrize("overlay", ["append", "replace"])
@pytest.mark.parametrize("skip_first_goodness", [False, True])
def test_a_pass_per_label_predicts_as_the_classifier_does(digits, overlay, skip_first_goodness):
    X, y, X_test, y_test = digits
    classifier = FFClassifier(
        (20, 30, 20),
        overlay=overlay,
        skip_first_goodness=skip_first_goodness,
        max_iter=6,
        random_state=0,
    ).fit(X, y)
    assert_array_equal(ads.PassPerLabel(classifier).predict(X_test), classifier.predict(X_test))
    assert ads.PassPerLabel(classifier).score(X_test, y_test) > 0.6


@pytest.mark.parametrize("window_shape", [3, 5])
def test_contestants_agree_on_every_window(digits, small_ff, window_shape):
    _, _, X, y = digits
    X, y = X[:80], y[:80]
    task = ads.Task((8, 8), window_shape, np.argwhere(np.ones((8, 8))))
    found = {
        name: contestant(small_ff, X, y, task)
        for name, contestant in ads.CONTESTANTS.items()
        if ads.can_run(name, small_ff)
    }
    loop = found["plain loop"].n_correct
    inside = (8 - window_shape + 1) ** 2
    for name, scores in found.items():
        assert len(scores.n_correct) == (inside if name == "captum" else 64)
        gaps = [abs(loop[center] - n_correct) for center, n_correct in scores.n_correct.items()]
        assert sum(gaps) <= 1  # two classes may tie to rounding
    assert len(set(loop.values())) > 5


@pytest.mark.parametrize("name", ["plain loop", "captum", "score engine"])
def test_slow_contestants_score_only_the_sampled_windows(digits, small_ff, name):
    _, _, X, y = digits
    task = ads.Task((8, 8), 3, np.array([[0, 0], [4, 4], [7, 2]]))
    scores = ads.CONTESTANTS[name](small_ff, X, y, task)
    assert len(scores.n_correct) == 3
    assert scores.seconds_full != scores.seconds


def test_time_of_a_sample_of_windows_is_scaled_to_all_without_the_baseline():
    task = ads.Task((8, 8), 3, np.array([[0, 0], [4, 4]]))
    scores = ads._extrapolate({(0, 0): 1, (4, 4): 2}, 7.0, 1.0, task)
    assert scores.seconds_full == 1 + 3 * 64


def test_ads_benchmark_reports_and_writes_every_contestant(tmp_path, capsys):
    path = tmp_path / "results.json"
    bench_ads.main(["--smoke", "--models", "sklearn", "--json", str(path)])
    runs = json.loads(path.read_text())["runs"]
    names = {"plain loop", "captum", "score engine", "predict engine"}
    assert names <= {run["contestant"] for run in runs}
    assert all(run["differing_windows"] == 0 for run in runs)
    assert sum(run["compared_windows"] for run in runs) > 25
    assert capsys.readouterr().out.count(", extrapolated") == 3


def test_even_windows_are_refused(capsys):
    with pytest.raises(SystemExit):
        bench_ads.parse_options(["--window-shape", "4"])
    assert "odd" in capsys.readouterr().err


def test_slopes_of_linear_and_quadratic_growth():
    assert_allclose(bench_scaling.slopes([1, 2, 8], [3.0, 6.0, 96.0]), [1, 2])


def test_scaling_benchmark_tables_and_draws_its_axes(tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("results.json", "plot.png")]
    axes = ["--axes", "n_units", "n_classes"]
    runs = bench_scaling.main(["--smoke", *axes, "--json", paths[0], "--plot", paths[1]])
    assert json.loads(Path(paths[0]).read_text())["runs"] == runs
    assert [(run["axis"], run["n_classes"]) for run in runs] == [
        ("n_units", 5),
        ("n_units", 5),
        ("n_classes", 5),
        ("n_classes", 80),
    ]
    assert Path(paths[1]).stat().st_size > 5000
    assert "| n_units |" in capsys.readouterr().out


def test_tabular_benchmark_scores_both_classifiers(capsys):
    (run,) = bench_tabular.main(["--smoke"])
    assert run["mlp"] > 90
    assert 33 < run["ff"] <= 100
    assert f"{run['ff'] - run['mlp']:+.2f}" in capsys.readouterr().out
