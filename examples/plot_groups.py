"""
Which measurements does a wine classifier rely on?
==================================================

Columns of a table that belong together can be hidden together, by using `groups` instead of
windows. Here a pipeline of a scaler and a Forward-Forward network learns to tell three kinds of
wine apart from 13 measurements. Accuracy Differential Saliency (ADS) then hides groups of related
measurements.
"""

# %%
# A pipeline
# ----------
import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skff import ADSExplainer, FFClassifier

wine = load_wine(as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(
    wine.data, wine.target, test_size=0.5, stratify=wine.target, random_state=0
)
clf = make_pipeline(StandardScaler(), FFClassifier((100,), max_iter=60, random_state=0))
clf.fit(X_train, y_train)
print(f"test accuracy {clf.score(X_test, y_test):.4f}")

# %%
# Groups of columns
# -----------------
# Groups can be given by column names. Hidden values are replaced by the mean of their column.
families = {
    "alcohol": ["alcohol"],
    "acids": ["malic_acid"],
    "minerals": ["ash", "alcalinity_of_ash", "magnesium"],
    "phenols": ["total_phenols", "flavanoids", "nonflavanoid_phenols", "proanthocyanins"],
    "colour": ["color_intensity", "hue", "od280/od315_of_diluted_wines"],
    "proline": ["proline"],
}
explainer = ADSExplainer(clf, groups=families, fill="mean")
explanation = explainer.explain(X_test, y_test)
explanation.plot(significance=0.05).figure_.set_size_inches(7, 3.6)
plt.show()

# %%
# The same as a table, with standard errors and p-values:
frame = explanation.to_frame()
print(frame.to_string(index=False, float_format="%.4f"))

# %%
# What was found
# --------------
drops, is_real, names = explanation.bars(significance=0.05)
first = drops.argmax()
print(f"It relies most on {names[first]}: without it {100 * drops[first]:.1f} points are lost.")
real = ", ".join(names[is_real]) or "none"
print(f"At a false discovery rate of 5 %, the drops are significant for: {real}.")
