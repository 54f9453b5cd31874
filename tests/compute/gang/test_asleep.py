import time
from pathlib import Path

import pytest

from shardwise.compute.gang.asleep import TASKS, Asleep


@pytest.mark.parametrize("tasks", [TASKS, Path("/nowhere")], ids=["kernel", "clock"])
def test_sleep_is_counted(tasks: Path) -> None:
    asleep = Asleep(tasks)
    time.sleep(0.2)
    assert asleep.seconds() > 0.15


def test_a_thread_that_waits_for_a_core_does_not_sleep() -> None:
    if not TASKS.exists() or not list(TASKS.glob("*/schedstat")):
        pytest.skip("the kernel keeps no such numbers")
    asleep, until_s = Asleep(), time.thread_time() + 0.1
    while time.thread_time() < until_s:
        pass
    assert asleep.seconds() < 0.05
