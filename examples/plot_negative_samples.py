"""
What do positive and negative samples look like?
================================================

In the papers, Forward-Forward training shows the network every image twice, once with its true
label and once with a wrong one, and the label is part of the input. This example reproduces Figure
1 of Bakhshi (2024, arXiv:2409.15365) for both ways in which :class:`~skff.FFClassifier` can put the
label into the input.
"""

# %%
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

from skff.datasets import fetch_mnist
from skff.forward_forward.negatives import uniform
from skff.forward_forward.overlays import append, overlay_labels, replace

try:
    images = fetch_mnist(subset="test", download_if_missing=False)
    X, y, side = images.data, images.target, 28
except FileNotFoundError:
    images = load_digits()
    X, y, side = (images.data / 16).astype("float32"), images.target, 8

X, y = torch.from_numpy(X[:4]), torch.from_numpy(y[:4]).long()
y_wrong = uniform(y, 10, torch.Generator().manual_seed(0))

# %%
# ``overlay="replace"``, used in the papers, writes the label into the first ten pixels. In MNIST
# they are always black; in other data this can overwrite information.
fig, axes = plt.subplots(2, 4, figsize=(8, 4.6), layout="constrained")
for row, labels, kind in zip(axes, [y, y_wrong], ["positive", "negative"], strict=True):
    for ax, image, label in zip(
        row, overlay_labels(X, labels, 10, overlay=replace), labels, strict=True
    ):
        ax.imshow(image.reshape(side, side), cmap="gray", vmin=0, vmax=1)
        ax.set_title(f"{kind}, label {label}", fontsize=10)
        ax.set_xticks([])
        ax.set_yticks([])
fig.suptitle("overlay='replace': the label takes the place of the first ten pixels")

# %%
# ``overlay="append"`` adds ten inputs and does not change the image. The figure shows these inputs
# as a strip above the image.
fig, axes = plt.subplots(4, 4, figsize=(8, 5.2), height_ratios=[1, 8, 1, 8], layout="constrained")
for first, labels, kind in [(0, y, "positive"), (2, y_wrong, "negative")]:
    labelled = overlay_labels(X, labels, 10, overlay=append)
    for strip, picture, sample, label in zip(
        axes[first], axes[first + 1], labelled, labels, strict=True
    ):
        strip.imshow(sample[None, :10], cmap="gray", vmin=0, vmax=1)
        strip.set_title(f"{kind}, label {label}", fontsize=10)
        picture.imshow(sample[10:].reshape(side, side), cmap="gray", vmin=0, vmax=1)
        for ax in (strip, picture):
            ax.set_xticks([])
            ax.set_yticks([])
fig.suptitle("overlay='append': label units beside an untouched image")
plt.show()

# %%
# A positive and its negative differ only in the label, so the first layer's product with the
# pixels is the same for both and is computed only once. The default, ``overlay="layerwise"``,
# extends this idea to all layers: every layer has label units in addition to its inputs, these
# inputs are the same for all labels, and all wrong labels are compared with the true one at once.
