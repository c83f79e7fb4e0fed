"""Bounds on the last layer's goodness under occlusion, without evaluating the layer.

The last layer's goodness ``g(n) = k |relu(W n + b)|^2`` of the normalised activities n below it is
convex, with a curvature of at most ``2 k W'W``: from the base point n, with gradient v and a step
d to the occluded point,

    ``g + v.d  <=  g(n + d)  <=  g + v.d + k |W d|^2``.

With the top r singular values S and right singular vectors V of W,
``|W d|^2 <= sum_i (S_i^2 - S_r^2) (V_i.d)^2 + S_r^2 |d|^2``. So r + 2 dot products bound each
class's goodness from both sides. Below, `U` has the columns ``sqrt(S_i^2 - S_r^2) V_i``.
"""

import math

import torch

from skff.forward_forward._network import SMALLEST_NORM, rms_normalize
from skff.forward_forward._tensors import as_numpy, as_writable_tensor

N_COLUMNS = 32  # dot products; matrix products are quickest in whole vector registers
RANK = N_COLUMNS - 2
SLACK = 1e-2  # share by which curvatures are raised: singular vectors are not quite orthogonal


class BasePoint:
    """The last layer at the samples as they are, under every label.

    Parameters
    ----------
    bounds : GoodnessBounds
    h : Tensor of shape (n_samples, n_classes, n_inputs)
        Activities below the last layer, not normalised.
    norm : Tensor of shape (n_samples * n_classes,)
        Their Euclidean norms.
    """

    def __init__(self, bounds, h, norm):
        shape = h.shape
        self.n = rms_normalize(h.flatten(0, 1), norm).view(shape)
        r = torch.addmm(bounds.bias, self.n.flatten(0, 1), bounds.weight.t()).relu_()
        self.g = bounds.goodness(r).view(shape[:2])
        self.v = (r @ bounds.weight).mul_(2 * bounds.factor).view(shape)
        self.vn = (self.v * self.n).sum(-1)
        self.nn = self.n.square().sum(-1)
        self.Un = self.n @ bounds.U  # (n_samples, n_classes, rank)
        self.r_norm = torch.linalg.vector_norm(r, dim=-1).view(shape[:2])
        # What activities are multiplied by: n and v of a sample, to be filled in, and U.
        self._columns = bounds.U.new_empty(*shape[1:], 2 + bounds.U.shape[1])
        self._columns[:, :, 2:] = bounds.U

    def columns(self, k):
        """Return what activities of the k-th sample's versions are multiplied by.

        Parameters
        ----------
        k : int
            Index of a sample.

        Returns
        -------
        columns : Tensor of shape (n_classes, n_inputs, 2 + rank)
            The normalised activities, the gradient and `U`; valid until the next call.
        """
        self._columns[:, :, 0], self._columns[:, :, 1] = self.n[k], self.v[k]
        return self._columns


class GoodnessBounds:
    """Bounds on the last layer's goodness around a base point.

    Parameters
    ----------
    weight : Tensor of shape (n_units, n_inputs)
        Of the last layer.
    bias : Tensor of shape (n_units,)
        Likewise.
    goodness : callable
        Activities -> goodness, with gradient ``slope * h``.
    """

    def __init__(self, weight, bias, goodness):
        self.weight, self.bias, self.goodness = weight, bias, goodness
        self.factor = goodness.slope(len(weight)) / 2
        self.root = math.sqrt(weight.shape[1])  # the norm of a normalised input
        singular, Vh = torch.linalg.svd(weight, full_matrices=False)[1:]
        rank = min(RANK, len(singular) - 1)
        self.rest = singular[rank].square() * (1 + SLACK)
        excess = singular[:rank].square() * (1 + SLACK) - self.rest
        self.U = Vh[:rank].t() * excess.sqrt()  # (n_inputs, rank)
        self.largest = singular[0]
        self.rounding = sum_rounding(max(weight.shape))
        # What the terms of the pre-activations' sums add up to at most, as a norm over the units.
        self.terms = weight.norm() * self.root + bias.norm()

    @classmethod
    def of(cls, network, goodness):
        """Return the bounds, or None where they do not hold: without slope it may be anything."""
        if network.readout or network.n_layers == 1 or not hasattr(goodness, "slope"):
            return None
        weight, bias = network.weights[-1], network.biases[-1]
        return cls(weight, bias, goodness) if goodness.slope(len(weight)) > 0 else None

    def around(self, base, k, products, length):
        """Bound the goodness of occluded versions of a sample.

        Parameters
        ----------
        base : BasePoint
            The samples as they are.
        k : int
            Which of them.
        products : Tensor of shape (n_classes, m, 2 + rank)
            Activities below the last layer, not normalised, times ``base.columns(k)``;
            overwritten.
        length : Tensor of shape (n_classes, m)
            Euclidean norms of these activities.

        Returns
        -------
        lower, upper : Tensor of shape (n_classes, m)
            Goodness of the last layer lies between.
        """
        inverse = self.root / length.clamp_min(SMALLEST_NORM)
        products.mul_(inverse.unsqueeze(-1))
        along, slope, projected = products[..., 0], products[..., 1], products[..., 2:]
        distance = (length * inverse).square_() + base.nn[k].unsqueeze(1) - 2 * along
        distance = distance.clamp_min_(0).add_(4 * self.rounding * self.root**2)
        projected -= base.Un[k].unsqueeze(1)
        inside = torch.linalg.vector_norm(projected, dim=-1).square_()
        curved = (inside + self.rest * distance) * self.factor
        linear = base.g[k].unsqueeze(1) + slope - base.vn[k].unsqueeze(1)
        # Errors of the pre-activations, of `rounding * terms`, times the gradient at either end.
        gradient = base.r_norm[k].unsqueeze(1) + self.largest * distance.sqrt_()
        allowance = gradient.mul_(2 * self.factor * self.rounding * self.terms)
        return linear - allowance, linear.add_(curved).add_(allowance)

    def __getstate__(self):
        # As the network's weights: in main memory, wherever they are loaded.
        return {name: as_numpy(value) for name, value in self.__dict__.items()}

    def __setstate__(self, state):
        self.__dict__.update({name: as_writable_tensor(v) for name, v in state.items()})


def goodness_of_norm(goodness, norm, n_units):
    """Compute a goodness that has a slope from the norm of the activities alone.

    Parameters
    ----------
    goodness : callable
        Activities -> goodness, with gradient ``slope * h``: all it can add to half of the slope
        times the squared norm is a constant.
    norm : Tensor of any shape
        Euclidean norms of activities.
    n_units : int
        Units of the layer.

    Returns
    -------
    g : Tensor of the same shape
        Goodness.
    """
    constant = goodness(norm.new_zeros(1, n_units))
    return norm.square().mul_(goodness.slope(n_units) / 2).add_(constant)


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
    return 4 * torch.finfo(torch.float32).eps * math.sqrt(n_terms)
