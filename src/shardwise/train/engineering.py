"""Features of two columns that pay: proposed by the splits of a quick model, kept only on evidence from other rows.

Half of the profile's sample proposes: pairs of columns that follow each other in the trees of a quick model, and that
order the rows alike, so that no tree sees their difference; each by a
few operations (`features.combine`); of all of them together those with the most gain beside the columns that are there
already. The other half judges: the quick model with and without them, trained on all but a fold of that half and scored
on it. They are kept where the loss falls by `LEAST_GAIN` of itself and more than chance would give (a paired test over
folds with the variance of Nadeau and Bengio 2003, "Inference for the generalization error", Machine Learning 52).

| notation | meaning                                                                     |
|----------|-----------------------------------------------------------------------------|
| d        | fall of the loss on each fold, as a share of it                             |
| t        | mean(d) / sqrt(var(d) (1 / folds + rows of a fold / rows that were trained)) |

The work is bounded whatever the data: two dozen quick models on at most `MOST_CELLS` cells, three to eight CPU seconds.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa

from shardwise.core.errors import RejectColumn
from shardwise.core.findings import Finding
from shardwise.core.seeds import derive_seed
from shardwise.core.target import Target
from shardwise.features.base import Transformer
from shardwise.features.combine import OPERATIONS, Arithmetic, ByCategory, Cross
from shardwise.features.recipe import Recipe
from shardwise.features.select import alike
from shardwise.split.base import Splitter
from shardwise.store.ledger import unit_key
from shardwise.train.run import FORMAT, Run
from shardwise.train.selection import labelled_rows, quick_loss, quick_model

LEAST_ROWS = 2_000  # of the sample: below, chance decides
MOST_CELLS = 1_500_000  # rows x features x outputs of a quick model
MOST_PAIRS = 24  # of columns that are tried
MOST_ALIKE = 6  # and that order the rows alike
MOST_KEPT = 8
STRONG = 5  # columns of the most gain, which are paired in any case
FOLDS = 10
LEAST_GAIN = 0.002  # of the loss
JUDGED_ROUNDS = 150  # a model of few rounds gains by whatever makes it learn faster
LEAST_JUDGED = 30  # rounds
MOST_TREES = 1_500  # of a model that judges: of many classes it has fewer rounds
SURE = 1.83  # t, one side at 5 % with 9 degrees of freedom

Step = tuple[str, Transformer]
Matrix = np.ndarray


def engineer_features(
    run: Run, recipe: Recipe, sample: pa.Table, target: Target, splitter: Splitter
) -> tuple[Recipe, tuple[Finding, ...]]:
    """The recipe with features of two columns that pay, and what is told of them; journalled as a unit."""
    if run.config.engineer == "none":
        return recipe, ()
    key = unit_key(FORMAT, "engineer", run.config.seed, [str(step) for step in recipe.features], splitter.to_json())
    record = run.ledger.get(key)
    if record is None:
        with run.stage("engineer"):
            steps, verdict = search(recipe, sample, target, splitter, run.config.seed)
            record = {"steps": [{"kind": kind, "content": step.state()} for kind, step in steps], **verdict}
        run.ledger.put(key, record)
    more = recipe.extended(record["steps"])
    return more, (_finding(recipe, more, record),) if record["steps"] else ()


def _finding(before: Recipe, after: Recipe, record: Mapping[str, Any]) -> Finding:
    names = [feature.name for feature in after.features[len(before.features) :]]
    evidence = {name: record[name] for name in ("tried", "gain", "t")}
    added = f"{len(names)} of {record['tried']} features of two columns are added: {'; '.join(names)}."
    judged = f"With them a quick model loses {record['gain']:.1%} less on rows that had no say (t = {record['t']:.1f})."
    return Finding(
        code="engineered", severity="info", columns=tuple(names), evidence=evidence, text=f"{added} {judged}",
        hint="Leave them out with --engineer none.",
    )  # fmt: skip


def search(
    recipe: Recipe, sample: pa.Table, target: Target, splitter: Splitter, seed: int
) -> tuple[list[Step], dict[str, Any]]:
    """The steps to add, and the evidence: `tried` features, `gain` as a share of the loss, `t`."""
    nothing: dict[str, Any] = {"tried": 0, "gain": 0.0, "t": 0.0}
    rows, y = labelled_rows(sample, target, MOST_CELLS // max(1, len(recipe.features) * target.outputs))
    if len(rows) < LEAST_ROWS:
        return [], nothing
    table = sample.take(pa.array(rows)).combine_chunks()
    batch = table.to_batches()[0]
    X = recipe.transform(batch, folds=splitter.assign(batch, 0))
    order = np.random.default_rng(derive_seed(seed, "engineer")).permutation(len(y))
    proposing, judging = order[: len(y) // 2], order[len(y) // 2 :]
    pairs = _proposals(recipe, X[proposing], y[proposing], target)
    tried = list(_planned(pairs, table.take(pa.array(proposing)), _kinds(recipe)))
    if not tried:
        return [], nothing
    C = np.column_stack([_written(step, batch) for _, step in tried])
    chosen = _screened(X[proposing], C[proposing], y[proposing], target)
    gain, t = _judged(_Case(X, C[:, chosen], y, target), proposing, judging)
    verdict = {"tried": len(tried), "gain": round(gain, 5), "t": round(t, 2)}
    kept = chosen if gain >= LEAST_GAIN and t >= SURE else []
    return [tried[place] for place in kept], verdict


def _written(step: Transformer, batch: pa.RecordBatch) -> Matrix:
    out = np.empty((batch.num_rows, 1), np.float32)
    step.transform(batch, out)
    return out


# -- proposals --------------------------------------------------------------------------------------------------------


def _proposals(recipe: Recipe, X: Matrix, y: np.ndarray, target: Target) -> list[tuple[str, str]]:
    """Pairs of columns by falling gain of splits that follow each other; an empty second one: a column alone."""
    model = quick_model(X, y, target)
    sources = [feature.source for feature in recipe.features]
    strength: dict[str, float] = defaultdict(float)
    for source, gain in zip(sources, model.feature_importance("gain").tolist(), strict=True):
        strength[source] += gain
    together: dict[tuple[str, str], float] = defaultdict(float)
    for parent, child, gain in _following(model):
        if sources[parent] != sources[child]:
            first, second = sorted((sources[parent], sources[child]))
            together[first, second] += gain
    strong = sorted(strength, key=lambda source: (-strength[source], source))[:STRONG]
    ranked = sorted(together, key=lambda pair: (-together[pair], pair))[:MOST_PAIRS]
    pairs = list(combinations(sorted(strong), 2))
    return list(dict.fromkeys([*_alike(sources, X), *ranked, *pairs, *((source, "") for source in strong)]))


def _alike(sources: Sequence[str], X: Matrix) -> list[tuple[str, str]]:
    """Pairs of columns whose features order the rows alike."""
    named = [(sources[other], sources[place]) for place, others in enumerate(alike(X)) for other in others]
    pairs = dict.fromkeys((min(pair), max(pair)) for pair in named if pair[0] != pair[1])
    return list(pairs)[:MOST_ALIKE]


def _following(model: lgb.Booster) -> Iterable[tuple[int, int, float]]:
    """(feature of a split, feature of a split below it, its gain) over all trees."""
    for tree in model.dump_model()["tree_info"]:
        waiting = [tree["tree_structure"]]
        while waiting:
            node = waiting.pop()
            for child in (node.get("left_child"), node.get("right_child")):
                if child is not None and "split_feature" in child:
                    yield node["split_feature"], child["split_feature"], child["split_gain"]
                    waiting.append(child)


def _planned(pairs: Iterable[tuple[str, str]], sample: pa.Table, kinds: Mapping[str, set[str]]) -> Iterable[Step]:
    """All that can be made of the pairs, each thing once."""
    for first, second in pairs:
        for kind, plan in _plans(first, second, kinds):
            try:
                yield kind, plan(sample)
            except RejectColumn:
                continue  # as of a column: there is too little to make a feature of


def _kinds(recipe: Recipe) -> dict[str, set[str]]:
    """Which transformers read each column alone."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for name, (step, _, _) in zip(recipe.kinds, recipe.steps, strict=True):
        if len(step.reads) == 1:
            kinds[step.reads[0]].add(name)
    return kinds


