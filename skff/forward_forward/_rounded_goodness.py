"""Bounds on the last layer's goodness from a matrix product in bfloat16.

Processors with matrix units multiply bfloat16 several times as fast as float32. What rounding
weights W to W' and inputs n to n' may cost is known: with u half the distance from 1 to the next
bfloat16,

    ``|W'n' - W n|  <=  |W' - W| |n| + |W'| u |n|``,

and ``|n|`` is the same for all normalised activities. Rounding the output then moves the norm of
the active units by a share u of itself. So this norm, and with it the goodness, is bounded from
both sides.
"""

import torch

from skff.forward_forward._goodness_bounds import SLACK, goodness_of_norm
from skff.forward_forward._network import SMALLEST_NORM
from skff.forward_forward._tensors import as_numpy, as_writable_tensor

HALF_UNIT = torch.finfo(torch.bfloat16).eps / 2
ROWS_AT_ONCE = 256  # each number of rows is compiled for anew: only multiples are used
COLUMNS_AT_ONCE = 32  # inputs that the processor takes in one step
FEWEST_WEIGHTS = 2**14  # below, float32 is as quick


class RoundedGoodness:
    """The last layer's goodness, computed with weights and inputs rounded to bfloat16.

    Parameters
    ----------
    bounds : GoodnessBounds
        Of the same layer.
    """

    def __init__(self, bounds):
        self.bounds = bounds
        # The bias is the weight of one more input, the root mean square of the others.
        exact = torch.cat([bounds.weight, bounds.bias.unsqueeze(1)], dim=1)
        rounded = exact.bfloat16()
        self.weight = torch.nn.functional.pad(rounded, (0, -exact.shape[1] % COLUMNS_AT_ONCE))
        change = exact - rounded.float()
        lost = torch.linalg.matrix_norm(change[:, :-1], 2)
        error = bounds.root * (lost + HALF_UNIT * (bounds.largest + lost))
        lost = torch.linalg.vector_norm(change[:, -1])
        error += lost + HALF_UNIT * (torch.linalg.vector_norm(bounds.bias) + lost)
        # Of the pre-activations of normalised inputs, as a norm over the units.
        self.error = (1 + SLACK) * error + bounds.rounding * bounds.terms
        self.relative_error = (1 + SLACK) * HALF_UNIT + bounds.rounding  # of the output

    @classmethod
    def of(cls, bounds):
        """Return it, or None where it does not pay."""
        return cls(bounds) if bounds is not None and bfloat16_pays(bounds.weight) else None

    def around(self, h, norm):
        """Bound the goodness of activities.

        Parameters
        ----------
        h : Tensor of shape (m, n_inputs)
            Activities below the last layer, not normalised.
        norm : Tensor of shape (m,)
            Their Euclidean norms.

        Returns
        -------
        lower, upper : Tensor of shape (m,)
            Goodness of the last layer lies between.
        """
        n_rows, n_inputs = h.shape
        rms = norm.clamp_min(SMALLEST_NORM) / self.bounds.root
        inputs = self.weight.new_zeros(n_rows + -n_rows % ROWS_AT_ONCE, self.weight.shape[1])
        inputs[:n_rows, :n_inputs] = h
        inputs[:n_rows, n_inputs] = rms
        r = (inputs @ self.weight.t()).relu_()[:n_rows].float()
        norm = torch.linalg.vector_norm(r, dim=1).div_(rms)
        error = self.error + self.relative_error * norm
        goodness, n_units = self.bounds.goodness, len(self.weight)
        lower = goodness_of_norm(goodness, (norm - error).clamp_min_(0), n_units)
        return lower, goodness_of_norm(goodness, norm.add_(error), n_units)

    def __getstate__(self):
        # As the bounds, so that workers find no norms again; NumPy has no bfloat16.
        state = self.__dict__ | {"weight": self.weight.float()}
        return {name: as_numpy(value) for name, value in state.items()}

    def __setstate__(self, state):
        self.__dict__.update({name: as_writable_tensor(v) for name, v in state.items()})
        self.weight = self.weight.bfloat16()


def bfloat16_pays(weight):
    """Return whether products with a weight are much quicker in bfloat16 than in float32.

    Parameters
    ----------
    weight : Tensor of shape (n_units, n_inputs)

    Returns
    -------
    pays : bool
        True for large weights on processors with AMX. GPUs were not measured.
    """
    if weight.device.type != "cpu" or weight.numel() < FEWEST_WEIGHTS:
        return False
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("amx_bf16", False))
