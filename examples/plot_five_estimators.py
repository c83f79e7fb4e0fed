"""
Do five kinds of classifier look at the same pixels?
====================================================

Accuracy Differential Saliency (ADS) only needs the score of an estimator. It can therefore compare
a Forward-Forward network with a backprop network, a random forest, a support vector machine and
nearest neighbours, in the same unit.
"""

# %%
# Five classifiers
# ----------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skff import ADSDisplay, ADSExplainer, FFClassifier
from skff.mlp_baselines import sklearn_mlp
from skff.saliency import compare_explanations

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=0.4, stratify=y, random_state=0
)
ff = FFClassifier((200, 200), max_iter=20, random_state=0)
models = {
    "Forward-Forward": ff,
    "backprop": sklearn_mlp(ff),
    "forest": RandomForestClassifier(100, random_state=0),
    "SVM": make_pipeline(StandardScaler(), SVC()),
    "neighbours": KNeighborsClassifier(),
}
for name, model in models.items():
    print(f"{name:16s} test accuracy {model.fit(X_train, y_train).score(X_test, y_test):.4f}")

# %%
# Five maps on one scale
# ----------------------
# Outlined pixels are significant at a false discovery rate of 5 %.
maps = {
    name: ADSExplainer(model, window_shape=3).explain(X_test, y_test)
    for name, model in models.items()
}
display = ADSDisplay.from_explanation(maps, significance=0.05, image=X_test.mean(axis=0))
display.figure_.set_size_inches(13, 3.4)
display.figure_.suptitle("Accuracy lost by hiding 3 x 3 pixels, scikit-learn's digits")
plt.show()

# %%
# How far do they agree?
# ----------------------
# The matrix shows Spearman's rank correlation, over the pixels, for each pair of maps.
names = list(models)
agreement = np.eye(len(names))
for i, first in enumerate(names):
    for j, second in enumerate(names[:i]):
        found = compare_explanations(maps[first], maps[second], n_bootstrap=200, random_state=0)
        agreement[i, j] = agreement[j, i] = found.rank_correlation

fig, ax = plt.subplots(figsize=(5.6, 4.4), layout="compressed")
image = ax.imshow(agreement, cmap="viridis", vmin=0, vmax=1)
for i, j in np.ndindex(agreement.shape):
    color = "white" if agreement[i, j] < 0.6 else "black"
    ax.text(j, i, f"{agreement[i, j]:.2f}", ha="center", va="center", color=color)
ax.set_xticks(range(len(names)), names, rotation=30, ha="right")
ax.set_yticks(range(len(names)), names)
fig.colorbar(image, label="rank correlation of the maps")
plt.show()

# %%
# What was found
# --------------
pairs = {(names[i], names[j]): agreement[i, j] for i in range(len(names)) for j in range(i)}
most, least = max(pairs, key=pairs.get), min(pairs, key=pairs.get)
print(f"The most similar maps are those of {most[0]} and {most[1]}, with {pairs[most]:.2f};")
print(f"the least similar are those of {least[0]} and {least[1]}, with {pairs[least]:.2f}.")
largest = {name: np.nanmax(one.importances) for name, one in maps.items()}
robust = min(largest, key=largest.get)
print(
    f"The worst window costs {robust} least, {100 * largest[robust]:.1f} points, and "
    f"{max(largest, key=largest.get)} most, {100 * max(largest.values()):.1f}."
)
