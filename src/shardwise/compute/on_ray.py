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
from shardwise.compute.endpoints import check_grpc, check_port, check_ray, library
from shardwise.compute.messages import RESULT_LIMIT_BYTES, Caller, answer
from shardwise.compute.slots import ClusterExecutor, Slot, threads_per_worker
from shardwise.core.errors import ConfigError, TaskFailed, WorkerLost

_OBJECT_STORE_BYTES = 2 * RESULT_LIMIT_BYTES  # of our own cluster: for messages and answers, never for tables
_START_S = 180.0  # for a worker to start, when there is no other; a cluster that grows by itself may need that
_LOOK_S = 0.02  # between two looks for a free actor


class RayExecutor(ClusterExecutor):
    """Runs tasks on `workers` actors of Ray, of `threads` CPUs each: on our own cluster their share, elsewhere one.

    A session of Ray that this process has already is used and left open; an `address` has to be its own then. Else
    `address`, or the environment's RAY_ADDRESS, names a cluster; without one a small cluster is started on this machine
    (loopback, no dashboard) and ends with the executor. `workers` None: one for each CPU of the cluster. With `gpu`
    each actor asks for a GPU too, and sees no other one; with None, where the cluster has some.

    What tasks print goes to Ray's own logs. `shed` reaches actors of this machine alone; elsewhere nothing bounds an
    actor's memory but Ray's own monitor, which ends the largest task on a machine that is nearly full.
    """

    def __init__(
        self, workers: int | None = None, *, address: str | None = None, limit_bytes: int = RESULT_LIMIT_BYTES,
        gpu: bool | None = False,
    ) -> None:  # fmt: skip
        self._ray = library("ray", "ray")
        self._owned = not self._ray.is_initialized()
        if not self._owned and address is not None:
            _check_same(address, self._ray.get_runtime_context().gcs_address)
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        if self._owned:
            _connect(self._ray, address, workers or cpu_quota())
        room = self._ray.cluster_resources()
        gpu = bool(room.get("GPU")) if gpu is None else gpu
        if gpu and not room.get("GPU"):
            self.leave_session()
            what = "--device cuda needs a GPU, and the cluster of Ray has none"
            raise ConfigError(what, hint="Start a node of Ray with --num-gpus, or give another --device.")
        count = workers or max(1, int(min(room.get(kind, 1) for kind in ("CPU", *["GPU"] * gpu))))
        self.threads = threads_per_worker(count) if self._owned and address == "local" else 1
        closed = threading.Event()
        self.resources = {"CPU": float(self.threads), **({"GPU": 1.0} if gpu else {})}  # of an actor
        self._actors = _Actors(self._ray, count, self.resources, closed)
        slots = [_ActorSlot(self._ray, self._actors, closed) for _ in range(count)]
        super().__init__(slots, closed, Caller(limit_bytes, threads=self.threads))

    def retire(self) -> None:
        """End the actors that are idle, to give their CPUs back; others are started when they are needed."""
        self._actors.retire()

    def leave(self) -> None:
        """End the actors, and the session if it is ours."""
        self._actors.retire()
        self.leave_session()

    def leave_session(self) -> None:
        """End it, if it is ours."""
        if self._owned:
            self._ray.shutdown()

    def worker_bytes(self) -> int | None:
        """The share of an actor's CPUs in the memory of the machine that has least for each."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        shares = [node["memory"] / node["CPU"] for node in nodes if node.get("CPU") and node.get("memory")]
        return int(self.threads * min(shares)) if shares else None


def _check_same(address: str, session: str) -> None:
    """Raises `ConfigError` where an address was given that is not the session's. Of a client's (`ray://`) the port is
    another one than the cluster tells, and names may be this machine's."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    its_host, _, its_port = session.rpartition(":")
    same_port = port == its_port or address.startswith("ray://")
    if address in ("auto", "local") or (same_port and _numbers_of(host) & _numbers_of(its_host)):
        return
    raise ConfigError(
        f"--address {address} was given, but this process is connected to Ray at {session} already",
        hint="Disconnect before (ray.shutdown()), or leave --address away to use that session.",
    )


def _numbers_of(host: str) -> set[str]:
    """The addresses of a host; all of this machine are one."""
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host.strip("[]"), None)}
    except OSError:
        return {host}
    return found | {"this machine"} if any(map(_is_here, found)) else found


def _is_here(number: str) -> bool:
    family = socket.AF_INET6 if ":" in number else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((number, 0))  # which only an address of this machine allows
        except OSError:
            return False
    return True


def _connect(ray: ModuleType, address: str, workers: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        own: dict[str, Any] = {
            "address": address, "num_cpus": workers * threads_per_worker(workers), "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES, "_node_ip_address": "127.0.0.1",
        }  # fmt: skip
        ray.init(**own, **quiet)
        return
    if address != "auto":  # `ray.init` tries for minutes where nobody listens
        _check(address)
    try:
        ray.init(address=address, **quiet)
    except (Exception, SystemExit) as error:  # Ray exits where it cannot go on
        hint = "Give the address of a running Ray cluster, like 10.0.0.1:6379, as `ray status` shows it."
        reason = " ".join(str(error).split())
        raise ConfigError(f"Ray does not answer at {address}: {reason}", hint=hint) from error


def _check(address: str) -> None:
    """Raises `ConfigError` where Ray does not listen."""
    if os.environ.get("RAY_USE_TLS") == "1":
        check_port("ray", address.removeprefix("ray://"))
    elif address.startswith("ray://"):
        check_grpc("ray", address.removeprefix("ray://"))
    else:
        check_ray(address)


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

    def __init__(self, ray: ModuleType, count: int, resources: dict[str, float], closed: threading.Event) -> None:
        self._ray = ray
        self._count = count
        self._resources = resources
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
        handle = self._ray.remote(Answerer).options(**asking(self._resources), max_restarts=0).remote()
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
        what = f"Ray has not started a worker in {_START_S:.0f} s; {free_room(self._ray, self._resources)}"
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


def asking(resources: dict[str, float]) -> dict[str, float]:
    """How an actor asks Ray for them."""
    return {f"num_{kind.lower()}s": number for kind, number in resources.items()}


def free_room(ray: ModuleType, resources: dict[str, float]) -> str:
    """What an actor needs, and what is free of it, for an error."""
    free = ray.available_resources()
    return ", ".join(
        f"it needs {number:.0f} {kind}(s) and {free.get(kind, 0):.0f} are free" for kind, number in resources.items()
    )


def losses(ray: ModuleType) -> tuple[type[Exception], ...]:
    """Errors that say that an actor, or its machine, is gone."""
    errors = ray.exceptions
    return errors.RayActorError, errors.NodeDiedError, errors.WorkerCrashedError, errors.ObjectLostError


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