def _plans(
    first: str, second: str, kinds: Mapping[str, set[str]]
) -> Iterable[tuple[str, Callable[[pa.Table], Transformer]]]:
    is_number = {column: "number" in kinds[column] for column in (first, second) if column}
    is_category = {column: bool(kinds[column] & {"category", "encoding"}) for column in is_number}
    if not second:
        if is_category[first]:
            yield "by_category", partial(ByCategory.plan, (first,))
        return
    if is_number[first] and is_number[second]:
        for operation in OPERATIONS:
            yield "arithmetic", partial(Arithmetic.plan, operation, (first, second))
    if is_category[first] and is_category[second]:
        yield "cross", partial(Cross.plan, (first, second))
    for category, number in ((first, second), (second, first)):
        if is_category[category] and is_number[number]:
            yield "by_category", partial(ByCategory.plan, (category, number))


# -- evidence ---------------------------------------------------------------------------------------------------------


def _screened(X: Matrix, C: Matrix, y: np.ndarray, target: Target) -> list[int]:
    """Places of the candidates with the most gain beside all others, at most `MOST_KEPT`."""
    model = quick_model(np.column_stack([X, C]), y, target)
    gains = model.feature_importance("gain")
    found = gains[X.shape[1] :]
    typical = np.median(gains[: X.shape[1]])
    order = np.argsort(-found, kind="stable")[:MOST_KEPT]
    return [place for place in order.tolist() if found[place] > typical]


@dataclass(frozen=True)
class _Case:
    X: Matrix
    more: Matrix
    y: np.ndarray
    target: Target


def _judged(case: _Case, proposing: np.ndarray, judging: np.ndarray) -> tuple[float, float]:
    """(mean fall of the loss as a share of it, t) over folds of the rows that had no say."""
    if not case.more.shape[1]:
        return 0.0, 0.0
    wide = np.column_stack([case.X, case.more])
    rounds = max(LEAST_JUDGED, min(JUDGED_ROUNDS, MOST_TREES // case.target.outputs))
    falls = []
    for fold in range(FOLDS):
        scored = judging[fold::FOLDS]
        trained = np.concatenate([proposing, *(judging[other::FOLDS] for other in range(FOLDS) if other != fold)])
        losses = []
        for matrix in (case.X, wide):
            model = quick_model(matrix[trained], case.y[trained], case.target, rounds)
            said = model.predict(matrix[scored], num_threads=1)
            losses.append(quick_loss(case.y[scored], said, case.target))
        falls.append((losses[0] - losses[1]) / max(losses[0], 1e-12))
    d = np.array(falls)
    share = len(judging) / FOLDS / (len(proposing) + len(judging) * (FOLDS - 1) / FOLDS)
    deviation = float(np.sqrt(d.var(ddof=1) * (1 / FOLDS + share)))
    return float(d.mean()), float(d.mean()) / max(deviation, 1e-12)
