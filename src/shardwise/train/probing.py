"""Can the score be believed: cheap models on the profile's samples ask what the split hides, and whether features leak.

- Is the test like the training? A small model tells the rows of the test fold from the others (adversarial
  validation); its AUC is 0.5 where they are alike. Only of splits by time, group or given folds: at random it is so.
- What would a random split have said? A small model is scored on rows at random, and on later rows or new groups.
- Does the pipeline see the target? On a target that is permuted among the rows, features and a model of the same kind
  must tell nothing of rows that they were not learned from.

What is found is journalled; a run that goes on does not ask again. The features of test rows are looked at, their
target is not.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import lightgbm as lgb
import numpy as np
import pyarrow as pa
from scipy.special import ndtri

from shardwise.core.errors import DataError, RejectColumn
from shardwise.core.findings import Finding
from shardwise.core.seeds import derive_seed
from shardwise.core.target import Target
from shardwise.data.profile import Profile
from shardwise.features.base import FOLD, TARGET
from shardwise.features.recipe import Recipe
from shardwise.split.base import TEST, Splitter
from shardwise.split.given import ColumnSplitter
from shardwise.split.grouped import GroupSplitter
from shardwise.split.groups import small_power
from shardwise.split.probes import Labels, Probe, ranks, read_probe
from shardwise.split.temporal import TemporalSplitter, time_values
from shardwise.stats.hashes import hash_column, mix
from shardwise.stats.intervals import Interval, interval
from shardwise.stats.metrics import METRICS, Pairs
from shardwise.store.ledger import unit_key
from shardwise.train.run import FORMAT, Run
from shardwise.train.selection import quick_model

MOST_ROWS, MOST_COLUMNS = 10_000, 50
MOST_TEST_ROWS = MOST_ROWS // 2
LEAST_ROWS, LEAST_TEST_ROWS = 500, 50
PERMUTED_CELLS = 300_000  # rows x features x outputs of the permuted target's model
TOLD_APART = 0.7  # AUC from which the test is said to differ
TELLING = 0.2  # share of the gain from which a column is named
CHANCE = 0.001
SHOWN = 3
_CLASSIFIER = {
    "objective": "binary", "num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": 20, "max_bin": 63, "verbose": -1,
    "seed": 0, "num_threads": 1, "deterministic": True, "force_row_wise": True, "feature_fraction": 0.7,
}  # fmt: skip
Plan = Callable[[Profile, Mapping[int, Sequence[int]]], Recipe]


def probe(
    run: Run, target: Target, splitter: Splitter, *, opened: pa.Table, sealed: pa.Table, plan: Plan,
    ignore: Collection[str] = (),
) -> list[Finding]:  # fmt: skip
    """What the probes find. `opened` is a sample of rows outside the test, `sealed` one of the test; `plan` makes a
    recipe of a profile; `ignore` names columns that are no features."""
    key = unit_key(FORMAT, "probes", run.config.identity(), splitter.to_json(), opened.num_rows, sealed.num_rows)
    record = run.ledger.get(key)
    if record is None:
        with run.stage("leaks"):
            hidden = {target.column, *ignore, *splitter.columns} if _is_special(splitter) else {target.column, *ignore}
            found = [
                *told_apart(opened, sealed, splitter, hidden=hidden),
                *score_gap(opened, target, splitter, hidden=hidden),
                *permuted_target(opened, target, plan, seed=run.config.seed),
            ]
        record = {"findings": [finding.to_json() for finding in found]}
        run.ledger.put(key, record)
    return [Finding(**{**each, "columns": tuple(each["columns"])}) for each in record["findings"]]


def _is_special(splitter: Splitter) -> bool:
    return isinstance(splitter, TemporalSplitter | GroupSplitter | ColumnSplitter)


def _matrix(table: pa.Table, hidden: Collection[str]) -> tuple[np.ndarray, list[Probe]]:
    """Columns as numbers `(rows, columns)`, at most `MOST_COLUMNS`."""
    names = [name for name in table.column_names if name not in hidden]
    probes = [read_probe(name, table.column(name)) for name in names]
    kept = [each for each in probes if each is not None and each.distinct > 1][:MOST_COLUMNS]
    return np.stack([each.values for each in kept], axis=1) if kept else np.empty((len(table), 0)), kept


def told_apart(opened: pa.Table, sealed: pa.Table, splitter: Splitter, *, hidden: Collection[str]) -> Iterator[Finding]:
    """How well rows of the test fold are told from the others, and by which columns.

    Rows of both are drawn apart: of a large table a small test is a few rows of a sample.
    """
    tests = sealed.slice(0, MOST_TEST_ROWS)
    others = opened.slice(0, MOST_ROWS - tests.num_rows)
    if not _is_special(splitter) or tests.num_rows + others.num_rows < LEAST_ROWS:
        return
    table = pa.concat_tables([others, tests]).combine_chunks()
    batch = table.to_batches()[0]
    is_test = np.arange(table.num_rows) >= others.num_rows
    X, probes = _matrix(table, hidden)
    if not probes or min(is_test.sum(), (~is_test).sum()) < LEAST_TEST_ROWS:
        return
    score, importance = _adversarial(X, is_test, _halves(batch, splitter))
    auc = interval(METRICS["roc_auc"], Pairs(is_test.astype(np.float64), score, np.ones(len(score))))
    yield _apart(auc, importance, [each.name for each in probes], _which(splitter))


def _which(splitter: Splitter) -> str:
    if isinstance(splitter, TemporalSplitter):
        return ", which are later than all others,"
    return ", which are of other groups," if isinstance(splitter, GroupSplitter) else " that was given"


def _halves(batch: pa.RecordBatch, splitter: Splitter) -> np.ndarray:
    """Which half each row is in, `(rows,)`; groups are not torn apart: their rows would tell each other's fold."""
    if isinstance(splitter, GroupSplitter):
        return np.asarray(mix(hash_column(batch.column(splitter.group)), 3) % np.uint64(2)).astype(np.int64)
    return np.asarray(np.random.default_rng(derive_seed(0, "halves")).integers(0, 2, batch.num_rows))


