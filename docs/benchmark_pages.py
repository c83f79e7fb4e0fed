"""What the documentation and the README say of the results in ``docs/results``.

Every table and figure, and every number in the text, is made from those files. The README holds
its part between two marks; to write it anew::

    python docs/benchmark_pages.py --readme
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "benchmarks"))
sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "reproduction"))

import _summary
import distributed_figures
from _common import spread
from _report import changes_table, contestants_table, verdict_table
from _summary import (
    REFERENCE,
    breakdown_table,
    by_contestant,
    cuda_explanation_table,
    cuda_training_table,
    describe_figures,
    describe_settings,
    hinton_changes_table,
    hinton_networks_table,
    layer_table,
    one_per_seed,
    ratios,
    settings_table,
    training_table,
    value,
    versions_table,
)
from benchmark_figures import FIGURES, LABELS, TITLES, save

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS / "results"
README = DOCS.parent / "README.md"
MARKS = ("<!-- results -->", "<!-- end of results -->")
NOT_MEASURED = "not measured yet"


def read(name):
    """Return the rows of ``docs/results/NAME.json``; none where the file is not there."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []


def missing(name):
    """Return the sentence that stands in for results that are not there."""
    return f"This was {NOT_MEASURED}: ``docs/results/{name}.json`` is missing or has no such rows."


# Tables: rows -> (title, header, body) of each.


def training_tables(rows):
    """Return a table per data set and network, of those tested on test images."""
    groups = _grouped(rows, lambda row: (row["data"], tuple(row["hidden"])))
    return [
        (f"{TITLES[data]}, {_name(hidden)}", *_titled(training_table(own)))
        for (data, hidden), own in groups.items()
    ]


def layers_tables(rows):
    """Return a table per data set and network of the layers' own errors."""
    rows = [row for row in rows if row.get("layer_errors")]
    groups = _grouped(rows, lambda row: (row["data"], tuple(row["hidden"])))
    return [
        (f"Each layer's own error in percent: {TITLES[data]}, {_name(hidden)}",
         *_titled(layer_table(own)))
        for (data, hidden), own in groups.items()
    ]  # fmt: skip


def validation_tables(rows):
    """Return a table per data set and network of the settings tried on validation images."""
    groups = _grouped(rows, lambda row: (row["data"], tuple(row["hidden"])))
    return [
        (f"Settings tried on validation images: {TITLES[data]}, {_name(hidden)}",
         *_titled(settings_table(own)))
        for (data, hidden), own in groups.items()
    ]  # fmt: skip


def versions_tables(rows):
    """Return the table that compares two versions."""
    old, new = (
        ", ".join(sorted({row["version"] for row in rows if row["contestant"] == name}))
        for name in ("old", "new")
    )
    return [(f"Old: {old}. New: {new}.", *versions_table(rows))]


def ads_tables(rows):
    """Return a table per model of the seconds and memory of each way to compute a map."""
    header = ["data", "window", "contestant", "seconds", "faster than the loop", "windows run"]
    header += ["differ from the loop", "peak MB"]
    tables = []
    for model, own in _grouped(rows, lambda row: row["model"]).items():
        body = [_ads_cells(row) for row in own]
        tables.append((f"ADS of the model {model!r}, {own[0]['samples']} images", header, body))
    return tables


def _ads_cells(row):
    speedup = "-" if row["speedup"] is None else f"{row['speedup']:.1f}"
    return [
        *[TITLES[row["data"]], f"{row['window']} x {row['window']}", row["contestant"]],
        *[f"{row['seconds_full']:.1f}", speedup, str(row["windows"])],
        *[f"{row['differing_windows']} of {row['compared_windows']}", f"{row['peak_mb']:.0f}"],
    ]


def questions_tables(rows):
    """Return the table of what the further questions of ADSExplainer cost and answer."""
    body = [[TITLES[row["data"]], row["question"], describe_figures(row)] for row in rows]
    return [("Further questions to one network", ["data", "question", "figures"], body)]


def breakdown_tables(rows):
    """Return a table per data set of what a batch of training spends its time on."""
    return [
        (f"Milliseconds per batch, {TITLES[data]}", *_titled(breakdown_table(own)))
        for data, own in _grouped(rows, lambda row: row["data"]).items()
    ]


def tabular_tables(rows):
    """Return the tables of cross-validated accuracies, with nothing set and with settings."""
    with_nothing_set, with_settings = _summary.tabular_tables(rows)
    tables = [("Accuracy of cross-validation, nothing set", *with_nothing_set)]
    header, body = with_settings
    if body:
        named = [[data, LABELS[name], *cells] for data, name, *cells in body]
        tables.append(("Accuracy of cross-validation, settings chosen", header, named))
    return tables


def sequences_tables(rows):
    """Return the table of the settings tried on sequences."""
    return [("Settings tried on other sequences", *_titled(settings_table(rows)))]


