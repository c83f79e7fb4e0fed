import math
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback

from skff import FFClassifier
from skff.forward_forward.solvers import SGD
from skff.mlp_baselines import sklearn_mlp, skorch_mlp

MLPS = {"sklearn": sklearn_mlp, "skorch": skorch_mlp}
all_mlps = pytest.mark.parametrize("mlp", MLPS.values(), ids=list(MLPS))


def forward_forward(hidden_layer_sizes=(12, 8), **params):
    settings = {"max_iter": 3, "batch_size": 32, "device": "cpu", "random_state": 0}
    return FFClassifier(hidden_layer_sizes, **(settings | params))


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X / 16, y, random_state=0)


def layer_shapes(fitted):
    """Return (inputs, outputs) of every layer."""
    if isinstance(fitted, MLPClassifier):
        return [coef.shape for coef in fitted.coefs_]
    weights = [p for p in fitted.module_.parameters() if p.ndim == 2]
    return [tuple(weight.shape[::-1]) for weight in weights]


# both


@all_mlps
@pytest.mark.parametrize("sizes", [(12, 8), [5], 7, np.array([6, 5, 4])])
def test_layers_have_the_sizes_of_the_classifier(mlp, sizes, iris):
    hidden = np.atleast_1d(sizes).tolist()
    expected = list(zip([4, *hidden], [*hidden, 3], strict=True))
    assert layer_shapes(mlp(forward_forward(sizes)).fit(*iris)) == expected


@all_mlps
def test_a_fitted_classifier_gives_the_same_baseline(mlp, iris):
    ff = forward_forward()
    before = mlp(ff).fit(*iris).predict_proba(iris[0])
    after = mlp(ff.fit(*iris)).fit(*iris).predict_proba(iris[0])
    np.testing.assert_array_equal(before, after)


@all_mlps
def test_same_seed_same_model_and_other_seed_other_model(mlp, iris):
    def probabilities(seed):
        ff = forward_forward(random_state=seed, dropout=0.1)
        return mlp(ff).fit(*iris).predict_proba(iris[0])

    np.testing.assert_array_equal(probabilities(0), probabilities(0))
    assert not np.allclose(probabilities(0), probabilities(1))


@all_mlps
def test_labels_of_any_type_come_back_as_they_were(mlp, iris):
    X, y = iris
    for names in [np.array(["virginica", "aster", "rose"]), np.array([7, -1, 3])]:
        net = mlp(forward_forward(max_iter=10)).fit(X, names[y])
        predicted = net.predict(X)
        assert predicted.dtype == names.dtype
        assert list(net.classes_) == sorted(names)
        assert net.score(X, names[y]) == accuracy_score(names[y], predicted)
        assert net.score(X, names[y]) > 0.5, "labels must not be permuted"


@all_mlps
def test_baselines_learn_digits(mlp, digits):
    X, X_test, y, y_test = digits
    ff = forward_forward((50,), max_iter=6, learning_rate_init=1e-2, batch_size=32)
    assert mlp(ff).fit(X, y).score(X_test, y_test) > 0.93


@all_mlps
def test_clone_pickle_pipeline_and_data_frame(mlp, iris):
    X, y = pd.DataFrame(iris[0], columns=list("abcd")), iris[1]
    pipeline = make_pipeline(StandardScaler(), mlp(forward_forward()))
    first = pipeline.fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(clone(pipeline).fit(X, y).predict_proba(X), first)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pipeline)).predict_proba(X), first)


@pytest.mark.parametrize(
    "mlp, rate, sizes",
    [
        (sklearn_mlp, "learning_rate_init", "hidden_layer_sizes"),
        (skorch_mlp, "lr", "module__hidden_layer_sizes"),
    ],
)
def test_grid_search_finds_the_rate_that_learns(mlp, rate, sizes, iris):
    grid = {rate: [1e-6, 1e-2], sizes: [(10,), (10, 5)]}
    search = GridSearchCV(mlp(forward_forward(max_iter=10)), grid, cv=2).fit(*iris)
    assert search.best_params_[rate] == 1e-2
    assert search.best_score_ > 0.7
    n_hidden = len(search.best_params_[sizes])
    assert len(layer_shapes(search.best_estimator_)) == n_hidden + 1


