"""
How should the label enter the network?
=======================================

The input of a Forward-Forward network is an image together with a label. The label can be part of
the input, in place of the first pixels (``overlay="replace"``, as in the papers) or next to the
pixels (``overlay="append"``). Then all layers but the first run once per label. If the label enters
at every layer (``overlay="layerwise"``, the default of :class:`~skff.FFClassifier`), one pass
serves all labels. This example compares the cost and the error of the three overlays.
"""

# %%
# Three overlays, three seeds
# ---------------------------
# Each network has three layers of 100 units and learns one half of scikit-learn's digits. All other
# parameters have their default values.
from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skff import FFClassifier

OVERLAYS = ["layerwise", "append", "replace"]
X, y = load_digits(return_X_y=True)
errors, fit_seconds, predict_seconds = ({name: [] for name in OVERLAYS} for _ in range(3))
for seed in range(3):
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.5, stratify=y, random_state=seed
    )
    many = np.tile(X_test, (5, 1))
    for overlay in OVERLAYS:
        ff = FFClassifier((100, 100, 100), overlay=overlay, max_iter=15, random_state=seed)
        start = perf_counter()
        ff.fit(X_train, y_train)
        fit_seconds[overlay].append(perf_counter() - start)
        start = perf_counter()
        ff.predict(many)
        predict_seconds[overlay].append(perf_counter() - start)
        errors[overlay].append(100 * (1 - ff.score(X_test, y_test)))

# %%
# There is one dot per seed, and a bar at the mean.
figures = {
    "test error (%)": errors,
    "seconds to fit": fit_seconds,
    f"seconds to predict {len(many):,} images": predict_seconds,
}
fig, axes = plt.subplots(1, 3, figsize=(10.5, 2.8), sharey=True, layout="constrained")
for ax, (label, by_overlay) in zip(axes, figures.items(), strict=True):
    for height, overlay in enumerate(OVERLAYS):
        values = by_overlay[overlay]
        ax.plot(values, [height] * len(values), "o", color=f"C{height}", alpha=0.5)
        ax.plot(np.mean(values), height, "|", color=f"C{height}", ms=20, mew=2)
    ax.set_xlim(0)
    ax.set_xlabel(label)
    ax.grid(axis="x", alpha=0.3)
axes[0].set_yticks(range(3), OVERLAYS)
axes[0].set_ylim(2.5, -0.5)
fig.suptitle("Three layers of 100 units, scikit-learn's digits")
plt.show()

# %%
# What was found
# --------------
for overlay in OVERLAYS[1:]:
    slower = np.median(predict_seconds[overlay]) / np.median(predict_seconds["layerwise"])
    more = np.mean(errors[overlay]) - np.mean(errors["layerwise"])
    print(
        f"overlay={overlay!r} takes {slower:.1f} times as long as 'layerwise' to predict, and has "
        f"{abs(more):.2f} points of error {'more' if more > 0 else 'less'}."
    )
