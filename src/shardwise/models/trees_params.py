"""The params of boosted trees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shardwise.core.errors import ConfigError
from shardwise.core.schema import Feature, FeatureKind, copies
from shardwise.models.params import check_choice, check_range


@dataclass(frozen=True, kw_only=True)
class TreesParams:
    """LightGBM's params under scikit-learn's names, and a few of our own.

    `n_estimators` is the most rounds; training ends when `early_stopping_rounds + patience * best round` rounds
    brought nothing. `categorical`: codes as categories (`native`) or as numbers (`ordinal`). `use_encoded=False`
    switches target encoded features off, `use_copies=False` the categories of few numbers (`core.schema.copies`).
    `objective` (regression only): `l2`, `l1` or `huber`; `target_transform="log1p"` (with `l2`) learns the logarithm of
    targets above -1. `stop_metric`: what early stopping watches, None for the task's loss. `monotone` maps
    columns of numbers to 1 (predictions never fall with them) or -1.
    """

    n_estimators: int = 5000
    learning_rate: float = 0.05
    num_leaves: int = 31
    max_depth: int = -1
    min_child_samples: int = 20
    min_split_gain: float = 0.0
    subsample: float = 1.0
    feature_fraction: float = 1.0
    reg_alpha: float = 0.0
    reg_lambda: float = 0.0
    extra_trees: bool = False
    max_bin: int = 255
    screen: int = 0
    cat_smooth: float = 10.0
    cat_l2: float = 10.0
    categorical: str = "native"
    use_encoded: bool = True
    use_copies: bool = True
    objective: str | None = None
    target_transform: str | None = None
    stop_metric: str | None = None
    monotone: Mapping[str, int] = field(default_factory=dict)
    early_stopping_rounds: int = 20
    patience: float = 0.15

    def __post_init__(self) -> None:
        check_range(self, n_estimators=(1, 1_000_000), num_leaves=(2, 131_072), max_depth=(-1, 1000))
        check_range(self, min_child_samples=(0, 2**31 - 1), max_bin=(2, 65_535), early_stopping_rounds=(1, 1_000_000))
        check_range(self, learning_rate=(1e-6, 10.0), subsample=(1e-6, 1.0), feature_fraction=(1e-6, 1.0))
        check_range(self, min_split_gain=(0.0, 1e30), reg_alpha=(0.0, 1e30), reg_lambda=(0.0, 1e30))
        check_range(self, screen=(0, 2**31 - 1))
        check_range(self, cat_smooth=(0.0, 1e30), cat_l2=(0.0, 1e30), patience=(0.0, 1e6))
        check_choice(self, "extra_trees", (False, True))
        check_choice(self, "use_encoded", (False, True))
        check_choice(self, "use_copies", (False, True))
        check_choice(self, "categorical", ("native", "ordinal"))
        check_choice(self, "target_transform", (None, "log1p"))
        if self.target_transform and self.objective not in (None, "l2"):
            raise ConfigError(
                f"target_transform={self.target_transform!r} does not go with objective={self.objective!r}",
                hint="Leave one of them out.",
            )


def unused(params: TreesParams, features: Sequence[Feature]) -> frozenset[str]:
    """Names of the features that are switched off."""
    encoded = frozenset(feature.name for feature in features if feature.kind is FeatureKind.ENCODED)
    return (frozenset() if params.use_encoded else encoded) | copies(features, used=params.use_copies)
