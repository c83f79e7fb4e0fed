"""Readouts: how predictions are made, other than from the goodness, which needs no training."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Softmax:
    """A linear softmax head on the normalized activities under a neutral label.

    It is trained together with the layers, by the same solver, and does not influence them.

    Parameters
    ----------
    learning_rate_init : float in (0, inf) or None, default=None
        Initial learning rate of the head, which follows the same schedule as that of the layers.
        None means the classifier's `learning_rate_init`.
    weight_decay : float in [0, inf) or None, default=None
        Decoupled decay of the head's weights. None means the classifier's `weight_decay`.
    label_smoothing : float in [0, 1), default=0.0
        Share of the target probability that is spread evenly over all classes [2]_.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    References
    ----------
    .. [1] G. Hinton, "The Forward-Forward Algorithm: Some Preliminary Investigations",
       arXiv:2212.13345, 2022, section 3.3.
    .. [2] C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision",
       CVPR 2016, section 7.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skff import FFClassifier
    >>> from skff.forward_forward.readouts import Softmax
    >>> X, y = load_iris(return_X_y=True)
    >>> ff = FFClassifier((20, 20), readout=Softmax(learning_rate_init=0.01), max_iter=5)
    >>> ff.fit(X, y).predict_proba(X).shape
    (150, 3)
    """

    learning_rate_init: float | None = None
    weight_decay: float | None = None
    label_smoothing: float = 0.0

    def __post_init__(self):
        """Validate the parameters."""
        rate, decay = self.learning_rate_init, self.weight_decay
        if rate is not None and not 0 < rate < inf:
            raise ValueError(
                f"Got learning_rate_init={rate!r}, but expected a positive finite number, or None "
                "for that of the classifier."
            )
        if decay is not None and not 0 <= decay < inf:
            raise ValueError(
                f"Got weight_decay={decay!r}, but expected a finite number of at least 0, or None "
                "for that of the classifier."
            )
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(
                f"Got label_smoothing={self.label_smoothing!r}, but expected a number in [0, 1)."
            )


READOUTS = {"goodness": None, "softmax": Softmax()}  # None: the goodness itself decides
