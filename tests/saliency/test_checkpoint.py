"""Explanations that are killed or interrupted and go on."""

import joblib
import numpy as np
import pandas as pd
import pytest
from forward_forward.samples import gaussian_classes, tiny_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB

from skff import ADSExplainer, _checkpoint, _files
from skff.saliency import _checkpoint as journals
from skff.saliency import _engines, explain_refits, interactions, randomization_check
from skff.saliency._checkpoint import NOT_COMPARED

pytestmark = pytest.mark.usefixtures("few_features_like_many")


class Killed(BaseException):
    """Ends an explanation as a signal would."""


def images(n_samples=240, side=4, n_classes=3):
    """Return small noisy images and their labels."""
    return gaussian_classes(n_samples, side * side, n_classes, spread=5.0)


def weights(n_samples):
    return np.linspace(0.1, 1.0, n_samples)  # whose sums depend on their order


def one_sum(estimator, X, y, sample_weight=None):
    return float(np.sum(X))


FLAT = {"image_shape": (4, 4), "window_shape": 3}
CASES = {
    "predict": (GaussianNB(), FLAT | {"engine": "predict"}),
    "score": (GaussianNB(), FLAT | {"engine": "score"}),
    "several scores": (
        GaussianNB(),
        FLAT | {"scoring": {"a": "accuracy", "b": "neg_log_loss", "c": one_sum}},
    ),
    "incremental": (tiny_classifier(), FLAT | {"engine": "incremental"}),
    "random fill": (GaussianNB(), FLAT | {"fill": "permute", "n_repeats": 2, "random_state": 3}),
    "groups": (GaussianNB(), {"groups": {"a": [0, 1], "b": [2, 5, 7], "c": [3]}}),
    "channels": (
        GaussianNB(),
        {"image_shape": (2, 2, 4), "window_shape": 1, "channels": "separate"},
    ),
    "sequential": (GaussianNB(), FLAT | {"target_precision": 0.05, "max_samples": 200}),
    "sequential incremental": (tiny_classifier(), FLAT | {"target_precision": 0.05, "top_k": 2}),
    "refine": (GaussianNB(), FLAT | {"refine": 1, "alpha": 0.9}),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def fitted(case):
    """Return a function that makes explainers anew, as another process would, and their data."""
    estimator, params = case
    X, y = images()
    weight = None if "target_precision" in params else weights(len(y))

    def make(**more):
        return ADSExplainer(estimator.fit(X, y), **({"random_state": 0} | params | more))

    return make, (X, y, weight)


def dying(function, *, call, before):
    """Return a function in which the process dies at a call, counted from 1, or after its work."""
    calls = []

    def wrapped(*args, **kwargs):
        calls.append(None)
        if len(calls) < call or (len(calls) == call and not before):
            function(*args, **kwargs)
        if len(calls) >= call:  # what would be written after a death never is
            raise Killed

    return wrapped


def killed(monkeypatch, explainer, data, **when):
    """Explain, but die where the file is written; return the explanation, or None without one."""
    with monkeypatch.context() as patch:
        patch.setattr(_files, "write", dying(_files.write, **when))
        try:
            return explainer.explain(*data)
        except Killed:
            return None


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(_engines, "MAX_ROWS", 40)


@every_case
def test_an_explanation_that_is_killed_again_and_again_ends_as_if_it_never_was(
    case, tmp_path, monkeypatch
):
    make, data = fitted(case)
    expected = make().explain(*data)
    rng, n_kills, found = np.random.default_rng(0), 0, None
    while found is None:
        explainer = make(checkpoint=tmp_path / "ads", checkpoint_every=0)
        call = 1 + int(rng.integers(3)) + 4 * n_kills  # so that there is an end to it
        when = {"call": call, "before": bool(rng.integers(2))}
        found = killed(monkeypatch, explainer, data, **when)
        n_kills += found is None
    assert n_kills >= 1
    assert joblib.hash(found) == joblib.hash(expected)


def test_workers_and_a_table_go_on_as_well(tmp_path, monkeypatch):
    X, y = images()
    table = pd.DataFrame(X[:, :6], columns=list("abcdef")).astype({"a": "int32"})
    model = LogisticRegression(tol=0.1).fit(table, y)
    expected = ADSExplainer(model, window_shape=1, fill="mean").explain(table, y)
    params = {"window_shape": 1, "fill": "mean", "checkpoint": tmp_path / "ads"}
    contents, write = [], _files.write

    def remember(path, *content):
        write(path, *content)
        contents.append((tmp_path / "ads").read_bytes())

    with joblib.parallel_config(backend="threading"):
        with monkeypatch.context() as patch:
            patch.setattr(_files, "write", remember)
            ADSExplainer(model, **params, checkpoint_every=0, n_jobs=2).explain(table, y)
        for content in contents:
            (tmp_path / "ads").write_bytes(content)
            found = ADSExplainer(model, **params, n_jobs=3).explain(table, y)
            assert joblib.hash(found) == joblib.hash(expected)
    assert len(contents) > 4
    renamed = table.rename(columns={"f": "g"})
    with pytest.raises(ValueError, match="of another explanation, with X="):
        ADSExplainer(LogisticRegression(tol=0.1).fit(renamed, y), **params).explain(renamed, y)


@every_case
def test_a_finished_explanation_measures_nothing_again(case, tmp_path, monkeypatch):
    make, data = fitted(case)
    first = make(checkpoint=tmp_path / "ads").explain(*data)
    content = (tmp_path / "ads").read_bytes()
    for name in ("_score_block", "_predict_block", "_ask_block"):
        monkeypatch.setattr(_engines, name, None)
    again = make(checkpoint=str(tmp_path / "ads")).explain(*data)
    assert joblib.hash(again) == joblib.hash(first)
    assert (tmp_path / "ads").read_bytes() == content


def test_without_a_random_state_the_same_samples_and_fills_are_used(tmp_path, monkeypatch):
    make, data = fitted(CASES["random fill"])
    params = {"random_state": None, "max_samples": 0.7, "checkpoint": tmp_path / "ads"}
    explainer = make(checkpoint_every=0, **params)
    assert killed(monkeypatch, explainer, data, call=3, before=False) is None
    found = make(**params).explain(*data)
    _, _, document = _files.read(tmp_path / "ads", {"explanation checkpoint"})
    drawn = {"random_state": document["state"]["seed"], "checkpoint": None}
    assert joblib.hash(found) == joblib.hash(make(**params | drawn).explain(*data))
    assert explainer.random_state is None


class Fault(Exception):
    """What a worker may meet."""


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Fault()])
def test_an_interrupt_or_a_failure_loses_no_whole_block(error, tmp_path, monkeypatch):
    make, data = fitted(CASES["predict"])
    expected = make().explain(*data)
    blocks, work = [], _engines._predict_block

    def failing(*args):
        if len(blocks) == 5:
            raise error
        blocks.append(None)
        return work(*args)

    params = {"checkpoint": tmp_path / "ads", "checkpoint_every": 1e6}
    with monkeypatch.context() as patch:
        patch.setattr(_engines, "_predict_block", failing)
        with pytest.raises(type(error)):
            make(**params).explain(*data)
    n_blocks = 8
    with monkeypatch.context() as patch:
        blocks = [None] * (5 - (n_blocks - 5))  # three are left before it would fail again
        patch.setattr(_engines, "_predict_block", failing)
        found = make(**params).explain(*data)
    assert len(blocks) == 5
    assert joblib.hash(found) == joblib.hash(expected)


