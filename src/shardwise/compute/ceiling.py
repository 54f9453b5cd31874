"""What this process may use - memory, CPUs, disk - and what it does use, together with its children.

Limits are those of the machine or of the container, whichever is lower. Linux tells them in files: control groups
version 2 (https://docs.kernel.org/admin-guide/cgroup-v2.html) and 1, and /proc. Each function takes the `root` under
which these files lie.
"""

import ctypes
import math
import os
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pyarrow as pa

from shardwise.core.errors import DiskFull
from shardwise.core.units import format_size

ROOT = Path("/")
_MAX_SAMPLES = 2048
_MMAP_THRESHOLD = -3  # of malloc.h
LAP_S = 0.1  # a measurement so young is not repeated: the kernel takes ten milliseconds for it


def memory_limit_bytes(root: Path = ROOT) -> int:
    """The most memory that this process may ever have: the lowest of cgroup limits, RLIMIT_AS and physical memory."""
    limits = [_meminfo(root)["MemTotal"], *(limit for limit, _ in _memory_groups(root))]
    address_space = resource.getrlimit(resource.RLIMIT_AS)[0]
    return min(limits if address_space == resource.RLIM_INFINITY else [*limits, address_space])


def available_bytes(root: Path = ROOT) -> int:
    """Memory that is free now, for this process; file pages that the kernel can drop count as free."""
    rooms = [limit - used for limit, used in _memory_groups(root)]
    return max(0, min([_meminfo(root)["MemAvailable"], *rooms]))


