"""Populations as a study asks for them: whole generations, the same on any number of workers, with their ancestry."""

from collections.abc import Callable

import pytest
from tests.tune.asking import ask_and_tell

from shardwise.core.candidate import Candidate
from shardwise.core.space import Float, Space
from shardwise.tune.samplers import make_sampler
from shardwise.tune.samplers.population import SIZE
from shardwise.tune.step import Result, Step
from shardwise.tune.study import Study

SPACE: Space = {"rate": Float(0.01, 1.0, log=True, default=0.1), "decay": Float(0.0, 1.0, default=0.5)}
LEGS = 4


def study(limit: int | None = 1 + SIZE, lag: int = 1, legs: int = LEGS) -> Study:
    portfolio = [Candidate(family="baseline"), Candidate(family="net")]
    sampler = make_sampler("pbt", changes=("rate",))
    return Study(
        portfolio, {"net": SPACE}, seed=0, limit=limit, samplers={"net": sampler}, rungs={"net": legs}, lag=lag
    )  # fmt: skip


def found(step: Step) -> Result:
    """The higher the rate on the way, the lower the loss; trial 4 ends early, trial 5 fails."""
    if step.candidate.family == "baseline":
        return Result(loss=9.0)
    loss = -sum(float(leg.candidate.params.get("rate", 0.1)) for leg in ancestry(step))
    early = step.number == 4 and step.rung == 1 and step.source is None
    return Result(loss=float("nan") if step.number == 5 and not step.rung else loss, done=step.last or early)


def ancestry(step: Step | None) -> list[Step]:
    return [] if step is None else [step, *ancestry(step.after)]


def run(study: Study, workers: int, choose: Callable[[int], int] = lambda _under_way: 0) -> list[Step]:
    return ask_and_tell(study, workers, found, choose)


@pytest.mark.parametrize("lag", [1, 3])
def test_the_steps_do_not_depend_on_workers_nor_on_who_comes_back_first(lag: int) -> None:
    alone = run(study(lag=lag), 1)
    for workers in (2, 5, 20):
        assert run(study(lag=lag), workers) == run(study(lag=lag), workers, lambda last: last - 1) == alone


def test_generations_come_one_after_the_other_and_all_members_in_each() -> None:
    steps = [step for step in run(study(), 3) if step.candidate.family == "net"]
    assert [step.rung for step in steps] == sorted(step.rung for step in steps)
    assert len({(step.number, step.rung) for step in steps}) == len(steps)
    for generation in range(LEGS):
        members = {step.number for step in steps if step.rung == generation}
        missing = set(range(1, 1 + SIZE)) - members
        assert missing <= {4}, generation  # whose training had ended, and who was not among the worst then
    assert all(step.last == (step.rung == LEGS - 1) for step in steps)


def test_what_goes_on_has_its_ancestry_and_the_worst_are_replaced() -> None:
    steps = [step for step in run(study(), 1) if step.candidate.family == "net"]
    for step in steps:
        assert (step.after is None) == (step.rung == 0)
        if step.after is not None:
            assert step.after in steps
            assert step.after.rung < step.rung
            changed = step.candidate.params.get("rate") != step.after.candidate.params.get("rate")
            assert changed == (step.source is not None)
            assert step.candidate.params.get("decay") == step.after.candidate.params.get("decay")
    assert any(step.number == 5 and step.rung == 1 and step.source is not None for step in steps)  # it had failed
    moves = [step for step in steps if step.source is not None]
    assert LEGS - 1 <= len(moves) <= 2 * (LEGS - 1)


def test_a_longer_search_begins_with_the_same_population_and_an_endless_one_with_another_after_it() -> None:
    short, long = run(study(), 1), run(study(limit=1 + SIZE + 3), 1)
    assert long[: len(short)] == short
    assert {step.number for step in long[len(short) :]} == set(range(1 + SIZE, 4 + SIZE))
    asked = study(limit=None)
    first = []
    for step in asked.ask():
        assert isinstance(step, Step)
        first.append(step)
        asked.tell(step, found(step))
        if step.number > SIZE:
            break
    assert first[:-1] == short


def test_only_a_population_with_all_its_members_is_settled() -> None:
    whole = study(limit=1 + SIZE + 3)
    run(whole, 1)
    assert [whole.is_settled(number) for number in (1, SIZE, SIZE + 1)] == [True, True, False]


def test_a_training_of_one_leg_is_that_of_random_search() -> None:
    steps = run(study(legs=1), 1)
    assert all(step.last and step.after is None for step in steps)
    assert len(steps) == 1 + SIZE
