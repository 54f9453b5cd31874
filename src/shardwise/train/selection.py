"""Features that tell nothing are dropped before the rows are encoded, on the evidence of the profile's sample.

Copies, which order the rows as an earlier feature does and tell nothing beside it, always go. For the others
`features.select` has tests; here a quick model of trees on half of the sample tells the importance of each feature on
the other half, and the other way round. Where that model sees little, it tells little about what is useless, and only
copies go: it must be no worse without what would go, and importances must stand out from those of shadows. The work is
bounded: some seconds on two cores, whatever the data.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
from scipy.special import xlogy

from shardwise.compute.ceiling import cpu_quota
from shardwise.core.findings import Finding
from shardwise.core.seeds import derive_seed
from shardwise.core.target import Target, Task
from shardwise.features.recipe import Recipe
from shardwise.features.select import Evidence, copies, informations
from shardwise.split.base import Splitter
from shardwise.store.ledger import unit_key
from shardwise.train.run import FORMAT, Run

LEAST_ROWS = 1_000  # of the sample: below, chance decides
MOST_CELLS = 3_000_000  # rows x features x outputs of the quick model
SCORED_CELLS = 8_000  # rows x outputs that are predicted for each feature
MOST_STEPS = 40_000_000  # rows x trees that are predicted in all: about two seconds on two cores
LEAST_SCORED = 300
LEAST_SIGNAL = 25.0  # all importances together, in those of the best shadow: below, rows decide that the sample lacks
FEW_CELLS = 400_000  # below, the halves are drawn `REPEATS` times, as chance weighs more
REPEATS = 2
LEAST_SHARE = 0.2  # of all features: models ignore fewer by themselves, and dropping them cost up to 0.8 % of the loss
SHADOWS = 40
MARGIN = 1.5  # by which importance has to pass that of the best shadow
ROUNDS = 40
LEAST_ROUNDS = 5
MOST_TREES = 400  # of a quick model: of many classes it has fewer rounds
MANY_TREES_BINS = 63  # of several classes: fewer bins halve the time, as a tree has hardly more rows than bins
SHOWN = 12
_OBJECTIVES = {
    Task.BINARY: "binary", Task.MULTICLASS: "multiclass", Task.COUNT: "poisson", Task.REGRESSION: "regression",
    Task.QUANTILE: "regression",
}  # fmt: skip


def select_features(
    run: Run, recipe: Recipe, sample: pa.Table, target: Target, splitter: Splitter
) -> tuple[Recipe, tuple[Finding, ...]]:
    """The recipe without the steps whose features all tell nothing, and what is told of it; journalled as a unit.

    Columns with a monotone constraint stay.
    """
    mode = run.config.select
    if mode == "none":
        return recipe, ()
    key = unit_key(FORMAT, "select", mode, run.config.seed, [str(step) for step in recipe.features], splitter.to_json())
    record = run.ledger.get(key)
    if record is None:
        with run.stage("select"):
            record = {"reasons": reasons(recipe, sample, target, splitter, mode=mode, seed=run.config.seed)}
        run.ledger.put(key, record)
    constrained = run.config.params.get("trees", {}).get("monotone", {})
    dropped = {name: why for name, why in record["reasons"].items() if name not in constrained}
    if not dropped:
        return recipe, ()
    smaller = recipe.without(dropped)
    kept = {feature.name for feature in smaller.features}  # a step with one useful feature keeps all of its own
    gone = {name: why for name, why in dropped.items() if name not in kept}
    return smaller, (_finding(gone, len(recipe.features)),) if gone else ()


def selected(recipe: Recipe, sample: pa.Table, target: Target, splitter: Splitter, *, mode: str, seed: int) -> Recipe:
    """What `select_features` leaves, without a run."""
    if mode == "none":
        return recipe
    return recipe.without(reasons(recipe, sample, target, splitter, mode=mode, seed=seed))


def _finding(dropped: Mapping[str, str], features: int) -> Finding:
    shown = "; ".join(f"{name}: {why}" for name, why in list(dropped.items())[:SHOWN])
    more = f" and {len(dropped) - SHOWN} more" if len(dropped) > SHOWN else ""
    return Finding(
        code="selected", severity="info", columns=tuple(dropped), evidence={"reasons": dict(dropped)},
        text=f"{len(dropped)} of {features} features are dropped: {shown}{more}.",
        hint="Keep them all with --select none.",
    )  # fmt: skip


def reasons(
    recipe: Recipe, sample: pa.Table, target: Target, splitter: Splitter, *, mode: str, seed: int
) -> dict[str, str]:
    """Why features are dropped, by name; none where the sample is too small or nothing would be left, and copies alone
    where few would go."""
    cells = max(1, len(recipe.features) * target.outputs)
    if mode == "auto" and MOST_CELLS // cells < LEAST_ROWS:
        return {}
    rows, y = labelled_rows(sample, target, max(LEAST_ROWS, MOST_CELLS // cells))
    if len(rows) < LEAST_ROWS:
        return {}
    batch = sample.take(pa.array(rows)).combine_chunks().to_batches()[0]
    X = recipe.transform(batch, folds=splitter.assign(batch, 0))
    evidence = measure(X, y, target, seed)
    names = [feature.name for feature in recipe.features]
    useless = _useless(evidence, mode, X, (y, target, seed))
    useless &= np.array([not feature.place for feature in recipe.features], dtype=bool)  # a grid has no holes
    return {names[place]: evidence.says(place, names) for place in np.flatnonzero(useless).tolist()}


def labelled_rows(sample: pa.Table, target: Target, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `most` rows of a sample that have a target, and the targets `(rows,)`; none where all have the same.

    Numbers that are no counts are told in their standard deviation from their mean: no test depends on their unit.
    """
    y = target.encode(sample.column(target.column).combine_chunks()) if sample.num_rows else np.zeros(0)
    rows = np.flatnonzero(np.isfinite(y))[:most]
    if len(np.unique(y[rows])) < 2:
        return rows[:0], y[:0]
    y = y[rows]
    return rows, (y - y.mean()) / y.std() if target.task in (Task.REGRESSION, Task.QUANTILE) else y


