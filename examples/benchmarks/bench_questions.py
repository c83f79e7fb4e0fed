"""Measure what the further questions of ADSExplainer cost, and whether their answers hold.

Every row compares an answer with the plain explanation of the same network, with what is known to
be right, or with another library's answer::

    python examples/benchmarks/bench_questions.py --data mnist --json FILE
    python examples/benchmarks/bench_questions.py --only refine shapley
    python examples/benchmarks/bench_questions.py --smoke

scores
    Three scores at once over one of them (scikit-learn's MLP, windows of side 7 beside each other):
    seconds, in pairs.
sequential
    Windows that stop once the sign of their accuracy drop is settled at 95 % or the drop is known
    to within ``--precision``: share of all pairs of sample and window asked, and windows settled
    with the wrong sign, over ``--repeats`` orders of the samples. The sign is that on all samples.
    All pairs are predicted once, and looked up in each repetition.
refine
    Windows of side 7, then of side 3 where these are significant, over side 3 everywhere: share of
    the pairs, and overlap of the significant pixels (size of the intersection over the union), over
    five draws of the samples that the coarse windows take.
memory
    Peak resident memory while all windows are explained, above that with model and data.
shapley
    Values from random orders against exact ones: the share within 1.96 reported standard errors,
    and the root mean square distance in standard errors. Of 49 regions in a game whose values are
    known, over ``--repeats`` seeds; of nine tiles and ``--tiles`` x ``--tiles`` ones of 100 images,
    all coalitions of which are scored, over ``--runs`` seeds. Of 7 x 7 tiles: the spread over seeds
    in standard errors, and how far values sum from the whole accuracy drop.
sage, hidimstat, fippy
    The same question answered by these libraries, where they are installed.
"""

from functools import cached_property
from math import comb
from time import perf_counter

import numpy as np
from _common import (
    DATA,
    forget_peak,
    load,
    make_parser,
    peak_mb,
    print_machine,
    print_table,
    wants_smoke,
)
from _question_opponents import fippy_importance, hidimstat_importance, sage_values, tiles
from _results import write_results
from _summary import describe_figures
from sklearn.base import BaseEstimator, ClassifierMixin

from skff import ADSExplainer, FFClassifier
from skff.mlp_baselines import sklearn_mlp
from skff.saliency import shapley

SCORES = ["balanced_accuracy", "f1_macro", "recall_macro"]
WITHIN = 1.96  # standard errors, of 95 % of normal errors
N_EXACT = 100  # images whose coalitions are all scored


def main(argv=None):
    """Run what the command line asks for, print a table and write the results."""
    options = parse_options(argv)
    print_machine()
    case = Case(options)
    print(f"{options.data}: accuracy {case.ff.score(case.X, case.y):.4f} on {len(case.y)} images")
    runs = []
    for name in options.only:
        try:
            found = list(QUESTIONS[name](case))
        except ImportError as error:
            print(f"{name}: left out, {error}")
            continue
        found = [{"data": options.data, "samples": len(case.y)} | run for run in found]
        runs += found
        print_table(["question", "figures"], [[r["question"], describe_figures(r)] for r in found])
        write_results(options.json, found, ["data", "question"])
    return runs


def parse_options(argv):
    """Return the options of the command line; ``--smoke`` replaces the defaults by tiny ones."""
    smoke = wants_smoke(argv)
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--data", choices=DATA, default="digits" if smoke else "mnist")
    add("--only", choices=QUESTIONS, nargs="+", default=list(QUESTIONS), help="what to measure")
    add("--samples", type=int, default=300 if smoke else None, help="test images; default: all")
    add("--few", type=int, default=30 if smoke else 500, help="images for shapley and others")
    add("--train-samples", type=int, default=600 if smoke else None, help="default: all")
    add("--epochs", type=int, default=5 if smoke else 10, help="of the networks to explain")
    add("--precision", type=float, nargs="+", default=[0.05] if smoke else [0.02, 0.01, 0.005])
    add("--repeats", type=int, default=2 if smoke else 50, help="seeds where they are cheap")
    add("--runs", type=int, default=2 if smoke else 20, help="seeds of a network's Shapley values")
    add("--game-samples", type=int, default=60 if smoke else 200, help="of the known game")
    add("--tiles", type=int, default=3 if smoke else 4, help="per side, of exact Shapley values")
    add("--draws", type=int, default=3 if smoke else 10, help="of conditional fills")
    add("--tolerance", type=float, default=0.3 if smoke else 0.05, help="of Shapley values")
    add("--smoke", action="store_true", help="tiny settings: shows in seconds that all runs")
    add("--json", metavar="FILE", help="write all results, in place of older ones")
    return parser.parse_args(argv)


