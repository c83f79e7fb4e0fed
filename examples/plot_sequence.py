"""
Where in a sequence does a class show?
======================================

Accuracy Differential Saliency (ADS) moves its window along a sequence in the same way as over an
image. In this example the correct answer is known: two classes of noisy series differ by a small
wave at one position. Does the map find it?
"""

# %%
# Series with a wave
# ------------------
# Each series has 120 steps of slowly drifting noise. Series of class 1 have a wave of 12 steps at
# step 70; in class 0 this wave is upside down. The position of the wave is fixed, so a small
# network can learn it. If a shape may begin anywhere, see :ref:`the settings for sequences
# <sequences>`.
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter1d

from skff import ADSExplainer, FFClassifier

LENGTH, PLACE, WIDTH = 120, 70, 12
WAVE = np.sin(np.linspace(0, 2 * np.pi, WIDTH))


def draw_series(n_series, rng):
    """Return series and their classes."""
    y = rng.integers(0, 2, n_series)
    X = gaussian_filter1d(rng.normal(size=(n_series, LENGTH)), 2) * 2
    X[:, PLACE : PLACE + WIDTH] += 0.7 * np.where(y, 1, -1)[:, None] * WAVE
    return X.astype(np.float32), y


rng = np.random.default_rng(0)
X_train, y_train = draw_series(2000, rng)
X_test, y_test = draw_series(2000, rng)
clf = FFClassifier((100, 100), max_iter=20, random_state=0).fit(X_train, y_train)
print(f"test accuracy {clf.score(X_test, y_test):.4f}")

# %%
# The map
# -------
explanation = ADSExplainer(clf, image_shape=(LENGTH,), window_shape=5, fill="mean").explain(
    X_test, y_test
)
marked = explanation.significant(0.05, method="holm")
fig, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True, layout="constrained")
for label in (0, 1):
    axes[0].plot(X_test[y_test == label][:3].T, color=f"C{label}", alpha=0.5, linewidth=1)
axes[0].set_ylabel("three series of each class")
axes[1].bar(range(LENGTH), explanation.importances, width=1, color="grey")
axes[1].bar(
    np.flatnonzero(marked),
    explanation.importances[marked],
    width=1,
    color="C3",
    label="significant",
)
for ax in axes:
    ax.axvspan(PLACE - 0.5, PLACE + WIDTH - 0.5, color="C2", alpha=0.15, label="where they differ")
axes[1].set(xlabel="step", ylabel="accuracy drop, 5 steps hidden")
axes[1].legend()
plt.show()

# %%
# What was found
# --------------
# A window of five steps overlaps the wave if its centre is at most two steps outside it.
touches = np.zeros(LENGTH, dtype=bool)
touches[PLACE - 2 : PLACE + WIDTH + 2] = True
print(
    f"{marked.sum()} steps are significant at a family-wise error rate of 5 %: "
    f"{(marked & touches).sum()} of the {touches.sum()} whose window touches the wave, "
    f"{(marked & ~touches).sum()} of the {(~touches).sum()} others."
)
