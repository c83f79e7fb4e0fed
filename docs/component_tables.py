"""Sphinx directive ``component-table``: the names a parameter of FFClassifier can take."""

import importlib

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective


class ComponentTable(SphinxDirective):
    """Show a registry as a table, so that a new component is documented by being registered.

    The argument is the registry, such as ``skff.forward_forward.losses.LOSSES``.
    """

    required_arguments = 1

    def run(self):
        """Return the table."""
        module, registry = self.arguments[0].rsplit(".", 1)
        rows = [_row(*item) for item in getattr(importlib.import_module(module), registry).items()]
        source = [".. list-table::", "   :header-rows: 1", "   :widths: 15 25 60", ""]
        for row in [("name", "component", "what it does"), *rows]:
            source += [f"   {'* -' if k == 0 else '  -'} {cell}" for k, cell in enumerate(row)]
        node = nodes.Element()
        self.state.nested_parse(StringList(source, self.arguments[0]), 0, node)
        return node.children


def _row(name, component):
    role, described = "func", component
    if not hasattr(component, "__qualname__"):
        role, described = "class", type(component)
    first_line = described.__doc__.strip().splitlines()[0]
    link = f":{role}:`~{described.__module__}.{described.__qualname__}`"
    return f'``"{name}"``', link, first_line


def setup(app):
    """Register the directive."""
    app.add_directive("component-table", ComponentTable)
    return {"version": "1", "parallel_read_safe": True}
