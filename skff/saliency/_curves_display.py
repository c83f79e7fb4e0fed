"""Drawing of deletion and insertion curves."""

import numpy as np

LABELS = {"deletion": "share of pixels removed", "insertion": "share of pixels restored"}


class PerturbationCurvesDisplay:
    """Curves of several maps, beside the range of random orders.

    Parameters
    ----------
    curves : PerturbationCurves
        What is drawn.

    Attributes
    ----------
    lines_ : dict of str to Line2D
        One line per map.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skff.saliency.curves.deletion_curve : Makes curves.
    """

    def __init__(self, curves):
        self.curves = curves

    def plot(self, *, ax=None):
        """Draw the curves; the legend gives the area under each.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw; None makes a new figure.

        Returns
        -------
        display : PerturbationCurvesDisplay
            Itself, with `lines_`, `ax_` and `figure_` set.
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
        curves, self.lines_ = self.curves, {}
        for name, scores in curves.scores.items():
            label = f"{name} (area {curves.areas[name]:.3f})"
            self.lines_[name] = ax.plot(curves.shares, scores, label=label)[0]
        if len(curves.random_scores):
            self._plot_random(ax)
        better = "lower" if curves.kind == "deletion" else "higher"
        ax.set(xlabel=LABELS[curves.kind], ylabel=curves.scoring)
        ax.set_title(f"{curves.kind}: {better} is better", fontsize="medium")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_random(self, ax):
        shares, scores = self.curves.shares, self.curves.random_scores
        label = f"random order (mean area {np.mean(self.curves.random_areas):.3f})"
        ax.plot(shares, scores.mean(axis=0), color="0.4", linestyle="--", label=label)
        low, high = scores.min(axis=0), scores.max(axis=0)
        ax.fill_between(shares, low, high, color="0.4", alpha=0.2, linewidth=0)
