"""What a file of skff holds, and what a file that lies cannot do."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from forward_forward.samples import (
    Recorder,
    gaussian_classes,
    params_for,
    same_weights,
    tiny_classifier,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from saliency.oracle import OnePixelClassifier, RenamedClassifier

import skff
from skff import FFClassifier, _files, _versions
from skff.forward_forward import _persistence as model_parts
from skff.forward_forward.augmentation import ImageShift
from skff.forward_forward.goodness import GOODNESS, MeanSquare
from skff.forward_forward.losses import LOSSES, SymBa
from skff.forward_forward.negatives import NEGATIVES
from skff.forward_forward.overlays import OVERLAYS
from skff.forward_forward.readouts import Softmax
from skff.forward_forward.solvers import SOLVERS
from skff.persistence import InconsistentVersionWarning
from skff.recipes import RECIPES
from skff.saliency import ADSExplainer
from skff.saliency import _persistence as map_parts


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.skff"


def there_and_back(obj, path):
    skff.save(obj, path)
    return skff.load(path)


def leaves(value, name=""):
    """Return everything in an object as a dict of paths to hashes, types included."""
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    elif type(value).__module__.startswith("skff.forward_forward._"):
        parts = value.__getstate__().items()
    elif isinstance(value, np.random.RandomState):
        parts = value.get_state(legacy=False).items()
    elif isinstance(value, np.ndarray):
        return {f"{name}: {value.dtype}": joblib.hash(np.array(value, order="C"))}
    else:
        return {name: joblib.hash(value, coerce_mmap=True)}
    return {f"{name}: {type(value)}": len(value) if hasattr(value, "__len__") else 1} | {
        place: content
        for key, part in parts
        for place, content in leaves(part, f"{name}.{key!r}").items()
    }


def assert_same(found, expected):
    assert type(found) is type(expected)
    assert leaves(vars(found)) == leaves(vars(expected))


# Classifiers


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"solver": "sgd", "overlay": "append", "loss": SymBa(3.0)},
        {"readout": "softmax", "overlay": "replace"},
        {"readout": Softmax(0.03, weight_decay=0.1), "solver": "sgd"},
    ],
)
def test_a_file_holds_everything_in_the_middle_of_partial_fit(path, params):
    X, y = gaussian_classes(n_features=8)
    clf = tiny_classifier(**params).partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X, y)
    found = there_and_back(clf, path)
    assert_same(found, clf)
    assert found._trainer.average is found._network
    clf.partial_fit(X, y), found.partial_fit(X, y)
    assert same_weights(found, clf)


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "beta", "\U0001f600"],
        np.array(["a", "beta", ""], dtype=object),
        [-3, 0, 2**40],
        np.array([0, 1, 255], dtype=np.uint8),
        [-0.0, 2.0, 1e10],
        [False, True],
        ["alone"],
    ],
    ids=lambda labels: str(np.asarray(labels).dtype) + str(len(labels)),
)
def test_labels_of_every_type_come_back(path, labels):
    X, y = gaussian_classes(n_classes=len(labels))
    clf = tiny_classifier().fit(X, np.asarray(labels)[y])
    found = there_and_back(clf, path)
    assert_same(found, clf)
    np.testing.assert_array_equal(found.predict(X), clf.predict(X), strict=True)


def test_names_of_features_come_back(path):
    X, y = gaussian_classes()
    frame = pd.DataFrame(X, columns=list("abcdef"))
    clf = tiny_classifier().fit(frame, y)
    found = there_and_back(clf, path)
    assert_same(found, clf)
    with pytest.raises(ValueError, match="feature names"):
        found.predict(frame[list("fedcba")])


PARAMETERS = [
    {"random_state": None},
    {"random_state": np.random.RandomState(5)},
    {"hidden_layer_sizes": 4},
    {"hidden_layer_sizes": [4, 3]},
    {"hidden_layer_sizes": np.array([4, 3], dtype=np.int16)},
    {"tol": np.float32(0.1), "max_iter": np.int64(3), "center": np.bool_(False)},
    {"class_weight": {0: 1, np.int64(1): 0.5, 2: np.float32(2)}},
    {"class_weight": "balanced", "dropout": "auto", "batch_size": "auto"},
    {"device": torch.device("cpu")},
    {"device": torch.device("cuda:1")},
    {"augment": ImageShift(2, image_shape=(2, 3))},
    {"readout": Softmax(0.03, weight_decay=0.1)},
]
COMPONENTS = [
    params_for(name, value)
    for name, registry in {
        "goodness": GOODNESS,
        "loss": LOSSES,
        "negatives": NEGATIVES,
        "overlay": OVERLAYS,
        "solver": SOLVERS,
    }.items()
    for value in [*registry, *registry.values()]
]


@pytest.mark.parametrize("params", PARAMETERS + COMPONENTS)
def test_every_parameter_comes_back(path, params):
    if "negatives" in params:
        params |= {"loss": "symba"}
    clf = FFClassifier(**params)
    assert_same(there_and_back(clf, path), clf)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=list(RECIPES))
def test_every_recipe_can_be_saved_trained(path, recipe):
    X, y = gaussian_classes(n_features=8)
    clf = recipe.classifier(hidden_layer_sizes=(6, 5), max_iter=1, device="cpu").fit(X, y)
    assert_same(there_and_back(clf, path), clf)


def test_a_random_state_goes_on_where_it_was(path):
    X, y = gaussian_classes()
    clf = tiny_classifier(random_state=np.random.RandomState(3)).fit(X, y)
    found = there_and_back(clf, path)
    assert same_weights(found.fit(X, y), clf.fit(X, y))


class Subclass(FFClassifier):
    pass


class OwnGoodness(MeanSquare):
    pass


OTHERS = {
    "a function": lambda: FFClassifier(goodness=lambda h: h.sum(-1)),
    "a component of one's own": lambda: FFClassifier(goodness=OwnGoodness()),
    "a component of another kind": lambda: FFClassifier(loss=MeanSquare()),
    "a subclass": Subclass,
    "another random generator": lambda: FFClassifier(
        random_state=np.random.RandomState(np.random.PCG64(0))
    ),
    "an attribute that is not ours": lambda: vars(clf := FFClassifier()).update(note=1) or clf,
    "another estimator": OnePixelClassifier,
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=list(OTHERS))
def test_what_a_file_cannot_hold_is_refused_with_the_remedy(path, make):
    path.write_bytes(b"before")
    with pytest.raises(TypeError, match="Use (skops, )?pickle or joblib"):
        skff.save(make(), path)
    assert path.read_bytes() == b"before"


def test_what_could_not_be_loaded_is_not_saved(path):
    X, y = gaussian_classes()
    clf = tiny_classifier().fit(X, y)
    with pytest.raises(ValueError, match="dropout"):
        skff.save(FFClassifier(dropout=2.0), path)
    clf._network.layers[0].weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"network.0.weight is empty or not finite"):
        skff.save(clf, path)
    with pytest.raises(ValueError, match="n_samples is 0"):
        skff.save(replace(explanation(), n_samples=0), path)
    assert not path.exists()


def test_callbacks_and_the_path_of_a_checkpoint_stay_behind(path):
    clf = FFClassifier(checkpoint=path).set_callbacks(Recorder())
    assert_same(there_and_back(clf, path), FFClassifier())


def test_a_model_of_a_device_this_machine_lacks_predicts_on_the_cpu(path):
    X, y = gaussian_classes()
    clf = tiny_classifier().partial_fit(X, y, classes=[0, 1, 2])
    expected = clf.predict_proba(X)
    clf.set_params(device="cuda:99")
    arrays, document = model_parts.to_parts(clf)
    arrays["trainer.generator"] = np.arange(16, dtype=np.uint8)  # CUDA's is a seed and an offset
    _files.write(path, "FFClassifier", arrays, document)
    found = skff.load(path)
    np.testing.assert_array_equal(found.predict_proba(X), expected)
    found.set_params(device="cpu").partial_fit(X, y)


# Explanations


@cache
def explanation(labels=(0, 1), **params):
    X = np.random.default_rng(0).normal(size=(20, 9))
    y = np.asarray(labels)[(X[:, 4] > 0).astype(int)]
    return ADSExplainer(RenamedClassifier(labels), **{"image_shape": (3, 3)} | params).explain(X, y)


def mean_prediction(estimator, X, y):
    return float(np.mean(estimator.predict(X)))


EXPLANATIONS = {
    "sequence": {"image_shape": (9,)},
    "strings": {"labels": ("no", "yes")},
    "booleans": {"labels": (False, True)},
    "coverage": {"aggregate": "coverage", "window_shape": (2, 3)},
    "random fill": {"fill": "permute", "n_repeats": 2, "random_state": 0},
    "sequential": {"target_precision": 0.1, "random_state": 0},
    "refined": {"refine": 1, "alpha": 0.5},
    "another score": {"scoring": mean_prediction},
}


@pytest.mark.parametrize("params", EXPLANATIONS.values(), ids=list(EXPLANATIONS))
def test_explanations_come_back_as_they_were(path, params):
    found = explanation(**params)
    assert_same(there_and_back(found, path), found)


def test_groups_masks_and_names_of_columns_come_back(path):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(20, 9)), columns=list("abcdefghi"))
    y = (X["e"] > 0).to_numpy(int)
    model, mask = OnePixelClassifier(4), np.arange(9) > 2
    for params in ({"groups": {"left": ["a", "b"], "centre": ["e"]}}, {"mask": mask}):
        found = ADSExplainer(WithoutNames(model), **params).explain(X, y)
        assert_same(there_and_back(found, path), found)


class WithoutNames(OnePixelClassifier):
    """Predicts from a DataFrame."""

    def __init__(self, model):
        self.model = model

    def predict(self, X):
        return self.model.predict(np.asarray(X))


STOPPED_SAVES = """
import os, resource, signal, sys
import skff

