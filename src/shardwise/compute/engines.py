"""The engines by name. Each but the local one is imported when it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass

from shardwise.compute.base import Executor
from shardwise.compute.ceiling import cpu_quota
from shardwise.compute.endpoints import library
from shardwise.compute.local import InlineExecutor, ProcessExecutor
from shardwise.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What an engine is asked for.

    workers   how many; None: as many as it has CPUs
    address   where it listens; None: the engine's own default, else a cluster on this machine that ends with the run
    memory_bytes  what the workers may use together
    gpu       each worker needs one, where the engine gives them away; None: where the cluster has some
    """

    workers: int | None = None
    address: str | None = None
    memory_bytes: int | None = None
    gpu: bool | None = False


def _local(asked: Asked) -> Executor:
    check_engine("local", asked.address)
    workers = asked.workers or cpu_quota()
    return InlineExecutor() if workers == 1 else ProcessExecutor(workers, memory_bytes=asked.memory_bytes)


def _ray(asked: Asked) -> Executor:
    from shardwise.compute.on_ray import RayExecutor

    return RayExecutor(asked.workers, address=asked.address, gpu=asked.gpu)


def _dask(asked: Asked) -> Executor:
    from shardwise.compute.on_dask import DaskExecutor

    return DaskExecutor(asked.workers, address=asked.address)


def _spark(asked: Asked) -> Executor:
    from shardwise.compute.on_spark import SparkExecutor

    return SparkExecutor(asked.workers, address=asked.address)


_LIBRARIES = {"ray": "ray", "dask": "distributed", "spark": "pyspark.sql"}
ENGINES: dict[str, Callable[[Asked], Executor]] = {"local": _local, "ray": _ray, "dask": _dask, "spark": _spark}


def check_engine(engine: str, address: str | None) -> None:
    """Raise `ConfigError` for an engine that is not known or not installed, and for an address of the local one."""
    if engine not in ENGINES:
        raise ConfigError(f"{engine!r} is not an engine", hint=f"Choose one of: {', '.join(ENGINES)}.")
    if engine == "local" and address is not None:
        raise ConfigError(f"--address {address} was given with --engine local", hint="Add --engine ray, spark or dask.")
    if engine in _LIBRARIES:
        library(engine, _LIBRARIES[engine])


def worker_memory_bytes(engine: str, address: str | None) -> int | None:
    """What a worker of a cluster that runs already may use; None where its engine does not tell, or there is none.

    Raises `ConfigError` as `make_executor` does.
    """
    if address is None or engine == "local" or address.startswith("local"):
        return None
    executor = make_executor(engine, 1, address=address)
    try:
        return executor.worker_bytes()
    finally:
        executor.close()


def make_executor(
    engine: str = "local", workers: int | None = None, *, memory_bytes: int | None = None, address: str | None = None,
    gpu: bool | None = False,
) -> Executor:  # fmt: skip
    """The executor of an engine; `workers` defaults to the CPUs that this process, or the cluster, has for it.

    `memory_bytes` bounds what the workers use together, where the engine can. With `gpu` each worker asks for one,
    where the engine gives them away; with None, where the cluster has some. Raises `ConfigError` for an engine that is
    not known or not installed, an address where it does not answer or that is not the one of the session that this
    process has, or less than one worker.

    >>> make_executor("local", 1).slots
    1
    """
    check_engine(engine, address)
    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} workers were asked for", hint="Give at least 1.")
    return ENGINES[engine](Asked(workers=workers, address=address, memory_bytes=memory_bytes, gpu=gpu))
