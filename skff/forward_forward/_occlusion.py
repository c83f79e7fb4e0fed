"""Exact predictions under occlusion, at a fraction of the cost of predicting anew.

Hiding the pixels P of a sample changes the first layer's pre-activations by a thin product with
the weights of P alone, so the first layer costs ``len(P)`` instead of `n_features`. All layers but
the last are then computed for every class. The last one, ``g = k |relu(W n + b)|^2`` of the
normalised activities n below it, is convex in n with a curvature of at most ``2 k W'W``: from the
base point n, with gradient v and a step d to the occluded point,

    ``g + v.d  <=  g(n + d)  <=  g + v.d + k |W d|^2``.

With the top r singular values S and right singular vectors V of W,
``|W d|^2 <= sum_i (S_i^2 - S_r^2) (V_i.d)^2 + S_r^2 |d|^2``. So r + 2 dot products bound each
class's goodness from both sides. Where one class stays above all others, it is the prediction;
elsewhere the classes that can still win are evaluated exactly. No label is needed, and nothing
is approximated.
"""

import math

import numpy as np
import torch

from skff.forward_forward._network import rms_normalize
from skff.forward_forward._tensors import as_tensor

SCRATCH_ELEMENTS = 2**23  # 32 MB of float32 for each of the larger buffers
RANK = 16
EPSILON = torch.finfo(torch.float32).eps


