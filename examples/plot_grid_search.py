"""
Which settings matter? A grid search
====================================

The parameters of :class:`~skff.FFClassifier` can be searched like those of any scikit-learn
estimator. This example searches over a pipeline with `GridSearchCV`, which refits the best
combination on all training data, and explains the result.
"""

# %%
# A pipeline and a grid
# ---------------------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skff import ADSExplainer, FFClassifier
from skff.forward_forward.losses import CrossEntropy

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
pipeline = make_pipeline(MinMaxScaler(), FFClassifier((100, 100), max_iter=10, random_state=0))
smoothing, dropout = [0.0, 0.1, 0.3], [0.0, 0.2, 0.5]
grid = {
    "ffclassifier__loss": [CrossEntropy(label_smoothing=share) for share in smoothing],
    "ffclassifier__dropout": dropout,
}
search = GridSearchCV(pipeline, grid, cv=3).fit(X_train, y_train)

# %%
# Every combination
# -----------------
# The table shows the mean accuracy over three folds, with its standard error in brackets.
shape = len(dropout), len(smoothing)
mean = search.cv_results_["mean_test_score"].reshape(shape)
error = search.cv_results_["std_test_score"].reshape(shape) / np.sqrt(search.n_splits_ - 1)
fig, ax = plt.subplots(figsize=(5.6, 4.2), layout="compressed")
image = ax.imshow(mean, cmap="viridis")
for i, j in np.ndindex(shape):
    color = "white" if mean[i, j] < (mean.min() + mean.max()) / 2 else "black"
    text = f"{mean[i, j]:.3f}\n({error[i, j]:.3f})"
    ax.text(j, i, text, ha="center", va="center", color=color)
ax.set_xticks(range(shape[1]), smoothing)
ax.set_yticks(range(shape[0]), dropout)
ax.set(xlabel="label smoothing", ylabel="dropout of input features")
fig.colorbar(image, label="accuracy, 3 folds")
plt.show()

# %%
# The best combination on the test images
# ---------------------------------------
best = search.best_params_
print(
    f"Best in the folds: label smoothing {best['ffclassifier__loss'].label_smoothing}, dropout "
    f"{best['ffclassifier__dropout']}, accuracy {search.best_score_:.3f}"
)
print(f"On the test images: {search.score(X_test, y_test):.3f}")
spread = mean.max() - mean.min()
typical = error.mean()
print(
    f"Best and worst combination differ by {100 * spread:.1f} points, where a mean has a standard "
    f"error of {100 * typical:.1f}: "
    + ("the settings matter here." if spread > 3 * typical else "that may be chance.")
)

# %%
# The search is itself an estimator with a score, so it can be explained.
explanation = ADSExplainer(search, window_shape=3).explain(X_test, y_test)
explanation.plot(image=X_test.mean(axis=0).reshape(8, 8), significance=0.05)
plt.show()
