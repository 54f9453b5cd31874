"""Forecasts: more data never costs less, ceilings and skew are told, what cannot be known is said."""

from dataclasses import replace

import pytest
from tests.plan.shapes import sizes

from shardwise.plan import cost, stages
from shardwise.plan.cost import Budget, Range, forecast, least_memory_bytes, placement, row_share, under_ceiling
from shardwise.plan.knowledge import defaults
from shardwise.plan.memory import growing_bytes, trees_bytes
from shardwise.plan.training import Rounds

BUDGET = Budget(trials=3, cpus=2)
KNOWN = replace(defaults(), rounds=Rounds(300.0, 100_000, 0.2), rounds_spread=0.2)


@pytest.mark.parametrize("part", ["rows", "features", "trials"])
def test_more_never_costs_less(part: str) -> None:
    found = []
    for times in (1, 2, 4):
        few = (
            sizes(rows=200_000 * times, train_rows=150_000 * times, memory_bytes=60_000_000 * times)
            if part == "rows"
            else sizes()
        )
        few = sizes(features=30 * times, columns={"number": 30 * times}) if part == "features" else few
        budget = replace(BUDGET, trials=2 + times) if part == "trials" else BUDGET
        each = forecast(few, budget, KNOWN)
        found.append((each.time_s.value, each.memory_bytes.value, each.disk_bytes))
    assert found == sorted(found)
    assert found[0][0] < found[-1][0]
    for part_of in zip(*found, strict=True):
        assert list(part_of) == sorted(part_of)


def test_the_total_is_the_sum_of_the_stages_and_the_peak_their_highest() -> None:
    found = forecast(sizes(), BUDGET, KNOWN)
    assert [stage.name for stage in found.stages] == list(stages.STAGES)
    assert found.time_s.value == pytest.approx(sum(stage.time_s.value for stage in found.stages))
    assert found.memory_bytes.value == max(stage.memory_bytes.value for stage in found.stages)
    for each in (found.time_s, *(stage.time_s for stage in found.stages)):
        assert 0 <= each.low <= each.value <= each.high


def test_a_ceiling_in_time_bounds_the_time() -> None:
    search = forecast(sizes(), Budget(time_s=30.0, cpus=2), KNOWN)
    assert search.time_s.value == pytest.approx(30.0 - cost.STOP_S)
    few = forecast(sizes(), Budget(time_s=1e6, trials=2, cpus=2), KNOWN)
    assert few.time_s.value == forecast(sizes(), Budget(trials=2, cpus=2), KNOWN).time_s.value


def test_many_small_models_are_faster_on_more_workers_and_take_more_memory() -> None:
    small = sizes(rows=60_000, train_rows=40_000, valid_rows=10_000, folds=5, memory_bytes=6_000_000)
    one, two = (forecast(small, replace(BUDGET, workers=count, cpus=count), KNOWN) for count in (1, 2))
    assert two.time_s.value < one.time_s.value
    assert two.memory_bytes.value > one.memory_bytes.value


def test_more_workers_than_were_measured_are_said() -> None:
    assert not any("workers" in told for told in forecast(sizes(), replace(BUDGET, workers=2), KNOWN).told)
    found = forecast(sizes(), replace(BUDGET, workers=32), KNOWN)
    assert any("32 workers" in told and "Beyond what was measured" in told for told in found.told)


def test_data_beyond_what_was_measured_is_said() -> None:
    huge = sizes(rows=10**10, train_rows=9 * 10**9, memory_bytes=10**13)
    assert any("largest that was" in told for told in forecast(huge, BUDGET, KNOWN).told)


def test_skew_is_told_and_slows_the_passes() -> None:
    even = sizes(partitions=40, largest=1 / 40, size_bytes=10**9)
    skewed = replace(even, largest=0.9)
    budget = replace(BUDGET, workers=8)
    assert not any("largest partition" in told for told in forecast(even, budget, KNOWN).told)
    found = forecast(skewed, budget, KNOWN)
    assert any("cannot tell" in told and "90%" in told for told in found.told)
    assert found.time_s.value > forecast(even, budget, KNOWN).time_s.value


