"""How large partitions should be: a pure function of sizes, ceilings and speeds, and a sentence that explains it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.core.units import format_duration, format_size

TASK_OVERHEAD_S: Mapping[str, float] = {"local": 0.002, "ray": 0.010, "dask": 0.046, "spark": 0.140}
"""Seconds that an engine takes to start a task, as measured: docs/decisions/0006-shuffle.md, 0011-engines.md."""

USUAL_BYTES = 128_000_000  # as stored: the middle of 64 to 256 MB
OVERHEAD_SHARE = 0.05  # of the time, at most, goes into starting tasks
WAVES = 4  # partitions for each worker, at least: so that one slow partition does not hold up all
DECODE_BYTES_S = 500e6  # bytes in memory that a worker makes of Parquet in a second
MEMORY_SHARE = 0.5  # of a worker's memory for the partition it works on; the rest is for models and libraries


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is to be read, and by what.

    size_bytes       as stored, all columns
    share            of these bytes that the columns which are read take, in (0, 1]
    expansion        bytes in memory for a byte as stored
    memory_bytes     ceiling over all workers
    passes           times that the data is read
    bandwidth_bytes_s  of the disk, over all workers
    engine           whose tasks they are: see `TASK_OVERHEAD_S`
    """

    size_bytes: int
    memory_bytes: int
    bandwidth_bytes_s: float
    share: float = 1.0
    expansion: float = 4.0
    workers: int = 1
    passes: int = 3
    engine: str = "local"

    def __post_init__(self) -> None:
        if self.engine not in TASK_OVERHEAD_S:
            raise ConfigError(f"there is no engine {self.engine!r}", hint=nearest(self.engine, TASK_OVERHEAD_S))
        for name in ("memory_bytes", "bandwidth_bytes_s", "share", "expansion", "workers", "passes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="Give a number above 0.")


@dataclass(frozen=True, kw_only=True)
class Advice:
    """`count` partitions of about `partition_bytes` as stored.

    `reason` names what decided: usual, memory, overhead or workers. `read_s` is the time of all passes, reading and
    decoding, `overhead_s` that of starting all tasks, over the workers.
    """

    count: int
    partition_bytes: int
    reason: str
    memory_bytes: int
    read_s: float
    overhead_s: float
    sentence: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def advise(work: Workload) -> Advice:
    """Size and number of partitions.

    A partition of s stored bytes takes s * share * expansion of a worker's memory, and as many seconds as the slower of
    reading (s * share * workers / bandwidth) and decoding (s * share * expansion / `DECODE_BYTES_S`). The usual 128 MB
    are kept within three bounds: at least four partitions for each worker; so much work that starting its task is at
    most 5 % of it; and at most half of a worker's memory, which has the last word.

    >>> advise(Workload(size_bytes=8 * 10**9, memory_bytes=8 * 10**9, bandwidth_bytes_s=1e9, workers=2)).count
    64
    """
    most = MEMORY_SHARE * work.memory_bytes / work.workers / (work.share * work.expansion)
    least = TASK_OVERHEAD_S[work.engine] / OVERHEAD_SHARE / _seconds_per_byte(work)
    size, reason = float(USUAL_BYTES), "usual"
    if (for_workers := work.size_bytes / (WAVES * work.workers)) < size:
        size, reason = for_workers, "workers"
    if size < least:
        size, reason = min(least, float(work.size_bytes)), "overhead"
    if size > most:
        size, reason = most, "memory"
    count = max(1, math.ceil(work.size_bytes / size))
    if count > work.workers:
        count = math.ceil(count / work.workers) * work.workers  # the last wave is a full one
    return _explained(work, count, reason)


def _seconds_per_byte(work: Workload) -> float:
    """Seconds that a worker needs for a stored byte of a partition, while all workers read."""
    return work.share * max(work.workers / work.bandwidth_bytes_s, work.expansion / DECODE_BYTES_S)


def _explained(work: Workload, count: int, reason: str) -> Advice:
    size = max(1, round(work.size_bytes / count))
    read_s = work.passes * work.size_bytes * _seconds_per_byte(work) / work.workers
    overhead_s = work.passes * count * TASK_OVERHEAD_S[work.engine] / work.workers
    at_once = min(count, work.workers)
    memory = round(size * work.share * work.expansion * at_once)
    start = f"starting a task takes {TASK_OVERHEAD_S[work.engine] * 1000:.0f} ms on {work.engine}"
    why = {
        "usual": "the usual size",
        "memory": f"as large as half of {format_size(work.memory_bytes)} of memory allows for {work.workers} workers",
        "overhead": f"so large that {start}, at most {OVERHEAD_SHARE:.0%} of its work",
        "workers": f"so small that each of {work.workers} workers gets at least {WAVES}",
    }[reason]
    sentence = (
        f"Use {count:,} partition{'s' if count > 1 else ''} of about {format_size(size)} as stored, {why}: "
        f"{at_once} at a time take {format_size(memory)} in memory "
        f"({work.expansion * work.share:.3g} bytes for each stored one); "
        f"{work.passes} passes over {work.share:.0%} of {format_size(work.size_bytes)} take about "
        f"{format_duration(read_s)} (disk {format_size(work.bandwidth_bytes_s)}/s), and starting "
        f"{count * work.passes:,} tasks adds {format_duration(overhead_s)}."
    )
    return Advice(count=count, partition_bytes=size, reason=reason, memory_bytes=memory, read_s=read_s,
                  overhead_s=overhead_s, sentence=sentence)  # fmt: skip
