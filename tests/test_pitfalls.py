"""The table of what works, warns or raises is what happens."""

import re
import textwrap
import warnings
from pathlib import Path

import pytest
from sklearn.base import clone

PAGE = Path(__file__).parent.parent / "docs" / "user_guide" / "pitfalls.rst"
TEXT = PAGE.read_text(encoding="utf-8")
OUTCOME = re.compile(r"\*\*(works|warns|raises)\*\*(?: ``(\w+)``)?(?:: (.*))?")


def rows():
    """Yield (case, code, what happens, category, part of the message) of each row."""
    for row in re.findall(r"\n   \* - (?!Case)(.*?)(?=\n   \* - |\n\n\S|\Z)", TEXT, re.DOTALL):
        case, example, outcome = re.split(r"\n     - ", row)
        code = textwrap.dedent(example.split("\n\n", 1)[1])
        yield pytest.param(code, *OUTCOME.match(outcome.strip()).groups(), id=case)


@pytest.fixture(scope="module")
def names():
    namespace = {}
    exec(
        textwrap.dedent(re.search(r"code-block:: python\n\n(.*?)\n\n:class", TEXT, re.DOTALL)[1]),
        namespace,
    )
    return namespace


@pytest.mark.parametrize(("code", "verdict", "category", "message"), list(rows()))
def test_the_row_is_right(names, code, verdict, category, message):
    error = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            exec(code, names | {"clf": clone(names["clf"])})
        except (ValueError, TypeError) as found:
            error = found
    said = [(type(w.message).__name__, str(w.message)) for w in caught]
    if verdict == "works":
        assert (error, said) == (None, [])
    elif verdict == "raises":
        assert (type(error).__name__, message in str(error)) == (category, True), error
    else:
        assert error is None
        assert any(kind == category and message in text for kind, text in said), said


def test_the_page_has_every_row():
    assert len(list(rows())) == TEXT.count("   * - ") - TEXT.count("   * - Case")
