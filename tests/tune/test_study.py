"""The sequence of steps: in its order, the same whatever comes back when, and nothing is forgotten."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.tune.asking import ask_and_tell

from shardwise.compute.base import NotYet
from shardwise.core.candidate import Candidate
from shardwise.core.space import Choice, Float, Int, Space
from shardwise.tune.pruners import NoPruner, Pruner, make_pruner
from shardwise.tune.samplers import make_sampler
from shardwise.tune.step import Result, Step
from shardwise.tune.study import Study

SPACE: Space = {
    "rate": Float(0.01, 1.0, log=True, default=0.1), "leaves": Int(2, 64, log=True, default=31),
    "kind": Choice(("a", "b"), default="a"),
}  # fmt: skip
PORTFOLIO = [Candidate(family="baseline"), Candidate(family="trees", params={"leaves": 8})]
RUNGS = 4


def study(**more: Any) -> Study:
    given: dict[str, Any] = {"spaces": {"trees": SPACE}, "seed": 0, "limit": 12, "rungs": {"trees": RUNGS}, **more}
    sampler = given.pop("sampler", "random")
    samplers = {family: make_sampler(sampler) for family in given["spaces"]}
    return Study(PORTFOLIO, samplers=samplers, **given)


def found(step: Step) -> Result:
    """What a step finds: the loss falls from rung to rung, to a limit that the params give."""
    if step.candidate.family == "baseline":
        return Result(loss=9.0)
    params = step.candidate.params
    end = abs(float(params.get("rate", 0.1)) - 0.3) + 0.01 * float(params.get("leaves", 31)) / 64
    return Result(loss=end + 1.0 / 3**step.rung, cost_s=1.0, done=step.last)


def run(study: Study, workers: int, choose: Callable[[int], int] = lambda n: 0) -> list[Step]:
    """Ask and tell with so many workers; `choose` says which of those under way comes back."""
    return ask_and_tell(study, workers, found, choose)


def test_the_portfolio_comes_first_in_its_order_then_the_sampler_up_to_the_limit() -> None:
    steps = run(study(limit=5), 1)
    assert [step.number for step in steps] == [0, 1, 2, 3, 4]
    assert [step.candidate for step in steps[:2]] == PORTFOLIO
    assert [step.proposed for step in steps] == [False, False, True, True, True]
    assert all(step.last and step.candidate.family == "trees" for step in steps[2:])


def test_default_candidates_do_not_wait_for_one_that_is_never_told() -> None:
    more = [Candidate(family="trees", params={"leaves": leaves}) for leaves in (4, 8, 16, 32)]
    sampler = make_sampler("tpe")
    asked = Study(more, spaces={"trees": SPACE}, samplers={"trees": sampler}, seed=0, limit=6).ask()
    steps = [next(asked) for _ in range(5)]
    assert [step.number for step in steps[:4] if isinstance(step, Step)] == [0, 1, 2, 3]
    assert isinstance(steps[4], NotYet)  # what is proposed depends on what was found


def test_without_a_space_the_portfolio_is_all() -> None:
    assert len(run(study(spaces={}, limit=None), 1)) == 2
    assert len(run(study(spaces={}, limit=None, pruner=make_pruner("asha")), 1)) == 2 + RUNGS - 1


@pytest.mark.parametrize("pruner", ["none", "asha"])
def test_a_search_ends_with_the_last_point_of_a_grid(pruner: str) -> None:
    space: Space = {"rate": Float(0.1, 0.5), "kind": Choice(("a", "b"))}
    asked = study(spaces={"trees": space}, sampler="grid", limit=None, pruner=make_pruner(pruner))
    steps = [step for step in run(asked, 2) if step.proposed]
    tried = [tuple(step.candidate.params.items()) for step in steps if not step.below]
    assert len(tried) == len(set(tried)) == 6
    assert asked.is_exhausted("trees")


def test_another_seed_asks_for_something_else() -> None:
    assert run(study(), 1) == run(study(), 1) != run(study(seed=1), 1)


def test_a_sampler_that_does_not_learn_never_waits() -> None:
    asked = study(limit=9).ask()
    assert [step.number for step in asked if isinstance(step, Step)] == list(range(9))


@pytest.mark.parametrize("lag", [1, 3])
@pytest.mark.parametrize("pruner", ["none", "asha", "hyperband", "median", "curve"])
@pytest.mark.parametrize("sampler", ["random", "gp", "rl"])
def test_the_sequence_is_the_same_whatever_comes_back_when(sampler: str, pruner: str, lag: int) -> None:
    def make() -> Study:
        return study(sampler=sampler, pruner=make_pruner(pruner), lag=lag, limit=14)

    alone = run(make(), 1)
    assert len({step.number for step in alone}) == 14
    for workers in (2, 5):
        rng = random.Random(workers)
        assert run(make(), workers, lambda n, rng=rng: rng.randrange(1000)) == alone


def test_a_longer_study_begins_with_the_trials_of_the_shorter_one() -> None:
    def trials(limit: int) -> dict[int, Candidate]:
        steps = run(study(limit=limit, sampler="gp", pruner=make_pruner("asha")), 1)
        return {step.number: step.candidate for step in steps if step.number < 9}

    assert trials(9) == trials(20)


def test_no_more_steps_are_under_way_than_the_lag_allows() -> None:
    made = study(sampler="gp", lag=2, limit=20)
    asked = made.ask()
    first = [next(asked) for _ in range(4)]
    assert [isinstance(step, Step) for step in first] == [True, True, True, False]
    made.tell(first[1], found(first[1]))  # type: ignore[arg-type]
    assert isinstance(next(asked), NotYet)  # it is the first that is waited for
    made.tell(first[0], found(first[0]))  # type: ignore[arg-type]
    assert isinstance(next(asked), Step)


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_trials_climb_rung_by_rung_and_most_are_given_up(name: str) -> None:
    steps = run(study(pruner=make_pruner(name), limit=40), 1)
    climbed: dict[int, list[int]] = {}
    for step in steps:
        assert list(step.below) == climbed.setdefault(step.number, [])
        climbed[step.number].append(step.rung)
        assert step.last == (step.rung == RUNGS - 1 or step.candidate.family == "baseline")
    for rungs in climbed.values():
        assert rungs == list(range(rungs[0], rungs[-1] + 1))
    whole = sum(RUNGS - 1 in rungs for rungs in climbed.values())
    assert 1 <= whole <= 40 * (0.6 if name == "median" else 0.35)


def test_the_best_trial_is_trained_to_its_end() -> None:
    made = study(pruner=make_pruner("asha"), limit=4)  # too few for the pruner to let anything climb to the top
    run(made, 1)
    best = min((trial for trial in made.trials if not trial.failed), key=lambda trial: trial.loss)
    assert best.done
    assert best.rung == RUNGS - 1


def test_a_trial_that_was_stopped_goes_on_when_it_turns_out_to_be_among_the_best() -> None:
    steps = run(study(pruner=make_pruner("asha"), limit=60), 1)
    waits = []
    for place, step in enumerate(steps):
        if step.rung > 0:
            before = next(i for i in range(place - 1, -1, -1) if steps[i].number == step.number)
            waits.append(place - before)
    assert max(waits) > 5


def test_a_trial_that_failed_is_left_alone_and_the_search_goes_on() -> None:
    made = study(sampler="gp", pruner=make_pruner("asha"), limit=9)
    steps = []
    for step in made.ask():
        assert isinstance(step, Step)  # one worker: nothing is waited for
        steps.append(step)
        made.tell(step, Result(loss=float("nan")) if step.number % 3 == 2 else found(step))
    assert sum(trial.failed for trial in made.trials) == 3
    assert all(step.rung == 0 for step in steps if step.number % 3 == 2)


def test_params_that_are_held_stay() -> None:
    made = study(fixed={"trees": {"leaves": 5, "depth": 3}})
    steps = run(made, 1)
    assert all(step.candidate.params["leaves"] == 5 for step in steps if step.proposed)
    assert all(step.candidate.params["depth"] == 3 for step in steps if step.proposed)


def test_several_families_get_trials_by_what_they_are_worth() -> None:
    made = study(spaces={"trees": SPACE, "linear": {"rate": SPACE["rate"]}}, limit=24, rungs={})
    families = [step.candidate.family for step in run(made, 2)]
    assert {"trees", "linear"} <= set(families)


@pytest.mark.parametrize("pruner", [NoPruner(), make_pruner("asha")])
def test_a_study_of_one_point_ends(pruner: Pruner) -> None:
    made = study(spaces={"trees": {"kind": Choice(("a",), default="a")}}, sampler="gp", pruner=pruner, limit=6)
    assert len({step.number for step in run(made, 1)}) == 6