def stop(*args):
    os.kill(os.getpid(), signal.SIGKILL)

def fill(*args):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

before = skff.load(sys.argv[1])
for place in ("fsync", "chmod", "replace", "full"):
    child = os.fork()
    if child == 0:
        try:
            fill() if place == "full" else setattr(os, place, stop)
            skff.save(before, sys.argv[1])
        except OSError as error:
            print(place, type(error).__name__, flush=True)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    skff.load(sys.argv[1])
    print(place, status, len(os.listdir(os.path.dirname(sys.argv[1]))), flush=True)
print("torch" in sys.modules)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_kill_or_a_full_disk_at_any_stage_leaves_the_previous_file_and_torch_is_not_needed(path):
    skff.save(explanation(), path)
    before = path.read_bytes()
    command = [sys.executable, "-c", STOPPED_SAVES, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "fsync 9 2",  # killed, and its temporary file beside the previous one
        "chmod 9 2",  # that of the killed process before is gone
        "replace 9 2",
        "full OSError",
        "full 0 1",  # nothing of its own left
        "False",
    ]
    assert path.read_bytes() == before


# Files that lie


@cache
def parts(kind):
    """Return the arrays and document of a small object, for `lying` to change copies of."""
    if kind == "ADSExplanation":
        return map_parts.to_parts(explanation(("no", "yes")))
    X, y = gaussian_classes(n_features=8)
    clf = tiny_classifier((4, 3), readout="softmax", random_state=np.random.RandomState(0))
    return model_parts.to_parts(clf.partial_fit(X, y, classes=[0, 1, 2]))


