"""Figures and tables of training on several processes, and of the model of its costs.

What the model says beyond what was measured is an extrapolation, and the figure's title says so.
"""

import matplotlib.pyplot as plt
from _cost_model import Link, Work, backprop_pipeline, data_parallel, layer_parallel, one_process
from bench_distributed import calibrate, comparison, medians, predicted
from matplotlib import ticker

COLORS = {"ff-data": "#2f8fdd", "ff-layers": "#1fa79b", "backprop-data": "#d9534f"}
COLORS |= {"pipeline": "#e08a1e", "ff": "#2f8fdd", "backprop": "#d9534f"}
LABELS = {
    "ff": "Forward-Forward, one process",
    "backprop": "backprop, one process",
    "ff-data": "Forward-Forward by rows",
    "ff-layers": "Forward-Forward by layers",
    "backprop-data": "backprop by rows",
    "pipeline": "backprop by layers, in a pipeline of 4 parts",
}
GREY = "#7a7a7a"
# Bits per second and seconds of latency of the links that the extrapolation assumes.
LINKS = {"1 Gb/s": (1e9, 100e-6), "10 Gb/s": (1e10, 50e-6), "100 Gb/s": (1e11, 10e-6)}
NODES = [1, 2, 4, 8, 16]
DEEP = (784, *[1000] * 16)  # the network of the extrapolation
N_SAMPLES, N_CLASSES = 256, 10


def tables(rows):
    """Return the table of what was measured beside what the model predicts."""
    return [("Training on two processes, measured and predicted", *comparison(rows))]


def speed(rows):
    """Draw the speed of two processes over that of one: measured, and as the model predicts."""
    rates, links = calibrate(rows)
    timed = medians([row for row in rows if row["contestant"] in LABELS])
    networks = list(dict.fromkeys(tuple(row["hidden"]) for row, _ in timed))
    figure, axes = _panels(len(networks))
    for hidden, ax in zip(networks, axes, strict=True):
        own = [(row, seconds) for row, seconds in timed if tuple(row["hidden"]) == hidden]
        one = {
            (row["contestant"], row["batch_size"]): (seconds, predicted(row, rates, links))
            for row, seconds in own
            if row["processes"] == 1
        }
        for name in ("ff-data", "ff-layers", "backprop-data"):
            points = sorted(
                (row["batch_size"], seconds, predicted(row, rates, links))
                for row, seconds in own
                if row["contestant"] == name
            )
            rule = name.split("-")[0]
            sizes = [size for size, _, _ in points]
            measured = [one[rule, size][0] / seconds for size, seconds, _ in points]
            modelled = [one[rule, size][1] / seconds for size, _, seconds in points]
            ax.plot(sizes, measured, "o-", color=COLORS[name], label=LABELS[name])
            ax.plot(sizes, modelled, "x:", color=COLORS[name], alpha=0.8)
        ax.axhline(1, color=GREY, linestyle="--", lw=1)
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.xaxis.set_minor_locator(ticker.NullLocator())
        ax.set(title="-".join(map(str, hidden)), xlabel="samples in a batch")
    axes[0].set_ylabel("speed over one process")
    _legend(figure, axes, title="measured (dots), predicted (crosses)")
    return figure


def check(rows):
    """Draw the milliseconds of a batch that the model predicts against those measured."""
    rates, links = calibrate(rows)
    figure, ax = plt.subplots(figsize=(5.6, 4.8), layout="constrained")
    both = []
    for name, label in LABELS.items():
        own = medians([row for row in rows if row["contestant"] == name])
        points = [(1e3 * seconds, 1e3 * predicted(row, rates, links)) for row, seconds in own]
        if points:
            fitted = name in ("ff", "backprop")
            marker = {"marker": "s" if fitted else "o", "mfc": "none" if fitted else COLORS[name]}
            label = f"{label} (fitted)" if fitted else label
            ax.loglog(
                *zip(*points, strict=True), ls="none", color=COLORS[name], label=label, **marker
            )
            both += [value for point in points for value in point]
    ends = [min(both), max(both)]
    ax.plot(ends, ends, ":", color=GREY)
    ax.set(xlabel="measured, ms per batch", ylabel="predicted, ms per batch")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.legend(fontsize="small")
    return figure


def nodes(rows):
    """Draw what the model says of many nodes: an extrapolation."""
    rates, links = calibrate(rows)
    figure, axes = _panels(len(LINKS))
    for (title, (bits, latency)), ax in zip(LINKS.items(), axes, strict=True):
        for name, speeds in extrapolate(rates, links, bits, latency).items():
            ax.loglog(NODES, speeds, ".-", color=COLORS[name], label=LABELS[name])
        ax.plot(NODES, NODES, ":", color=GREY)
        ax.set_xticks(NODES, [str(n) for n in NODES])
        ax.xaxis.set_minor_locator(ticker.NullLocator())
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
        ax.set(title=f"extrapolated, {title}", xlabel="nodes")
    axes[0].set_ylabel("speed over one node")
    _legend(figure, axes)
    return figure


def extrapolate(rates, links, bits, latency):
    """Return the model's speed over one node, for each number of nodes, by way of training.

    A message takes the link's latency and its bits per second; beside it the processor copies it,
    at the rate that was measured between two processes of one machine.
    """
    link, copy = Link(latency, 8 / bits), links["send"]
    ring = Link(latency, 8 / bits + copy.per_byte)
    ff, backprop = (Work(rule, DEEP, N_SAMPLES, N_CLASSES) for rule in ("ff", "backprop"))
    ways = {
        "ff-data": lambda n: data_parallel(rates["ff"], ring, ff, n),
        "ff-layers": lambda n: layer_parallel(rates["ff"], link, ff, n, copy=copy),
        "backprop-data": lambda n: data_parallel(rates["backprop"], ring, backprop, n),
        "pipeline": lambda n: backprop_pipeline(rates["backprop"], link, backprop, n, copy=copy),
    }
    alone = {"ff": one_process(rates["ff"], ff)}
    alone["backprop"] = one_process(rates["backprop"], backprop)
    return {
        name: [
            alone["ff" if name.startswith("ff") else "backprop"] / seconds(n) if n > 1 else 1.0
            for n in NODES
        ]
        for name, seconds in ways.items()
    }


def _panels(n_panels):
    size = (4.2 * n_panels, 3.6)
    figure, axes = plt.subplots(
        1, n_panels, figsize=size, squeeze=False, sharey=True, layout="constrained"
    )
    return figure, axes[0]


def _legend(figure, axes, **settings):
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=2, fontsize="small", **settings
    )
