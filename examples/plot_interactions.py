"""
Are two regions of a digit redundant?
=====================================

A map of Accuracy Differential Saliency (ADS) hides one window at a time. If two windows carry the
same information, both can then seem unimportant; if two windows are only useful together, their
joint effect counts twice. The interaction of two windows is the accuracy drop for hiding both minus
the sum of their separate drops. It is positive if they are redundant, and negative if they work
together.
"""

# %%
# A network and its map
# ---------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skff import ADSExplainer, FFClassifier
from skff.saliency import interactions

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    (X / 16).astype(np.float32), y, test_size=0.4, stratify=y, random_state=0
)
ff = FFClassifier((100, 100), max_iter=10, random_state=0).fit(X_train, y_train)
print(f"test accuracy {ff.score(X_test, y_test):.4f}")

# %%
# The windows are tiles of 2 x 2 pixels, which do not overlap.
explainer = ADSExplainer(ff, window_shape=2, stride=2, aggregate="coverage")
pairs = interactions(explainer, X_test, y_test, top_k=10)
print(pairs.to_frame().head(3).round(4).to_string(index=False))

# %%
# The matrix
# ----------
# Stars mark the pairs whose interaction differs significantly from 0, at a false discovery rate of
# 5 %. Lines in the map on the other side join the strongest of them: red if the two tiles are
# redundant, blue if they work together or are essential for the same samples.
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
explainer.explain(X_test, y_test).plot(X_test.mean(axis=0), ax=left)
pairs.plot(significance=0.05, ax=right)
marked = pairs.significant(0.05)
strength = np.where(np.triu(marked), np.abs(pairs.matrix), 0)
for k in np.argsort(-strength, axis=None)[:8]:
    w, v = np.unravel_index(k, strength.shape)
    if strength[w, v] > 0:
        rows, columns = pairs.centers[[w, v]].T
        color = "tab:red" if pairs.matrix[w, v] > 0 else "tab:blue"
        left.plot(columns, rows, "o-", color=color, linewidth=2, markersize=5)
left.set_title("accuracy drop of each tile, strongest pairs")
right.set_title("interactions of the tiles")
plt.show()

# %%
# What was found
# --------------
interaction = pairs.matrix[np.triu_indices(len(pairs.matrix), 1)]
distance = np.linalg.norm(pairs.centers[:, None] - pairs.centers, axis=-1)
distance = distance[np.triu_indices(len(pairs.matrix), 1)]
n_marked = np.triu(marked).sum()
n_redundant = np.triu(marked & (pairs.matrix > 0)).sum()
print(f"{n_marked} of {len(interaction)} pairs interact; {n_redundant} of these are redundant.")
near, far = interaction[distance <= 3].mean(), interaction[distance > 3].mean()
print(f"Mean interaction of adjacent tiles: {near:+.4f}, of tiles further apart: {far:+.4f}.")
print(
    "Hiding two tiles costs "
    + ("more" if interaction.mean() > 0 else "less")
    + " on average than their accuracy drops add up to, so a map of single tiles "
    + ("understates" if interaction.mean() > 0 else "overstates")
    + " what larger regions carry."
)
