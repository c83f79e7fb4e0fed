"""Libraries that answer one of ADSExplainer's further questions too: the same model, data and loss.

Each function returns what both found and how long it took, or raises ImportError.
"""

from time import perf_counter

import numpy as np

from skff import ADSExplainer
from skff.saliency import shapley
from skff.saliency.fills import Conditional

ALPHA = 20.0  # penalty of the ridge regressions


def tiles(image_side, n_per_side):
    """Return the tile that each pixel belongs to, of shape (image_side, image_side)."""
    rows, columns = np.indices((image_side, image_side)) * n_per_side // image_side
    return rows * n_per_side + columns


def sage_values(model, X, y, labels, tolerance):
    """Compare Shapley values of accuracy with those of sage-importance, to the same tolerance.

    Both replace hidden pixels by their mean, and stop once the largest standard error is the share
    `tolerance` of the range of the values. sage draws samples as well as orders, with replacement,
    so that its standard error is one over samples too.
    """
    import sage

    start = perf_counter()
    explainer = ADSExplainer(model, groups=labels, fill="mean", engine="predict")
    params = {"method": "permutation", "tolerance": tolerance}
    own = shapley(explainer, X, y, random_state=0, **params)
    seconds = perf_counter() - start
    groups = [np.flatnonzero(labels.ravel() == tile) for tile in np.unique(labels)]
    means = X.mean(axis=0, dtype=np.float64).astype(X.dtype)
    imputer = sage.GroupedDefaultImputer(model.predict_proba, means, groups)
    estimator = sage.PermutationEstimator(imputer, random_state=0)
    estimator.loss_fn = sage.utils.ZeroOneLoss(reduction="none")  # which has no name in 0.0.6
    codes = np.searchsorted(model.classes_, y)
    start = perf_counter()
    found = estimator(X, codes, thresh=tolerance, bar=False)
    theirs = perf_counter() - start
    error = np.hypot(own.standard_error, found.std)
    z = np.abs(own.values - found.values)[error > 0] / error[error > 0]
    return {
        "question": f"Shapley values of {len(groups)} tiles beside sage",
        "correlation": float(np.corrcoef(own.values, found.values)[0, 1]),
        "root_mean_square_distance_in_standard_errors": float(np.sqrt(np.mean(z**2))),
        "largest_distance_in_standard_errors": float(z.max()),
        "their_time_over_ours": theirs / seconds,
        "their_largest_standard_error_over_ours": float(found.std.max() / own.standard_error.max()),
    }


def hidimstat_importance(model, X, y, labels, n_repeats):
    """Compare conditional drops with the conditional feature importance of hidimstat.

    Both draw residuals around a ridge regression on all pixels outside the tile.
    """
    from hidimstat import CFI
    from sklearn.linear_model import Ridge

    groups = _named_tiles(labels)
    found = CFI(
        model,
        loss=lambda y, labels: np.mean(y != labels),
        n_permutations=n_repeats,
        imputation_model_continuous=Ridge(ALPHA * X.var(axis=0).mean()),
        features_groups=groups,
        feature_types="continuous",
        random_state=0,
    )
    start = perf_counter()
    importances = found.fit_importance(X, y)
    seconds = perf_counter() - start
    draws = np.stack([found.loss_[tile] for tile in range(len(groups))])
    return _beside_draws("hidimstat", model, X, y, groups, importances, draws, seconds)


def fippy_importance(model, X, y, labels, n_repeats):
    """Compare conditional drops with fippy's, drawn from a normal distribution without penalty."""
    import pandas as pd
    from fippy import Explainer
    from fippy.samplers import GaussianSampler

    groups = _named_tiles(labels)
    frame = pd.DataFrame(X, columns=[f"x{k}" for k in range(X.shape[1])])
    columns = {name: [f"x{k}" for k in group] for name, group in groups.items()}
    start = perf_counter()
    explainer = Explainer(
        lambda X: model.predict(X.to_numpy()),
        frame,
        lambda y, labels: (y != labels).astype(float),
        GaussianSampler(frame),
    )
    scores = explainer.cfi(frame, y, n_repeats=n_repeats, features=columns).scores[0]
    seconds = perf_counter() - start
    draws = scores.mean(axis=1).T  # (n_tiles, n_repeats)
    return _beside_draws("fippy", model, X, y, groups, draws.mean(axis=1), draws, seconds)


def _named_tiles(labels):
    return {str(tile): np.flatnonzero(labels.ravel() == tile) for tile in np.unique(labels)}


def _beside_draws(name, model, X, y, groups, importances, draws, seconds):
    """Compare with our own drops by as many draws; their spread says what chance explains."""
    start = perf_counter()
    fill = Conditional(alpha=ALPHA, reach=None, residuals=True)
    params = {"fill": fill, "n_repeats": draws.shape[1], "engine": "predict", "random_state": 0}
    own = ADSExplainer(model, groups=groups, **params).explain(X, y).window_importances
    own_seconds = perf_counter() - start
    chance = np.sqrt(2 / draws.shape[1]) * draws.std(axis=1, ddof=1).max()
    return {
        "question": f"conditional drops of {len(groups)} tiles beside {name}",
        "correlation": float(np.corrcoef(own, importances)[0, 1]),
        "largest_drop": float(np.max(importances)),
        "largest_difference": float(np.abs(own - importances).max()),
        "largest_standard_error_of_a_difference": float(chance),
        "their_time_over_ours": seconds / own_seconds,
    }
