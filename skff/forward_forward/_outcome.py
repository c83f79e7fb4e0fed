"""Whether a training ended well: what the network makes of its own training samples."""

import math

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from skff._warnings import warn
from skff.forward_forward._scale import some_rows

FEWEST = 20  # samples that say something
FEWEST_BY_CHANCE = 5  # right by chance, so that their lack says something
ENOUGH_UPDATES = 100
POOR = 0.5  # share of what chance leaves to be gained
# Log-loss over that of equal probabilities; at first some goodness functions differ by much.
LITTLE_BETTER, BAD, ABSURD, ABSURD_AT_FIRST = 0.99, 2.0, 100.0, 1000.0
ROUNDING = 1e-9


def warn_of_outcome(estimator, network, samples, *, n_updates):
    """Warn if the network fits up to 256 of its training samples no better than chance.

    That is: for most samples it has no preference, or its labels agree with theirs no more often
    than they would if shuffled and its probabilities are no better than equal ones, or the labels
    gain less than half of what chance leaves and the probabilities are worse than equal ones, or
    the probabilities are absurd.

    Parameters
    ----------
    estimator : FFClassifier
        Whose parameters are to be changed.
    network : Network
        Trained.
    samples : tuple of (X, y, weight)
        See `Task`.
    n_updates : int
        Number of updates of each layer; after less than 100 a network need not know anything yet.
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
