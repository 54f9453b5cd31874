"""Exchanges by the name of the engine. Each is imported when it is asked for."""

from functools import partial
from typing import Any

from shardwise.compute.engines import Asked
from shardwise.compute.exchange.base import Exchange, ExchangeJob
from shardwise.compute.exchange.over_files import exchange_by


def _ray(job: ExchangeJob[Any], asked: Asked) -> list[Any]:
    from shardwise.compute.exchange.on_ray import ray_exchange

    return ray_exchange(job, asked)


def _spark(job: ExchangeJob[Any], asked: Asked) -> list[Any]:
    from shardwise.compute.exchange.on_spark import spark_exchange

    return spark_exchange(job, asked)


EXCHANGES: dict[str, Exchange] = {
    "ray": partial(exchange_by, "ray"),
    "dask": partial(exchange_by, "dask"),
    "spark": _spark,
}