class Case:
    """Data and models, fitted when they are first needed."""

    def __init__(self, options):
        self.options = options
        self.X_train, self.y_train, X, y = load(options.data, n_train=options.train_samples)
        self.X, self.y = X[: options.samples], y[: options.samples]
        self.few = self.X[: options.few], self.y[: options.few]
        self.side = round(self.X.shape[1] ** 0.5)

    @cached_property
    def ff(self):
        """A network trained by the Forward-Forward algorithm."""
        classifier = FFClassifier(max_iter=self.options.epochs, random_state=0)
        return classifier.fit(self.X_train, self.y_train)

    @cached_property
    def mlp(self):
        """scikit-learn's network with the same settings."""
        return sklearn_mlp(self.ff).fit(self.X_train, self.y_train)

    @cached_property
    def recorded(self):
        """`ff`, which looks its labels under the windows of `full` up."""
        return Recorded(self.ff, self.X)

    @cached_property
    def full(self):
        """The plain explanation of `ff`."""
        return ADSExplainer(self.recorded).explain(self.X, self.y)


class Recorded(ClassifierMixin, BaseEstimator):
    """Predicts as a classifier does, and remembers all labels under windows.

    Parameters
    ----------
    classifier : FFClassifier
        Fitted.
    X : ndarray of shape (n_samples, n_features)
        The samples that are explained.
    """

    def __init__(self, classifier, X):
        self.classifier, self.X = classifier, X
        self.classes_, self.n_features_in_ = classifier.classes_, classifier.n_features_in_
        self._labels = {}  # window -> labels, -1 where they are not known yet

    def predict(self, X):
        """Predict as the classifier does."""
        return self.classifier.predict(X)

    def occlusion_predictor(self, X, *, fill):
        """Return a predictor of the labels under windows, for the same samples each time."""
        if len(X) != len(self.X):  # a part of them was drawn
            return self.classifier.occlusion_predictor(X, fill=fill)
        self._predictor = self.classifier.occlusion_predictor(X, fill=fill)
        return self

    def predict_many(self, rows, windows):
        """Return labels (n_windows, n_rows): known ones, or those of the classifier."""
        labels = np.empty((len(windows), len(rows)), dtype=np.int16)
        keys = [np.asarray(window).tobytes() for window in windows]
        for key in keys:
            self._labels.setdefault(key, np.full(len(self.X), -1, dtype=np.int16))
        new = [k for k, key in enumerate(keys) if (self._labels[key][rows] < 0).any()]
        if new:
            found, _ = self._predictor.predict_many(rows, [windows[k] for k in new])
            for k, own in zip(new, found, strict=True):
                self._labels[keys[k]][rows] = own
        for own, key in zip(labels, keys, strict=True):
            own[:] = self._labels[key][rows]
        return labels, {}


def several_scores(case):
    """Time one score and three at once, alternately."""
    seconds = {"one": [], "three": []}
    for _ in range(3):
        for name, scoring in (("one", SCORES[0]), ("three", SCORES)):
            start = perf_counter()
            settings = {"window_shape": 7, "stride": 7, "aggregate": "coverage"}
            ADSExplainer(case.mlp, scoring=scoring, **settings).explain(case.X, case.y)
            seconds[name].append(perf_counter() - start)
    ratios = np.divide(seconds["three"], seconds["one"])
    yield {
        "question": "three scores over one",
        "seconds_one": float(np.median(seconds["one"])),
        "time_ratio": float(np.median(ratios)),
    }


def sequential(case):
    """Yield how much is asked and how often a settled sign is wrong, per precision."""
    signs = np.sign(case.full.window_importances)
    for precision in case.options.precision:
        shares, settled, wrong = [], [], []
        for seed in range(case.options.repeats):
            explainer = ADSExplainer(case.recorded, target_precision=precision, random_state=seed)
            found = explainer.explain(case.X, case.y)
            shares.append(found.window_n_samples.mean() / len(case.y))
            is_settled = found.window_p_values <= explainer.alpha
            differs = np.sign(found.window_importances) != signs
            settled.append(is_settled.sum())
            wrong.append((differs & is_settled).sum())
        yield {
            "question": f"sequential, precision {precision}",
            "repeats": case.options.repeats,
            "share_of_pairs": float(np.mean(shares)),
            "settled_windows": float(np.mean(settled)),
            "wrong_signs_per_map": float(np.mean(wrong)),
            "largest_wrong_share": float(np.max(np.divide(wrong, np.maximum(settled, 1)))),
        }


