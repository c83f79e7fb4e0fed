"""
How fast does each layer learn on its own?
==========================================

Every layer of a Forward-Forward network has its own loss. In "greedy" training (Algorithm 1 of
Bakhshi 2024, arXiv:2409.15365; this example corresponds to its Figure 3), a layer starts when the
layer below is finished. In "simultaneous" training, all layers learn from the same batches.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator
from scipy.stats import entropy
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skff import FFClassifier
from skff.datasets import fetch_mnist
from skff.forward_forward.losses import CrossEntropy

try:
    train = fetch_mnist(download_if_missing=False)
    test = fetch_mnist(subset="test", download_if_missing=False)
    X_train, y_train = train.data[:10_000], train.target[:10_000]
    X_test, y_test = test.data, test.target
    name = "10,000 MNIST images"
except FileNotFoundError:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    name = "scikit-learn's digits"

fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharex=True, layout="constrained")
looks = {
    "simultaneous": {"linestyle": "-", "linewidth": 5, "alpha": 0.4},
    "greedy": {"linestyle": "--"},
}
for training, look in looks.items():
    clf = FFClassifier((500, 500), training=training, max_iter=10, random_state=0)
    clf.fit(X_train, y_train)
    print(f"{training:13s} test accuracy {clf.score(X_test, y_test):.4f}")
    for layer, losses in enumerate(clf.loss_curves_):
        records = [record for record in clf.history_ if layer in record["layers"]]
        shares = [record["positive_share"][record["layers"].index(layer)] for record in records]
        epochs = range(1, len(losses) + 1)
        line = {"color": f"C{layer}", "label": f"layer {layer + 1}, {training}"} | look
        axes[0].plot(epochs, losses, **line)
        axes[1].plot(epochs, [100 * share for share in shares], **line)
# With label smoothing, the loss cannot fall below the entropy of the smoothed labels.
loss = CrossEntropy()
targets = np.full(10, loss.label_smoothing / 10)
targets[0] += 1 - loss.label_smoothing
lowest = entropy(targets) / loss.scale
axes[0].axhline(lowest, color="grey", linestyle=":", label="lowest possible")
axes[0].set(xlabel="epoch of the layer", ylabel="mean loss")
axes[1].set(xlabel="epoch of the layer", ylabel="true label above all others (%)")
axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
axes[0].legend(fontsize=9)
fig.suptitle(f"Forward-Forward training, two layers of 500 units, {name}")
plt.show()

# %%
# The two lines of the first layer almost coincide: it learns by the same rule whether or not a
# layer above it is also trained, and only the random numbers of later batches differ.
# In greedy training, the second layer starts with a far lower loss, because the first layer is
# finished. In simultaneous training it ends nearly as low, with half as many passes over the data.
# In both cases, nearly every training image soon has the highest goodness under its true label, in
# both layers.
