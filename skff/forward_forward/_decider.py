"""Which class wins in occluded versions of samples, decided in stages that cost more and more.

All layers but the last are computed for every class, and the last one's goodness is bounded from
both sides by a few dot products. Where one class stays above all others, it wins; elsewhere the
classes that still can win get closer bounds from a product in bfloat16, where the processor is fast
at it, and those left are evaluated exactly. Nothing is approximated.
"""

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

SCRATCH_ELEMENTS = 2**23  # 32 MB of float32 for each of the larger buffers
CACHE_ELEMENTS = 2**19  # 2 MB: what several operations in a row read and write
FEWEST_ROUNDED = 128  # versions; fewer are evaluated exactly at once
STAGES = ("decided_by_bounds", "decided_in_bfloat16", "exact_class_evaluations")


class Decider:
    """Decides which class has the highest goodness.

    Parameters
    ----------
    network : Network
        Fitted.
    goodness : callable
        Activities -> goodness; bounds exist for one with a method `slope`.
    skip_first : bool
        Whether the first layer's goodness does not count.
    """

    def __init__(self, network, goodness, skip_first):
        self.network = network
        self.goodness = goodness
        self.skip_first = skip_first
        self.widest = max(map(len, network.biases))
        self.n_passes = 1 if network.readout else network.n_classes  # of one sample
        self.rounding = sum_rounding(self.widest)
        self.bounds = GoodnessBounds.of(network, goodness)
        self.rounded = RoundedGoodness.of(self.bounds)

    def decide(self, base, shift, sample, stats):
        """Find the best class of versions of samples.

        Parameters
        ----------
        base : Base
            The samples as they are.
        shift : Tensor of shape (n_pairs, n_units)
            What each version adds to the first layer's pre-activations; may be overwritten.
        sample : Tensor of shape (n_pairs,)
            Which sample each is a version of, ascending.
        stats : dict of str -> int
            Counts of `STAGES`, added to.

        Returns
        -------
        best : Tensor of shape (n_pairs,)
            Indices of classes.
        """
        if self.bounds is None:
            stats["exact_class_evaluations"] += len(sample) * self.n_passes
            return self.evaluate(shift.add_(base.Z[sample]))
        lower, upper = self._bounds_of_pairs(base, shift, sample)
        best, in_doubt = _leaders(lower, upper)
        n_open = int(in_doubt.any(0).sum())
        stats["decided_by_bounds"] += len(best) - n_open
        if self.rounded is not None and int(in_doubt.sum()) >= FEWEST_ROUNDED:
            self._tighten(lower, upper, self._versions(base, shift, sample, in_doubt))
            best, in_doubt = _leaders(lower, upper)
            stats["decided_in_bfloat16"] += n_open - int(in_doubt.any(0).sum())
        stats["exact_class_evaluations"] += int(in_doubt.sum())
        total = torch.full_like(lower, -torch.inf)
        for where, h, norm, below in self._versions(base, shift, sample, in_doubt):
            last = self.network.activities(-1, rms_normalize(h, norm))
            total[where] = below + self.goodness(last)
        return torch.where(in_doubt.any(0), total.argmax(0), best)

    def evaluate(self, Z):
        """Find the best class without bounds.

        Parameters
        ----------
        Z : Tensor of shape (n, n_units)
            First pre-activations without a label.

        Returns
        -------
        best : Tensor of shape (n,)
            Indices of classes.
        """
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

    def _bounds_of_pairs(self, base, shift, sample):
        """Bound the goodness of all changed pairs under all classes, (n_classes, n_pairs)."""
        step = max(1, SCRATCH_ELEMENTS // (self.widest + self.network.n_classes * N_COLUMNS))
        n_versions = torch.bincount(sample, minlength=len(base.Z))
        parts = [
            self._bounds(base, k, part)
            for k, versions in enumerate(shift.split(n_versions.tolist()))
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


class Base:
    """The samples as they are: what their occluded versions are compared with.

    Parameters
    ----------
    decider : Decider
    inputs : Tensor of shape (n, n_kept)
        Output of the network's `rescale`.
    """

    def __init__(self, decider, inputs):
        network, bounds = decider.network, decider.bounds
        self.Z = network.project(inputs)
        if bounds is None:
            self.best = decider.evaluate(self.Z)
            return
        self.A = self.Z.unsqueeze(1) + network.label_shifts()  # (rows, classes, units)
        shape = self.A.shape[:2]
        h, norms = decider._up_to_last(self.A.flatten(0, 1).relu())
        self.last = BasePoint(bounds, h.view(*shape, -1), norms[-1])
        self.best = (decider._goodness_below(norms).view(shape) + self.last.g).argmax(1)
