"""Strong default candidates in a fixed order.

The order depends on the data alone, never on the clock: a time limit cuts the sequence, it does not change it. The
params are published defaults (AutoGluon's and FLAML's portfolios, LightGBM's tuning guide), varied on purpose: members
that err differently make the better ensemble.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from shardwise.core.candidate import Candidate
from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.core.schema import Feature, FeatureKind, copies
from shardwise.core.target import Target, Task
from shardwise.models.catboost import has_catboost, require_catboost
from shardwise.models.families import FAMILIES, NETWORKS
from shardwise.models.neural.model import has_torch, require_torch
from shardwise.models.spaces import idle_params

LARGE_ROWS = 100_000
CATBOOST_ROWS = 100_000
EARLY_ROWS, EARLY_FEATURES = 10_000, 100
NETWORK_ROWS = 100, 20_000
FEW_ROWS = 3_000  # below, a network comes right behind the first trees, and classes begin with random thresholds
SLOW_ROWS = 250_000  # rows x classes, from which a few hundred rounds take a minute
FIRST_ROUNDS = 300, 40  # of the first trees of several classes, and where these are slow
QUICK_NETWORK_ROWS = 50_000
WIDE_FEATURES = 1_000  # from which small trees on the strongest features come first
SCREENED = 300  # of them
QUICK_NETWORK: Mapping[str, object] = {"members": 1, "epochs": 15, "batch_rows": 256, "learning_rate": 0.02}
SMALL_NETWORK: Mapping[str, object] = {"members": 2, "epochs": 30, "batch_rows": 64}
FAST_TREES: Mapping[str, object] = {"learning_rate": 0.1, "num_leaves": 31, "reg_lambda": 5.0}
FIRST_OF_CLASSES: Mapping[str, object] = {
    "learning_rate": 0.1, "num_leaves": 12, "extra_trees": True, "min_child_samples": 5, "use_copies": False
}  # fmt: skip
QUICK_TREES: Mapping[str, object] = {**FAST_TREES, "n_estimators": 600}
SPARSE_FEATURES, SPARSE_ROWS = 20, 5  # from so many features, and one for so many rows, few of them may count
SPARSE = 0.25  # of the square root of log(features) / rows: the penalty with which noise alone gets few weights
COSTLY_CELLS = 20_000_000  # rows x features x classes from which few models are trained in minutes


@dataclass(frozen=True, kw_only=True)
class Default:
    """Params that are made for `rows` (at least, at most), and come `after` so many candidates of trees (None: after
    all), or `early` where the family is quick, see `Joining`."""

    rows: tuple[int, int]
    after: int | None = None
    early: int | None = None
    params: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Joining:
    """Where a family of an extra joins the others, without being named, because the extra is `installed`.

    For these `tasks`: those of its `defaults` that are made for so many training rows, in their order. On up to
    `early_rows` rows of up to `EARLY_FEATURES` numbers and flags they come `early`, for several classes where these do
    not slow it down (`several`). `memory_bytes`: only with so much memory for the run.
    """

    installed: Callable[[], bool]
    defaults: tuple[Default, ...]
    tasks: frozenset[Task] = frozenset(Task)
    early_rows: int = 0
    several: bool = False
    memory_bytes: int = 0

    def places(
        self, target: Target, features: Sequence[Feature], n_rows: int
    ) -> list[tuple[Mapping[str, object], int | None]]:
        """The defaults that are tried, each with the number of candidates of trees before it; None: after all."""
        if target.task not in self.tasks:
            return []
        twice = copies(features)
        own = [feature for feature in features if feature.name not in twice]
        numbers = {feature.kind for feature in own} <= {FeatureKind.NUMBER, FeatureKind.FLAG}
        quick = numbers and len(own) <= EARLY_FEATURES and (self.several or target.task is not Task.MULTICLASS)
        early = quick and n_rows <= self.early_rows
        fitting = (each for each in self.defaults if each.rows[0] <= n_rows <= each.rows[1])
        return [(each.params, each.early if early else each.after) for each in fitting]


JOINING: Mapping[str, Joining] = {
    "neural": Joining(
        installed=has_torch, early_rows=NETWORK_ROWS[1], several=True, memory_bytes=4 * 10**9,
        defaults=(
            Default(params=SMALL_NETWORK, rows=(NETWORK_ROWS[0], FEW_ROWS - 1), after=1, early=1),
            Default(params=QUICK_NETWORK, rows=(FEW_ROWS, QUICK_NETWORK_ROWS), after=4, early=1),
            Default(rows=(NETWORK_ROWS[0], FEW_ROWS - 1)),
            Default(rows=(FEW_ROWS, NETWORK_ROWS[1]), early=1),
        ),
        tasks=frozenset({Task.BINARY, Task.MULTICLASS, Task.REGRESSION}),
    ),
    "catboost": Joining(
        installed=has_catboost, defaults=(Default(rows=(0, CATBOOST_ROWS), early=1),), early_rows=EARLY_ROWS,
    ),
}  # fmt: skip

# Families that come only when they are asked for, after the others: their default candidates
ASKED: Mapping[str, tuple[Mapping[str, object], ...]] = {
    "forest": ({"num_leaves": 1024},),
    "adaboost": ({"num_leaves": 8},),
    "svm": ({"kernel": "linear"}, {"kernel": "rbf"}),
    **{family: ({},) for family in NETWORKS},
}


def portfolio(
    target: Target,
    features: Sequence[Feature],
    n_rows: int,
    families: Collection[str] = (),
    *,
    positive: bool = False,
    held: Mapping[str, Mapping[str, Any]] | None = None,
    extras: Collection[str] = (),
) -> list[Candidate]:
    """Candidates for `n_rows` training rows; `families` restricts them (the baseline is always there).

    The families of `ASKED` come only when they are asked for (docs/decisions/0012-neural.md and
    0024-forests-adaboost-svm.md), but for those of `JOINING`. Raises `ConfigError` for families that are not known,
    whose extra is not installed, or that do not learn such targets. Families of `JOINING` come where they are named,
    or, where none is, where they are in `extras` and rows are few (0012 and docs/decisions/0028-watching-training.md).

    `positive` says that no target is below 0, so that logarithms may be learned; `held` gives params of a family that
    all its candidates get.
    """
    check_families([*families, *(held or {})])
    logs, idle = positive and target.task is Task.REGRESSION, idle_params(features)
    network = not families and "neural" in extras and bool(JOINING["neural"].places(target, features, n_rows))
    trees = _trees(target, len(features), n_rows, logs=logs, network=network)
    ordered = [Candidate(family="trees", params=_without(params, idle)) for params in trees]
    small = _begins_small(target, n_rows)
    for place, params in _linear(len(features), n_rows, late=small and network).items():
        ordered.insert(place, Candidate(family="linear", params=params))
    for family, rule in JOINING.items():
        if family in families and family not in ASKED:
            ordered.append(Candidate(family=family))
        elif not families and family in extras:
            for own, after in rule.places(target, features, n_rows):
                _join(ordered, Candidate(family=family, params=own), after)
    if n_rows >= FEW_ROWS and not small:
        _quick_first(ordered)
    ordered += _asked(target, families)
    ordered = [with_held(candidate, held or {}) for candidate in ordered]
    unique = [candidate for i, candidate in enumerate(ordered) if candidate not in ordered[:i]]
    return [Candidate(family="baseline"), *(each for each in unique if not families or each.family in families)]


def _join(ordered: list[Candidate], candidate: Candidate, after: int | None) -> None:
    """Put it behind so many candidates of trees, None: behind all."""
    ordered.insert(len(ordered) if after is None else _places_of_trees(ordered)[after], candidate)


def _quick_first(ordered: list[Candidate]) -> None:
    """Trees of few rounds before a network that follows the first ones, which come after it then: so it has time. The
    like of many rounds is left out: mostly it would be the same."""
    first, second, *_ = [*_places_of_trees(ordered), len(ordered), len(ordered)]
    if any(candidate.family in NETWORKS for candidate in ordered[first:second]):
        ordered.insert(second, ordered[first])
        ordered[first] = Candidate(family="trees", params=QUICK_TREES)
        ordered[:] = [candidate for candidate in ordered if candidate.params != FAST_TREES]


def _places_of_trees(ordered: Sequence[Candidate]) -> list[int]:
    return [place for place, candidate in enumerate(ordered) if candidate.family == "trees"]


def joining(memory_bytes: int = 2**62) -> list[str]:
    """The families of `JOINING` whose extra is installed, and for which a run's memory suffices."""
    return [family for family, rule in JOINING.items() if rule.memory_bytes <= memory_bytes and rule.installed()]


