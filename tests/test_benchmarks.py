"""The benchmarks' parts; their ``--smoke`` modes, which take a minute, are run beside the tests."""

import json
import os
import sys
import time
import warnings
from dataclasses import astuple, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.naive_bayes import GaussianNB

from skff import FFClassifier
from skff.recipes import RECIPES
from skff.saliency import shapley

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "benchmarks"))

import _ads_contestants as ads
import _common as common
import _cost_model as cost_model
import _cuda_contestants
import _cuda_graphs as graphs
import _distributed_contestants
import _hinton_runs as hinton
import _results as results
import _sequences
import _settings
import _summary as summary
import _training_contestants as training
import _version_contestants as versions
import bench_ads
import bench_breakdown
import bench_cuda
import bench_distributed
import bench_hinton
import bench_questions
import bench_scaling
import bench_tabular
import bench_training
import bench_versions
import choose_sequence_settings
import choose_settings
from _plain_networks import BackpropLoop, PublicForwardForward

SETTINGS = {"dropout": 0.1, "learning_rate_init": 3e-3}
RUN = bench_training.describe_run(
    "digits", "ff", SETTINGS, seed=0, hidden=[40, 40], epochs=8, batch_size=20, n_train=300
) | {"budget": 0.1, "evaluate_every": 1}
REPOSITORY = Path(__file__).parent.parent


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


def test_settings_of_the_command_line_can_be_written_as_json():
    texts = ["hidden_layer_sizes=(20, 30)", "loss=Logistic(threshold=3.0)"]
    settings = common.read_settings(texts)
    assert json.loads(json.dumps(settings)) == settings
    assert common.make_components(settings)["loss"].threshold == 3.0


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    proba = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]])
    y = np.array([0, 1, 1, 1])  # right in half at 0.9, always at 0.6
    bins = common.reliability(proba, y)
    assert_allclose(bins, [[0.6, 1.0, 2], [0.9, 0.5, 2]])
    assert_allclose(common.expected_calibration_error(bins), (0.4 + 0.4) / 2)


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
    settings = bench_training.INPUT_SETTINGS if contestant == "ff-input" else SETTINGS
    own = {"settings": {"max_iter": 8} if contestant == "ff-default" else settings}
    result = training.measure(RUN | {"contestant": contestant} | own)
    assert result["error"] < 30
    assert result["seconds"] > 0
    assert 0 < result["nll"] < 1.5
    assert 0 < result["ece"] < 60
    assert sum(count for _, _, count in result["bins"]) == 540
    if contestant != "sklearn":  # which says nothing of its epochs
        assert result["curve"][-1]["error"] == pytest.approx(result["error"])


@pytest.mark.parametrize("contestant", ["ff", "ff-input"])
def test_sum_of_the_layers_errs_as_the_classifier_does(contestant):
    run = RUN | {"contestant": contestant, "evaluate_every": 0}
    result = training.measure(run | {"hidden": [40, 30, 20]})
    assert len(result["layer_errors"]) == 3
    assert len(set(result["layer_errors"])) > 1
    assert result["sum_error"] == pytest.approx(result["error"])


@pytest.mark.parametrize("contestant", ["ff", "torch-lean"])
def test_the_mean_of_the_images_is_left_in_on_request(contestant):
    run = RUN | {"contestant": contestant, "epochs": 2, "evaluate_every": 0}
    centered, raw = (
        training.measure(run | {"settings": SETTINGS | {"center": center}})
        for center in (True, False)
    )
    assert centered["nll"] != raw["nll"]


def test_recipe_reports_both_readouts():
    tiny = {"hidden_layer_sizes": [40, 40], "max_iter": 15, "batch_size": 20}
    tiny |= {"learning_rate_init": 4e-3, "label_scale": 0.5}
    run = {"contestant": "recipe", "recipe": "HINTON_2022", "settings": tiny}
    result = training.measure(RUN | run)
    assert result["error"] < 40
    assert result["sum_error"] < 40
    assert result["sum_error"] != result["error"]


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
        BackpropLoop((20,), max_iter=1, dropout=0.2, random_state=seed).fit(X, y)
        for seed in (1, 1, 2)
    ]
    first, again, other = (loop.predict_proba(X_test) for loop in loops)
    assert_array_equal(first, again)
    assert abs(first - other).max() > 0.01


@pytest.mark.parametrize("sizes", [(), (20,), (20, 15, 10, 12)])
def test_plain_loop_has_any_number_of_layers(digits, sizes):
    X, y, X_test, _ = digits
    loop = BackpropLoop(sizes, max_iter=1).fit(X, y)
    shapes = [tuple(p.shape) for p in loop.net_.parameters() if p.ndim == 2]
    assert shapes == list(zip([*sizes, 10], [64, *sizes], strict=True))
    assert_allclose(loop.predict_proba(X_test).sum(axis=1), 1, rtol=1e-5)


