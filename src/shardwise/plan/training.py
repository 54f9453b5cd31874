"""Seconds of a candidate on a fold, and of all of them on n workers. Pure.

Notation: n rows, f features, L leaves, o outputs (trees a round), T rounds that are boosted, R the best of them. Early
stopping ends after `T = R + wait + patience R` rounds. A round of LightGBM costs histograms of about `n f log2(L) / 2`
cells, the search for splits over `L f` histograms, and a look at all rows for gradients and scores.
"""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from shardwise.core.candidate import Candidate
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Target, Task
from shardwise.models.catboost import CatBoostParams
from shardwise.models.families import NETWORKS, build
from shardwise.models.grown import Grown
from shardwise.models.neural.order import usual_epochs
from shardwise.models.pace import row_products
from shardwise.models.params import parse_params
from shardwise.models.portfolio import joining, portfolio, with_held
from shardwise.models.sgd import ROUND_ROWS, SCORED_ROWS
from shardwise.models.svm import SVMParams
from shardwise.models.trees import ONE_THREAD_CELLS
from shardwise.models.trees_params import TreesParams
from shardwise.plan.memory import MAIN_BYTES, PASS_BYTES, trees_bytes
from shardwise.plan.sizes import Sizes

LARGE_ROWS = 1_000_000  # from here on one model at a time: a second thread gained 5 % on 262,000 rows x 18
CELLS_PER_WORKER = 50_000  # of training data; below, the default candidates take no longer than to start workers ...
WORTH_S = 30.0  # ... but so long a search is worth them all the same
CELLS_PER_THREAD = 250_000
CONFINED_SHARE = 0.2  # of a ceiling on memory, from which on a model is fitted apart
THREAD_GAIN = 0.75  # a fit on t threads is t ** 0.75 times as fast
VISITS = 6_000_000  # row visits of a linear model, at most
USUAL_EPOCHS = 16  # until it stops, where it may take more
DRAWN = {"learning_rate": 0.055, "num_leaves": 55, "feature_fraction": 0.7, "subsample": 0.8}  # of the search, about

GROWN = frozenset({"trees", "forest", "adaboost", "catboost"})  # families of trees
CATBOOST_COST = 4.0  # times the seconds of LightGBM's trees of as many leaves, about (benchmarks/bench_catboost.py)

Terms = Mapping[str, float]
Held = Mapping[str, Mapping[str, Any]]
_KINDS = tuple(Feature(name=kind, source=kind, kind=kind) for kind in FeatureKind)  # of all kinds: no param is left out


@dataclass(frozen=True)
class Rounds:
    """The best round of the first candidate at `rows` training rows; at others it grows as `rows ** power`."""

    best: float
    rows: int
    power: float = 0.2

    def at(self, rows: int) -> float:
        return self.best * math.pow(max(rows, 1) / max(self.rows, 1), self.power)


def candidates(
    sizes: Sizes, trials: int | None, families: Sequence[str] = (), held: Held | None = None, memory_bytes: int = 2**62
) -> list[Candidate]:
    """Those of the portfolio in its order, then average ones in the place of what a search will draw."""
    known = _portfolio(sizes, families, held or {}, memory_bytes)
    if trials is None or trials <= len(known):
        return known[:trials]
    drawn = Candidate(family="trees", params=DRAWN) if not families or "trees" in families else known[-1]
    return [*known, *[with_held(drawn, held or {})] * (trials - len(known))]


def _portfolio(sizes: Sizes, families: Sequence[str], held: Held, memory_bytes: int) -> list[Candidate]:
    task = Task(sizes.task)
    outputs = sizes.outputs if task is Task.MULTICLASS else 2
    target = Target(column="", task=task, classes=tuple(range(outputs)) if task.is_classification else ())
    return portfolio(target, _columns(sizes.features), sizes.rows - sizes.test_rows, families, positive=sizes.positive,
        held=held, extras=joining(memory_bytes),
    )  # fmt: skip


@lru_cache(maxsize=4)
def _columns(count: int) -> tuple[Feature, ...]:
    """So many features, of all kinds; the rest of them are numbers."""
    numbers = (Feature(name=f"x{i}", source=f"x{i}", kind=FeatureKind.NUMBER) for i in range(len(_KINDS), count))
    return *_KINDS, *numbers


