"""Gangs by the name of the engine. Each but the local one is imported when it is asked for."""

from collections.abc import Callable

from shardwise.compute.ceiling import cpu_quota
from shardwise.compute.engines import Asked
from shardwise.compute.gang.base import Gang
from shardwise.compute.gang.local import process_gang
from shardwise.core.errors import ConfigError


def _local(asked: Asked) -> Gang:
    return process_gang(asked.workers or cpu_quota(), memory_bytes=asked.memory_bytes)


def _ray(asked: Asked) -> Gang:
    from shardwise.compute.gang.on_ray import ray_gang

    return ray_gang(asked.workers, address=asked.address, gpu=asked.gpu)


def _spark(asked: Asked) -> Gang:
    from shardwise.compute.gang.on_spark import spark_gang

    return spark_gang(asked.workers, address=asked.address)


GANGS: dict[str, Callable[[Asked], Gang]] = {"local": _local, "ray": _ray, "spark": _spark}


def make_gang(engine: str, asked: Asked) -> Gang:
    """The gang of an engine. Raises `ConfigError` for one that cannot start tasks together, or is not installed.

    >>> gang = make_gang("local", Asked(workers=2))
    >>> gang.room()
    2
    >>> gang.close()
    """
    if engine not in GANGS:
        raise ConfigError(
            f"--engine {engine} cannot start workers together, as one model on several of them needs",
            hint=f"Give --parallel none, or one of the engines {', '.join(GANGS)}.",
        )
    return GANGS[engine](asked)