def test_plain_loop_reads_centred_features_of_mean_rms_one(digits):
    X, y, _, _ = digits
    loop = BackpropLoop((20,), max_iter=1).fit(X + 3, y)
    x = loop._normalize(torch.from_numpy(X + 3)).numpy()
    assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    assert_allclose(np.linalg.norm(x, axis=1).mean() / 64**0.5, 1, rtol=1e-5)


def test_plain_loop_smooths_its_targets(digits):
    X, y, X_test, _ = digits
    confidence = [
        BackpropLoop((30,), batch_size=32, max_iter=10, label_smoothing=smoothing)
        .fit(X, y)
        .predict_proba(X_test)
        .max(axis=1)
        .mean()
        for smoothing in (0.0, 0.3)
    ]
    assert confidence[1] < 0.85 < confidence[0]


def test_ratios_are_taken_pair_by_pair():
    def row(seed, seconds, **other):
        return {"seed": seed, "threads": 1, "timed": True, "seconds": seconds} | other

    mine = [row(0, 2.0), row(1, 9.0), row(2, None), row(3, 1.0), row(0, 8.0, threads=2)]
    reference = [row(1, 3.0), row(0, 1.0), row(2, 1.0), row(0, 2.0, threads=2)]
    assert summary.ratios(mine, reference, "seconds") == [2.0, 3.0, 4.0]
    untimed = [row(0, 2.0, timed=False)]
    assert summary.ratios(untimed, reference, "seconds") == []
    assert summary.ratios(untimed, reference, "threads") == [1.0]


def test_ratios_compare_what_one_machine_measured_on_one_day():
    row = {"seed": 0, "threads": 1, "date": "2026-05-01T10:00:00", "seconds": 4.0}
    row |= {"machine": {"processor": "abacus"}, "evaluate_every": 0}
    changes = [
        {"date": "2026-05-02T10:00:00"},
        {"machine": {"processor": "slide rule"}},
        {"evaluate_every": 1},
    ]
    others = [row | change | {"seconds": 2.0} for change in changes]
    assert summary.ratios([row], others, "seconds") == []
    assert summary.ratios([row], [row, *others], "seconds") == [1.0]


def test_seeds_run_with_several_threads_count_once():
    rows = [{"seed": seed, "threads": threads} for seed, threads in [(1, 2), (0, 2), (0, 1)]]
    assert summary.one_per_seed(rows) == [rows[2], rows[0]]


def test_time_to_an_error_is_that_of_the_first_epoch_below_it():
    curve = [{"seconds": s, "error": e} for s, e in [(1, 5.0), (2, 2.0), (3, 2.5), (4, 1.0)]]
    assert summary.seconds_to(2.0)({"curve": curve}) == 2
    assert summary.seconds_to(0.5)({"curve": curve}) is None


def test_every_seed_runs_every_contestant_and_public_after_ff():
    options = bench_training.parse_options(["--seeds", "3", "--data", "digits"])
    runs = list(bench_training.plan(options, "digits"))
    orders = [[run["contestant"] for run in runs if run["seed"] == seed] for seed in range(3)]
    assert {frozenset(order) for order in orders} == {frozenset(training.CONTESTANTS) - {"recipe"}}
    assert len({order[0] for order in orders}) == 3
    assert {order[-1] for order in orders} == {"public"}


def test_settings_of_the_nearest_depth_are_taken(tmp_path):
    path = tmp_path / "settings.json"
    choices = [
        {"data": "digits", "contestant": "ff", "hidden": [500] * n, "settings": {"dropout": n / 10}}
        for n in (3, 2)
    ]
    path.write_text(json.dumps({"chosen": choices}))
    read = _settings.read_settings_file(path)
    found = [
        _settings.chosen_settings(read, "digits", "ff", [9] * n)["dropout"] for n in (1, 2, 3, 5)
    ]
    assert found == [0.2, 0.2, 0.3, 0.3]
    assert _settings.chosen_settings(read, "mnist", "ff", [9, 9]) == _settings.START["ff"]


def test_the_command_line_overrides_the_settings_chosen():
    options = bench_training.parse_options(["--ff", "dropout=0.7", "--torch", "weight_decay=0.5"])
    found = {run["contestant"]: run["settings"] for run in bench_training.plan(options, "digits")}
    assert found["ff"]["dropout"] == 0.7
    assert found["torch-lean"]["weight_decay"] == 0.5
    assert found["skorch"]["weight_decay"] != 0.5
    assert found["ff-default"] == {}


def test_runs_side_by_side_are_not_timed():
    options = bench_training.parse_options(["--jobs", "2"])
    runs = list(bench_training.plan(options, "digits"))
    assert {run["timed"] for run in runs} == {False}
    assert "public" not in {run["contestant"] for run in runs}


def test_training_benchmark_runs_in_processes_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    path = tmp_path / "results.json"
    arguments = ["--smoke", "--contestants", "torch-lean", "--json", str(path)]
    bench_training.main(arguments)
    (row,) = results.read_rows(path)
    assert (row["contestant"], row["torch_threads"]) == ("torch-lean", 1)
    assert row["versions"]["torch"] == version("torch")  # torch's own may end in "+cu124"
    assert {"commit", "date", "machine", "command"} <= row.keys()
    assert "| torch-lean " in capsys.readouterr().out


