"""Figures of the benchmark page: each function draws rows of results and returns a figure.

Colours and lines are legible on a light and on a dark page, and the background is transparent.
"""

import itertools
import statistics
from functools import partial

import _figures as paper
import distributed_figures
import matplotlib.pyplot as plt
import numpy as np
from _summary import by_contestant, one_per_seed
from matplotlib import ticker

GREY = "#6a6a6a"
STYLE = {
    **dict.fromkeys(["text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color"], GREY),
    **dict.fromkeys(["ytick.color", "axes.titlecolor", "grid.color"], GREY),
    **dict.fromkeys(["figure.facecolor", "axes.facecolor", "savefig.facecolor"], "none"),
    "legend.frameon": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "svg.hashsalt": "skff",  # the same file from the same results
}
COLORS = {
    "ff": "#2f8fdd",
    "ff-default": "#1fa79b",
    "ff-input": "#e08a1e",
    "torch-lean": "#d9534f",
    "skorch": "#a779d0",
    "sklearn": "#8f9a3c",
}
LABELS = {
    "ff": "Forward-Forward",
    "ff-default": "Forward-Forward, nothing set",
    "ff-input": "Forward-Forward, label with the input",
    "torch-lean": "backprop, plain torch loop",
    "skorch": "backprop, skorch",
    "sklearn": "backprop, scikit-learn",
}
TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "digits": "digits"}
TWO_LAYERS = [500, 500]
N_BINS = 15
HINTONS_ERROR = 1.36  # percent, of four layers of 2,000 units after 60 epochs