def _asked(target: Target, families: Collection[str]) -> list[Candidate]:
    """Default candidates of the families of `ASKED` that are named."""
    able = sorted(name for name, family in FAMILIES.items() if target.task in family.traits.tasks)
    unable = sorted(set(families) & FAMILIES.keys() - set(able))
    if unable:
        names = ", ".join(unable)
        raise ConfigError(f"{names} models do not learn {target.task} targets", hint=f"Allowed: {', '.join(able)}.")
    require_families(families)
    named = [(family, defaults) for family, defaults in ASKED.items() if family in families]
    return [Candidate(family=family, params=params) for family, defaults in named for params in defaults]


def with_held(candidate: Candidate, held: Mapping[str, Mapping[str, Any]]) -> Candidate:
    """The candidate with the params that are held for its family."""
    return replace(candidate, params={**candidate.params, **held.get(candidate.family, {})})


def require_families(families: Collection[str]) -> None:
    """Raise `ConfigError` where the extra of one of the families is not installed."""
    if set(NETWORKS) & set(families):
        require_torch()
    if "catboost" in families:
        require_catboost()


def check_families(families: Iterable[str]) -> None:
    """Raise `ConfigError` for a family that is not known."""
    for family in families:
        if family not in FAMILIES:
            raise ConfigError(f"there is no model family {family!r}", hint=nearest(family, FAMILIES))


