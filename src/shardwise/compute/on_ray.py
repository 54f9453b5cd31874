"""Tasks on Ray (https://docs.ray.io), on a cluster that is there or on one of our own on this machine.

Tasks run in actors, processes of Ray's that live as long as the executor, on whatever machine Ray chooses. One that
dies, with its machine or alone, is replaced by a new one elsewhere, as far as there is room.
"""

import contextlib
import os
import socket
import threading
import time
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from shardwise.compute.ceiling import cpu_quota, give_back
from shardwise.compute.endpoints import check_grpc, check_port, library
from shardwise.compute.messages import RESULT_LIMIT_BYTES, Caller, answer
from shardwise.compute.slots import ClusterExecutor, Slot, threads_per_worker
from shardwise.core.errors import ConfigError, TaskFailed, WorkerLost

_OBJECT_STORE_BYTES = 2 * RESULT_LIMIT_BYTES  # of our own cluster: for messages and answers, never for tables
_START_S = 180.0  # for a worker to start, when there is no other; a cluster that grows by itself may need that
_LOOK_S = 0.02  # between two looks for a free actor


class RayExecutor(ClusterExecutor):
    """Runs tasks on `workers` actors of Ray, of `threads` CPUs each: on our own cluster their share, elsewhere one.

    A session of Ray that this process has already is used and left open. Else `address`, or the environment's
    RAY_ADDRESS, names a cluster; without one a small cluster is started on this machine (loopback, no dashboard) and
    ends with the executor. `workers` None: one for each CPU of the cluster.

    What tasks print goes to Ray's own logs. `shed` reaches actors of this machine alone; elsewhere nothing bounds an
    actor's memory but Ray's own monitor, which ends the largest task on a machine that is nearly full.
    """

    def __init__(
        self, workers: int | None = None, *, address: str | None = None, limit_bytes: int = RESULT_LIMIT_BYTES,
        store_bytes: int = _OBJECT_STORE_BYTES,
    ) -> None:  # fmt: skip
        self._ray = library("ray", "ray")
        self._owned = not self._ray.is_initialized()
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        if self._owned:
            _connect(self._ray, address, workers or cpu_quota(), store_bytes)
        count = workers or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        self.threads = threads_per_worker(count) if self._owned and address == "local" else 1
        closed = threading.Event()
        self._actors = _Actors(self._ray, count, self.threads, closed)
        slots = [_ActorSlot(self._ray, self._actors, closed) for _ in range(count)]
        super().__init__(slots, closed, Caller(limit_bytes, threads=self.threads))

    def retire(self) -> None:
        """End the actors that are idle, to give their CPUs back; others are started when they are needed."""
        self._actors.retire()

    def leave(self) -> None:
        """End the actors, and the session if it is ours."""
        self._actors.retire()
        if self._owned:
            self._ray.shutdown()


def cpu_memory_bytes(address: str) -> int:
    """Memory for each CPU of the cluster at `address`, on its machine that has least; a session is used or opened."""
    with RayExecutor(1, address=address):
        nodes = [node["Resources"] for node in library("ray", "ray").nodes() if node["Alive"]]
        shares = [node.get("memory", 0.0) / node["CPU"] for node in nodes if node.get("CPU")]
        return int(min(shares, default=0.0))