def save(draw, rows, path):
    """Draw rows in the page's style and write the figure to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        figure = draw(rows)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def error_per_seed(rows):
    """Draw a dot per seed and a bar at the mean: a row of panels per network, one per data set."""
    sizes = [hidden for hidden in _sizes(rows) if len(hidden) <= 3]
    figure, axes = _panels(len(sizes), _datasets(rows))
    for hidden, row_of_axes in zip(sizes, axes, strict=True):
        for data, ax in zip(_datasets(rows), row_of_axes, strict=True):
            own = _select(rows, data=data, hidden=hidden)
            _dots_per_seed(ax, own)
            ax.set(title=f"{TITLES[data]}, {_name(hidden)}", xlabel="test error in percent")
    return figure


def _dots_per_seed(ax, rows):
    groups = _drawn(rows)
    for height, (name, own) in enumerate(groups.items()):
        errors = [row["error"] for row in one_per_seed(own)]
        ax.plot(errors, [height] * len(errors), "o", color=COLORS[name], alpha=0.6, ms=5)
        ax.plot(statistics.fmean(errors), height, "|", color=COLORS[name], ms=18, mew=2)
    ax.set_yticks(range(len(groups)), [LABELS[name] for name in groups])
    ax.set_ylim(len(groups) - 0.5, -0.5)


def error_against_time(rows):
    """Draw the median error after each epoch against the median seconds of training."""
    rows = [row for row in rows if row["timed"] and row["curve"] and row["hidden"] == TWO_LAYERS]
    threads = min((row["threads"] for row in rows), default=1)
    rows = [row for row in rows if row["threads"] == threads]
    figure, axes = _panels(1, _datasets(rows))
    for data, ax in zip(_datasets(rows), axes[0], strict=True):
        for name, own in _drawn(_select(rows, data=data)).items():
            curve = median_curve([row["curve"] for row in own])
            ax.semilogy(*curve, ".-", color=COLORS[name], label=f"{LABELS[name]} ({len(own)})")
        ax.yaxis.set_major_locator(ticker.MaxNLocator(6))  # often less than a decade
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
        xlabel = f"seconds of training, {threads} thread{'s' * (threads > 1)}"
        ax.set(title=TITLES[data], xlabel=xlabel, ylabel="test error in percent")
    _legend(figure, axes, title="medians over (seeds)")
    return figure


def median_curve(curves):
    """Return the seconds and the error of each evaluated epoch, medians over the curves.

    Parameters
    ----------
    curves : list of list of dict
        Points with epoch, seconds and error. Epochs that not all curves have are left out.

    Returns
    -------
    seconds, errors : list of float
        One per epoch.
    """
    by_epoch = [{point["epoch"]: point for point in curve} for curve in curves]
    epochs = sorted(set.intersection(*map(set, by_epoch)))
    return [
        [statistics.median(points[epoch][key] for points in by_epoch) for epoch in epochs]
        for key in ("seconds", "error")
    ]


def error_against_depth(rows):
    """Draw the error of each layer of the deepest network, and of their sum; backprop dashed."""
    deepest = max((row["hidden"] for row in rows if row.get("layer_errors")), key=len)
    rows = _select(rows, hidden=deepest)
    figure, axes = _panels(1, _datasets(rows))
    for data, ax in zip(_datasets(rows), axes[0], strict=True):
        for name, own in _drawn(_select(rows, data=data)).items():
            if name in ("ff", "ff-input"):
                _layers(ax, name, one_per_seed(own))
            elif name == "torch-lean":
                error = statistics.fmean(row["error"] for row in one_per_seed(own))
                ax.axhline(error, color=COLORS[name], linestyle="--", label=LABELS[name])
        places = range(1, len(deepest) + 2)
        ax.set_xticks(places, [*map(str, places[:-1]), "sum"])
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
        ax.set(title=f"{TITLES[data]}, {_name(deepest)}", ylabel="test error in percent")
        ax.set_xlabel("layer whose goodness alone predicts")
    _legend(figure, axes)
    return figure


def _layers(ax, name, rows):
    errors = np.array([[*row["layer_errors"], row["sum_error"]] for row in rows])
    depth = errors.shape[1] - 1
    layers = np.arange(1, depth + 1)
    ax.plot(layers, errors[:, :-1].mean(axis=0), "-", color=COLORS[name], label=LABELS[name])
    ax.plot(layers, errors[:, :-1].T, "o", color=COLORS[name], alpha=0.6, ms=4)
    ax.plot([depth + 1] * len(errors), errors[:, -1], "D", color=COLORS[name], alpha=0.8, ms=5)


def reliability(rows):
    """Draw accuracy against confidence, pooled over the seeds; the dotted line is calibrated."""
    rows = [row for row in rows if row["bins"] and row["hidden"] == TWO_LAYERS]
    names = ["ff", "ff-default", "torch-lean"]
    figure, axes = _panels(1, _datasets(rows))
    for data, ax in zip(_datasets(rows), axes[0], strict=True):
        groups = _drawn(_select(rows, data=data))
        for name in [name for name in names if name in groups]:
            pooled = pool_bins([row["bins"] for row in one_per_seed(groups[name])])
            ax.plot(*pooled[:, :2].T, "o-", color=COLORS[name], label=LABELS[name], ms=4)
        ax.plot([0, 1], [0, 1], ":", color=GREY)
        ax.set(title=TITLES[data], xlabel="confidence", ylabel="accuracy")
    _legend(figure, axes)
    return figure


def pool_bins(runs):
    """Pool the reliability bins of several runs.

    Parameters
    ----------
    runs : list of list
        Mean confidence, accuracy and number of samples of each bin of each run.

    Returns
    -------
    pooled : ndarray of shape (n_bins, 3)
        The same of all runs together, for the bins that have samples.
    """
    sums = np.zeros((N_BINS, 3))
    for confidence, accuracy, count in (each for bins in runs for each in bins):
        index = min(int(confidence * N_BINS), N_BINS - 1)
        sums[index] += count * confidence, count * accuracy, count
    sums = sums[sums[:, 2] > 0]
    return np.column_stack([sums[:, :2] / sums[:, 2:], sums[:, 2]])


def hinton_curves(rows):
    """Draw the held-out error of both readouts of Hinton's recipe after some of the epochs."""
    rows = [row for row in rows if row["part"] == "curve" and len(row["curve"]) > 1]
    figure, axes = _panels(1, _datasets(rows))
    for data, ax in zip(_datasets(rows), axes[0], strict=True):
        for row, color in zip(_select(rows, data=data), itertools.cycle(COLORS.values())):
            epochs = [point["epoch"] for point in row["curve"]]
            for readout, style in {"head": "o-", "goodness": "s--"}.items():
                found = [point[readout] for point in row["curve"]]
                label = f"{_name(row['hidden'])}, {row['change']}: {readout}"
                ax.semilogy(epochs, found, style, color=color, label=label, ms=4)
        ax.axhline(HINTONS_ERROR, color=GREY, linestyle=":", label="the paper's test error")
        ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
        ax.set(title=TITLES[data], xlabel="epoch", ylabel="error in percent, held-out images")
    figure.set_size_inches(6.4 * len(axes[0]), 4.8)
    _legend(figure, axes, ncols=1)
    return figure


