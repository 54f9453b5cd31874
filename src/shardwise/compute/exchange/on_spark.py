"""An exchange over Spark's own shuffle: parcels stay in the executors, on their disks where memory does not suffice.

What Spark moves are opaque bytes, so that columns keep types that a DataFrame does not have, and are not turned into
rows. https://spark.apache.org/docs/latest/api/python/reference/api/pyspark.RDD.repartitionAndSortWithinPartitions.html
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

from shardwise.compute.engines import Asked
from shardwise.compute.exchange.base import ExchangeJob, error_in, errors_as_text
from shardwise.compute.messages import loaded
from shardwise.compute.on_spark import SparkExecutor, told

TRIES = 4  # of a task, by Spark itself: it makes again what was lost with an executor

_Pair = tuple[tuple[int, int], bytes]


def spark_exchange(job: ExchangeJob[Any], asked: Asked) -> list[Any]:
    """Run the exchange as one job of Spark; what is collected are the results of the keys."""
    with SparkExecutor(asked.workers, address=asked.address, tries=TRIES) as session:
        context = session.context
        caller = session.caller()
        messages = [caller.message(job.spread, item) for item in job.items]
        pairs = context.parallelize(messages, len(messages)).mapPartitions(_spread)
        sorted_pairs = pairs.repartitionAndSortWithinPartitions(job.keys, partitionFunc=_key)
        try:
            results = sorted_pairs.mapPartitions(_Gathered(caller.message(job.gather, None))).collect()
        except Exception as error:  # py4j's, with all that Java has to say
            raise (error_in(str(error)) or told(error)) from error
    for item in job.items:
        job.passed(item)
    return list(results)


def _key(pair: tuple[int, int]) -> int:
    return pair[0]


def _spread(messages: Iterable[bytes]) -> Iterator[_Pair]:
    with errors_as_text():
        for message in messages:
            with loaded(message) as (spread, item, _):
                for parcel in spread(item):
                    yield (parcel.key, parcel.order), parcel.content


@dataclass(frozen=True)
class _Gathered:
    """In a task of Spark's, whose pairs are those of one key, in their order."""

    message: bytes

    def __call__(self, pairs: Iterable[_Pair]) -> Iterator[Any]:
        with errors_as_text(), loaded(self.message) as (gather, _, _):
            for key, group in groupby(pairs, key=lambda pair: pair[0][0]):
                yield gather(key, map(itemgetter(1), group))
