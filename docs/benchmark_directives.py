"""Sphinx directives of the benchmark page: all its figures and numbers are read from JSON."""

from pathlib import Path

import benchmark_pages as pages
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

FOLDER = Path("generated") / "benchmarks"  # below the documentation's sources


class ResultDirective(SphinxDirective):
    """Show what a function makes of a file of results."""

    required_arguments = 1

    def parse(self, source, file):
        """Return the nodes of some reStructuredText; the page is built anew with the file."""
        self.env.note_dependency(str(pages.RESULTS / f"{file}.json"))
        node = nodes.Element()
        self.state.nested_parse(StringList(source, f"{file}.json"), 0, node)
        return node.children


class BenchmarkTable(ResultDirective):
    """Show tables of results, folded; the argument is one of `benchmark_pages.TABLES`."""

    def run(self):
        """Return the tables."""
        name = self.arguments[0]
        return self.parse(pages.table_source(name), pages.TABLES[name][0])


class BenchmarkFigure(ResultDirective):
    """Draw results; the argument is one of `benchmark_figures.FIGURES`, the content its caption."""

    has_content = True

    def run(self):
        """Return the figure."""
        name, caption = self.arguments[0], " ".join(self.content)
        source = pages.figure_source(name, caption, pages.DOCS / FOLDER)
        return self.parse(source, pages.FIGURES[name][0])


class BenchmarkText(ResultDirective):
    """Fill numbers into the content, as `benchmark_pages.sentence` does."""

    required_arguments = 0
    has_content = True

    def run(self):
        """Return the paragraph."""
        return self.parse([pages.sentence(" ".join(self.content)), ""], "training")


class BenchmarkHeadline(ResultDirective):
    """Show the two figures that say most, with a link to where they come from."""

    required_arguments = 0

    def run(self):
        """Return two cards."""
        return self.parse(pages.headline_source(), "training")


class BenchmarkMachine(SphinxDirective):
    """Say on which machines, with which versions and at which commits was measured."""

    def run(self):
        """Return the paragraph."""
        return [nodes.paragraph("", pages.machines())]


def setup(app):
    """Register the directives."""
    app.add_directive("benchmark-table", BenchmarkTable)
    app.add_directive("benchmark-figure", BenchmarkFigure)
    app.add_directive("benchmark-text", BenchmarkText)
    app.add_directive("benchmark-headline", BenchmarkHeadline)
    app.add_directive("benchmark-machine", BenchmarkMachine)
    return {"version": "1", "parallel_read_safe": True}