def refine(case):
    """Yield the share of pairs of coarse and fine windows, and the overlap of what they find."""
    shares, overlaps, n_all = [], [], len(case.full.window_scores) * len(case.y)
    for seed in range(5):
        explainer = ADSExplainer(case.recorded, window_shape=7, refine=3, random_state=seed)
        found = explainer.explain(case.X, case.y)
        pairs = found.engine_stats["coarse_pairs"] + found.engine_stats["fine_pairs"]
        marks, full = found.significant(), case.full.significant()
        shares.append(pairs / n_all)
        overlaps.append(np.sum(marks & full) / np.sum(marks | full))
    yield {
        "question": "refine, 7 then 3",
        "share_of_pairs": float(np.mean(shares)),
        "largest_share_of_pairs": float(np.max(shares)),
        "overlap": float(np.mean(overlaps)),
        "smallest_overlap": float(np.min(overlaps)),
    }


def memory(case):
    """Yield the peak memory of an explanation by each engine that counts predictions."""
    for name, model in (("FFClassifier", case.ff), ("scikit-learn's MLP", case.mlp)):
        model.predict(case.X[:10])  # libraries load what they need
        before = forget_peak()
        found = ADSExplainer(model).explain(case.X, case.y)
        yield {
            "question": f"memory, {name}, engine {found.engine}",
            "windows": len(found.window_scores),
            "peak_mb": peak_mb() - before,
        }


def shapley_values(case):
    """Yield how far values from random orders are from exact ones, in standard errors."""
    options, (X, y) = case.options, case.few
    for n_tiles in dict.fromkeys([3, options.tiles]):
        explainer = tile_explainer(case, n_tiles)
        exact = shapley(explainer, X[:N_EXACT], y[:N_EXACT], method="exact").values
        runs = sample_values(explainer, X[:N_EXACT], y[:N_EXACT], options.runs, options)
        yield {"question": f"Shapley values of {n_tiles**2} tiles"} | coverage(runs, exact)
    runs = sample_values(tile_explainer(case, 7), X, y, options.runs, options)
    yield {"question": "Shapley values of 49 tiles, between seeds"} | spread_of_runs(runs)
    game = VotingGame(n_regions=49, n_samples=options.game_samples)
    runs = sample_values(game.explainer(), game.X, game.y, options.repeats, options)
    yield {"question": "Shapley values of 49 regions, known game"} | coverage(runs, game.values())


def tile_explainer(case, n_tiles):
    """Return an explainer of the network whose regions are square tiles."""
    labels = tiles(case.side, n_tiles)
    return ADSExplainer(case.ff, groups=labels, fill="mean", engine="predict")


def sample_values(explainer, X, y, n_seeds, options):
    """Return Shapley values from random orders, one per seed."""
    params = {"method": "permutation", "tolerance": options.tolerance}
    return [shapley(explainer, X, y, random_state=seed, **params) for seed in range(n_seeds)]


def coverage(runs, exact):
    """Return how far values are from exact ones, in the standard errors reported."""
    errors = np.array([run.values - exact for run in runs])
    reported = np.array([run.standard_error for run in runs])
    has_error = reported > 0  # a region without effect has neither
    z = np.abs(errors[has_error] / reported[has_error])
    return {
        "repeats": len(runs),
        "share_within_1.96_standard_errors": float(np.mean(z <= WITHIN)),
        "root_mean_square_distance_in_standard_errors": float(np.sqrt(np.mean(z**2))),
        "largest_error_without_a_reported_one": float(np.abs(errors[~has_error]).max(initial=0)),
        "largest_standard_error": float(np.max([run.standard_error.max() for run in runs])),
        "orders": float(np.mean([run.n_permutations for run in runs])),
    }


