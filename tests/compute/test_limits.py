"""Memory limits of workers: those of the kernel where a group may be made, else of the resource and the watch."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shardwise.compute import limits
from shardwise.compute.base import stream
from shardwise.compute.ceiling import MemoryWatch, tree_memory_bytes
from shardwise.compute.limits import MemoryGroup
from shardwise.compute.local import ProcessExecutor
from shardwise.core.errors import OverBudget

MB = 2**20
LIMIT = 400 * MB


def hold(size_mb: int) -> int:
    """Touch that much memory and tell how much was held."""
    block = np.ones(size_mb * MB, np.uint8)
    time.sleep(0.3)
    return int(block[::4096].sum()) * 4096 // MB


def test_a_group_of_version_2_is_made_below_the_own_one(tmp_path: Path) -> None:
    own = tmp_path / "sys/fs/cgroup/pod"
    own.mkdir(parents=True)
    (own / "cgroup.procs").touch()
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod\n")
    assert MemoryGroup.make(LIMIT, tmp_path) is None  # a folder without the controller's files is none of the kernel's
    assert list(own.iterdir()) == [own / "cgroup.procs"]


def test_a_killed_member_is_counted(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert MemoryGroup(tmp_path, "memory.events").kills() == 2
    assert MemoryGroup(tmp_path / "gone", "memory.events").kills() == 0
    assert not MemoryGroup(tmp_path / "gone", "memory.events").add(os.getpid())


@pytest.fixture
def without_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits.MemoryGroup, "make", classmethod(lambda *_: None))


@pytest.fixture(params=["group", "rlimit"])
def confined(request: pytest.FixtureRequest) -> Iterator[ProcessExecutor]:
    """One worker under a limit, by either means that this machine has."""
    if request.param == "rlimit":
        request.getfixturevalue("without_groups")
    elif (group := MemoryGroup.make(LIMIT)) is None:
        pytest.skip("no control group may be made here")
    else:
        group.close()
    with ProcessExecutor(1, memory_bytes=LIMIT) as executor:
        yield executor


def test_work_that_exceeds_the_limit_is_an_outcome_and_the_next_goes_on(confined: ProcessExecutor) -> None:
    outcomes = list(stream(confined, hold, [10, 900, 20], ordered=True, retries=2))
    assert [outcome.value for outcome in outcomes] == [10, None, 20]
    error = outcomes[1].error
    assert isinstance(error, OverBudget | MemoryError)


@pytest.mark.usefixtures("without_groups")
def test_the_watch_ends_the_largest_worker() -> None:
    with ProcessExecutor(2) as executor:
        assert [outcome.unwrap() for outcome in stream(executor, hold, [1, 1])] == [1, 1]
        limit = tree_memory_bytes() + 300 * MB
        watch = MemoryWatch(limit, 0.02, on_above=lambda used: executor.shed(used, limit))
        with watch:
            outcomes = list(stream(executor, hold, [5, 600], ordered=True))
    assert outcomes[0].unwrap() == 5
    with pytest.raises(OverBudget, match="allowed"):
        outcomes[1].unwrap()


def test_work_may_be_tried_again_in_a_smaller_form(confined: ProcessExecutor) -> None:
    def smaller(size_mb: int, error: BaseException) -> int | None:
        return size_mb // 4 if isinstance(error, OverBudget | MemoryError) else None

    found = [outcome.unwrap() for outcome in stream(confined, hold, [800, 8], ordered=True, instead=smaller)]
    assert found == [200, 8]


def test_idle_workers_give_their_memory_back() -> None:
    with ProcessExecutor(1) as executor:
        first = executor.submit(pid_of, 0).result()
        executor.retire()
        deadline = time.monotonic() + 5
        while Path(f"/proc/{first}").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not Path(f"/proc/{first}").exists()
        assert executor.submit(pid_of, 0).result() != first


def test_busy_workers_are_not_retired() -> None:
    with ProcessExecutor(1) as executor:
        future = executor.submit(hold, 3)
        started = threading.Event()
        threading.Timer(0.2, started.set).start()
        started.wait()
        executor.retire()
        assert future.result() == 3


def pid_of(_item: int) -> int:
    return os.getpid()
