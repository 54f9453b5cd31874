"""Tasks on Dask (https://distributed.dask.org), on a cluster that is there or on one of our own on this machine."""

import contextlib
import threading
import time
from types import ModuleType
from typing import Any

from shardwise.compute.ceiling import cpu_quota
from shardwise.compute.endpoints import check_greeting, check_port, library
from shardwise.compute.messages import RESULT_LIMIT_BYTES, Caller, answer
from shardwise.compute.slots import ClusterExecutor, Slot, threads_per_worker
from shardwise.core.errors import ConfigError, TaskFailed, WorkerLost

_CONNECT_S = 5
_LOOK_S = 0.05  # between two looks for a free worker
_POLL_S = 2.0  # between two looks at whether a worker is still there
_NO_WORKER_S = 60.0  # without any worker, until a task is given up


class DaskExecutor(ClusterExecutor):
    """Runs up to `workers` tasks at a time on the workers of Dask.

    `address` names a scheduler; without one Dask's own setting (DASK_SCHEDULER_ADDRESS) counts, and without that a
    cluster is started on this machine and ends with the executor; a script that starts one needs an
    `if __name__ == "__main__"` guard. `workers` None: one for each worker of the cluster.

    A worker of Dask's, a process, has one task at a time, which has all its threads: what libraries keep for a process,
    such as random numbers, no other task changes meanwhile. A task is bound to a worker that is free, so that one that
    dies takes nothing with it that only waited there; its nanny restarts it. Workers of others are left as they were
    after each task. A task that runs on a cluster that is not ours goes on after `close`: Dask does not end it. Nothing
    here bounds the memory of a worker; Dask's own settings do.
    """

    def __init__(
        self, workers: int | None = None, *, address: str | None = None, limit_bytes: int = RESULT_LIMIT_BYTES
    ) -> None:
        dask, distributed = library("dask", "dask"), library("dask", "distributed")
        address = address or dask.config.get("scheduler-address", None)
        self._cluster = None if address else _local_cluster(dask, distributed, workers or cpu_quota())
        self._client = _connect(distributed, self._cluster, address)
        threads = self._client.nthreads()
        count = workers or max(1, len(threads))
        self.threads = threads_per_worker(count) if self._cluster else min(threads.values(), default=1)
        closed = threading.Event()
        leases = _Leases(self._client, closed)
        slots = [_FutureSlot(distributed, leases, closed) for _ in range(count)]
        ours = self._cluster is not None
        super().__init__(slots, closed, Caller(limit_bytes, threads=self.threads, quiet=ours, guest=not ours))

    def worker_bytes(self) -> int | None:
        """The limit of the worker that has least; None without any."""
        workers = self._client.scheduler_info()["workers"].values()
        return min((int(worker["memory_limit"]) for worker in workers if worker["memory_limit"]), default=None)

    def leave(self) -> None:
        """Let go of the cluster, and end it if it is ours."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _local_cluster(dask: ModuleType, distributed: ModuleType, workers: int) -> Any:
    """`workers` processes of one thread each, on loopback; Dask neither tries again nor manages their memory."""
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        return distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None,
            memory_limit=None, silence_logs="CRITICAL",
        )  # fmt: skip


def _connect(distributed: ModuleType, cluster: Any, address: str | None) -> Any:
    if cluster is not None:
        return distributed.Client(cluster, set_as_default=False)
    address = str(address)
    scheme, _, place = address.rpartition("://")
    if scheme in ("", "tcp"):
        check_greeting("dask", place)
    elif scheme == "tls":
        check_port("dask", place)
    try:
        return distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        hint = "Give the address of a Dask scheduler, like tcp://10.0.0.1:8786."
        raise ConfigError(f"Dask does not answer at {address}: {error}", hint=hint) from error


class _Leases:
    """Which worker each slot uses: one task on each."""

    def __init__(self, client: Any, closed: threading.Event) -> None:
        self.client = client
        self.closed = closed
        self.lock = threading.Lock()
        self.taken: set[str] = set()

    def take(self) -> str:
        """The address of a worker that is free; waits for one. Raises `TaskFailed` where none comes."""
        until_s = time.monotonic() + _NO_WORKER_S
        while not self.closed.is_set():
            workers = self.workers()
            with self.lock:
                address = min(workers - self.taken, default="")
                if address:
                    self.taken.add(address)
                    return address
            if workers:
                until_s = time.monotonic() + _NO_WORKER_S
            if time.monotonic() > until_s:
                what = f"Dask has had no worker for {_NO_WORKER_S:.0f} s"
                raise TaskFailed(what, hint="Look at the logs of its workers and nannies.")
            self.closed.wait(_LOOK_S)
        raise TaskFailed("the executor was closed")

    def workers(self) -> set[str]:
        return set(self.client.nthreads())

    def give(self, address: str) -> None:
        with self.lock:
            self.taken.discard(address)


class _FutureSlot(Slot):
    """One task at a time, on a worker that is free."""

    def __init__(self, distributed: ModuleType, leases: _Leases, closed: threading.Event) -> None:
        super().__init__(closed)
        self.distributed = distributed
        self.leases = leases
        self.future: Any = None

    def ask(self, message: bytes) -> bytes:
        address = self.leases.take()
        future = self.future = self.leases.client.submit(answer, message, pure=False, workers=[address])
        if self.closed.is_set():
            self.kill()
        try:
            reply: bytes = self.wait(future, address)
        except self.distributed.KilledWorker as error:
            raise WorkerLost(f"the worker died ({address})") from error
        except TaskFailed:
            raise
        except Exception as error:  # of Dask, or of a worker that cannot load our module
            hint = "The workers need the same versions of Dask and shardwise."
            raise TaskFailed(f"Dask failed: {type(error).__name__}: {error}", hint=hint) from error
        finally:
            self.future = None
            self.leases.give(address)
        return reply

    def wait(self, future: Any, address: str) -> Any:
        """A scheduler that tries again by itself would wait for ever for a worker that does not come back."""
        while True:
            try:
                return future.result(timeout=_POLL_S)
            except TimeoutError:
                if address not in self.leases.workers() and not future.done():
                    future.cancel()
                    raise WorkerLost(f"the worker died ({address})") from None

    def kill(self) -> None:
        future = self.future
        if future is not None:
            with contextlib.suppress(OSError):  # the scheduler has gone
                future.cancel()