def cpu_quota(root: Path = ROOT) -> int:
    """CPUs that this process may use, at least 1: the lower of its affinity and its cgroup quotas (rounded up)."""
    quotas = [float(len(os.sched_getaffinity(0)))]
    for folder in group_folders(root, ""):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    for folder in group_folders(root, "cpu"):
        v1_quota, v1_period = (_number(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
        if v1_quota is not None and v1_quota > 0 and v1_period:
            quotas.append(v1_quota / v1_period)
    return max(1, math.ceil(min(quotas)))


def _memory_groups(root: Path) -> Iterator[tuple[int, int]]:
    """`(limit_bytes, used_bytes)` of each memory group that this process is in and that has a limit."""
    names = (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    for controller, limit_name, usage_name, droppable in names:
        for folder in group_folders(root, controller):
            limit = _number(folder / limit_name)
            if limit is not None and limit < 2**60:  # version 1 writes "no limit" as a number near 2**63
                stat = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
                used = (_number(folder / usage_name) or 0) - int(stat.get(droppable, 0))
                yield limit, max(0, used)


def group_folders(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the group that this process is in, and of those around it; controller "" is version 2.

    Inside a container the path in /proc may be the host's, and the container's own group lies at the mount point: it
    is the last folder of the walk.
    """
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if controller not in names.split(","):
            continue
        mounts = (names, controller) if controller else (".", "unified")
        for mount in dict.fromkeys(root / "sys/fs/cgroup" / name for name in mounts):
            inner = mount / path.lstrip("/")
            yield inner
            yield from (folder for folder in inner.parents if folder.is_relative_to(mount))


def _meminfo(root: Path) -> dict[str, int]:
    lines = (line.split() for line in _text(root / "proc/meminfo").splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3}


def _text(path: Path) -> str:
    """The content; nothing when it is not there, or the process that it describes has just ended."""
    try:
        return path.read_text().strip()
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError, PermissionError):
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.lstrip("-").isdigit() else None


def number_in(path: Path, name: str) -> int:
    """The number after `name` in a file of lines `name number`; 0 when it is not there."""
    lines = (line.split() for line in _text(path).splitlines())
    return next((int(words[1]) for words in lines if len(words) == 2 and words[0] == name), 0)


def crowd(most: float = 3.0) -> float:
    """Processes that want to run, per core, over the last minute: 1 where none has to wait, `most` at most."""
    if not hasattr(os, "getloadavg"):  # not on Windows
        return 1.0
    return min(most, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))


def tree_memory_bytes(pid: int | None = None, root: Path = ROOT) -> int:
    """Physical memory of a process (default: this one) and all its descendants.

    The proportional set size: a page that n processes share counts 1/n for each of them, so that the sum counts it
    once. Where the kernel does not tell it, the resident set size, which counts shared pages more than once.
    """
    return sum(
        _process_bytes(root / "proc" / str(member)) for member in _tree(os.getpid() if pid is None else pid, root)
    )


def _tree(pid: int, root: Path) -> list[int]:
    members = [pid]
    told = (root / f"proc/{pid}/task/{pid}/children").exists()
    parents = {} if told else _all_children(root)
    for member in members:  # grows as it is walked
        members.extend(_children(root / f"proc/{member}") if told else parents.get(member, []))
    return members


def _children(folder: Path) -> list[int]:
    """Processes that the threads of one have started, as newer kernels tell them."""
    try:
        threads = list((folder / "task").iterdir())
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError, PermissionError):
        return []  # it has just ended
    return [int(child) for thread in threads for child in _text(thread / "children").split()]


def _all_children(root: Path) -> dict[int, list[int]]:
    """Children of every process, from a look at all of them."""
    children: dict[int, list[int]] = {}
    for folder in (root / "proc").iterdir():
        if folder.name.isdigit() and (stat := _text(folder / "stat")):
            parent = int(stat.rpartition(")")[2].split()[1])  # the name in brackets may hold anything
            children.setdefault(parent, []).append(int(folder.name))
    return children


def _process_bytes(folder: Path) -> int:
    for line in _text(folder / "smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    resident = _text(folder / "statm").split()
    return int(resident[1]) * resource.getpagesize() if resident else 0


class MemoryWatch:
    """Measures the memory of the process tree every `interval_s`, from a thread of its own.

    Use it as a context manager. `on_above(bytes)` is called once each time the memory rises above `act_share` of
    `limit_bytes`, from the thread: it should be quick. `samples` are `(seconds since the start, bytes)`, thinned to
    about two thousand for a run of any length; of those thinned out the higher one is kept, so that the peak stays.
    """

    def __init__(
        self,
        limit_bytes: int | None = None,
        interval_s: float = 0.5,
        *,
        on_above: Callable[[int], None] | None = None,
        measure: Callable[[], int] = tree_memory_bytes,
        act_share: float = 1.0,
    ) -> None:
        self.limit_bytes = limit_bytes
        self.interval_s = interval_s
        self.peak_bytes = 0
        self.samples: list[tuple[float, int]] = []
        self._on_above = on_above
        self._measure = measure
        self._act_share = act_share
        self._above = False
        self._lap_bytes = 0
        self._last = (-math.inf, 0)  # (seconds since the start, bytes)
        self._lock = threading.Lock()
        self._stride, self._pending = 1, list[tuple[float, int]]()
        self._start_s = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)

    def __enter__(self) -> Self:
        self._start_s = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self.sample()

    def sample(self) -> int:
        """Measure now; the bytes."""
        used = self._measure()
        with self._lock:  # `lap` measures from another thread
            self.peak_bytes = max(self.peak_bytes, used)
            self._lap_bytes = max(self._lap_bytes, used)
            self._last = (time.monotonic() - self._start_s, used)
            self._record(*self._last)
        above = self.limit_bytes is not None and used > self._act_share * self.limit_bytes
        if above and not self._above and self._on_above is not None:
            self._on_above(used)
        self._above = above
        return used

    def lap(self) -> int:
        """The most bytes since the last call; measured once more, unless it just was."""
        if time.monotonic() - self._start_s - self._last[0] > LAP_S:
            self.sample()
        with self._lock:
            highest, self._lap_bytes = self._lap_bytes or self._last[1], 0
        return highest

    def _watch(self) -> None:
        self.sample()
        while not self._stopped.wait(self.interval_s):
            self.sample()

    def _record(self, at_s: float, used: int) -> None:
        self._pending.append((at_s, used))
        if len(self._pending) < self._stride:
            return
        self.samples.append(max(self._pending, key=lambda sample: sample[1]))
        self._pending.clear()
        if len(self.samples) >= _MAX_SAMPLES:
            pairs = zip(self.samples[::2], self.samples[1::2], strict=True)
            self.samples = [max(pair, key=lambda sample: sample[1]) for pair in pairs]
            self._stride *= 2


def give_back() -> None:
    """Return memory that was freed to the system: allocators keep it, and it counts as this process's.

    malloc_trim(3) of glibc, and Arrow's pool; does nothing where there is no such call.
    """
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def return_at_once(least_bytes: int) -> None:
    """From now on blocks of memory of that size go back to the system as soon as they are free.

    mallopt(3) of glibc, which by itself keeps ever larger ones, in whose place no other ones may fit; does nothing
    where there is no such call.
    """
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(_MMAP_THRESHOLD, least_bytes)


def disk_free(path: str | os.PathLike[str]) -> int:
    """Free bytes where `path` is, or will be."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def check_disk(path: str | os.PathLike[str], needed_bytes: int) -> None:
    """Raise `DiskFull` when less than `needed_bytes` are free where `path` is, or will be."""
    free = disk_free(path)
    if free < needed_bytes:
        raise DiskFull(
            f"{format_size(needed_bytes)} of disk are needed, {format_size(free)} are free",
            hint="Free some space or choose another folder.",
            path=os.fspath(path),
        )
