"""Exact predictions under occlusion, at a fraction of the cost of predicting anew.

Hiding the pixels P of a sample changes the first layer's pre-activations by a thin product with
the weights of P alone, so the first layer costs ``len(P)`` instead of `n_features`. Where one trunk
serves all labels, bounds then decide most pairs of sample and window; the rest is evaluated from
the changed pre-activations. No label is needed, and nothing is approximated. With few features,
occluded copies of the samples are predicted instead.
"""

from collections import Counter

import numpy as np
import torch

from skff._memory import in_chunks
from skff.forward_forward._torch import as_tensor, computing, map_on_threads
from skff.forward_forward.occlusion._bounds import (
    CACHE_ELEMENTS,
    BasePoint,
    TrunkBounds,
    sum_rounding,
)

SCRATCH_ELEMENTS = 2**21  # 8 MB of float32 for each of the larger buffers
# With fewer features predicting occluded copies is faster: with 8 x 8 pixels 2 to 4 times. With 200
# to 256 both take about as long (measured from 8 x 8 to 28 x 28 pixels, one to three layers).
FEWEST_FEATURES = 200
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
    X : Features of shape (n_samples, n_features)
        Samples, read a few at a time.
    fill : array-like broadcastable to `X`
        Values of hidden features, finite.
    classes : ndarray of shape (n_classes,)
        Labels.

    Attributes
    ----------
    copies : bool
        Whether to predict occluded copies of all samples that a window changes. This is faster if
        there are few features.
    tie : float
        What rounding may change in a score relative to it: that of a sum as long as the longest
        one in the network, see `sum_rounding`. Pairs of sample and window whose two best scores
        are as close as that are near ties: they are predicted anew, from an occluded copy, since
        their labels depend on how the scores are rounded. Bounds decide nothing as close as that.

    Raises
    ------
    ValueError
        If `fill` is not finite numbers that broadcast to `X`.
    """

    def __init__(self, network, X, fill, *, classes):
        self.network, keep = network, network.keep
        self.X = X
        self.fill = keep(_check_fill(fill, X.shape))
        self.classes = classes
        # Where each feature lies among the kept ones; one past the end if the overlay dropped it.
        kept = keep(np.arange(X.shape[1])[np.newaxis])[0]
        self.n_kept = len(kept)
        self.position = np.full(X.shape[1], self.n_kept)
        self.position[kept] = np.arange(len(kept))
        self.widest = max(layer.n_units for layer in network.layers)
        longest = max(layer.weight.shape[1] for layer in network.layers)
        self.tie = sum_rounding(longest)
        self.copies = self.n_kept < FEWEST_FEATURES
        self.bounds = None
        if TrunkBounds.applies(network) and not self.copies:
            with computing(network.device):
                self.bounds = TrunkBounds(network)

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
        counts : dict of str -> int
            How many `pairs` of sample and window there were; how many of them were `unchanged`
            since the fill was there already, and `decided_by_bounds`; for the rest
            `exact_class_evaluations`, pairs times classes; and how many were `near_ties`.
        """
        rows = np.asarray(rows)
        best = np.empty((len(windows), len(rows)), dtype=np.int64)
        weights = self._padded_weights()

        def predict(some_windows, block, places):
            def predict_some(part):
                work = _Block(self, rows[places[part]], block, weights)
                best[some_windows, places[part]] = work.predict().T
                return work.counts

            with computing(self.network.device), torch.inference_mode():  # holds for one thread
                return sum_counts(in_chunks(predict_some, len(places), len(places)))

        pieces = list(self._pieces(windows, len(rows)))
        parts = map_on_threads(predict, pieces, self.network.device)
        return self.classes[best], dict.fromkeys(STAGES, 0) | sum_counts(parts)

    def _pieces(self, windows, n_rows):
        """Yield windows as a slice, the positions of their pixels and the places of rows."""
        for first, block in self._window_blocks(windows):
            step = self._rows_per_block(block)
            for start in range(0, n_rows, step):
                places = np.arange(start, min(start + step, n_rows))
                yield slice(first, first + len(block)), block, places

    def _window_blocks(self, windows):
        """Yield (index of the first window, positions (n_windows, n_pixels)), padded to a table."""
        size = max((len(window) for window in windows), default=0)
        table = np.full((len(windows), max(size, 1)), self.n_kept)
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
        per_sample = max(2 * block.numel(), self.network.n_classes * self.widest, self.n_kept)
        return min(MOST_ROWS, max(1, SCRATCH_ELEMENTS // per_sample))

    def _padded_weights(self):
        """Return s W' with a row of zeros for features that are not there, (n_kept + 1, units)."""
        weight = self.network.layers[0].weight.t() * self.network.input_scale
        return torch.cat([weight, torch.zeros_like(weight[:1])])

    def tensor(self, X):
        """Return samples as a float32 tensor where the network is."""
        return as_tensor(np.ascontiguousarray(X, dtype=np.float32)).to(self.network.device)


def sum_counts(parts):
    """Add up dicts of counts."""
    totals = Counter()
    for counts in parts:
        totals.update(counts)
    return dict(totals)


class _Block:
    """Some samples under some windows: pairs, their labels and counts.

    Parameters
    ----------
    predictor : OcclusionPredictor
        Read only: other threads use it, too.
    rows : ndarray of shape (n_rows,)
        Indices of the samples.
    block : LongTensor of shape (n_windows, n_pixels)
        Positions of the windows' pixels among the kept features.
    weights : Tensor of shape (n_kept + 1, n_units)
        What a unit of change of a feature adds to the first layer's pre-activations.
    """

    def __init__(self, predictor, rows, block, weights):
        self.predictor, self.network, self.block = predictor, predictor.network, block
        self.weights = weights
        self.x = predictor.tensor(self.network.keep(predictor.X.read(rows)))
        fill = predictor.fill
        self.fill = predictor.tensor(fill if len(fill) == 1 else fill[rows])
        self.counts = dict.fromkeys(STAGES, 0)

    def predict(self):
        """Return the best class of each pair, (n_rows, n_windows)."""
        change = torch.nn.functional.pad(self.fill - self.x, (0, 1))  # 0 where nothing is hidden
        hidden = change[:, self.block]  # (rows, windows, pixels)
        changed = (hidden != 0).any(2)
        self.counts["pairs"] += changed.numel()
        self.counts["unchanged"] += int((~changed).sum())
        inputs, _ = self.network.inputs(self.x)
        Z = self.network.layers[0].pre_activations(inputs)
        scores = self.network.scores_from(Z)
        self.best = scores.argmax(1).unsqueeze(1).repeat(1, len(self.block))
        self.counts["near_ties"] += int((~changed[self._are_near_ties(scores)]).sum())
        if self.predictor.copies:
            self.counts["near_ties"] += self._predict_copies(changed)
        else:
            is_large = self._is_large(inputs, hidden) & changed
            near = changed & ~is_large
            is_tie = self._predict_near(Z, near, hidden) if near.any() else torch.zeros_like(near)
            self._predict_copies(is_large | is_tie)
        return self.best.cpu().numpy()

    def _predict_near(self, Z, near, hidden):
        """Write the best class of the pairs `near` from the thin product; return near ties."""
        bounds = self.predictor.bounds
        base = None if bounds is None else BasePoint(bounds, Z)
        open_pairs, is_tie = _OpenPairs(), torch.zeros_like(near)
        for k in range(len(Z)):
            # Of one sample at once as many pairs as the processor's cache holds.
            n_at_once = max(1, CACHE_ELEMENTS // self.predictor.widest)
            for windows in filter(len, near[k].nonzero().squeeze(1).split(n_at_once)):
                # What occlusion adds to Z: the sum of each pair's pixels' changes times weights.
                D = torch.nn.functional.embedding_bag(
                    self.block.index_select(0, windows),
                    self.weights,
                    per_sample_weights=hidden[k].index_select(0, windows),
                    mode="sum",
                )
                if base is not None:
                    self.best[k, windows], is_open = base.decide(k, D)
                    self.counts["decided_by_bounds"] += len(windows) - len(is_open)
                    windows, D = windows[is_open], D.index_select(0, is_open)
                open_pairs.append(k * len(self.block) + windows, D.add_(Z[k]))
                if open_pairs.n >= FEWEST_OPEN:
                    self._evaluate(open_pairs, is_tie)
        self._evaluate(open_pairs, is_tie)
        return is_tie

    def _evaluate(self, open_pairs, is_tie):
        """Write the best class of open pairs, mark near ties, and forget the pairs."""
        if not open_pairs.n:
            return
        where, Z = open_pairs.pop()
        for pairs, z in zip(
            *(thing.split(self.network.rows_per_chunk()) for thing in (where, Z)), strict=True
        ):
            tied = self._decide(pairs, self.network.scores_from(z))
            self.counts["near_ties"] += int(tied.sum())
            is_tie.view(-1)[pairs] = tied

    def _are_near_ties(self, scores):
        """Return where the two best scores agree to rounding, (n,)."""
        if scores.shape[1] == 1:
            return torch.zeros_like(scores[:, 0], dtype=bool)
        top = scores.topk(2, dim=1).values
        # Not a comparison with <= alone: what overflows is no clear win.
        return ~(top[:, 0] - top[:, 1] > self.predictor.tie * scores.abs().amax(1))

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

    def _predict_copies(self, chosen):
        """Write the best class of chosen pairs, (n_rows, n_windows), from occluded copies.

        Returns the number of near ties among them.
        """
        n_features, n_ties = self.x.shape[1], 0
        n_scores = self.network.n_classes * self.predictor.widest
        step = max(1, SCRATCH_ELEMENTS // max(n_features, n_scores))
        for pairs in filter(len, chosen.flatten().nonzero().squeeze(1).split(step)):
            k, windows = pairs // len(self.block), pairs % len(self.block)
            is_hidden = self.x.new_zeros(len(pairs), n_features + 1, dtype=bool)
            is_hidden = is_hidden.scatter_(1, self.block[windows], True)[:, :-1]
            fill = self.fill if len(self.fill) == 1 else self.fill[k]
            copies = torch.where(is_hidden, fill, self.x[k])
            inputs, _ = self.network.inputs(copies)
            n_ties += int(self._decide(pairs, self.network.scores(inputs)).sum())
        return n_ties

    def _decide(self, pairs, scores):
        """Write the best class of pairs from their scores; return which are near ties."""
        self.counts["exact_class_evaluations"] += scores.numel()
        self.best.view(-1)[pairs] = scores.argmax(1)
        return self._are_near_ties(scores)


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
