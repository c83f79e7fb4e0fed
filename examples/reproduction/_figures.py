"""The figures of the reproduction, each drawn from rows of results."""

import matplotlib.pyplot as plt
import numpy as np
from _plan import CONTESTANTS
from _verdicts import flat_from, select
from matplotlib import ticker

from skff import ADSDisplay

TITLES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "digits": "digits"}
CLOTHES = ["T-shirt", "trousers", "pullover", "dress", "coat"]
CLOTHES += ["sandal", "shirt", "sneaker", "bag", "ankle boot"]
COLORS = dict(
    zip(CONTESTANTS, ["#2f8fdd", "#1fa79b", "#8f9a3c", "#a779d0", "#d9534f"], strict=True)
)
LAYER_COLORS = ["#2f8fdd", "#e08a1e"]


def datasets(rows):
    """Return the data sets among the rows, in their order."""
    return list(dict.fromkeys(row["data"] for row in rows))


def labelled_samples(rows):
    """Draw images with their own and with a wrong label in the first ten pixels (Figure 1)."""
    names = datasets(rows)
    figure, axes = plt.subplots(
        2, 4 * len(names), figsize=(5 * len(names), 3.4), layout="constrained", squeeze=False
    )
    for k, data in enumerate(names):
        (row,) = select(rows, task="samples", data=data)
        pairs = zip(axes, row["pictures"], row["labels"], ("positive", "negative"), strict=True)
        for row_of_axes, pictures, labels, kind in pairs:
            own = row_of_axes[4 * k : 4 * k + 4]
            for ax, picture, label in zip(own, pictures, labels, strict=True):
                ax.imshow(_square(picture), cmap="gray", vmin=0, vmax=1)
                ax.set_title(f"{kind}:\n{name_of(data, label)}", fontsize=11)
                _no_ticks(ax)
    return figure


def losses(rows):
    """Draw the loss of each layer, layer after layer on one axis of time (Figures 2 and 3)."""
    names = datasets(rows)
    figure, axes = _panels(len(names))
    for data, ax in zip(names, axes, strict=True):
        runs = select(rows, task="train", data=data, contestant="paper")
        start = 0
        for layer, color in enumerate(LAYER_COLORS):
            curves = np.array([_loss_of_layer(run, layer) for run in runs])
            epochs = start + np.arange(1, curves.shape[1] + 1)
            ax.plot(epochs, curves.mean(axis=0), color=color, label=f"layer {layer + 1}")
            ax.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=color, alpha=0.25)
            start = epochs[-1]
        ax.set(
            title=TITLES[data], xlabel="epoch, layer after layer", ylabel="mean loss of the layer"
        )
        ax.set_ylim(0)
        ax.legend()
    return figure


def class_maps(rows, data):
    """Draw the paper network's map of each class over the class's mean image (Figures 4, 5)."""
    (row,) = select(rows, task="explain", data=data, contestant="paper")
    (images,) = select(rows, task="images", data=data)
    return _grid_of_maps(
        row["per_class"],
        [name_of(data, label) for label in row["classes"]],
        images["means"],
        "accuracy drop in the class",
    )


def image_maps(rows, data):
    """Draw the paper network's map of single images (Figures 4, 5)."""
    (row,) = select(rows, task="images", data=data)
    names = [name_of(data, label) for label in row["labels"]]
    return _grid_of_maps(row["maps"], names, row["pictures"], "drop of log-likelihood (nats)")


def all_maps(rows, data):
    """Draw every contestant's map of the whole test set, on one scale."""
    found = {row["contestant"]: row for row in select(rows, task="explain", data=data)}
    (images,) = select(rows, task="images", data=data)
    mean = np.mean(images["means"], axis=0)
    size = (2.1 * len(found), 2.6)
    figure, axes = plt.subplots(1, len(found), figsize=size, layout="constrained")
    maps = [np.array(row["importances"]) for row in found.values()]
    names = [CONTESTANTS[name].replace(", ", ",\n") for name in found]
    display = ADSDisplay(maps, names=names, units="accuracy drop")
    display.plot(ax=axes, image=[_square(mean)] * len(maps))
    for ax in axes:
        _no_ticks(ax)
        ax.title.set_fontsize(10)
    return figure


def errors(rows):
    """Draw a dot per seed and a bar at the mean of each contestant's test error."""
    names = datasets(rows)
    figure, axes = _panels(len(names), sharey=True)
    for data, ax in zip(names, axes, strict=True):
        for height, contestant in enumerate(CONTESTANTS):
            found = select(rows, task="train", data=data, contestant=contestant)
            values = [row["error"] for row in found]
            ax.plot(values, [height] * len(values), "o", color=COLORS[contestant], alpha=0.6)
            ax.plot(np.mean(values), height, "|", color=COLORS[contestant], ms=20, mew=2)
        ax.set_yticks(range(len(CONTESTANTS)), CONTESTANTS.values())
        ax.set_ylim(len(CONTESTANTS) - 0.5, -0.5)
        ax.set(title=TITLES[data], xlabel="test error in percent")
    return figure


def epochs_curve(rows):
    """Draw the error of the paper's rule against the epochs per layer, and where it is flat."""
    names = datasets(select(rows, task="curve"))
    figure, axes = _panels(len(names))
    for data, ax in zip(names, axes, strict=True):
        points = select(rows, task="curve", data=data)
        epochs = [point["epochs"] for point in points]
        values = np.array([point["error"] for point in points])
        band = 2 * np.sqrt(values * (100 - values) / points[0]["n_test"])
        ax.fill_between(epochs, values - band, values + band, color=LAYER_COLORS[0], alpha=0.2)
        ax.plot(epochs, values, "o-", color=LAYER_COLORS[0])
        flat = flat_from(points)
        if flat is not None:
            label = f"flat from {flat} to {epochs[-1]} epochs"
            ax.axvline(flat, color=LAYER_COLORS[1], ls="--", label=label)
            ax.legend()
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        ax.set(title=TITLES[data], xlabel="epochs per layer", ylabel="test error in percent")
        ax.set_ylim(0)
    return figure


def name_of(data, label):
    """Return the name of a label: that of the garment for Fashion-MNIST."""
    return CLOTHES[label] if data == "fashion-mnist" else str(label)


def _grid_of_maps(maps, names, pictures, units):
    figure, axes = plt.subplots(2, 5, figsize=(11, 4.9), layout="constrained")
    display = ADSDisplay([np.array(one) for one in maps], names=names, units=units)
    display.plot(ax=axes, image=[_square(picture) for picture in pictures])
    for ax in axes.flat:
        _no_ticks(ax)
        ax.title.set_fontsize(10)
    return figure


def _loss_of_layer(run, layer):
    return [record["loss"][0] for record in run["history"] if record["layers"] == [layer]]


def _panels(n, **keywords):
    figure, axes = plt.subplots(
        1, n, figsize=(5.2 * n, 3.6), layout="constrained", squeeze=False, **keywords
    )
    return figure, axes[0]


def _square(picture):
    picture = np.asarray(picture)
    side = int(np.sqrt(picture.size))
    return picture.reshape(side, side)


def _no_ticks(ax):
    ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
