"""
Which pixels do Forward-Forward and backprop networks rely on?
==============================================================

A Forward-Forward network and two backprop networks of the same architecture learn the same
images. Then Accuracy Differential Saliency (ADS) answers the same question for each of them: how
much accuracy is lost if a small window is hidden in every image?

MNIST is used if it is found in ``$SKFF_DATA`` or in the cache of
:func:`skff.datasets.fetch_mnist`, otherwise the digits that come with scikit-learn.
"""

# %%
# Data
# ----
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skff import ADSDisplay, ADSExplainer, FFClassifier
from skff.datasets import fetch_mnist
from skff.mlp_baselines import sklearn_mlp, skorch_mlp
from skff.saliency import compare_explanations

try:
    train = fetch_mnist(download_if_missing=False)
    test = fetch_mnist(subset="test", download_if_missing=False)
    name = "MNIST (15,000 training images)"
    X_train, y_train = train.data[:15_000], train.target[:15_000]
    X_test, y_test = test.data, test.target
except FileNotFoundError:
    digits = load_digits()
    name = "scikit-learn's digits"
    X_train, X_test, y_train, y_test = train_test_split(
        (digits.data / 16).astype(np.float32),
        digits.target,
        test_size=0.4,
        stratify=digits.target,
        random_state=0,
    )
print(f"Data: {name}; {len(X_train)} images to train on, {len(X_test)} to test on")

# %%
# Training
# --------
# All three networks have the same layer sizes, batch size, number of epochs and initial learning
# rate, and subtract the mean of the training images. The skorch network also uses the same
# learning-rate schedule, dropout and label smoothing. When torch is first used, it takes a second
# or two to load. A fit of one epoch on a few images absorbs this time, so that it does not count
# for any of the three networks.
ff = FFClassifier(max_iter=10, random_state=0)
models = {
    "Forward-Forward": ff,
    "backprop, scikit-learn": sklearn_mlp(ff),
    "backprop, skorch": skorch_mlp(ff),
}
warm_up = FFClassifier((10, 10), max_iter=1, random_state=0)
for model in (warm_up, sklearn_mlp(warm_up), skorch_mlp(warm_up)):
    model.fit(X_train[:200], y_train[:200])
accuracies = {}
for title, model in models.items():
    start = time.perf_counter()
    model.fit(X_train, y_train)
    seconds = time.perf_counter() - start
    accuracies[title] = model.score(X_test, y_test)
    print(f"{title:24s} {seconds:5.1f} s  test accuracy {accuracies[title]:.4f}")

# %%
# Saliency
# --------
# The maps have the same colour scale: the accuracy drop on at most 1,000 test images when a window
# of 3 x 3 pixels around the pixel is black.
explanations = {}
for title, model in models.items():
    start = time.perf_counter()
    explainer = ADSExplainer(model, window_shape=3, max_samples=min(1000, len(X_test)))
    explanation = explainer.set_params(random_state=0).explain(X_test, y_test)
    explanations[title] = explanation
    print(f"{title:24s} map in {time.perf_counter() - start:.1f} s by {explanation.engine!r}")

mean_image = X_test.mean(axis=0).reshape(explanations["Forward-Forward"].image_shape)
display = ADSDisplay.from_explanation(explanations, image=mean_image)
display.figure_.suptitle(f"Accuracy lost by hiding 3 x 3 pixels, {name}")
display.figure_.savefig("ads_comparison.png", dpi=150, bbox_inches="tight")
print("The maps are in ads_comparison.png")
plt.show()

# %%
# What the fast engine saves
# --------------------------
# The times above depend on the networks as well as on the engines: each layer of a Forward-Forward
# network evaluates every label, which a backprop network does not need to do. The following
# compares both engines on the same network. ``"incremental"`` computes only what a hidden window
# changes, and decides most predictions by bounds; ``"predict"`` predicts whole images again.
seconds, found = {}, {}
for engine in ("predict", "incremental"):
    explainer = ADSExplainer(ff, window_shape=3, engine=engine)
    start = time.perf_counter()
    found[engine] = explainer.explain(X_test[:200], y_test[:200])
    seconds[engine] = time.perf_counter() - start
ratio = seconds["predict"] / seconds["incremental"]
same = np.array_equal(*[explanation.importances for explanation in found.values()])
print(
    f"Map of the Forward-Forward network on 200 images of {X_test.shape[1]} pixels: "
    f"{seconds['predict']:.2f} s by predict, {seconds['incremental']:.2f} s incrementally, "
    f"{'the same' if same else 'not the same'} numbers."
)
print(f"Predicting takes {ratio:.1f} times as long as the incremental engine.")
if not found["incremental"].engine_stats["decided_by_bounds"]:
    print("With so few pixels, that engine predicts whole images, too.")

# %%
# What was found
# --------------
best, worst = max(accuracies, key=accuracies.get), min(accuracies, key=accuracies.get)
print(f"Test accuracy: from {accuracies[worst]:.4f} ({worst}) to {accuracies[best]:.4f} ({best}).")
for title, explanation in explanations.items():
    drops = explanation.importances
    row, column = np.unravel_index(np.nanargmax(drops), drops.shape)
    lost = np.sort(drops[drops > 0])[::-1].cumsum()
    share = (np.searchsorted(lost, lost[-1] / 2) + 1) / drops.size
    print(
        f"{title}: the worst window costs {100 * drops.max():.1f} points, at row {row} and column "
        f"{column}; {share:.0%} of the pixels hold half of all that is lost."
    )
for title in list(models)[1:]:
    pair = explanations["Forward-Forward"], explanations[title]
    comparison = compare_explanations(*pair, n_bootstrap=1, random_state=0)
    print(
        f"The maps of Forward-Forward and {title} have a rank correlation of "
        f"{comparison.rank_correlation:.2f}."
    )