def changed(kind, change):
    """Return copies of the parts after a change."""
    arrays, document = parts(kind)
    arrays = {name: array.copy() for name, array in arrays.items()}
    document = json.loads(json.dumps(document))
    change(arrays, document)
    return arrays, document


def lying(path, kind, change):
    """Write a file whose hash is right although its content is changed."""
    _files.write(path, kind, *changed(kind, change))
    return path


def put(value, *where):
    """Return a change of one place of the document."""

    def change(arrays, document):
        for step in where[:-1]:
            document = document[step]
        document[where[-1]] = value

    return change


def array(name, function):
    """Return a change of one array."""

    def change(arrays, document):
        arrays[name] = function(arrays[name])

    return change


def entry(name, value):
    """Return a change of an array's first entry."""

    def function(values):
        values.flat[0] = value
        return values

    return array(name, function)


def generator_counters(left, position):
    def function(state):
        state[8:12] = np.frombuffer(np.int32(left).tobytes(), np.uint8)
        state[16:24] = np.frombuffer(np.uint64(position).tobytes(), np.uint8)
        return state

    return array("trainer.generator", function)


FITTED, NETWORK, TRAINER = ("fitted",), ("fitted", "network"), ("fitted", "trainer")
PARAMETER = ("parameters",)
MODEL_LIES = {
    "a parameter out of range": (put(-1.0, *PARAMETER, "label_scale"), "label_scale"),
    "a parameter of another type": (put("x", *PARAMETER, "max_iter"), "max_iter"),
    "parameters that contradict": (
        lambda _, document: document["parameters"].update(loss="symba", negatives="all"),
        "negatives='all'",
    ),
    "a place to write to": (put("/etc/evil", *PARAMETER, "checkpoint"), "checkpoint"),
    "a parameter too many": (put(1, *PARAMETER, "evil"), "evil"),
    "a device of no kind": (put("evil", *PARAMETER, "device"), "device"),
    "a component of no name": (
        put({"component": {"name": "system", "fields": {}}}, *PARAMETER, "goodness"),
        "system",
    ),
    "a component of another kind": (
        put({"component": {"name": "SymBa", "fields": {"scale": 1.0}}}, *PARAMETER, "goodness"),
        "SymBa",
    ),
    "a component with a field too many": (
        put({"component": {"name": "MeanSquare", "fields": {"x": 1}}}, *PARAMETER, "goodness"),
        "MeanSquare",
    ),
    "a component with nonsense": (
        put({"component": {"name": "SymBa", "fields": {"scale": "x"}}}, *PARAMETER, "loss"),
        "SymBa.scale",
    ),
    "a random state out of bounds": (
        put(10**6, *PARAMETER, "random_state", "random_state", 1),
        "position",
    ),
    "an unknown tag": (put({"evil": 1}, *PARAMETER, "loss"), "evil"),
    "no parameters": (put([], "parameters"), "parameters"),
    "no network": (put(None, *FITTED, "network"), "network"),
    "features that are not read": (put(2**40, *FITTED, "n_features"), "features"),
    "more features than there are numbers": (put(2**70, *FITTED, "n_features"), "dimension"),
    "classes not sorted": (array("classes", lambda values: values[::-1]), "classes"),
    "classes too few": (array("classes", lambda values: values[:2]), "shape"),
    "another number of epochs": (put(7, *FITTED, "n_iter"), "n_iter"),
    "a number of epochs that is none": (put(True, *FITTED, "n_iter"), "n_iter"),
    "a layer that is not there": (put([5, 6], *FITTED, "history", 0, "layers"), "layer"),
    "a loss of text": (put(["x", "y"], *FITTED, "history", 0, "loss"), "loss"),
    "a history of no list": (put("x", *FITTED, "history"), "history"),
    "layers that do not chain": (array("network.1.weight", lambda w: w[:, :3]), "shape"),
    "weights of another type": (array("network.1.weight", lambda w: w.astype(float)), "float64"),
    "weights that are not finite": (entry("network.0.weight", np.inf), "not finite"),
    "an amplitude too many": (put([1.0] * 3, *NETWORK, "label_amplitudes"), "network.2"),
    "no layer": (put([], *NETWORK, "label_amplitudes"), "too few"),
    "a scale of no number": (put("x", *NETWORK, "input_scale"), "input_scale"),
    "an overlay of nothing": (put(None, *NETWORK, "overlay"), "overlay"),
    "an array too many": (lambda arrays, _: arrays.update(x=np.ones(1)), "belong to nothing"),
    "a generator that reads too far": (generator_counters(600, 600), "generator"),
    "a generator of no state": (generator_counters(-1, 0), "generator|mt19937"),
    "a generator too small": (array("trainer.generator", lambda state: state[:4]), "4 bytes"),
    "another number of updates": (put(-1, *TRAINER, "n_updates"), "updates"),
    "a head that no trainer has": (put(None, *TRAINER, "head"), "head of None"),
    "rates of groups that are not": (put([0.1], *TRAINER, "last_rates"), "1 last rates"),
    "a negative rate": (put([0.1, -0.1], *TRAINER, "last_rates"), "last rate"),
    "moments of nothing": (put([[99, ["step"]]], *TRAINER, "updated"), "index"),
    "moments too few": (put([[0, ["step"]]], *TRAINER, "updated"), "optimizer"),
    "negative squares": (entry("trainer.optimizer.0.exp_avg_sq", -1.0), "negative"),
}
MAP_LIES = {
    "no samples": (put(-5, "n_samples"), "n_samples is -5"),
    "a score of text": (put("evil", "baseline_score"), "baseline_score is 'evil'"),
    "a score that is not finite": (put(float("nan"), "baseline_score"), "baseline_score"),
    "a score out of its range": (put(7.0, "baseline_score"), "baseline_score"),
    "p-values of 7": (entry("p_values", 7.0), "p_values"),
    "p-values of windows of 7": (entry("window_p_values", 7.0), "window_p_values"),
    "a test of nothing": (entry("pixel_tests", -1), "pixel_tests"),
    "one test of all": (
        lambda arrays, _: arrays.update(
            pixel_tests=np.zeros_like(arrays["pixel_tests"]),
            p_values=np.linspace(0, 1, arrays["p_values"].size).reshape(arrays["p_values"].shape),
        ),
        "pixel_tests",
    ),
    "negative errors": (entry("standard_error", -1.0), "standard_error"),
    "an infinite importance": (entry("importances", np.inf), "importances"),
    "an importance of no window": (entry("importances", 0.9), "importances"),
    "a centre outside": (entry("window_centers", 9), "window_centers"),
    "another shape": (put({"tuple": [9]}, "image_shape"), "shape"),
    "an image of 2**40": (put({"tuple": [2**40, 2**40]}, "image_shape"), "shape"),
    "no shape": (put(None, "image_shape"), "image_shape is None"),
    "a negative stride": (put({"tuple": [-1, 1]}, "stride"), "stride"),
    "windows without classes": (put(None, "classes"), "belong to nothing"),
    "numbers as names": (put({"array": "importances"}, "group_names"), "importances"),
    "another engine": (put("evil", "engine"), "engine is 'evil'"),
    "another rule": (put("evil", "aggregate"), "aggregate"),
    "a score without a name": (put(1, "scoring"), "scoring"),
    "counts of text": (put({"dict": [["x", "y"]]}, "engine_stats"), "engine_stats"),
    "classes twice": (array("classes", lambda labels: labels[[0, 0]]), "classes"),
    "a field too many": (put(1, "evil"), "evil"),
    "no metadata": (lambda _, document: document.clear(), "metadata"),
}


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [("FFClassifier", *lie) for lie in MODEL_LIES.values()]
    + [("ADSExplanation", *lie) for lie in MAP_LIES.values()],
    ids=[*MODEL_LIES, *MAP_LIES],
)
def test_a_file_that_lies_is_refused_with_file_and_reason(path, kind, change, reason):
    with pytest.raises(ValueError, match=f"(?s)file.skff.*({reason})"):
        skff.load(lying(path, kind, change))


