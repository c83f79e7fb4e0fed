"""What an ADS run found: maps, their uncertainty, and export."""

import json
from dataclasses import dataclass, fields

import numpy as np

FORMAT = 1  # of the files; raised when fields change meaning


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class ADSExplanation:
    """Maps of the loss of score under hiding, with what is needed to read them.

    Parameters
    ----------
    importances : ndarray of shape (H, W) or (L,)
        `baseline_score` minus the score with the region hidden, in units of the score: positive
        where hiding hurts.
    baseline_score : float
        Score with nothing hidden.
    window_scores : ndarray of shape (n_windows,)
        Score with each window hidden, windows ordered row by row.
    window_centers : ndarray of shape (n_windows, 2) or (n_windows, 1)
        Row and column (or position) of each window's centre, in pixels.
    standard_error : ndarray of the shape of `importances` or None
        Standard error of the importances, paired: from each sample's correctness without and with
        the window. With ``aggregate="coverage"`` the mean over the covering windows, which is an
        upper bound. None where the score is not accuracy, or of a single sample.
    per_class : ndarray of shape (n_classes, H, W) or (n_classes, L), or None
        Loss of accuracy within each class; None where the score is not accuracy.
    classes : ndarray of shape (n_classes,) or None
        Labels the maps of `per_class` belong to: those among the samples used.
    image_shape : tuple of int
        Shape of `importances`.
    window_shape, stride : tuple of int
        In pixels, one per axis of the map.
    aggregate : str
        Rule that gave pixels their value.
    scoring : str
        Name of the score.
    n_samples : int
        Number of samples used.
    engine : str
        Engine used.
    engine_stats : dict or None
        What the engine counted about its own work.

    See Also
    --------
    ADSExplainer : Makes explanations.
    """

    importances: np.ndarray
    baseline_score: float
    window_scores: np.ndarray
    window_centers: np.ndarray
    standard_error: np.ndarray | None = None
    per_class: np.ndarray | None = None
    classes: np.ndarray | None = None
    image_shape: tuple
    window_shape: tuple
    stride: tuple
    aggregate: str
    scoring: str
    n_samples: int
    engine: str
    engine_stats: dict | None = None

    def __repr__(self):
        shape = " x ".join(map(str, self.image_shape))
        return (
            f"<ADSExplanation: {shape} map of {self.scoring} {self.baseline_score:.4g} "
            f"on {self.n_samples} samples>"
        )

    def plot(self, image=None, *, ax=None, cmap="RdBu_r", colorbar=True, im_kw=None):
        """Draw the map.

        Parameters
        ----------
        image : array-like of shape (H, W) or (H, W, 3), or None, default=None
            Drawn in grey or colour under the map.
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours, centred at 0.
        colorbar : bool, default=True
            Whether to draw the scale.
        im_kw : dict or None, default=None
            Further arguments of ``Axes.imshow``, or of ``Axes.bar`` for sequences.

        Returns
        -------
        display : ADSDisplay
        """
        from skff.saliency._display import ADSDisplay

        return ADSDisplay.from_explanation(
            self, image=image, ax=ax, cmap=cmap, colorbar=colorbar, im_kw=im_kw
        )

    def to_frame(self):
        """Return one row per pixel as a DataFrame.

        Returns
        -------
        frame : pandas.DataFrame
            Columns ``row`` and ``column`` (``position`` for sequences), ``importance``, then
            ``standard_error`` and ``class_<label>`` where there are any.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "to_frame needs pandas: install it with pip install pandas."
            ) from error
        names = ["row", "column"] if len(self.image_shape) == 2 else ["position"]
        columns = dict(zip(names, np.indices(self.image_shape), strict=True))
        columns["importance"] = self.importances
        if self.standard_error is not None:
            columns["standard_error"] = self.standard_error
        if self.per_class is not None:
            labels = (f"class_{label}" for label in self.classes)
            columns |= dict(zip(labels, self.per_class, strict=True))
        return pd.DataFrame({name: values.ravel() for name, values in columns.items()})

    def save(self, path):
        """Write the explanation as an .npz file without pickle.

        Parameters
        ----------
        path : str or path-like
            File to write; used as it is, no ending is added.

        Raises
        ------
        TypeError
            If the class labels are objects that such a file cannot hold.
        """
        if self.classes is not None and self.classes.dtype == object:
            raise TypeError(
                f"Got classes {self.classes!r} of type object, but expected strings or numbers: "
                "other objects cannot be saved without pickle."
            )
        arrays = {"format": np.asarray(FORMAT)}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, dict):
                value = json.dumps(value, default=_to_number)
            if value is not None:
                arrays[field.name] = np.asarray(value)
        with open(path, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path):
        """Read an explanation that :meth:`save` wrote.

        Parameters
        ----------
        path : str or path-like
            File to read.

        Returns
        -------
        explanation : ADSExplanation

        Raises
        ------
        ValueError
            If the file is not one of an explanation.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = dict(file)
        except (ValueError, EOFError, TypeError) as error:
            raise ValueError(f"Got {path}, but expected an .npz file of arrays: {error}") from error
        version = int(arrays.pop("format", -1))
        known = {field.name for field in fields(cls)}
        if version != FORMAT or not arrays.keys() <= known:
            raise ValueError(
                f"Got {path} with fields {sorted(arrays)}, but expected an explanation saved in "
                f"format {FORMAT}."
            )
        return cls(**{name: _from_array(name, value) for name, value in arrays.items()})


def _to_number(value):
    """Let JSON take NumPy numbers."""
    return value.item()


def _from_array(name, value):
    if name == "engine_stats":
        return json.loads(str(value))
    if name in ("image_shape", "window_shape", "stride"):
        return tuple(value.tolist())
    return value if value.ndim else value.item()