def test_runs_that_a_file_has_are_not_measured_again(tmp_path):
    path = tmp_path / "results.json"
    measured = []

    def measure(run, rows):
        measured.append(run["seed"])
        return {"error": 1.0, "seconds": 2.0}

    def run_seeds(*seeds, **other):
        runs = [RUN | {"seed": seed} | other for seed in seeds]
        return results.run_missing(runs, measure, path=path, announce=lambda row: None)

    first = run_seeds(0, 1)
    assert run_seeds(0, 1, 2)[:2] == first
    run_seeds(0, settings=SETTINGS | {"dropout": 0.5})
    run_seeds(1, validation=True)
    assert measured == [0, 1, 2, 0, 1]
    assert [row["seed"] for row in results.read_rows(path)] == measured


def test_a_timed_run_stands_in_for_one_side_by_side_and_replaces_it(tmp_path):
    path = tmp_path / "results.json"

    def run(**how):
        runs = [RUN | how]
        kept = {"path": path, "announce": lambda row: None}
        results.run_missing(runs, lambda run, rows: {"seconds": 1.0}, **kept)
        return [(row["timed"], row["threads"]) for row in results.read_rows(path)]

    assert run(timed=False) == [(False, 1)]
    assert run(timed=True) == [(True, 1)]
    assert run(timed=True, threads=2) == [(True, 1), (True, 2)]
    assert run(timed=False) == [(True, 1), (True, 2)]


def test_new_results_replace_old_ones_of_the_same_name(tmp_path):
    path = tmp_path / "results.json"
    for seed, accuracy in [(0, 1.0), (1, 2.0), (0, 3.0)]:
        results.write_results(path, [{"seed": seed, "accuracy": accuracy}], ["seed"])
    assert [(row["seed"], row["accuracy"]) for row in results.read_rows(path)] == [(1, 2), (0, 3)]


def search_without_training(monkeypatch, tmp_path, error):
    """Choose settings where a run's error is a function of its description."""
    runs = []

    def measure(run, rows):
        runs.append(run)
        return {"error": error(run)}

    monkeypatch.setattr(choose_settings, "measure", measure)
    path = tmp_path / "settings.json"
    choose_settings.main(["--smoke", "--settings", str(path)])
    return runs, {choice["contestant"]: choice for choice in _settings.read_settings_file(path)}


def test_both_sides_are_given_as_many_candidates_and_seeds(monkeypatch, tmp_path):
    def error(run):
        settings = run["settings"]
        return 50 * abs(settings["learning_rate_init"] - 3e-3) + abs(settings["dropout"] - 0.3)

    runs, choices = search_without_training(monkeypatch, tmp_path, error)
    counts = [
        sorted(run["seed"] for run in runs if run["contestant"] == name)
        for name in ("ff", "torch-lean")
    ]
    assert counts[0] == counts[1] == [0] * 6 + [1] * 2
    for choice in choices.values():
        assert choice["settings"]["learning_rate_init"] == 3e-3
        assert choice["settings"]["dropout"] == 0.3
        assert choice["n_candidates"] == 6


def test_the_second_seed_decides_between_the_two_best(monkeypatch, tmp_path):
    def error(run):
        settings = run["settings"]
        last = settings.get("label_scale") == 0.5 or settings.get("weight_decay") == 0.05
        if run["seed"] == 0:
            return 10 * settings["label_smoothing"] + 0.1 * last
        return 1.0 - last

    _, choices = search_without_training(monkeypatch, tmp_path, error)
    assert choices["ff"]["settings"]["label_scale"] == 0.5
    assert choices["torch-lean"]["settings"]["weight_decay"] == 0.05
    for choice in choices.values():
        assert choice["validation_error"] == pytest.approx((0.6 + 0.0) / 2)
        assert choice["seeds"] == [0, 1]


def test_settings_are_chosen_without_test_images(monkeypatch, tmp_path):
    runs, _ = search_without_training(monkeypatch, tmp_path, lambda run: 1.0)
    assert all(run["validation"] for run in runs)

    def fetch(subset="train", return_X_y=False):
        assert subset == "train"
        rng = np.random.default_rng(0)
        return rng.random((400, 784), dtype=np.float32), np.arange(400) % 10

    monkeypatch.setattr("skff.datasets.fetch_mnist", fetch)
    assert training.measure(runs[0] | {"data": "mnist"})["error"] > 50
    with pytest.raises(AssertionError):
        common.load("mnist")


def test_choices_of_other_data_are_kept(tmp_path):
    path = tmp_path / "settings.json"
    choices = [
        {"data": data, "contestant": "ff", "hidden": [5], "settings": {}, "seeds": seeds}
        for data, seeds in [("mnist", [0]), ("digits", [0]), ("mnist", [1])]
    ]
    for choice in choices:
        choose_settings.write_choices(path, [choice])
    assert _settings.read_settings_file(path) == choices[1:]