def rounds_of(candidate: Candidate, first: Candidate, at_first: float, laws: Terms) -> float:
    """Best round of a candidate, from that of the first trees: more for a slower learner, fewer for a larger tree."""
    mine, theirs = params_of(candidate), params_of(first)
    if candidate.family == "forest":  # the more trees the better, nearly always
        return float(mine.n_estimators)
    rate = theirs.learning_rate / mine.learning_rate
    leaves = theirs.num_leaves / mine.num_leaves
    random = mine.extra_trees - theirs.extra_trees
    special = math.pow(laws["extra_trees"], random) * (laws["logs"] if mine.target_transform else 1.0)
    best = at_first * special * math.pow(rate, laws["rate"]) * math.pow(leaves, laws["leaves"])
    return min(float(mine.n_estimators), best)


def params_of(candidate: Candidate) -> TreesParams:
    """All params of a candidate of `GROWN`, as trees have them; raises `ConfigError` for one that it does not have."""
    if candidate.family == "trees":
        return parse_params(TreesParams, "trees", candidate.params)
    if candidate.family == "catboost":
        cat = parse_params(CatBoostParams, "catboost", candidate.params)
        return TreesParams(
            n_estimators=cat.n_estimators, learning_rate=cat.learning_rate, num_leaves=2**cat.max_depth,
            subsample=cat.subsample, feature_fraction=cat.feature_fraction, patience=cat.patience,
            early_stopping_rounds=cat.early_stopping_rounds,
        )  # fmt: skip
    own = build(candidate.family, Target(column="", task=Task.BINARY), (), candidate.params)
    assert isinstance(own, Grown)
    return own.growth


def grown(candidate: Candidate, best: float) -> float:
    """Trees of an output after `best` rounds, counted as trees of 31 leaves."""
    return best * params_of(candidate).num_leaves / 31


def boosted(best: float, params: TreesParams) -> float:
    """Rounds that are boosted until the wait for a better one is over."""
    return min(float(params.n_estimators), best * (1 + params.patience) + params.early_stopping_rounds)


def unit_terms(
    candidate: Candidate, sizes: Sizes, best: float, *, threads: int = 1, steps: float | None = None
) -> tuple[str, dict[str, float]]:
    """(name of the law, its terms) of one candidate on one fold; the seconds are coefficients times terms.

    `steps` rounds are boosted, if that is known.
    """
    if candidate.family == "linear":
        return "linear", _linear_terms(sizes, steps)
    if candidate.family == "svm":
        return "linear", _linear_terms(sizes, steps, _components(candidate))
    if candidate.family in NETWORKS:
        return "neural", _neural_terms(candidate, sizes, steps)
    if candidate.family not in GROWN:
        return "baseline", {"one": 1.0, "rows": 1e-6 * (sizes.train_rows + sizes.valid_rows)}
    params = params_of(candidate)
    steps = boosted(best, params) if steps is None else steps
    small = sizes.train_cells <= ONE_THREAD_CELLS
    gain = 1.0 if small else threads**THREAD_GAIN
    rows = sizes.train_rows * params.subsample
    width = sizes.seen * params.feature_fraction
    trees = steps * sizes.outputs / gain
    depth = math.log2(max(2, min(params.num_leaves, rows / max(1, params.min_child_samples))))
    leaves = 2**depth
    terms = {
        "one": 1.0,
        "cells": 1e-6 * sizes.train_cells,
        "rounds": 1e-3 * steps,
        "histograms": 1e-9 * trees * rows * width * depth,
        "splits": 1e-6 * trees * leaves * width,
        "rows": 1e-9 * trees * sizes.train_rows,
        "valid": 1e-9 * trees * sizes.valid_rows * depth,
        "predict": 1e-9 * best * sizes.outputs / threads * sizes.valid_rows * depth,
    }
    cost = CATBOOST_COST if candidate.family == "catboost" else 1.0
    return "trees" if small else "large_trees", {name: cost * value for name, value in terms.items()}


def _components(candidate: Candidate) -> int:
    """Columns that a kernel adds."""
    params = parse_params(SVMParams, "svm", candidate.params)
    return params.n_components if params.kernel != "linear" else 0


