"""Exact predictions under occlusion, at a fraction of the cost of predicting anew.

Hiding the pixels P of a sample changes the first layer's pre-activations by a thin product with
the weights of P alone, so the first layer costs ``len(P)`` instead of `n_features`. What wins then
is decided by bounds wherever they can. No label is needed, and nothing is approximated.
"""

import copy

import numpy as np
import torch

from skff.forward_forward._decider import SCRATCH_ELEMENTS, STAGES, Base, Decider
from skff.forward_forward._tensors import as_tensor
from skff.forward_forward._threads import map_on_threads

LARGEST_INPUT = 64  # root mean square; the training samples' is 1


class OcclusionPredictor:
    """Predictions of a Forward-Forward network for samples with some features hidden.

    Parameters
    ----------
    network : Network
        Fitted.
    X : ndarray of shape (n_samples, n_features), float32
        Samples.
    fill : array-like broadcastable to `X`
        Values of hidden features, finite.
    keep : callable
        Features -> the features that the first layer reads.
    goodness : callable
        Activities -> goodness; bounds exist for one with a method `slope`.
    skip_first : bool
        Whether the first layer's goodness does not count.
    classes : ndarray of shape (n_classes,)
        Labels.

    Attributes
    ----------
    stats : dict of str -> int
        Counts over all calls: `pairs` of sample and window, those `unchanged` since the fill was
        there already, those `decided_by_bounds`, those then `decided_in_bfloat16` where this
        pays, and `exact_class_evaluations` for the rest.

    Raises
    ------
    ValueError
        If `fill` is not finite numbers that broadcast to `X`.
    """

    def __init__(self, network, X, fill, *, keep, goodness, skip_first, classes):
        self.network = network
        self.X = keep(X)
        self.fill = keep(_check_fill(fill, X.shape))
        self.classes = classes
        # Where each feature lies among the kept ones; one past the end if the overlay dropped it.
        kept = keep(np.arange(X.shape[1])[np.newaxis])[0]
        self.position = np.full(X.shape[1], len(kept))
        self.position[kept] = np.arange(len(kept))
        self.decider = Decider(network, goodness, skip_first)
        self.stats = dict.fromkeys(["pairs", "unchanged", *STAGES], 0)

    def predict(self, rows, pixels):
        """Predict ``X[rows]`` with the features `pixels` set to the fill.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,)
            Indices of samples.
        pixels : ndarray of shape (n_pixels,)
            Indices of features; may be empty.

        Returns
        -------
        y : ndarray of shape (n_rows,)
            Labels.
        """
        return self.predict_many(rows, [pixels])[0]

    def predict_many(self, rows, windows):
        """Predict ``X[rows]`` once per window with its features set to the fill.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,)
            Indices of samples.
        windows : list of ndarray
            Indices of the features that each window hides.

        Returns
        -------
        y : ndarray of shape (n_windows, n_rows)
            Labels.
        """
        rows = np.asarray(rows)
        best = np.empty((len(windows), len(rows)), dtype=np.int64)
        weights = self._padded_weights()

        def predict(some_windows, block, some_rows):
            predictor = copy.copy(self)  # whose counts no other thread changes
            predictor.stats = dict.fromkeys(self.stats, 0)
            with torch.inference_mode():  # holds for one thread
                labels = predictor._predict_block(rows[some_rows], block, weights)
            best[some_windows, some_rows] = labels.T
            return predictor.stats

        pieces = list(self._pieces(windows, len(rows)))
        for counts in map_on_threads(predict, pieces, self.network.device):
            self.stats.update({name: self.stats[name] + n for name, n in counts.items()})
        return self.classes[best]

    def _pieces(self, windows, n_rows):
        """Yield windows as a slice, the positions of their pixels and rows as a slice."""
        for first, block in self._window_blocks(windows):
            step = self._rows_per_block(block)
            for start in range(0, n_rows, step):
                yield slice(first, first + len(block)), block, slice(start, start + step)

    def _window_blocks(self, windows):
        """Yield (index of the first window, positions (n_windows, n_pixels)), padded to a table."""
        size = max((len(window) for window in windows), default=0)
        n_kept = self.X.shape[1]
        table = np.full((len(windows), max(size, 1)), n_kept)
        for row, window in zip(table, windows, strict=True):
            window = np.unique(window)  # a feature named twice is hidden once
            row[: len(window)] = self.position[window]
        step = max(1, SCRATCH_ELEMENTS // self._elements_per_pair(table))
        for first in range(0, len(windows), step):
            yield first, torch.from_numpy(table[first : first + step]).to(self.network.device)

    def _elements_per_pair(self, block):
        # A feature's index is as large as two float32; a class has two bounds, copied once.
        return max(len(self.network.biases[0]), 2 * block.shape[1], 4 * len(self.classes))

    def _rows_per_block(self, block):
        """Return how many samples to take at once, so that no buffer exceeds the scratch memory."""
        per_sample = len(block) * self._elements_per_pair(block)
        return max(1, SCRATCH_ELEMENTS // max(per_sample, len(self.classes) * self.decider.widest))

    def _padded_weights(self):
        """Return s W' with a row of zeros for features that are not there, (n_kept + 1, units)."""
        weight = self.network.weights[0].t() * self.network.input_scale
        return torch.cat([weight, torch.zeros_like(weight[:1])])

    def _predict_block(self, rows, block, weights):
        """Return the best class of each pair, (n_rows, n_windows)."""
        x = self._tensor(self.X[rows])
        fill = self._tensor(self.fill if len(self.fill) == 1 else self.fill[rows])
        change = torch.nn.functional.pad(fill - x, (0, 1))  # 0 where nothing is hidden
        hidden = change[:, block]  # (rows, windows, pixels)
        changed = (hidden != 0).any(2)
        inputs = self.network.rescale(x)
        base = Base(self.decider, inputs)
        best = base.best.unsqueeze(1).repeat(1, len(block))
        self.stats["pairs"] += changed.numel()
        self.stats["unchanged"] += int((~changed).sum())
        is_large = self._is_large(inputs)
        for k in torch.where(is_large)[0].tolist():
            best[k] = self._predict_anew(x[k], fill[k % len(fill)], block)
            n_evaluations = int(changed[k].sum()) * self.decider.n_passes
            self.stats["exact_class_evaluations"] += n_evaluations
        changed &= ~is_large.unsqueeze(1)
        if changed.any():
            sample, window = torch.nonzero(changed, as_tuple=True)
            # What occlusion adds to Z: for each pair the sum of its pixels' changes times weights.
            shift = torch.nn.functional.embedding_bag(
                block[window], weights, per_sample_weights=hidden[changed], mode="sum"
            )
            best[changed] = self.decider.decide(base, shift, sample, self.stats)
        return best.cpu().numpy()

    def _is_large(self, inputs):
        """Return which samples dwarf the training samples, (n,).

        If what is large is hidden, what it added to Z cannot be taken off without rounding errors
        as large as the rest.
        """
        norm = torch.linalg.vector_norm(inputs, dim=1)
        return norm > LARGEST_INPUT * inputs.shape[1] ** 0.5

    def _predict_anew(self, x, fill, block):
        """Return the best class of one sample under each window, (n_windows,)."""
        step = max(1, SCRATCH_ELEMENTS // len(x))
        parts = []
        for windows in block.split(step):
            is_hidden = x.new_zeros(len(windows), len(x) + 1, dtype=bool)
            is_hidden = is_hidden.scatter_(1, windows, True)[:, :-1]
            inputs = self.network.rescale(torch.where(is_hidden, fill, x))
            parts.append(self.decider.evaluate(self.network.project(inputs)))
        return torch.cat(parts)

    def _tensor(self, X):
        return as_tensor(np.ascontiguousarray(X, dtype=np.float32)).to(self.network.device)


def _check_fill(fill, shape):
    """Return the fill as float32 of shape (1, n_features) or (n_samples, n_features)."""
    with np.errstate(over="ignore"):
        numbers = np.asarray(fill, dtype=np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError("Got fill with NaN or infinity, but expected finite float32 numbers.")
    try:
        np.broadcast_to(numbers, shape)
    except ValueError:
        raise ValueError(
            f"Got fill of shape {numbers.shape}, but expected one that broadcasts to {shape}, the "
            "shape of X: one value per hidden feature."
        ) from None
    numbers = np.atleast_2d(numbers)
    return np.broadcast_to(numbers, (len(numbers), shape[1]))
