"""An exchange over the shuffle of Ray Data (https://docs.ray.io/en/latest/data/shuffling-data.html)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.compute.endpoints import library
from shardwise.compute.engines import Asked
from shardwise.compute.exchange.base import ExchangeJob, error_in, errors_as_text
from shardwise.compute.messages import Caller, load, read_answer, value_answer
from shardwise.compute.on_ray import RayExecutor

_SCHEMA = pa.schema([("key", pa.int64()), ("order", pa.int64()), ("content", pa.large_binary())])


def ray_exchange(job: ExchangeJob[Any], asked: Asked) -> list[Any]:
    with RayExecutor(asked.workers, address=asked.address, store_bytes=2_000_000_000) as session:
        data = library("ray", "ray.data")
        data.DataContext.get_current().enable_progress_bars = False
        caller = Caller(threads=session.threads)
        messages = [{"message": caller.message(job.spread, item)} for item in job.items]
        parcels = data.from_items(messages, override_num_blocks=len(messages)).map_batches(_spread, batch_size=1)
        grouped = parcels.groupby("key", num_partitions=min(job.keys, 4 * session.slots))
        try:
            gathered = _Gathered(caller.message(job.gather, None))

            def gather(group: pa.Table) -> pa.Table:
                return gathered(group)

            rows = grouped.map_groups(gather, batch_format="pyarrow").take_all()
        except Exception as error:
            raise (error_in(str(error)) or error) from error
    return [read_answer(row["result"]) for row in sorted(rows, key=lambda row: row["key"])]


def _spread(batch: dict[str, np.ndarray]) -> Iterator[pa.Table]:
    with errors_as_text():
        for message in batch["message"]:
            spread, item, _ = load(message)
            for parcel in spread(item):
                yield pa.table(
                    {"key": [parcel.key], "order": [parcel.order], "content": [parcel.content]}, schema=_SCHEMA
                )


@dataclass(frozen=True)
class _Gathered:
    message: bytes

    def __call__(self, group: pa.Table) -> pa.Table:
        with errors_as_text():
            gather: Any = load(self.message)[0]
            group = group.sort_by("order")
            key = group["key"][0].as_py()
            result = gather(key, (content.as_py() for content in group["content"]))
            return pa.table({"key": [key], "result": [value_answer(result)]})
