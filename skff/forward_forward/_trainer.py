"""A trainer: optimizer, schedule and averaging; one epoch."""

import copy
import math
from contextlib import contextmanager

import torch
from torch.utils._pytree import tree_map

from skff.forward_forward._distributed import ALONE
from skff.forward_forward._gradients import Scratch, batch_gradients
from skff.forward_forward._torch import as_numpy, as_writable_tensor, multiplies_bfloat16

STEADY_UPDATES = 1000
AVERAGE_POWER = 4

_CPU_STATE_SIZE = torch.Generator().get_state().numel()


def constant(progress):
    """Keep the learning rate."""
    return 1.0


def cooldown(progress):
    """Keep the learning rate for the first half of the updates, then lower it linearly to 0."""
    return min(1.0, 2.0 * (1.0 - progress))


def inverse_sqrt(n_updates):
    """Keep the learning rate for 1,000 updates, then let it decay as 1 / sqrt(n_updates).

    This schedule suits training whose end is not known in advance.
    """
    return math.sqrt(STEADY_UPDATES / max(n_updates, STEADY_UPDATES))


SCHEDULES = {"constant": constant, "cooldown": cooldown}


def draw_streams(generator, n_streams):
    """Return generators whose draws do not depend on how many numbers the others draw.

    What a layer learns therefore does not depend on the layers above it, or on the process that
    trains it.

    Parameters
    ----------
    generator : torch.Generator or None
        Seeds the streams with one draw; None uses torch's global generator for all of them.
    n_streams : int
        Number of streams; the first ones are the same however many follow.

    Returns
    -------
    generators : list of torch.Generator
        On the same device.
    """
    if generator is None:
        return [None] * n_streams
    device = generator.device
    seed = int(torch.randint(2**62, (), generator=generator, device=device))
    return [torch.Generator(device).manual_seed(seed + k) for k in range(n_streams)]


