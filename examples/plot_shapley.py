"""
How much of the accuracy is due to each region?
===============================================

Hiding one region at a time shows what a network cannot replace. If two regions carry the same
information, neither gets credit for it. Shapley values divide the whole accuracy among the regions.
The value of a region is how much showing it raises the accuracy, averaged over all orders in which
the regions can be revealed. The values sum to the accuracy with everything shown minus the accuracy
with nothing shown.
"""

# %%
# A network
# ---------
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skff import ADSDisplay, ADSExplainer, FFClassifier
from skff.saliency import shapley

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    (X / 16).astype(np.float32), y, stratify=y, random_state=0
)
ff = FFClassifier((100, 100), max_iter=10, random_state=0).fit(X_train, y_train)
print(f"test accuracy {ff.score(X_test, y_test):.4f}")

# %%
# Tiles
# -----
# The regions are 16 tiles of 2 x 2 pixels. Their :math:`2^{16}` coalitions are too many to score,
# so random orders are drawn until the largest standard error is at most 5 % of the range of the
# values. Hidden pixels are replaced by their mean over the images.
explainer = ADSExplainer(
    ff,
    window_shape=2,
    stride=2,
    aggregate="coverage",
    fill="mean",
    engine="predict",
    max_samples=200,
    random_state=0,
)
values = shapley(explainer, X_test, y_test, tolerance=0.05, random_state=0)
print(f"{values.n_permutations} orders, {values.n_coalitions} coalitions scored")
print(f"largest standard error {values.standard_error.max():.4f}")

# %%
# For comparison, the second map shows the accuracy drops when the same tiles are hidden one at a
# time.
drops = explainer.explain(X_test, y_test)
display = ADSDisplay(
    [values.importances, drops.importances],
    names=["Shapley value", "accuracy drop, hidden alone"],
    units="accuracy",
).plot(image=X_test.mean(axis=0))
display.figure_.set_size_inches(8, 4)
display.figure_.suptitle("What each tile is due, and what it costs to hide")
plt.show()

# %%
# Rows
# ----
# With only eight rows of pixels, all 256 coalitions can be scored, so these values are exact.
explainer.set_params(groups={f"row {k}": np.arange(8 * k, 8 * k + 8) for k in range(8)})
rows = shapley(explainer, X_test, y_test)
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
width, places = 0.4, np.arange(8)
ax.bar(places - width / 2, rows.values, width, label="Shapley value")
alone = explainer.explain(X_test, y_test).window_importances
ax.bar(places + width / 2, alone, width, label="accuracy drop, hidden alone")
ax.set_xticks(places, rows.names)
ax.set_ylabel("accuracy")
fig.legend(loc="outside upper center", ncols=2)
plt.show()

# %%
# What was found
# --------------
carried = values.full_score - values.hidden_score
total = drops.window_importances.sum()
print(f"The tiles carry {carried:.3f} of accuracy, which is what the Shapley values sum to.")
print(f"The accuracy drops of single tiles sum to {total:.3f}.")
agreement = spearmanr(values.values, drops.window_importances).statistic
print(f"The rank correlation of the two over the tiles is {agreement:.2f}.")
hidden = 1 - total / carried
print(
    f"Hiding tiles one at a time leaves {hidden:.0%} of the accuracy unaccounted for: other tiles "
    "stand in for it."
    if hidden > 0
    else "The tiles are not redundant: the drops add up to more than the accuracy."
)
