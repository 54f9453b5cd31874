"""Grows the small trees of a stack: LightGBM's boosting on the scores of the members, from where a linear stack is.

What is left for them is what no weights can say: that one member is to be trusted where another one is sure, or that
all of them are too sure of a class. They are small, so that they learn little of the noise of a few thousand rows, and
so that they take no time.
"""

from collections.abc import Callable, Iterator
from typing import Any

import lightgbm as lgb
import numpy as np

from shardwise.core.target import Task
from shardwise.ensemble.score_trees import PLACES, SPLITS, ScoreTrees

MOST_ROUNDS = 200
MOST_TREES = 400  # a round has one for each class
MOST_CLASSES = 10
LEAST_ROWS = 200
HELD_OUT = 5  # of so many rows one tells after how many rounds to stop
PATIENCE_ROUNDS = 20
DIGITS = 9  # of numbers in a package
_OBJECTIVES = {
    Task.BINARY: "binary", Task.MULTICLASS: "multiclass", Task.REGRESSION: "regression", Task.COUNT: "poisson",
}  # fmt: skip
_PARAMS = {
    "learning_rate": 0.1, "num_leaves": SPLITS + 1, "max_bin": 63, "lambda_l2": 10.0, "seed": 0, "num_threads": 1,
    "deterministic": True, "force_col_wise": True, "boost_from_average": False, "verbosity": -1,
}  # fmt: skip
_LEAST_ROWS, _LEAST_SHARE = 20, 0.02  # of a leaf


def grown(task: Task, scores: np.ndarray, start: np.ndarray, y: np.ndarray) -> ScoreTrees:
    """Trees on scores float64 `(rows, features)` that add to the raw scores `start` `(rows, columns)`; y `(rows,)`.

    A fifth of the rows says how many rounds help; then trees learn from all of them. The same input gives the same
    trees. Of targets that are numbers the unit does not matter.
    """
    middle, scale = unit_of(task, y)
    given = (scores - middle) / scale, (start - middle) / scale, (y - middle) / scale
    apart = np.arange(len(y)) % HELD_OUT == 0
    seen, held = (tuple(each[rows] for each in given) for rows in (~apart, apart))
    if task is Task.COUNT and not (seen[2].any() and held[2].any()):  # too few that are not zero
        return ScoreTrees(columns=(), features=(), bounds=(), values=())
    rounds = _boosted(task, seen, MOST_ROUNDS, held).best_iteration
    trees = _boosted(task, given, rounds).dump_model()["tree_info"]
    tables = [(number % start.shape[1], *_table(tree["tree_structure"])) for number, tree in enumerate(trees)]
    kept = [table for table in tables if table[1]]
    return ScoreTrees(
        columns=tuple(column for column, _, _, _ in kept),
        features=tuple((*features, *[0] * (SPLITS - len(features))) for _, features, _, _ in kept),
        bounds=tuple(
            (*(_short(middle + scale * bound) for bound in bounds), *[np.inf] * (SPLITS - len(bounds)))
            for _, _, bounds, _ in kept
        ),
        values=tuple(tuple(_short(scale * value) for value in values) for _, _, _, values in kept),
    )


def unit_of(task: Task, y: np.ndarray) -> tuple[float, float]:
    """(middle, scale) of targets that are numbers; (0, 1) for others, whose scores have a unit of their own."""
    return (float(y.mean()), float(y.std()) or 1.0) if task is Task.REGRESSION else (0.0, 1.0)


def _boosted(task: Task, given: tuple[np.ndarray, ...], rounds: int, held: tuple[np.ndarray, ...] = ()) -> lgb.Booster:
    """Of so many rounds; of rows that are `held` out, fewer where they say so. Both are scores, start and y."""
    columns = given[1].shape[1]
    params: dict[str, Any] = {
        **_PARAMS, "objective": _OBJECTIVES[task],
        "min_data_in_leaf": max(_LEAST_ROWS, int(_LEAST_SHARE * len(given[0]))),
        **({"num_class": columns} if columns > 1 else {}),
    }  # fmt: skip
    data = _data(given)
    valid, stop = list[lgb.Dataset](), list[Callable[..., Any]]()
    if held:
        valid.append(_data(held, data))
        stop.append(lgb.early_stopping(PATIENCE_ROUNDS, verbose=False))
    return lgb.train(params, data, min(rounds, MOST_TREES // columns), valid, callbacks=stop)


def _data(given: tuple[np.ndarray, ...], reference: lgb.Dataset | None = None) -> lgb.Dataset:
    scores, start, y = given
    return lgb.Dataset(scores, y, init_score=start.ravel(order="F"), reference=reference)


def _short(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def _table(root: dict[str, Any]) -> tuple[list[int], list[float], list[float]]:
    """(features, bounds, values) of a tree, as `ScoreTrees` has them; without features where it has no split."""
    splits = list(_splits(root))
    numbers = {id(split): number for number, split in enumerate(splits)}

    def value(place: int) -> float:
        node = root
        while "leaf_value" not in node:
            right = place >> (SPLITS - 1 - numbers[id(node)]) & 1
            node = node["right_child" if right else "left_child"]
        return float(node["leaf_value"])

    features, bounds = [split["split_feature"] for split in splits], [split["threshold"] for split in splits]
    return features, bounds, [value(place) for place in range(PLACES)]


def _splits(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "leaf_value" not in node:
        yield node
        yield from _splits(node["left_child"])
        yield from _splits(node["right_child"])
