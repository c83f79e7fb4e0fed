"""Sphinx directive ``recipe-list``: the recipes of skff.recipes, from the recipes themselves."""

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from skff.recipes import RECIPES


class RecipeList(SphinxDirective):
    """Show every recipe with its settings, its source's claim and our own figure."""

    def run(self):
        """Return a section per recipe."""
        source = []
        for name, recipe in RECIPES.items():
            # Escaped, as an initial would begin a list.
            source += [f".. rubric:: {name}", "", f"\\{recipe.source}", ""]
            if recipe.parameters:
                source += [".. code-block:: python", ""]
                source += [f"    {line}" for line in _call(recipe)] + [""]
            source += [f":The source's claim: {recipe.claim or 'none'}"]
            source += [f":Measured here: {recipe.measured or 'see :doc:`benchmarks`'}", ""]
        node = nodes.Element()
        self.state.nested_parse(StringList(source, "skff.recipes"), 0, node)
        return node.children


def _call(recipe):
    """Return the lines of code that build the recipe's estimator."""
    settings = [f"    {key}={value!r}," for key, value in recipe.parameters.items()]
    if recipe.preprocessing is None:
        return ["FFClassifier(", *settings, ")"]
    inner = ["FFClassifier(", *settings, "),"]
    return [
        "make_pipeline(",
        *(f"    {line}" for line in [f"{recipe.preprocessing!r},", *inner]),
        ")",
    ]


def setup(app):
    """Register the directive."""
    app.add_directive("recipe-list", RecipeList)
    return {"version": "1", "parallel_read_safe": True}
