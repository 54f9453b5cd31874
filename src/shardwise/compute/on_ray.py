"""Tasks on Ray (https://docs.ray.io), on a cluster that is there or on one of our own on this machine.

Each slot has an actor, a process of Ray's that lives as long as the executor, on whatever machine Ray chooses. An actor
that dies, with its machine or alone, is replaced by a new one elsewhere.
"""

import contextlib
import os
import socket
import threading
from types import ModuleType
from typing import Any

from shardwise.compute.ceiling import cpu_quota, give_back
from shardwise.compute.endpoints import check_grpc, check_port, library
from shardwise.compute.messages import RESULT_LIMIT_BYTES, Caller, answer
from shardwise.compute.slots import ClusterExecutor, Slot, threads_per_worker
from shardwise.core.errors import ConfigError, TaskFailed, WorkerLost

_OBJECT_STORE_BYTES = 2 * RESULT_LIMIT_BYTES  # of our own cluster: for messages and answers, never for tables
_START_S = 180.0  # for a worker to start; a cluster that grows by itself may need that


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
        slots = [_ActorSlot(self._ray, self.threads, closed) for _ in range(count)]
        super().__init__(slots, closed, Caller(limit_bytes, threads=self.threads))

    def leave(self) -> None:
        """End the session, if it is ours; the actors have been killed."""
        if self._owned:
            self._ray.shutdown()


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


class _ActorSlot(Slot):
    """An actor, started when it is first needed and again after it died."""

    def __init__(self, ray: ModuleType, threads: int, closed: threading.Event) -> None:
        super().__init__(closed)
        self.ray = ray
        self.threads = threads
        self.lock = threading.Lock()  # guards the start of an actor against `kill`
        self.actor: Any = None
        self.local_pid: int | None = None

    def ask(self, message: bytes) -> bytes:
        actor = self.started()
        try:
            reply: bytes = self.ray.get(actor.answer.remote(message))
        except self.ray.exceptions.RayActorError as error:
            raise self.lost(error) from error
        except self.ray.exceptions.RayError as error:
            raise TaskFailed(f"Ray failed: {_first_line(error)}") from error
        return reply

    def started(self) -> Any:
        with self.lock:
            if self.closed.is_set():
                raise TaskFailed("the executor was closed")
            if self.actor is None:
                self.actor = self.ray.remote(Answerer).options(num_cpus=self.threads, max_restarts=0).remote()
                self.local_pid = None
            actor = self.actor
        if self.local_pid is None:
            self.local_pid = self.wait(actor)
        return actor

    def wait(self, actor: Any) -> int:
        """Until the actor runs; its process, 0 when that is on another machine."""
        errors = self.ray.exceptions
        try:
            host, pid = self.ray.get(actor.where.remote(), timeout=_START_S)
        except errors.GetTimeoutError as error:
            self.kill()
            free = self.ray.available_resources().get("CPU", 0)
            what = (
                f"Ray has not started a worker of {self.threads} CPU(s) in {_START_S:.0f} s; {free:.0f} CPU(s) are free"
            )
            raise TaskFailed(what, hint="Give fewer --workers, or a larger cluster.") from error
        except errors.RayError as error:
            self.kill()
            hint = "Install the same version of shardwise on all machines of the cluster."
            raise WorkerLost(f"a worker did not start: {_first_line(error)}", hint=hint) from error
        return int(pid) if host == socket.gethostname() else 0

    def pid(self) -> int | None:
        return self.local_pid or None

    def lost(self, error: Exception) -> WorkerLost:
        with self.lock:
            self.actor = self.local_pid = None
        return WorkerLost(f"the worker died: {_first_line(error)}")

    def kill(self) -> None:
        with self.lock:
            actor, self.actor = self.actor, None
            if actor is not None:
                with contextlib.suppress(self.ray.exceptions.RayError):  # it is dead already
                    self.ray.kill(actor)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
