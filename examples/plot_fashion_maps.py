"""
What tells a shirt from a coat? Maps of Fashion-MNIST
=====================================================

This example shows Accuracy Differential Saliency (ADS) within each class of Fashion-MNIST: the
share of a garment's images that a Forward-Forward network no longer recognizes if a window is
hidden. If Fashion-MNIST is not found in ``$SKFF_DATA`` or in the cache of
:func:`skff.datasets.fetch_fashion_mnist`, scikit-learn's digits are used instead.
"""

# %%
# A network
# ---------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split

from skff import ADSDisplay, ADSExplainer, FFClassifier
from skff.datasets import fetch_fashion_mnist

try:
    train = fetch_fashion_mnist(download_if_missing=False)
    test = fetch_fashion_mnist(subset="test", download_if_missing=False)
    name, window = "Fashion-MNIST", 5
    labels = ["T-shirt", "trousers", "pullover", "dress", "coat"]
    labels += ["sandal", "shirt", "sneaker", "bag", "ankle boot"]
    X_train, y_train = train.data[:10_000], train.target[:10_000]
    X_test, y_test = test.data[:2000], test.target[:2000]
except FileNotFoundError:
    digits = load_digits()
    name, window, labels = "scikit-learn's digits", 3, list(map(str, range(10)))
    X_train, X_test, y_train, y_test = train_test_split(
        (digits.data / 16).astype(np.float32), digits.target, stratify=digits.target, random_state=0
    )
ff = FFClassifier((200, 200), max_iter=8, random_state=0).fit(X_train, y_train)
print(f"{name}: test accuracy {ff.score(X_test, y_test):.4f}")

# %%
# Ten maps on one scale
# ---------------------
# Each map is drawn over the mean image of its class. Hidden pixels are replaced by their mean over
# all images.
explanation = ADSExplainer(ff, window_shape=window, fill="mean").explain(X_test, y_test)
means = [X_test[y_test == k].mean(axis=0) for k in range(10)]
fig, axes = plt.subplots(2, 5, figsize=(11, 5), layout="compressed")
display = ADSDisplay(list(explanation.per_class), names=labels, units="accuracy drop in the class")
display.plot(ax=axes, image=means)
for ax in axes.flat:
    ax.set(xticks=[], yticks=[], xlabel="", ylabel="")
fig.suptitle(f"Accuracy lost within each class by hiding {window} x {window} pixels, {name}")
plt.show()

# %%
# What was found
# --------------
largest = np.nanmax(explanation.per_class.reshape(10, -1), axis=1)
frail, sturdy = largest.argmax(), largest.argmin()
print(
    f"Most fragile is {labels[frail]!r}: one window costs {largest[frail]:.0%} of its images. "
    f"{labels[sturdy]!r} loses at most {largest[sturdy]:.0%}."
)
confused = confusion_matrix(y_test, ff.predict(X_test))
np.fill_diagonal(confused, 0)
i, j = np.unravel_index(confused.argmax(), confused.shape)
print(f"Without anything hidden, {labels[i]!r} is most often taken for another: {labels[j]!r}.")
