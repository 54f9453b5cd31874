import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.compute import ceiling
from shardwise.compute.ceiling import (
    MemoryWatch,
    available_bytes,
    check_disk,
    cpu_quota,
    crowd,
    disk_free,
    memory_limit_bytes,
    tree_memory_bytes,
)
from shardwise.core.errors import DiskFull

MB = 10**6
MEMINFO = "MemTotal: 16000000 kB\nMemFree: 1 kB\nMemAvailable: 8000000 kB\nHugePages_Total: 0\n"


def machine(root: Path, files: Mapping[str, object]) -> Path:
    for name, content in {"proc/meminfo": MEMINFO, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def test_without_groups_the_machine_is_the_limit(tmp_path: Path) -> None:
    root = machine(tmp_path, {})
    assert memory_limit_bytes(root) == 16_000_000 * 1024
    assert available_bytes(root) == 8_000_000 * 1024
    assert cpu_quota(root) == len(os.sched_getaffinity(0))


V2_OUTER = {"sys/fs/cgroup/pod/memory.max": 900 * MB, "sys/fs/cgroup/pod/memory.current": 850 * MB}
V2_INNER = {"sys/fs/cgroup/pod/box/memory.max": 500 * MB, "sys/fs/cgroup/pod/box/memory.current": 100 * MB}
V2 = {"proc/self/cgroup": "0::/pod/box"}


@pytest.mark.parametrize(
    ("files", "limit", "available"),
    [
        ({**V2, **V2_OUTER}, 900 * MB, 50 * MB),
        ({**V2, **V2_INNER}, 500 * MB, 400 * MB),
        ({**V2, **V2_OUTER, **V2_INNER}, 500 * MB, 50 * MB),  # the outer group is fuller than the inner one
        ({**V2, **V2_OUTER, "sys/fs/cgroup/pod/box/memory.max": "max"}, 900 * MB, 50 * MB),
    ],
)
def test_the_lowest_group_of_version_2_counts(
    tmp_path: Path, files: Mapping[str, object], limit: int, available: int
) -> None:
    root = machine(tmp_path, files)
    assert memory_limit_bytes(root) == limit
    assert available_bytes(root) == available


def test_inside_a_container_the_mount_point_is_the_group(tmp_path: Path) -> None:
    root = machine(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": 64 * MB})
    assert memory_limit_bytes(root) == 64 * MB


def test_file_pages_that_can_be_dropped_are_available(tmp_path: Path) -> None:
    stat = "anon 5\ninactive_file 30000000"
    root = machine(tmp_path, {**V2, **V2_INNER, "sys/fs/cgroup/pod/box/memory.stat": stat})
    assert available_bytes(root) == 430 * MB


def test_version_1_with_the_path_of_the_host(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "9:cpu,cpuacct:/docker/0af\n4:memory:/docker/0af\n1:name=systemd:/",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": 700 * MB,
        "sys/fs/cgroup/memory/memory.usage_in_bytes": 300 * MB,
        "sys/fs/cgroup/memory/memory.stat": f"inactive_file 1\ntotal_inactive_file {100 * MB}",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": 50_000,
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": 100_000,
    }
    root = machine(tmp_path, files)
    assert memory_limit_bytes(root) == 700 * MB
    assert available_bytes(root) == 500 * MB
    assert cpu_quota(root) == 1


def test_version_1_without_a_limit(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/a\n1:cpu:/a",
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": 2**63 - 4096,
        "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": -1,
        "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": 100_000,
    }
    root = machine(tmp_path, files)
    assert memory_limit_bytes(root) == 16_000_000 * 1024
    assert cpu_quota(root) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(("text", "cpus"), [("max 100000", 64), ("250000 100000", 3), ("10000 100000", 1)])
def test_cpu_quota_of_version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, cpus: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    root = machine(tmp_path, {**V2, "sys/fs/cgroup/pod/box/cpu.max": text})
    assert cpu_quota(root) == cpus


def test_the_real_machine_agrees_with_psutil() -> None:
    assert 0 < memory_limit_bytes() <= psutil.virtual_memory().total
    assert 0 < available_bytes() <= memory_limit_bytes()


def test_an_address_space_limit_counts() -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33));"
        "from shardwise.compute.ceiling import memory_limit_bytes; print(memory_limit_bytes())"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(answer.stdout) <= 2**33


