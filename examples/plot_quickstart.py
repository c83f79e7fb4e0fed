"""
Which pixels does a Forward-Forward network read, and which does backprop?
==========================================================================

A Forward-Forward network and two backprop networks of the same architecture learn the same
images. Then Accuracy Differential Saliency (ADS) asks each of them the same question: how much
accuracy is lost when a small window is hidden in every image?

MNIST is used when it is found in ``$SKFF_DATA`` or in the cache of
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
# Same sizes, batch size, epochs and initial learning rate, and all three subtract the mean of the
# training images; the skorch network also follows the schedule, the dropout and label smoothing.
ff = FFClassifier(max_iter=10, random_state=0)
models = {
    "Forward-Forward": ff,
    "backprop, scikit-learn": sklearn_mlp(ff),
    "backprop, skorch": skorch_mlp(ff),
}
for title, model in models.items():
    start = time.perf_counter()
    model.fit(X_train, y_train)
    seconds = time.perf_counter() - start
    print(f"{title:24s} {seconds:5.1f} s  test accuracy {model.score(X_test, y_test):.4f}")

# %%
# Saliency
# --------
# The maps share one scale: the accuracy lost on at most 1,000 test images when a window of 3 x 3
# pixels around the pixel is black.
explanations = {}
for title, model in models.items():
    start = time.perf_counter()
    explainer = ADSExplainer(model, window_shape=3, max_samples=min(1000, len(X_test)))
    explanations[title] = explainer.set_params(random_state=0).explain(X_test, y_test)
    print(f"{title:24s} map in {time.perf_counter() - start:.1f} s")

mean_image = X_test.mean(axis=0).reshape(explanations["Forward-Forward"].image_shape)
display = ADSDisplay.from_explanation(explanations, image=mean_image)
display.figure_.suptitle(f"Accuracy lost by hiding 3 x 3 pixels, {name}")
display.figure_.savefig("ads_comparison.png", dpi=150, bbox_inches="tight")
print("The maps are in ads_comparison.png")
plt.show()

# %%
# The networks read about the same place: what differs is where hiding a window costs most, and how
# evenly the accuracy drop is spread over the middle of the image.
