import doctest
import inspect
import pydoc
import re
import sys
from itertools import combinations, product
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import skff
from skff import datasets, exceptions, mlp_baselines, persistence, recipes, saliency
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES
from skff.forward_forward.negatives import NEGATIVES
from skff.forward_forward.overlays import OVERLAYS

sys.path.insert(0, str(Path(__file__).parent.parent / "docs"))

import benchmark_pages  # which adds the folder of the benchmarks to the path
from _plan import CONTESTANTS
from _results import write_rows

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [
    DOCS / "extending.rst",
    DOCS / "from_mlp.rst",
    DOCS / "getting_started.rst",
    DOCS / "how_to.rst",
    DOCS / "recipes.rst",
    # The rows of the pitfalls have a test of their own.
    *sorted(set((DOCS / "user_guide").glob("[!i]*.rst")) - {DOCS / "user_guide" / "pitfalls.rst"}),
]
REGISTRIES = {
    "goodness": GOODNESS,
    "losses": LOSSES,
    "negatives": NEGATIVES,
    "overlays": OVERLAYS,
}


def api_entries():
    """Return the names that the API page lists, without the package's own."""
    return (DOCS / "api.rst").read_text(encoding="utf-8").split()


def api_names():
    """Return the names of the classes and functions that have a page of their own."""
    return re.findall(
        r"^    ([\w.]+)$", (DOCS / "api.rst").read_text(encoding="utf-8"), re.MULTILINE
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_the_page_runs_and_prints_what_it_says(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    results = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    plt.close("all")
    assert results.failed == 0, "see the captured output"
    assert results.attempted > (2 if page.stem == "recipes" else 6)


def test_code_of_the_front_page_runs(capsys):
    exec((DOCS / "first_map.py").read_text(encoding="utf-8"), {})
    plt.close("all")
    assert float(capsys.readouterr().out.removeprefix("accuracy ")) > 0.95


@pytest.mark.parametrize(
    "room", [skff, saliency, datasets, exceptions, mlp_baselines, persistence, recipes]
)
def test_every_public_name_is_on_the_api_page(room):
    prefix = "" if room is skff else room.__name__.removeprefix("skff.") + "."
    listed = set(api_entries())
    names = [name for name in room.__all__ if callable(getattr(room, name))]
    missing = [name for name in names if not {name, prefix + name} & listed]
    assert missing == []


@pytest.mark.parametrize("name", api_names())
def test_every_page_of_the_api_has_an_example(name):
    assert ">>> " in inspect.getdoc(pydoc.locate(f"skff.{name}"))


def callables_of(name):
    """Return the functions and methods that a user of a public class or function calls."""
    thing = pydoc.locate(f"skff.{name}")
    if not inspect.isclass(thing):
        return {name: thing}
    members = {key: getattr(value, "fget", value) for key, value in vars(thing).items()}
    members = {key: getattr(value, "__func__", value) for key, value in members.items()}
    public = {key: f for key, f in members.items() if key == "__call__" or key[0] != "_"}
    return {f"{name}.{key}": f for key, f in public.items() if inspect.isfunction(f)}


@pytest.mark.parametrize("name", api_names())
def test_every_public_function_says_its_types(name):
    for function in callables_of(name).values():
        signature = inspect.signature(function)
        untyped = [p.name for p in signature.parameters.values() if p.annotation is p.empty]
        assert set(untyped) <= {"self", "cls"}
        assert signature.return_annotation is not signature.empty


@pytest.mark.parametrize("module", REGISTRIES)
def test_every_component_is_on_the_api_page(module):
    described = [c if hasattr(c, "__qualname__") else type(c) for c in REGISTRIES[module].values()]
    names = {f"forward_forward.{module}.{component.__qualname__}" for component in described}
    assert names <= set(api_entries())


def test_pictures_of_the_readme_are_there():
    page = DOCS.parent / "README.md"
    # Absolute links: PyPI shows the page without the files beside it.
    links = re.findall(r"!\[[^]]*\]\((.*)\)", page.read_text(encoding="utf-8"))
    base = "https://raw.githubusercontent.com/skff/skff/main/"
    assert links and all(link.startswith(base) for link in links)
    for link in links:
        assert (page.parent / link.removeprefix(base)).is_file()


def test_results_in_the_readme_are_those_of_the_files():
    text = benchmark_pages.README.read_text(encoding="utf-8")
    assert text == benchmark_pages.with_results(text), "run docs/benchmark_pages.py --readme"


def test_a_contestant_has_one_setting_per_data_set_and_size():
    settings = {}
    for row in benchmark_pages.read("training"):
        assert not row["validation"]
        run = (row["data"], row["contestant"], *row["hidden"])
        assert settings.setdefault(run, row["settings"]) == row["settings"]


@pytest.fixture
def no_results(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark_pages, "RESULTS", tmp_path)
    return tmp_path


@pytest.fixture
def results(no_results):
    """Write invented results of every kind for the page to show."""
    rows = [
        training_row(data, contestant, hidden, seed)
        for data in ("mnist", "fashion-mnist")
        for contestant in ("ff", "ff-default", "ff-input", "torch-lean", "public")
        for hidden in ([500, 500], [500] * 3)
        for seed in (0, 1)
    ]
    explained = product(("mnist", "fashion-mnist"), ("plain loop", "incremental engine"))
    ads = [ads_row(data, name) for data, name in explained]
    versions = [
        {"part": "fit", "data": "mnist", "contestant": name, "repeat": 0, "threads": 1}
        | {"seconds": seconds, "peak_mb": 3.0, "predict_seconds": 0.1, "version": name}
        for name, seconds in [("old", 4.0), ("new", 2.0)]
    ]
    sizes = {"n_samples": 10, "n_features": 10, "n_units": 10, "n_layers": 2, "n_classes": 3}
    scaling = [sizes | {"axis": "n_units", "n_units": n, "epoch_seconds": n / 10} for n in (10, 20)]
    files = {"training": rows, "validation": rows, "variants": rows[:1], "recipes": rows[:1]}
    files |= {"ads": ads, "versions": versions, "scaling": scaling}
    spent = {"products": 3.0, "labels": 1.0, "rest": 0.5}
    files["breakdown"] = [
        {"data": "mnist", "contestant": name, "milliseconds": spent, "whole": 4.5}
        for name in ("ff", "torch-lean")
    ]
    question = {"data": "mnist", "samples": 50, "question": "refine", "overlap": 0.9}
    files |= {"questions": [question | {"threads": 1, "commit": "abc"}]}
    files |= {"tabular": tabular_rows(), "sequences": rows[:2]}
    files |= {"cuda": [cuda_row(part, "ff") for part in ("train", "explain")]}
    network = {"data": "mnist", "hidden": [9, 9], "epochs": 2, "seed": 0, "threads": 1}
    network |= {"seconds": 7.0, "test": {"head": 1.5, "goodness": 1.6}}
    points = [{"epoch": k, "head": 2.0 / k, "goodness": 1.9 / k} for k in (1, 2)]
    files["hinton"] = [
        network | {"part": part, "change": "all", "curve": points} for part in ("changes", "curve")
    ]
    files["hinton"].append(files["hinton"][0] | {"part": "whole", "curve": []})
    files["distributed"] = distributed_rows()
    files["reproduction"] = [
        row for data in ("mnist", "fashion-mnist") for row in reproduction_rows(data)
    ]
    for name, runs in files.items():
        write_rows(no_results / f"{name}.json", runs)
    return no_results


def tabular_rows():
    row = {"data": "iris", "seed": 0, "ff": 95.0, "mlp": 94.5}
    settings = {"ff": {"weight_decay": 0.1}, "torch-lean": {"weight_decay": 0.3}}
    chosen = {"settings": settings, "chosen": {"ff": 70.0, "torch-lean": 71.0}}
    return [row, row | chosen | {"data": "mnist-1d"}]


def distributed_rows():
    messages = [[how, n, 1e-4 + 1e-9 * n] for how in ("send", "all_reduce") for n in (1e3, 1e6)]
    rows = [{"contestant": "messages", "messages": messages}]
    processes = {"ff": 1, "backprop": 1, "ff-data": 2, "ff-layers": 2, "backprop-data": 2}
    for name, n_processes in processes.items():
        for batch_size in (64, 256):
            task = {"contestant": name, "processes": n_processes, "hidden": [50, 50]}
            task |= {"batch_size": batch_size, "samples": 10 * batch_size, "features": 20}
            seconds = [batch_size * 1e-4] * 3
            rows.append(task | {"classes": 3, "epoch_seconds": seconds, "epoch_bytes": 1000})
    return rows


def training_row(data, contestant, hidden, seed):
    error = 1.25 + seed / 2 + (data != "mnist") * 8
    forward = contestant.startswith("ff")
    layers = {"layer_errors": [error] * len(hidden), "sum_error": error} if forward else {}
    curve = [{"epoch": k, "seconds": float(k), "error": error + 3 - k} for k in (1, 2, 3)]
    bins = None if contestant == "public" else [[0.5, 0.4, 10], [0.9, 0.95, 90]]
    return {
        "data": data,
        "contestant": contestant,
        "hidden": hidden,
        "settings": {"dropout": 0.2},
        "seed": seed,
        "threads": 1,
        "timed": True,
        "seconds": 2.0 if forward else 4.0,
        "peak_mb": 20.0,
        "error": error,
        "nll": bins and 0.05,
        "ece": bins and 1.0,
        "bins": bins,
        "curve": curve,
        "machine": {"processor": "abacus", "cores": 2},
        "versions": {"torch": "2"},
        "commit": "abc",
        **layers,
    }


def ads_row(data, contestant):
    return {
        "data": data,
        "model": "ff",
        "samples": 50,
        "window": 3,
        "contestant": contestant,
        "windows": 9,
        "seconds_full": 12.3 if contestant == "plain loop" else 1.2,
        "engine_stats": {"pairs": 450, "unchanged": 270 if data == "mnist" else 90},
        "speedup": 1.0 if contestant == "plain loop" else 10.25,
        "differing_windows": 0,
        "compared_windows": 9,
        "peak_mb": 7.0,
    }


def cuda_row(part, contestant):
    row = {"part": part, "gpu": "abacus", "data": "mnist", "hidden": [500, 500], "threads": 1}
    row |= {"seconds": 2.0, "peak_mb": 20.0, "contestant": contestant}
    if part == "explain":
        figures = {"windows_unlike_cpu": 0, "largest_difference": 0.0}
        return row | figures | {"window": 3, "samples": 50, "windows": 784}
    modes = {"graph": False, "bfloat16": True, "seed": 0}
    return row | modes | {"predict_seconds": 0.1, "error": 1.25}


def reproduction_rows(data):
    """Return a row of each task of the reproduction: 4 x 4 pixels, ten classes."""
    labels, pixels = list(range(10)), [[k / 16 for k in range(16)]] * 10
    maps = [[[0.01 * (i - j) for j in range(4)] for i in range(4)]] * 10
    history = [{"layers": [layer], "loss": [1.0 / k]} for layer in (0, 1) for k in (1, 2)]
    samples = {"pictures": [pixels[:4]] * 2, "labels": [labels[:4]] * 2}
    images = {"labels": labels, "pictures": pixels, "means": pixels, "maps": maps}
    explained = {"importances": maps[0], "per_class": maps, "classes": labels, "n_significant": 3}
    explained |= {"deletion_area": 0.3, "random_areas": [0.5, 0.6]}
    pairs = [
        {"first": a, "second": b, "rank_correlation": 0.9, "interval": [0.8, 0.95]}
        for a, b in combinations(CONTESTANTS, 2)
    ]
    rows = [("samples", samples), ("images", images), ("compare", {"pairs": pairs})]
    for name in CONTESTANTS:
        rows.append(("explain", explained | {"contestant": name}))
        for seed in (0, 1):
            trained = {"error": 2.0 + seed / 10, "seconds": 3.0, "history": history, "seed": seed}
            rows.append(("train", trained | {"contestant": name}))
    for epochs in (1, 10, 100):
        rows.append(("curve", {"epochs": epochs, "error": 2.0 + 5 / epochs, "n_test": 10_000}))
    return [{"task": task, "data": data, **row} for task, row in rows]


@pytest.mark.parametrize("name", benchmark_pages.TABLES)
def test_table_of_the_benchmark_page_shows_results_or_says_that_there_are_none(
    name, results, request
):
    shown = "\n".join(benchmark_pages.table_source(name))
    n_tables = shown.count("rubric::" if name in benchmark_pages.UNFOLDED else "<details>")
    assert n_tables > 0
    assert "not measured" not in shown
    rows = re.findall(r"^   \* -", shown, re.MULTILINE)
    assert len(rows) >= 2 * n_tables
    assert not re.search("- -$", shown, re.MULTILINE)  # a cell that is a list of nothing
    for file in results.iterdir():
        file.unlink()
    assert "not measured yet" in benchmark_pages.table_source(name)[0]


def test_a_machine_without_a_gpu_gives_no_table(no_results):
    write_rows(no_results / "cuda.json", [{"part": "device", "status": "no CUDA device"}])
    assert "not measured yet" in benchmark_pages.table_source("cuda")[0]


@pytest.mark.parametrize("name", benchmark_pages.FIGURES)
def test_figure_of_the_benchmark_page_is_drawn_where_there_are_results(
    name, results, tmp_path, monkeypatch
):
    monkeypatch.setattr(benchmark_pages, "DOCS", tmp_path)
    lines = benchmark_pages.figure_source(name, "What it shows.", tmp_path / "drawn")
    assert lines[0] == f".. figure:: /drawn/{name}.svg"
    is_map = name.endswith("mnist")
    assert lines[1].split()[1:] == ["dark-light", *["maps"] * is_map]
    assert (tmp_path / "drawn" / f"{name}.svg").stat().st_size > 5000
    for file in results.glob("*.json"):
        file.unlink()
    lines = benchmark_pages.figure_source(name, "What it shows.", tmp_path / "drawn")
    assert "not measured yet" in lines[0]


def test_a_size_of_window_has_the_same_marker_for_all_data():
    measured = {"model": "ff", "contestant": "plain loop", "samples": 100, "seconds_full": 9.0}
    sizes = [("mnist", 1), ("mnist", 3), ("fashion-mnist", 3)]
    rows = [measured | {"data": data, "window": window} for data, window in sizes]
    _, draw = benchmark_pages.FIGURES["ads_seconds"]
    drawn = {
        (line.get_label(), line.get_marker()) for ax in draw(rows).axes for line in ax.get_lines()
    }
    assert drawn == {("1 x 1 pixels", "o"), ("3 x 3 pixels", "s")}


def test_numbers_in_the_text_come_from_the_results(results):
    numbers = {
        "error mnist ff 500-500": "1.50 %",
        "seeds mnist ff 500-500": "2",
        "time fashion-mnist ff-default 500-500": "0.50 (0.50 to 0.50)",
        "nll mnist torch-lean 500-500-500": "0.050",
        "error digits ff 500-500": "not measured yet",
        "changed mnist": "40 %",
        "saving mnist": "2.5",
        "changed fashion-mnist": "80 %",
        "changed digits": "not measured yet",
    }
    assert {text: benchmark_pages.number(text) for text in numbers} == numbers


def test_a_sentence_is_filled_only_where_all_its_numbers_are_there(results):
    text = "From {error mnist ff 500-500} to {error fashion-mnist ff 500-500}."
    assert benchmark_pages.sentence(text) == "From 1.50 % to 9.50 %."
    assert "not measured yet" in benchmark_pages.sentence(f"{text} {{error digits ff 500-500}}")


def test_every_number_table_and_figure_of_the_page_is_known(results):
    page = (DOCS / "benchmarks.rst").read_text(encoding="utf-8")
    assert re.search(r"\d+\.\d+ ?%", page) is None
    numbers = re.findall(r"{([^}]+)}", page)
    assert numbers
    assert "not measured yet" not in [benchmark_pages.number(text) for text in numbers]
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.rst"))
    tables = set(re.findall(r"benchmark-table:: (\w+)", pages))
    assert tables == set(benchmark_pages.TABLES)
    figures = set(re.findall(r"benchmark-figure:: ([\w-]+)", pages))
    assert figures == set(benchmark_pages.FIGURES)


def test_the_readme_shows_two_figures_of_the_results(results):
    lines = benchmark_pages.readme_block().split("\n")[1:-1]
    assert len(lines) == 2
    assert lines[0].startswith("- **1.50 %** test error on MNIST")
    assert lines[1].startswith("- **10 times** faster than a plain loop")
    (results / "ads.json").unlink()
    assert benchmark_pages.NOT_MEASURED in benchmark_pages.readme_block().split("\n")[2]
