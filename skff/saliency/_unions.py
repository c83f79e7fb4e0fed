"""The regions of an explainer, and explanations of any union of them on the same samples."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_random_state

from skff.saliency._explainer import ADSExplainer, _column_names
from skff.saliency._regions import lay_out_pixels
from skff.saliency._samples import read_array
from skff.saliency._scoring import several


def check_explainer(explainer):
    """Raise unless `explainer` is an ADSExplainer that returns a single explanation."""
    if not isinstance(explainer, ADSExplainer):
        raise TypeError(f"Got explainer={explainer!r}, but expected an ADSExplainer.")
    if explainer.channels != "joint" or several(explainer.scoring):
        raise ValueError(
            f"Got an explainer with channels={explainer.channels!r} and scoring="
            f"{explainer.scoring!r}, but expected 'joint' and one score: one map at a time."
        )


def with_params(explainer, **changes):
    """Return an explainer with other parameters; its fitted estimator is not cloned."""
    return type(explainer)(**(explainer.get_params(deep=False) | changes))


def with_fixed_draws(explainer):
    """Return an explainer that draws the same samples each time it explains the same data."""
    check_explainer(explainer)
    seed = explainer.random_state
    if not isinstance(seed, Integral):
        seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
    return with_params(explainer, random_state=int(seed))


class Unions:
    """Explains the regions of an explainer, then unions of them on the same samples.

    Parameters
    ----------
    explainer : ADSExplainer
    X, y, sample_weight
        As in :meth:`ADSExplainer.explain`.

    Attributes
    ----------
    single : ADSExplanation
        Each region hidden alone.
    masks : ndarray of bool of shape (n_regions, *image_shape)
        The pixels of each region.
    names : ndarray of str of shape (n_regions,)
    """

    def __init__(self, explainer, X, y, sample_weight=None):
        explainer = with_fixed_draws(explainer)
        if explainer.target_precision is not None or explainer.refine is not None:
            raise ValueError(
                f"Got an explainer with target_precision={explainer.target_precision} and "
                f"refine={explainer.refine}, but expected None for both: regions and their unions "
                "are compared on the same samples."
            )
        self._data = X, y, sample_weight
        self.single = explainer.explain(*self._data)
        self.masks = _region_masks(explainer, X)
        self.names = _region_names(self.single)
        fell_back = self.single.engine == "score"  # and has warned: once is enough
        engine = "score" if fell_back else explainer.engine
        self._explainer = with_params(explainer, mask=None, engine=engine, verbose=0)

    def explain(self, chosen):
        """Explain some unions of regions.

        Parameters
        ----------
        chosen : ndarray of bool of shape (n_unions, n_regions)
            The regions to hide together, at least one each.

        Returns
        -------
        explanation : ADSExplanation
            Its windows are the unions.
        """
        flat = self.masks.reshape(len(self.masks), -1).astype(np.float32)
        unions = (chosen.astype(np.float32) @ flat > 0).reshape(-1, *self.single.image_shape)
        return with_params(self._explainer, groups=list(unions)).explain(*self._data)


def _region_masks(explainer, X):
    pixel_features = lay_out_pixels(read_array(X)[1], explainer.image_shape)
    regions = explainer._make_regions(pixel_features, _column_names(X))
    return regions.hidden.toarray().astype(bool).reshape(-1, *regions.image_shape)


def _region_names(explanation):
    """Return the names of groups, columns of windows of one column, or centres of windows."""
    if explanation.group_names is not None:
        return explanation.group_names
    if explanation.feature_names is not None and explanation.window_shape == (1,):
        return explanation.feature_names[explanation.window_centers[:, 0].astype(int)]
    centers = [", ".join(f"{k:g}" for k in center) for center in explanation.window_centers]
    return np.array([f"({center})" for center in centers])