def _connect(ray: ModuleType, address: str, workers: int, store_bytes: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        own: dict[str, Any] = {
            "address": address, "num_cpus": workers * threads_per_worker(workers), "include_dashboard": False,
            "object_store_memory": store_bytes, "_node_ip_address": "127.0.0.1",
        }  # fmt: skip
        ray.init(**own, **quiet)
        return
    if address != "auto":  # `ray.init` tries for minutes where nobody listens
        encrypted = os.environ.get("RAY_USE_TLS") == "1"
        (check_port if encrypted else check_grpc)("ray", address.removeprefix("ray://"))
    try:
        ray.init(address=address, **quiet)
    except (Exception, SystemExit) as error:  # Ray exits where it cannot go on
        hint = "Give the address of a running Ray cluster, like 10.0.0.1:6379, as `ray status` shows it."
        reason = " ".join(str(error).split())
        raise ConfigError(f"Ray does not answer at {address}: {reason}", hint=hint) from error


class Answerer:
    """What an actor is: answers messages in a process of its own."""

    def where(self) -> tuple[str, int]:
        return socket.gethostname(), os.getpid()

    def answer(self, message: bytes) -> bytes:
        reply = answer(message)
        give_back()
        return reply


@dataclass
class _Actor:
    """An actor, and what it says of itself once it runs: its process, 0 when that is on another machine."""

    handle: Any
    where: Any  # a reference
    pid: int = 0


class _Actors:
    """The actors of an executor, at most `count`, started when they are needed and lent to one task after the other.

    One that Ray has no room for, as a machine was lost, keeps nobody waiting: its task takes the next that is free.
    """

    def __init__(self, ray: ModuleType, count: int, threads: int, closed: threading.Event) -> None:
        self._ray = ray
        self._count = count
        self._threads = threads
        self._closed = closed
        self._lock = threading.Lock()  # guards the lists
        self._starting: list[_Actor] = []
        self._idle: list[_Actor] = []
        self._lent = 0

    def take(self) -> _Actor:
        """An actor that runs and is free; waits for one.

        Raises `WorkerLost` for one that did not start, `TaskFailed` when there is none at all for `_START_S`.
        """
        until_s = time.monotonic() + _START_S
        while not self._closed.is_set():
            with self._lock:
                self._look()
                if self._idle:
                    self._lent += 1
                    return self._idle.pop()
                if self._lent:
                    until_s = time.monotonic() + _START_S
                if len(self._starting) + self._lent < self._count:
                    self._starting.append(self._start())
            if time.monotonic() > until_s:
                raise self._no_room()
            self._closed.wait(_LOOK_S)
        raise TaskFailed("the executor was closed")

    def give(self, actor: _Actor, *, dead: bool) -> None:
        """Take an actor back; one that is `dead`, or about to be, is not lent again."""
        with self._lock:
            self._lent -= 1
            if not dead:
                self._idle.append(actor)
        if dead:
            self.kill(actor)

    def retire(self) -> None:
        """End those that are lent to nobody; others are started when they are needed."""
        with self._lock:
            actors = [*self._idle, *self._starting]
            self._idle, self._starting = [], []
        for actor in actors:
            self.kill(actor)

    def kill(self, actor: _Actor) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):  # it is dead already
            self._ray.kill(actor.handle)

    def _start(self) -> _Actor:
        handle = self._ray.remote(Answerer).options(num_cpus=self._threads, max_restarts=0).remote()
        return _Actor(handle, handle.where.remote())

    def _look(self) -> None:
        """Those of the starting actors that run by now are idle."""
        for actor in list(self._starting):
            ready, _ = self._ray.wait([actor.where], timeout=0)
            if not ready:
                continue
            self._starting.remove(actor)
            try:
                host, pid = self._ray.get(actor.where)
            except self._ray.exceptions.RayError as error:
                hint = "Install the same version of shardwise on all machines of the cluster."
                raise WorkerLost(f"a worker did not start: {_first_line(error)}", hint=hint) from error
            actor.pid = int(pid) if host == socket.gethostname() else 0
            self._idle.append(actor)

    def _no_room(self) -> TaskFailed:
        free = self._ray.available_resources().get("CPU", 0)
        what = f"Ray has not started a worker of {self._threads} CPU(s) in {_START_S:.0f} s; {free:.0f} CPU(s) are free"
        return TaskFailed(what, hint="Give fewer --workers, or a larger cluster.")


class _ActorSlot(Slot):
    """One task at a time, on an actor that is lent to it."""

    def __init__(self, ray: ModuleType, actors: _Actors, closed: threading.Event) -> None:
        super().__init__(closed)
        self.ray = ray
        self.actors = actors
        self.actor: _Actor | None = None

    def ask(self, message: bytes) -> bytes:
        actor = self.actor = self.actors.take()
        dead = True
        try:
            if self.closed.is_set():
                raise TaskFailed("the executor was closed")
            reply: bytes = self.ray.get(actor.handle.answer.remote(message))
            dead = False
        except losses(self.ray) as error:
            raise WorkerLost(f"the worker died: {_first_line(error)}") from error
        except self.ray.exceptions.RayError as error:
            raise TaskFailed(f"Ray failed: {_first_line(error)}") from error
        finally:
            self.actor = None
            self.actors.give(actor, dead=dead)
        return reply

    def pid(self) -> int | None:
        actor = self.actor
        return None if actor is None else actor.pid or None

    def kill(self) -> None:
        actor = self.actor
        if actor is not None:
            self.actors.kill(actor)


def losses(ray: ModuleType) -> tuple[type[Exception], ...]:
    """Errors that say that an actor, or its machine, is gone."""
    errors = ray.exceptions
    return errors.RayActorError, errors.NodeDiedError, errors.WorkerCrashedError, errors.ObjectLostError


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
