"""Gangs of Spark's tasks, in a barrier stage: all of them are started together, or none.

https://spark.apache.org/docs/latest/api/python/reference/api/pyspark.RDD.barrier.html
"""

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

from shardwise.compute.gang.base import GangBroken
from shardwise.compute.gang.desk import StarGang
from shardwise.compute.messages import answer, read_answer
from shardwise.compute.on_spark import SparkExecutor, told
from shardwise.core.errors import WorkerLost

_numbers = itertools.count()


class SparkLauncher:
    """Starts members as the tasks of a job; see `SparkExecutor` for the session and the address.

    Where one task dies Spark ends the stage, and does not say whose it was: the desk knows it by its line.
    """

    def __init__(self, workers: int | None = None, *, address: str | None = None) -> None:
        self._session = SparkExecutor(workers, address=address)
        self._context = self._session.context
        self._caller = self._session.caller()
        self._job: threading.Thread | None = None
        self._group = ""
        self.host: str = self._context.getConf().get("spark.driver.host", "127.0.0.1")

    def room(self) -> int:
        """Tasks that run at the same time: Spark refuses a barrier stage of more."""
        return min(self._session.slots, self._session.at_once())

    def launch(self, messages: list[tuple[Callable[[Any], Any], Any]]) -> "list[Future[Any]]":
        self.end()
        futures: list[Future[Any]] = [Future() for _ in messages]
        contents = [self._caller.message(task, item) for task, item in messages]
        self._group = f"shardwise-gang-{os.getpid()}-{next(_numbers)}"
        self._job = threading.Thread(target=self._run, args=(self._group, contents, futures), name="gang", daemon=True)
        self._job.start()
        return futures

    def _run(self, group: str, contents: list[bytes], futures: "list[Future[Any]]") -> None:
        try:
            self._context.setJobGroup(group, "shardwise", interruptOnCancel=True)
            stage = self._context.parallelize(contents, len(contents)).barrier().mapPartitions(_answers)
            replies = [bytes(reply) for reply in stage.collect()]
        except Exception as error:  # py4j's, with all that Java has to say
            for future in futures:
                future.set_exception(_whose(told(error)))
            return
        for future, reply in zip(futures, replies, strict=True):
            try:
                future.set_result(read_answer(reply))
            except Exception as failure:  # of the worker
                future.set_exception(failure)

    def pid(self, _rank: int) -> int | None:
        """Not known before the member has come."""
        return None

    def end(self) -> None:
        """Cancel until the job has ended: one that was not submitted yet cannot be cancelled."""
        job, self._job = self._job, None
        while job is not None and job.is_alive():
            self._context.cancelJobGroup(self._group)
            job.join(0.2)

    def close(self) -> None:
        self.end()
        self._session.close()


def _whose(error: Exception) -> Exception:
    return GangBroken(error.message) if isinstance(error, WorkerLost) else error


def _answers(messages: Iterable[bytes]) -> Iterator[bytes]:
    """In a task: the answer of a member. Its error is an answer too, which ends no stage."""
    for message in messages:
        yield answer(message)


def spark_gang(workers: int | None = None, *, address: str | None = None) -> StarGang:
    """Gangs of up to `workers` tasks (default: Spark's default parallelism)."""
    return StarGang(SparkLauncher(workers, address=address))
