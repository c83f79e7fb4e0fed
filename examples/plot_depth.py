"""
What does each layer know?
==========================

Every layer of a Forward-Forward network computes a goodness for each label, so it can classify on
its own. This example measures the error of each layer of a deep network, for two ways in which the
label can enter: at every layer (``overlay="layerwise"``, the default of
:class:`~skff.FFClassifier`) or with the input only (``overlay="append"``, close to the papers).
"""

# %%
# Two networks per seed
# ---------------------
# The networks have five layers of 100 units. They are trained on one half of scikit-learn's digits
# and tested on the other. A layer predicts the label with the highest goodness in that layer; the
# network predicts from the sum over the layers.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skff import FFClassifier

DEPTH, SEEDS = 5, range(3)
OVERLAYS = {"layerwise": "at every layer", "append": "with the input only"}

X, y = load_digits(return_X_y=True)


def test_errors(overlay, seed):
    """Return the test errors (%) of each layer alone, and of the sum up to each layer."""
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.5, stratify=y, random_state=seed
    )
    sizes = (100,) * DEPTH
    ff = FFClassifier(sizes, overlay=overlay, batch_size=64, max_iter=30, random_state=seed)
    alone = ff.fit(X_train, y_train).layer_goodness(X_test)  # (n_layers, n_samples, n_classes)
    return [
        100 * (ff.classes_[goodness.argmax(axis=2)] != y_test).mean(axis=1)
        for goodness in (alone, alone.cumsum(axis=0))
    ]


# Arrays of shape (n_seeds, 2, n_layers)
errors = {overlay: np.array([test_errors(overlay, seed) for seed in SEEDS]) for overlay in OVERLAYS}

# %%
# Errors by depth
# ---------------
# There is one dot per seed, and a line through the means. The error axis is logarithmic.
layers = np.arange(1, DEPTH + 1)
titles = ["goodness of the layer alone", "sum of the goodness up to the layer"]
fig, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True, layout="constrained")
for color, (overlay, where) in enumerate(OVERLAYS.items()):
    style = {"color": f"C{color}"}
    for ax, by_seed in zip(axes, errors[overlay].swapaxes(0, 1), strict=True):
        ax.plot(layers, by_seed.mean(axis=0), label=f"label {where}", linewidth=2, **style)
        ax.plot(np.tile(layers, len(by_seed)), by_seed.ravel(), "o", alpha=0.5, **style)
for ax, title in zip(axes, titles, strict=True):
    ax.set(title=title, xlabel="layer", xticks=layers, yscale="log", ylim=(1, 100))
    ax.set_yticks([1, 2, 5, 10, 20, 50, 100], labels=[1, 2, 5, 10, 20, 50, 100])
    ax.minorticks_off()
    ax.grid(axis="y", alpha=0.3)
axes[0].set_ylabel("test error (%, log scale)")
axes[0].legend(fontsize=10)
fig.suptitle(f"Five layers of 100 units, scikit-learn's digits, {len(SEEDS)} seeds")
plt.show()

# %%
# What the figure shows
# ---------------------
# If the label enters only with the input, the activities that reach the upper layers are already
# separated by label, so these layers have less and less to learn from. With the label at every
# layer, the activities passed on are the same for all labels, and each layer compares the labels
# again. In numbers:
for overlay, where in OVERLAYS.items():
    alone, sums = errors[overlay].mean(axis=0)
    verdict = "about as much as" if alone[-1] < 1.5 * alone[0] else "less than"
    print(
        f"Label {where}: layer {DEPTH} knows {verdict} layer 1 (test errors {alone[-1]:.1f} % and "
        f"{alone[0]:.1f} %); the sum of all layers has {sums[-1]:.1f} %."
    )
best = min(OVERLAYS, key=lambda overlay: errors[overlay][:, 1, -1].mean())
print(f"The network with the label {OVERLAYS[best]} has the lower test error.")
