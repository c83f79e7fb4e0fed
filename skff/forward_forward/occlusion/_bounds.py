"""Bounds on every class's goodness under occlusion, from one pass through the trunk.

Occlusion moves the pre-activations of layer l by ``D_l``. With ``goodness(h) = k/2 |h|^2`` up to a
constant, layer l's goodness of class c, ``g_l(c) = k/2 |relu(Z_l + u_l[c])|^2``, is convex in
``Z_l`` with curvature at most k. So, with the gradient ``v_l(c) = k relu(Z_l + u_l[c])`` at the
sample as it is,

    ``g_l(c) + v_l(c).D_l  <=  goodness of c under occlusion  <=  the same + k/2 |D_l|^2``.

The width, ``k/2 |D_l|^2``, is the same for all classes: a class wins if its lower bound exceeds all
others by the sum of the layers' widths. The pre-activations of the last layer L need not be
computed for that. It reads f, and ``D_L = W d`` with ``d = f' - f``, so that
``v_L(c).D_L = (W' v_L(c)).d``; and with the largest singular values S and right singular vectors V
of W, ``|W d|^2 <= sum_i (S_i^2 - S_r^2) (V_i.d)^2 + S_r^2 |d|^2``. One product of f' with a few
columns gives all of it. Below, `U` has the rows ``sqrt(S_i^2 - S_r^2) V_i``.
"""

import math

import torch

from skff.forward_forward._network import SMALLEST_NORM
from skff.forward_forward._torch import add_relu, as_numpy, as_writable_tensor, on_one_thread

RANK = 53  # singular directions; with ten classes and f itself a product of 48 columns
EPSILON = torch.finfo(torch.float32).eps
SLACK = 1e-2  # share by which curvatures are raised: singular vectors are not quite orthogonal
CACHE_ELEMENTS = 2**18  # what several operations in a row read and write: 512 KB


class TrunkBounds:
    """What bounds need to know of a network, whatever the samples.

    Parameters
    ----------
    network : Network
        Fitted; `applies` to it.
    """

    def __init__(self, network):
        self.network = network
        weight, bias = network.layers[-1].weight, network.layers[-1].bias
        singular, Vh = on_one_thread(torch.linalg.svd, weight, False)[1:]
        rank = min(RANK, len(singular) - 1)
        self.rest = float(singular[rank].square()) * (1 + SLACK)
        excess = (singular[:rank].square() * (1 + SLACK) - self.rest).clamp_min_(0)
        self.U = Vh[:rank] * excess.sqrt().unsqueeze(1)  # (rank, n_inputs)
        self.largest = float(singular[0]) * (1 + SLACK)
        self.root = math.sqrt(weight.shape[1])  # the norm of what the last layer reads
        # What the terms of the last pre-activations' sums add up to at most, over the units.
        self.terms = float(weight.norm() * self.root + bias.norm())
        widest = max(max(layer.weight.shape) for layer in network.layers)
        self.rounding = sum_rounding(widest)

    @staticmethod
    def applies(network):
        """Return whether the bounds hold and pay.

        The labels must share a trunk, and the goodness of at least two layers must decide, with a
        positive `gradient_factor`: without one it may be anything, with a negative one it is
        concave.
        """
        if not network.has_trunk or network.head or min(network.n_layers, network.n_classes) < 2:
            return False
        factor = getattr(network.goodness, "gradient_factor", lambda n_units: 0.0)
        return all(factor(layer.n_units) > 0 for layer in network.layers)

    def __getstate__(self):
        return vars(self) | {"U": as_numpy(self.U)}  # loads on any machine

    def __setstate__(self, state):
        vars(self).update(state | {"U": as_writable_tensor(state["U"])})


