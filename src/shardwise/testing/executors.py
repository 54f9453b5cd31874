"""Conformance kit for executors.

Subclass `ExecutorConformance` in a test module, and `WorkerConformance` too where tasks run outside the calling
process; give each a fixture `executor` that yields an open executor. Where workers are slow to start, it may be shared
by the tests (`scope="module"`); then a fixture `closable` gives the tests that close an executor one of their own:

    class TestProcesses(ExecutorConformance, WorkerConformance):
        @pytest.fixture
        def executor(self):
            with ProcessExecutor(2) as executor:
                yield executor
"""

import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NoReturn

import pytest

from shardwise.compute import messages
from shardwise.compute.base import Executor, stream
from shardwise.core.errors import ConfigError, SchemaError, TaskFailed, WorkerLost

# -- tasks: at the top of a module, so that workers can import them --------------------------------------------------


def double(item: int) -> int:
    return 2 * item


def fail_on_odd(item: int) -> int:
    if item % 2:
        raise SchemaError(f"{item} is odd", hint="Give an even one.", partition=item)
    return item


class OddError(Exception):
    """Pickles, but does not unpickle: its constructor wants two arguments."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"{number}: {reason}")


def raise_odd(item: int) -> NoReturn:
    raise OddError(item, "no luck")


def leave(item: int) -> NoReturn:
    sys.exit(item)


def die(item: int) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError(item)


def die_on_odd(item: int) -> int:
    return die(item) if item % 2 else item


def die_once(marker: str) -> tuple[int, int]:
    """Dies the first time that it is called with this path; then the processes that ran it."""
    if not Path(marker).exists():
        Path(marker).write_text(str(os.getpid()))
        die(0)
    return int(Path(marker).read_text()), os.getpid()


def chatter(item: int) -> int:
    print("a task prints", item)
    os.write(1, b"and so does a library")
    return item


def beat(path: str) -> NoReturn:
    """Writes to a file for ever."""
    while True:
        with open(path, "a") as file:
            file.write(".")
        time.sleep(0.02)


def touch(path: str) -> None:
    Path(path).touch()


def folder_of(_item: int) -> str:
    return os.getcwd()


def of_size(size_bytes: int) -> bytes:
    return bytes(size_bytes)


def unpicklable_result(_item: int) -> object:
    return threading.Lock()


class Drawn:
    """Counts how many items were drawn."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.drawn = 0

    def __iter__(self) -> Iterator[int]:
        for item in range(self.count):
            self.drawn += 1
            yield item