def spread_of_runs(runs):
    """Return how values of several seeds differ, in standard errors, and what they sum to."""
    values = np.array([run.values for run in runs])
    reported = np.sqrt(np.mean([run.standard_error**2 for run in runs], axis=0))
    found = values.std(axis=0, ddof=1)
    gaps = [run.values.sum() - (run.full_score - run.hidden_score) for run in runs]
    return {
        "repeats": len(runs),
        "spread_over_reported_error": float(np.sqrt(np.sum(found**2) / np.sum(reported**2))),
        "largest_distance_of_sum_from_whole_drop": float(np.abs(gaps).max()),
        "whole_drop": float(runs[0].full_score - runs[0].hidden_score),
        "largest_standard_error": float(np.max([run.standard_error.max() for run in runs])),
        "orders": float(np.mean([run.n_permutations for run in runs])),
    }


class VotingGame(ClassifierMixin, BaseEstimator):
    """Is right about a sample if those of its eight regions that are shown win a vote.

    Parameters
    ----------
    n_regions, n_samples : int
    n_voters : int, default=8
        Regions that a sample depends on, few enough to score all their coalitions.
    seed : int, default=0
        Of the voters of each sample, and the weights of their votes.
    """

    def __init__(self, n_regions, n_samples, n_voters=8, seed=0):
        self.n_regions, self.n_samples = n_regions, n_samples
        self.n_voters, self.seed = n_voters, seed
        rng = np.random.default_rng(seed)
        self.voters_ = np.stack(
            [rng.choice(n_regions, n_voters, replace=False) for _ in range(n_samples)]
        )
        self.votes_ = rng.normal(0.5, 1, (n_samples, n_voters))
        self.classes_ = np.arange(2)

    @property
    def X(self):
        """Samples: a feature per region, 1 if shown, and the number of the sample."""
        return np.column_stack([np.ones((self.n_samples, self.n_regions)), range(self.n_samples)])

    @property
    def y(self):
        """True labels, 1 for right."""
        return np.ones(self.n_samples, dtype=int)

    def explainer(self):
        """Return an explainer whose regions are those of the game."""
        groups = [[region] for region in range(self.n_regions)]
        return ADSExplainer(self, groups=groups, image_shape=(self.n_regions + 1,))

    def predict(self, X):
        """Return 1 where the regions shown win."""
        samples = X[:, -1].astype(int)
        shown = np.take_along_axis(X[:, :-1], self.voters_[samples], axis=1)
        return self._wins(shown, self.votes_[samples]).astype(int)

    def values(self):
        """Return the exact Shapley values, from all coalitions of each sample's voters."""
        n_voters, found = self.n_voters, np.zeros(self.n_regions)
        codes = np.arange(2**n_voters)
        shown = codes[:, None] >> np.arange(n_voters) & 1  # (n_coalitions, n_voters)
        wins = self._wins(shown[:, None], self.votes_).astype(float)  # (n_coalitions, n_samples)
        for voter in range(n_voters):
            without = codes[shown[:, voter] == 0]
            n_alike = [comb(n_voters - 1, size) for size in shown[without].sum(axis=1)]
            gains = (wins[without | 1 << voter] - wins[without]) / np.array(n_alike)[:, None]
            np.add.at(found, self.voters_[:, voter], gains.sum(axis=0) / n_voters)
        return found / self.n_samples

    @staticmethod
    def _wins(shown, votes):
        return (shown * votes).sum(axis=-1) > 0.5 * votes.sum(axis=-1)


def beside_sage(case):
    """Compare Shapley values of tiles."""
    X, y = case.few
    labels = tiles(case.side, 4 if case.side < 16 else 7)
    yield sage_values(case.mlp, X, y, labels, case.options.tolerance)


def beside_conditional(name, compare, *, needs_samples=False):
    """Return a question that compares conditional drops of tiles with those of a library.

    With `needs_samples`, it is left out where there are no more samples than features.
    """

    def question(case):
        X, y = case.few
        if needs_samples and len(X) <= X.shape[1]:
            print(f"{name}: left out, its covariance of {X.shape[1]} features wants more samples")
            return
        labels = tiles(case.side, 4 if case.side < 16 else 7)
        yield compare(case.mlp, X.astype(np.float64), y, labels, case.options.draws)

    return question


QUESTIONS = {
    "scores": several_scores,
    "sequential": sequential,
    "refine": refine,
    "memory": memory,
    "shapley": shapley_values,
    "sage": beside_sage,
    "hidimstat": beside_conditional("hidimstat", hidimstat_importance),
    "fippy": beside_conditional("fippy", fippy_importance, needs_samples=True),
}

if __name__ == "__main__":
    main()