def test_versions_run_alternately_each_with_its_own_package(monkeypatch, tmp_path, capsys):
    started = []

    def measure_in_process(script, run, python_path):
        started.append((run["part"], run["contestant"], python_path))
        return versions.PARTS[run["part"]](run)

    monkeypatch.setattr(bench_versions, "measure_in_process", measure_in_process)
    arguments = ["--smoke", "--old", str(tmp_path), "--repeats", "2"]
    rows = bench_versions.main(arguments)
    fits = [(name, path) for part, name, path in started if part == "fit"]
    old, new = ("old", str(tmp_path)), ("new", REPOSITORY)
    assert [fit for fit in fits if fit[0] != "torch-lean"] == [old, new, new, old]
    assert {row["part"] for row in rows} == set(versions.PARTS)
    assert all(row["ads_seconds"]["3"] > 0 for row in rows if row["part"] == "ads")
    printed = capsys.readouterr().out
    for figure, _, _ in summary.VERSION_FIGURES[:5]:
        assert f"| {figure}" in printed


def test_another_installation_than_the_one_asked_for_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ImportError, match="expected it from"):
        versions.check_version()


def test_every_class_is_learned_where_there_are_fewer_samples_than_predicted():
    run = {"n_predict": 100, "n_features": 5, "n_classes": 20, "n_train": 50, "repeat": 0}
    run |= {"hidden": [10], "batch_size": 16, "epochs": 1, "contestant": "new", "settings": {}}
    assert versions.measure_classes(run)["predict_seconds"] > 0


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


@pytest.mark.parametrize("window_shape", [1, 3, 5])
def test_contestants_agree_on_every_window(digits, small_ff, window_shape):
    _, _, X, y = digits
    X, y = X[:80], y[:80]
    task = ads.Task((8, 8), window_shape, np.argwhere(np.ones((8, 8))))
    found = {
        name: contestant(small_ff, X, y, task)
        for name, contestant in ads.CONTESTANTS.items()
        if ads.can_run(name, small_ff, window_shape)
    }
    assert ("captum data set" in found) == (window_shape == 1)
    loop = found["plain loop"].n_correct
    inside = (8 - window_shape + 1) ** 2
    for name, scores in found.items():
        assert len(scores.n_correct) == (inside if name == "captum" else 64)
        gaps = [abs(loop[center] - n_correct) for center, n_correct in scores.n_correct.items()]
        assert sum(gaps) <= 1  # two classes may tie to rounding
    assert len(set(loop.values())) > 5


@pytest.mark.parametrize(
    ("name", "side"),
    [("plain loop", 3), ("captum", 3), ("captum data set", 1), ("score engine", 3)],
)
def test_slow_contestants_score_only_the_sampled_windows(digits, small_ff, name, side):
    _, _, X, y = digits
    task = ads.Task((8, 8), side, np.array([[0, 0], [4, 4], [7, 2]]))
    scores = ads.CONTESTANTS[name](small_ff, X, y, task)
    assert len(scores.n_correct) == 3
    assert scores.seconds_full != scores.seconds


def test_questions_are_measured_and_written(tmp_path):
    path = tmp_path / "results.json"
    arguments = ["--smoke", "--samples", "150", "--json", str(path)]
    questions = ["scores", "sequential", "refine", "memory", "shapley"]
    found = bench_questions.main([*arguments, "--only", *questions])
    assert [run["question"] for run in found] == [
        "three scores over one",
        "sequential, precision 0.05",
        "refine, 7 then 3",
        "memory, FFClassifier, engine incremental",
        "memory, scikit-learn's MLP, engine predict",
        "Shapley values of 9 tiles",
        "Shapley values of 49 tiles, between seeds",
        "Shapley values of 49 regions, known game",
    ]
    assert json.loads(path.read_text())["runs"][1]["wrong_signs_per_map"] == 0
    assert found[2]["smallest_overlap"] > 0.5
    assert found[5]["share_within_1.96_standard_errors"] > 0.6
    assert found[6]["largest_distance_of_sum_from_whole_drop"] < 1e-6
    assert 0.7 < found[7]["root_mean_square_distance_in_standard_errors"] < 1.4


def test_values_of_a_vote_are_those_of_all_its_coalitions():
    game = bench_questions.VotingGame(n_regions=5, n_samples=12, n_voters=3)
    exact = shapley(game.explainer(), game.X, game.y, method="exact")
    assert_allclose(game.values(), exact.values, atol=1e-12)
    assert np.ptp(exact.values) > 0.1


def test_recorded_labels_are_those_of_the_classifier(digits, small_ff):
    _, _, X, y = digits
    recorded = bench_questions.Recorded(small_ff, X)
    windows = [np.array([3, 4]), np.array([30])]
    predictor = recorded.occlusion_predictor(X, fill=np.zeros((1, 64), np.float32))
    direct = small_ff.occlusion_predictor(X, fill=np.zeros((1, 64), np.float32))
    for rows in (np.arange(5), np.arange(3, 9), np.arange(9)):
        labels, _ = predictor.predict_many(rows, windows)
        assert_array_equal(labels, direct.predict_many(rows, windows)[0])