def _useless(evidence: Evidence, mode: str, X: np.ndarray, how: tuple[np.ndarray, Target, int]) -> np.ndarray:
    """Bool `(features,)`: what goes. Copies always do: they only take time; the others where enough speaks for it."""
    copies_of = evidence.copy_of >= 0
    useless: np.ndarray = evidence.useless(mode) | copies_of
    if useless.all():
        return np.zeros_like(useless)
    if mode != "auto":
        return useless
    weak = evidence.importance.clip(0.0).sum() < LEAST_SIGNAL * evidence.shadow
    if weak or useless.mean() < LEAST_SHARE or not _no_worse_without(useless, X, *how):
        return copies_of
    return useless


def _no_worse_without(useless: np.ndarray, X: np.ndarray, y: np.ndarray, target: Target, seed: int) -> bool:
    """Whether the quick model, trained on one half and scored on the other, loses nothing without these features."""
    half = np.random.default_rng(derive_seed(seed, "without")).permutation(len(y)) % 2 == 0

    def loss(case: tuple[np.ndarray, np.ndarray]) -> float:
        train, part = case
        model = quick_model(part[train], y[train], target)
        return quick_loss(y[~train], model.predict(part[~train], num_threads=1), target)

    fewer = X[:, ~useless]
    with ThreadPoolExecutor(cpu_quota()) as threads:
        first, second, without_first, without_second = threads.map(
            loss, ((half, X), (~half, X), (half, fewer), (~half, fewer))
        )
    return (without_first - first) + (without_second - second) <= 0.0


def measure(X: np.ndarray, y: np.ndarray, target: Target, seed: int) -> Evidence:
    """All tests of the features `X` `(rows, features)`."""
    found, noise = informations(X, y, derive_seed(seed, "information"), classes=target.task.is_classification)
    importance, shadow = importances(X, y, target, derive_seed(seed, "importance"))
    copy_of, beside = copies(X, y, derive_seed(seed, "copies"), classes=target.task.is_classification)
    return Evidence(
        information=found, noise=noise, importance=importance, shadow=shadow, copy_of=copy_of, beside=beside
    )


