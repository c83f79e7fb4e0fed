"""
Do the maps mean anything?
==========================

A saliency map claims that some pixels matter more than others. This can be tested: remove the
pixels of all images in the order of the map, the most important first. If the map is right,
accuracy falls faster than if pixels are removed in random order. This example tests the Accuracy
Differential Saliency (ADS) of three networks, and for one of them also integrated gradients.
"""

# %%
# Three networks
# --------------
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skff import ADSDisplay, ADSExplainer, FFClassifier
from skff.datasets import fetch_mnist
from skff.mlp_baselines import sklearn_mlp, skorch_mlp
from skff.saliency.curves import deletion_curve

try:
    train = fetch_mnist(download_if_missing=False)
    test = fetch_mnist(subset="test", download_if_missing=False)
    name, window = "MNIST", 5
    X_train, y_train = train.data[:8000], train.target[:8000]
    X_test, y_test = test.data[:2000], test.target[:2000]
except FileNotFoundError:
    digits = load_digits()
    name, window = "scikit-learn's digits", 3
    X_train, X_test, y_train, y_test = train_test_split(
        (digits.data / 16).astype(np.float32), digits.target, stratify=digits.target, random_state=0
    )

ff = FFClassifier((100, 100), batch_size=128, max_iter=8, random_state=0)
models = {
    "Forward-Forward": ff,
    "backprop, scikit-learn": sklearn_mlp(ff),
    "backprop, skorch": skorch_mlp(ff),
}
for title, model in models.items():
    accuracy = model.fit(X_train, y_train).score(X_test, y_test)
    print(f"{title:24s} test accuracy {accuracy:.4f}")

# %%
# Maps, and where they differ from chance
# ---------------------------------------
# The maps are computed on one half of the test images and tested on the other half. Outlined pixels
# are significant at a false discovery rate of 5 %: hiding their window changes the accuracy.
X_map, X_judge, y_map, y_judge = train_test_split(
    X_test, y_test, test_size=0.5, stratify=y_test, random_state=0
)
ads = {
    title: ADSExplainer(model, window_shape=window).explain(X_map, y_map)
    for title, model in models.items()
}
mean_image = X_map.mean(axis=0)
display = ADSDisplay.from_explanation(ads, significance=0.05, image=mean_image)
display.figure_.set_size_inches(11, 4)
display.figure_.suptitle(f"Accuracy lost by hiding {window} x {window} pixels, {name}")
plt.show()

# %%
# Integrated gradients
# --------------------
# Integrated gradients explain single images, and need a network with gradients. To rank the pixels
# of the whole data set, their absolute values are averaged over the images.
maps = {title: {"ADS": explanation} for title, explanation in ads.items()}
try:
    from captum.attr import IntegratedGradients
except ImportError:
    print("Without integrated gradients: captum is not installed (pip install captum).")
else:
    net = models["backprop, skorch"].module_.eval()
    gradients = IntegratedGradients(net).attribute(
        torch.from_numpy(X_map), target=torch.from_numpy(y_map).long(), n_steps=20
    )
    importances = gradients.abs().mean(axis=0).numpy().reshape(ads["Forward-Forward"].image_shape)
    maps["backprop, skorch"]["integrated gradients"] = importances

# %%
# The test
# --------
areas = {}
fig, axes = plt.subplots(1, 3, figsize=(11, 4.6), sharey=True, layout="constrained")
for ax, (title, model) in zip(axes, models.items(), strict=True):
    curves = deletion_curve(
        model, X_judge, y_judge, maps[title], n_points=15, n_random=5, random_state=0
    )
    curves.plot(ax=ax)
    areas[title] = curves.areas | {"random": curves.random_areas.min()}
    ax.set_title(title)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize=9)
fig.suptitle(f"Accuracy while pixels are removed, the most important first, {name}")
plt.show()

# %%
# A map is meaningful if the area under its curve is smaller than that of every random order. ADS
# needs no gradients, so the Forward-Forward network can be tested in the same way as the others.
for title, area in areas.items():
    found = "finds" if area["ADS"] < area["random"] else "does not find"
    print(
        f"{title}: ADS {found} the pixels that matter, with an area of {area['ADS']:.2f} against "
        f"{area['random']:.2f} at best in random order."
    )
    if "integrated gradients" in area:
        print(f"Its integrated gradients have an area of {area['integrated gradients']:.2f}.")
