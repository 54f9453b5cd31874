"""Which trials contend, and by how many rows: what errs differently, what is frugal, and never too many cells."""

import math
from typing import Any

import numpy as np
import pytest

from shardwise import contending
from shardwise.core.candidate import Candidate
from shardwise.core.target import Target, Task
from shardwise.ensemble.select import NONE, Cost, Limits
from shardwise.stats.metrics import METRICS
from shardwise.train.result import TrialResult

BINARY = Target(column="y", task=Task.BINARY, classes=(0, 1))


def trial(number: int, family: str = "trees", **params: Any) -> TrialResult:
    return TrialResult(number=number, candidate=Candidate(family=family, params=params), folds=(), complete=True)


def test_what_errs_differently_contends_however_many_are_better_and_alike() -> None:
    alike = [trial(number, num_leaves=number, extra_trees=False, categorical="native") for number in range(20)]
    others = [
        trial(20, num_leaves=5), trial(21, extra_trees=True), trial(22, "neural"), trial(23, categorical="ordinal"),
        trial(24, extra_trees=True, num_leaves=7), trial(25, target_transform="log1p"), trial(26, "catboost"),
    ]  # fmt: skip
    numbers = [each.number for each in contending.diverse([*alike, *others])]
    assert numbers == [0, 1, 2, 3, 21, 22, 23, 25, 26]
    assert [each.number for each in contending.diverse(others)] == [20, 21, 22, 23, 25, 26]
    kinds = [trial(number, f"family {number}") for number in range(30)]
    assert contending.diverse(kinds) == kinds[: contending.CONTENDERS]


def leaves(each: TrialResult) -> Cost:
    count = each.candidate.params.get("num_leaves", 1)
    return Cost(bytes=100.0 * count, batch_s=float(count))


def test_the_next_best_that_keeps_a_limit_is_not_missed() -> None:
    large = [trial(number, num_leaves=128) for number in range(8)]
    ranked = [*large, trial(8, num_leaves=15), trial(9, num_leaves=31), trial(10, num_leaves=7), trial(11, "linear")]
    limits = Limits(bytes=2_000.0, batch_s=math.inf, alone_s=math.inf)
    assert [each.number for each in contending.frugal(ranked, leaves, limits)] == [8, 10, 11]
    assert [each.number for each in contending.frugal(ranked, leaves, NONE)] == [0, 8, 10, 11]
    assert 8 not in [each.number for each in contending.diverse(ranked)]


@pytest.mark.parametrize(("metric", "most"), [("log_loss", 600_000), ("f1_macro", 600_000), ("roc_auc_ovr", 600_000)])
@pytest.mark.parametrize("classes", [3, 20, 100, 300])
def test_a_choice_goes_by_a_bounded_number_of_cells(metric: str, most: int, classes: int) -> None:
    target = Target(column="y", task=Task.MULTICLASS, classes=tuple(range(classes)))
    rows = contending.chosen_rows(target, METRICS[metric], 1_000_000)
    assert contending.LEAST_ROWS <= rows <= contending.ROWS
    assert rows * classes <= most
    assert contending.chosen_rows(target, METRICS[metric], 50) == 50


def test_less_time_is_kept_where_rows_are_few() -> None:
    target = Target(column="y", task=Task.MULTICLASS, classes=tuple(range(10)))
    few, many = (contending.choice_s(target, METRICS["log_loss"], rows, 5) for rows in (1_500, 50_000))
    assert few < many / 2


def test_time_is_kept_for_what_ranks_all_rows_for_each_class() -> None:
    target = Target(column="y", task=Task.MULTICLASS, classes=tuple(range(20)))
    quick, slow = (contending.choice_s(target, METRICS[name], 50_000, 5) for name in ("log_loss", "roc_auc_ovr"))
    assert slow > 1.5 * quick


def test_rare_classes_keep_their_rows_where_an_ensemble_is_chosen_by_some() -> None:
    y = np.zeros(200_000)
    y[::16_667] = 1.0
    taken, weight = contending.representatives(y, 20_000, BINARY)
    assert weight is not None
    assert y[taken].sum() == y.sum() == 12
    assert (np.diff(taken) > 0).all()
    assert len(taken) <= 1.5 * 20_000
    assert weight.mean() == pytest.approx(1.0)
    assert np.average(y[taken], weights=weight) == pytest.approx(y.mean(), rel=0.01)


def test_classes_that_are_frequent_stand_for_themselves() -> None:
    y = np.arange(50_000) % 2.0
    taken, weight = contending.representatives(y, 20_000, BINARY)
    assert weight is None
    assert taken.tolist() == list(range(0, 50_000, 3))
    numbers = Target(column="y", task=Task.REGRESSION)
    assert contending.representatives(np.repeat([0.0, 1.0], [49_990, 10]), 20_000, numbers)[1] is None
    assert contending.representatives(y[:100], 20_000, BINARY)[0].tolist() == list(range(100))
