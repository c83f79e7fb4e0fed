import copy
import re
from functools import cache, partial
from resource import RUSAGE_SELF, getrusage
from time import perf_counter

import numpy as np
import pandas as pd
import pytest
import torch
from forward_forward.samples import (
    fingerprint,
    gaussian_classes,
    next_label,
    same_weights,
    tiny_classifier,
)
from scipy.sparse import csr_array
from sklearn.exceptions import NotFittedError

from skff import FFClassifier
from skff.forward_forward._distributed import TEAMS
from skff.forward_forward._parameters import CONSTRAINTS
from skff.forward_forward._trainer import SCHEDULES
from skff.forward_forward.goodness import GOODNESS, MeanSquare
from skff.forward_forward.losses import LOSSES, CrossEntropy, Swish
from skff.forward_forward.negatives import NEGATIVES, Hard
from skff.forward_forward.overlays import OVERLAYS
from skff.forward_forward.readouts import READOUTS, Softmax
from skff.forward_forward.solvers import SGD, SOLVERS, AdamW

NAMES = {
    "overlay": OVERLAYS,
    "goodness": GOODNESS,
    "loss": ["auto", *LOSSES],
    "negatives": ["auto", "all", *NEGATIVES],
    "training": ["simultaneous", "greedy"],
    "readout": READOUTS,
    "solver": SOLVERS,
    "learning_rate": SCHEDULES,
    "matmul_precision": ["highest", "high", "medium"],
    "parallel": TEAMS,
}
OUT_OF_RANGE = {
    "hidden_layer_sizes": [0, -3, 2.0, (), [], [5, 0], [5, -1], [5.0], ["5"], [[5, 5]], [5, [5]]],
    "label_scale": [0, 0.0, -1, np.inf, np.nan],
    "peer_normalization": [-0.1, np.inf, np.nan],
    "dropout": [-0.1, 1, 1.5, np.nan, "automatic"],
    "learning_rate_init": [0, -1e-3, np.inf, np.nan],
    "weight_decay": [-1e-3, np.inf, np.nan],
    "batch_size": [0, -1, 1.5, np.nan],
    "max_iter": [0, -1, 1.5, np.inf],
    "validation_fraction": [0, 1, 1.0, -0.1, np.nan],
    "n_iter_no_change": [0, -1, 1.5],
    "tol": [-1e-4, np.inf, np.nan],
    "early_stopping": [1, "yes"],
    "warm_start": [0, "no"],
    "center": [1, "mean"],
    "skip_first_goodness": [1],
    "class_weight": ["equal", [1, 1, 1]],
    "random_state": [-1, 2**32, 0.5, np.random.default_rng(0)],
    "verbose": [-1],
    "checkpoint": [0, True],
    "checkpoint_every": [0, -1, 1.5],
    "keep_interrupted": [1, "yes"],
    "device": ["gpu", "cuda:99", "meta", 0],
}
WRONG_TYPE = "a string", object(), b"bytes", {1, 2}, 3j


def assert_refused(clf, fit, *, error=ValueError, match):
    """Assert that a call raises, naming what was got and expected, and leaves no trace."""
    before = fingerprint(clf)
    with pytest.raises(error) as caught:
        fit()
    assert type(caught.value).__module__ in ("builtins", "sklearn.utils._param_validation")
    assert re.search(match, str(caught.value), re.DOTALL)
    assert fingerprint(clf) == before


@cache
def states():
    """Return a classifier that is unfitted, fitted and partially fitted, then its data."""
    X, y = gaussian_classes()
    unfitted, fitted, begun = (tiny_classifier() for _ in range(3))
    return [unfitted, fitted.fit(X, y), begun.partial_fit(X, y, classes=[0, 1, 2])], X, y


def each_state(**params):
    """Yield (classifier, X, y) for each state, with these parameters."""
    classifiers, X, y = states()
    for clf in classifiers:
        yield copy.deepcopy(clf).set_params(**params), X, y


# parameters


