"""Large requests, one after the other: what waits too long, and what is one too many."""

import asyncio
import threading

import pytest
from tests.serve.online.servers import PATIENCE_S

from shardwise.core.errors import SchemaError
from shardwise.serve.online.bulk import MOST_WAITING, Bulk
from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.problems import Problem


def run(main):
    bulk, gate = Bulk(Metrics()), threading.Event()

    async def body():
        return await main(bulk, gate)

    try:
        return asyncio.run(body())
    finally:
        gate.set()
        bulk.close()


def test_work_is_answered_in_order_and_its_errors_are_its_own():
    done = []

    def refuse():
        raise SchemaError("no")

    async def main(bulk, gate):
        works = [lambda n=n: done.append(n) or n for n in range(4)]
        works.insert(2, refuse)
        return await asyncio.gather(*(bulk.run(work, PATIENCE_S) for work in works), return_exceptions=True)

    found = run(main)
    assert found[:2] + found[3:] == done == [0, 1, 2, 3]
    assert isinstance(found[2], SchemaError)


def test_one_too_many_is_refused_until_there_is_room():
    async def main(bulk, gate):
        waiting = [asyncio.create_task(bulk.run(lambda: gate.wait(PATIENCE_S), PATIENCE_S))
                   for _ in range(MOST_WAITING + 1)]  # fmt: skip
        await asyncio.sleep(0)
        with pytest.raises(Problem) as refused:
            await bulk.run(lambda: 1, PATIENCE_S)
        gate.set()
        assert await asyncio.gather(*waiting) == [True] * len(waiting)
        assert await bulk.run(lambda: 1, PATIENCE_S) == 1
        return refused.value

    assert run(main).status == 429


def test_who_waits_too_long_is_told_so_and_what_has_not_begun_is_not_done():
    done = []

    async def main(bulk, gate):
        first = asyncio.create_task(bulk.run(lambda: gate.wait(PATIENCE_S), PATIENCE_S))
        await asyncio.sleep(0)
        with pytest.raises(Problem) as late:
            await bulk.run(lambda: done.append(1), 0.01)
        gate.set()
        assert await first
        assert await bulk.run(lambda: 2, PATIENCE_S) == 2
        return late.value

    assert run(main).code == "deadline_exceeded"
    assert done == []


def test_work_that_is_to_finish_is_waited_for_once_it_has_begun():
    begun, done = threading.Event(), []

    async def main(bulk, gate):
        def work():
            begun.set()
            return gate.wait(PATIENCE_S)

        first = asyncio.create_task(bulk.run(work, 0.01, finish=True))
        await asyncio.to_thread(begun.wait, PATIENCE_S)
        with pytest.raises(Problem) as late:  # meanwhile: it has not begun
            await bulk.run(lambda: done.append(1), 0.05, finish=True)
        gate.set()
        assert await first is True
        return late.value

    assert run(main).code == "deadline_exceeded"
    assert done == []