def process(pid: int, parent: int, **files: str) -> dict[str, object]:
    return {f"proc/{pid}/{name}": text for name, text in {"stat": f"{pid} (a ) b) S {parent} 1", **files}.items()}


def test_the_tree_is_summed_without_strangers(tmp_path: Path) -> None:
    files = {
        **process(10, 1, smaps_rollup="00-ff ---p [rollup]\nRss: 900 kB\nPss: 500 kB\nPss_Anon: 100 kB"),
        **process(30, 10, smaps_rollup="Pss: 40 kB"),
        **process(20, 30, statm="9 3 1 1 0 1 0"),  # no proportional size: the resident one
        **process(40, 1, smaps_rollup="Pss: 7000 kB"),
        **process(50, 30),  # ended while it was looked at
    }
    assert tree_memory_bytes(10, machine(tmp_path, files)) == 540 * 1024 + 3 * mmap.PAGESIZE


def test_children_count_in_the_real_tree() -> None:
    script = "import sys; block = b'x' * 80_000_000; print(flush=True); sys.stdin.read()"
    before = tree_memory_bytes()
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert tree_memory_bytes() > before + 70_000_000
        child.communicate()


def test_the_watch_calls_once_for_each_rise() -> None:
    readings = iter([10, 30, 40, 15, 50, 5])
    calls: list[int] = []
    watch = MemoryWatch(20, on_above=calls.append, measure=lambda: next(readings))
    for _ in range(6):
        watch.sample()
    assert calls == [30, 50]
    assert watch.peak_bytes == 50
    assert [used for _, used in watch.samples] == [10, 30, 40, 15, 50, 5]


def test_the_watch_measures_from_its_thread() -> None:
    measured = threading.Event()

    def measure() -> int:
        if threading.current_thread() is not threading.main_thread():
            measured.set()
        return 7

    with MemoryWatch(interval_s=0.001, measure=measure) as watch:
        assert measured.wait(60)
    assert watch.peak_bytes == 7
    assert watch.samples


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=50), st.integers(0, 20_000))
def test_thinned_samples_keep_the_peak(readings: list[int], count: int) -> None:
    watch = MemoryWatch(measure=iter([readings[i % len(readings)] for i in range(count + 1)]).__next__)
    for _ in range(count + 1):
        watch.sample()
    kept = [used for _, used in watch.samples]
    assert len(kept) <= 2048
    assert watch.samples == sorted(watch.samples, key=lambda sample: sample[0])
    assert watch.peak_bytes == max(readings[: count + 1])
    assert watch.peak_bytes in [*kept, *(used for _, used in watch._pending)]


def test_disk_is_checked_where_the_folder_will_be(tmp_path: Path) -> None:
    place = tmp_path / "not" / "there" / "yet"
    assert disk_free(place) > 0
    check_disk(place, 1)
    with pytest.raises(DiskFull, match=r"1000 TB of disk are needed, .* are free \(path .*yet\)\. Free some space"):
        check_disk(place, 10**15)


def test_a_lap_has_the_peak_since_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "LAP_S", -1.0)
    readings = iter([10, 50, 20, 5, 30, 30])
    watch = MemoryWatch(measure=lambda: next(readings))
    watch.sample()
    watch.sample()
    assert watch.lap() == 50  # the third reading is lower
    assert watch.lap() == 5
    watch.sample()
    assert watch.lap() == 30
    assert watch.peak_bytes == 50


def test_what_was_just_measured_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceiling, "LAP_S", 60.0)
    readings = iter([10, 50])
    watch = MemoryWatch(measure=lambda: next(readings))
    assert [watch.lap(), watch.lap()] == [10, 10]
    watch.sample()
    assert [watch.lap(), watch.lap()] == [50, 50]


@pytest.mark.parametrize(("load", "expected"), [(0.1, 1.0), (2.0, 1.0), (5.0, 2.5), (40.0, 3.0)])
def test_a_crowded_machine_is_told(monkeypatch: pytest.MonkeyPatch, load: float, expected: float) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert crowd() == expected
