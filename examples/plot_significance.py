"""
Which pixels of a map are significant?
======================================

With many windows, some accuracy drops are large by chance. In this example most pixels are known to
be irrelevant: the digits lie in a wide frame of noise. How many windows of the frame does each
correction for multiple testing mark, and how many windows of the digits does it find?
"""

# %%
# Digits in a frame of noise
# --------------------------
# The 8 x 8 images lie in the middle of 24 x 24 pixels. The rest is random noise, different for
# every image.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from skff import ADSDisplay, ADSExplainer

SIDE, BORDER = 24, 8
digits = load_digits()
rng = np.random.default_rng(0)
framed = rng.random((len(digits.target), SIDE, SIDE))
framed[:, BORDER:-BORDER, BORDER:-BORDER] = digits.images / 16
X, y = framed.reshape(len(framed), -1), digits.target
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.6, stratify=y, random_state=0)
model = LogisticRegression(tol=0.01).fit(X_train, y_train)
print(f"test accuracy {model.score(X_test, y_test):.4f}")

# %%
# The map
# -------
# Windows of 2 x 2 pixels lie side by side, so that every pixel belongs to one window. Hidden pixels
# are replaced by their mean over the images.
explainer = ADSExplainer(model, window_shape=2, stride=2, aggregate="coverage", fill="mean")
explanation = explainer.explain(X_test, y_test)
is_digit = np.zeros((SIDE, SIDE), dtype=bool)
is_digit[BORDER:-BORDER, BORDER:-BORDER] = True
marks = {"p below 0.05": explanation.p_values < 0.05}
for method in ("bh", "by", "holm", "max-t"):
    marks[method] = explanation.significant(0.05, method=method)

display = ADSDisplay(
    [explanation.importances] * len(marks),
    names=list(marks),
    significant=list(marks.values()),
    units="accuracy drop",
).plot(image=X_test.mean(axis=0))
display.figure_.set_size_inches(13, 3.2)
display.figure_.suptitle("Pixels marked at 5 %; the digit is in the middle, the rest is noise")
plt.show()

# %%
# What was found
# --------------
n_noise, n_digit = int((~is_digit).sum()) // 4, int(is_digit.sum()) // 4
for name, marked in marks.items():
    false, found = marked[~is_digit].sum() // 4, marked[is_digit].sum() // 4
    print(
        f"{name:13s} marks {found:2d} of {n_digit} windows of the digits and {false} of {n_noise} "
        "of noise"
    )
print(f"Without a correction, up to 5 % of the noise windows are expected: {0.05 * n_noise:.0f}.")