@pytest.mark.parametrize("mlp, epochs", [(sklearn_mlp, "max_iter"), (skorch_mlp, "max_epochs")])
def test_overrides_win(mlp, epochs):
    assert getattr(mlp(forward_forward(max_iter=9)), epochs) == 9
    assert getattr(mlp(forward_forward(max_iter=9), **{epochs: 4}), epochs) == 4


@all_mlps
def test_automatic_batches_are_those_of_the_classifier(mlp):
    X, y = load_digits(return_X_y=True)

    def probabilities(batch_size):
        net = mlp(forward_forward((5,), max_iter=1, batch_size=batch_size)).fit(X, y)
        assert net.batch_size == batch_size
        return net.predict_proba(X[:9])

    automatic = probabilities("auto")
    np.testing.assert_array_equal(automatic, probabilities(17))  # a hundredth of 1,797 samples
    assert not np.allclose(automatic, probabilities(18))


@pytest.mark.parametrize("solver", ["adamw", "sgd"])
@all_mlps
def test_weights_without_signal_decay_by_the_same_factor(mlp, solver):
    # All features are 0, so weight decay alone moves the first layer.
    if (mlp, solver) == (sklearn_mlp, "adamw"):
        pytest.skip("documented: scikit-learn's Adam rescales the gradient of its penalty")
    X, y = np.zeros((64, 4)), np.arange(64) % 2

    def first_weights(decay):
        ff = forward_forward(
            solver=SGD(momentum=0.0) if solver == "sgd" else solver,
            weight_decay=decay,
            learning_rate="constant",
            learning_rate_init=0.1,
        )
        net = mlp(ff).fit(X, y)
        if mlp is sklearn_mlp:
            return net.coefs_[0]
        return net.module_.layers[1].weight.detach().numpy()

    kept = (1 - 0.1 * 0.5) ** (3 * 2)  # 3 epochs of 2 updates
    np.testing.assert_allclose(first_weights(0.5), kept * first_weights(0.0), rtol=1e-5)


# scikit-learn


