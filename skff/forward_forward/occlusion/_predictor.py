"""Exact predictions under occlusion, at a fraction of the cost of predicting anew.

Hiding the pixels P of a sample changes the first layer's pre-activations by a thin product with
the weights of P alone, so the first layer costs ``len(P)`` instead of `n_features`. Where one trunk
serves all labels, bounds then decide most pairs of sample and window; the rest is evaluated from
the changed pre-activations. No label is needed, and nothing is approximated.
"""

import copy

import numpy as np
import torch

from skff.forward_forward._torch import as_tensor, computing, map_on_threads
from skff.forward_forward.occlusion._bounds import (
    CACHE_ELEMENTS,
    BasePoint,
    TrunkBounds,
    sum_rounding,
)

SCRATCH_ELEMENTS = 2**21  # 8 MB of float32 for each of the larger buffers
MOST_ROWS = 64  # samples at once: enough for products, few enough to share them among threads
FEWEST_OPEN = 256  # pairs evaluated at once
STAGES = ("pairs", "unchanged", "decided_by_bounds", "exact_class_evaluations", "near_ties")

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
    classes : ndarray of shape (n_classes,)
        Labels.

    Attributes
    ----------
    stats : dict of str -> int
        Counts over all calls: `pairs` of sample and window; those `unchanged` since the fill was
        there already; those `decided_by_bounds`; `exact_class_evaluations` for the rest, pairs
        times classes; and, among these, `near_ties`: pairs whose two best scores differ by no more
        than `tie` times the largest score. Only there a label may differ from that of ``predict``
        on an occluded copy. Bounds decide nothing as close as that.
    tie : float
        What rounding may change in a score relative to it: that of a sum as long as the longest
        one in the network, see `sum_rounding`.

    Raises
    ------
    ValueError
        If `fill` is not finite numbers that broadcast to `X`.
    """

    def __init__(self, network, X, fill, *, classes):
        self.network, keep = network, network.keep
        self.X = keep(X)
        self.fill = keep(_check_fill(fill, X.shape))
        self.classes = classes
        # Where each feature lies among the kept ones; one past the end if the overlay dropped it.
        kept = keep(np.arange(X.shape[1])[np.newaxis])[0]
        self.position = np.full(X.shape[1], len(kept))
        self.position[kept] = np.arange(len(kept))
        self.widest = max(layer.n_units for layer in network.layers)
        longest = max(layer.weight.shape[1] for layer in network.layers)
        self.tie = sum_rounding(longest)
        self.bounds = None
        if TrunkBounds.applies(network):
            with computing(network.device):
                self.bounds = TrunkBounds(network)
        self.stats = dict.fromkeys(STAGES, 0)

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
            with computing(self.network.device), torch.inference_mode():  # holds for one thread
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
        step = max(
            1, SCRATCH_ELEMENTS // (2 * table.shape[1])
        )  # an index is as large as two float32
        for first in range(0, len(windows), step):
            yield first, torch.from_numpy(table[first : first + step]).to(self.network.device)

    def _rows_per_block(self, block):
        """Return how many samples to take at once, so that no buffer exceeds the scratch memory."""
        per_sample = max(2 * block.numel(), self.network.n_classes * self.widest, self.X.shape[1])
        return min(MOST_ROWS, max(1, SCRATCH_ELEMENTS // per_sample))

    def _padded_weights(self):
        """Return s W' with a row of zeros for features that are not there, (n_kept + 1, units)."""
        weight = self.network.layers[0].weight.t() * self.network.input_scale
        return torch.cat([weight, torch.zeros_like(weight[:1])])

    def _predict_block(self, rows, block, weights):
        """Return the best class of each pair, (n_rows, n_windows)."""
        x = self._tensor(self.X[rows])
        fill = self._tensor(self.fill if len(self.fill) == 1 else self.fill[rows])
        change = torch.nn.functional.pad(fill - x, (0, 1))  # 0 where nothing is hidden
        hidden = change[:, block]  # (rows, windows, pixels)
        changed = (hidden != 0).any(2)
        self.stats["pairs"] += changed.numel()
        self.stats["unchanged"] += int((~changed).sum())
        inputs = self.network.rescale(x)
        Z = self.network.layers[0].pre_activations(inputs)
        best = self.network.scores_from(Z).argmax(1).unsqueeze(1).repeat(1, len(block))
        is_large = self._is_large(inputs, hidden) & changed
        for k in torch.where(is_large.any(1))[0].tolist():
            self._predict_anew(x[k], fill[k % len(fill)], block, is_large[k], best[k])
        near = changed & ~is_large
        if near.any():
            self._predict_near(Z, near, hidden, block, weights, best)
        return best.cpu().numpy()

    def _predict_near(self, Z, near, hidden, block, weights, best):
        """Write the best class of the pairs `near`, (n_rows, n_windows), from the thin product."""
        base = None if self.bounds is None else BasePoint(self.bounds, Z)
        open_pairs = _OpenPairs()
        for k in range(len(Z)):
            # Of one sample at once as many pairs as the processor's cache holds.
            pairs = near[k].nonzero().squeeze(1).split(max(1, CACHE_ELEMENTS // self.widest))
            for windows in filter(len, pairs):
                # What occlusion adds to Z: the sum of each pair's pixels' changes times weights.
                D = torch.nn.functional.embedding_bag(
                    block.index_select(0, windows),
                    weights,
                    per_sample_weights=hidden[k].index_select(0, windows),
                    mode="sum",
                )
                if base is not None:
                    best[k, windows], is_open = base.decide(k, D)
                    self.stats["decided_by_bounds"] += len(windows) - len(is_open)
                    windows, D = windows[is_open], D.index_select(0, is_open)
                open_pairs.append(k * len(block) + windows, D.add_(Z[k]))
                if open_pairs.n >= FEWEST_OPEN:
                    self._evaluate(open_pairs, best)
        self._evaluate(open_pairs, best)

    def _evaluate(self, open_pairs, best):
        """Write the best class of open pairs and forget these."""
        if open_pairs.n:
            where, Z = open_pairs.pop()
            parts = Z.split(self.network.rows_per_chunk())
            best.view(-1)[where] = torch.cat(
                [self._best(self.network.scores_from(z)) for z in parts]
            )

    def _best(self, scores):
        """Return the best class, (n,), and count evaluations and near ties."""
        self.stats["exact_class_evaluations"] += scores.numel()
        best = scores.argmax(1)
        if scores.shape[1] > 1:
            top = scores.topk(2, dim=1).values
            apart = top[:, 0] - top[:, 1] > self.tie * scores.abs().amax(1)
            self.stats["near_ties"] += int((~apart).sum())
        return best

    def _is_large(self, inputs, hidden):
        """Return which samples or changes dwarf the training samples, (n_rows, n_windows).

        If what is large is hidden, what it added to Z cannot be taken off without rounding errors
        as large as the rest.
        """
        limit = LARGEST_INPUT * inputs.shape[1] ** 0.5
        changes = torch.linalg.vector_norm(hidden, dim=2).mul_(self.network.input_scale)
        # Not a comparison with > alone: what overflows is large as well.
        return ~(
            (torch.linalg.vector_norm(inputs, dim=1).unsqueeze(1) <= limit) & (changes <= limit)
        )

    def _predict_anew(self, x, fill, block, chosen, best):
        """Write the best class of one sample under the chosen windows."""
        step = max(1, SCRATCH_ELEMENTS // max(len(x), self.network.n_classes * self.widest))
        for windows in chosen.nonzero().squeeze(1).split(step):
            is_hidden = x.new_zeros(len(windows), len(x) + 1, dtype=bool)
            is_hidden = is_hidden.scatter_(1, block[windows], True)[:, :-1]
            inputs = self.network.rescale(torch.where(is_hidden, fill, x))
            best[windows] = self._best(self.network.scores(inputs))

    def _tensor(self, X):
        return as_tensor(np.ascontiguousarray(X, dtype=np.float32)).to(self.network.device)


class _OpenPairs:
    """Pairs that no bound decides, gathered until they are worth a matrix product."""

    def __init__(self):
        self.n, self.where, self.Z = 0, [], []

    def append(self, where, Z):
        self.n += len(where)
        self.where.append(where)
        self.Z.append(Z)

    def pop(self):
        found = torch.cat(self.where), torch.cat(self.Z)
        self.__init__()
        return found


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