def test_every_parameter_has_constraints_and_cases_here():
    assert set(CONSTRAINTS) == set(FFClassifier().get_params())
    assert set(CONSTRAINTS) == set(NAMES) | set(OUT_OF_RANGE) | {"augment"}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_parameter_of_a_wrong_type_is_named_with_its_value(name, method):
    for value in WRONG_TYPE:
        if (name, value) == ("checkpoint", "a string"):
            continue  # which is a path
        for clf, X, y in each_state(**{name: value}):
            classes = {} if method == "fit" else {"classes": [0, 1, 2]}
            before = vars(clf).copy()
            with pytest.raises(ValueError, match=f"(?s){name}.*") as caught:
                getattr(clf, method)(X, y, **classes)
            assert str(value) in str(caught.value)
            assert vars(clf).keys() == before.keys()
            assert all(vars(clf)[key] is before[key] for key in before)


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in OUT_OF_RANGE.items() for value in values]
)
def test_a_parameter_out_of_range_is_named_with_its_value(name, value):
    for clf, X, y in each_state(**{name: value}):
        match = rf"{name}.*({re.escape(str(value))}|{re.escape(repr(value))})"
        assert_refused(clf, lambda clf=clf, X=X, y=y: clf.fit(X, y), match=match)


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_name_is_answered_with_the_valid_ones(name):
    for clf, X, y in each_state(**{name: "unheard-of"}):
        with pytest.raises(ValueError, match=f"(?s){name}.*'unheard-of'") as caught:
            clf.fit(X, y)
        assert all(repr(valid) in str(caught.value) for valid in NAMES[name])