def test_the_file_is_written_every_so_many_seconds_and_at_the_end(tmp_path, monkeypatch):
    make, data = fitted(CASES["predict"])
    times, written = iter(range(100)), []  # a second per look at the clock
    monkeypatch.setattr(journals, "monotonic", lambda: next(times))
    monkeypatch.setattr(
        _files, "write", lambda *args: written.append(args[3]["state"]["measurements"][0][0])
    )
    make(checkpoint=tmp_path / "ads", checkpoint_every=3).explain(*data)
    assert written == [3, 6, 8]


# refusals


OTHER = {
    "window_shape": 5,
    "stride": 2,
    "image_shape": (2, 8),
    "fill": 0.5,
    "n_repeats": 3,
    "channels": "separate",
    "aggregate": "coverage",
    "mask": np.eye(4, dtype=bool),
    "groups": [[0], [1]],
    "scoring": "neg_log_loss",
    "engine": "score",
    "batch_size": 7,
    "max_samples": 50,
    "target_precision": 0.1,
    "top_k": 2,
    "alpha": 0.01,
    "refine": 1,
    "random_state": 1,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return an explainer with a finished checkpoint, and its data."""
    X, y = images(60)
    path = tmp_path_factory.mktemp("explanations") / "ads"
    explainer = ADSExplainer(GaussianNB().fit(X, y), **FLAT, random_state=0, checkpoint=path)
    explainer.explain(X, y)
    return explainer, X, y


def with_params(explainer, **changes):
    return ADSExplainer(**explainer.get_params(deep=False) | changes)


def test_every_parameter_is_compared_or_changes_no_number(finished):
    names = finished[0].get_params(deep=False).keys()
    assert OTHER.keys() | NOT_COMPARED == names
    assert not OTHER.keys() & NOT_COMPARED


@pytest.mark.parametrize("name", OTHER)
def test_a_checkpoint_of_other_parameters_is_refused_by_name(name, finished):
    explainer, X, y = finished
    changes = {name: OTHER[name]} | ({"target_precision": 0.1} if name == "top_k" else {})
    with pytest.raises(ValueError, match=rf"explanation, with .*{name}=.*but expected .*{name}="):
        with_params(explainer, **changes).explain(X, y)


def test_a_checkpoint_of_other_data_another_estimator_or_version_is_refused(finished, monkeypatch):
    explainer, X, y = finished
    changed = X.copy()
    changed[3, 2] = np.nextafter(changed[3, 2], np.inf)
    cases = {"X": (changed, y), "y": (X, np.roll(y, 1)), "sample_weight": (X, y, y + 1.0)}
    for name, data in cases.items():
        with pytest.raises(ValueError, match=rf"another explanation, with {name}="):
            explainer.explain(*data)
    other = GaussianNB().fit(X, y)
    other.theta_[0, 0] = np.nextafter(other.theta_[0, 0], np.inf)
    smoother = GaussianNB(var_smoothing=1e-8).fit(X, y)
    for estimator in (other, smoother, tiny_classifier().fit(X, y)):
        with pytest.raises(ValueError, match="with estimator=.*but expected estimator="):
            with_params(explainer, estimator=estimator).explain(X, y)
    monkeypatch.setattr(_checkpoint.sklearn, "__version__", "99")
    with pytest.raises(ValueError, match="sklearn=.*but expected sklearn=99: delete the file"):
        explainer.explain(X, y)


def test_what_changes_no_number_may_change(finished, monkeypatch):
    explainer, X, y = finished
    expected = with_params(explainer, checkpoint=None).explain(X, y)
    monkeypatch.setattr(_engines, "_predict_block", None)
    changes = {"n_jobs": 1, "verbose": 0, "checkpoint_every": 1.5}
    found = with_params(explainer, **changes).explain(np.asfortranarray(X), y.tolist())
    assert joblib.hash(found) == joblib.hash(expected)


@pytest.mark.parametrize("make", [tiny_classifier, lambda: GridSearchCV(GaussianNB(), {})])
def test_an_estimator_that_was_trained_again_is_the_same_whatever_the_time_it_took(make, tmp_path):
    X, y = images(90)
    first, again = (make().fit(X, y) for _ in range(2))
    assert joblib.hash(vars(first)) != joblib.hash(vars(again))
    expected = ADSExplainer(first, **FLAT, checkpoint=tmp_path / "ads").explain(X, y)
    found = ADSExplainer(again, **FLAT, checkpoint=tmp_path / "ads").explain(X, y)
    assert joblib.hash(found) == joblib.hash(expected)


class Unpicklable(GaussianNB):
    """An estimator of which nothing is known."""

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot pickle")


def test_an_estimator_that_cannot_be_compared_is_refused(tmp_path):
    X, y = images(60)
    explainer = ADSExplainer(Unpicklable().fit(X, y), **FLAT, checkpoint=tmp_path / "ads")
    with pytest.raises(ValueError, match="Got estimator=.*something that can be compared"):
        explainer.explain(X, y)


def test_what_asks_several_explanations_of_an_explainer_uses_no_checkpoint(finished, tmp_path):
    explainer, X, y = finished
    explainer = with_params(explainer, checkpoint=tmp_path / "ads", window_shape=1)
    models = [explainer.estimator, GaussianNB(var_smoothing=0.1).fit(X, y)]
    explain_refits(explainer, models, X, y)
    interactions(explainer, X, y, top_k=2)
    randomization_check(with_params(explainer, estimator=tiny_classifier().fit(X, y)), X, y)
    assert list(tmp_path.iterdir()) == []


def test_nonsense_in_a_file_is_a_value_error(finished, tmp_path):
    explainer, X, y = finished
    path = tmp_path / "ads"
    kind, arrays, document = _files.read(explainer.checkpoint, {"explanation checkpoint"})
    state = document["state"]
    n_blocks, stats = state["measurements"][0]
    broken = [
        ({}, state),
        ({name: array[None] for name, array in arrays.items()}, state),
        ({name: array.astype(int) for name, array in arrays.items()}, state),
        (arrays, []),
        (arrays, state | {"measurements": None}),
        (arrays, state | {"measurements": [[n_blocks]]}),
        (arrays, state | {"measurements": [["all", stats]]}),
        (arrays, state | {"measurements": [[n_blocks, {"pairs": "many"}]]}),
        (arrays, {"measurements": state["measurements"]}),
        (arrays, state | {"seed": "x"}),
        (arrays, state | {"measurements": [[-1, stats]]}),
        (arrays, state | {"measurements": [[n_blocks + 1, stats]]}),
        (arrays, state | {"measurements": [[0.5, stats]]}),
        (arrays, state | {"measurements": [[n_blocks, {"pairs": float("nan")}]]}),
    ]
    # More lost or changed than there are, sums that differ, and what is no number.
    for name, value in [("lost", 1e9), ("fold_lost", -1e9), ("moments", -1), ("correct", -1)]:
        broken.append((arrays | {f"0/{name}": arrays[f"0/{name}"] + value}, state))
    lost = arrays["0/lost"].copy()
    lost[0, 0] += 1 if lost[0, 0] <= 0 else -1
    broken.append((arrays | {"0/lost": lost}, state))
    broken.append((arrays | {"0/moments": np.full_like(arrays["0/moments"], np.nan)}, state))
    for wrong_arrays, wrong in broken:
        _files.write(path, kind, wrong_arrays, document | {"state": wrong})
        with pytest.raises(ValueError, match=f"Got '{path}', but expected a whole file"):
            with_params(explainer, checkpoint=path).explain(X, y)
