"""Gangs of Ray's actors, in a placement group: all of them are started together, or none."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from shardwise.compute.endpoints import library
from shardwise.compute.gang.base import NoRoom
from shardwise.compute.gang.desk import StarGang
from shardwise.compute.messages import Caller, read_answer
from shardwise.compute.on_ray import Answerer, RayExecutor, asking, free_room, losses
from shardwise.core.errors import TaskFailed, WorkerLost

_PLACE_S = 60.0  # for Ray to find room for all members
_LOOK_S = 1.0


class RayLauncher:
    """Starts members as actors, anew for each run; `RayExecutor` has the session, and says what an actor asks for."""

    def __init__(self, workers: int | None = None, *, address: str | None = None, gpu: bool | None = False) -> None:
        self._ray = library("ray", "ray")
        self._groups = library("ray", "ray.util.placement_group")
        self._session = RayExecutor(workers, address=address, gpu=gpu)  # opens Ray; its actors are started when asked
        self._caller = Caller(threads=self._session.threads)
        self._workers = self._session.slots
        self._actors: list[Any] = []
        self._group: Any = None
        self.host: str = self._ray.util.get_node_ip_address()

    def room(self) -> int:
        """As many as were asked for, and not more than the cluster has room for now: machines may be lost."""
        there = self._ray.cluster_resources()
        return min(self._workers, *(int(there.get(kind, 0) // n) for kind, n in self._session.resources.items()))

    def launch(self, messages: list[tuple[Callable[[Any], Any], Any]]) -> "list[Future[Any]]":
        self.end()
        self._group = self._groups.placement_group([self._session.resources] * len(messages), strategy="SPREAD")
        self._wait_for_room(len(messages))
        strategy = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(self._group)
        asked = asking(self._session.resources)
        kind = self._ray.remote(Answerer).options(**asked, max_restarts=0, scheduling_strategy=strategy)
        self._actors = [kind.remote() for _ in messages]
        return [
            self._future(actor.answer.remote(self._caller.message(task, item)))
            for actor, (task, item) in zip(self._actors, messages, strict=True)
        ]

    def _wait_for_room(self, size: int) -> None:
        """Raises `NoRoom` when Ray does not find any in time, or at once where a machine is lost meanwhile."""
        begun_s = time.monotonic()
        while not self._group.wait(_LOOK_S):
            waited_s = time.monotonic() - begun_s
            if self.room() < size or waited_s > _PLACE_S:
                self.end()
                free = free_room(self._ray, self._session.resources)
                what = f"Ray has found no room for {size} members in {waited_s:.0f} s; for each {free}"
                raise NoRoom(what, hint="Give fewer --workers, or a larger cluster.")

    def _future(self, reference: Any) -> "Future[Any]":
        future: Future[Any] = Future()

        def wait() -> None:
            try:
                future.set_result(read_answer(self._ray.get(reference)))
            except losses(self._ray) as error:
                future.set_exception(WorkerLost(f"its actor died: {str(error).strip().partition(chr(10))[0]}"))
            except self._ray.exceptions.RayError as error:
                future.set_exception(TaskFailed(f"Ray failed: {error}"))
            except Exception as error:  # of the worker
                future.set_exception(error)

        threading.Thread(target=wait, name="member", daemon=True).start()
        return future

    def pid(self, _rank: int) -> int | None:
        """Not known before the member has come."""
        return None

    def end(self) -> None:
        """Kill the actors, and give their room back."""
        actors, self._actors = self._actors, []
        for actor in actors:
            self._ray.kill(actor)
        if self._group is not None:
            self._groups.remove_placement_group(self._group)
            self._group = None

    def close(self) -> None:
        self.end()
        self._session.close()


def ray_gang(workers: int | None = None, *, address: str | None = None, gpu: bool | None = False) -> StarGang:
    """Gangs of up to `workers` actors (default: a CPU of the cluster for each), with `gpu` each with a GPU; None: where
    the cluster has some."""
    return StarGang(RayLauncher(workers, address=address, gpu=gpu))
