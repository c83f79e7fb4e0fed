import html
import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "reproduction"))

import _tasks
from _plan import CONTESTANTS, Plan
from _report import changes_table, collect, verdict_table, write_report
from _store import Store, expected_seconds, run_all
from _verdicts import competes, flat_from, flattens, map_matters

TINY = {
    "n_train": 200,
    "epochs": 2,
    "other_epochs": 2,
    "map_samples": 20,
    "window": 3,
    "n_random": 2,
}


@pytest.fixture(scope="module")
def reproduction(tmp_path_factory):
    """Run a tiny reproduction on scikit-learn's digits, once interrupted."""
    plan = Plan(seeds=2, curve=(1, 2), hours=1.0, **TINY)
    store = Store(tmp_path_factory.mktemp("reproduction"), plan)
    compare, _tasks.compare = _tasks.compare, interrupt
    try:
        with pytest.raises(KeyboardInterrupt):
            run_all(store, plan, ["digits"])
    finally:
        _tasks.compare = compare
    finished = {path: path.read_bytes() for path in store.kept.iterdir()}
    run_all(store, plan, ["digits"])
    assert finished.items() <= {path: path.read_bytes() for path in store.kept.iterdir()}.items()
    return store, plan, write_report(store, plan, ["digits"])


def interrupt(*arguments, **keywords):
    raise KeyboardInterrupt


def test_everything_is_run_once_although_interrupted(reproduction):
    store, plan, _ = reproduction
    rows = collect(store, plan, ["digits"])
    assert len(rows) == len(plan.tasks(["digits"]))
    trained = [(row["contestant"], row["seed"]) for row in rows if row["task"] == "train"]
    assert sorted(trained) == sorted((name, seed) for name in CONTESTANTS for seed in (0, 1))


def test_the_report_needs_no_other_file_and_names_every_claim(reproduction):
    store, plan, page = reproduction
    text = page.read_text(encoding="utf-8")
    assert text.count("src='data:image/png;base64,") == text.count("<img") > 5
    assert "http" not in text.replace("https://arxiv.org/abs/2409.15365", "")
    for line in verdict_table(collect(store, plan, ["digits"]), "digits"):
        assert html.escape(line[0]) in text
    assert (store.folder / "digits.csv").read_text().count("\n") == 1 + len(CONTESTANTS)
    assert json.loads((store.folder / "results.json").read_text())["runs"]


def test_results_of_other_sizes_are_not_taken_for_these(reproduction):
    store, plan, _ = reproduction
    other = Store(store.folder, Plan(seeds=2, curve=(1, 2), hours=1.0, **TINY | {"window": 1}))
    assert collect(other, plan, ["digits"]) == []


def test_a_point_of_the_curve_is_expected_to_take_time_in_proportion_to_its_epochs(tmp_path):
    plan = Plan(seeds=1, curve=(1, 3, 10), hours=1.0, **TINY)
    store = Store(tmp_path, plan)
    assert expected_seconds(store, plan, "digits", 10) == 0
    first = {"data": "digits", "contestant": "paper", "seed": 0}
    store.write("train", first, {"seconds_of_task": 6.0})  # 2 epochs
    assert expected_seconds(store, plan, "digits", 10) == 30
    store.write("curve", {"data": "digits", "epochs": 3}, {"seconds_of_task": 12.0})
    assert expected_seconds(store, plan, "digits", 10) == 40


@pytest.mark.parametrize(("seconds", "is_run"), [(1000, True), (2000, False)])
def test_points_of_the_curve_that_would_end_too_late_are_left_out(
    tmp_path, monkeypatch, capsys, seconds, is_run
):
    tasks = [("curve", {"data": "digits", "epochs": n}) for n in (1, 3)]
    plan = Plan(seeds=0, curve=(1, 3), hours=1.0, **TINY)
    monkeypatch.setattr(plan, "tasks", lambda datasets: tasks)
    monkeypatch.setattr(_tasks, "curve", lambda *run, **which: {"summary": "1.00 % error"})
    store = Store(tmp_path, plan)
    store.write(*tasks[0], {"seconds_of_task": seconds})
    run_all(store, plan, ["digits"])
    assert (store.read("curve", data="digits", epochs=3) is not None) == is_run
    said = "1.00 % error" if is_run else "left out, as 100 min more would end after 1 h"
    assert said in capsys.readouterr().out


def test_losses_of_both_layers_are_kept_for_their_figure(reproduction):
    store, plan, _ = reproduction
    row = store.read("train", data="digits", contestant="paper", seed=0)
    assert [record["layers"] for record in row["history"]] == [[0], [0], [1], [1]]


def points(*errors):
    epochs = [10**k for k in range(len(errors))]
    return [
        {"epochs": n, "error": error, "n_test": 10_000}
        for n, error in zip(epochs, errors, strict=True)
    ]


def test_a_curve_is_flat_from_where_nothing_later_is_better():
    # The standard error of a difference between errors near 3 % of 10,000 images: 0.24 points.
    assert np.sqrt(2 * 3 * 97 / 10_000) == pytest.approx(0.24, abs=0.005)
    assert flat_from(points(9.0, 5.0, 3.0, 2.9, 2.8)) == 100
    assert flat_from(points(9.0, 5.0, 3.0, 2.9, 2.7)) == 1000
    assert flat_from(points(9.0, 5.0, 3.0)) is None


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [((3.0, 3.1, 2.9), "does not hold"), ((2.0, 2.1, 1.9), "holds"), ((1.5, 1.6, 1.4), "holds")],
)
def test_a_rule_competes_unless_it_is_surely_worse(errors, verdict):
    rows = [
        {"task": "train", "data": "digits", "contestant": name, "seed": seed, "error": error}
        for name in CONTESTANTS
        for seed, error in enumerate(errors if name == "paper" else (2.0, 2.05, 1.95))
    ]
    found = competes(rows, "digits")
    assert found.verdict == verdict
    assert f"{np.mean(errors):.2f} %" in found.found


def test_one_point_is_no_curve():
    rows = [point | {"task": "curve", "data": "digits"} for point in points(9.0, 8.9)]
    assert flattens(rows[:1], "digits") is None
    assert flattens(rows, "digits").verdict == "not needed"


@pytest.mark.parametrize(
    ("area", "n_significant", "verdict"),
    [(0.3, 5, "holds"), (0.3, 0, "open"), (0.7, 5, "does not hold"), (0.7, 0, "does not hold")],
)
def test_a_map_without_significant_pixels_leaves_it_open(area, n_significant, verdict):
    found = {"deletion_area": area, "random_areas": [0.6, 0.8], "n_significant": n_significant}
    row = found | {"task": "explain", "data": "digits", "contestant": "paper"}
    assert map_matters([row], "digits").verdict == verdict


def test_every_change_has_a_reason():
    assert all(all(cells[1:]) for cells in changes_table()[1:])
