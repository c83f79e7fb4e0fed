"""
Which pixels tell a 4 from a 9? Maps per class and per image
============================================================

The map of a data set averages over its classes. Accuracy Differential Saliency (ADS) also gives a
map for each class, which shows the accuracy drop within the class. With a continuous score, it
even gives a map for a single image. This example corresponds to Figures 4 and 5 of Bakhshi (2024,
arXiv:2409.15365), for a Forward-Forward network and for a backprop network of the same
architecture.
"""

# %%
# Two networks
# ------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skff import ADSDisplay, ADSExplainer, FFClassifier
from skff.datasets import fetch_mnist
from skff.mlp_baselines import sklearn_mlp

try:
    train = fetch_mnist(download_if_missing=False)
    test = fetch_mnist(subset="test", download_if_missing=False)
    name, side, window = "MNIST", 28, 5
    X_train, y_train = train.data[:8000], train.target[:8000]
    X_test, y_test = test.data[:5000], test.target[:5000]
except FileNotFoundError:
    digits = load_digits()
    name, side, window = "scikit-learn's digits", 8, 3
    X_train, X_test, y_train, y_test = train_test_split(
        (digits.data / 16).astype(np.float32), digits.target, stratify=digits.target, random_state=0
    )

ff = FFClassifier((200, 200), max_iter=8, random_state=0)
models = {"Forward-Forward": ff, "backprop": sklearn_mlp(ff)}
for title, model in models.items():
    accuracy = model.fit(X_train, y_train).score(X_test, y_test)
    print(f"{title:15s} test accuracy {accuracy:.4f}")

# %%
# Maps per class
# --------------
# All maps have the same colour scale: the accuracy drop, as a share of the digit's images, when a
# window around the pixel is black. Each map is drawn over the mean image of its digit.
maps, names = [], []
for title, model in models.items():
    explainer = ADSExplainer(model, window_shape=window, max_samples=min(600, len(X_test)))
    explanation = explainer.set_params(random_state=0).explain(X_test, y_test)
    maps += list(explanation.per_class)
    names += [f"{title}, {label}" for label in explanation.classes]

means = [X_test[y_test == label].mean(axis=0) for label in explanation.classes]
fig, axes = plt.subplots(4, 5, figsize=(10.5, 8.6), layout="constrained")
display = ADSDisplay(maps, names=names, units="accuracy drop in the class")
display.plot(ax=axes, image=means * 2)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
    ax.title.set_fontsize(10)
fig.suptitle(f"Accuracy lost within each class by hiding {window} x {window} pixels, {name}")

plt.show()


# %%
# What do the networks predict if the most important window of a class is hidden?
def hide(images, center):
    """Return images with a black window around a pixel (row, column)."""
    hidden = images.reshape(-1, side, side).copy()
    rows, columns = (slice(max(k - window // 2, 0), k + window // 2 + 1) for k in center)
    hidden[:, rows, columns] = 0
    return hidden.reshape(len(images), -1)


for title, importances in zip(names, maps, strict=True):
    model, label = models[title.split(",")[0]], int(title[-1])
    center = np.unravel_index(importances.argmax(), importances.shape)
    counts = np.bincount(model.predict(hide(X_test[y_test == label], center)), minlength=10)
    other = np.where(np.arange(10) == label, -1, counts).argmax()
    share = counts / counts.sum()
    print(f"{title}: {share[label]:4.0%} are still seen as such, {share[other]:4.0%} as {other}")

# %%
# Maps of single images
# ---------------------
# The accuracy on one image is 0 or 1. The log-likelihood (``scoring="neg_log_loss"``) responds to
# every change, and has the same unit for both networks. For each of five classes, the figure shows
# the correctly classified image on which the Forward-Forward network is least confident. `mask`
# limits the maps to windows centred on the stroke.
p = ff.predict_proba(X_test)
is_right = ff.classes_[p.argmax(axis=1)] == y_test
unsure = np.where(is_right, p.max(axis=1), 2)
shown = [np.where(y_test == label, unsure, 2).argmin() for label in (1, 3, 4, 8, 9)]
maps, names = [], []
for title, model in models.items():
    explainer = ADSExplainer(model, window_shape=window, scoring="neg_log_loss")
    for k in shown:
        explainer.set_params(mask=X_test[k].reshape(side, side) > 0)
        maps.append(explainer.explain(X_test[[k]], y_test[[k]]).importances)
        names.append(f"{title}, {y_test[k]}")

fig, axes = plt.subplots(2, 5, figsize=(10.5, 4.6), layout="constrained")
display = ADSDisplay(maps, names=names, units="drop of log-likelihood (nats)")
display.plot(ax=axes, image=[X_test[k] for k in shown] * 2)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
    ax.title.set_fontsize(10)
fig.suptitle(f"What single images rely on, {name}")
plt.show()