def _linear_terms(sizes: Sizes, rounds: float | None, more: int = 0) -> dict[str, float]:
    """A round is an epoch, or a million rows; without knowing better, the usual number of them until it stops.

    `more` columns are made from the features.
    """
    width = sizes.features + more
    a_round = min(sizes.train_rows, ROUND_ROWS)
    most = max(3, math.ceil(VISITS / max(1, a_round)))
    rounds = min(most, USUAL_EPOCHS) if rounds is None else rounds
    visits = 1e-6 * rounds * a_round
    return {
        "one": 1.0, "visits": visits, "cells": visits * width, "rows": 1e-6 * sizes.train_rows,
        "outputs": visits * width * (sizes.outputs - 1),
        "valid": 1e-6 * rounds * min(sizes.valid_rows, SCORED_ROWS) * width,
    }  # fmt: skip


def _neural_terms(candidate: Candidate, sizes: Sizes, rounds: float | None) -> dict[str, float]:
    """Multiply-adds of the matrices, three times for a row that is learned from; all epochs, as a cosine needs them."""
    params, row = row_products(candidate, sizes.features, sizes.outputs, sizes.copied)
    epochs = rounds or params.epochs or usual_epochs(max(1, sizes.train_rows))
    rows = epochs * (3 * sizes.train_rows + min(sizes.valid_rows, SCORED_ROWS)) + sizes.valid_rows
    return {"one": 1.0, "products": 1e-12 * rows * row}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """`slots` models are fitted at a time, each on `threads`, in `processes` workers (0: in this process)."""

    slots: int
    processes: int
    threads: int


def workers_under(ceiling_bytes: int | None, count: int) -> int:
    """How many of `count` workers a ceiling that was asked for has room for, at least 1."""
    if ceiling_bytes is None:
        return count
    return max(1, min(count, max(PASS_BYTES, ceiling_bytes - MAIN_BYTES) // PASS_BYTES))


def place(
    sizes: Sizes, *, workers: int | None, cpus: int, ceiling_bytes: int | None, time_s: float | None = None
) -> Placement:
    """Side by side where many small models are trained or workers are asked for, else one at a time on all threads.

    A model that needs a good part of a ceiling that was asked for gets a process of its own.
    """
    cells = sizes.train_cells
    count = workers_under(ceiling_bytes, workers or cpus)
    if side_by_side(cells, sizes.train_rows, time_s) or workers not in (None, 1):
        slots = processes = count
    else:
        needed = trees_bytes(sizes.train_rows, sizes.seen, sizes.outputs, valid_rows=sizes.valid_rows)
        slots, processes = 1, int(ceiling_bytes is not None and needed >= CONFINED_SHARE * ceiling_bytes)
    return Placement(slots=slots, processes=processes, threads=fit_threads(cells, max(cpus, count) // slots))


def side_by_side(cells: int, rows: int, time_s: float | None) -> bool:
    """Whether fits of so many training cells are worth workers, and small enough that each has a thread alone;
    `time_s` is what the user gives to the run."""
    return (cells >= CELLS_PER_WORKER or (time_s or 0.0) >= WORTH_S) and rows < LARGE_ROWS


def fit_threads(cells: int, most: int) -> int:
    """Threads for one fit: where a thread has little to do, waking it takes longer. Results do not depend on it."""
    return max(1, min(most, cells // CELLS_PER_THREAD))


def refits(sizes: Sizes, ceiling_bytes: int | None, families: Iterable[str]) -> bool:
    """Whether members of trees are trained anew on all rows after the search, as in `shardwise.refitting`."""
    return sizes.folds > 1 and sizes.encodings == 1 and ceiling_bytes is None and "trees" in families


def growing(sizes: Sizes, grown: Sequence[float], slots: int) -> float:
    """Trees of all models that are fitted at a time, each as large as the largest of `grown` (one per candidate)."""
    return min(slots, sizes.folds * len(grown)) * sizes.outputs * max(grown, default=0.0)


def makespan(lengths: Sequence[float], slots: int) -> float:
    """Seconds until all tasks are done that are begun in this order whenever one of `slots` is free.

    >>> makespan([3, 1, 1, 1], 2)
    3
    """
    free: list[float] = [0] * max(1, slots)
    for length in lengths:
        heapq.heappush(free, heapq.heappop(free) + length)
    return max(free)


def train_terms(sizes: Sizes, trials: int, processes: int, trees: float) -> Terms:
    """Terms of what the stage takes beside the fits: worker processes, units of work, sealing the best so far."""
    return {
        "one": 1.0, "workers": float(processes), "units": trials * sizes.folds / 10,
        "trees": trees / 1000, "columns": sizes.width / 100,
    }  # fmt: skip
