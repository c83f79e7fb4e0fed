import copy
import io
import pickle

import joblib
import numpy as np
import pytest
import skops.io
from forward_forward.samples import (
    Recorder,
    fingerprint,
    gaussian_classes,
    params_for,
    same_weights,
    tiny_classifier,
)
from sklearn.base import clone

import skff
from skff import FFClassifier
from skff.forward_forward.augmentation import ImageShift
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES, Swish
from skff.forward_forward.negatives import NEGATIVES, Hard
from skff.forward_forward.overlays import OVERLAYS
from skff.forward_forward.solvers import SOLVERS


def through_joblib(clf, folder, **params):
    path = folder / f"{len(list(folder.iterdir()))}.joblib"  # an earlier one may be mapped
    joblib.dump(clf, path)
    return joblib.load(path, **params)


def through_file(clf, folder):
    skff.save(clf, folder / "model.skff")
    return skff.load(folder / "model.skff")


def through_skops(clf, folder):
    data = skops.io.dumps(clf)
    types = skops.io.get_untrusted_types(data=data)
    assert all(name.startswith("skff.") for name in types)
    return skops.io.loads(data, trusted=types)


ROUND_TRIPS = {
    "skff": through_file,
    "skops": through_skops,
    "pickle": lambda clf, folder: pickle.loads(pickle.dumps(clf)),
    "joblib": through_joblib,
    "joblib-memmap": lambda clf, folder: through_joblib(clf, folder, mmap_mode="r"),
    "deepcopy": lambda clf, folder: copy.deepcopy(clf),
}
every_trip = pytest.mark.parametrize("trip", ROUND_TRIPS.values(), ids=list(ROUND_TRIPS))
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
VARIANTS = [
    {},
    {"readout": "softmax"},
    {"training": "greedy"},
    {"overlay": "append"},
    {"overlay": "replace", "loss": Swish(3.0), "negatives": Hard(2.0)},
]


@every_trip
@pytest.mark.parametrize("params", VARIANTS)
def test_a_round_trip_keeps_every_output_and_attribute(trip, params, tmp_path):
    X, y = gaussian_classes(n_features=8)
    names = np.array(["a", "b", "c"])[y]
    clf = tiny_classifier(**params).fit(X, names)
    found = trip(clf, tmp_path)
    for method in ("predict", "predict_proba", "decision_function", "layer_goodness"):
        np.testing.assert_array_equal(getattr(found, method)(X), getattr(clf, method)(X))
    assert same_weights(found, clf)
    assert found.history_ == clf.history_
    assert found.get_params() == clf.get_params()
    assert fingerprint(found) == fingerprint(clf)


@every_trip
def test_an_unfitted_classifier_survives_a_round_trip(trip, tmp_path):
    clf = tiny_classifier(loss=Swish(2.0))
    assert trip(clf, tmp_path).get_params() == clf.get_params()
    assert vars(trip(clf, tmp_path)) == vars(clf)


@every_trip
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("params", [{}, {"readout": "softmax", "peer_normalization": 0.1}])
def test_partial_fit_goes_on_after_a_round_trip_as_without(trip, params, solver, tmp_path):
    X, y = gaussian_classes(n_samples=90)
    settings = {"solver": solver, "dropout": 0.2} | params
    straight = tiny_classifier(**settings)
    travelled = tiny_classifier(**settings)
    for rows in np.split(np.arange(90), 3):
        straight.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        travelled = trip(travelled.partial_fit(X[rows], y[rows], classes=[0, 1, 2]), tmp_path)
    assert same_weights(straight, travelled)
    np.testing.assert_array_equal(straight.predict_proba(X), travelled.predict_proba(X))


@every_trip
def test_a_copy_trains_on_without_the_original(trip, tmp_path):
    X, y = gaussian_classes()
    clf = tiny_classifier().partial_fit(X, y, classes=[0, 1, 2])
    before = fingerprint(clf)
    found = trip(clf, tmp_path).partial_fit(X, y)
    assert fingerprint(clf) == before
    assert not same_weights(found, clf)


@every_trip
def test_warm_start_goes_on_after_a_round_trip_as_without(trip, tmp_path):
    X, y = gaussian_classes()
    clf = tiny_classifier(warm_start=True).fit(X, y)
    assert same_weights(trip(clf, tmp_path).fit(X, y), clf.fit(X, y))


@pytest.mark.parametrize("params", COMPONENTS)
def test_clone_and_pickle_keep_every_component(params):
    clf = tiny_classifier(**params)
    X, y = gaussian_classes(n_features=8)
    assert clone(clf).get_params() == clf.get_params()
    assert same_weights(clone(clf).fit(X, y), clf.fit(X, y))
    assert pickle.loads(pickle.dumps(clf)).get_params() == clf.get_params()


def test_clone_forgets_what_was_fitted():
    X, y = gaussian_classes()
    clf = tiny_classifier(augment=None, loss=Swish(2.0)).fit(X, y)
    assert vars(clone(clf)) == vars(tiny_classifier(loss=Swish(2.0)))


def test_init_stores_each_parameter_as_it_is():
    given = {name: object() for name in FFClassifier().get_params()}
    assert FFClassifier(**given).get_params() == given


def test_augmentations_survive_clone_and_pickle():
    clf = tiny_classifier(augment=ImageShift(max_shift=2, image_shape=(2, 3)))
    assert clone(clf).augment == clf.augment == pickle.loads(pickle.dumps(clf)).augment


class Inspector(pickle.Unpickler):
    """An unpickler that notes where everything it builds comes from."""

    def __init__(self, data):
        super().__init__(io.BytesIO(data))
        self.modules = set()

    def find_class(self, module, name):
        self.modules.add(module)
        return super().find_class(module, name)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_pickle_holds_arrays_and_no_tensor_of_a_device(method):
    X, y = gaussian_classes()
    clf = tiny_classifier(readout="softmax", peer_normalization=0.1)
    clf = clf.fit(X, y) if method == "fit" else clf.partial_fit(X, y, classes=[0, 1, 2])
    inspector = Inspector(pickle.dumps(clf))
    inspector.load()
    assert not any(module.split(".")[0] == "torch" for module in inspector.modules)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_model_of_a_device_this_machine_lacks_still_loads_and_predicts(method):
    X, y = gaussian_classes()
    clf = tiny_classifier()
    clf = clf.fit(X, y) if method == "fit" else clf.partial_fit(X, y, classes=[0, 1, 2])
    expected = clf.predict_proba(X)
    clf.set_params(device="cuda:99")
    found = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(found.predict_proba(X), expected)
    with pytest.raises(ValueError, match="Got device='cuda:99'"):
        found.fit(X, y)


def test_a_fitted_pickle_leaves_callbacks_behind_and_the_original_keeps_them():
    X, y = gaussian_classes()
    recorder = Recorder()
    clf = tiny_classifier().set_callbacks(recorder).fit(X, y)
    n_heard = len(recorder.names)
    pickle.loads(pickle.dumps(clf)).fit(X, y)
    copy.deepcopy(clf).fit(X, y)
    assert len(recorder.names) == n_heard
    assert b"Recorder" not in pickle.dumps(clf)
    clf.fit(X, y)
    assert len(recorder.names) == 2 * n_heard


def test_a_pickle_is_about_as_large_as_the_weights():
    X, y = gaussian_classes()
    clf = tiny_classifier((200, 200)).fit(X, y)
    n_bytes = sum(coef.nbytes for coef in [*clf.coefs_, *clf.intercepts_, *clf.label_coefs_])
    assert len(pickle.dumps(clf)) < 1.05 * n_bytes + 10_000
