"""One writer at a time; a dead one does not stand in the way."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shardwise.core.errors import DataError
from shardwise.store.locks import LOCK_NAME, writing

HOLD = """
import sys, time, pathlib
from shardwise.store.locks import writing
with writing(pathlib.Path(sys.argv[1])):
    print('held', flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_is_refused_and_told_who_holds_it(tmp_path: Path, holder: subprocess.Popen) -> None:
    with pytest.raises(DataError, match=f"process {holder.pid} ") as caught, writing(tmp_path):
        pass
    assert "--wait" in str(caught.value)


def test_a_lock_of_a_dead_process_is_free_though_its_file_is_there(tmp_path: Path, holder: subprocess.Popen) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / LOCK_NAME).exists()
    with writing(tmp_path):
        assert str(os.getpid()) in (tmp_path / LOCK_NAME).read_text()
    assert not (tmp_path / LOCK_NAME).exists()


def test_the_second_waits_until_the_first_has_ended(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with writing(tmp_path, wait_s=30):
            order.append("second")

    with writing(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_waiting_ends(tmp_path: Path) -> None:
    with writing(tmp_path), pytest.raises(DataError, match="after"), writing(tmp_path, wait_s=0.2):
        pass
