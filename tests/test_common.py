"""scikit-learn's own checks on every estimator that fits."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skff import FFClassifier

STOCHASTIC = (
    "a sample of weight 2 and a sample given twice meet different batches, orders and negatives; "
    "the same holds for MLPClassifier"
)
# The checks fit hundreds of times, for up to 1,000 epochs.
FEW_UPDATES = {"max_iter": 20, "batch_size": 100, "learning_rate_init": 0.03}
EXPECTED_FAILURES = {"check_sample_weight_equivalence_on_dense_data": STOCHASTIC}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        FFClassifier(hidden_layer_sizes=(20,), max_iter=5),
        FFClassifier(
            (10, 10), overlay="append", loss="logistic", negatives="uniform", **FEW_UPDATES
        ),
    ],
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES,
    xfail_strict=True,
)
def test_scikit_learn_check(estimator, check):
    check(estimator)
