"""The lane by itself: a predictor that waits to be let go shows what waits, what is grouped, and what is refused."""

import asyncio
import threading

import numpy as np
import pytest
from tests.serve.online.servers import PATIENCE_S

from shardwise.core.errors import SchemaError
from shardwise.serve.online.costs import Costs
from shardwise.serve.online.lane import GROUP_ROWS, Lane
from shardwise.serve.online.live import Served
from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.settings import ServeConfig


class Gated:
    """Answers a row with its number, when it is let go; a row with the number -1 cannot be read."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.groups: list[int] = []

    def scores_of_rows(self, rows):
        assert self.gate.wait(PATIENCE_S)
        self.groups.append(len(rows))
        if any(row["n"] < 0 for row in rows):
            raise SchemaError("a number from 0 up was expected")
        return np.array([[float(row["n"])] for row in rows])


def served(version: str = "1") -> Served:
    return Served("m", version, version, Gated())


def rows(*numbers: int) -> list[dict]:
    return [{"n": number} for number in numbers]


async def asked(lane, model, numbers, deadline_s=PATIENCE_S) -> list[float]:
    found = await lane.scores(model, rows(*numbers), deadline_s)
    return found[:, 0].tolist()


def run(main, **config):
    """`main(lane)` in an event loop."""
    lane = Lane(ServeConfig(**config), Metrics())

    async def body():
        return await main(lane)

    try:
        return asyncio.run(body())
    finally:
        lane.close()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0.002)


def test_what_comes_while_others_are_predicted_is_one_group():
    model = served()

    async def main(lane):
        first = asyncio.create_task(asked(lane, model, [0]))
        await settle()
        others = [asyncio.create_task(asked(lane, model, [number, number + 100])) for number in range(1, 21)]
        await settle()
        model.predictor.gate.set()
        return await asyncio.gather(first, *others)

    found = run(main)
    assert found == [[0.0], *([float(number), number + 100.0] for number in range(1, 21))]
    assert model.predictor.groups == [1, 40]


def test_groups_are_bounded_and_hold_one_version():
    old, new = served("1"), served("2")

    async def main(lane):
        first = asyncio.create_task(asked(lane, old, [0]))
        await settle()
        many = list(range(GROUP_ROWS - 1))
        others = [asyncio.create_task(asked(lane, model, numbers))
                  for model, numbers in ((old, many), (old, [1, 2]), (new, [3]), (old, [4]))]  # fmt: skip
        await settle()
        old.predictor.gate.set()
        new.predictor.gate.set()
        return await asyncio.gather(first, *others)

    found = run(main)
    assert [each[-1] for each in found] == [0.0, GROUP_ROWS - 2.0, 2.0, 3.0, 4.0]
    assert old.predictor.groups == [1, GROUP_ROWS - 1, 2, 1]
    assert new.predictor.groups == [1]


def test_a_full_lane_refuses_and_goes_on_when_there_is_room():
    model = served()

    async def main(lane):
        waiting = [asyncio.create_task(asked(lane, model, [number])) for number in range(4)]
        await settle()
        with pytest.raises(Problem) as refused:
            await asked(lane, model, [9])
        with pytest.raises(Problem, match="4 rows"):
            lane.check_room(model)
        model.predictor.gate.set()
        assert await asyncio.gather(*waiting) == [[0.0], [1.0], [2.0], [3.0]]
        lane.check_room(model)
        assert await asked(lane, model, [5]) == [5.0]
        return refused.value

    problem = run(main, queue_rows=4)
    assert (problem.status, problem.code) == (429, "overloaded")
    assert int(problem.headers["retry-after"]) >= 1


def test_who_waits_too_long_is_told_so_and_not_predicted():
    model = served()

    async def main(lane):
        first = asyncio.create_task(asked(lane, model, [0]))
        await settle()
        late = asyncio.create_task(asked(lane, model, [1], deadline_s=0.01))
        other = asyncio.create_task(asked(lane, model, [2]))
        with pytest.raises(Problem) as problem:
            await late
        model.predictor.gate.set()
        assert await asyncio.gather(first, other) == [[0.0], [2.0]]
        return problem.value

    assert run(main).code == "deadline_exceeded"
    assert model.predictor.groups == [1, 1]


def test_a_row_that_cannot_be_read_spoils_its_own_request_alone():
    model = served()

    async def main(lane):
        first = asyncio.create_task(asked(lane, model, [0]))
        await settle()
        asking = [asyncio.create_task(asked(lane, model, numbers)) for numbers in ([1], [-1], [2, 3])]
        await settle()
        model.predictor.gate.set()
        return await asyncio.gather(first, *asking, return_exceptions=True)

    first, one, bad, two = run(main)
    assert (first, one, two) == ([0.0], [1.0], [2.0, 3.0])
    assert isinstance(bad, SchemaError)


def test_a_fast_model_answers_in_the_thread_of_the_loop():
    model = served()
    model.predictor.gate.set()
    used = set()
    answer = model.predictor.scores_of_rows
    model.predictor.scores_of_rows = lambda given: (used.add(threading.current_thread().name), answer(given))[1]

    async def main(lane):
        model.costs.learn(1, 0.0)
        return await asked(lane, model, [7])

    assert run(main) == [7.0]
    assert used == {threading.current_thread().name}


def test_costs_are_learned_by_the_size_of_a_group():
    costs = Costs()
    assert costs.expected_s(1) == float("inf")
    costs.learn(8, 0.004)
    assert (costs.expected_s(1), costs.expected_s(9), costs.expected_s(16)) == (0.004, 0.004, 0.008)
    for _ in range(200):
        costs.learn(1, 0.001)
    assert costs.expected_s(1) == pytest.approx(0.001)


def test_a_cold_start_and_a_held_up_prediction_are_no_costs():
    costs = Costs()
    for seconds in (0.02, *[0.0001] * 8):
        costs.learn(1, seconds)
    assert costs.expected_s(1) < 0.0002
    costs.learn(1, 0.05)
    assert costs.expected_s(1) < 0.0003
    for _ in range(60):
        costs.learn(1, 0.05)
    assert costs.expected_s(1) == pytest.approx(0.05)  # it does take longer now
    costs.learn(16, 0.0004)
    assert costs.expected_s(1) == pytest.approx(0.0004)  # a row does not take longer than 16