class ExecutorConformance:
    """What `stream` gives over any executor."""

    @pytest.fixture
    def closable(self, executor: Executor) -> Executor:
        """One that the test may close."""
        return executor

    def test_each_item_gives_one_outcome(self, executor: Executor) -> None:
        outcomes = list(stream(executor, double, range(20)))
        assert sorted((outcome.index, outcome.unwrap()) for outcome in outcomes) == [(i, 2 * i) for i in range(20)]

    @pytest.mark.parametrize("ahead", [0, 3])
    def test_ordered_outcomes_come_in_the_order_of_the_items(self, executor: Executor, ahead: int) -> None:
        outcomes = stream(executor, double, range(20), ordered=True, ahead=ahead)
        assert [outcome.unwrap() for outcome in outcomes] == [2 * i for i in range(20)]

    def test_no_items_give_no_outcomes(self, executor: Executor) -> None:
        assert list(stream(executor, double, [])) == []

    @pytest.mark.parametrize("ordered", [False, True])
    def test_no_item_is_drawn_before_a_slot_is_free(self, executor: Executor, ordered: bool) -> None:
        items = Drawn(20)
        outcomes = stream(executor, double, items, ordered=ordered)
        assert items.drawn == 0
        for consumed, _ in enumerate(outcomes):
            assert items.drawn <= consumed + executor.slots

    def test_items_may_be_endless(self, executor: Executor) -> None:
        items = iter(int, 1)  # 0, 0, 0, ...
        outcomes = stream(executor, double, items)
        assert [next(outcomes).unwrap() for _ in range(5)] == [0] * 5

    def test_ordered_draws_depend_on_consumed_outcomes_alone(self, executor: Executor) -> None:
        told: list[int] = []
        seen: list[int] = []

        def ask() -> Iterator[int]:
            for item in range(10):
                seen.append(len(told))
                yield item

        for outcome in stream(executor, double, ask(), ordered=True):
            told.append(outcome.unwrap())  # noqa: PERF401 - `ask` looks at it meanwhile
        assert seen == [max(0, index + 1 - executor.slots) for index in range(10)]

    def test_an_error_is_an_outcome_and_the_others_go_on(self, executor: Executor) -> None:
        outcomes = list(stream(executor, fail_on_odd, range(6), ordered=True))
        assert [outcome.error is None for outcome in outcomes] == [True, False] * 3
        with pytest.raises(SchemaError, match="1 is odd") as caught:
            outcomes[1].unwrap()
        assert caught.value.context["partition"] == 1
        assert caught.value.hint == "Give an even one."

    def test_errors_of_a_task_are_not_retried(self, executor: Executor, tmp_path: Path) -> None:
        calls = tmp_path / "calls"
        (outcome,) = stream(executor, write_and_fail, [str(calls)], retries=3)
        assert isinstance(outcome.error, ValueError)
        assert calls.read_text() == "."

    def test_what_the_items_raise_passes_through(self, executor: Executor) -> None:
        with pytest.raises(ZeroDivisionError):
            list(stream(executor, double, (1 // (2 - i) for i in range(9))))

    def test_closing_the_stream_draws_and_starts_no_more(self, executor: Executor) -> None:
        items = Drawn(20)
        outcomes = stream(executor, double, items)
        next(outcomes)
        outcomes.close()  # type: ignore[attr-defined]
        drawn = items.drawn
        assert list(outcomes) == []
        assert items.drawn == drawn <= executor.slots

    def test_close_may_be_called_twice(self, closable: Executor) -> None:
        closable.close()
        closable.close()


class WorkerConformance:
    """What executors add whose tasks run outside the calling process."""

    def test_a_dead_worker_takes_its_own_task_alone(self, executor: Executor) -> None:
        outcomes = list(stream(executor, die_on_odd, range(6), ordered=True))
        assert [type(outcome.error) for outcome in outcomes] == [type(None), WorkerLost] * 3
        assert [outcome.value for outcome in outcomes[::2]] == [0, 2, 4]

    def test_the_task_of_a_dead_worker_is_tried_again_elsewhere(self, executor: Executor, tmp_path: Path) -> None:
        (outcome,) = stream(executor, die_once, [str(tmp_path / "died")], retries=1)
        first, second = outcome.unwrap()
        assert first != second
        assert os.getpid() not in (first, second)

    def test_an_item_that_kills_its_workers_is_named(self, executor: Executor) -> None:
        good, poison = stream(executor, die_on_odd, [2, 7], ordered=True, retries=2)
        assert good.unwrap() == 2
        with pytest.raises(WorkerLost, match=r"item 1 lost its worker 3 times") as caught:
            poison.unwrap()
        assert caught.value.context["item"] == "7"

    def test_errors_carry_the_traceback_of_the_worker(self, executor: Executor) -> None:
        (outcome,) = stream(executor, fail_on_odd, [1])
        assert outcome.error is not None
        assert "in fail_on_odd" in "".join(outcome.error.__notes__)

    def test_an_error_that_cannot_travel_is_told(self, executor: Executor) -> None:
        (outcome,) = stream(executor, raise_odd, [3])
        with pytest.raises(TaskFailed, match="OddError: 3: no luck"):
            outcome.unwrap()

    def test_a_task_that_exits_fails(self, executor: Executor) -> None:
        outcomes = list(stream(executor, leave, [0, 1]))
        assert [type(outcome.error) for outcome in outcomes] == [TaskFailed] * 2

    def test_what_tasks_print_stays_off_standard_output(
        self, executor: Executor, capfd: pytest.CaptureFixture[str]
    ) -> None:
        assert [outcome.unwrap() for outcome in stream(executor, chatter, [5])] == [5]
        assert capfd.readouterr().out == ""

    def test_large_results_are_refused(self, executor: Executor) -> None:
        small, large = stream(executor, of_size, [10, 65 * 2**20], ordered=True)
        assert small.unwrap() == bytes(10)
        with pytest.raises(TaskFailed, match=r"the result of the task has 68\.2 MB; .* Write it to a blob or a file"):
            large.unwrap()

    def test_unpicklable_tasks_items_and_results_fail(self, executor: Executor) -> None:
        bad_task, bad_item, bad_result = (
            next(stream(executor, lambda item: item, [1])),
            next(stream(executor, str, [threading.Lock()])),
            next(stream(executor, unpicklable_result, [1])),
        )
        for outcome in (bad_task, bad_item, bad_result):
            with pytest.raises(TaskFailed, match="cannot be pickled"):
                outcome.unwrap()

    def test_a_worker_with_other_versions_is_named(self, executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
        mine = messages.versions()
        other = {"Python": "4.2", "shardwise": "99.0", "numpy": "99.1", "pyarrow": "99.2", "no-such-library": "1.5"}
        monkeypatch.setattr(messages, "versions", lambda: {**mine, **other})
        (outcome,) = stream(executor, double, [1])
        with pytest.raises(ConfigError, match=r"the worker on .* \(process \d+\) has other versions") as caught:
            outcome.unwrap()
        for name, here in other.items():
            assert f"{name} {mine.get(name, 'not installed')} on the worker, {here} here" in caught.value.message
        assert "run it with Python 4.2; run: pip install 'shardwise==99.0' 'numpy==99.1'" in caught.value.hint

    def test_libraries_that_learn_have_the_same_versions(
        self, executor: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mine = messages.versions()
        monkeypatch.setattr(messages, "versions", lambda: {**mine, "torch": "0.1", "catboost": "0.2"})
        (outcome,) = stream(executor, double, [1])
        with pytest.raises(ConfigError) as caught:
            outcome.unwrap()
        for name, here in (("torch", "0.1"), ("catboost", "0.2")):
            assert f"{name} {mine.get(name, 'not installed')} on the worker, {here} here" in caught.value.message

    def test_workers_look_where_the_caller_does(
        self, closable: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "module_of_the_caller.py").write_text("def task(item):\n    return item + 1\n")
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        task = importlib.import_module("module_of_the_caller").task
        assert closable.submit(task, 1).result() == 2
        assert closable.submit(folder_of, 0).result() == str(tmp_path)

    def test_close_ends_what_runs_and_starts_nothing_more(self, closable: Executor, tmp_path: Path) -> None:
        beats = tmp_path / "beats"
        futures: list[Future[Any]] = [closable.submit(beat, str(beats)) for _ in range(closable.slots)]
        futures.append(closable.submit(touch, str(tmp_path / "ran")))
        while not beats.exists():
            time.sleep(0.01)
        closable.close()
        for future in futures:
            with pytest.raises(TaskFailed, match="closed before the task ended"):
                future.result(timeout=60)
        assert has_stopped(beats)
        assert not (tmp_path / "ran").exists()

    def test_what_is_cancelled_in_the_queue_never_starts(self, closable: Executor, tmp_path: Path) -> None:
        beats = tmp_path / "beats"
        for _ in range(closable.slots):
            closable.submit(beat, str(beats))
        queued = closable.submit(touch, str(tmp_path / "ran"))
        assert queued.cancel()
        closable.close()
        assert queued.cancelled()
        assert not (tmp_path / "ran").exists()


def has_stopped(path: Path) -> bool:
    """Whether a file stops growing: a worker that was told to end may take a moment."""
    sizes = []
    for _ in range(60):
        sizes.append(path.stat().st_size)
        if sizes[-3:] == [sizes[-1]] * 3:
            return True
        time.sleep(0.5)
    return False


def write_and_fail(path: str) -> NoReturn:
    with open(path, "a") as file:
        file.write(".")
    raise ValueError("as asked")
