"""Sphinx directive ``script-output``: what a script prints."""

import contextlib
import io
import runpy
from pathlib import Path

import matplotlib.pyplot as plt
from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class ScriptOutput(SphinxDirective):
    """Run a script and show what it prints; the argument is its path below the docs."""

    required_arguments = 1

    def run(self):
        """Return a block of text."""
        path = Path(self.env.srcdir) / self.arguments[0]
        self.env.note_dependency(str(path))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(path))
        plt.close("all")
        text = printed.getvalue().rstrip()
        return [nodes.literal_block(text, text, language="none")]


def setup(app):
    """Register the directive."""
    app.add_directive("script-output", ScriptOutput)
    return {"version": "1", "parallel_read_safe": True}