@pytest.mark.parametrize(
    ("params", "match"),
    [
        (
            {"skip_first_goodness": True, "hidden_layer_sizes": (8,)},
            "skip_first_goodness=True.*two",
        ),
        ({"negatives": "confused"}, "negatives='confused'.*expected readout='softmax'"),
        (
            {"negatives": "confused", "readout": "softmax", "training": "greedy"},
            "training='greedy'.*expected.*training='simultaneous'",
        ),
        (
            {"loss": "cross_entropy", "overlay": "append"},
            "loss='cross_entropy' with overlay='append'.*overlay='layerwise'.*loss='symba'",
        ),
        (
            {"loss": CrossEntropy(scale=2.0), "overlay": "replace"},
            r"loss=CrossEntropy\(scale=2.0.*overlay='replace'.*overlay='layerwise'",
        ),
        (
            {"loss": "symba", "negatives": "all"},
            "negatives='all' with loss='symba'.*negatives='hard'.*loss='cross_entropy'",
        ),
        (
            {"overlay": "append", "negatives": "all"},
            "negatives='all'.*overlay='append'.*negatives='hard'",
        ),
        (
            {"loss": "cross_entropy", "negatives": "hard"},
            "negatives='hard' with loss='cross_entropy'.*negatives='all'.*pair loss",
        ),
        (
            {"loss": CrossEntropy(), "negatives": next_label},
            "negatives=.*next_label.*expected.*negatives='all'",
        ),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(params, match):
    for clf, X, y in each_state(**params):
        for call in (clf.fit, partial(clf.partial_fit, classes=[0, 1, 2])):
            assert_refused(clf, lambda call=call, X=X, y=y: call(X, y), match=match)


@pytest.mark.parametrize(
    "sizes",
    [10**9, (10**19,), (10**7, 10**7), (8, 10**12), [2**62, 2**62], (10**100,)],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_layers_that_no_memory_holds_are_refused_at_once(sizes, method):
    X, y = gaussian_classes()
    clf = tiny_classifier(sizes)
    classes = {} if method == "fit" else {"classes": [0, 1, 2]}
    start, peak = perf_counter(), getrusage(RUSAGE_SELF).ru_maxrss
    match = "Got hidden_layer_sizes=.*expected.*memory"
    assert_refused(clf, lambda: getattr(clf, method)(X, y, **classes), match=match)
    assert perf_counter() - start < 2
    assert getrusage(RUSAGE_SELF).ru_maxrss - peak < 2**17  # 128 MB


@pytest.mark.parametrize(
    ("component", "params", "match"),
    [(SGD, {"momentum": value}, r"momentum=.*\[0, 1\)") for value in (-0.1, 1, np.nan)]
    + [
        (Softmax, {"learning_rate_init": value}, "learning_rate_init=.*positive")
        for value in (-0.1, 0, np.inf, np.nan)
    ]
    + [(Softmax, {"weight_decay": value}, "weight_decay=.*0") for value in (-1, np.inf, np.nan)]
    + [(Softmax, {"label_smoothing": value}, "label_smoothing=") for value in (-0.1, 1, np.nan)],
)
def test_settings_of_a_solver_or_readout_out_of_range_are_refused(component, params, match):
    with pytest.raises(ValueError, match=f"Got {match}"):
        component(**params)


# components of one's own


def mean_loss(g_pos, g_neg):
    return (g_neg - g_pos).mean()


def column_goodness(h):
    return h.pow(2).mean(-1, keepdim=True)


def true_label(y, n_classes, generator):
    return y


def label_beyond(y, n_classes, generator):
    return y + n_classes


def too_few(y, n_classes, generator):
    return next_label(y, n_classes, generator)[:1]


def no_overlay(X, n_classes):
    return X[:, :0]


class WholeTable:
    compares_all = True
    max_candidates = 64

    def __call__(self, g, y, comparable):
        return g


class Needy:
    needs = "something"

    def __call__(self, y, n_classes, generator, score):
        return next_label(y, n_classes, generator)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"loss": Swish}, "loss=.*Swish"),
        ({"loss": CrossEntropy}, "loss=.*CrossEntropy"),
        ({"loss": WholeTable()}, r"loss=.*WholeTable.*expected \(2,\)"),
        ({"solver": AdamW}, "solver=.*AdamW"),
        ({"readout": Softmax}, "readout.*Softmax"),
        ({"goodness": MeanSquare}, "goodness=.*MeanSquare"),
        ({"negatives": Hard}, "negatives=.*Hard"),
        ({"loss": mean_loss}, "loss=.*mean_loss.*expected"),
        ({"goodness": column_goodness}, "goodness=.*column_goodness.*expected"),
        ({"goodness": torch.mean}, "goodness=.*mean.*expected"),
        ({"negatives": true_label}, "negatives=.*true_label.*expected"),
        ({"negatives": label_beyond}, "negatives=.*label_beyond.*expected"),
        ({"negatives": too_few}, "negatives=.*too_few.*expected"),
        ({"negatives": Needy()}, "negatives=.*'something'.*expected 'goodness' or 'readout'"),
        ({"overlay": no_overlay}, "overlay=.*no_overlay.*expected.*feature"),
    ],
)
def test_a_component_that_does_not_work_is_named_before_training(params, match):
    X, y = gaussian_classes()
    for clf in (tiny_classifier(), tiny_classifier().fit(X, y)):
        clf.set_params(**params)
        before = set(vars(clf))
        with pytest.raises(ValueError, match=f"(?s){match}"):
            clf.fit(X, y)
        assert set(vars(clf)) == before


# data