class BasePoint:
    """Samples as they are, around which the goodness of their occluded versions is bounded.

    Parameters
    ----------
    bounds : TrunkBounds
        Of the network.
    Z : Tensor of shape (n, n_units)
        The first layer's pre-activations.
    """

    def __init__(self, bounds, Z):
        self.bounds, self.network = bounds, bounds.network
        self.layers = [
            _LayerAtBase(*step, self.network.goodness) for step in self.network.trunk(None, Z=Z)
        ]
        last = self.layers[-1]
        weight = last.layer.weight
        self.q = (last.v.flatten(0, 1) @ weight).view(*last.v.shape[:2], -1)  # (n, classes, inputs)
        self.f = last.f
        # g_L(c) - q(c).f, what stays of the linear terms: (n, classes, 1)
        self.constant = last.g.unsqueeze(2) - self.q @ self.f.unsqueeze(2)
        self.ff = self.f.square().sum(1).tolist()
        self.Uf = (self.f @ bounds.U.t()).unsqueeze(2)  # (n, rank, 1)
        # What f' is multiplied by: of each sample q and f, to be filled in, and U.
        n_classes = self.network.n_classes
        self.columns = weight.new_empty(n_classes + 1 + len(bounds.U), weight.shape[1])
        self.columns[n_classes + 1 :] = bounds.U

    def decide(self, k, D):
        """Decide which class wins in occluded versions of a sample, where bounds can.

        Parameters
        ----------
        k : int
            Index of the sample.
        D : Tensor of shape (n_pairs, n_units)
            What each version adds to the first layer's pre-activations.

        Returns
        -------
        best : Tensor of shape (n_pairs,)
            Class with the highest lower bound.
        is_open : Tensor of shape (n_open,)
            Indices of the pairs that another class may win.
        """
        shifts, h, norm = self._through_trunk(k, D)
        sizes = [torch.linalg.vector_norm(D, dim=1) for D in shifts]
        last, width, allowance = self._last_layer(k, h, norm, sizes[-1])
        below, more_width, more = self._linear_below(k, shifts, sizes)
        allowance += more
        best, is_open = leaders(below.add_(last), width + more_width, allowance)
        if len(is_open):
            # Closer: the layers below the last evaluated, only the last one's width is left.
            exact = last.index_select(1, is_open)
            self._add_exact_below(k, [D.index_select(0, is_open) for D in shifts], out=exact)
            best[is_open], rest = leaders(exact, width[is_open], allowance[is_open])
            is_open = is_open[rest]
        return best, is_open

    def _through_trunk(self, k, D):
        """Return D_l of all layers but the last, and what goes up to that one, with its norms.

        Not normalised, (n_pairs, n_units) and (n_pairs,).
        """
        first, *between = self.layers[:-1]
        shifts, (h, norm) = [D], first.upward(k, D)
        for at in between:
            h.mul_((math.sqrt(h.shape[1]) / norm.clamp_min(SMALLEST_NORM)).unsqueeze(1))
            D = at.layer.pre_activations(h).sub_(at.Z[k])
            shifts.append(D)
            h, norm = at.upward(k, D)
        return shifts, h, norm

    def _last_layer(self, k, h, norm, size):
        """Return the last layer's linear terms (n_classes, n_pairs), width and allowance."""
        bounds, at, n_classes = self.bounds, self.layers[-1], self.network.n_classes
        self.columns[:n_classes], self.columns[n_classes] = self.q[k], self.f[k]
        inverse = bounds.root / norm.clamp_min(SMALLEST_NORM)
        # Thin products are quicker with the many pairs along the rows: (columns, n_pairs).
        products = (self.columns @ h.t()).mul_(inverse)
        linear = products[:n_classes].add_(self.constant[k])
        # |d|^2 = |f'|^2 + |f|^2 - 2 f.f', where |f'| is the root or 0.
        distance = (norm * inverse).square_().add_(self.ff[k]).sub_(products[n_classes], alpha=2)
        distance.clamp_min_(0).add_(4 * bounds.rounding * bounds.root**2)
        projected = products[n_classes + 1 :].sub_(self.Uf[k])
        width = projected.square_().sum(0).add_(distance, alpha=bounds.rest).mul_(at.factor / 2)
        # Errors of the pre-activations: of their sums, and from f', a sum Z + D + u over its norm,
        # which may be much smaller than its terms; times the gradient at either end.
        error = size.add(self.layers[-2].size[k]).mul_(2 * EPSILON * bounds.largest).mul_(inverse)
        error += bounds.rounding * (bounds.terms + at.shift_norm)
        gradient = distance.sqrt_().mul_(bounds.largest).add_(at.h_norm[k])
        return linear, width, gradient.mul_(error).mul_(2 * at.factor)

    def _counted(self, *per_layer):
        """Return the layers below the last whose goodness counts, each with what is given of it."""
        first = self.network.first_counted(self.network.n_layers)
        return list(zip(self.layers[:-1], *per_layer, strict=True))[first:]

    def _linear_below(self, k, shifts, sizes):
        """Sum the other layers' linear terms (n_classes, n_pairs), widths and allowances."""
        n_classes, n_pairs = self.network.n_classes, len(shifts[0])
        total = shifts[0].new_zeros(n_classes, n_pairs)
        width, allowance = torch.zeros_like(total[0]), torch.zeros_like(total[0])
        for at, D, size in self._counted(shifts, sizes):
            total.addmm_(at.v[k], D.t()).add_(at.g[k].unsqueeze(1))
            width.addcmul_(size, size, value=at.factor / 2)
            # No term is larger than k (|Z| + |u| + |D|)^2.
            size = size + at.size[k]
            allowance.addcmul_(size, size, value=2 * at.factor * self.bounds.rounding)
        return total, width, allowance

    def _add_exact_below(self, k, shifts, out):
        """Add the goodness of the layers below the last to `out`, (n_classes, n_pairs)."""
        for at, D in self._counted(shifts):
            n_rows = max(1, CACHE_ELEMENTS // at.u.numel())
            for D_rows, g in zip(D.split(n_rows), out.split(n_rows, dim=1), strict=True):
                # (classes, pairs, units)
                h = add_relu(D_rows.add_(at.Z[k]), at.u.unsqueeze(1))
                g += self.network.goodness(h)


class _LayerAtBase:
    """A layer at the samples as they are: gradients v and goodness g under every label."""

    def __init__(self, layer, f, Z, goodness):
        self.layer, self.f, self.Z = layer, f, Z
        self.u = layer.label_shifts()
        self.factor = goodness.gradient_factor(layer.n_units)
        self.neutral = Z + self.u.mean(0)
        h = add_relu(Z.unsqueeze(1), self.u)  # (n, classes, units)
        self.g = goodness(h)
        self.shift_norm = float(torch.linalg.vector_norm(self.u, dim=1).max())
        self.h_norm = torch.linalg.vector_norm(h, dim=2).amax(1).tolist()
        self.size = (torch.linalg.vector_norm(Z, dim=1) + self.shift_norm).tolist()
        self.v = h.mul_(self.factor)  # (n, classes, units)

    def upward(self, k, D):
        """Return activities under the neutral label and their norms, D from the k-th sample."""
        h = add_relu(D, self.neutral[k])
        return h, torch.linalg.vector_norm(h, dim=1)


def leaders(lower, width, allowance):
    """Return the class with the highest lower bound, and where another one may win.

    Parameters
    ----------
    lower : Tensor of shape (n_classes, n_pairs)
        Lower bounds on the goodness; changed.
    width, allowance : Tensor of shape (n_pairs,)
        What upper bounds add, and what rounding may add to the difference of two bounds.

    Returns
    -------
    best : Tensor of shape (n_pairs,)
        Class.
    is_open : Tensor of shape (n_open,)
        Indices of the pairs that another class may win.
    """
    highest, best = lower.max(0)
    second = lower.scatter_(0, best.unsqueeze(0), -torch.inf).amax(0)
    # NaN, of infinities, decides nothing.
    return best, (~(highest - second > width + allowance)).nonzero().squeeze(1)


def sum_rounding(n_terms):
    """Bound the rounding error of a float32 sum, relative to the sum of its terms' sizes.

    Parameters
    ----------
    n_terms : int
        Length of the sum.

    Returns
    -------
    rounding : float
        At most 64 terms may be added one by one in any order; of more, which are added in blocks,
        it is 8 times the error to be expected.

    References
    ----------
    .. [1] N. J. Higham and T. Mary, "A new approach to probabilistic rounding error analysis",
       SIAM Journal on Scientific Computing 41, 2019.
    """
    return 4 * EPSILON * math.sqrt(n_terms)