def test_a_time_that_cannot_be_told_is_not_told() -> None:
    wide = replace(KNOWN, rounds_spread=1.5)
    told = forecast(sizes(train_rows=2_000_000), replace(BUDGET, families=("trees",)), wide).told
    assert any(text.startswith("Cannot tell the time") for text in told)


def test_rows_that_fit_under_the_ceiling() -> None:
    large = sizes(rows=20_000_000, train_rows=18_000_000, features=30)
    free = Budget(trials=2, cpus=2, memory_bytes=64 * 10**9, confined=True)
    assert row_share(large, free) == 1.0
    shares = [row_share(large, replace(free, memory_bytes=size * 10**8)) for size in (6, 8, 12, 20, 40)]
    assert shares == sorted(shares)
    assert 0.0 < shares[1] < 1.0
    assert row_share(large, replace(free, memory_bytes=400_000_000)) == 0.0


def test_the_share_takes_what_the_ceiling_leaves() -> None:
    large = sizes(rows=20_000_000, train_rows=18_000_000, features=30)
    budget = Budget(trials=2, cpus=2, memory_bytes=10**9, confined=True)
    rows = row_share(large, budget) * large.train_rows
    needed = trees_bytes(round(rows), 30, 1, valid_rows=large.valid_rows) + cost.MAIN_BYTES + cost.PROCESS_BYTES
    needed += growing_bytes(cost.SAFETY * 10**9 - cost.MAIN_BYTES - cost.PROCESS_BYTES, 1)
    assert needed == pytest.approx(cost.SAFETY * 10**9, rel=0.001)


def test_few_rounds_leave_more_to_the_rows() -> None:
    large = sizes(rows=20_000_000, train_rows=18_000_000, features=30)
    budget = Budget(trials=2, cpus=2, memory_bytes=10**9, confined=True)
    few = replace(budget, held={"trees": {"n_estimators": 100}})
    assert row_share(large, few) > 1.1 * row_share(large, budget)


def test_the_least_memory_is_enough_and_a_little_less_is_not() -> None:
    large = sizes(rows=20_000_000, train_rows=18_000_000, features=30)
    budget = Budget(trials=2, cpus=2, confined=True)
    least = least_memory_bytes(large, budget)
    assert row_share(large, replace(budget, workers=1, memory_bytes=least + 10_000)) > 0.0
    assert row_share(large, replace(budget, workers=1, memory_bytes=int(least * 0.97))) == 0.0


def test_under_a_ceiling_fewer_rows_take_less_time_and_no_more_than_the_ceiling() -> None:
    large = sizes(rows=20_000_000, train_rows=18_000_000, features=30)
    budget = Budget(trials=2, cpus=2, memory_bytes=10**9, confined=True)
    found, share = under_ceiling(large, budget, KNOWN)
    assert share < 1.0
    assert found.memory_bytes.value <= 10**9
    assert found.time_s.value < forecast(large, budget, KNOWN).time_s.value
    whole, all_rows = under_ceiling(sizes(), Budget(trials=2, cpus=2, memory_bytes=10**12), KNOWN)
    assert all_rows == 1.0
    assert whole == forecast(sizes(), Budget(trials=2, cpus=2, memory_bytes=10**12), KNOWN)


def test_a_range_holds_nine_of_ten() -> None:
    found = Range.around(10.0, 0.1)
    assert found.high / found.value == pytest.approx(found.value / found.low)
    assert Range.around(10.0, 0.0) == Range(10.0, 10.0, 10.0)


def test_a_worker_of_a_cluster_has_its_own_threads() -> None:
    """Not those of the machine that plans."""
    large = sizes(rows=2_000_000, train_rows=1_600_000)
    for engine, threads in (("ray", 1), ("local", 32)):
        placed, _ = placement(large, Budget(trials=2, cpus=64, workers=2, engine=engine))
        assert (placed.slots, placed.threads) == (2, threads)