def bad_data():
    """Return names -> (X, y, error, pattern of the message) that no fit accepts."""
    X, y = gaussian_classes()
    with_nan, with_inf = X.copy(), X.copy()
    with_nan[3, 2], with_inf[3, 2] = np.nan, -np.inf
    missing = np.where(y == 1, np.nan, y)
    return {
        "NaN": (with_nan, y, ValueError, "X contains NaN"),
        "infinity": (with_inf, y, ValueError, "X contains infinity"),
        "frame with NaN": (pd.DataFrame(with_nan), y, ValueError, "X contains NaN"),
        "no samples": (X[:0], y[:0], ValueError, r"0 sample.*minimum of 1"),
        "no features": (X[:, :0], y, ValueError, r"0 feature.*minimum of 1"),
        "1-D": (X[0], y, ValueError, "Expected 2D array, got 1D"),
        "3-D": (X[None], y, ValueError, r"\(1, 60, 6\).*reshape\(len\(X\), -1\)"),
        "sparse": (csr_array(X), y, TypeError, "Sparse data.*dense data is required"),
        "words": (np.full(X.shape, "word"), y, ValueError, "could not convert string.*'word'"),
        "complex": (X + 1j, y, ValueError, "Complex data not supported"),
        "no y": (X, None, ValueError, "requires y"),
        "short y": (X, y[:-1], ValueError, r"inconsistent.*\[60, 59\]"),
        "two-column y": (X, np.c_[y, y], ValueError, r"1d array.*\(60, 2\)"),
        "continuous y": (X, y + 0.5, ValueError, "continuous"),
        "y with NaN": (X, missing, ValueError, "y contains NaN"),
        "scalar y": (X, 3, (ValueError, TypeError), "1d array"),
    }


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("case", bad_data())
def test_bad_data_leave_every_estimator_as_it_was(case, method):
    X, y, error, match = bad_data()[case]
    arguments = [[0, 1, 2]] if method == "partial_fit" else []
    for clf, X_good, _ in each_state():
        fitted = hasattr(clf, "classes_")
        expected = clf.decision_function(X_good) if fitted else None
        call = getattr(clf, method)
        assert_refused(clf, lambda c=call: c(X, y, *arguments), error=error, match=match)
        if fitted:
            np.testing.assert_array_equal(clf.decision_function(X_good), expected)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
@pytest.mark.parametrize("case", ["NaN", "infinity", "no samples", "1-D", "sparse", "words"])
def test_bad_data_cannot_be_predicted(case, method):
    X, _, error, match = bad_data()[case]
    _, (clf, *_), _ = each_state()
    assert_refused(clf, lambda: getattr(clf, method)(X), error=error, match=match)


METHODS = ["predict", "predict_proba", "predict_log_proba", "decision_function", "layer_goodness"]


@pytest.mark.parametrize("method", METHODS)
def test_other_features_than_fitted_are_refused(method):
    X, y = gaussian_classes()
    clf = tiny_classifier().fit(X, y)
    for other in (X[:, :4], np.c_[X, X]):
        match = f"{other.shape[1]} features.*expecting 6"
        assert_refused(clf, lambda other=other: getattr(clf, method)(other), match=match)
    match = "4 features.*expecting 6"
    assert_refused(clf, lambda: clf.partial_fit(X[:, :4], y), match=match)
    clf.set_params(warm_start=True)
    assert_refused(clf, lambda: clf.fit(X[:, :4], y), match=match)


@pytest.mark.parametrize("method", METHODS)
def test_an_unfitted_classifier_says_so(method):
    clf = tiny_classifier()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        getattr(clf, method)(np.zeros((2, 3)))
    assert vars(clf) == vars(tiny_classifier())


FITTED = """
    coefs_ intercepts_ label_coefs_ input_scale_ label_amplitude_ history_ loss_curves_ n_iter_
    n_layers_ device_ classes_ n_features_in_
""".split()


@pytest.mark.parametrize("name", FITTED)
def test_an_unfitted_classifier_has_no_fitted_attribute(name):
    assert not hasattr(tiny_classifier(), name)
    assert hasattr(tiny_classifier().fit(*gaussian_classes()), name)


@pytest.mark.parametrize("n_features", [2, 3])
def test_replaced_features_must_leave_some(n_features):
    X, y = gaussian_classes(n_features=n_features, n_classes=3)
    clf = tiny_classifier(overlay="replace")
    match = f"overlay='replace' with n_features={n_features} and n_classes=3.*expected.*>.*append"
    assert_refused(clf, lambda: clf.fit(X, y), match=match)
    assert clf.set_params(overlay="append").fit(X, y).n_features_in_ == n_features


def test_features_of_numbers_too_small_for_float32_are_refused():
    X, y = gaussian_classes()
    clf = tiny_classifier()
    assert_refused(clf, lambda: clf.fit(1e-38 * X, y), match="Got X.*mean sample norm.*expected")


