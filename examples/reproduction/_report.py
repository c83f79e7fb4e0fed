"""Tables, files and one page that needs nothing else."""

import base64
import csv
import html
import io
import statistics

import _figures as figures
import matplotlib
import matplotlib.pyplot as plt
from _plan import CONTESTANTS
from _results import write_rows
from _verdicts import NAMES, select, verdicts

CHANGES = [
    ("label", "in the first ten pixels", "a unit per label beside the inputs of every layer"),
    ("negatives", "one wrong label, drawn at random", "all wrong labels at once, by cross-entropy"),
    ("layers", "one after another", "together: each sees the one below as it learns"),
    ("features", "as they are", "mean subtracted, some dropped at random"),
    ("optimizer", "not stated; here AdamW on batches", "AdamW on batches, rate falling to 0"),
    ("prediction", "one pass per label", "one pass for all labels"),
]
WHY = [
    "the first pixels may hold data, and upper layers see the label only through the lower ones",
    "a layer learns most from the wrong labels that it believes",
    "no layer waits, and no epoch is spent on a layer that is finished",
    "what all images share says nothing about their class",
    "an epoch is hundreds of small steps, and the last ones settle",
    "ten times fewer products",
]


def collect(store, plan, datasets):
    """Return the results of all finished tasks as rows."""
    tasks = plan.tasks(datasets)
    found = [(name, arguments, store.read(name, **arguments)) for name, arguments in tasks]
    return [{"task": n, **arguments, **result} for n, arguments, result in found if result]


def write_report(store, plan, datasets):
    """Write results, tables, figures and the page; return the page's path."""
    rows = collect(store, plan, datasets)
    write_rows(store.folder / "results.json", rows)
    tables = {data: contestants_table(rows, data) for data in datasets}
    for data, table in tables.items():
        with open(store.folder / f"{data}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table)
    pictures = _draw_all(rows, datasets, store.folder)
    page = store.folder / "report.html"
    page.write_text(_page(rows, tables, pictures, datasets), encoding="utf-8")
    return page


def contestants_table(rows, data):
    """Return the header and a line per contestant: the table behind "competes with an MLP"."""
    header = ["trained by", "test error % (range)", "seeds", "seconds to fit"]
    header += ["deletion area", "random orders", "rank correlation with the paper's map"]
    lines = [header]
    (compared,) = select(rows, task="compare", data=data)
    correlation = {p["second"]: p for p in compared["pairs"] if p["first"] == "paper"}
    for name, title in CONTESTANTS.items():
        runs = select(rows, task="train", data=data, contestant=name)
        errors = [run["error"] for run in runs]
        (explained,) = select(rows, task="explain", data=data, contestant=name)
        pair = correlation.get(name)
        lines.append(
            [
                title,
                f"{statistics.fmean(errors):.2f} ({min(errors):.2f} to {max(errors):.2f})",
                str(len(errors)),
                f"{statistics.median(run['seconds'] for run in runs):.0f}",
                f"{explained['deletion_area']:.3f}",
                f"{statistics.fmean(explained['random_areas']):.3f}",
                "-"
                if pair is None
                else f"{pair['rank_correlation']:.2f} "
                f"[{pair['interval'][0]:.2f}, {pair['interval'][1]:.2f}]",
            ]
        )
    return lines


def verdict_table(rows, data):
    """Return the header and a line per claim of the paper."""
    lines = [["the paper says", "where", "verdict", "found here"]]
    return lines + [[v.claim, v.where, v.verdict, v.found] for v in verdicts(rows, data)]


def changes_table():
    """Return what skff's default does otherwise, and why."""
    lines = [["", "the paper's rule", "skff's default", "why"]]
    return lines + [[*change, why] for change, why in zip(CHANGES, WHY, strict=True)]


def about(rows):
    """Return what a reader needs to judge the results: sizes, seeds, versions, machines."""
    seeds = sorted({row["seed"] for row in select(rows, task="train")})
    facts = {"sizes": str(rows[0]["sizes"]), "seeds": ", ".join(map(str, seeds))}
    for name in ("versions", "machine", "commit"):
        facts[name] = "; ".join(sorted({str(row[name]) for row in rows}))
    return facts | {"days": ", ".join(sorted({row["date"][:10] for row in rows}))}


def _draw_all(rows, datasets, folder):
    drawn = {
        "figure_1": lambda: figures.labelled_samples(rows),
        "figures_2_3": lambda: figures.losses(rows),
        "errors": lambda: figures.errors(rows),
    }
    for data, number in zip(datasets, ("figure_4", "figure_5"), strict=False):
        drawn[f"{number}_classes"] = lambda data=data: figures.class_maps(rows, data)
        drawn[f"{number}_images"] = lambda data=data: figures.image_maps(rows, data)
        drawn[f"maps_{data}"] = lambda data=data: figures.all_maps(rows, data)
    if select(rows, task="curve"):
        drawn["epochs"] = lambda: figures.epochs_curve(rows)
    pictures = {}
    with matplotlib.rc_context({"savefig.facecolor": "white"}):
        for name, draw in drawn.items():
            figure = draw()
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=110)
            plt.close(figure)
            pictures[name] = buffer.getvalue()
            (folder / f"{name}.png").write_bytes(buffer.getvalue())
    return pictures


STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #8886; padding: .3rem .6rem; text-align: left; }
td { vertical-align: top; }
@media (max-width: 600px) { td:last-child { min-width: 16rem; } }
img { max-width: 100%; height: auto; background: white; }
figure { margin: 1.5rem 0; } figcaption { color: #777; } code { overflow-wrap: anywhere; }
"""


def _page(rows, tables, pictures, datasets):
    sizes = rows[0]["sizes"]
    names = " and ".join(NAMES[data] for data in datasets)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>Bakhshi (2024), figure by figure</title><style>{STYLE}</style></head><body>",
        f"<h1>Bakhshi (2024), figure by figure: {names}</h1>",
        "<p>M. Bakhshi, <em>Novel Saliency Analysis for the Forward-Forward Algorithm</em>, "
        "<a href='https://arxiv.org/abs/2409.15365'>arXiv:2409.15365</a>, with its own rule: "
        "layers trained one after another by the logistic loss on positive and negative samples, "
        "the label in the first ten pixels.</p>",
    ]
    for data in datasets:
        parts += [f"<h2>The paper's claims on {NAMES[data]}</h2>"]
        parts += [_html_table(verdict_table(rows, data))]
    parts += ["<h2>Figure 1: positive and negative samples</h2>"]
    parts += [_picture(pictures, "figure_1", "Above with the true label, below with a wrong one.")]
    parts += ["<h2>Figures 2 and 3: the loss of each layer</h2>"]
    caption = "Mean over the seeds, the band from the lowest to the highest. Layer 2 starts when "
    parts += [_picture(pictures, "figures_2_3", caption + "layer 1 is finished.")]
    for data, number in zip(datasets, ("figure_4", "figure_5"), strict=False):
        title = number.replace("_", " ").capitalize()
        parts += [f"<h2>{title}: Accuracy Differential Saliency over {NAMES[data]}</h2>"]
        whole = f"hiding {sizes['window']} x {sizes['window']} pixels around each pixel"
        caption = f"Share of a class's test images lost by {whole}."
        parts += [_picture(pictures, f"{number}_classes", caption)]
        caption = f"Single images, the least sure ones recognized: log-likelihood lost by {whole}."
        parts += [_picture(pictures, f"{number}_images", caption)]
        parts += [_picture(pictures, f"maps_{data}", "The whole test set, every network.")]
    parts += ["<h2>Does it compete with an MLP?</h2>"]
    parts += [_picture(pictures, "errors", "A dot per seed, a bar at the mean.")]
    for data, table in tables.items():
        parts += [f"<h3>{NAMES[data]}</h3>", _html_table(table)]
    if "epochs" in pictures:
        caption = "One seed; the band is two binomial standard errors of the test set."
        parts += ["<h2>Towards 5,000 epochs</h2>", _picture(pictures, "epochs", caption)]
    parts += ["<h2>What skff changed, and why</h2>", _html_table(changes_table())]
    parts += ["<h2>Settings</h2>"]
    for name, text in about(rows).items():
        parts += [f"<p>{name}: <code>{html.escape(text)}</code></p>"]
    return "\n".join([*parts, "</body></html>"])


def _picture(pictures, name, caption):
    data = base64.b64encode(pictures[name]).decode()
    text = html.escape(caption)
    image = f"<img alt='{text}' src='data:image/png;base64,{data}'>"
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _html_table(lines):
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    return "<table>" + line(lines[0], "th") + "".join(line(c, "td") for c in lines[1:]) + "</table>"
