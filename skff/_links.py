"""Where scikit-learn's diagrams of our estimators link to."""

DOC_LINK = "https://skff.readthedocs.io/en/stable/generated/skff.{estimator_name}.html"
