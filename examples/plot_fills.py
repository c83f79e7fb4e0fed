"""
What if the hidden part were something plausible?
=================================================

Accuracy Differential Saliency hides a region and counts the predictions that are lost. If the
replacement is unlike anything in the training data, some predictions are lost merely because the
input is out of distribution, not because information is missing. The fills of
:mod:`skff.saliency.fills` differ in how far out of distribution the input becomes. This example
compares six of them on images, and three on a table with many strongly correlated columns.
"""

# %%
# Images
# ------
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skff import ADSDisplay, ADSExplainer, FFClassifier
from skff.datasets import fetch_mnist
from skff.saliency.fills import Blur, Conditional, Constant, Inpaint, Mean, Permute

try:
    train = fetch_mnist(download_if_missing=False)
    test = fetch_mnist(subset="test", download_if_missing=False)
    name, side, window = "MNIST", 28, 5
    X_train, y_train = train.data[:8000], train.target[:8000]
    X_test, y_test = test.data[:1000], test.target[:1000]
except FileNotFoundError:
    digits = load_digits()
    name, side, window = "scikit-learn's digits", 8, 3
    X_train, X_test, y_train, y_test = train_test_split(
        (digits.data / 16).astype(np.float32), digits.target, stratify=digits.target, random_state=0
    )

ff = FFClassifier((100, 100), batch_size=128, max_iter=8, random_state=0).fit(X_train, y_train)
print(f"{name}: test accuracy {ff.score(X_test, y_test):.4f}")

# %%
# One image, one hidden window
# ----------------------------
# A fill is fitted to the images and then computes the hidden pixels. The blurred image still shows
# some of what it hides. The last three fills take into account which other pixels are hidden.
fills = {
    "Constant": Constant(0.0),
    "Mean": Mean(),
    "Blur": Blur(sigma=window / 3),
    "Permute": Permute(),
    "Inpaint": Inpaint(),
    "Conditional": Conditional(),
}
images = X_test.reshape(-1, side, side, 1)  # one channel


def fit(fill):
    """Return what gives the values of hidden pixels."""
    return fill.fit(images) if hasattr(fill, "fit") else fill


def occlude(fitted, hidden, random_state):
    """Return all images with some pixels, True in `hidden`, replaced."""
    occluded = images.copy()
    occluded[:, hidden] = fitted.sample(images, hidden, random_state)
    return occluded


def square(row, column):
    """Return the pixels of the window whose upper left corner is given."""
    hidden = np.zeros((side, side), dtype=bool)
    hidden[row : row + window, column : column + window] = True
    return hidden