def test_features_of_zeros_are_no_error():
    X, y = gaussian_classes()
    clf = tiny_classifier().fit(0 * X, y)
    assert np.isfinite(clf.decision_function(X)).all()


# weights


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (np.zeros(60), "weights.*zero.*expected at least one positive"),
        (np.r_[-1.0, np.ones(59)], "Negative values.*sample_weight"),
        (np.r_[np.nan, np.ones(59)], "sample_weight contains NaN"),
        (np.r_[np.inf, np.ones(59)], "sample_weight contains infinity"),
        (np.ones(59), r"\(59,\).*expected \(60,\)"),
        (np.ones((60, 2)), "1D array or scalar, got 2D"),
        (np.full(60, "heavy"), "could not convert string"),
    ],
    ids=["zero", "negative", "NaN", "infinite", "short", "2-D", "words"],
)
def test_bad_sample_weights_leave_every_estimator_as_it_was(weight, match, method):
    arguments = [[0, 1, 2]] if method == "partial_fit" else []
    for clf, X, y in each_state():
        call = getattr(clf, method)
        assert_refused(
            clf,
            lambda c=call, X=X, y=y: c(X, y, *arguments, sample_weight=weight),
            match=match,
        )


@pytest.mark.parametrize(
    ("class_weight", "match"),
    [
        ({0: -1.0}, "class_weight=.*-1.0.*expected.*at least 0"),
        ({0: np.nan}, "class_weight=.*nan.*expected finite"),
        ({0: np.inf}, "class_weight=.*inf.*expected finite"),
        ({7: 1.0}, "not in class_weight"),
        ({0: 0, 1: 0, 2: 0}, "weights.*zero.*expected at least one positive"),
    ],
)
def test_bad_class_weights_leave_every_estimator_as_it_was(class_weight, match):
    for clf, X, y in each_state(class_weight=class_weight):
        assert_refused(clf, lambda clf=clf, X=X, y=y: clf.fit(X, y), match=match)


# going on


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"hidden_layer_sizes": (8, 7)}, r"\[8, 7\].*expected \[8, 6\]"),
        ({"hidden_layer_sizes": (8,)}, r"\[8\].*expected \[8, 6\]"),
        ({"overlay": "append"}, "overlay='append', but expected 'layerwise'"),
        ({"overlay": "replace"}, "overlay='replace', but expected 'layerwise'"),
        ({"readout": "softmax"}, "readout='softmax'.*expected 'goodness'"),
    ],
)
@pytest.mark.parametrize("begin", ["fit", "partial_fit"])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_training_goes_on_only_with_the_same_network(params, match, method, begin):
    X, y = gaussian_classes()
    clf = tiny_classifier(warm_start=True)
    clf = clf.fit(X, y) if begin == "fit" else clf.partial_fit(X, y, classes=[0, 1, 2])
    clf.set_params(**params)
    assert_refused(clf, lambda: getattr(clf, method)(X, y), match=match)


@pytest.mark.parametrize(("begin", "other"), [("append", "replace"), ("replace", "append")])
def test_training_goes_on_only_with_the_same_kept_features(begin, other):
    X, y = gaussian_classes()
    clf = tiny_classifier(warm_start=True, overlay=begin).fit(X, y).set_params(overlay=other)
    assert_refused(clf, lambda: clf.fit(X, y), match=f"'{other}', but expected '{begin}'")


def test_a_warm_start_needs_the_same_labels():
    X, y = gaussian_classes()
    clf = tiny_classifier(warm_start=True).fit(X, y)
    assert_refused(clf, lambda: clf.fit(X, y % 2), match=r"\[0, 1\].*expected.*\[0, 1, 2\]")
    assert_refused(clf, lambda: clf.fit(X, y + 1), match=r"\[1, 2, 3\].*expected.*\[0, 1, 2\]")


