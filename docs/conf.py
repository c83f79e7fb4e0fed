import re
import sys
from pathlib import Path

import skff

sys.path.insert(0, str(Path(__file__).parent))

from make_inventories import INVENTORIES, write_all

project = "skff"
author = "skff developers"
copyright = "skff developers"
version = release = skff.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",  # equations are set without a network
    "sphinx_copybutton",
    "sphinx_design",
    "matplotlib.sphinxext.plot_directive",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "benchmark_directives",
    "component_tables",
    "recipe_list",
    "script_output",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**/GALLERY_HEADER.rst"]
nitpicky = True
nitpick_ignore_regex = [("py:obj", r"\w+_")]  # fitted attributes, which the class's page describes
default_role = "literal"  # single backticks name parameters, which have no page of their own

autosummary_generate = True
autosummary_filename_map = {  # file systems that ignore case would mix it up with the function
    "skff.saliency.Interactions": "skff.saliency.Interactions-class",
}
autodoc_default_options = {
    "members": True,
    # scikit-learn adds these for metadata routing, with references into its own documentation.
    "exclude-members": ",".join(
        f"set_{method}_request"
        for method in ["fit", "partial_fit", "predict", "predict_proba", "score"]
    ),
}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say more
numpydoc_show_class_members = False  # autodoc lists the methods, in full
numpydoc_class_members_toctree = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"benchmarks|reproduc|stress|__init__\.py",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skff",),
    "reference_url": {"skff": None},
    "write_computation_times": False,
    "download_all_examples": False,
    "show_signature": False,
}

intersphinx_mapping = write_all(INVENTORIES)

plot_include_source = True
# Where pages that show their code write files; not below the sources.
plot_working_directory = str(Path(__file__).parent / "_build" / "plots")
Path(plot_working_directory).mkdir(parents=True, exist_ok=True)
plot_html_show_formats = False
plot_html_show_source_link = False
plot_formats = [("png", 120)]

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "pydata_sphinx_theme"
html_title = f"skff {release}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["skff.css"]
# Pages without pages of their own below them: an empty column would only take their space.
html_sidebars = {
    page.stem: []
    for page in Path(__file__).parent.glob("*.rst")
    if page.stem not in ("api", "index")
}
html_theme_options = {
    "header_links_before_dropdown": 5,
    "navigation_with_keys": False,
    "show_toc_level": 2,
}


def skip_fitted_properties(app, what, name, obj, skip, options):
    """Leave properties such as ``coefs_`` to the class's Attributes, where they are described."""
    return True if isinstance(obj, property) and name.endswith("_") else None


def quote_names_in_types(app, what, name, obj, options, lines):
    """Quote ``n_iter_`` and ``*shape`` in "x : ndarray of shape (n_iter_,)": they are no markup."""
    for k, line in enumerate(lines):
        parameter, colon, described = line.partition(" : ")
        if colon and re.fullmatch(r"[\w*, ]+", parameter):
            described = re.sub(r"(?<![`\w*])(\*\w+|\w+_)(?![`\w])", r"`\1`", described)
            lines[k] = parameter + colon + described


def setup(app):
    app.connect("autodoc-skip-member", skip_fitted_properties)
    app.connect("autodoc-process-docstring", quote_names_in_types, priority=400)