def _adversarial(X: np.ndarray, is_test: np.ndarray, half: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores `(rows,)` of models that learned from the other half, and the columns' shares of the gain."""
    score, gain = np.zeros(len(X)), np.zeros(X.shape[1])
    for own in (0, 1):
        train = half != own
        if len(np.unique(is_test[train])) < 2:
            continue
        model = lgb.train(_CLASSIFIER, lgb.Dataset(X[train], is_test[train].astype(np.float64)), 50)
        score[half == own] = np.asarray(model.predict(X[half == own]))
        gain += model.feature_importance("gain")
    return score, gain / max(gain.sum(), 1e-300)


def _apart(auc: Interval, importance: np.ndarray, names: Sequence[str], which: str) -> Finding:
    order = np.argsort(-importance, kind="stable")[:SHOWN]
    columns = tuple(names[place] for place in order if importance[place] > TELLING)
    far = auc.low > TOLD_APART
    by = f", most of all by {', '.join(columns)}" if far and columns else ""
    text = (
        f"Rows of the test{which} are told from those of the training with an AUC of {auc.value:.3f} "
        f"({auc.low:.3f} to {auc.high:.3f}){by}."
    )
    hint = f"Columns that only tell the time or the group may be left out: --drop {','.join(columns)}." if by else ""
    evidence = {**auc.to_json(), "importance": {names[p]: round(float(importance[p]), 4) for p in order}}
    severity = "warning" if far else "info"
    return Finding(
        code="told_apart", severity=severity, text=text, columns=columns if far else (), evidence=evidence, hint=hint
    )


def score_gap(sample: pa.Table, target: Target, splitter: Splitter, *, hidden: Collection[str]) -> Iterator[Finding]:
    """What a small model scores on rows at random, and on later rows or new groups: what the split is for."""
    if not isinstance(splitter, TemporalSplitter | GroupSplitter):
        return
    table = sample.slice(0, 2 * MOST_ROWS)
    y = target.encode(table.column(target.column).combine_chunks())
    table, y = table.filter(pa.array(~np.isnan(y))).combine_chunks(), y[~np.isnan(y)]
    X, probes = _matrix(table, hidden)
    if len(y) < LEAST_ROWS or not probes:
        return
    labels, few = Labels.of(target, y, derive_seed(0, "gap")).heaviest()
    table, X = table.take(few).combine_chunks(), X[few]
    temporal = isinstance(splitter, TemporalSplitter)
    apart = _later(table, splitter) if temporal else _halves(table.to_batches()[0], splitter) == 1
    if len(few) < LEAST_ROWS or not apart.any() or apart.all():
        return
    mixed = np.random.default_rng(derive_seed(0, "mixed")).permutation(apart)
    scores = [small_power(X, labels, ~valid, valid) for valid in (mixed, apart)]
    where = "on rows later than those that it learned from" if temporal else "on groups that it has not seen"
    told = [labels.in_words(score) for score in scores]
    by = "time" if temporal else "group"
    text = f"A small model reaches {told[0]} on rows at random, and {told[1]} {where}: what the split by {by} is for."
    yield Finding(
        code="score_gap", severity="info", text=text, columns=splitter.columns[:1],
        evidence={"random": round(scores[0], 4), "apart": round(scores[1], 4), "gap": round(scores[0] - scores[1], 4)},
    )  # fmt: skip


def _later(table: pa.Table, splitter: Splitter) -> np.ndarray:
    """The third of the rows that is the latest, bool `(rows,)`; more, where so many have the latest time."""
    values = time_values(table.column(splitter.columns[0]))
    latest = np.nanquantile(values, 2 / 3)
    return np.asarray(values > latest) if (values > latest).any() else np.asarray(values >= latest)


def permuted_target(sample: pa.Table, target: Target, plan: Plan, *, seed: int) -> Iterator[Finding]:
    """Whether features and model tell a permuted target of rows that they were not learned from: then they see it."""
    y = target.encode(sample.column(target.column).combine_chunks())
    known = np.flatnonzero(~np.isnan(y))
    most = PERMUTED_CELLS // max(1, target.outputs * sample.num_columns)
    if min(len(known), most) < LEAST_ROWS:
        return
    rng = np.random.default_rng(derive_seed(seed, "permuted"))
    rows = known[:most]
    shuffled = rng.permutation(rows)
    place = sample.column_names.index(target.column)
    table = sample.take(pa.array(rows))
    table = table.set_column(place, target.column, sample.column(target.column).take(pa.array(shuffled)))
    try:
        X, folds = _features(table, y[shuffled], plan, rng)
    except (DataError, RejectColumn) as error:
        yield _not_looked_at(error)
        return
    train, valid = folds != 2, folds == 2
    if len(np.unique(y[shuffled][train])) < 2:
        return
    predicted = np.asarray(quick_model(X[train], y[shuffled][train], target).predict(X[valid]))
    z, chance = _rank_test(predicted, y[shuffled][valid], target)
    if z > chance:
        text = (
            f"On a permuted target the features still tell more than chance explains (z = {z:.1f} of rank correlation "
            f"on {int(valid.sum()):,} rows): a feature sees the target of its own row."
        )
        hint = "Look at --aggregate and columns made from the target; please report it where there are none."
        yield Finding(code="permuted_target", severity="leak", text=text, evidence={"z": round(z, 2)}, hint=hint)


def _not_looked_at(error: Exception) -> Finding:
    """A sample may have too little of what all rows have enough of."""
    text = f"Whether the pipeline sees a permuted target was not looked at, as a sample makes no recipe: {error}"
    return Finding(code="permuted_target", severity="info", text=text)


def _features(table: pa.Table, y: np.ndarray, plan: Plan, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """The pipeline's features, and folds 0, 1 (which train) and 2, whose targets no feature has seen."""
    folds = rng.integers(0, 3, len(y)).astype(np.int8)
    batch = table.combine_chunks().to_batches()[0]
    profile = Profile(table.schema)
    profile.update(batch)
    recipe = plan(profile, {0: (1, 2), 1: (0, 2), 2: (0, 1), TEST: (0, 1, 2)})
    summaries = recipe.summaries()
    labelled = batch.append_column(TARGET, pa.array(y)).append_column(FOLD, pa.array(folds, pa.int8()))
    for summary in summaries.values():
        summary.update(labelled)
    recipe.fit(summaries)
    return recipe.transform(batch, folds=folds, hidden=(2,)), folds


def _rank_test(predicted: np.ndarray, y: np.ndarray, target: Target) -> tuple[float, float]:
    """The largest z of a rank correlation of a prediction with what it predicts, and what chance may reach."""
    goals = [(predicted, y)]
    if predicted.ndim == 2:
        goals = [(predicted[:, k], (y == k).astype(np.float64)) for k in range(target.outputs) if (y == k).any()]
    found = [_correlation(ranks(score), ranks(goal)) * np.sqrt(len(y) - 1) for score, goal in goals]
    return max(found), -float(ndtri(CHANCE / len(found)))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0