def test_an_object_of_another_kind_is_not_loaded(path):
    _files.write(path, "checkpoint", {}, None)
    with pytest.raises(ValueError, match="kind 'checkpoint', not ADSExplanation or FFClassifier"):
        skff.load(path)


@cache
def saved(kind):
    """Return the bytes of a small file."""
    with tempfile.TemporaryDirectory() as folder:
        return lying(Path(folder) / kind, kind, lambda *_: None).read_bytes()


def assert_refused_or_sound(kind, change):
    """Check that parts raise a ValueError, as they do in a file, or that the object works."""
    arrays, document = changed(kind, change)
    room = model_parts if kind == "FFClassifier" else map_parts
    try:
        with _files.refusing("nonsense.skff"):
            found = room.from_parts(arrays, document)
    except ValueError:
        return
    if kind == "FFClassifier":
        assert np.isfinite(found.predict_proba(gaussian_classes(n_features=8)[0])).all()
    else:
        found.significant()
        repr(found)


kinds = st.sampled_from(["FFClassifier", "ADSExplanation"])


@settings(max_examples=150)
@given(data=st.data(), kind=kinds)
def test_no_damage_of_the_bytes_goes_unnoticed(tmp_path_factory, data, kind):
    content = bytearray(saved(kind))
    way = data.draw(st.sampled_from(["flip", "flip in the header", "cut", "insert", "overwrite"]))
    last = len(content) - 1 if way != "flip in the header" else content.index(b"}}") + 8
    place = data.draw(st.integers(0, last))
    if way.startswith("flip"):
        content[place] ^= 1 << data.draw(st.integers(0, 7))
    elif way == "cut":
        del content[place : place + data.draw(st.integers(1, 100))]
    else:
        piece = data.draw(st.binary(min_size=1, max_size=8))
        content[place : place + (len(piece) if way == "overwrite" else 0)] = piece
    path = tmp_path_factory.getbasetemp() / "damaged.skff"
    path.write_bytes(content)
    if bytes(content) == saved(kind):
        skff.load(path)
    else:
        with pytest.raises(ValueError, match="damaged.skff"):
            skff.load(path)