def _linear(n_features: int, n_rows: int, *, late: bool = False) -> dict[int, dict[str, object]]:
    """By their places: the default (`late`: behind a network that follows small trees), and where there are many
    features for the rows a sparse one before it; where they are more than the rows before all others, as trees see in
    noise what they look for.

    The penalty goes with the square root of log(features) / rows (Bickel, Ritov and Tsybakov 2009, "Simultaneous
    analysis of Lasso and Dantzig selector"); targets are scaled, so that it serves numbers and classes.

    >>> _linear(10_000, 800)
    {0: {'l1': 0.027}, 3: {}}
    """
    if n_features < max(SPARSE_FEATURES, n_rows / SPARSE_ROWS):
        return {1 + late: {}}
    l1 = SPARSE * math.sqrt(math.log(n_features) / max(n_rows, 1))
    return {int(n_features <= n_rows): {"l1": float(f"{l1:.2g}")}, 3: {}}


def _trees(target: Target, n_features: int, n_rows: int, *, logs: bool, network: bool) -> list[dict[str, object]]:
    """Those for the number of rows; before them one that is quick, where they are costly. `network`: one follows."""
    if n_rows >= LARGE_ROWS:
        trees = _large_trees()
    else:
        trees = _small_trees(logs=logs, two_classes=target.task is Task.BINARY)
        if n_rows < FEW_ROWS and target.task.is_classification:
            trees[:2] = trees[1::-1]
        if _begins_small(target, n_rows):
            trees.insert(0, {**FIRST_OF_CLASSES, **(_few_rounds(n_rows, target.outputs) if network else {})})
        elif n_rows * n_features * target.outputs >= COSTLY_CELLS:
            trees.insert(0, {"learning_rate": 0.1, "num_leaves": 31, "subsample": 0.7})
    if n_features >= WIDE_FEATURES:
        trees.insert(0, {"learning_rate": 0.1, "num_leaves": 8, "screen": SCREENED})
    return trees


def _begins_small(target: Target, n_rows: int) -> bool:
    """Whether small trees with random thresholds come first, as there are several classes and trees take long."""
    return target.task is Task.MULTICLASS and n_rows <= NETWORK_ROWS[1]


def _few_rounds(n_rows: int, classes: int) -> dict[str, object]:
    """Of the first trees where each round takes long, so that a network has its time."""
    return {"n_estimators": FIRST_ROUNDS[n_rows * classes >= SLOW_ROWS]} if n_rows >= FEW_ROWS else {}


def _small_trees(*, logs: bool, two_classes: bool) -> list[dict[str, object]]:
    """Plain trees first, then random thresholds and what errs differently; in the order in which they helped in
    cross-validation."""
    plain: dict[str, object] = {"learning_rate": 0.05, "num_leaves": 31, **({"reg_lambda": 1.0} if two_classes else {})}
    rest: list[dict[str, object]] = [
        {**plain, "learning_rate": 0.07 if two_classes else 0.05, "extra_trees": True, "min_child_samples": 5,
         "use_copies": False},
        {"learning_rate": 0.03, "num_leaves": 128, "feature_fraction": 0.7, "min_child_samples": 3, "subsample": 0.7,
         "reg_lambda": 1.0},
        dict(FAST_TREES),
        {"learning_rate": 0.03, "num_leaves": 64, "feature_fraction": 0.7, "min_child_samples": 10, "subsample": 0.8,
         "categorical": "ordinal", "use_copies": False},
        {"learning_rate": 0.04, "num_leaves": 50, "min_child_samples": 40, "subsample": 0.75, "feature_fraction": 0.6,
         "use_copies": False},
        {"learning_rate": 0.05, "num_leaves": 16, "feature_fraction": 0.5, "subsample": 0.7, "min_child_samples": 20,
         "reg_lambda": 3.0},
        {"learning_rate": 0.1, "num_leaves": 48, "extra_trees": True, "n_estimators": 1500, "min_child_samples": 10},
    ]  # fmt: skip
    if logs:
        rest.insert(2, {**plain, "target_transform": "log1p"})
    return [plain, *rest]


def _large_trees() -> list[dict[str, object]]:
    return [
        {"learning_rate": 0.1, "num_leaves": 127, "feature_fraction": 0.8, "min_child_samples": 40},
        {"learning_rate": 0.08, "num_leaves": 255, "feature_fraction": 0.7, "min_child_samples": 60,
         "categorical": "ordinal", "reg_lambda": 1.0},
        {"learning_rate": 0.05, "num_leaves": 31, "min_child_samples": 20, "use_copies": False},
        {"learning_rate": 0.05, "num_leaves": 31, "feature_fraction": 0.6, "subsample": 0.8, "categorical": "ordinal",
         "reg_lambda": 3.0},
        {"learning_rate": 0.05, "num_leaves": 127, "feature_fraction": 0.6, "min_child_samples": 40, "reg_lambda": 3.0},
        {"learning_rate": 0.08, "num_leaves": 96, "extra_trees": True, "min_child_samples": 20},
    ]  # fmt: skip


def _without(params: Mapping[str, object], names: Collection[str]) -> dict[str, object]:
    return {key: value for key, value in params.items() if key not in names}
