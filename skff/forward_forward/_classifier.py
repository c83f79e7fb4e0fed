"""FFClassifier: parameters, validation, wiring and prediction."""

import copy
import math
from collections import Counter
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
import torch
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skff.forward_forward import _parameters as parameters
from skff.forward_forward._data import (
    TrainingData,
    check_same_task,
    combine_weights,
    encode_labels,
    location_and_norm,
)
from skff.forward_forward._fitting import Course, run_epoch, train_layers
from skff.forward_forward._monitor import Monitor, describe
from skff.forward_forward._network import Network, goodness_in_chunks, logits_in_chunks
from skff.forward_forward._occlusion import OcclusionPredictor
from skff.forward_forward._precision import matmul_precision
from skff.forward_forward._training import SCHEDULES, Rule, Trainer, open_ended
from skff.forward_forward.goodness import GOODNESS
from skff.forward_forward.losses import LOSSES
from skff.forward_forward.negatives import NEGATIVES
from skff.forward_forward.overlays import OVERLAYS, replace

NEGLIGIBLE_SIGNAL = 0.05  # of the mean: on MNIST half the samples, with 1 % of the signal


class FFClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """Neural network classifier trained with the Forward-Forward algorithm.

    Each layer learns on its own to give *positive* samples (features with their true label) a
    high *goodness* and *negative* samples (features with a wrong label) a low one; no error is
    propagated backwards through layers. To predict, every candidate label is tried and the one
    with the highest goodness, summed over the layers, wins.

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(500, 500)
        Units of each layer.
    overlay : {"append", "replace"} or callable, default="append"
        How the label joins the features. "append" sets label units beside them; "replace"
        gives up the first `n_classes` features for them, as the papers do with the black
        border of images, and needs more features than classes.
    label_scale : float, default=0.5
        Amplitude of the label unit, in units of the mean norm of the training samples, so that
        multiplying `X` by a constant changes no prediction.
    center : bool, default=True
        Whether to subtract the training samples' mean from the features, so that adding a
        constant to a feature changes no prediction either. Norms are then those of the centred
        samples, and what `dropout` drops is replaced by the mean.
    goodness : {"mean_square", "sum_square"} or callable, default="mean_square"
        Activities of shape (n, n_units) -> goodness of shape (n,).
    loss : {"symba", "swish", "logistic"} or callable, default="symba"
        Goodness of positives and of negatives -> loss per sample. An instance such as
        ``SymBa(scale=8.0)`` sets the component's own parameters.
    negatives : {"hard", "uniform"} or callable, default="hard"
        How wrong labels are drawn: by the first layer's own goodness or all alike.
    training : {"simultaneous", "greedy"}, default="simultaneous"
        Whether every batch updates all layers or the layers are trained one after another.
    readout : {"goodness", "softmax"}, default="goodness"
        What predicts: the goodness of every label, or a linear softmax head on the normalised
        activities of all layers but the first under a neutral label, in a single pass. The
        head learns along without changing the layers.
    skip_first_goodness : bool, default=False
        Whether to leave the first layer out of the summed goodness.
    peer_normalization : float, default=0.0
        Strength of the pull of each unit's mean activity on positives towards its layer's mean,
        which also revives dead units.
    augment : callable, default=None
        ``(batch, generator)`` -> batch, applied to the features of every training batch, such
        as `skff.forward_forward.augmentation.ImageShift`.
    dropout : float in [0, 1) or "auto", default="auto"
        Share of the input features dropped per sample while training; "auto" is 0.1, and 0 with
        fewer than 64 features.
    solver : {"adamw", "sgd"}, default="adamw"
        Optimizer of every layer.
    learning_rate_init : float, default=3e-3
        Learning rate at the start.
    learning_rate : {"cooldown", "constant"}, default="cooldown"
        "cooldown" keeps the rate for the first half of the updates and then lowers it linearly
        to 0.
    momentum : float in [0, 1), default=0.9
        Momentum of the "sgd" solver.
    weight_decay : float, default=0.0
        Decoupled decay: each update shrinks the weights by the learning rate times this.
    batch_size : int or "auto", default="auto"
        Samples per update; "auto" is ``n_samples // 100``, in `partial_fit` ``n_samples // 25``,
        clipped to [16, 256]. Larger than the data means all of them.
    max_iter : int or "auto", default="auto"
        Epochs; with ``training="greedy"``, epochs per layer. "auto" is as many as 5,000 updates
        take, but at least 20 and at most 60.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the data, to stop when the accuracy there
        no longer rises by `tol` for `n_iter_no_change` epochs, and to restore the best weights.
    validation_fraction : float in (0, 1), default=0.1
        Share of the training data held out when `early_stopping` is set.
    n_iter_no_change : int, default=10
        Epochs without improvement before training stops early.
    tol : float, default=1e-4
        Smallest gain of validation accuracy, in [0, 1], that counts as an improvement.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with the sample weights.
    matmul_precision : {"highest", "high", "medium"}, default="highest"
        Precision of float32 matrix products while training: "medium" lets them run in bfloat16
        where the hardware has it. Set around our own calls only; prediction is always exact.
    device : str or torch.device, default="auto"
        Where to compute; "auto" is CUDA where there is one, then MPS, then the CPU.
    warm_start : bool, default=False
        Whether `fit` goes on from the weights of the previous call.
    random_state : int, RandomState instance or None, default=None
        Source of the initial weights, the order of samples, negatives, dropout and the
        validation split.
    verbose : bool or int, default=False
        Whether to print a line per epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has names that are all strings.
    n_iter_ : int
        Epochs run; of the longest-trained layer when greedy.
    n_layers_ : int
        Number of layers.
    coefs_ : list of ndarray of shape (n_inputs, n_units)
        Weights of each layer. With ``overlay="replace"`` the first `n_classes` rows of the
        first one are the label's.
    intercepts_ : list of ndarray of shape (n_units,)
        Biases of each layer.
    label_coefs_ : ndarray of shape (n_classes, n_units)
        What each label adds to the first layer: its pre-activations are
        ``input_scale_ * (x @ coefs_[0] + label_amplitude_ * label_coefs_[c]) + intercepts_[0]``.
        The intercepts take up the mean that `center` subtracts.
    input_scale_, label_amplitude_ : float
        Fixed factor on the input and value of the label unit, in units of `X`.
    history_ : list of dict
        One per epoch: epoch, layers, seconds, learning_rate, loss and positive_share (the
        share of positives above their negatives) per layer in `layers`, validation_score.
    loss_curves_ : ndarray of shape (n_layers, n_iter_)
        Mean loss per layer and epoch; NaN where a layer trained fewer epochs.
    device_ : torch.device
        Where the weights are.

    See Also
    --------
    skff.mlp_baselines : Backprop networks of the same architecture.

    References
    ----------
    .. [1] G. Hinton, "The Forward-Forward Algorithm: Some Preliminary Investigations",
       arXiv:2212.13345, 2022.
    .. [2] M. Bakhshi, "Novel Saliency Analysis for the Forward-Forward Algorithm",
       arXiv:2409.15365, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import train_test_split
    >>> from skff import FFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    >>> clf = FFClassifier(hidden_layer_sizes=(50, 50), random_state=0).fit(X_train, y_train)
    >>> clf.predict_proba(X_test[:1]).shape
    (1, 3)
    >>> bool(clf.score(X_test, y_test) > 0.9)
    True
    """

    _parameter_constraints = parameters.CONSTRAINTS

    def __init__(
        self,
        hidden_layer_sizes=(500, 500),
        *,
        overlay="append",
        label_scale=0.5,
        center=True,
        goodness="mean_square",
        loss="symba",
        negatives="hard",
        training="simultaneous",
        readout="goodness",
        skip_first_goodness=False,
        peer_normalization=0.0,
        augment=None,
        dropout="auto",
        solver="adamw",
        learning_rate_init=3e-3,
        learning_rate="cooldown",
        momentum=0.9,
        weight_decay=0.0,
        batch_size="auto",
        max_iter="auto",
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        class_weight=None,
        matmul_precision="highest",
        device="auto",
        warm_start=False,
        random_state=None,
        verbose=False,
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.overlay = overlay
        self.label_scale = label_scale
        self.center = center
        self.goodness = goodness
        self.loss = loss
        self.negatives = negatives
        self.training = training
        self.readout = readout
        self.skip_first_goodness = skip_first_goodness
        self.peer_normalization = peer_normalization
        self.augment = augment
        self.dropout = dropout
        self.solver = solver
        self.learning_rate_init = learning_rate_init
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.class_weight = class_weight
        self.matmul_precision = matmul_precision
        self.device = device
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    def fit(self, X, y, sample_weight=None):
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data, finite; C-ordered float32 is used without a copy.
        y : array-like of shape (n_samples,)
            Labels of any type.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; a weight of 0 leaves the sample out.

        Returns
        -------
        self : FFClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            On a parameter or data that cannot be used, before the estimator changes, or when
            the loss becomes non-finite.
        """
        go_on = self.warm_start and hasattr(self, "_network")
        metadata = None if sample_weight is None else {"sample_weight": sample_weight}
        hook_arguments = {"estimator": self, "X": X, "y": y, "metadata": metadata}
        with _unchanged_on_error(self):
            self._validate_params()
            X, y, sample_weight, classes = self._validate_training(X, y, sample_weight, go_on)
            random_state = check_random_state(self.random_state)
            samples, held_out = self._split(X, y, sample_weight, random_state)
            generator = self._generator(random_state)
            if go_on:
                network, history = self._network.to(self.device_), list(self.history_)
            else:
                network, history = self._initialize(samples[0], len(classes), generator), []
            fitted = partial(_fitted_attributes, network, classes, history)
            hook_arguments["reconstruction_attributes"] = lambda: copy.deepcopy(fitted())
            self._train(network, generator, samples, held_out, history, hook_arguments)
            vars(self).pop("_trainer", None)  # partial_fit goes on with a fresh optimizer
            vars(self).update(fitted())
        return self

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Pass once over some data, going on from the present weights.

        The optimizer's state lasts from call to call, and the scale of the first call's data is
        kept. As the last pass is not known, "cooldown" stands for a learning rate that falls as
        one over the root of the number of updates after the first 1,000, and the weights that
        predict are a mean over the updates, two thirds of it over the last fifth of them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Some training data.
        y : array-like of shape (n_samples,)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that will ever occur; needed at the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Non-negative weights; a weight of 0 leaves the sample out.

        Returns
        -------
        self : FFClassifier
            The classifier.

        Raises
        ------
        ValueError
            If `classes` is missing at the first call or differs later, if a label is not among
            them, or if `early_stopping`, ``training="greedy"`` or ``class_weight="balanced"``
            is set, which need all the data at once.
        """
        go_on = hasattr(self, "_network")
        with _unchanged_on_error(self):
            self._validate_params()
            self._validate_partial_fit()
            classes = self._all_classes(classes)
            X, y, sample_weight, classes = self._validate_training(
                X, y, sample_weight, go_on, classes
            )
            if not hasattr(self, "_trainer"):
                self._begin_passes(X, classes)
            if len(classes) > 1:
                self._pass_once(X, y, sample_weight)
        return self

    def decision_function(self, X):
        """Compute the goodness of each class, summed over the layers, or the head's logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        goodness : ndarray of shape (n_samples, n_classes) or (n_samples,)
            For two classes the second's goodness minus the first's.
        """
        goodness = self._class_scores(X)
        return goodness[:, 1] - goodness[:, 0] if len(self.classes_) == 2 else goodness

    def predict(self, X):
        """Predict the label with the highest goodness.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Labels from `classes_`.
        """
        best = self._class_scores(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X):
        """Estimate class probabilities by a softmax.

        Of the head's logits, or of the loss's `scale` times the classes' mean goodness over the
        layers: each layer has learnt how likely a true label beats a wrong one at that scale.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        p : ndarray of shape (n_samples, n_classes)
            Rows sum to 1.
        """
        return softmax(self._logits(X), axis=1)

    def predict_log_proba(self, X):
        """Estimate the logarithm of class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        log_p : ndarray of shape (n_samples, n_classes)
            Logarithm of `predict_proba`, exact where that rounds to 0.
        """
        return log_softmax(self._logits(X), axis=1)

    def layer_goodness(self, X):
        """Compute each layer's goodness of each sample under each label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        goodness : ndarray of shape (n_layers, n_samples, n_classes)
            With ``readout="goodness"`` its sum over the layers decides the prediction.
        """
        kept = self._validate_samples(X)
        return goodness_in_chunks(self._network, kept, self._goodness())

    def occlusion_predictor(self, X, *, fill):
        """Prepare exact and fast predictions for `X` with some of its features hidden.

        Saliency methods that hide regions use it: see `skff.ADSExplainer`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        fill : array-like broadcastable to X
            Values of hidden features.

        Returns
        -------
        predictor : object
            ``predict(rows, pixels)`` gives the predictions for ``X[rows]`` with the features
            `pixels` set to `fill`; ``predict_many(rows, windows)`` those for several sets of
            features, of shape (n_windows, n_rows).

        Raises
        ------
        ValueError
            If `X` is not as at `fit`, or `fill` is not finite numbers that broadcast to it.
        """
        check_is_fitted(self, "_network")
        X = validate_data(self, X, dtype=np.float32, order="C", reset=False)
        overlay, n_classes = self._overlay(), len(self.classes_)
        return OcclusionPredictor(
            self._network,
            X,
            fill,
            keep=lambda X: overlay(X, n_classes),
            goodness=self._goodness(),
            skip_first=self.skip_first_goodness,
            classes=self.classes_,
        )

    @property
    def coefs_(self):
        """Weights of each layer, (n_inputs, n_units)."""
        first, *others = [weight.t().cpu().numpy() for weight in self._fitted_network().weights]
        if self._overlay() is replace:  # the first features are the label's
            first = np.concatenate([self.label_coefs_, first])
        return [first, *others]

    @property
    def intercepts_(self):
        """Biases of each layer."""
        network = self._fitted_network()
        first, *others = network.biases
        shift = network.weights[0] @ network.center  # where the coefficients read x as it is
        first = first - network.input_scale * shift
        return [bias.cpu().numpy() for bias in [first, *others]]

    @property
    def label_coefs_(self):
        """What each label adds to the first layer, (n_classes, n_units)."""
        return self._fitted_network().label_weight.cpu().numpy()

    @property
    def input_scale_(self):
        """Fixed factor on the first layer's input."""
        return self._fitted_network().input_scale

    @property
    def label_amplitude_(self):
        """Value of the label unit, in units of `X`."""
        return self._fitted_network().label_amplitude

    @property
    def device_(self):
        """Where the weights are."""
        return self._fitted_network().device

    @property
    def loss_curves_(self):
        """Mean loss per layer and epoch, (n_layers, `n_iter_`)."""
        curves = [
            [
                row["loss"][row["layers"].index(layer)]
                for row in self.history_
                if layer in row["layers"]
            ]
            for layer in range(self.n_layers_)
        ]
        padded = np.full((self.n_layers_, self.n_iter_), np.nan)
        for row, curve in zip(padded, curves, strict=True):
            row[: len(curve)] = curve
        return padded

    @property
    def n_layers_(self):
        """Number of layers."""
        return self._fitted_network().n_layers

    def _fitted_network(self):
        check_is_fitted(self, "_network")
        return self._network

    def _validate_training(self, X, y, sample_weight, go_on, classes=None):
        sizes = parameters.layer_sizes(self.hidden_layer_sizes)
        parameters.check_consistency(self)
        parameters.resolve_device(self.device)
        X, y = validate_data(self, X, y, dtype=np.float32, order="C", reset=not go_on)
        check_classification_targets(y)
        if go_on and classes is None:
            classes = np.unique(y)
        classes, y = encode_labels(column_or_1d(y, warn=True), classes)
        kept = self._kept(X, len(classes))
        parameters.check_components(self._rule(), len(classes))
        if go_on:
            check_same_task(self, sizes, classes, kept.shape[1])
        used, weight = combine_weights(X, y, classes, sample_weight, self.class_weight)
        if used is not None:
            X, y = X[used], y[used]
        return X, y, weight, classes

    def _validate_partial_fit(self):
        for name, unusable in UNUSABLE_IN_PARTIAL_FIT.items():
            if getattr(self, name) == unusable:
                raise ValueError(
                    f"Got {name}={unusable!r}, but partial_fit cannot use it: it needs all the "
                    "data at once. Use fit."
                )

    def _all_classes(self, classes):
        if classes is None and not hasattr(self, "classes_"):
            raise ValueError(
                "Got classes=None at the first call of partial_fit, but expected all labels that "
                "will ever occur: the network has one label unit for each."
            )
        if classes is None:
            return self.classes_
        classes = np.unique(column_or_1d(classes))
        if classes.dtype.kind == "f" and not np.isfinite(classes).all():
            raise ValueError(f"Got classes={classes!r}, but expected finite labels.")
        if hasattr(self, "classes_") and not np.array_equal(classes, self.classes_):
            raise ValueError(
                f"Got classes={classes!r}, but expected those of the first call of partial_fit or "
                f"fit, {self.classes_!r}."
            )
        return classes

    def _split(self, X, y, sample_weight, random_state):
        """Return samples (X, y, sample_weight) to train on and, for early stopping, to hold out."""
        if not self.early_stopping:
            return (X, y, sample_weight), None
        rows = train_test_split(
            np.arange(len(X)),
            test_size=self.validation_fraction,
            stratify=y,
            random_state=random_state,
        )
        return tuple(
            (X[part], y[part], None if sample_weight is None else sample_weight[part])
            for part in rows
        )

    def _generator(self, random_state):
        generator = torch.Generator(parameters.resolve_device(self.device))
        return generator.manual_seed(int(random_state.randint(np.iinfo(np.int32).max)))

    def _overlay(self):
        return parameters.component(OVERLAYS, self.overlay)

    def _kept(self, X, n_classes):
        kept = self._overlay()(X, n_classes)
        if kept.ndim != 2 or len(kept) != len(X) or kept.shape[1] == 0:
            raise ValueError(
                f"Got an array of shape {kept.shape} from overlay={self.overlay!r} for X of shape "
                f"{X.shape}, but expected the same samples with at least one feature."
            )
        return kept

    def _goodness(self):
        return parameters.component(GOODNESS, self.goodness)

    def _rule(self):
        return Rule(
            goodness=self._goodness(),
            loss=parameters.component(LOSSES, self.loss),
            negatives=parameters.component(NEGATIVES, self.negatives),
            peer_normalization=self.peer_normalization,
            negligible=NEGLIGIBLE_SIGNAL,
        )

    def _course(self, n_samples):
        return Course(
            batch_size=parameters.resolve_batch_size(self.batch_size, n_samples),
            max_iter=parameters.resolve_max_iter(self.max_iter, n_samples, self.batch_size),
            learning_rate=self.learning_rate,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
        )

    def _make_trainer(self, network, layers, generator, readout=False, average=None):
        return Trainer(
            network,
            layers,
            generator,
            solver=self.solver,
            learning_rate=self.learning_rate_init,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            readout=readout,
            average=average,
        )

    def _initialize(self, X, n_classes, generator):
        kept = self._overlay()(X, n_classes)
        center, norm = location_and_norm(kept, self.center)
        return Network.initialize(
            [kept.shape[1], *parameters.layer_sizes(self.hidden_layer_sizes)],
            n_classes,
            center=center,
            # Samples get a root mean square of about 1.
            input_scale=math.sqrt(kept.shape[1]) / norm,
            label_amplitude=self.label_scale * norm,
            generator=generator,
            readout=self.readout == "softmax",
        )

    def _training_data(self, network, X, y, sample_weight):
        overlay, n_classes = self._overlay(), network.n_classes
        return TrainingData(
            X,
            y,
            sample_weight,
            keep=lambda X: overlay(X, n_classes),
            rescale=network.rescale,
            device=network.device,
            dropout=parameters.resolve_dropout(self.dropout, X.shape[1]),
            augment=self.augment,
        )

    def _phases(self, network):
        """Return what learns together: (layers, whether the softmax head does), in turn."""
        n_layers, head = network.n_layers, self.readout == "softmax"
        if network.n_classes == 1:
            return []  # there is no wrong label to learn from
        if self.training == "simultaneous":
            return [(range(n_layers), head)]
        layers = [(range(layer, layer + 1), False) for layer in range(n_layers)]
        return layers + [(range(0), True)] * head

    def _train(self, network, generator, samples, held_out, history, hook_arguments):
        phases = self._phases(network)
        course = self._course(len(samples[0]))
        n_subtasks = course.max_iter if len(phases) == 1 else len(phases)
        context = self._init_callback_context(max_subtasks=n_subtasks)
        context.call_on_fit_task_begin(**hook_arguments)
        monitor = Monitor(
            context,
            history,
            hook_arguments,
            max_iter=course.max_iter,
            n_before=count_epochs(history),
            verbose=self.verbose,
        )
        with torch.no_grad(), matmul_precision(self.matmul_precision):
            data = self._training_data(network, *samples)
            for layers, head in phases:
                validate = held_out and partial(self._validation_score, network, held_out, layers)
                trainer = self._make_trainer(network, layers, generator, head)
                with monitor.phase(layers, nested=len(phases) > 1):
                    train_layers(trainer, data, self._rule(), course, monitor, validate)
        context.call_on_fit_task_end(**hook_arguments)

    def _begin_passes(self, X, classes):
        generator = self._generator(check_random_state(self.random_state))
        if not hasattr(self, "_network"):
            network = self._initialize(X, len(classes), generator)
            vars(self).update(_fitted_attributes(network, classes, []))
        layers, head = range(self.n_layers_), self.readout == "softmax"
        learning = self._network.to(self.device_)
        self._trainer = self._make_trainer(learning, layers, generator, head, self._network)

    def _pass_once(self, X, y, sample_weight):
        trainer = self._trainer
        trainer.learning_rate = self.learning_rate_init
        before = trainer.average.to(trainer.average.device)
        with torch.no_grad(), matmul_precision(self.matmul_precision):
            data = self._training_data(trainer.network, X, y, sample_weight)
            # What comes at once is mostly one of several parts.
            batch_size = parameters.resolve_batch_size(self.batch_size, len(data), auto=25)
            try:
                record = run_epoch(
                    trainer,
                    data,
                    self._rule(),
                    batch_size,
                    len(self.history_),
                    schedule=self._open_ended_schedule(trainer),
                )
            except BaseException:
                trainer.average.copy_from(before)
                del self._trainer  # whose moments may be spoilt
                raise
        self.history_.append(record)
        self.n_iter_ = count_epochs(self.history_)
        if self.verbose:
            print(describe(record, record["epoch"]), flush=True)

    def _open_ended_schedule(self, trainer):
        if self.learning_rate == "constant":
            return SCHEDULES["constant"]
        return lambda done: open_ended(trainer.n_updates)

    def _validation_score(self, network, held_out, layers):
        X, y, sample_weight = held_out
        kept = self._overlay()(X, network.n_classes)
        if self.readout == "softmax" and (self.training == "simultaneous" or not layers):
            scores = logits_in_chunks(network, kept)
        else:
            scores = self._sum_layers(
                goodness_in_chunks(network, kept, self._goodness(), layers.stop)
            )
        return float(accuracy_score(y, scores.argmax(axis=1), sample_weight=sample_weight))

    def _sum_layers(self, goodness):
        skipped = 1 if self.skip_first_goodness and len(goodness) > 1 else 0
        return goodness[skipped:].sum(axis=0)

    def _validate_samples(self, X):
        check_is_fitted(self, "_network")
        X = validate_data(self, X, dtype=np.float32, order="C", reset=False)
        return self._overlay()(X, len(self.classes_))

    def _class_scores(self, X):
        """Return what is largest for the predicted class, (n_samples, n_classes)."""
        kept = self._validate_samples(X)
        if self._network.readout:
            return logits_in_chunks(self._network, kept)
        return self._sum_layers(goodness_in_chunks(self._network, kept, self._goodness()))

    def _logits(self, X):
        scores = self._class_scores(X)
        if self._network.readout:
            return scores
        n_counted = max(1, self.n_layers_ - int(self.skip_first_goodness))
        return scores * (getattr(self._rule().loss, "scale", 1.0) / n_counted)

    def __getstate__(self):
        state = dict(super().__getstate__())  # not the live one
        if "_network" in state:
            # A ScoringMonitor holds a local socket and its key: neither belongs in a file. On
            # their way to the worker of a search, callbacks sit on an estimator not yet fitted.
            state.pop("_skl_callbacks", None)
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if hasattr(self, "_network") and not hasattr(self, "_trainer"):
            with suppress(ValueError):  # the device may exist only on the machine of `fit`
                device = parameters.resolve_device(self.device)
                self._network = self._network.to(device)


UNUSABLE_IN_PARTIAL_FIT = {
    "early_stopping": True,
    "training": "greedy",
    "class_weight": "balanced",
}


CALLBACK_STATE = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")


def _fitted_attributes(network, classes, history):
    return {
        "_network": network,
        "classes_": classes,
        "history_": history,
        "n_iter_": count_epochs(history),
    }


def count_epochs(history):
    """Count the epochs of the layer that was trained most."""
    layers = [layer for record in history for layer in record["layers"]]
    return max(Counter(layers).values(), default=0)


@contextmanager
def _unchanged_on_error(estimator):
    """Give an estimator its attributes back when the block fails or is interrupted."""
    before = vars(estimator).copy()
    before.pop("_trainer", None)
    try:
        yield
    except BaseException:
        now = vars(estimator).copy()
        # The callbacks' own state is torn down by scikit-learn after us; a trainer whose pass
        # failed has been dropped.
        kept = {name: now[name] for name in (*CALLBACK_STATE, "_trainer") if name in now}
        vars(estimator).clear()
        vars(estimator).update(before | kept)
        raise