nonsense = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=3,
)


def places(node, where=()):
    """Return the path to every value of a JSON document."""
    steps = node.items() if isinstance(node, dict) else enumerate(node)
    nested = [
        place
        for key, value in steps
        if isinstance(value, dict | list)
        for place in places(value, (*where, key))
    ]
    keys = node if isinstance(node, dict) else range(len(node))
    return [(*where, key) for key in keys] + nested


@settings(max_examples=150)
@given(data=st.data(), kind=kinds)
def test_no_value_that_is_possible_as_json_breaks_the_loader(data, kind):
    where = data.draw(st.sampled_from(places(parts(kind)[1])))
    assert_refused_or_sound(kind, put(data.draw(nonsense), *where))


@settings(max_examples=100)
@given(data=st.data(), kind=kinds)
def test_no_array_that_is_possible_breaks_the_loader(data, kind):
    name = data.draw(st.sampled_from(sorted(parts(kind)[0])))
    change = data.draw(
        st.sampled_from(
            [
                lambda values: values.ravel()[:0],
                lambda values: values.reshape(-1),
                lambda values: np.array(1.5),
                lambda values: values.astype("U2"),
                lambda values: np.broadcast_to(values, (2, *values.shape)),
                lambda values: np.ones(values.shape),
                lambda values: np.zeros_like(values),
                lambda values: np.flip(values),
            ]
        )
        | st.sampled_from([np.inf, -1, 2.0, 255, 2**31]).map(
            lambda value: lambda values: np.full(values.shape, value)
        )
    )
    assert_refused_or_sound(kind, array(name, change))


