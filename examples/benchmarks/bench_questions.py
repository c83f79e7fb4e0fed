"""Measure what the further questions of ADSExplainer cost, and whether their answers hold.

Every row compares an answer with that of the plain explanation of the same network::

    python examples/benchmarks/bench_questions.py --data mnist --json FILE
    python examples/benchmarks/bench_questions.py --smoke

scores
    Three scores at once over one of them (scikit-learn's MLP, windows of side 7 beside each other):
    seconds, in pairs.
sequential
    Windows that stop once the sign of their accuracy drop is settled at 95 % or the drop is known
    to within ``--precision``: share of all pairs of sample and window asked, and windows settled
    with the wrong sign, over ``--repeats`` orders of the samples. The sign is that on all samples.
refine
    Windows of side 7, then of side 3 where these are significant, over side 3 everywhere: share of
    the pairs, and overlap of the significant pixels (size of the intersection over the union).
shapley
    Values of 9 groups of pixels by random orders, against those of all coalitions: how many
    reported standard errors they are apart at most.
"""

import argparse
import sys
from time import perf_counter

import numpy as np
from _common import DATA, load, print_machine, print_table
from _results import write_results
from _summary import describe_figures

from skff import ADSExplainer, FFClassifier
from skff.mlp_baselines import sklearn_mlp
from skff.saliency import shapley

SCORES = ["balanced_accuracy", "f1_macro", "recall_macro"]


def main(argv=None):
    """Run what the command line asks for, print a table and write the results."""
    options = parse_options(argv)
    print_machine()
    X_train, y_train, X, y = load(options.data, n_train=options.train_samples)
    X, y = X[: options.samples], y[: options.samples]
    ff = FFClassifier(max_iter=options.epochs, random_state=0)
    print(f"{options.data}: accuracy {ff.fit(X_train, y_train).score(X, y):.4f} on {len(y)} images")
    mlp = sklearn_mlp(ff).fit(X_train, y_train)
    full = ADSExplainer(ff).explain(X, y)
    runs = [
        several_scores(mlp, X, y),
        *sequential(ff, X, y, full, options),
        refine(ff, X, y, full),
        shapley_values(ff, X[: options.few], y[: options.few]),
    ]
    runs = [{"data": options.data, "samples": len(y)} | run for run in runs]
    print_table(
        ["question", "figures"],
        [[run["question"], describe_figures(run)] for run in runs],
    )
    write_results(options.json, runs, ["data", "question"])
    return runs


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = "--smoke" in (sys.argv if argv is None else argv)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", choices=DATA, default="digits" if smoke else "mnist")
    add("--samples", type=int, default=300 if smoke else None, help="test images; default: all")
    add("--few", type=int, default=100 if smoke else 1000, help="images for shapley")
    add("--train-samples", type=int, default=600 if smoke else None, help="default: all")
    add("--epochs", type=int, default=5 if smoke else 10, help="of the networks to explain")
    add("--precision", type=float, nargs="+", default=[0.05] if smoke else [0.02, 0.01, 0.005])
    add("--repeats", type=int, default=3 if smoke else 50, help="orders of the samples")
    add("--smoke", action="store_true", help="tiny settings: shows in seconds that all runs")
    add("--json", metavar="FILE", help="write all results, in place of older ones")
    return parser.parse_args(argv)


def several_scores(model, X, y):
    """Time one score and three at once, alternately."""
    seconds = {"one": [], "three": []}
    for _ in range(3):
        for name, scoring in (("one", SCORES[0]), ("three", SCORES)):
            start = perf_counter()
            settings = {"window_shape": 7, "stride": 7, "aggregate": "coverage"}
            ADSExplainer(model, scoring=scoring, **settings).explain(X, y)
            seconds[name].append(perf_counter() - start)
    ratios = np.divide(seconds["three"], seconds["one"])
    return {
        "question": "three scores over one",
        "seconds_one": float(np.median(seconds["one"])),
        "time_ratio": float(np.median(ratios)),
    }


def sequential(model, X, y, full, options):
    """Yield how much is asked and how often a settled sign is wrong, per precision."""
    for precision in options.precision:
        shares, settled, wrong = [], [], []
        for seed in range(options.repeats):
            explainer = ADSExplainer(model, target_precision=precision, random_state=seed)
            found = explainer.explain(X, y)
            shares.append(found.window_n_samples.mean() / len(y))
            is_settled = found.window_p_values <= explainer.alpha
            differs = np.sign(found.window_importances) != np.sign(full.window_importances)
            settled.append(is_settled.sum())
            wrong.append((differs & is_settled).sum())
        yield {
            "question": f"sequential, precision {precision}",
            "repeats": options.repeats,
            "share_of_pairs": float(np.mean(shares)),
            "settled_windows": float(np.mean(settled)),
            "wrong_signs_per_map": float(np.mean(wrong)),
            "largest_wrong_share": float(np.max(np.divide(wrong, np.maximum(settled, 1)))),
        }


def refine(model, X, y, full):
    """Return the share of pairs of coarse and fine windows, and the overlap of what they find."""
    found = ADSExplainer(model, window_shape=7, refine=3).explain(X, y)
    n_pairs = found.engine_stats["coarse_pairs"] + found.engine_stats["fine_pairs"]
    masks = found.significant(), full.significant()
    return {
        "question": "refine, 7 then 3",
        "share_of_pairs": n_pairs / (len(full.window_scores) * len(y)),
        "overlap": float(np.sum(masks[0] & masks[1]) / np.sum(masks[0] | masks[1])),
    }


def shapley_values(model, X, y):
    """Return how far values from random orders are from exact ones, in standard errors."""
    side = round(X.shape[1] ** 0.5)
    rows, columns = np.indices((side, side)) * 3 // side
    explainer = ADSExplainer(model, groups=rows * 3 + columns, fill="mean", engine="predict")
    exact = shapley(explainer, X, y, method="exact")
    found = shapley(explainer, X, y, method="permutation", random_state=0)
    z = np.abs(found.values - exact.values) / found.standard_error
    return {
        "question": "Shapley values of 9 groups",
        "largest_distance_in_standard_errors": float(z.max()),
        "largest_standard_error": float(found.standard_error.max()),
        "orders": int(found.n_permutations),
    }


if __name__ == "__main__":
    main()
