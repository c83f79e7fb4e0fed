"""What the results say of the paper's claims: every verdict is computed."""

import warnings
from dataclasses import dataclass

import numpy as np
from _plan import BACKPROP, CONTESTANTS
from scipy import stats

LEVEL = 0.95
NAMES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST", "digits": "digits"}


@dataclass
class Verdict:
    """A claim of the paper beside what was found.

    Parameters
    ----------
    claim, where : str
        What the paper says, and the figure or section.
    found : str
        Our figure, with its uncertainty.
    verdict : {"holds", "does not hold", "not needed", "open"}
    """

    claim: str
    where: str
    found: str
    verdict: str


def select(rows, **wanted):
    """Return the rows whose fields have the wanted values."""
    return [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]


def verdicts(rows, data):
    """Return a `Verdict` on each claim, for one data set."""
    judges = [each_layer_learns, competes, default_competes, map_matters, maps_agree, flattens]
    found = [judge(rows, data) for judge in judges]
    return [verdict for verdict in found if verdict is not None]


def each_layer_learns(rows, data):
    """Judge whether the loss of each layer falls while it is trained."""
    runs = select(rows, task="train", data=data, contestant="paper")
    falls = []
    for layer in (0, 1):
        losses = [[r["loss"][0] for r in run["history"] if r["layers"] == [layer]] for run in runs]
        falls.append([own[-1] / own[0] for own in losses])
    found = "last over first epoch's loss: " + ", ".join(
        f"layer {k + 1} {np.mean(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})"
        for k, ratio in enumerate(falls)
    )
    holds = all(max(ratio) < 1 for ratio in falls)
    return Verdict("each layer learns on its own", "Figures 2 and 3", found, _word(holds))


def competes(rows, data):
    """Judge whether the paper's rule is on a par with each backprop network."""
    return _against_backprop(
        rows, data, "paper", "accuracy on a par with an MLP", "abstract, section V"
    )


def default_competes(rows, data):
    """Judge the same of skff's default."""
    return _against_backprop(
        rows, data, "default", "the same, for skff's default rule", "not in the paper"
    )


def _against_backprop(rows, data, contestant, claim, where):
    own = _errors(rows, data, contestant)
    texts, holds, is_open = [], True, False
    for other in BACKPROP:
        theirs = _errors(rows, data, other)
        difference = np.mean(own) - np.mean(theirs)
        text = f"{difference:+.2f}"
        if min(len(own), len(theirs)) > 1:
            low, high = _interval_of_difference(own, theirs)
            text += f" [{low:+.2f}, {high:+.2f}]"
            holds &= low <= 0
            is_open |= low <= 0 < high and high - low > 1
        else:
            is_open = True
        texts.append(f"{text} to {CONTESTANTS[other].removeprefix('backprop, ')}")
    found = f"error {np.mean(own):.2f} %; points of error: " + "; ".join(texts)
    return Verdict(claim, where, found, "open" if holds and is_open else _word(holds))


def _interval_of_difference(own, theirs):
    """Return the ends of Welch's confidence interval of the difference of two means."""
    if np.ptp(own) == np.ptp(theirs) == 0:
        return (np.mean(own) - np.mean(theirs),) * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where the seeds of one have equal errors
        test = stats.ttest_ind(own, theirs, equal_var=False)
    return test.confidence_interval(LEVEL)


def map_matters(rows, data):
    """Judge whether removing the pixels that the map ranks first hurts more than random ones."""
    (row,) = select(rows, task="explain", data=data, contestant="paper")
    random = np.array(row["random_areas"])
    area = row["deletion_area"]
    found = (
        f"area under the deletion curve {area:.3f}, {len(random)} random orders "
        f"{random.mean():.3f} ({random.min():.3f} to {random.max():.3f}); "
        f"{row['n_significant']} pixels significant at 5 % family-wise"
    )
    # Few samples may order the pixels well, and yet leave none significant.
    holds = area < random.min()
    verdict = "open" if holds and not row["n_significant"] else _word(holds)
    return Verdict("ADS marks what the network relies on", "Figures 4 and 5", found, verdict)


def maps_agree(rows, data):
    """Judge whether the maps of Forward-Forward and of backprop rank the pixels alike."""
    (row,) = select(rows, task="compare", data=data)
    pairs = [p for p in row["pairs"] if p["first"] == "paper" and p["second"] in BACKPROP]
    found = "rank correlation " + "; ".join(
        f"{p['rank_correlation']:.2f} [{p['interval'][0]:.2f}, {p['interval'][1]:.2f}] with "
        f"{CONTESTANTS[p['second']].removeprefix('backprop, ')}"
        for p in pairs
    )
    holds = all(p["interval"][0] > 0.5 for p in pairs)
    return Verdict("the map resembles an MLP's (above 0.5)", "section V", found, _word(holds))


def flattens(rows, data):
    """Judge whether 5,000 epochs are needed."""
    points = select(rows, task="curve", data=data)
    if len(points) < 2:
        return None
    flat = flat_from(points)
    best = min(points, key=lambda point: point["error"])
    last = points[-1]
    found = (
        f"{last['error']:.2f} % after {last['epochs']} epochs per layer, "
        f"best {best['error']:.2f} % after {best['epochs']}; "
    )
    if flat is None:
        return Verdict("5,000 epochs", "section IV", found + "still falling", "open")
    found += f"flat from {flat} to {last['epochs']} epochs, within one standard error"
    return Verdict("5,000 epochs", "section IV", found, "not needed")


def flat_from(points):
    """Return the first epochs after which no point is better by a standard error.

    Parameters
    ----------
    points : list of dict
        With epochs, error in percent and n_test, by rising epochs.

    Returns
    -------
    epochs : int or None
        None where that is the last point: the curve has not flattened.
    """
    for k, point in enumerate(points[:-1]):
        error = np.sqrt(2 * point["error"] * (100 - point["error"]) / point["n_test"])
        if all(later["error"] > point["error"] - error for later in points[k + 1 :]):
            return point["epochs"]
    return None


def _errors(rows, data, contestant):
    return [row["error"] for row in select(rows, task="train", data=data, contestant=contestant)]


def _word(holds):
    return "holds" if holds else "does not hold"