def settings_tables(rows):
    """Return the table of an FFClassifier, or a recipe, with several settings."""
    header = ["data", "recipe", "settings", "seeds", "error %", "error % of the goodness"]
    header += ["seconds to fit", "NLL", "ECE %"]
    body = []
    groups = _grouped(rows, lambda row: (row["data"], row.get("recipe") or "-", _settings(row)))
    for (data, recipe, settings), own in groups.items():
        seeds = one_per_seed(own)
        figures = [("error", 2), ("sum_error", 2), ("seconds", 0), ("nll", 3), ("ece", 2)]
        cells = [spread([value(row, key) for row in seeds], digits) for key, digits in figures]
        body.append([TITLES[data], recipe, settings, str(len(seeds)), *cells])
    return [("Recipes and other settings", header, body)]


def hinton_tables(rows):
    """Return the tables of what matters in Hinton's recipe, and of the networks it trained."""
    tabulated = {
        "Networks trained by the recipe": hinton_networks_table(rows),
        "What matters: error on held-out images": hinton_changes_table(rows),
    }
    return [(title, header, body) for title, (header, body) in tabulated.items() if body]


def paper_claims_tables(rows):
    """Return a table per data set of the paper's claims, with what was found."""
    return [(TITLES[data], *_split(verdict_table(rows, data))) for data in _datasets(rows)]


def paper_contestants_tables(rows):
    """Return a table per data set of the networks that the paper's is compared with."""
    return [(TITLES[data], *_split(contestants_table(rows, data))) for data in _datasets(rows)]


def paper_changes_tables(rows):
    """Return the table of what skff's default does otherwise than the paper."""
    return [("The paper's rule and skff's default", *_split(changes_table()))]


def _datasets(rows):
    return list(dict.fromkeys(row["data"] for row in rows))


def _split(lines):
    return lines[0], lines[1:]


def _settings(row):
    return describe_settings(row["settings"])


def cuda_tables(rows):
    """Return a table per GPU, data set and network of training, then one of saliency."""
    trained = [row for row in rows if row["part"] == "train" and row["gpu"]]
    groups = _grouped(trained, lambda row: (row["gpu"], row["data"], tuple(row["hidden"])))
    tables = [
        (f"Training on {gpu}: {TITLES[data]}, {_name(hidden)}", *_titled(cuda_training_table(own)))
        for (gpu, data, hidden), own in groups.items()
    ]
    explained = [row for row in rows if row["part"] == "explain" and row["gpu"]]
    return tables + [
        (f"Accuracy Differential Saliency on {gpu}", *cuda_explanation_table(own))
        for gpu, own in _grouped(explained, lambda row: row["gpu"]).items()
    ]


TABLES = {
    "training": ("training", training_tables),
    "layers": ("training", layers_tables),
    "validation": ("validation", validation_tables),
    "breakdown": ("breakdown", breakdown_tables),
    "questions": ("questions", questions_tables),
    "versions": ("versions", versions_tables),
    "ads": ("ads", ads_tables),
    "tabular": ("tabular", tabular_tables),
    "sequences": ("sequences", sequences_tables),
    "variants": ("variants", settings_tables),
    "recipes": ("recipes", settings_tables),
    "cuda": ("cuda", cuda_tables),
    "hinton": ("hinton", hinton_tables),
    "distributed": ("distributed", distributed_figures.tables),
    "paper_claims": ("reproduction", paper_claims_tables),
    "paper_contestants": ("reproduction", paper_contestants_tables),
    "paper_changes": ("reproduction", paper_changes_tables),
}
MAPS = ("paper_classes", "paper_images", "paper_all")  # beginnings of their names
UNFOLDED = {"paper_claims", "paper_contestants", "paper_changes"}


def table_source(name):
    """Return the reStructuredText of some tables, each below its title, most of them folded."""
    file, tabulate = TABLES[name]
    rows = read(file)
    tables = tabulate(rows) if rows else []
    if not tables:
        return [missing(file), ""]
    source = []
    for title, header, body in tables:
        if name in UNFOLDED:
            source += [f".. rubric:: {title}", ""]
        else:
            source += [".. raw:: html", "", f"   <details><summary>{title}</summary>", ""]
        source += [".. list-table::", "   :header-rows: 1"]
        source += ["   :class: prose", ""] if name in UNFOLDED else [""]
        for cells in [header, *body]:
            source += [
                f"   {'* -' if k == 0 else '  -'} {_escape(cell)}" for k, cell in enumerate(cells)
            ]
        source += [""]
        if name not in UNFOLDED:
            source += [".. raw:: html", "", "   </details>", ""]
    return source


def figure_source(name, caption, folder):
    """Draw a figure into a folder below docs and return its reStructuredText."""
    file, draw = FIGURES[name]
    path = folder / f"{name}.svg"
    try:
        save(draw, read(file), path)
    except (LookupError, ValueError):  # rows that the figure needs are not there
        return [missing(file), ""]
    source = f"/{path.relative_to(DOCS).as_posix()}"
    # Without "dark-light" the theme would dim the figure on a dark page.
    kind = "dark-light maps" if name.startswith(MAPS) else "dark-light"
    options = [f"   :class: {kind}", f"   :alt: {caption}", "", f"   {caption}", ""]
    return [f".. figure:: {source}", *options]