def ads_seconds(rows):
    """Draw the seconds of a full map, on a logarithmic axis, of each way to compute it."""
    rows = [row for row in rows if row["model"] == "ff"]
    figure, axes = _panels(1, _datasets(rows))
    windows = sorted({row["window"] for row in rows})
    for data, ax in zip(_datasets(rows), axes[0], strict=True):
        own = _select(rows, data=data)
        names = list(by_contestant(own))
        for window, marker in zip(windows, "osD^v", strict=False):
            found = _select(own, window=window)
            heights = [names.index(row["contestant"]) for row in found]
            seconds = [row["seconds_full"] for row in found]
            label = f"{window} x {window} pixels"
            ax.semilogx(seconds, heights, marker, color=COLORS["ff"], alpha=0.7, label=label)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.5, -0.5)
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))  # there may be one decade
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
        ax.set(title=TITLES[data], xlabel=f"seconds for all windows of {own[0]['samples']} images")
    _legend(figure, axes)
    return figure


def growth(rows):
    """Draw the time of an epoch against each size of data and network."""
    from bench_scaling import draw

    return draw(rows)


FIGURES = {
    "error_per_seed": ("training", error_per_seed),
    "error_against_time": ("training", error_against_time),
    "error_against_depth": ("training", error_against_depth),
    "reliability": ("training", reliability),
    "hinton_curves": ("hinton", hinton_curves),
    "ads_seconds": ("ads", ads_seconds),
    "growth": ("scaling", growth),
    "distributed_speed": ("distributed", distributed_figures.speed),
    "distributed_check": ("distributed", distributed_figures.check),
    "distributed_nodes": ("distributed", distributed_figures.nodes),
    "paper_samples": ("reproduction", paper.labelled_samples),
    "paper_losses": ("reproduction", paper.losses),
    "paper_errors": ("reproduction", paper.errors),
    "paper_epochs": ("reproduction", paper.epochs_curve),
    **{
        f"paper_{name}_{data}": ("reproduction", partial(draw, data=data))
        for data in ("mnist", "fashion-mnist")
        for name, draw in [
            ("classes", paper.class_maps),
            ("images", paper.image_maps),
            ("all", paper.all_maps),
        ]
    },
}


def _panels(n_rows, datasets):
    if not datasets or not n_rows:
        raise LookupError("no such rows")
    size = (5.2 * len(datasets), 3.4 * n_rows)
    return plt.subplots(n_rows, len(datasets), figsize=size, squeeze=False, layout="constrained")


def _legend(figure, axes, *, ncols=3, **settings):
    """Name each line once, below all panels, where it hides none of them."""
    named = {}
    for ax in axes.flat:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    figure.legend(
        named.values(), named, loc="outside lower center", ncols=ncols, fontsize="small", **settings
    )


def _drawn(rows):
    """Return contestant -> rows, of those that have a colour, in the order of the colours."""
    groups = by_contestant(rows)
    return {name: groups[name] for name in COLORS if name in groups}


def _datasets(rows):
    return [data for data in TITLES if any(row["data"] == data for row in rows)]


def _sizes(rows):
    return sorted({tuple(row["hidden"]) for row in rows}, key=len)


def _select(rows, **wanted):
    def matches(row, name, value):
        return list(row[name]) == list(value) if name == "hidden" else row[name] == value

    return [row for row in rows if all(matches(row, *item) for item in wanted.items())]


def _name(hidden):
    return "-".join(map(str, hidden))
