"""
Which colour does a classifier look at?
=======================================

A window hides all channels of its pixels; ``channels="separate"`` hides one channel at a time and
returns a map for each. Here digits are written in red or blue ink, and the classifier has to
recognize both the digit and the ink. Which channel does it need least?
"""

# %%
# Digits in two inks
# ------------------
# On white paper all channels are 1. Red ink absorbs green and blue, and blue ink absorbs red and
# green. The green channel therefore shows the digit in either ink, and the other two channels also
# show which ink it is.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skff import ADSDisplay, ADSExplainer, FFClassifier

digits = load_digits()
strokes = digits.images / 16
is_blue = np.random.default_rng(0).random(len(strokes)) < 0.5
images = 1 - np.stack(
    [strokes * is_blue[:, None, None], strokes, strokes * ~is_blue[:, None, None]], -1
)
inks = np.where(is_blue, "blue", "red")
y = np.array([f"{ink} {digit}" for ink, digit in zip(inks, digits.target, strict=True)])
X = images.reshape(len(images), -1).astype(np.float32)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
clf = FFClassifier((100,), max_iter=20, random_state=0).fit(X_train, y_train)
print(f"{len(clf.classes_)} classes, test accuracy {clf.score(X_test, y_test):.4f}")

fig, axes = plt.subplots(1, 6, figsize=(9, 1.9), layout="compressed")
for ax, k in zip(axes, range(6), strict=True):
    ax.imshow(images[k])
    ax.set(title=y[k], xticks=[], yticks=[])
plt.show()

# %%
# One map per channel
# -------------------
# Hidden pixels become white, like the paper.
settings = {"image_shape": (8, 8, 3), "window_shape": 3, "fill": 1.0}
together = ADSExplainer(clf, **settings).explain(X_test, y_test)
apart = ADSExplainer(clf, channels="separate", **settings).explain(X_test, y_test)
names = ["all channels", "red", "green", "blue"]
maps = dict(zip(names, [together, *apart], strict=True))
display = ADSDisplay.from_explanation(maps, significance=0.05)
display.figure_.set_size_inches(12, 3.4)
display.figure_.suptitle("Accuracy lost by whitening 3 x 3 pixels of a channel")
plt.show()

# %%
# What was found
# --------------
means = {name: 100 * one.importances.mean() for name, one in maps.items()}
for name, mean in means.items():
    print(f"{name:12s} mean accuracy drop {mean:5.2f} points")
order = sorted(names[1:], key=means.get)
print(f"The classifier needs {order[0]} least and {order[2]} most.")
ratio = means["all channels"] / sum(means[name] for name in names[1:])
print(
    f"Hidden together, the channels cost {ratio:.1f} times what they cost one by one: "
    + ("they are redundant." if ratio > 1 else "they are not redundant.")
)