def sentence(text):
    """Fill the figures into a sentence, such as "{error mnist ff 500-500} on MNIST"."""
    numbers = {match: number(match) for match in re.findall(r"{([^}]+)}", text)}
    if NOT_MEASURED in numbers.values():
        return missing("training")
    return re.sub(r"{([^}]+)}", lambda match: numbers[match[1]], text)


def number(text):
    """Return a figure for a sentence: "FIGURE DATA CONTESTANT HIDDEN", as "error mnist ff 500-500".

    Figures: error (mean over the seeds), nll, ece and peak_mb (medians), time (median of the
    ratio to the plain loop's seconds) and seeds (their number). "changed DATA" is the share of
    pairs of image and 3 x 3 window where the window changes the image, "saving DATA" its inverse.
    """
    if text.startswith(("changed ", "saving ")):
        return _number_of_changes(*text.split())
    figure, data, contestant, hidden = text.split()
    rows = [r for r in read("training") if (r["data"], _name(r["hidden"])) == (data, hidden)]
    groups = by_contestant(rows)
    if contestant not in groups:
        return NOT_MEASURED
    own = one_per_seed(groups[contestant])
    if figure == "time":
        return spread(ratios(groups[contestant], groups.get(REFERENCE, []), "seconds"))
    if figure == "error":
        return f"{statistics.fmean(row['error'] for row in own):.2f} %"
    if figure == "seeds":
        return str(len(own))
    digits, unit = {"nll": (3, ""), "ece": (2, " %"), "peak_mb": (0, " MB")}[figure]
    return f"{statistics.median(row[figure] for row in own):.{digits}f}{unit}"


def _number_of_changes(figure, data):
    found = [row["engine_stats"] for row in _fast_maps(data)]
    if not found:
        return NOT_MEASURED
    share = 1 - found[0]["unchanged"] / found[0]["pairs"]
    return f"{100 * share:.0f} %" if figure == "changed" else f"{1 / share:.1f}"


def _fast_maps(data):
    """Return the rows of FFClassifier's own engine with windows of 3 x 3 pixels."""
    of_ads = {"data": data, "model": "ff", "window": 3, "contestant": "incremental engine"}
    return [row for row in read("ads") if of_ads.items() <= row.items()]


def headlines():
    """Return the two figures that say most: (figure, what it is of)."""
    error, loop = (number(f"error mnist {name} 500-500") for name in ("ff", "torch-lean"))
    found = [row["speedup"] for row in _fast_maps("mnist")]
    return [
        (
            error,
            "test error on MNIST with two layers of 500 units; a backprop network with the same "
            f"regularization has {loop}",
        ),
        (
            f"{found[0]:.0f} times" if found else NOT_MEASURED,
            "faster than a plain loop over all windows, for the same map of 10,000 MNIST images",
        ),
    ]


def headline_source():
    """Return the reStructuredText of the landing page's two figures."""
    source = [".. grid:: 1 2 2 2", "    :gutter: 3", ""]
    for figure, text in headlines():
        source += ["    .. grid-item-card::", "        :link: benchmarks"]
        source += ["        :link-type: doc", "        :text-align: center", ""]
        source += [f"        **{figure}**", "", f"        {text}", ""]
    return source


def machines():
    """Return the processors, versions and commits that the rows of all results name."""
    rows = [row for path in sorted(RESULTS.glob("*.json")) for row in read(path.stem)]
    rows = [row for row in rows if "machine" in row]
    if not rows:
        return f"Machine and versions: {NOT_MEASURED}."
    processors = {f"{r['machine']['processor']} ({r['machine']['cores']} cores)" for r in rows}
    versions = {", ".join(f"{k} {v}" for k, v in row["versions"].items()) for row in rows}
    commits = {row["commit"] for row in rows}
    return (
        f"Machine: {'; '.join(sorted(processors))}. Versions: {'; '.join(sorted(versions))}. "
        f"Commits: {', '.join(sorted(commits))}."
    )


def readme_block():
    """Return the README's part: the two figures that say most, in Markdown."""
    return "\n".join(["", *(f"- **{figure}** {text}." for figure, text in headlines()), ""])


def with_results(text):
    """Return the README's text with its part written anew."""
    before, rest = text.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    return f"{before}{MARKS[0]}\n{readme_block()}\n{MARKS[1]}{after}"


def _grouped(rows, key):
    groups = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _titled(table):
    """Return a table whose first column names contestants as the figures do."""
    header, body = table
    return header, [[LABELS.get(cells[0], cells[0]), *cells[1:]] for cells in body]


def _name(hidden):
    return "-".join(map(str, hidden))


def _escape(cell):
    if cell == "-":  # which would be an empty list
        return r"\-"
    return re.sub(r"([*`|_\\])", r"\\\1", cell)


def main(argv=None):
    """Write the README's part, or print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--readme", action="store_true", help="write it into the README")
    if parser.parse_args(argv).readme:
        text = README.read_text(encoding="utf-8")
        README.write_text(with_results(text), encoding="utf-8")
    else:
        print(readme_block())


if __name__ == "__main__":
    main()
