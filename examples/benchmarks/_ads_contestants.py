"""Contestants of ``bench_ads.py``: ways to score a model with one window hidden at a time.

Each is a function ``(model, X, y, task) -> Scores`` of images (n, height * width).
"""

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch
from _parts import label_weights
from captum.attr import DataLoaderAttribution, FeatureAblation, Occlusion

from skff import ADSExplainer


@dataclass(frozen=True)
class Task:
    """What is to be scored.

    Parameters
    ----------
    image_shape : tuple of int (height, width)
        Shape of an image.
    window_shape : int
        Side of a window in pixels, odd.
    centers : ndarray of shape (n, 2)
        Centres of the windows that slow contestants score, all or a sample of them.
    """

    image_shape: tuple
    window_shape: int
    centers: np.ndarray

    @property
    def n_windows(self):
        """Number of windows of a full map, one centred on each pixel."""
        return self.image_shape[0] * self.image_shape[1]

    def hide(self, images, row, column):
        """Set the window centred on a pixel to 0, clipped at the border, in images (n, H, W)."""
        half = self.window_shape // 2
        rows = slice(max(0, row - half), row + half + 1)
        columns = slice(max(0, column - half), column + half + 1)
        images[:, rows, columns] = 0


@dataclass(frozen=True)
class Scores:
    """What a contestant found.

    Parameters
    ----------
    n_correct : dict
        Centre (row, column) -> number of samples still classified correctly.
    seconds : float
        For what was scored.
    seconds_full : float
        For all windows of the map, extrapolated where only some were scored.
    stats : dict or None
        What an engine counted about its own work.
    """

    n_correct: dict
    seconds: float
    seconds_full: float
    stats: dict | None = None


def plain_loop(model, X, y, task):
    """Copy the data, hide a window, score; window by window."""
    start = perf_counter()
    model.score(X, y)
    baseline = perf_counter() - start
    n_correct = {}
    for row, column in task.centers.tolist():
        occluded = X.copy()
        task.hide(occluded.reshape(-1, *task.image_shape), row, column)
        n_correct[row, column] = round(model.score(occluded, y) * len(y))
    seconds = perf_counter() - start
    return _extrapolate(n_correct, seconds, baseline, task)


def ten_passes(model, X, y, task):
    """Loop as `plain_loop`, with a full dense pass for every label, as public code predicts."""
    return plain_loop(PassPerLabel(model), X, y, task)


def captum(model, X, y, task):
    """Let captum's Occlusion call the model's accuracy; its windows lie inside the image."""
    n_correct, n_wanted = {}, len(task.centers)
    inside = [side - task.window_shape + 1 for side in task.image_shape]
    # captum moves its window down first, then to the right.
    corners = [(row, column) for column in range(inside[1]) for row in range(inside[0])]
    half = task.window_shape // 2
    start = perf_counter()
    times = []

    def accuracy(images):
        score = model.score(images.flatten(1).numpy(), y)
        times.append(perf_counter() - start)
        if len(times) > 1:  # the first call is that of the images as they are
            row, column = corners[len(times) - 2]
            n_correct[row + half, column + half] = round(score * len(y))
        if len(n_correct) == n_wanted < len(corners):
            raise _Enough
        return torch.tensor([score])

    try:
        Occlusion(accuracy).attribute(
            torch.from_numpy(X.reshape(-1, 1, *task.image_shape)),
            sliding_window_shapes=(1, task.window_shape, task.window_shape),
            perturbations_per_eval=1,
        )
    except _Enough:
        pass
    return _extrapolate(n_correct, perf_counter() - start, times[0], task)


def captum_dataset(model, X, y, task):
    """Let captum's DataLoaderAttribution ablate pixels over the whole data set.

    Its features are disjoint, so that windows are single pixels. Batches are as large as memory
    allows, ready to be read; accuracy is the metric.
    """
    n_windows = len(task.centers)
    pixels = task.centers @ [task.image_shape[1], 1]
    mask = torch.full((1, X.shape[1]), n_windows)  # all other pixels are one feature more
    mask[0, pixels] = torch.arange(n_windows)
    steps = range(0, len(X), 10_000)
    batches = [
        [torch.from_numpy(X[k : k + 10_000]), torch.from_numpy(y[k : k + 10_000])] for k in steps
    ]

    def count_correct(total, predicted, inputs):
        return (0 if total is None else total) + (predicted == inputs[1]).sum().float()

    start = perf_counter()
    model.score(X, y)
    baseline = perf_counter() - start
    method = FeatureAblation(lambda images: torch.from_numpy(model.predict(images.numpy())))
    start = perf_counter()
    lost = DataLoaderAttribution(method).attribute(
        batches, input_roles=(0, 2), feature_mask=(mask,), reduce=count_correct,
        to_metric=lambda total: total.reshape(1), return_input_shape=False,
    )  # fmt: skip
    seconds = perf_counter() - start
    if n_windows < mask.numel():  # less the pass for the other pixels
        seconds *= (n_windows + 1) / (n_windows + 2)
    n_bare = round(model.score(X, y) * len(y))
    counts = n_bare - np.rint(lost.numpy().ravel()[:n_windows]).astype(int)
    n_correct = dict(zip(map(tuple, task.centers.tolist()), counts.tolist(), strict=True))
    return _extrapolate(n_correct, seconds, baseline, task)