middle = square(side // 2 - window // 2, side // 2 - window // 2)
shown = {"original": images}
for title, fill in fills.items():
    shown[title] = occlude(fit(fill), middle, np.random.RandomState(0))
example = images[:, middle].var(axis=(1, 2)).argmax()  # with most to lose in the window
fig, axes = plt.subplots(1, 7, figsize=(11, 2.2), layout="constrained")
for ax, (title, some) in zip(axes, shown.items(), strict=True):
    drawn = ax.imshow(some[example, ..., 0], cmap="Greys", vmin=0, vmax=1)
    low = side // 2 - window // 2 - 0.5
    ax.add_patch(plt.Rectangle((low, low), window, window, fill=False, edgecolor="tab:red"))
    ax.set(title=title, xticks=[], yticks=[])
fig.colorbar(drawn, ax=axes, label="ink", shrink=0.75, aspect=12)
plt.show()

# %%
# How far out of distribution are the filled images?
# --------------------------------------------------
# There are two measures, averaged over windows across the image. One is the squared difference
# between the filled values and the original ones. The other is how much the network's largest
# probability falls, which indicates that an image is unlike the training images.
corners = range(0, side - window + 1, max(1, window // 2))
sure = ff.predict_proba(X_test).max(axis=1).mean()
errors, doubts = {}, {}
for title, fill in fills.items():
    fitted, random_state, found = fit(fill), np.random.RandomState(0), []
    for hidden in (square(row, column) for row in corners for column in corners):
        occluded = occlude(fitted, hidden, random_state)
        error = np.mean((occluded - images)[:, hidden] ** 2)
        p = ff.predict_proba(occluded.reshape(len(images), -1))
        found.append((error, sure - p.max(axis=1).mean()))
    errors[title], doubts[title] = np.mean(found, axis=0)

fig, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
axes[0].bar(list(errors), list(errors.values()))
axes[0].set(title="Distance to what is hidden", ylabel="mean squared error (ink squared)")
axes[1].bar(list(doubts), list(doubts.values()), color="tab:orange")
axes[1].set(title="Doubt", ylabel="drop of the largest probability")
for ax in axes:
    ax.tick_params(axis="x", rotation=30)
fig.suptitle(f"How odd images become when {window} x {window} pixels are filled, {name}")
plt.show()

# %%
# The maps
# --------
# All maps have the same colour scale. Outlined pixels are significant at a false discovery rate of
# 5 %. The random fill is drawn three times per window.
explainer = ADSExplainer(ff, window_shape=window, stride=window // 2, n_repeats=3, random_state=0)
maps = {
    title: explainer.set_params(fill=fill).explain(X_test, y_test) for title, fill in fills.items()
}
fig, axes = plt.subplots(2, 3, figsize=(9.5, 6.4), layout="constrained")
display = ADSDisplay(
    [explanation.importances for explanation in maps.values()],
    names=list(maps),
    units="accuracy drop",
    significant=[explanation.significant(0.05) for explanation in maps.values()],
)
display.plot(ax=axes)
for ax in axes.flat:
    ax.label_outer()
fig.suptitle(f"Accuracy lost by hiding {window} x {window} pixels, {name}")
plt.show()

# %%
# A table
# -------
# The columns of this table describe cell nuclei: ten properties, each with its mean, its standard
# error and its worst value. Many are correlated; for example, radius, perimeter and area carry
# almost the same information. `Mean` and `Permute` ignore the other columns. `Conditional` predicts
# a hidden column from all others (``reach=None``), so that only information that no other column
# has is hidden. Its penalty is small, because the columns are strongly correlated and there are few
# of them compared to the number of samples.
cancer = load_breast_cancer()
columns = cancer.feature_names
Z_train, Z_test, t_train, t_test = train_test_split(
    cancer.data, cancer.target, test_size=0.5, stratify=cancer.target, random_state=0
)
scaler = StandardScaler().fit(Z_train)
Z_train, Z_test = scaler.transform(Z_train), scaler.transform(Z_test)
ff_table = FFClassifier((100, 100), max_iter=40, random_state=0).fit(Z_train, t_train)
print(f"Breast cancer: test accuracy {ff_table.score(Z_test, t_test):.4f}")

# %%
# First single columns are hidden, then together all columns that describe the same property. The
# score is the log-likelihood, which responds to every change. The two panels have different scales.
kinds = {
    "size": ("radius", "perimeter", "area"),
    "outline": ("compactness", "concavity", "concave", "fractal"),
    "texture": ("texture",),
    "smoothness": ("smoothness",),
    "symmetry": ("symmetry",),
}
families = {
    kind: [k for k, column in enumerate(columns) if set(column.split()) & set(words)]
    for kind, words in kinds.items()
}
column_fills = {
    "Permute": Permute(),
    "Mean": Mean(),
    "Conditional": Conditional(alpha=1.0, reach=None),
}
explainer = ADSExplainer(
    ff_table, image_shape=(len(columns),), scoring="neg_log_loss", random_state=0
)
alone, together = {}, {}
for title, fill in column_fills.items():
    explainer.set_params(fill=fill, groups=[[k] for k in range(len(columns))])
    alone[title] = explainer.explain(Z_test, t_test).window_importances
    explainer.set_params(groups=families)
    together[title] = explainer.explain(Z_test, t_test).window_importances

closest = np.abs(np.corrcoef(Z_test.T) - np.eye(len(columns))).max(axis=0)
order = np.argsort(-alone["Permute"])[:12]
fig, axes = plt.subplots(1, 2, figsize=(11, 4.6), width_ratios=[12, 5], layout="constrained")
for k, title in enumerate(column_fills):
    for ax, heights in zip(axes, (alone[title][order], together[title]), strict=True):
        ax.bar(np.arange(len(heights)) + 0.27 * (k - 1), heights, 0.27, label=title)
names = [f"{columns[column]} ({closest[column]:.2f})" for column in order]
for ax, ticks in zip(axes, (names, [f"{k} ({len(v)})" for k, v in families.items()]), strict=True):
    ax.set_xticks(np.arange(len(ticks)), ticks, rotation=45, ha="right", rotation_mode="anchor")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_ylabel("drop of log-likelihood (nats)")
axes[0].set(title="Columns (largest correlation with another one)")
axes[1].set(title="Families (number of columns)")
axes[0].legend(title="fill")
plt.show()

# %%
# What was found
# --------------
# `Blur` is left out of the first two lines because it uses the hidden pixels themselves.
blind = [title for title in fills if title != "Blur"]
nearest, farthest = min(blind, key=errors.get), max(blind, key=errors.get)
surest, unsurest = min(blind, key=doubts.get), max(blind, key=doubts.get)
print(
    f"{nearest} leaves images least out of distribution, with a mean squared error of "
    f"{errors[nearest]:.3f} against {errors[farthest]:.3f} with {farthest}."
)
print(
    f"The largest probability falls least with {surest}, by {doubts[surest]:.3f}, and most with "
    f"{unsurest}, by {doubts[unsurest]:.3f}."
)
largest = {title: explanation.importances.max() for title, explanation in maps.items()}
for title in sorted(largest, key=largest.get):
    print(f"{title:12s} largest accuracy drop {largest[title]:.3f}")

# %%
# And for the table:
strong = closest > 0.9
shares = {title: alone[title][strong].sum() / alone["Permute"][strong].sum() for title in alone}
print(
    f"{strong.sum()} columns have a correlation above 0.9 with another. Filled in from the others "
    f"they keep {shares['Conditional']:.0%} of their importance under Permute, with the mean "
    f"{shares['Mean']:.0%}."
)
sums = {"alone": alone["Conditional"].sum(), "together": together["Conditional"].sum()}
print(
    f"Under Conditional the drops of all columns sum to {sums['alone']:.3f} nats, those of the "
    f"families to {sums['together']:.3f}: "
    + (
        "what no column knows alone, a family does."
        if sums["together"] > sums["alone"]
        else "families know no more than their columns do."
    )
)
