"""Drawing of interactions."""

import numpy as np


class InteractionsDisplay:
    """Heat map of the interactions of pairs of regions.

    Colours diverge from 0: red where hiding both costs more than the sum, blue where less.

    Parameters
    ----------
    interactions : Interactions
        What is drawn.
    significance : float or None, default=None
        Level at which pairs are marked with a star.

    Attributes
    ----------
    im_ : AxesImage
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skff.saliency.interactions : Measures interactions.
    """

    def __init__(self, interactions, *, significance=None):
        self.interactions = interactions
        self.significance = significance

    def plot(self, *, ax=None, cmap="RdBu_r", colorbar=True):
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.
        cmap : str or Colormap, default="RdBu_r"
            Diverging colours, centred at 0.
        colorbar : bool, default=True
            Whether to draw the scale.

        Returns
        -------
        display : InteractionsDisplay
            Itself, with `im_`, `ax_` and `figure_` set.
        """
        import matplotlib.pyplot as plt

        found = self.interactions
        if ax is None:
            side = 2.6 + 0.35 * len(found.matrix)
            _, ax = plt.subplots(figsize=(side + 0.9, side), layout="constrained")
        limit = np.nanmax(np.abs(found.matrix)) or 1.0
        ax.set_facecolor("0.85")  # of the diagonal, which would look like an interaction of 0
        self.im_ = ax.imshow(found.matrix, cmap=cmap, vmin=-limit, vmax=limit)
        places = np.arange(len(found.names))
        ax.set_xticks(places, found.names, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(places, found.names)
        ax.set(xlabel="region", ylabel="region")
        if self.significance is not None:
            rows, columns = np.nonzero(found.significant(self.significance))
            ax.plot(columns, rows, "k*", markersize=5, linestyle="", label="significant")
        self.ax_, self.figure_ = ax, ax.figure
        if colorbar:
            self.figure_.colorbar(self.im_, ax=ax, label=f"interaction ({found.scoring})")
        return self