def importances(X: np.ndarray, y: np.ndarray, target: Target, seed: int) -> tuple[np.ndarray, float]:
    """Rise of the loss `(features,)` on rows that were not trained on when a feature is put in another order, as a
    share of the loss; and the largest one of the shadows, with a margin."""
    rng = np.random.default_rng(seed)
    origin = rng.choice(X.shape[1], SHADOWS, replace=X.shape[1] < SHADOWS)
    wide = np.column_stack([X, *(rng.permutation(X[:, feature]) for feature in origin)])
    repeats = REPEATS if X.size * target.outputs < FEW_CELLS else 1
    models = 2 * repeats
    most = MOST_STEPS // (models * wide.shape[1] * _rounds(target) * target.outputs)
    scored = max(LEAST_SCORED, min(max(1_000, SCORED_CELLS // target.outputs), most))
    total = np.zeros(wide.shape[1])
    for _ in range(repeats):
        half = rng.permutation(len(y)) % 2 == 0
        with ThreadPoolExecutor(cpu_quota()) as threads:
            learned = list(threads.map(lambda part: quick_model(wide[part], y[part], target), (half, ~half)))
        for model, other in zip(learned, (~half, half), strict=True):
            total += _rises(model, (wide[other][:scored], y[other][:scored]), (target, rng))
    total /= models
    return total[: X.shape[1]], MARGIN * max(0.0, float(total[X.shape[1] :].max()))


def _rises(
    model: lgb.Booster, scored: tuple[np.ndarray, np.ndarray], how: tuple[Target, np.random.Generator]
) -> np.ndarray:
    """Of a model, on the scored rows."""
    target, rng = how
    used = np.flatnonzero(model.feature_importance("split")).tolist()
    rows, labels = scored
    orders = {feature: rng.permutation(len(rows)) for feature in used}  # drawn before threads take turns
    base = quick_loss(labels, model.predict(rows, num_threads=1), target)

    def rise(feature: int) -> float:
        changed = rows.copy()
        changed[:, feature] = rows[orders[feature], feature]
        return (quick_loss(labels, model.predict(changed, num_threads=1), target) - base) / max(base, 1e-12)

    rises = np.zeros(rows.shape[1])
    with ThreadPoolExecutor(cpu_quota()) as threads:
        rises[used] = list(threads.map(rise, used))
    return rises


def _rounds(target: Target) -> int:
    return max(LEAST_ROUNDS, min(ROUNDS, MOST_TREES // target.outputs))


def quick_model(X: np.ndarray, y: np.ndarray, target: Target, rounds: int | None = None) -> lgb.Booster:
    """A quick gradient boosting for `y` `(rows,)`: of classes its predictions are probabilities."""
    params: dict[str, Any] = {
        "objective": _OBJECTIVES[target.task], "learning_rate": 0.1, "num_leaves": 31, "feature_fraction": 0.7,
        "min_data_in_leaf": 20, "verbosity": -1, "deterministic": True, "force_row_wise": True, "num_threads": 1,
        "seed": 1,
    }  # fmt: skip
    if target.task is Task.COUNT and not y.any():
        params["objective"] = "regression"  # of nothing but zeros no Poisson model is learned
    if target.task is Task.MULTICLASS:
        params |= {"num_class": len(target.classes), "max_bin": MANY_TREES_BINS}
    return lgb.train(params, lgb.Dataset(X, y, params=params), num_boost_round=rounds or _rounds(target))


def quick_loss(y: np.ndarray, predicted: Any, target: Target) -> float:
    """Mean logarithmic loss, Poisson deviance, or squared error."""
    predicted = np.asarray(predicted)
    if target.task is Task.COUNT:
        mean = np.maximum(predicted, 1e-12)
        return float(2.0 * np.mean(xlogy(y, y / mean) - (y - mean)))
    if not target.task.is_classification:
        return float(np.mean((y - predicted) ** 2))
    right = (
        predicted[np.arange(len(y)), y.astype(np.int64)]
        if predicted.ndim == 2
        else np.where(y, predicted, 1 - predicted)
    )
    return float(-np.log(np.maximum(right, 1e-12)).mean())
