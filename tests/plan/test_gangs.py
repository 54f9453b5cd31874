"""Plans of models that several workers fit together: what it gains, and what each of them needs."""

from dataclasses import replace

import pytest
from tests.plan.shapes import past_run, sizes

from shardwise.plan.answer import answer, render
from shardwise.plan.cost import Budget, Forecast, forecast
from shardwise.plan.gangs import GAIN, member_bytes, shared_terms, starting_s
from shardwise.plan.knowledge import defaults, observed_time
from shardwise.plan.memory import MAIN_BYTES, PROCESS_BYTES
from shardwise.plan.past import PastRun
from shardwise.plan.training import Rounds

LARGE = sizes(rows=4_000_000, train_rows=3_000_000, valid_rows=500_000, memory_bytes=10**9, size_bytes=4 * 10**8)
TREES = ("trees",)
TOGETHER = Budget(trials=3, workers=4, cpus=4, families=TREES, parallel="data")
KNOWN = replace(defaults(), rounds=Rounds(300.0, 100_000, 0.2), rounds_spread=0.2)


def test_members_share_the_work_but_not_what_each_fit_takes() -> None:
    terms = {"one": 1.0, "histograms": 8.0}
    assert shared_terms(terms, 1) == terms
    assert shared_terms(terms, 4) == {"one": 1.0, "histograms": 8.0 / 4**GAIN}


def test_more_members_are_faster_and_need_less_each() -> None:
    found = [forecast(LARGE, replace(TOGETHER, workers=count, cpus=count), KNOWN) for count in (1, 2, 4)]
    assert [each.members for each in found] == [1, 2, 4]
    times = [train_s(each) for each in found]
    assert times == sorted(times, reverse=True)
    assert found[0].member_bytes == 0
    assert PROCESS_BYTES < found[2].member_bytes < found[1].member_bytes


def train_s(found: Forecast) -> float:
    return next(stage.time_s.value for stage in found.stages if stage.name == "train")


def test_members_start_anew_for_each_fit_on_a_cluster() -> None:
    assert starting_s("local", 6) < starting_s("ray", 6)
    here, there = (forecast(LARGE, replace(TOGETHER, engine=engine), KNOWN) for engine in ("local", "ray"))
    assert there.time_s.value > here.time_s.value


def test_what_all_members_need_is_at_least_what_one_needs() -> None:
    for families in ({"trees"}, {"neural"}, {"trees", "linear"}):
        one, four = (member_bytes(LARGE, count, frozenset(families)) for count in (1, 4))
        assert four <= one <= 4 * four


def test_what_each_needs_is_said_before() -> None:
    told = forecast(LARGE, TOGETHER, KNOWN).told
    assert any("by 4 workers, as asked. Each of them needs about" in text for text in told)
    assert not any("Each of them" in text for text in forecast(LARGE, replace(TOGETHER, parallel="none"), KNOWN).told)


def test_workers_with_too_little_memory_do_not_fit() -> None:
    roomy = answer(LARGE, replace(TOGETHER, confined=True, memory_bytes=64 * 10**9), KNOWN)
    assert roomy.fits
    least = MAIN_BYTES + 4 * forecast(LARGE, TOGETHER, KNOWN).member_bytes
    tight = answer(LARGE, replace(TOGETHER, confined=True, memory_bytes=round(0.8 * least)), KNOWN)
    assert not tight.fits
    assert tight.row_share < 1.0
    assert render(tight).startswith("does not fit: memory")
    assert tight.to_json()["member_bytes"] == tight.whole.member_bytes > 0


def test_workers_of_a_cluster_with_too_little_memory_do_not_fit() -> None:
    budget = replace(TOGETHER, engine="ray", memory_bytes=10**12)
    needed = forecast(LARGE, budget, KNOWN).member_bytes
    assert answer(LARGE, replace(budget, worker_bytes=needed), KNOWN).fits
    found = answer(LARGE, replace(budget, worker_bytes=needed - 1), KNOWN)
    assert found.reasons[0].startswith("memory of the workers: each of 4 needs")
    assert answer(LARGE, replace(budget, worker_bytes=1, parallel="none"), KNOWN).fits


@pytest.mark.parametrize(
    ("parallel", "engine", "rows", "members"),
    [
        ("auto", "local", 3_000_000, 1),
        ("auto", "ray", 3_000_000, 4),
        ("auto", "ray", 100_000, 1),
        ("none", "ray", 3_000_000, 1),
    ],
)
def test_the_choice_is_that_of_the_run(parallel: str, engine: str, rows: int, members: int) -> None:
    budget = replace(TOGETHER, parallel=parallel, engine=engine)
    assert forecast(replace(LARGE, train_rows=rows), budget, KNOWN).members == members


def past(parallel: str) -> PastRun:
    fold = {"seconds": 3.0, "rounds": 100, "steps": 120}
    trials = [{"number": 1, "family": "trees", "params": {}, "folds": [fold]}]
    return past_run(sizes=LARGE, workers=2, asked=2, trials=trials, parallel=parallel, engine="local")


def test_a_run_of_members_teaches_by_the_same_terms() -> None:
    """A prediction is compared with what was: both count the members."""
    (alone,), (together,) = (observed_time([past(parallel)])["large_trees"] for parallel in ("none", "data"))
    assert together[1] == alone[1] == 3.0
    assert together[0]["histograms"] == pytest.approx(alone[0]["histograms"] / 2**GAIN)
    assert together[0]["one"] == alone[0]["one"]
