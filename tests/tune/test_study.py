from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from shardwise.core.candidate import Candidate
from shardwise.core.space import Choice, Float, Int, Space
from shardwise.tune.samplers import RandomSampler
from shardwise.tune.study import Study

SPACE: Space = {"rate": Float(0.01, 1.0, log=True), "leaves": Int(2, 64, log=True), "kind": Choice(("a", "b"))}
PORTFOLIO = [Candidate(family="baseline"), Candidate(family="trees", params={"leaves": 8})]


def asked(study: Study, many: int) -> Sequence[tuple[int, Candidate]]:
    return list(islice(study.ask(), many))


def test_the_portfolio_comes_first_in_its_order_then_the_sampler_up_to_the_limit() -> None:
    trials = list(Study(PORTFOLIO, {"trees": SPACE}, seed=0, limit=5).ask())
    assert [number for number, _ in trials] == [0, 1, 2, 3, 4]
    assert [candidate for _, candidate in trials[:2]] == PORTFOLIO
    assert all(candidate.family == "trees" for _, candidate in trials[2:])


def test_what_is_asked_is_a_pure_function_of_the_seed() -> None:
    first, again, other = (asked(Study(PORTFOLIO, {"trees": SPACE}, seed=s), 8) for s in (3, 3, 4))
    assert first == again
    assert first != other


def test_a_longer_study_begins_with_the_shorter_one() -> None:
    assert asked(Study(PORTFOLIO, {"trees": SPACE}, seed=0, limit=9), 4) == asked(
        Study(PORTFOLIO, {"trees": SPACE}, seed=0, limit=4), 4
    )


def test_without_a_space_the_portfolio_is_all() -> None:
    assert len(list(Study(PORTFOLIO, {}, seed=0).ask())) == 2


def test_random_params_lie_inside_the_space_and_reach_its_ends() -> None:
    drawn: list[dict[str, Any]] = [RandomSampler().suggest(SPACE, [], seed) for seed in range(400)]
    rates, leaves = np.array([d["rate"] for d in drawn]), np.array([d["leaves"] for d in drawn])
    assert rates.min() >= 0.01
    assert rates.max() <= 1.0
    assert {leaves.min(), leaves.max()} == {2, 64}
    assert np.median(rates) < 0.2  # uniform in the logarithm: the median is the geometric middle
    assert {d["kind"] for d in drawn} == {"a", "b"}
