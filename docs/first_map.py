from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from skff import ADSExplainer, FFClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)

clf = FFClassifier(max_iter=10, random_state=0).fit(X_train, y_train)
print(f"accuracy {clf.score(X_test, y_test):.3f}")
explanation = ADSExplainer(clf, window_shape=3).explain(X_test, y_test)
explanation.plot(image=X_test.mean(axis=0).reshape(8, 8), significance=0.05)
