"""What the reproduction runs: sizes, seeds, epochs, and the tasks in their order."""

from dataclasses import dataclass

CONTESTANTS = {
    "paper": "Forward-Forward, the paper's rule",
    "default": "Forward-Forward, skff's default",
    "sklearn": "backprop, scikit-learn",
    "skorch": "backprop, skorch",
    "loop": "backprop, plain torch loop",
}
FF = ("paper", "default")
BACKPROP = ("sklearn", "skorch", "loop")


@dataclass
class Plan:
    """Sizes of a reproduction.

    Parameters
    ----------
    n_train : int or None
        Training images; None takes all.
    seeds : int
        Runs per contestant and data set, with seeds 0, 1, ...
    epochs : int
        Of the paper's rule, for each layer.
    other_epochs : int
        Of everything else.
    map_samples : int or None
        Test images that maps are computed from; None takes all.
    window : int
        Side of the hidden window in pixels.
    n_random : int
        Random orders of pixels that a map is compared with.
    curve : tuple of int
        Epochs per layer at which the paper's rule is trained anew, from the first on.
    hours : float
        Points of the curve that would end later are left out.
    """

    n_train: int | None
    seeds: int
    epochs: int
    other_epochs: int
    map_samples: int | None
    window: int
    n_random: int
    curve: tuple
    hours: float

    def tasks(self, datasets):
        """Return the tasks in their order: (function's name, arguments)."""
        tasks = []
        for data in datasets:
            tasks.append(("samples", {"data": data}))
            for seed in range(self.seeds):
                for contestant in CONTESTANTS:
                    tasks.append(("train", {"data": data, "contestant": contestant, "seed": seed}))
            for contestant in CONTESTANTS:
                tasks.append(("explain", {"data": data, "contestant": contestant}))
            tasks.append(("images", {"data": data}))
            tasks.append(("compare", {"data": data}))
        for epochs in self.curve:  # what can be left out when time is short comes last
            tasks += [("curve", {"data": data, "epochs": epochs}) for data in datasets]
        return tasks


QUICK = {
    "n_train": 5_000,
    "seeds": 2,
    "epochs": 6,
    "other_epochs": 5,
    "map_samples": 200,
    "window": 3,
    "n_random": 5,
    "curve": (1, 3, 10, 30),
    "hours": 0.045,
}
FULL = {
    "n_train": None,
    "seeds": 3,
    "epochs": 30,
    "other_epochs": 30,
    "map_samples": None,
    "window": 3,
    "n_random": 20,
    "curve": (1, 3, 10, 30, 100, 200, 400, 800, 1600, 3200, 5000),
    "hours": 1.9,
}
