"""Bootstrap intervals."""

import numpy as np
import pytest

from shardwise.core.target import Task
from shardwise.stats.intervals import (
    CELLS,
    GROUPS,
    auc_ends,
    informing_rows,
    interval,
    interval_around,
    replicates,
)
from shardwise.stats.metrics import METRICS, Pairs, metrics_for


def two_classes(rows: int, rng: np.random.Generator) -> Pairs:
    y = (rng.random(rows) < 0.3).astype(float)
    score = 1 / (1 + np.exp(-(1.2 * y + rng.normal(size=rows) - 0.9)))
    return Pairs.labelled(y, score)


def three_classes(rows: int, rng: np.random.Generator) -> Pairs:
    y = rng.integers(0, 3, rows).astype(float)
    logits = rng.normal(size=(rows, 3))
    logits[np.arange(rows), y.astype(int)] += 1
    return Pairs.labelled(y, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))


def numbers(rows: int, rng: np.random.Generator) -> Pairs:
    x = rng.normal(size=rows)
    return Pairs.labelled(x + 0.5 * rng.normal(size=rows), x)


MAKE = {Task.BINARY: two_classes, Task.MULTICLASS: three_classes, Task.REGRESSION: numbers}
CASES = [(task, name) for task in MAKE for name in metrics_for(task)]


@pytest.mark.parametrize(("task", "name"), CASES)
def test_an_interval_holds_the_true_value_in_95_of_100_samples(task: Task, name: str) -> None:
    rng = np.random.default_rng(0)
    truth = METRICS[name].of(MAKE[task](100_000, rng))
    intervals = [interval(METRICS[name], MAKE[task](300, rng), seed=seed) for seed in range(60)]
    held = sum(each.low <= truth <= each.high for each in intervals)
    assert held >= 50  # four standard deviations of a binomial below 57
    assert all(each.low <= each.value <= each.high for each in intervals)


@pytest.mark.parametrize(("task", "name"), CASES)
def test_many_rows_spread_as_the_resampling_of_each_row_says(task: Task, name: str) -> None:
    """Groups, joined cells and influences against weights drawn for every row."""
    rng = np.random.default_rng(1)
    pairs = MAKE[task](2 * max(GROUPS, CELLS), rng)
    fast = replicates(METRICS[name], pairs, resamples=300)
    rows = len(pairs)
    plain = [METRICS[name].compute(pairs.y, pairs.prediction, rng.poisson(1, rows).astype(float)) for _ in range(100)]
    assert fast.std() == pytest.approx(np.std(plain), rel=0.3)
    assert fast.mean() == pytest.approx(METRICS[name].of(pairs), abs=4 * np.std(plain) / np.sqrt(100))


def test_the_same_seed_gives_the_same_interval() -> None:
    pairs = two_classes(1000, np.random.default_rng(2))
    first, second, third = (interval(METRICS["roc_auc"], pairs, seed=seed) for seed in (5, 5, 6))
    assert first == second != third


def test_weights_that_agree_change_nothing_but_unequal_ones_widen() -> None:
    rng = np.random.default_rng(3)
    pairs = two_classes(2000, rng)
    heavy = Pairs(pairs.y, pairs.prediction, rng.lognormal(0, 1.5, 2000))
    for name in ("roc_auc", "log_loss"):
        plain = replicates(METRICS[name], pairs).std()
        tripled = replicates(METRICS[name], Pairs(pairs.y, pairs.prediction, np.full(2000, 3.0))).std()
        assert tripled == pytest.approx(plain, rel=0.15)
        assert replicates(METRICS[name], heavy).std() > 1.5 * plain
    assert informing_rows(METRICS["log_loss"], heavy) < 1000


def test_shares_without_a_mistake_keep_a_lower_end() -> None:
    pairs = Pairs.labelled(np.r_[np.ones(20), np.zeros(30)], np.r_[np.full(20, 0.9), np.full(30, 0.1)])
    auc, accuracy = (interval(METRICS[name], pairs) for name in ("roc_auc", "accuracy"))
    assert (auc.high, accuracy.high) == (1, 1)
    assert 0.8 < auc.low < 0.85  # 0.025 ** (1 / 20)
    assert 0.92 < accuracy.low < 0.94


def test_what_is_not_defined_is_null_in_json() -> None:
    pairs = Pairs.labelled(np.ones(5), np.linspace(0, 1, 5))
    assert interval(METRICS["roc_auc"], pairs).to_json() == {"value": None, "low": None, "high": None}
    one = interval(METRICS["log_loss"], pairs.take(slice(0, 1))).to_json()
    assert one["value"] is not None
    assert one["low"] is None


def test_skewed_losses_get_skewed_intervals_that_hold_the_truth() -> None:
    """Against the textbook: squares of normals with one scale; and log-normal errors, where symmetry fails."""
    rng = np.random.default_rng(5)
    held = 0
    for seed in range(200):
        error = rng.lognormal(size=300)
        each = interval(METRICS["mae"], Pairs.labelled(error, np.zeros(300)), seed=seed)
        held += each.low <= np.exp(0.5) <= each.high
        assert each.high - each.value > each.value - each.low
    assert held >= 180  # of a plain symmetric interval 0.91 * 200 would be expected


def test_an_interval_of_a_sample_is_that_of_all_rows() -> None:
    rng = np.random.default_rng(6)
    pairs = numbers(40_000, rng)
    few = Pairs(pairs.y[:4000], pairs.prediction[:4000], pairs.weight[:4000])
    for name in ("rmse", "r2"):
        whole = interval(METRICS[name], pairs)
        guessed = interval_around(METRICS[name], whole.value, few, share=0.1)
        assert guessed.high - guessed.low == pytest.approx(whole.high - whole.low, rel=0.15)


def test_nearly_perfect_ranking_keeps_room_below() -> None:
    """One pair in 900 is the wrong way round: resamples of ten positives say next to nothing about it."""
    score = np.r_[np.full(9, 0.9), 0.5, np.full(89, 0.1), 0.6]
    each = interval(METRICS["roc_auc"], Pairs.labelled(np.r_[np.ones(10), np.zeros(90)], score))
    low, high = auc_ends(each.value, 10, 90)
    assert each.low <= low < 0.9 < each.value < high <= each.high <= 1.0