def test_sklearn_mlp_is_the_plain_classifier_with_these_settings(iris):
    plain = MLPClassifier(
        (12, 8),
        alpha=0,
        batch_size=32,
        learning_rate_init=0.01,
        max_iter=1,
        warm_start=True,
        random_state=np.random.RandomState(0),
    )
    settings = {"learning_rate_init": 0.01, "max_iter": 1, "center": False}
    ours = sklearn_mlp(forward_forward(**settings)).fit(*iris)
    with pytest.warns(UserWarning, match="Maximum iterations"):
        plain.fit(*iris)
    for mine, theirs in zip(ours.coefs_, plain.coefs_, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@all_mlps
def test_a_constant_added_to_a_feature_changes_no_prediction_of_a_centred_baseline(mlp, iris):
    X, y = np.round(64 * iris[0]) / 64, iris[1]  # which stays exact beside the integers below
    offset = 16 * np.arange(4)
    expected = mlp(forward_forward()).fit(X, y).predict_proba(X)
    moved = mlp(forward_forward()).fit(X + offset, y).predict_proba(X + offset)
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    kept = mlp(forward_forward(center=False)).fit(X + offset, y).predict_proba(X + offset)
    assert not np.allclose(kept, expected, atol=1e-2)


def test_sklearn_mlp_runs_all_epochs_without_a_warning():
    X, y = np.zeros((40, 4)), np.arange(40) % 2  # nothing to learn: others would stop early
    assert sklearn_mlp(forward_forward(max_iter=60)).fit(X, y).n_iter_ == 60


@all_mlps
def test_a_batch_larger_than_the_data_is_all_of_it(mlp, iris):
    larger = mlp(forward_forward(batch_size=1000)).fit(*iris)
    whole = mlp(forward_forward(batch_size=150)).fit(*iris)
    np.testing.assert_array_equal(larger.predict_proba(iris[0]), whole.predict_proba(iris[0]))


def test_sklearn_mlp_keeps_its_parameters_when_fit_fails():
    mlp = sklearn_mlp(forward_forward(batch_size="auto"))
    with pytest.raises(ValueError, match="NaN"):
        mlp.fit(np.full((5, 2), np.nan), [0, 1, 0, 1, 0])
    with pytest.raises(ValueError, match="minimum of 1 is required"):
        mlp.fit(np.empty((0, 2)), [])
    assert mlp.batch_size == "auto"


def test_sklearn_mlp_refuses_decay_that_it_cannot_scale():
    ff = forward_forward(weight_decay=1e-3, batch_size="auto")
    with pytest.raises(ValueError, match=r"Got weight_decay=0\.001 with batch_size='auto'"):
        sklearn_mlp(ff)
    assert sklearn_mlp(ff, batch_size=50).alpha == pytest.approx(0.05)
    assert sklearn_mlp(ff, alpha=0.2).alpha == 0.2


# skorch


class RateRecorder(Callback):
    """Record the learning rate of every update."""

    def on_train_begin(self, net, **kwargs):
        self.rates_ = []

    def on_grad_computed(self, net, **kwargs):
        self.rates_.append(net.optimizer_.param_groups[0]["lr"])


@pytest.mark.parametrize(
    "learning_rate, expected",
    [
        ("constant", [0.01] * 10),
        ("cooldown", [0.01] * 6 + [0.008, 0.006, 0.004, 0.002]),
    ],
)
def test_skorch_mlp_follows_the_schedule_update_by_update(learning_rate, expected, iris):
    ff = forward_forward(
        learning_rate=learning_rate, learning_rate_init=0.01, max_iter=2, batch_size=32
    )
    net = skorch_mlp(ff)
    net.set_params(callbacks=[*net.callbacks, ("rates", RateRecorder())])
    net.fit(*iris)  # 150 samples: 5 updates per epoch
    np.testing.assert_allclose(dict(net.callbacks_)["rates"].rates_, expected)


def test_skorch_mlp_trains_on_all_samples_in_a_new_order(iris):
    X, y = iris
    seen = []

    class Recorder(Callback):
        def on_batch_end(self, net, batch, training, **kwargs):
            if training:
                seen.append(batch[0].numpy())

    skorch_mlp(forward_forward(max_iter=2), callbacks=[("seen", Recorder())]).fit(X, y)
    assert [len(batch) for batch in seen] == [32, 32, 32, 32, 22] * 2
    first, second = np.concatenate(seen[:5]), np.concatenate(seen[5:])
    assert not np.array_equal(first, second)
    for epoch in first, second:
        by_value = [np.lexsort(data.T) for data in (epoch, X.astype(np.float32))]
        np.testing.assert_array_equal(epoch[by_value[0]], X.astype(np.float32)[by_value[1]])


def test_skorch_mlp_leaves_the_random_state_of_torch_alone(iris):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = skorch_mlp(forward_forward(dropout=0.2)).fit(*iris)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = skorch_mlp(forward_forward(dropout=0.2)).fit(*iris)
    np.testing.assert_array_equal(first.predict_proba(iris[0]), second.predict_proba(iris[0]))


def test_skorch_mlp_drops_features_only_while_training(iris):
    X, y = iris
    net = skorch_mlp(forward_forward(dropout=0.5)).fit(X, y)
    np.testing.assert_array_equal(net.predict_proba(X), net.predict_proba(X))
    without = skorch_mlp(forward_forward()).fit(X, y)
    assert not np.allclose(net.predict_proba(X), without.predict_proba(X))


@pytest.mark.parametrize(("n_features", "share"), [(63, 0.0), (64, 0.1)])
def test_skorch_mlp_resolves_automatic_dropout_for_the_data(n_features, share):
    X, y = np.random.default_rng(0).standard_normal((30, n_features)), np.arange(30) % 3
    net = skorch_mlp(forward_forward(dropout="auto", max_iter=1)).fit(X, y)
    (dropout,) = [m for m in net.module_.modules() if isinstance(m, torch.nn.Dropout)]
    assert dropout.p == share


def test_skorch_mlp_spares_the_biases_from_weight_decay(iris):
    net = skorch_mlp(forward_forward(weight_decay=0.1)).fit(*iris)
    decays = {
        parameter.ndim: group["weight_decay"]
        for group in net.optimizer_.param_groups
        for parameter in group["params"]
    }
    assert decays == {1: 0.0, 2: 0.1}
    assert type(net.optimizer_) is torch.optim.AdamW


def test_skorch_mlp_of_an_sgd_classifier_has_its_momentum(iris):
    net = skorch_mlp(forward_forward(solver=SGD(momentum=0.7))).fit(*iris)
    assert type(net.optimizer_) is torch.optim.SGD
    assert net.optimizer_.param_groups[0]["momentum"] == 0.7


def test_skorch_mlp_continues_with_partial_fit(iris):
    X, y = iris
    names = np.array(["c", "a", "b"])[y]
    net = skorch_mlp(forward_forward((50,), learning_rate_init=2e-2))
    net.partial_fit(X[:50], names[:50], classes=["a", "b", "c"])
    assert net.predict_proba(X).shape == (150, 3)
    for _ in range(4):
        net.partial_fit(X, names)
    assert net.score(X, names) > 0.8
    with pytest.raises(ValueError, match=r"Got labels \['d'\], but expected some of \['a', 'b',"):
        net.partial_fit(X[:1], ["d"])


def test_skorch_mlp_fits_again_on_other_data(iris, digits):
    net = skorch_mlp(forward_forward()).fit(*iris)
    X, _, y, _ = digits
    assert net.fit(X, y).predict_proba(X).shape == (len(X), 10)


@pytest.mark.parametrize(
    "X, y, message",
    [
        (np.full((4, 2), np.nan), [0, 1, 0, 1], "NaN"),
        (np.zeros((4, 2)), [0, 1, 0], "inconsistent numbers of samples"),
        (np.zeros((4, 2)), [0.5, 1.2, 0.3, 0.1], "continuous"),
    ],
)
def test_skorch_mlp_checks_its_data(X, y, message):
    with pytest.raises(ValueError, match=message):
        skorch_mlp(forward_forward()).fit(X, y)


def test_skorch_mlp_checks_features_and_fit_before_it_predicts(iris):
    net = skorch_mlp(forward_forward())
    with pytest.raises(NotFittedError):
        net.predict(iris[0])
    net.fit(*iris)
    with pytest.raises(ValueError, match="expecting 4 features"):
        net.predict(iris[0][:, :3])


def test_skorch_mlp_is_a_skorch_net_with_one_class_too():
    net = skorch_mlp(forward_forward())
    assert isinstance(net, NeuralNetClassifier)
    X = np.ones((5, 3))
    assert net.fit(X, ["only"] * 5).predict(X).tolist() == ["only"] * 5
    assert math.isfinite(net.history[-1, "train_loss"])


@pytest.mark.cuda
def test_skorch_mlp_leaves_the_random_state_of_cuda_alone(iris):
    before = torch.cuda.get_rng_state()
    ff = forward_forward(dropout=0.2, device="cuda")
    first, second = (skorch_mlp(ff).fit(*iris).predict_proba(iris[0]) for _ in range(2))
    assert torch.equal(torch.cuda.get_rng_state(), before)
    np.testing.assert_allclose(first, second, atol=1e-6)