FOREIGN = {
    "nothing": b"",
    "text": b"label,score\n1,2\n" * 20,
    "zip": b"PK\x03\x04" + bytes(60),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(60),
    "pickle": pickle.dumps({"a": np.ones(3)}),
    "a length of 2**63": b"\xff" * 7 + b"\x7f{}",
    "zeros": bytes(1000),
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=list(FOREIGN))
def test_other_formats_are_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="file.skff"):
        skff.load(path)


# Pickles


def fitted_classifier():
    X, y = gaussian_classes()
    return tiny_classifier().fit(X, y)


PICKLED = {
    "classifier": fitted_classifier,
    "explanation": explanation,
    "explainer": lambda: ADSExplainer(fitted_classifier(), window_shape=1, image_shape=(6,)),
}


@pytest.mark.parametrize("make", PICKLED.values(), ids=list(PICKLED))
def test_a_pickle_of_another_version_warns_and_still_loads(make, monkeypatch, path):
    obj = make()
    monkeypatch.setattr(skff, "__version__", "0.0.9")
    data = pickle.dumps(obj)
    joblib.dump(obj, path)
    pickle.loads(data)
    monkeypatch.undo()
    for load in (lambda: pickle.loads(data), lambda: joblib.load(path)):
        with pytest.warns(InconsistentVersionWarning, match=f"skff 0.0.9.*{skff.__version__}"):
            assert type(load()) is type(obj)
    assert "_skff_version" not in vars(pickle.loads(pickle.dumps(obj)))


def test_a_pickle_without_a_version_warns():
    with pytest.warns(InconsistentVersionWarning, match="unknown version"):
        assert _versions.without_version("Thing", {"a": 1}) == {"a": 1}


@pytest.mark.parametrize("make", PICKLED.values(), ids=list(PICKLED))
def test_skops_asks_for_trust_in_types_of_skff_alone(make):
    obj = make()
    data = skops.io.dumps(obj)
    types = skops.io.get_untrusted_types(data=data)
    assert types
    assert all(name.startswith("skff.") for name in types)
    found = skops.io.loads(data, trusted=types)
    if isinstance(obj, ADSExplainer):
        X, y = gaussian_classes()
        np.testing.assert_array_equal(
            found.explain(X, y).importances, obj.explain(X, y).importances
        )
    else:
        assert_same(found, obj)


def test_explanations_hold_what_files_know():
    # A new field needs a check of its range before it comes out of a file.
    checked = {
        "importances", "baseline_score", "window_scores", "window_centers", "standard_error",
        "p_values", "window_standard_error", "window_p_values", "window_n_samples",
        "window_intervals", "per_class", "classes", "fold_importances", "window_fold_importances",
        "fold_weights", "group_names", "feature_names", "image_shape", "window_shape", "stride",
        "aggregate", "scoring", "n_samples", "engine", "engine_stats", "pixel_tests",
    }  # fmt: skip
    assert {field.name for field in fields(explanation())} == checked