class _Enough(Exception):
    """Leaves captum once the wanted number of windows has been timed."""


def score_engine(model, X, y, task):
    """Score the whole data once per window."""
    if len(task.centers) == task.n_windows:
        return _explain(model, X, y, task, engine="score")
    mask = np.zeros(task.image_shape, dtype=bool)
    mask[tuple(task.centers.T)] = True
    start = perf_counter()
    model.score(X, y)
    baseline = perf_counter() - start
    scores = _explain(model, X, y, task, engine="score", mask=mask)
    return _extrapolate(scores.n_correct, scores.seconds, baseline, task)


def predict_engine(model, X, y, task):
    """Predict anew only the rows that a window changes."""
    return _explain(model, X, y, task, engine="predict")


def incremental_engine(model, X, y, task):
    """Ask the model's own `occlusion_predictor`."""
    return _explain(model, X, y, task, engine="incremental")


CONTESTANTS = {
    "plain loop": plain_loop,
    "ten passes": ten_passes,
    "captum": captum,
    "captum data set": captum_dataset,
    "score engine": score_engine,
    "predict engine": predict_engine,
    "incremental engine": incremental_engine,
}


def warm_up(name, model, X, y, task):
    """Let a contestant load what it loads on first use, so that it does not count as its own."""
    CONTESTANTS[name](model, X[:16], y[:16], replace(task, centers=task.centers[:1]))


def can_run(name, model, window_shape):
    """Return whether a contestant applies to a model and to windows."""
    if name == "captum data set":
        return window_shape == 1
    if name == "ten passes":
        return getattr(model, "overlay", None) in ("append", "replace")
    return name != "incremental engine" or hasattr(model, "occlusion_predictor")


def _explain(model, X, y, task, **settings):
    start = perf_counter()
    explainer = ADSExplainer(
        model, window_shape=task.window_shape, image_shape=task.image_shape, **settings
    )
    found = explainer.explain(X, y)
    seconds = perf_counter() - start
    counts = np.rint(found.window_scores * len(y)).astype(int).tolist()
    centers = map(tuple, found.window_centers.tolist())
    n_correct = dict(zip(centers, counts, strict=True))
    return Scores(n_correct, seconds, seconds, found.engine_stats)


def _extrapolate(n_correct, seconds, baseline, task):
    """Scale what the windows took, beside the baseline, to a full map."""
    per_window = (seconds - baseline) / len(n_correct)
    return Scores(n_correct, seconds, baseline + per_window * task.n_windows)


class PassPerLabel:
    """A fitted FFClassifier that predicts as public Forward-Forward code does.

    For every label it builds the labelled input of every sample and sends it through all layers,
    the first of them dense over label units and features.

    Parameters
    ----------
    classifier : FFClassifier
        Fitted, with goodness as its readout and the label given with the input.
    """

    def __init__(self, classifier):
        self.classes = classifier.classes_
        self.skipped = int(classifier.skip_first_goodness)
        self.scale, self.amplitude = classifier.input_scale_, classifier.label_amplitude_
        n_kept = classifier.n_features_in_
        if classifier.overlay == "replace":
            n_kept -= len(self.classes)
        first = np.concatenate([label_weights(classifier), classifier.coefs_[0][-n_kept:]])
        self.weights = [torch.from_numpy(w.copy()) for w in [first, *classifier.coefs_[1:]]]
        self.biases = [torch.from_numpy(b.copy()) for b in classifier.intercepts_]

    def score(self, X, y):
        """Return the accuracy in [0, 1]."""
        return float((self.predict(X) == y).mean())

    def predict(self, X):
        """Return the labels (n_samples,) of the highest summed mean square."""
        with torch.inference_mode():
            goodness = [self._goodness(torch.from_numpy(X), c) for c in range(len(self.classes))]
            return self.classes[torch.stack(goodness, dim=1).argmax(1).numpy()]

    def _goodness(self, X, label):
        n_kept = len(self.weights[0]) - len(self.classes)
        units = torch.zeros(len(X), len(self.classes))
        units[:, label] = self.amplitude
        inputs = torch.cat([units, X[:, -n_kept:]], dim=1) * self.scale
        total = torch.zeros(len(X))
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = torch.addmm(bias, inputs, weight).relu_()
            square = h.square().mean(1)
            if layer >= self.skipped:
                total += square
            inputs = h / square.sqrt().clamp_min(1e-8).unsqueeze(1)
        return total
