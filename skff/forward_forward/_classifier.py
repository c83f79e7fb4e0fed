"""FFClassifier: parameters, their documentation and prediction."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skff._links import DOC_LINK
from skff._versions import with_version, without_version
from skff._warnings import warn
from skff.forward_forward import _fit
from skff.forward_forward import _parameters as parameters
from skff.forward_forward._features import validate_features
from skff.forward_forward._torch import computing, on_own_terms, resolve_device
from skff.forward_forward.occlusion import OcclusionPredictor
from skff.forward_forward.overlays import replace

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike


class FFClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """Neural network classifier trained with the Forward-Forward algorithm.

    Each layer learns separately to give *positive* samples (features with their true label) a
    high *goodness* and *negative* samples (features with a wrong label) a low one; no error is
    propagated back through the layers. The predicted label is the one with the highest goodness,
    summed over the layers.

    The parameters are listed in this order:

    - *network*: `hidden_layer_sizes`, `overlay`, `label_scale`, `center`
    - *learning rule*: `goodness`, `loss`, `negatives`, `training`
    - *prediction*: `readout`, `skip_first_goodness`
    - *regularization*: `peer_normalization`, `augment`, `dropout`
    - *optimization*: `solver`, `learning_rate_init`, `learning_rate`, `weight_decay`,
      `batch_size`, `max_iter`
    - *stopping*: `early_stopping`, `validation_fraction`, `n_iter_no_change`, `tol`
    - *data*: `class_weight`
    - *execution*: `matmul_precision`, `device`, `parallel`, `warm_start`, `random_state`, `verbose`
    - *interruptions*: `checkpoint`, `checkpoint_every`, `keep_interrupted`

    Parameters
    ----------
    hidden_layer_sizes : int or array-like of int, default=(500, 500)
        Units of each layer, at least 1.
    overlay : {"layerwise", "append", "replace"} or callable, default="layerwise"
        How the label enters the network. "layerwise" adds label units to the inputs of every
        layer, and each layer passes its activity under a neutral label to the next, so that one
        pass serves all labels. "append" adds label units to the features only. "replace" puts
        them in place of the first `n_classes` features, as the papers do with the black border
        of images, and needs more features than classes. With "append" and "replace", all layers
        but the first run once per label.
    label_scale : float in (0, inf), default=1.0
        Amplitude of the label units in each layer that has them, relative to the norm of its
        other inputs (the mean norm of the training samples in the first layer), so that
        multiplying `X` by a constant changes no prediction.
    center : bool, default=True
        Whether to subtract the mean of the training samples from the features, so that adding a
        constant to a feature changes no prediction either. Norms are then those of the centred
        samples, and features hidden by `dropout` are replaced by the mean.
    goodness : {"mean_square", "sum_square"} or callable, default="mean_square"
        Activities of shape (n, n_units) -> goodness of shape (n,).
    loss : {"auto", "cross_entropy", "symba", "swish", "logistic"} or callable, default="auto"
        Loss that each layer minimizes. "cross_entropy" compares the goodness of all labels and
        needs an overlay that gives every layer the label; "symba", "swish" and "logistic" compare
        the goodness of a positive and a negative, (n,) each -> loss per pair (n,). "auto" is
        "cross_entropy" with ``overlay="layerwise"`` unless `negatives` is set to draw negatives,
        otherwise "symba". Pass an instance such as ``CrossEntropy(label_smoothing=0.05)`` to set
        the parameters of a loss.
    negatives : {"auto", "all", "hard", "uniform", "confused"} or callable, default="auto"
        Wrong labels with which a positive is compared. "all" compares with every wrong label and
        needs a loss that compares all labels. The others draw one wrong label for a pair loss:
        "hard" prefers those with a high goodness in the layer being trained (in the first layer,
        if only that reads the label), "uniform" draws all with equal probability, "confused"
        uses the probabilities of the softmax head, which needs ``readout="softmax"`` and
        ``training="simultaneous"``. "auto" is "all" or "hard", depending on the loss.
    training : {"simultaneous", "greedy"}, default="simultaneous"
        Whether every batch updates all layers or the layers are trained one after another.
    readout : {"goodness", "softmax"} or Softmax, default="goodness"
        How predictions are made: from the goodness of every label, or by a linear softmax head on
        the normalized activities of all layers but the first (unless it is the only one) under a
        neutral label. The head is trained together with the layers but does not influence them.
        It uses their learning rate unless an instance such as ``Softmax(learning_rate_init=0.01)``
        sets its own.
    skip_first_goodness : bool, default=False
        Whether to leave the first layer out of the summed goodness; needs at least two layers.
    peer_normalization : float in [0, inf), default=0.0
        Strength with which each unit's mean activity on positives is pulled towards the mean of
        its layer. This also revives dead units.
    augment : callable or None, default=None
        ``(batch, generator)`` -> batch, applied to the features of every training batch, such
        as `skff.forward_forward.augmentation.ImageShift`.
    dropout : float in [0, 1) or "auto", default="auto"
        Share of the input features dropped per sample while training; "auto" is 0.1, and 0 with
        fewer than 64 features.
    solver : {"adamw", "sgd"} or object with a method `make`, default="adamw"
        Optimizer of every layer. Pass an instance such as ``SGD(momentum=0.8)`` to set the
        parameters of a solver; "sgd" has a momentum of 0.9.
    learning_rate_init : float in (0, inf), default=2e-3
        Initial learning rate.
    learning_rate : {"cooldown", "constant"}, default="cooldown"
        "cooldown" keeps the rate for the first half of the updates and then lowers it linearly
        to 0; in `partial_fit` it is the inverse-sqrt schedule.
    weight_decay : float in [0, inf), default=0.0
        Decoupled decay: each update shrinks the weights, but not the biases, by the learning rate
        times this.
    batch_size : int or "auto", default="auto"
        Samples per update, at least 1; "auto" is ``n_samples // 100``, in `partial_fit`
        ``n_samples // 25``, clipped to [16, 256]. If it is larger than the number of samples, all
        samples are one batch.
    max_iter : int or "auto", default="auto"
        Epochs, at least 1; with ``training="greedy"``, epochs per layer. "auto" is as many as
        5,000 updates take, but at least 20 and at most 60.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the data, to stop when the accuracy on it has
        not risen by `tol` for `n_iter_no_change` epochs, and to restore the best weights.
    validation_fraction : float in (0, 1), default=0.1
        Share of the training data held out when `early_stopping` is set.
    n_iter_no_change : int, default=10
        Epochs without improvement, at least 1, before training stops early.
    tol : float in [0, inf), default=1e-4
        Smallest gain of validation accuracy, in [0, 1], that counts as an improvement.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied with the sample weights.
    matmul_precision : {"highest", "high", "medium"}, default="highest"
        Precision of matrix products while training: "highest" is float32, "high" allows TF32 on
        CUDA, "medium" rounds the operands to bfloat16 where the processor multiplies bfloat16 at
        least as fast as float32. torch's global setting is not changed, and prediction always
        uses float32.
    device : str or torch.device, default="auto"
        Where to compute; "auto" uses CUDA if available, then MPS, then the CPU.
    parallel : {"data", "layers"} or None, default=None
        Whether the processes of torch.distributed's default group train one network together. All
        processes call `fit` or `partial_fit` with all of the data and the same parameters, and
        all end up with the same weights. With "data", each process handles a part of the samples
        of every batch; with "layers", each trains some of the layers, which needs
        ``overlay="layerwise"`` and ``training="simultaneous"``. With None, the process trains
        alone even if there is a process group. See the user guide.
    warm_start : bool, default=False
        Whether `fit` continues from the weights of the previous call.
    random_state : int, RandomState instance or None, default=None
        Source of the initial weights, the order of samples, negatives, dropout and the
        validation split.
    verbose : bool or int, default=False
        Whether to print a line per epoch.
    checkpoint : str, path-like or None, default=None
        File for the state of a `fit`, written during training. If the file exists, the fit resumes
        from it and gives the same result as an uninterrupted fit, bit for bit on a CPU. Each file
        belongs to one fit: if the data, parameters, versions or number of threads differ, an error
        is raised. The file remains after the fit has finished, and the same fit then returns at
        once; delete the file to train afresh. `partial_fit` ignores this parameter. None writes no
        file.
    checkpoint_every : int, default=1
        Number of epochs, at least 1, between two writes of the checkpoint.
    keep_interrupted : bool, default=False
        Whether `fit` returns with a warning at a KeyboardInterrupt (Ctrl-C), with the weights
        after the last completed epoch, or the best ones so far with `early_stopping`. Otherwise
        the interrupt is raised and the estimator is left as it was before the fit, or, with a
        `checkpoint`, as it was after the last completed epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, if `X` has names that are all strings.
    n_iter_ : int
        Number of epochs run; with greedy training, that of the layer trained longest.
    n_layers_ : int
        Number of layers.
    coefs_ : list of ndarray of shape (n_inputs, n_units)
        Weights of each layer. With ``overlay="replace"``, the first `n_classes` rows of the
        first layer's weights are those of the label.
    intercepts_ : list of ndarray of shape (n_units,)
        Biases of each layer. Those of the first layer absorb the mean that `center` subtracts.
    label_coefs_ : list of ndarray of shape (n_classes, n_units)
        Weights of the label units of each layer that reads the label: of all layers with
        ``overlay="layerwise"``, otherwise of the first one. Under label c the first layer's
        pre-activations are ``input_scale_ * (x @ coefs_[0] + label_amplitude_ *
        label_coefs_[0][c]) + intercepts_[0]``; in a layer l above it with `n_inputs` inputs the
        label adds ``label_scale * sqrt(n_inputs) * label_coefs_[l][c]``.
    input_scale_, label_amplitude_ : float
        Fixed factor on the features, and value of the first layer's label unit in units of `X`.
    history_ : list of dict
        One dict per epoch: epoch, layers, seconds, learning_rate, loss and positive_share (the
        share of samples whose positive has a higher goodness than the negatives that it is
        compared with) for each layer in `layers`; readout_loss and readout_accuracy while a
        softmax head is trained; validation_score with early stopping; communicated_bytes (the
        bytes that all processes together passed to torch.distributed) with `parallel`.
    loss_curves_ : ndarray of shape (n_layers, n_iter_)
        Mean loss per layer and epoch; NaN where a layer was trained for fewer epochs.
    device_ : torch.device
        Device of the weights.

    Raises
    ------
    ValueError
        By `fit` and `partial_fit`, before any training: if a parameter is out of its range, or if
        `overlay`, `loss`, `negatives`, `readout` and `training` contradict each other. By `fit`, if
        `checkpoint` belongs to another fit or is damaged.

    See Also
    --------
    skff.mlp_baselines : Backprop networks of the same architecture.

    Notes
    -----
    Training works on a copy: a fit that fails or is interrupted leaves the estimator as it was,
    unless `keep_interrupted` or `checkpoint` is set.
    A fit stores everything that prediction needs, so changing a parameter of a fitted
    classifier has no effect before the next `fit` or `partial_fit`.

    References
    ----------
    .. [1] G. Hinton, "The Forward-Forward Algorithm: Some Preliminary Investigations",
       arXiv:2212.13345, 2022 (sections 3.3 and 3.4 for the label in the input and from above).
    .. [2] M. Bakhshi, "Novel Saliency Analysis for the Forward-Forward Algorithm",
       arXiv:2409.15365, 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import train_test_split
    >>> from skff import FFClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    >>> clf = FFClassifier((50, 50), max_iter=10, random_state=0).fit(X_train, y_train)
    >>> clf.predict_proba(X_test[:1]).shape
    (1, 3)
    >>> bool(clf.score(X_test, y_test) > 0.9)
    True
    """

    _parameter_constraints = parameters.CONSTRAINTS
    _doc_link_module = "skff"
    _doc_link_template = DOC_LINK

    def __init__(
        self,
        hidden_layer_sizes=(500, 500),
        *,
        overlay="layerwise",
        label_scale=1.0,
        center=True,
        goodness="mean_square",
        loss="auto",
        negatives="auto",
        training="simultaneous",
        readout="goodness",
        skip_first_goodness=False,
        peer_normalization=0.0,
        augment=None,
        dropout="auto",
        solver="adamw",
        learning_rate_init=2e-3,
        learning_rate="cooldown",
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
        parallel=None,
        warm_start=False,
        random_state=None,
        verbose=False,
        checkpoint=None,
        checkpoint_every=1,
        keep_interrupted=False,
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
        self.parallel = parallel
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.keep_interrupted = keep_interrupted

    @with_callbacks
    @on_own_terms()
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training data, finite. C-ordered float32 arrays are used without a copy, and
            memory-mapped arrays of any type are read batch by batch.
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
            If a parameter, the data or the `checkpoint` is invalid, or if the loss becomes
            non-finite. The estimator is not changed.

        Warns
        -----
        ConvergenceWarning
            If training is interrupted and what has been learned so far is kept.
        """
        attributes, interrupt = _fit.fit(self, X, y, sample_weight)
        self._take_over(attributes)
        if interrupt is not None:
            self._end_interrupted(interrupt)
        return self

    @on_own_terms()
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one pass over some data, starting from the current weights.

        The optimizer's state is kept between calls, and features are scaled as in the first call.
        Because the total number of calls is not known, "cooldown" is replaced by the inverse-sqrt
        schedule: after the first 1,000 updates the learning rate decays as 1 / sqrt(n_updates).
        Predictions use a weighted mean of the weights over all updates, in which the last fifth
        of the updates has two thirds of the total weight.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Some training data.
        y : array-like of shape (n_samples,)
            Labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that can occur in any call; required at the first call.
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
            is set; these need all the data at once.
        """
        self._take_over(_fit.partial_fit(self, X, y, classes, sample_weight))
        return self

    @on_own_terms()
    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Compute the score of each class, relative to the mean over the classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        scores : ndarray of shape (n_samples, n_classes) or (n_samples,)
            The goodness summed over the layers used for prediction, or the logits of the softmax
            head, minus their mean over the classes: a part that is common to all labels says
            nothing about the class of a sample. Positive: higher than the mean. For two classes,
            the score of the second minus that of the first.
        """
        scores = self._as_fitted()._class_scores(X)
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    @on_own_terms()
    def predict(self, X: ArrayLike) -> np.ndarray:
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
        fitted = self._as_fitted()
        return fitted.classes_[fitted._class_scores(X, lambda scores: scores.argmax(axis=1))]

    @on_own_terms()
    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Estimate class probabilities.

        The probabilities are the softmax of the head's logits, or of the mean goodness over the
        layers used for prediction, times a scale. This is the scale of the loss, corrected for
        label smoothing at the end of training.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        p : ndarray of float64 of shape (n_samples, n_classes)
            Rows sum to 1, to the rounding of float64, whatever the type of `X`.
        """
        return np.exp(self.predict_log_proba(X))

    @on_own_terms()
    def predict_log_proba(self, X: ArrayLike) -> np.ndarray:
        """Estimate the logarithm of class probabilities.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        log_p : ndarray of float64 of shape (n_samples, n_classes)
            Logarithm of `predict_proba`, finite even where the probability rounds to 0.
        """
        fitted = self._as_fitted()
        return fitted._class_scores(X, fitted._network.log_probabilities)

    @on_own_terms()
    def layer_goodness(self, X: ArrayLike) -> np.ndarray:
        """Compute each layer's goodness of each sample under each label.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        goodness : ndarray of shape (n_layers, n_samples, n_classes)
            Not centred. With ``readout="goodness"``, its sum over the layers used for prediction
            decides the predicted label.
        """
        fitted = self._as_fitted()
        network = fitted._network
        return network.compute(fitted._validate_samples(X), network.layer_goodness, dim=1)

    @on_own_terms()
    def occlusion_predictor(self, X: ArrayLike, *, fill: ArrayLike) -> OcclusionPredictor:
        """Prepare exact and fast predictions for `X` with some of its features hidden.

        It is used by saliency methods that hide regions, such as `skff.ADSExplainer`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        fill : array-like broadcastable to X
            Values of hidden features.

        Returns
        -------
        predictor : skff.saliency.OcclusionPredictor
            ``predict_many(rows, windows)`` gives the predictions for ``X[rows]`` with the features
            of each window set to `fill`, of shape (n_windows, n_rows), and a dict of counts.

        Raises
        ------
        ValueError
            If `X` has not the same features as in `fit`, or if `fill` is not finite or does not
            broadcast to `X`.
        """
        fitted = self._as_fitted()
        X = fitted._validate_samples(X)
        fitted._network.compare_spread(X)
        return OcclusionPredictor(fitted._network, X, fill, classes=fitted.classes_)

    @on_own_terms()
    def randomize_weights(self, random_state: int | np.random.RandomState | None = None) -> Self:
        """Return a copy of the classifier with randomly permuted weights.

        The entries of each layer's weights, biases and label weights, and of a softmax head, are
        permuted, so that they keep their distribution; the centre and scale of the features stay.
        Use it to test whether an explanation depends on training; see
        `skff.saliency.randomization_check`.

        Parameters
        ----------
        random_state : int, RandomState instance or None, default=None
            Determines the permutations.

        Returns
        -------
        randomized : FFClassifier
            Fitted; shares no weights with this classifier, which is not changed.
        """
        randomized = self._as_fitted()
        network = self._fitted_network()
        randomized._network = network.permuted(check_random_state(random_state))
        vars(randomized).pop("_trainer", None)  # it holds the optimizer of the old weights
        return randomized

    @property
    def coefs_(self) -> list[np.ndarray]:
        """Weights of each layer, (n_inputs, n_units)."""
        network = self._fitted_network()
        first, *others = [layer.weight.t().cpu().numpy() for layer in network.layers]
        if network.overlay is replace:  # the first features are the label's
            first = np.concatenate([self.label_coefs_[0], first])
        return [first, *others]

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """Biases of each layer."""
        network = self._fitted_network()
        first, *others = [layer.bias for layer in network.layers]
        with computing(network.device):
            shift = network.layers[0].weight @ network.center  # coefficients read x as it is
        first = first - network.input_scale * shift
        return [bias.cpu().numpy() for bias in [first, *others]]

    @property
    def label_coefs_(self) -> list[np.ndarray]:
        """Label weights of each layer that reads the label, (n_classes, n_units)."""
        weights = [layer.label_weight for layer in self._fitted_network().layers]
        return [weight.cpu().numpy() for weight in weights if weight is not None]

    @property
    def input_scale_(self) -> float:
        """Fixed factor by which the features are multiplied."""
        return self._fitted_network().input_scale

    @property
    def label_amplitude_(self) -> float:
        """Value of the first layer's label unit, in units of `X`."""
        network = self._fitted_network()
        return network.layers[0].label_amplitude / network.input_scale

    @property
    def device_(self) -> torch.device:
        """Device of the weights."""
        return self._fitted_network().device

    @property
    def loss_curves_(self) -> np.ndarray:
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
    def n_layers_(self) -> int:
        """Number of layers."""
        return self._fitted_network().n_layers

    def _end_interrupted(self, interrupt):
        """Warn of an interrupted fit, and raise the interrupt unless it is to be kept."""
        last = self.history_[-1]
        layers = [layer + 1 for layer in last["layers"]]
        message = (
            f"Training was interrupted: the classifier is as it was after epoch {last['epoch']} of "
            f"{f'layers {layers}' if layers else 'the readout'}."
        )
        if self.checkpoint is not None:
            message += f" The same fit resumes from there with checkpoint={self.checkpoint!r}."
        warn(message, ConvergenceWarning)
        if not self.keep_interrupted:
            raise interrupt

    def _take_over(self, attributes):
        """Replace all fitted attributes at once."""
        kept = {name: value for name, value in vars(self).items() if name not in FITTED}
        self.__dict__ = kept | attributes

    def _as_fitted(self):
        """Return a view of the estimator that a fit in another thread does not change."""
        check_is_fitted(self, "_network")
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        return view

    def _fitted_network(self):
        check_is_fitted(self, "_network")
        return self._network

    def _validate_samples(self, X):
        return validate_features(self, X, reset=False)

    def _class_scores(self, X, finish=lambda scores: scores):
        """Return what `finish` makes of the scores of some samples, centred, for all samples.

        The scores, (n, n_classes), are largest for the predicted class.
        """

        def finish_centred(scores):
            return finish(scores - scores.mean(axis=1, keepdims=True))

        network = self._network
        return network.compute(self._validate_samples(X), network.scores, finish=finish_centred)

    def __getstate__(self):
        state = dict(super().__getstate__())  # not the live one
        if "_network" in state:
            # A ScoringMonitor holds a local socket and its key: neither belongs in a file. On
            # their way to the worker of a search, callbacks sit on an estimator not yet fitted.
            state.pop("_skl_callbacks", None)
        return with_version(state)

    def __setstate__(self, state):
        super().__setstate__(without_version(type(self).__name__, state))
        if hasattr(self, "_network") and not hasattr(self, "_trainer"):
            with suppress(ValueError):  # the device may exist only on the machine of `fit`
                self._network = self._network.to(resolve_device(self.device))


# The attributes that `fit` and `partial_fit` set; all others are parameters and callbacks.
FITTED = {
    *("_network", "_trainer", "classes_", "history_", "n_iter_"),
    *("n_features_in_", "feature_names_in_"),
}
