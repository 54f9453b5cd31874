import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from shardwise.compute.base import Executor, stream
from shardwise.compute.local import InlineExecutor, ProcessExecutor, ThreadExecutor
from shardwise.core.errors import ConfigError, TaskFailed
from shardwise.testing.executors import ExecutorConformance, WorkerConformance, double


class TestInline(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> Executor:
        return InlineExecutor()


class TestThreads(ExecutorConformance):
    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        with ThreadExecutor(2) as executor:
            yield executor

    def test_a_closed_executor_takes_nothing(self, executor: Executor) -> None:
        executor.close()
        with pytest.raises(TaskFailed, match="closed"):
            executor.submit(double, 1)


class TestProcesses(ExecutorConformance, WorkerConformance):
    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        with ProcessExecutor(2) as executor:
            yield executor


def pid_of(_item: int) -> int:
    return os.getpid()


def environment(name: str) -> str | None:
    return os.environ.get(name)


def sleep(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def read_pid(path: Path) -> int:
    while not (path.exists() and path.read_text()):
        time.sleep(0.01)
    return int(path.read_text())


def test_workers_live_long() -> None:
    with ProcessExecutor(1) as executor:
        pids = {outcome.unwrap() for outcome in stream(executor, pid_of, range(5))}
    assert len(pids) == 1
    assert os.getpid() not in pids


def test_a_worker_killed_between_tasks_is_replaced_unnoticed() -> None:
    with ProcessExecutor(1) as executor:
        first = executor.submit(pid_of, 0).result()
        worker = psutil.Process(first)
        worker.kill()
        psutil.wait_procs([worker])
        assert executor.submit(pid_of, 0).result() != first


def test_threads_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    with ProcessExecutor(1, threads=3) as executor:
        assert executor.submit(environment, "OMP_NUM_THREADS").result() == "3"


def test_workers_leave_ctrl_c_to_the_parent() -> None:
    with ProcessExecutor(1) as executor:
        pid = executor.submit(pid_of, 0).result()
        os.kill(pid, signal.SIGINT)
        assert executor.submit(pid_of, 0).result() == pid


def test_close_ends_running_tasks_with_a_clear_error(tmp_path: Path) -> None:
    executor = ProcessExecutor(1)
    running, queued = executor.submit(sleep, str(tmp_path / "pid")), executor.submit(double, 1)
    pid = read_pid(tmp_path / "pid")
    executor.close()
    for future in (running, queued):
        with pytest.raises(TaskFailed, match="closed before the task ended"):
            future.result()
    assert not psutil.pid_exists(pid)
    with pytest.raises(TaskFailed, match="the executor is closed"):
        executor.submit(double, 1)


def test_workers_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = f"""
        from shardwise.compute.local import ProcessExecutor
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_local import sleep
        executor = ProcessExecutor(1)
        executor.submit(sleep, {str(tmp_path / "pid")!r}).result()
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    worker = psutil.Process(read_pid(tmp_path / "pid"))
    parent.kill()
    parent.wait()
    worker.wait(timeout=30)


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from shardwise.compute.local import ProcessExecutor\n"
        "with ProcessExecutor(2) as executor:\n"
        "    print(executor.submit(abs, -3).result())\n"
        "    def mine(item): return item\n"
        "    print(executor.submit(mine, 1).exception())\n"
    )
    answer = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert answer.stdout.startswith("3\nthe task cannot be loaded: AttributeError")
    assert "define them in a module" in answer.stdout


def test_what_is_closed_stays_closed() -> None:
    with ProcessExecutor(2) as executor:
        pass
    with pytest.raises(TaskFailed):
        executor.submit(double, 1)


@pytest.mark.parametrize("workers", [0, -1])
def test_fewer_than_one_worker_is_refused(workers: int) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        ProcessExecutor(workers)