@pytest.mark.parametrize(
    ("classes", "match"),
    [
        (None, "classes=None at the first call.*expected all labels"),
        ([0, 1], r"labels.*2.*expected.*0, 1"),
        (["a", "b", "c"], "labels.*expected.*'a'"),
        ([], "labels.*expected"),
        ([0, 1, 2, np.nan], "classes=.*nan.*expected finite"),
        ([[0, 1], [2, 3]], r"1d array.*\(2, 2\)"),
    ],
)
def test_classes_of_the_first_partial_fit_must_cover_the_labels(classes, match):
    X, y = gaussian_classes()
    clf = tiny_classifier()
    assert_refused(clf, lambda: clf.partial_fit(X, y, classes), match=match)


def test_classes_of_a_later_partial_fit_must_be_the_same():
    X, y = gaussian_classes()
    clf = tiny_classifier().fit(X, y)
    assert_refused(clf, lambda: clf.partial_fit(X, y, [0, 1, 2, 3]), match="classes=.*expected")
    assert_refused(clf, lambda: clf.partial_fit(X, y + 1), match=r"3.*expected.*\[0, 1, 2\]")


@pytest.mark.parametrize(
    "params",
    [{"early_stopping": True}, {"training": "greedy"}, {"class_weight": "balanced"}],
)
def test_partial_fit_refuses_what_needs_all_the_data(params):
    ((name, value),) = params.items()
    for clf, X, y in each_state(**params):
        assert_refused(
            clf,
            lambda clf=clf, X=X, y=y: clf.partial_fit(X, y, [0, 1, 2]),
            match=f"{name}={value!r}.*partial_fit.*all the data",
        )


@pytest.mark.parametrize("n_samples", [1, 3])
def test_early_stopping_with_too_few_samples_says_so(n_samples):
    X, y = gaussian_classes(n_samples=n_samples)
    clf = tiny_classifier(early_stopping=True)
    assert_refused(clf, lambda: clf.fit(X, y), match="n_samples=|least populated|test_size")


# divergence


@pytest.mark.parametrize("training", ["simultaneous", "greedy"])
@pytest.mark.parametrize("batch_size", [16, 60])
def test_divergence_names_layer_and_epoch_and_leaves_the_estimator_as_it_was(training, batch_size):
    params = {"training": training, "batch_size": batch_size}
    for clf, X, y in each_state(**params, learning_rate_init=1e30):
        wide = np.c_[X, X]
        match = r"layer \d.*epoch \d.*expected.*finite.*learning_rate_init.*1e\+30"
        assert_refused(clf, lambda clf=clf, X=wide, y=y: clf.fit(X, y), match=match)


@pytest.mark.parametrize("rate", [1e20, 1e30])
def test_a_fit_that_diverges_in_its_last_update_is_noticed(rate):
    X, y = gaussian_classes()
    clf = tiny_classifier(learning_rate_init=rate, batch_size=len(X), max_iter=1)
    assert_refused(clf, lambda: clf.fit(X, y), match="layer 1.*epoch 1.*expected.*finite")


def test_divergence_in_partial_fit_can_be_undone_by_a_lower_rate():
    X, y = gaussian_classes()
    clf = tiny_classifier().partial_fit(X, y, classes=[0, 1, 2])
    expected = clf.decision_function(X)
    with pytest.raises(ValueError, match="finite"):
        clf.set_params(learning_rate_init=1e30).partial_fit(X, y)
    np.testing.assert_array_equal(clf.decision_function(X), expected)
    assert clf.n_iter_ == len(clf.history_) == 1
    clf.set_params(learning_rate_init=1e-3).partial_fit(X, y)
    assert np.isfinite(clf.decision_function(X)).all()
    assert not np.array_equal(clf.decision_function(X), expected)


def test_divergence_in_the_first_partial_fit_leaves_the_estimator_unfitted():
    X, y = gaussian_classes()
    clf = tiny_classifier(learning_rate_init=1e30)
    assert_refused(clf, lambda: clf.partial_fit(X, y, [0, 1, 2]), match="finite")
    clf.set_params(learning_rate_init=2e-3).partial_fit(X, y, [0, 1, 2])
    assert same_weights(clf, tiny_classifier().partial_fit(X, y, [0, 1, 2]))