class OcclusionPredictor:
    """Predictions of a Forward-Forward network for samples with some features hidden.

    Parameters
    ----------
    network : Network
        Fitted.
    X : ndarray of shape (n_samples, n_features), float32
        Samples.
    fill : ndarray of shape (1, n_features) or (n_samples, n_features), float32
        Values of hidden features.
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
        there already, those `decided_by_bounds`, and `exact_class_evaluations` for the rest.
    """

    def __init__(self, network, X, fill, *, keep, goodness, skip_first, classes):
        self.network = network
        self.X = keep(X)
        self.fill = keep(np.broadcast_to(fill, (len(fill), X.shape[1])))
        self.goodness = goodness
        self.skip_first = skip_first
        self.classes = classes
        # Where each feature lies among the kept ones; one past the end if the overlay dropped it.
        kept = keep(np.arange(X.shape[1])[np.newaxis])[0]
        self.position = np.full(X.shape[1], len(kept))
        self.position[kept] = np.arange(len(kept))
        self.bounds = _LastLayer.of(network, goodness)
        self.stats = dict.fromkeys(
            ["pairs", "unchanged", "decided_by_bounds", "exact_class_evaluations"], 0
        )

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
        with torch.inference_mode():
            for first, block in self._window_blocks(windows):
                weights = self._padded_weights()[block]  # (windows, pixels, units)
                step = max(1, SCRATCH_ELEMENTS // (len(block) * weights.shape[2]))
                for start in range(0, len(rows), step):
                    part = rows[start : start + step]
                    labels = self._predict_block(part, block, weights)
                    best[first : first + len(block), start : start + step] = labels
        return self.classes[best]

    def _window_blocks(self, windows):
        """Yield (index of the first window, positions (n_windows, n_pixels)), padded to a table."""
        size = max((len(window) for window in windows), default=0)
        n_kept = self.X.shape[1]
        table = np.full((len(windows), max(size, 1)), n_kept)
        for row, window in zip(table, windows, strict=True):
            row[: len(window)] = self.position[window]
        units = len(self.network.biases[0])
        step = max(1, SCRATCH_ELEMENTS // (table.shape[1] * units))
        for first in range(0, len(windows), step):
            yield first, torch.from_numpy(table[first : first + step]).to(self.network.device)

    def _padded_weights(self):
        """Return s W' with a row of zeros for features that are not there, (n_kept + 1, units)."""
        weight = self.network.weights[0].t() * self.network.input_scale
        return torch.cat([weight, torch.zeros_like(weight[:1])])

    def _predict_block(self, rows, block, weights):
        x = self._tensor(self.X[rows])
        fill = self._tensor(self.fill if len(self.fill) == 1 else self.fill[rows])
        change = torch.nn.functional.pad(fill - x, (0, 1))  # 0 where nothing is hidden
        hidden = change[:, block].transpose(0, 1)  # (windows, rows, pixels)
        changed = (hidden != 0).any(2)
        shift = torch.bmm(hidden, weights)  # what occlusion adds to Z, (windows, rows, units)
        base = _Base(self, x)
        best = base.best.expand(len(block), -1).clone()
        self.stats["pairs"] += changed.numel()
        self.stats["unchanged"] += int((~changed).sum())
        if changed.any():
            sample, window = torch.nonzero(changed.t(), as_tuple=True)  # sample by sample
            best[window, sample] = self._decide(base, shift[window, sample], sample)
        return best.cpu().numpy()

    def _decide(self, base, shift, sample):
        """Return the best class of each changed pair, (n_pairs,)."""
        if self.bounds is None:
            return self._evaluate_plainly(base.Z[sample] + shift)
        partial, lower, upper = self._bounds(base, shift, sample)
        alive = upper >= lower.amax(1, keepdim=True)
        best = alive.int().argmax(1)
        (open_pairs,) = torch.where(alive.sum(1) > 1)
        self.stats["decided_by_bounds"] += len(alive) - len(open_pairs)
        if len(open_pairs):
            alive = alive[open_pairs]
            pair, label = torch.nonzero(alive, as_tuple=True)
            pair = open_pairs[pair]
            self.stats["exact_class_evaluations"] += len(pair)
            total = torch.full_like(alive, -torch.inf, dtype=partial.dtype)
            exact = self._last_goodness(base.A[sample[pair], label] + shift[pair])
            total[alive] = partial[pair, label] + exact
            best[open_pairs] = total.argmax(1)
        return best

    def _bounds(self, base, shift, sample):
        """Return the goodness below the last layer and bounds on the sum, (n_pairs, n_classes)."""
        n_classes = len(self.classes)
        partial, lower, upper = shift.new_empty(3, len(shift), n_classes)
        counts = torch.bincount(sample, minlength=len(base.A)).tolist()
        step = max(1, SCRATCH_ELEMENTS // (8 * n_classes * shift.shape[1]))
        stop = 0
        for k, count in enumerate(counts):
            end, stop = stop + count, stop
            for start in range(stop, end, step):
                part = slice(start, min(start + step, end))
                h = (base.A[k].unsqueeze(1) + shift[part]).relu_()  # (classes, pairs, units)
                below, h = self._up_to_last(h)
                low, high = self.bounds.around(base, k, h)
                partial[part] = below.t()
                lower[part] = (below + low).t()
                upper[part] = (below + high).t()
            stop = end
        return partial, lower, upper

    def _up_to_last(self, h):
        """Go from the first activities to those below the last layer; sum the goodness passed."""
        network, shape = self.network, h.shape[:-1]
        below = h.new_zeros(shape)
        for layer in range(network.n_layers - 1):
            if layer > 0:
                h = network.activities(layer, rms_normalize(h.flatten(0, -2)))
            if layer > 0 or not self.skip_first:
                below += self.goodness(h).view(shape)
        return below, h.view(*shape, -1)

    def _last_goodness(self, first):
        """Evaluate the last layer exactly from the first one's pre-activations, (n,)."""
        network = self.network
        step = max(1, SCRATCH_ELEMENTS // max(map(len, network.biases)))
        parts = []
        for chunk in first.split(step):
            _, h = self._up_to_last(chunk.relu())
            parts.append(self.goodness(network.activities(-1, rms_normalize(h))))
        return torch.cat(parts)

    def _evaluate_plainly(self, Z):
        """Predict from changed pre-activations without bounds, (n,)."""
        network = self.network
        parts = []
        for chunk in Z.split(network.rows_per_chunk()):
            if network.readout:
                scores = network.logits(network.neutral_activities(chunk))
                self.stats["exact_class_evaluations"] += len(chunk)
            else:
                goodness = network.class_goodness(chunk, self.goodness)
                scores = goodness[int(self.skip_first) :].sum(0)
                self.stats["exact_class_evaluations"] += scores.numel()
            parts.append(scores.argmax(1))
        return torch.cat(parts)

    def _tensor(self, X):
        return as_tensor(np.ascontiguousarray(X, dtype=np.float32)).to(self.network.device)


class _Base:
    """The samples as they are: what their occluded versions are compared with."""

    def __init__(self, predictor, x):
        network, bounds = predictor.network, predictor.bounds
        self.Z = network.project(x * network.input_scale)
        if bounds is None:
            stats = predictor.stats.copy()
            self.best = predictor._evaluate_plainly(self.Z)
            predictor.stats.update(stats)  # the base is no pair
            return
        self.A = self.Z.unsqueeze(1) + network.label_shifts()  # (rows, classes, units)
        below, h = predictor._up_to_last(self.A.relu())
        shape = h.shape
        self.n = rms_normalize(h.flatten(0, 1)).view(shape)
        r = network.activities(-1, self.n.flatten(0, 1))
        self.g = predictor.goodness(r).view(shape[:2])
        self.v = (r @ bounds.weight).mul_(2 * bounds.factor).view(shape)
        self.vn = (self.v * self.n).sum(-1)
        self.nn = self.n.square().sum(-1)
        self.Vn = self.n @ bounds.V  # (rows, classes, rank)
        size = self.v.norm(dim=-1) * bounds.root + self.g.abs() + below.abs()
        self.allowance = bounds.rounding * size
        self.best = (below + self.g).argmax(1)


class _LastLayer:
    """Bounds on the last layer's goodness around a base point.

    Parameters
    ----------
    weight : Tensor of shape (n_units, n_inputs)
        Of the last layer.
    factor : float
        The goodness is this times the squared norm of the activities.
    """

    def __init__(self, weight, factor):
        self.weight = weight
        self.factor = factor
        self.root = math.sqrt(weight.shape[1])  # the norm of a normalised input
        singular, Vh = torch.linalg.svd(weight, full_matrices=False)[1:]
        rank = min(RANK, len(singular) - 1)
        self.V = Vh[:rank].t().contiguous()  # (n_inputs, rank)
        self.rest = singular[rank].square() * (1 + 1e-4)
        self.excess = singular[:rank].square() * (1 + 1e-4) - self.rest
        # Longest sums of float32 terms: a dot product may be off by n_inputs epsilons of its size.
        self.rounding = 4 * EPSILON * max(weight.shape)

    @classmethod
    def of(cls, network, goodness):
        """Return the bounds, or None where everything is evaluated exactly."""
        if network.readout or network.n_layers == 1 or not hasattr(goodness, "slope"):
            return None
        weight = network.weights[-1]
        return cls(weight, goodness.slope(len(weight)) / 2)

    def around(self, base, k, h):
        """Bound the goodness of occluded versions of a sample.

        Parameters
        ----------
        base : _Base
            The samples as they are.
        k : int
            Which of them.
        h : Tensor of shape (n_classes, m, n_inputs)
            Activities below the last layer, not normalised.

        Returns
        -------
        lower, upper : Tensor of shape (n_classes, m)
            Goodness of the last layer lies between.
        """
        length = torch.linalg.vector_norm(h, dim=-1)
        inverse = self.root / length.clamp_min(1e-8)
        n_classes, m, n_inputs = h.shape
        columns = torch.empty(n_classes, n_inputs, 2 + self.V.shape[1], device=h.device)
        columns[:, :, 0], columns[:, :, 1], columns[:, :, 2:] = base.n[k], base.v[k], self.V
        products = torch.bmm(h, columns).mul_(inverse.unsqueeze(-1))
        along, slope, projected = products[..., 0], products[..., 1], products[..., 2:]
        distance = (length * inverse).square_() + base.nn[k].unsqueeze(1) - 2 * along
        distance = distance.clamp_min_(0).add_(self.rounding * self.root**2)
        inside = (projected - base.Vn[k].unsqueeze(1)).square_() @ self.excess
        curved = (inside + self.rest * distance) * self.factor
        linear = base.g[k].unsqueeze(1) + slope - base.vn[k].unsqueeze(1)
        allowance = base.allowance[k].unsqueeze(1)
        return linear - allowance, linear + curved + allowance
