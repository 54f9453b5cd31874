"""Meta-features: a few numbers that describe a task, all of them from the profile that is there anyway."""

import math

import numpy as np

from shardwise.core.schema import FeatureKind
from shardwise.train.prepare import Prepared


def meta_features(prepared: Prepared) -> dict[str, float]:
    """By name: size and shape, kinds of features, missing cells, and how the target is distributed."""
    features = prepared.recipe.features
    width = max(1, len(features))
    profile, target = prepared.opened, prepared.target
    cells = max(1, profile.rows * max(1, len(profile.columns)))
    found = {
        "log_rows": math.log10(max(1, prepared.train_rows)),
        "log_features": math.log10(width),
        "codes": sum(feature.kind is FeatureKind.CODE for feature in features) / width,
        "encoded": sum(feature.kind is FeatureKind.ENCODED for feature in features) / width,
        "flags": sum(feature.kind is FeatureKind.FLAG for feature in features) / width,
        "missing": sum(column.null_cells for column in profile.columns.values()) / cells,
        "classification": float(target.task.is_classification),
        "log_outputs": math.log10(max(1, target.outputs)),
        **_of_target(prepared),
    }
    return {name: round(value, 4) for name, value in sorted(found.items())}


def _of_target(prepared: Prepared) -> dict[str, float]:
    """Of classes the entropy, as a share of what it can be; of numbers how far the tails reach."""
    column = prepared.opened.columns[prepared.target.column]
    sample = prepared.target.encode(prepared.opened.sample().column(prepared.target.column).combine_chunks())
    y = sample[np.isfinite(sample)]
    if not len(y):
        return {}
    if prepared.target.task.is_classification:
        shares = np.unique(y, return_counts=True)[1] / len(y)
        return {"balance": float(-(shares * np.log(shares)).sum() / math.log(max(2, len(shares))))}
    low, middle, high = np.quantile(y, (0.05, 0.5, 0.95))
    spread = max(float(high - low), 1e-12)
    distinct = min(1.0, len(np.unique(y)) / len(y)) if column.count else 0.0
    return {"skewness": float((high + low - 2 * middle) / spread), "distinct": distinct}