@pytest.mark.parametrize("name", ["sage", "hidimstat", "fippy"])
def test_other_libraries_find_the_same(name, digits, monkeypatch):
    pytest.importorskip(name)
    normal = np.random.RandomState(0).multivariate_normal  # fippy draws from the global state
    monkeypatch.setattr(np.random, "multivariate_normal", normal)
    X, y = (part[:150] for part in digits[2:])
    model = GaussianNB(var_smoothing=0.1).fit(*digits[:2])
    # Few tiles have large drops, and more than 12 are what takes random orders.
    labels, X = bench_questions.tiles(8, 4 if name == "sage" else 2), X.astype(float)
    if name == "sage":
        found = bench_questions.sage_values(model, X, y, labels, 0.05)
        assert found["correlation"] > 0.9
        assert found["largest_distance_in_standard_errors"] < 5
    else:
        compare = getattr(bench_questions, f"{name}_importance")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the library's own
            found = compare(model, X, y, labels, 5)
        chance = found["largest_standard_error_of_a_difference"]
        assert found["largest_difference"] < 4 * chance < found["largest_drop"]


def test_fippy_is_left_out_where_samples_are_fewer_than_features(capsys):
    pytest.importorskip("fippy")
    arguments = ["--smoke", "--epochs", "1", "--few", "20", "--only", "fippy"]
    assert bench_questions.main(arguments) == []
    assert "fippy: left out" in capsys.readouterr().out


