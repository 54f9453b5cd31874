"""What a worker does in `bench_locality.py`: it reads a partition, and looks at what its process has read meanwhile."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from shardwise.compute.ceiling import number_in
from shardwise.data.base import Partition
from shardwise.data.dataset import Dataset


@dataclass(frozen=True)
class Reads:
    """In a worker: a partition from its first row to its last; bytes `read` from files, and of them from the `disk`."""

    dataset: Dataset

    def __call__(self, partition: Partition) -> dict[str, float]:
        before, began_s = _bytes(), time.process_time()
        rows = sum(batch.num_rows for batch in self.dataset.read(partition))
        read, disk = (now - then for now, then in zip(_bytes(), before, strict=True))
        cpu_s = time.process_time() - began_s
        return {
            "index": partition.index, "worker": os.getpid(), "rows": rows, "read": read, "disk": disk, "cpu_s": cpu_s,
        }  # fmt: skip


def _bytes() -> tuple[int, ...]:
    return tuple(number_in(Path("/proc/self/io"), name) for name in ("rchar:", "read_bytes:"))
