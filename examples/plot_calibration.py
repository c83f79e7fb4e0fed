"""
Do the probabilities mean what they say?
========================================

Of all predictions made with 80 % confidence, 80 % should be right. The Forward-Forward algorithm
does not define probabilities, so :class:`~skff.FFClassifier` fits a scale for the goodness on the
training data. This example compares its probabilities with those of a backprop network.
"""

# %%
# Two networks, several splits
# ----------------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold

from skff import FFClassifier
from skff.mlp_baselines import sklearn_mlp

X, y = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
X = X / 16 + rng.normal(scale=0.25, size=X.shape)  # noise, so that there is something to doubt
ff = FFClassifier((200, 200), max_iter=15, random_state=0)
models = {"Forward-Forward": ff, "backprop, scikit-learn": sklearn_mlp(ff)}
p = {name: np.empty((len(y), 10)) for name in models}
for train, test in StratifiedKFold(3).split(X, y):
    for name, model in models.items():
        p[name][test] = model.fit(X[train], y[train]).predict_proba(X[test])

# %%
# Confidence against accuracy
# ---------------------------
# Predictions are sorted by confidence and divided into ten parts of equal size.
fig, ax = plt.subplots(figsize=(5.4, 4.6), layout="constrained")
gaps = {}
for name, proba in p.items():
    confidence, is_right = proba.max(axis=1), proba.argmax(axis=1) == y
    accuracy, mean = calibration_curve(is_right, confidence, n_bins=10, strategy="quantile")
    gaps[name] = 100 * np.abs(accuracy - mean).mean()
    ax.plot(mean, accuracy, "o-", label=name)
ax.plot([0, 1], [0, 1], ":", color="grey", label="perfectly calibrated")
lowest = min(line.get_xdata().min() for line in ax.lines[:-1]) - 0.05
ax.set(xlim=(lowest, 1.01), ylim=(lowest - 0.1, 1.01), xlabel="confidence", ylabel="accuracy")
ax.legend()
plt.show()

# %%
# What was found
# --------------
for name, proba in p.items():
    accuracy = (proba.argmax(axis=1) == y).mean()
    print(
        f"{name:24s} accuracy {accuracy:.3f}, log-loss {log_loss(y, proba):.3f}, mean gap between "
        f"confidence and accuracy {gaps[name]:.1f} points"
    )
print(f"The better calibrated one is {min(gaps, key=gaps.get)}.")