def test_a_library_that_is_missing_is_left_out(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sage", None)
    arguments = ["--smoke", "--epochs", "1", "--only", "sage"]
    assert bench_questions.main(arguments) == []
    assert "sage: left out" in capsys.readouterr().out


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


def test_parts_of_a_batch_add_up_to_the_whole(tmp_path, capsys):
    path = str(tmp_path / "breakdown.json")
    rows = bench_breakdown.main(["--smoke", "--json", path])
    assert [row["contestant"] for row in results.read_rows(path)] == ["ff", "torch-lean"]
    for row in rows:
        spent = row["milliseconds"]
        assert_allclose(sum(spent.values()), row["whole"])
        assert min(spent[kind] for kind in bench_breakdown.KINDS) > 0
    assert "| torch-lean " in capsys.readouterr().out


def test_scaling_benchmark_tables_and_draws_its_axes(tmp_path, capsys):
    paths = [str(tmp_path / name) for name in ("results.json", "plot.png")]
    axes = ["--axes", "n_units", "n_classes"]
    runs = bench_scaling.main(["--smoke", *axes, "--json", paths[0], "--plot", paths[1]])
    written = results.read_rows(paths[0])
    assert [row["epoch_seconds"] for row in written] == [run["epoch_seconds"] for run in runs]
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


@pytest.fixture
def few_sequences(monkeypatch):
    """Let four sequences of each class stand for MNIST-1D, whether its package is there or not."""
    y = np.repeat(np.arange(10), 4)
    X = (np.eye(10)[y] + np.random.default_rng(0).normal(0, 0.01, (40, 10))).astype(np.float32)
    monkeypatch.setattr(bench_tabular, "installed", lambda: True)
    monkeypatch.setitem(bench_tabular.DATA, "mnist-1d", lambda: (X, y))
    monkeypatch.setattr(_sequences, "SHARED", {"batch_size": 8, "max_iter": 10})


def test_tabular_benchmark_gives_settings_to_both_sides_on_sequences(few_sequences, capsys):
    (run,) = bench_tabular.main(["--data", "mnist-1d", "--seeds", "1", "--ff", "max_iter=2"])
    assert list(run["chosen"]) == list(run["settings"]) == ["ff", "torch-lean"]
    assert all(accuracy > 90 for accuracy in run["chosen"].values())
    assert f"{run['chosen']['torch-lean']:.2f}" in capsys.readouterr().out


def test_tabular_benchmark_says_that_it_leaves_out_sequences_it_cannot_draw(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mnist1d", None)
    assert bench_tabular.main(["--data", "mnist-1d"]) == []
    assert "mnist-1d is left out: pip install mnist1d" in capsys.readouterr().out


def test_sequences_to_choose_by_are_none_of_those_measured():
    pytest.importorskip("mnist1d")
    X, y = _sequences.make_sequences(n_samples=500)
    others, _ = _sequences.make_sequences(_sequences.OTHER_SEED, part="all", n_samples=500)
    assert X.shape == (400, 40) and others.shape == (500, 40)
    assert np.bincount(y, minlength=10).min() > 30
    assert not {x.tobytes() for x in X} & {x.tobytes() for x in others}


def test_search_for_sequences_goes_from_best_to_best_on_both_sides(monkeypatch, capsys):
    best = {"hidden_layer_sizes": [500] * 3, "label_smoothing": 0.3}
    best |= {"learning_rate_init": 1e-3, "weight_decay": 0.1}

    def n_wrong(run, rows):
        return {"error": float(sum(run["settings"][name] != best[name] for name in best))}

    monkeypatch.setattr(choose_sequence_settings, "installed", lambda: True)
    monkeypatch.setattr(choose_sequence_settings, "measure", n_wrong)
    assert choose_sequence_settings.main([]) == {"ff": best, "torch-lean": best}
    printed = capsys.readouterr().out
    assert printed.count("ff seed 0") == printed.count("torch-lean seed 0") == 8
    assert printed.count("ff seed 1") == printed.count("torch-lean seed 1") == 2


def test_settings_for_sequences_are_those_that_the_search_chose():
    rows = results.read_rows(REPOSITORY / "docs" / "results" / "sequences.json")
    for contestant, settings in _sequences.SETTINGS.items():
        own = [row for row in rows if row["contestant"] == contestant]
        assert choose_sequence_settings.choice(own) == settings


class Drift:
    """A step that adds a rate times something random."""

    def __init__(self, read_rate):
        self.generator = torch.Generator().manual_seed(0)
        self.weight = torch.zeros(3)
        self.number, self.tensor = 0.0, torch.tensor(0.0)
        self.read_rate = read_rate

    def run(self, steps):
        for k in range(7):
            self.number = 1.0 + k
            self.tensor.fill_(self.number)
            steps(torch.arange(2 if k == 6 else 4) + k)
        return self.weight

    def step(self, rows):
        noise = torch.rand(3, generator=self.generator)
        self.weight += self.read_rate(self) * (rows.sum() + noise)


@pytest.mark.parametrize("kind", ["tensor", "number"])
def test_a_replay_reads_tensors_anew_and_numbers_as_they_were(kind):
    plain, graphed = (Drift(lambda drift: getattr(drift, kind)) for _ in range(2))
    steps = graphs.GraphedSteps(graphed.step, 4, [graphed.generator])
    same = torch.equal(plain.run(plain.step), graphed.run(steps))
    assert steps.n_replays == 6 - graphs.N_WARM_UP
    assert same == (kind == "tensor")
    assert torch.equal(plain.generator.get_state(), graphed.generator.get_state())


@pytest.mark.parametrize(
    "read", [lambda drift: float(drift.tensor), lambda d: len(d.weight.nonzero())]
)
def test_a_step_that_the_host_reads_from_is_not_captured(read):
    drift = Drift(read)
    with pytest.raises(RuntimeError, match="wait for the device"):
        drift.run(graphs.GraphedSteps(drift.step, 4, [drift.generator]))


def cuda_run(contestant, **other):
    settings = {"dropout": 0.1, "learning_rate_init": 3e-3}
    settings |= {"weight_decay": 0.01} if contestant == "torch-lean" else {"label_smoothing": 0.1}
    run = {"device": "cpu", "data": "digits", "hidden": [20, 20], "batch_size": 64, "n_train": 500}
    run |= {"contestant": contestant, "settings": settings, "epochs": 2, "seed": 0}
    return {"bfloat16": False, "graph": False, "part": "graph"} | run | other


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("contestant", bench_cuda.CONTESTANTS)
@pytest.mark.parametrize("bfloat16", [False, True])
def test_graphs_train_the_model_that_batches_train(contestant, bfloat16, device):
    found = _cuda_contestants.measure(cuda_run(contestant, bfloat16=bfloat16, device=device))
    assert 0 < found["largest_difference"] < (0.02 if bfloat16 else 1e-5)
    assert found["same_labels"] > 0.98


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("contestant", bench_cuda.CONTESTANTS)
def test_contestants_of_the_gpu_learn(contestant, device):
    run = cuda_run(contestant, part="train", epochs=8, device=device)
    found = _cuda_contestants.measure(run)
    assert found["error"] < 30
    assert found["seconds"] > 0
    assert found["predict_seconds"] > 0
    assert (found["gpu"] is None) == (found["peak_mb"] is None) == (device == "cpu")


@pytest.fixture
def cuda_benchmark(tmp_path, monkeypatch):
    """Return a function that runs the benchmark, and one that reads its rows by their part."""

    def measure_in_process(script, run):
        if run["contestant"] == "torch-lean" and run["part"] == "graph":
            return {"failed": "OutOfMemoryError: too wide"}
        return _cuda_contestants.measure(run)

    monkeypatch.setattr(bench_cuda, "measure_in_process", measure_in_process)
    path = tmp_path / "cuda.json"

    def run(*arguments):
        status = bench_cuda.main(["--smoke", "--json", str(path), *arguments])
        parts = [row["part"] for row in results.read_rows(path)]
        return status, {part: parts.count(part) for part in parts}

    return run


def test_gpu_benchmark_goes_on_after_a_failure_and_says_so(cuda_benchmark, capsys):
    arguments = ["--device", "cpu", "--parts", "train", "graph", "explain"]
    status, parts = cuda_benchmark(*arguments)
    assert (status, parts) == (1, {"train": 8, "graph": 1, "explain": 1, "failed": 1})
    assert "OutOfMemoryError: too wide" in capsys.readouterr().out
    status, parts = cuda_benchmark("--device", "cpu", "--parts", "train")
    assert (status, parts) == (0, {"train": 8, "graph": 1, "explain": 1})
    assert "| torch-lean | yes        | yes      | 1 " in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_gpu_benchmark_says_that_there_is_no_device_and_keeps_results(cuda_benchmark, capsys):
    cuda_benchmark("--device", "cpu", "--parts", "explain")
    for _ in range(2):
        status, parts = cuda_benchmark("--device", "cuda")
        assert (status, parts) == (0, {"explain": 1, "device": 1})
    assert "no CUDA device" in capsys.readouterr().out


@pytest.mark.parametrize(("load", "shown"), [(1.0, "12"), (9.0, "-")])
def test_seconds_on_a_busy_machine_are_not_shown(load, shown):
    row = {"part": "whole", "change": "recipe", "hidden": [9], "epochs": 1, "seed": 0}
    row |= {"threads": 1, "seconds": 12.3}
    row |= {"curve": [], "test": {"head": 1.0, "goodness": 2.0}}
    row |= {"machine": {"cores": 2, "load": load}}
    header, [cells] = summary.hinton_networks_table([row])
    assert cells[header.index("seconds")] == shown
    assert cells[-4:] == ["-", "-", "1.00", "2.00"]


def test_every_change_of_hintons_recipe_is_made_alone_before_all_are():
    changes = bench_hinton.settings_by_change()
    assert changes.pop("all, hard negatives and a smoothed head") == {}
    unsmoothed = changes.pop("all, and hard negatives")
    before, everything = changes.pop("none"), changes.pop("all of these")
    assert everything == unsmoothed | {"negatives": before["negatives"]}
    assert common.make_components(unsmoothed)["readout"] == replace(
        RECIPES["HINTON_2022"].parameters["readout"], label_smoothing=0.0
    )
    made = [
        [name for name in before if settings.get(name) != before[name]]
        for settings in changes.values()
    ]
    assert sorted([*sum(made, []), "negatives"]) == sorted(before)
    assert all(len(names) == 1 for names in made)


def test_hinton_benchmark_evaluates_both_readouts_and_reads_test_images_at_the_end(monkeypatch):
    options = bench_hinton.parse_options(["--smoke", "--epochs", "3"])
    runs = list(bench_hinton.plan(options))
    assert [run["part"] for run in runs if run["change"] == "recipe"] == ["curve", "whole"]
    by_part = {run["part"]: run for run in runs}
    read = []

    def load(data, *, validation=False):
        read.append(validation)
        return common.load(data, validation=validation)

    monkeypatch.setattr(hinton, "load", load)
    quick = {"evaluate_every": 2, "settings": {"batch_size": 20, "label_scale": 0.5}}
    curve = hinton.measure(by_part["curve"] | quick)
    assert read == [True, False]
    assert [point["epoch"] for point in curve["curve"]] == [2, 3]
    assert curve["curve"][-1]["seconds"] == curve["seconds"] > 0
    assert all(0 < error < 75 for error in curve["test"].values())
    assert hinton.measure(by_part["changes"])["test"] is None
    assert read == [True, False, True]
    whole = hinton.measure(by_part["whole"] | {"epochs": 1})
    assert whole["curve"] == []
    assert set(whole["test"]) == {"head", "goodness"}


# several processes


RATES = cost_model.Rates(2e-11, 1e-10, 1e-9, 1e-4, 5e-10)
LINK = cost_model.Link(1e-4, 1e-9)


def work(rule="ff", sizes=(100, 50, 50), n_samples=64, **other):
    return cost_model.Work(rule, sizes, n_samples, 10, **other)


def test_rates_are_found_again_from_the_times_that_they_give():
    works = [
        cost_model.Work("ff", (784, *[n_units] * n_layers), n_samples, n_classes)
        for n_units, n_layers in [(500, 2), (300, 5), (1000, 3)]
        for n_samples in (16, 256)
        for n_classes in (2, 50)
    ]
    found = cost_model.fit_rates(works, [cost_model.one_process(RATES, each) for each in works])
    assert_allclose(astuple(found), astuple(RATES), rtol=1e-6)


def test_a_link_is_found_again_from_the_times_that_it_gives():
    sizes = [1e3, 1e5, 1e7]
    found = cost_model.fit_link(sizes, [LINK.seconds(size) for size in sizes])
    assert_allclose(astuple(found), astuple(LINK), rtol=1e-6)


def test_weights_of_the_model_are_those_of_the_networks(digits):
    X, y, _, _ = digits
    ff = FFClassifier((50, 30), max_iter=1).fit(X[:100], y[:100])
    n_weights = sum(array.size for array in ff.coefs_ + ff.intercepts_ + ff.label_coefs_)
    assert work(sizes=(64, 50, 30)).n_weights == n_weights
    loop = BackpropLoop((50, 30), max_iter=1).fit(X, y)
    n_weights = sum(parameter.numel() for parameter in loop.net_.parameters())
    assert work("backprop", sizes=(64, 50, 30)).n_weights == n_weights


@pytest.mark.parametrize("rule", ["ff", "backprop"])
def test_one_process_of_several_costs_what_one_costs(rule):
    one = cost_model.one_process(RATES, work(rule))
    no_link = cost_model.Link(0.0, 0.0)
    assert_allclose(cost_model.data_parallel(RATES, no_link, work(rule), 1), one)
    assert_allclose(cost_model.layer_parallel(RATES, no_link, work(rule), 1), one)
    assert_allclose(cost_model.backprop_pipeline(RATES, no_link, work(rule), 1, n_parts=1), one)


def test_costs_of_two_processes_by_hand():
    free = cost_model.Rates(1.0, 0.0, 0.0, 0.0, 0.0)  # a second per multiply-add
    slow = cost_model.Link(0.5, 2.0)
    three = cost_model.Work("ff", (4, 3, 2), 10, 5, draws_samples=False)
    products = [2 * 10 * 4 * 3, 2 * 10 * 3 * 2]
    n_bytes = 4 * (3 * (4 + 1 + 5) + 2 * (3 + 1 + 5))
    ring = 2 * (0.5 + 2.0 * n_bytes / 2)
    assert cost_model.data_parallel(free, slow, three, 2) == sum(products) / 2 + ring
    message = 0.5 + 2.0 * 4 * 10 * 3
    assert cost_model.layer_parallel(free, slow, three, 2) == products[0] + message
    # A link that works beside the processor counts only where it is slower.
    nothing = cost_model.Link(0.0, 0.0)
    overlapped = cost_model.layer_parallel(free, slow, three, 2, copy=nothing)
    assert overlapped == max(products[0], message)
    assert cost_model.bytes_of_a_batch(three, 2, "data") == 2 * n_bytes
    assert cost_model.bytes_of_a_batch(three, 2, "layers") == 4 * 10 * 3
    assert cost_model.bytes_of_a_batch(three, 2, "pipeline") == 2 * 4 * 10 * 3


def test_a_pipeline_of_backpropagation_waits_and_sends_both_ways():
    even = cost_model.Work("backprop", (8, 8, 8, 8), 12, 8)  # four layers, the first one cheaper
    free = cost_model.Rates(1.0, 0.0, 0.0, 0.0, 0.0)
    link = cost_model.Link(0.0, 1.0)
    step = 2 * 3 * 3 * 8 * 8 + 2 * 4 * 3 * 8  # two layers of three products, three samples
    assert cost_model.backprop_pipeline(free, link, even, 2, n_parts=4) == (4 + 1) * step


def test_the_benchmark_predicts_two_processes_from_runs_of_one():
    options = bench_distributed.parse_options(["--repeats", "1"])
    rows = []
    for run in bench_distributed.plan(options):
        if run["contestant"] == "messages":
            messages = [["send", n, LINK.seconds(n)] for n in run["sizes"]]
            messages += [["all_reduce", n, 2 * LINK.seconds(n / 2)] for n in run["sizes"]]
            rows.append(run | {"messages": messages})
            continue
        asked = bench_distributed.work_of(run)
        links = {"send": LINK, "all_reduce": LINK}
        rates = {"ff": RATES, "backprop": RATES}
        seconds = bench_distributed.predicted(run, rates, links) * options.batches
        rows.append(
            run | {"epoch_seconds": [9.0, seconds, seconds], "epoch_bytes": asked.n_weights}
        )
    header, body = bench_distributed.comparison(rows)
    assert len(body) == 3 * 3 * 5
    for cells in body:
        measured, modelled = (float(cells[header.index(n)]) for n in ("ms per batch", "predicted"))
        assert modelled == pytest.approx(measured, rel=1e-2, abs=0.02)


def test_a_contestant_of_several_processes_is_measured():
    run = {"contestant": "ff", "processes": 1, "hidden": [20, 10], "batch_size": 16, "samples": 48}
    run |= {"features": 30, "classes": 3, "epochs": 2, "repeat": 0, "threads": 1}
    for contestant in ("ff", "backprop"):
        found = _distributed_contestants.measure(run | {"contestant": contestant}, 0, None)
        assert len(found["epoch_seconds"]) == 2
        assert found["epoch_bytes"] == 0


def test_the_loop_of_several_processes_is_the_plain_loop_where_there_is_one(digits):
    X, y, _, _ = digits
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    try:
        shared, plain = (
            loop((20,), max_iter=1, random_state=0).fit(X, y)
            for loop in (_distributed_contestants.SharedLoop, BackpropLoop)
        )
    finally:
        torch.distributed.destroy_process_group()
    pairs = zip(shared.net_.parameters(), plain.net_.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
