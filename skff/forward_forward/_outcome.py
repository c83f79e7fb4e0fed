"""Whether training succeeded, judged by the network's predictions for its training samples."""

import math

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skff._warnings import warn
from skff.forward_forward._scale import some_rows

FEWEST = 20  # samples needed for a judgement
FEWEST_BY_CHANCE = 5  # expected correct predictions by chance, needed for a judgement
ENOUGH_UPDATES = 100
POOR = 0.5  # gain over chance, as a share of the largest possible gain
# Log-loss relative to equal probabilities; it may be large at first, depending on the goodness.
LITTLE_BETTER, BAD, ABSURD, ABSURD_AT_FIRST = 0.99, 2.0, 100.0, 1000.0
ROUNDING = 1e-9


def warn_of_outcome(estimator, network, samples, *, n_updates):
    """Warn if the network fits up to 256 of its training samples no better than chance.

    The cases are: no label is preferred for most samples; the predicted labels are no better than
    shuffled ones and the probabilities no better than equal ones; the accuracy gain over chance is
    less than half of what is possible and the probabilities are worse than equal ones; or the
    log-loss is extremely large.

    Parameters
    ----------
    estimator : FFClassifier
        Estimator whose parameters the warning names.
    network : Network
        Trained.
    samples : tuple of (X, y, weight)
        See `Task`.
    n_updates : int
        Number of updates of each layer; with fewer than 100 a network may not have learned much.
    """
    X, y, weight = samples
    rows = some_rows(X)
    X, y = X if isinstance(rows, slice) else X[rows], y[rows]
    if len(y) < FEWEST or y.min() == y.max():
        return
    weight = np.ones(len(y)) if weight is None else weight[rows]
    share = weight / weight.sum()
    log_p = network.log_probabilities(network.compute(X, network.scores))
    predicted = log_p.argmax(axis=1)
    accuracy = share[predicted == y].sum()
    by_class = [np.bincount(labels, share, network.n_classes) for labels in (predicted, y)]
    chance = by_class[0] @ by_class[1]
    loss = -(share * log_p[np.arange(len(y)), y]).sum() / math.log(network.n_classes)
    gained = (accuracy - chance) / (1 - chance) if chance < 1 else 0.0
    is_indifferent = np.mean(log_p.max(axis=1) == log_p.min(axis=1)) > 0.5
    is_trained = n_updates >= ENOUGH_UPDATES
    is_bad = is_trained and gained < POOR and loss > BAD
    is_absurd = loss > (ABSURD if is_trained else ABSURD_AT_FIRST)
    is_constant = is_trained and gained <= ROUNDING and loss > LITTLE_BETTER
    is_constant = is_constant and chance * len(y) >= FEWEST_BY_CHANCE
    if is_indifferent or is_bad or is_absurd or is_constant:
        warn(
            f"Got a network with an accuracy of {accuracy:.2f} on its own training samples, where "
            f"chance has {chance:.2f}, and {loss:.2g} times the log-loss of equal probabilities, "
            "but expected one that has learned: lower learning_rate_init (now "
            f"{estimator.learning_rate_init:g}) or label_scale (now {estimator.label_scale:g}), "
            "train longer, or check features and labels.",
            ConvergenceWarning,
        )
