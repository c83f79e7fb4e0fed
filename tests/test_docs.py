import doctest
import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import skff
from skff import datasets, mlp_baselines, recipes, saliency
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES
from skff.forward_forward.negatives import NEGATIVES
from skff.forward_forward.overlays import OVERLAYS

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [
    DOCS / "extending.rst",
    DOCS / "recipes.rst",
    *sorted((DOCS / "user_guide").glob("[!i]*.rst")),
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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_the_page_runs_and_prints_what_it_says(page):
    results = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    plt.close("all")
    assert results.failed == 0, "see the captured output"
    assert results.attempted > (2 if page.stem == "recipes" else 10)


def test_code_of_the_front_page_runs(capsys):
    page = (DOCS / "index.rst").read_text(encoding="utf-8")
    block = re.search(r"code-block:: python\n\n((?:    .*\n|\n)+)", page).group(1)
    exec(textwrap.dedent(block), {})
    plt.close("all")
    assert float(capsys.readouterr().out) > 0.95


@pytest.mark.parametrize("room", [skff, saliency, datasets, mlp_baselines, recipes])
def test_every_public_name_is_on_the_api_page(room):
    prefix = "" if room is skff else room.__name__.removeprefix("skff.") + "."
    listed = set(api_entries())
    names = [name for name in room.__all__ if callable(getattr(room, name))]
    missing = [name for name in names if not {name, prefix + name} & listed]
    assert missing == []


@pytest.mark.parametrize("module", REGISTRIES)
def test_every_component_is_on_the_api_page(module):
    described = [c if hasattr(c, "__qualname__") else type(c) for c in REGISTRIES[module].values()]
    names = {f"forward_forward.{module}.{component.__qualname__}" for component in described}
    assert names <= set(api_entries())


@pytest.mark.parametrize(
    "page",
    [DOCS.parent / "README.md", DOCS / "benchmarks.rst"],
    ids=lambda page: page.stem,
)
def test_pictures_of_the_page_are_there(page):
    text = page.read_text(encoding="utf-8")
    pictures = re.findall(r"[\w/]+\.png(?=\)$)|(?<=figure:: )\S+", text, flags=re.MULTILINE)
    assert pictures
    for picture in pictures:
        assert (page.parent / picture).is_file()
