"""What each feature adds to the scores of trees: TreeSHAP, by LightGBM (`pred_contrib`).

Lundberg, Erion and Lee 2018, "Consistent individualized feature attribution for tree ensembles": the mean over all
orders in which features become known of what a feature changes, where a split on an unknown feature goes both ways in
the shares of the training rows. The terms of a row and the mean over the training rows add up to its score.
"""

import lightgbm as lgb
import numpy as np


class TreeTerms:
    """Of a booster for `features`. May be shared by threads.

    The booster is to be its own: `trees_scores` predicts with ranges of the trees of its one.
    """

    def __init__(self, booster: lgb.Booster, features: int) -> None:
        self._booster = booster
        self._features = features

    def __call__(self, X: np.ndarray, threads: int) -> np.ndarray:
        """Float64 `(rows, features + 1, outputs)`; `threads` 0: as many as there are cores."""
        rows = np.ascontiguousarray(X)
        found = np.asarray(self._booster.predict(rows, pred_contrib=True, num_threads=threads, verbosity=-1))
        outputs = self._booster.num_model_per_iteration()
        return np.ascontiguousarray(found.reshape(len(X), outputs, self._features + 1).transpose(0, 2, 1))
