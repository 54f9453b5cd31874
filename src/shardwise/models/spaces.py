"""The search space that each model family declares: types, ranges, conditions, defaults, and what a value costs.

Ranges are those of AutoGluon's and FLAML's searches and of LightGBM's tuning guide. A `cost` is the exponent by which
the seconds of a fit grow with a value, as the laws of `plan.training` have it: rounds go with 1 / learning rate,
histograms with rows and features, trees with leaves. What is searched of networks is how they learn, not how large they
are: it may change while they learn.
"""

from collections.abc import Collection, Sequence

from shardwise.core.schema import Feature, FeatureKind, copies
from shardwise.core.space import Choice, Float, Int, Space

_NETWORK: Space = {
    "learning_rate": Float(1e-3, 3e-2, log=True, default=1e-2),
    "weight_decay": Float(1e-3, 0.3, log=True, default=1e-2),
    "dropout": Float(0.0, 0.5, default=0.1),
}
_BEHIND_TRUNK: Space = {"learning_rate": Float(5e-4, 1e-2, log=True, default=3e-3)}
SPACES: dict[str, Space] = {
    "trees": {
        "learning_rate": Float(0.02, 0.15, log=True, default=0.05, cost=-0.8),
        "num_leaves": Int(12, 255, log=True, default=31, cost=0.4),
        "min_child_samples": Int(3, 150, log=True, default=20),
        "feature_fraction": Float(0.4, 1.0, default=1.0, cost=0.8),
        "subsample": Float(0.6, 1.0, default=1.0, cost=0.6),
        "reg_alpha": Float(1e-3, 10.0, log=True, default=0.0),
        "reg_lambda": Float(1e-3, 30.0, log=True, default=0.0),
        "extra_trees": Choice((False, False, True), default=False),
        "categorical": Choice(("native", "ordinal"), default="native"),
        "cat_smooth": Float(1.0, 100.0, log=True, default=10.0, when=("categorical", ("native",))),
        "use_encoded": Choice((True, True, False), default=True),
        "use_copies": Choice((True, False), default=True),
    },
    "forest": {
        "num_leaves": Int(64, 4096, log=True, default=1024, cost=0.4),
        "min_child_samples": Int(1, 50, log=True, default=1),
        "max_features": Float(0.1, 1.0, default=0.5, cost=0.3),
        "subsample": Float(0.3, 1.0, default=0.632, cost=0.8),
        "reg_lambda": Float(0.01, 10.0, log=True, default=0.1),
        "categorical": Choice(("ordinal", "native"), default="ordinal"),
        "use_encoded": Choice((True, True, False), default=True),
    },
    "adaboost": {
        "learning_rate": Float(0.05, 1.0, log=True, default=0.2, cost=-0.8),
        "num_leaves": Int(2, 64, log=True, default=8, cost=0.4),
        "min_child_samples": Int(3, 150, log=True, default=20),
        "subsample": Float(0.5, 1.0, default=1.0, cost=0.6),
        "categorical": Choice(("native", "ordinal"), default="native"),
        "use_encoded": Choice((True, True, False), default=True),
    },
    "catboost": {
        "learning_rate": Float(0.02, 0.2, log=True, default=0.06, cost=-0.8),
        "max_depth": Int(4, 8, default=6, cost=0.8),
        "reg_lambda": Float(0.3, 30.0, log=True, default=3.0),
        "random_strength": Float(0.1, 10.0, log=True, default=1.0),
        "feature_fraction": Float(0.4, 1.0, default=1.0, cost=0.8),
        "one_hot_max_size": Choice((10, 2, 30, 255), default=10),
        "use_encoded": Choice((False, False, True), default=False),
    },
    "svm": {
        "kernel": Choice(("linear", "rbf"), default="linear"),
        "gamma": Float(0.03, 3.0, log=True, default=0.5, when=("kernel", ("rbf",))),
        "n_components": Int(128, 4096, log=True, default=1024, when=("kernel", ("rbf",)), cost=0.9),
        "l2": Float(1e-7, 1e-2, log=True, default=1e-5),
    },
    "linear": {
        "l1": Float(1e-7, 1e-1, log=True, default=1e-6),
        "l2": Float(1e-7, 1e-1, log=True, default=1e-5),
    },
    "neural": _NETWORK,
    "cnn": {**_NETWORK, **_BEHIND_TRUNK},
    "rnn": {**_NETWORK, **_BEHIND_TRUNK, "dropout": Float(0.0, 0.5, default=0.3)},
}


def idle_params(features: Sequence[Feature]) -> frozenset[str]:
    """Params of trees that none of the features would heed.

    >>> sorted(idle_params([Feature(name="age", source="age", kind=FeatureKind.NUMBER)]))
    ['cat_smooth', 'categorical', 'use_copies', 'use_encoded']
    """
    kinds = {feature.kind for feature in features}
    heeded = {
        "categorical": FeatureKind.CODE in kinds,
        "cat_smooth": FeatureKind.CODE in kinds,
        "use_encoded": FeatureKind.ENCODED in kinds,
        "use_copies": bool(copies(features)),
    }
    return frozenset(name for name, is_heeded in heeded.items() if not is_heeded)


def spaces_for(families: Collection[str] = (), without: Collection[str] = ()) -> dict[str, Space]:
    """The spaces of the `families` (all that have one, if none is named), `without` some params.

    >>> sorted(spaces_for(["linear"])["linear"])
    ['l1', 'l2']
    """
    return {
        family: {name: dimension for name, dimension in space.items() if name not in without}
        for family, space in SPACES.items()
        if not families or family in families
    }
