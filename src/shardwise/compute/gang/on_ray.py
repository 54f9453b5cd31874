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
from shardwise.compute.on_ray import Answerer, RayExecutor, losses
from shardwise.core.errors import TaskFailed, WorkerLost

_PLACE_S = 60.0  # for Ray to find room for all members
_LOOK_S = 1.0


class RayLauncher:
    """Starts members as actors of one CPU each, anew for each run; `RayExecutor` has the session and the address."""

    def __init__(self, workers: int | None = None, *, address: str | None = None) -> None:
        self._ray = library("ray", "ray")
        self._groups = library("ray", "ray.util.placement_group")
        self._session = RayExecutor(workers, address=address)  # opens Ray; its actors are started when they are asked
        self._caller = Caller(threads=1)
        self._workers = self._session.slots
        self._actors: list[Any] = []
        self._group: Any = None
        self.host: str = self._ray.util.get_node_ip_address()

    def room(self) -> int:
        """As many as were asked for, and not more than the cluster has CPUs now: machines may be lost."""
        return min(self._workers, int(self._ray.cluster_resources().get("CPU", 0)))

    def launch(self, messages: list[tuple[Callable[[Any], Any], Any]]) -> "list[Future[Any]]":
        self.end()
        self._group = self._groups.placement_group([{"CPU": 1}] * len(messages), strategy="SPREAD")
        self._wait_for_room(len(messages))
        strategy = self._ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(self._group)
        kind = self._ray.remote(Answerer).options(num_cpus=1, max_restarts=0, scheduling_strategy=strategy)
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
                free = self._ray.available_resources().get("CPU", 0)
                what = f"Ray has found no room for {size} members in {waited_s:.0f} s; {free:.0f} CPU(s) are free"
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


def ray_gang(workers: int | None = None, *, address: str | None = None) -> StarGang:
    """Gangs of up to `workers` actors (default: a CPU of the cluster for each)."""
    return StarGang(RayLauncher(workers, address=address))