class Trainer:
    """Some layers of a network with their optimizer: all state that training needs to continue.

    Parameters
    ----------
    network : Network
        Updated in place.
    layers : range
        Layers to update; those below run forward only, those above not at all.
    generator : torch.Generator
        Source of randomness.
    solver : AdamW or SGD
        A value of `SOLVERS`, or one of the same form.
    learning_rate : float
        Learning rate of the layers, before the schedule.
    weight_decay : float, default=0.0
        Weight decay of the layers; decoupled, and not applied to the biases.
    precision : {"highest", "high", "medium"}, default="highest"
        "medium" multiplies in bfloat16 if the processor supports it.
    head : Softmax, default=None
        Settings of the network's softmax head, if it is trained too.
    average : Network, default=None
        Network of the same sizes that becomes a mean of the network over all updates, in which the
        k-th update is weighted by the fourth power of k. It has the effect of a decayed learning
        rate, whenever training stops.
    team : Alone, DataParallel or LayerParallel, default=ALONE
        The processes that share the work.

    References
    ----------
    .. [1] O. Shamir and T. Zhang, "Stochastic Gradient Descent for Non-smooth Optimization:
       Convergence Results and Optimal Averaging Schemes", ICML 2013 (polynomial-decay averaging).
    """

    def __init__(
        self,
        network,
        layers,
        generator,
        *,
        solver,
        learning_rate,
        weight_decay=0.0,
        precision="highest",
        head=None,
        average=None,
        team=ALONE,
    ):
        self.network = network
        self.layers = layers
        self.generator = generator
        self.solver = solver
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.precision = precision
        self.head = head
        self.average = average
        self.team = team
        self.n_updates = 0
        self.peers = [torch.zeros_like(layer.bias) for layer in network.layers]
        self.optimizer = self._make_optimizer()

    @property
    def head_learning_rate(self):
        """Learning rate of the softmax head before the schedule: its own, or that of the layers."""
        own = self.head and self.head.learning_rate_init
        return self.learning_rate if own is None else own

    @property
    def head_weight_decay(self):
        """Weight decay of the softmax head: its own, or that of the layers."""
        own = self.head and self.head.weight_decay
        return self.weight_decay if own is None else own

    def epoch(self, data, rule, *, batch_size, schedule):
        """Pass once over the data in a random order, updating the layers after every batch.

        Parameters
        ----------
        data : TrainingData
            Samples, encoded labels and weights.
        rule : LearningRule
            Goodness, loss and negatives of the layers.
        batch_size : int
            Samples per update.
        schedule : callable
            Completed share of the epoch, in [0, 1) -> factor on the learning rate.

        Returns
        -------
        loss : list of float
            Mean loss of the samples per updated layer, then of the softmax head if it learns.
        win_share : list of float
            Share of samples whose positive has a higher goodness than their negatives, for each
            layer, and then the share that the head classifies correctly.
        """
        order = torch.randperm(len(data), generator=self.generator, device=self.network.device)
        streams = draw_streams(self.generator, 1 + self.network.n_layers)
        learning = self.team.own_layers(self.network, self.layers)
        head = self.head if self.team.own_head(self.head is not None) else None
        totals, n_done, scratch = 0.0, 0, Scratch()
        with self._rounded_weights() as dtype:
            batches = order.split(batch_size)
            for passes, y, weight in self.team.batches(self, data, batches, streams[0], dtype):
                own = batch_gradients(
                    self.network,
                    passes,
                    y,
                    weight,
                    rule,
                    learning,
                    streams[1:],
                    head=head,
                    peers=self.peers,
                    scratch=scratch,
                    share=self.team.share(len(y)),
                )
                totals += self.team.add_up(self, own)
                self._update(schedule(n_done / len(order)))
                n_done += len(y)
        self._clear_denormal_moments()
        totals = self.team.finish_epoch(self, totals)
        # The only read from the device since the epoch began.
        return (totals / len(order)).tolist()

    def learned(self):
        """Return the tensors that the optimizer updates."""
        return [tensor for group in self.optimizer.param_groups for tensor in group["params"]]

    def tensors(self, layers, head):
        """Return the tensors of some layers and the head that training changes."""
        networks = [network for network in (self.network, self.average) if network is not None]
        return [
            tensor
            for network in networks
            for tensor in network.tensors_of(layers) + network.head * head
        ] + [self.peers[layer] for layer in layers]

    def state(self):
        """Return copies of everything that an update changes, except the networks."""
        return {
            "n_updates": self.n_updates,
            "generator": self.generator.get_state(),
            "peers": [peer.clone() for peer in self.peers],
            "optimizer": tree_map(_cloned, self.optimizer.state_dict()),
        }

    def restore(self, state):
        """Adopt the `state` of a trainer of the same layers; the state must not be reused."""
        self.n_updates = state["n_updates"]
        self.generator.set_state(state["generator"])
        for mine, theirs in zip(self.peers, state["peers"], strict=True):
            mine.copy_(theirs)
        self.optimizer.load_state_dict(state["optimizer"])

    def state_after_a_step(self):
        """Return a state with the shapes of this trainer's after an update, and any values."""
        other = self.copy()
        for tensor in other.learned():
            tensor.grad = torch.zeros_like(tensor)
        other.optimizer.step()
        return other.state()

    def copy(self):
        """Return a copy that continues from the current state; this trainer is not changed."""
        new = copy.copy(self)
        new.network = self.network.to(self.network.device)
        new.average = self.average and self.average.to(self.network.device)
        new.generator = torch.Generator(self.network.device)
        new.peers = [torch.empty_like(peer) for peer in self.peers]
        new.optimizer = new._make_optimizer()
        new.restore(self.state())
        return new

    def _make_optimizer(self):
        """Return an optimizer with a group of parameters for the layers and one for the head."""
        layers = self.network.tensors_of(self.layers)
        head = [] if self.head is None else self.network.head
        first, *others = [tensors for tensors in (layers, head) if tensors]
        optimizer = self.solver.make(first, self.learning_rate)
        for tensors in others:
            optimizer.add_param_group({"params": tensors})
        return optimizer

    @contextmanager
    def _rounded_weights(self):
        """Keep copies of the layers' weights in bfloat16; yield the type of the inputs."""
        if self.precision != "medium" or not multiplies_bfloat16(self.network.device):
            yield torch.float32
            return
        try:
            for layer in self.network.layers:
                layer.rounded = layer.weight.bfloat16()
            yield torch.bfloat16
        finally:
            for layer in self.network.layers:
                layer.rounded = None

    def _update(self, factor):
        """Update the weights, with a factor on the learning rates."""
        settings = [(self.learning_rate, self.weight_decay)] if self.layers else []
        settings.append((self.head_learning_rate, self.head_weight_decay))
        for group, (rate, decay) in zip(self.optimizer.param_groups, settings, strict=False):
            group["lr"] = rate * factor
            if decay:  # not torch's, which for SGD is coupled to the gradient
                for tensor in group["params"]:
                    if tensor.ndim == 2 and tensor.grad is not None:
                        tensor.mul_(1 - group["lr"] * decay)
        self.optimizer.step()
        for tensor in self.learned():
            tensor.grad = None  # frees memory before the next gradients are computed
        for layer in self.layers:
            layer = self.network.layers[layer]
            if layer.rounded is not None:
                layer.rounded.copy_(layer.weight)
        self.n_updates += 1
        if self.average is not None:
            share = (1 + AVERAGE_POWER) / (self.n_updates + AVERAGE_POWER)
            for mean, now in zip(self.average.tensors(), self.network.tensors(), strict=True):
                mean.lerp_(now, share)

    def _clear_denormal_moments(self):
        # Moments of dead units decay to denormal numbers, with which arithmetic is slow.
        for state in self.optimizer.state.values():
            for moment in state.values():
                if isinstance(moment, torch.Tensor) and moment.ndim > 0:
                    moment.masked_fill_(moment.abs() < 1e-30, 0.0)

    def __getstate__(self):
        layers = [self.layers.start, self.layers.stop]  # skops cannot store ranges
        state = tree_map(as_numpy, self.state())
        state = vars(self) | state | {"layers": layers}
        return {name: value for name, value in state.items() if name != "team"}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.team = ALONE
        self.layers = range(*state["layers"])
        self.generator = torch.Generator(self.network.device)
        # A state of another kind of device does not fit: start a stream from its first bytes.
        if self.network.device.type == "cpu" and state["generator"].size == _CPU_STATE_SIZE:
            self.generator.set_state(torch.from_numpy(state["generator"].copy()))
        else:
            self.generator.manual_seed(int.from_bytes(state["generator"][:8].tobytes(), "little"))
        self.peers = [as_writable_tensor(peer).to(self.network.device) for peer in state["peers"]]
        self.optimizer = self._make_optimizer()
        self.optimizer.load_state_dict(tree_map(as_writable_tensor, state["optimizer"]))


def _cloned(value):
    return value.clone() if isinstance(value, torch.Tensor) else value
