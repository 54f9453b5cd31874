"""Plans of models that several workers fit together: what it gains, and what each of them needs."""

from dataclasses import replace

import pytest
from tests.plan.shapes import past_run, sizes

from shardwise.core.errors import ConfigError
from shardwise.core.parallel import Split
from shardwise.models.neural.parts.cuts import Cuts
from shardwise.models.neural.shape import Shape
from shardwise.plan.answer import answer, render
from shardwise.plan.cost import Budget, Forecast, forecast
from shardwise.plan.gangs import GAIN, choose_parallel, member_bytes, shared_terms, starting_s
from shardwise.plan.knowledge import defaults, observed_time
from shardwise.plan.memory import MAIN_BYTES, PROCESS_BYTES
from shardwise.plan.past import PastRun
from shardwise.plan.splits import TORCH_BYTES, parameters, part_bytes, training_bytes
from shardwise.plan.training import Rounds

LARGE = sizes(rows=4_000_000, train_rows=3_000_000, valid_rows=500_000, memory_bytes=10**9, size_bytes=4 * 10**8)
TREES = ("trees",)
TOGETHER = Budget(trials=3, workers=4, cpus=4, families=TREES, parallel="data")
NETWORK = Shape(
    numbers=20, codes=0, slots=0, scores=1, members=4, width=8192, depth=3, knots=8, embedding=8, code_embedding=8
)
NETWORKS = Budget(trials=2, workers=4, cpus=4, families=("neural",), shapes=(NETWORK,))
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


def test_networks_in_parts_are_planned_on_as_many_workers_as_have_a_part() -> None:
    plan = answer(LARGE, replace(NETWORKS, parallel="tensor:2"), KNOWN)
    assert plan.fits
    assert [each.workers for each in plan.workers] == [2, 4, 8, 32]
    lies = [Cuts(NETWORK, Split(kind="tensor", parts=2), each.workers) for each in plan.workers]
    for each, cuts in zip(plan.workers, lies, strict=True):
        assert each.member_bytes > TORCH_BYTES + part_bytes(cuts)
    assert plan.whole.memory_bytes.value > 4 * plan.whole.member_bytes
    assert "lie in 2 parts and the rows in 2 shares on 4 workers (tensor), as asked" in plan.whole.told[0]
    assert [line.split()[-1] for line in render(plan).splitlines() if line.startswith("workers")] == ["worker"]
    with pytest.raises(ConfigError, match="of 3 worker"):
        answer(LARGE, replace(NETWORKS, parallel="tensor:2", workers=3), KNOWN)


def test_parts_make_a_network_fit_and_shares_make_it_faster() -> None:
    kinds = ("data", "tensor:2", "tensor", "pipeline", "none")
    found = [forecast(LARGE, replace(NETWORKS, parallel=kind), KNOWN) for kind in kinds]
    data, both, tensor, pipeline, one = (train_s(each) for each in found)
    assert data < both < tensor == pipeline
    assert one < tensor  # nothing is gained, and members have to start
    needed = {kind: each.member_bytes for kind, each in zip(kinds, found, strict=True)}
    assert needed["data"] > TORCH_BYTES + training_bytes(parameters(NETWORK))
    assert needed["tensor"] < needed["tensor:2"] < needed["data"]


def test_a_network_too_large_for_a_worker_is_planned_in_parts_and_what_lacks_is_said() -> None:
    whole, few = training_bytes(parameters(NETWORK)), replace(LARGE, train_rows=100_000)
    roomy, small, tiny = (
        answer(few, replace(NETWORKS, parallel="auto", memory_bytes=4 * TORCH_BYTES + round(share * whole)), KNOWN)
        for share in (4.4, 2.4, 0.5)
    )
    assert roomy.whole.members == 1
    assert "lie in 2 parts" in small.whole.told[0]
    assert not tiny.fits
    assert any(reason.startswith("memory of the workers: each of 4 needs") for reason in tiny.reasons)
    assert tiny.least_memory_bytes > 0


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


def test_members_of_forests_have_the_histograms_of_all_leaves_up_to_a_bound() -> None:
    wide = replace(LARGE, columns={"number": 400}, features=400)
    forest, adaboost = (member_bytes(wide, 2, frozenset({family})) for family in ("forest", "adaboost"))
    assert abs(forest - adaboost) < 256 * 2**20
    assert member_bytes(LARGE, 2, frozenset({"forest"})) > member_bytes(LARGE, 2, frozenset({"trees"}))


def test_what_exchanges_more_often_than_it_gains_is_shared_where_it_is_asked_for() -> None:
    auto, data = (
        choose_parallel(asked, engine="ray", workers=2, rows=10**7, families=("forest", "svm", "adaboost"))
        for asked in ("auto", "data")
    )
    assert auto.families == {"adaboost"}
    assert data.families == {"forest", "svm", "adaboost"}


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
