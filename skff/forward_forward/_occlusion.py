"""Exact predictions under occlusion, at a fraction of the cost of predicting anew.

Hiding the pixels P of a sample changes the first layer's pre-activations by a thin product with
the weights of P alone, so the first layer costs ``len(P)`` instead of `n_features`. All layers but
the last are then computed for every class, and the last one's goodness is bounded from both sides
by a few dot products. Where one class stays above all others, it is the prediction; elsewhere the
classes that can still win get closer bounds from a product in bfloat16, where the processor is fast
at it, and those left are evaluated exactly. No label is needed, and nothing is approximated.
"""

import copy

import numpy as np
import torch

from skff.forward_forward._goodness_bounds import (
    N_COLUMNS,
    BasePoint,
    GoodnessBounds,
    goodness_of_norm,
    sum_rounding,
)
from skff.forward_forward._network import rms_normalize
from skff.forward_forward._rounded_goodness import ROWS_AT_ONCE, RoundedGoodness
from skff.forward_forward._tensors import as_tensor
from skff.forward_forward._threads import map_on_threads

SCRATCH_ELEMENTS = 2**23  # 32 MB of float32 for each of the larger buffers
CACHE_ELEMENTS = 2**19  # 2 MB: what several operations in a row read and write
FEWEST_ROUNDED = 128  # versions; fewer are evaluated exactly at once
LARGEST_INPUT = 64  # root mean square; the training samples' is 1
COUNTS = (
    "pairs",
    "unchanged",
    "decided_by_bounds",
    "decided_in_bfloat16",
    "exact_class_evaluations",
)


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
        self.goodness = goodness
        self.skip_first = skip_first
        self.classes = classes
        # Where each feature lies among the kept ones; one past the end if the overlay dropped it.
        kept = keep(np.arange(X.shape[1])[np.newaxis])[0]
        self.position = np.full(X.shape[1], len(kept))
        self.position[kept] = np.arange(len(kept))
        self.widest = max(map(len, network.biases))
        self.rounding = sum_rounding(self.widest)
        self.bounds = GoodnessBounds.of(network, goodness)
        self.rounded = RoundedGoodness.of(self.bounds)
        self.stats = dict.fromkeys(COUNTS, 0)

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
        # A feature's index is as large as two float32.
        return max(len(self.network.biases[0]), 2 * block.shape[1], len(self.classes))

    def _rows_per_block(self, block):
        """Return how many samples to take at once, so that no buffer exceeds the scratch memory."""
        per_sample = len(block) * self._elements_per_pair(block)
        return max(1, SCRATCH_ELEMENTS // max(per_sample, len(self.classes) * self.widest))

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
        base = _Base(self, inputs)
        best = base.best.unsqueeze(1).repeat(1, len(block))
        self.stats["pairs"] += changed.numel()
        self.stats["unchanged"] += int((~changed).sum())
        is_large = self._is_large(inputs)
        for k in torch.where(is_large)[0].tolist():
            best[k] = self._predict_anew(x[k], fill[k % len(fill)], block)
            self._count_exact(int(changed[k].sum()))
        changed &= ~is_large.unsqueeze(1)
        if changed.any():
            sample, window = torch.nonzero(changed, as_tuple=True)
            # What occlusion adds to Z: for each pair the sum of its pixels' changes times weights.
            shift = torch.nn.functional.embedding_bag(
                block[window], weights, per_sample_weights=hidden[changed], mode="sum"
            )
            best[changed] = self._decide(base, shift, sample, changed.sum(1).tolist())
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
            occluded = torch.where(is_hidden, fill, x)
            parts.append(self._evaluate(self.network.project(self.network.rescale(occluded))))
        return torch.cat(parts)

    def _decide(self, base, shift, sample, n_versions):
        """Return the best class of each changed pair, in the order of their samples, (n_pairs,)."""
        if self.bounds is None:
            self._count_exact(len(sample))
            return self._evaluate(shift.add_(base.Z[sample]))
        lower, upper = self._bounds_of_pairs(base, shift, n_versions)
        best, in_doubt = _leaders(lower, upper)
        n_open = int(in_doubt.any(0).sum())
        self.stats["decided_by_bounds"] += len(best) - n_open
        if self.rounded is not None and int(in_doubt.sum()) >= FEWEST_ROUNDED:
            self._tighten(lower, upper, self._versions(base, shift, sample, in_doubt))
            best, in_doubt = _leaders(lower, upper)
            self.stats["decided_in_bfloat16"] += n_open - int(in_doubt.any(0).sum())
        self.stats["exact_class_evaluations"] += int(in_doubt.sum())
        total = torch.full_like(lower, -torch.inf)
        for where, h, norm, below in self._versions(base, shift, sample, in_doubt):
            last = self.network.activities(-1, rms_normalize(h, norm))
            total[where] = below + self.goodness(last)
        return torch.where(in_doubt.any(0), total.argmax(0), best)

    def _bounds_of_pairs(self, base, shift, n_versions):
        """Bound the goodness of all changed pairs under all classes, (n_classes, n_pairs)."""
        step = max(1, SCRATCH_ELEMENTS // (self.widest + len(self.classes) * N_COLUMNS))
        parts = [
            self._bounds(base, k, part)
            for k, versions in enumerate(shift.split(n_versions))
            for part in versions.split(step)
            if len(part)
        ]
        return tuple(torch.cat(bounds, 1) for bounds in zip(*parts, strict=True))

    def _bounds(self, base, k, shift):
        """Bound the goodness of versions of a sample with shifted first pre-activations.

        Return bounds on the sum of all layers' goodness, (n_classes, n_versions).
        """
        columns = base.last.columns(k)
        products = shift.new_empty(len(columns), len(shift), columns.shape[2])
        step = max(1, CACHE_ELEMENTS // shift.numel())  # classes: from sum to product in cache
        norms = []
        for first in range(0, len(columns), step):
            block = slice(first, first + step)
            h = (base.A[k, block].unsqueeze(1) + shift).relu_()
            shape = h.shape[:2]
            h, norm = self._up_to_last(h.flatten(0, 1))
            torch.bmm(h.view(*shape, -1), columns[block], out=products[block])
            norms.append(norm.view(-1, *shape))
        norms = torch.cat(norms, 1)  # (n_layers - 1, n_classes, n_versions)
        lower, upper = self.bounds.around(base.last, k, products, norms[-1])
        return self._with_below(lower, upper, self._goodness_below(norms))

    def _with_below(self, lower, upper, below):
        """Add the goodness of the layers below to bounds on the last layer's, in place."""
        allowance = self.rounding * below.abs()
        return lower.add_(below).sub_(allowance), upper.add_(below).add_(allowance)

    def _tighten(self, lower, upper, versions):
        """Bound the goodness of some pairs under some classes more closely, in place."""
        for where, h, norm, below in versions:
            least, most = self._with_below(*self.rounded.around(h, norm), below)
            lower[where] = torch.maximum(lower[where], least)
            upper[where] = torch.minimum(upper[where], most)

    def _versions(self, base, shift, sample, chosen):
        """Yield what the last layer reads in the pairs and under the classes `chosen`.

        Each time a few of them: where in `chosen` they are, their activities, which are not
        normalised, the norms of these, and the goodness summed over the layers below the last.
        """
        step = max(1, CACHE_ELEMENTS // self.widest)
        step -= step % ROWS_AT_ONCE if step > ROWS_AT_ONCE else 0
        n_classes = base.A.shape[1]
        A = base.A.flatten(0, 1)
        pair, label = torch.nonzero(chosen.t(), as_tuple=True)
        for pairs, labels in zip(pair.split(step), label.split(step), strict=True):
            Z = A.index_select(0, sample[pairs] * n_classes + labels)
            h, norms = self._up_to_last(Z.add_(shift.index_select(0, pairs)).relu_())
            yield (labels, pairs), h, norms[-1], self._goodness_below(norms)

    def _up_to_last(self, h):
        """Go from first activities (n, n_units) to those below the last layer.

        Return these and the norms of all activities passed, (n_layers - 1, n).
        """
        norms = [torch.linalg.vector_norm(h, dim=1)]
        for layer in range(1, self.network.n_layers - 1):
            h = self.network.activities(layer, rms_normalize(h, norms[-1]))
            norms.append(torch.linalg.vector_norm(h, dim=1))
        return h, torch.stack(norms)

    def _goodness_below(self, norms):
        """Sum the goodness of the layers below the last from their activities' norms."""
        g = torch.zeros_like(norms[0])
        for layer in range(int(self.skip_first), len(norms)):
            g += goodness_of_norm(self.goodness, norms[layer], len(self.network.biases[layer]))
        return g

    def _evaluate(self, Z):
        """Return the best class for given first pre-activations, without bounds, (n,)."""
        network = self.network
        parts = []
        for chunk in Z.split(network.rows_per_chunk()):
            if network.readout:
                scores = network.logits(network.neutral_activities(chunk))
            else:
                goodness = network.class_goodness(chunk, self.goodness)
                skipped = int(self.skip_first and len(goodness) > 1)
                scores = goodness[skipped:].sum(0)
            parts.append(scores.argmax(1))
        return torch.cat(parts)

    def _count_exact(self, n_pairs):
        n_passes = 1 if self.network.readout else len(self.classes)
        self.stats["exact_class_evaluations"] += n_pairs * n_passes

    def _tensor(self, X):
        return as_tensor(np.ascontiguousarray(X, dtype=np.float32)).to(self.network.device)


def _leaders(lower, upper):
    """Return the class that leads each pair, and which may win where several may.

    Parameters
    ----------
    lower, upper : Tensor of shape (n_classes, n_pairs)
        Bounds on the goodness.

    Returns
    -------
    best : Tensor of shape (n_pairs,)
        Class of the highest lower bound.
    in_doubt : Tensor of shape (n_classes, n_pairs), bool
        False for all classes of a pair that is decided.
    """
    highest, best = lower.max(0)
    can_win = ~(upper < highest)  # NaN, of infinities, decides nothing
    return best, can_win & (can_win.sum(0) > 1)


class _Base:
    """The samples as they are: what their occluded versions are compared with."""

    def __init__(self, predictor, inputs):
        network, bounds = predictor.network, predictor.bounds
        self.Z = network.project(inputs)
        if bounds is None:
            self.best = predictor._evaluate(self.Z)
            return
        self.A = self.Z.unsqueeze(1) + network.label_shifts()  # (rows, classes, units)
        shape = self.A.shape[:2]
        h, norms = predictor._up_to_last(self.A.flatten(0, 1).relu())
        self.last = BasePoint(bounds, h.view(*shape, -1), norms[-1])
        self.best = (predictor._goodness_below(norms).view(shape) + self.last.g).argmax(1)


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
