"""Several processes on one port: one that is killed is replaced, and all end together."""

import os
import signal

import psutil
import pytest
from tests.serve.online.servers import serving, until
from tests.serve.online.test_server import ROW, samples

from shardwise.core.target import Task

httpx = pytest.importorskip("httpx")


def test_a_killed_worker_is_replaced_and_all_end_together(packages):
    with serving(f"m={packages[Task.BINARY]}", "--workers", "2") as server:
        server.wait_for("serving", 2)
        workers = [child.pid for child in psutil.Process(server.process.pid).children()]
        assert len(workers) == 2
        for _ in range(20):
            assert httpx.post(f"{server.url}/predict", json=ROW, timeout=60).status_code == 200
        with httpx.Client(base_url=server.url, timeout=60) as client:
            assert samples(client)["shardwise_requests_total", ("endpoint", "predict"), ("status", "200")] == 20
        os.kill(workers[0], signal.SIGKILL)
        assert server.wait_for("worker_died")["worker"] == workers[0]
        server.wait_for("serving", 3)
        for _ in range(20):
            assert httpx.post(f"{server.url}/predict", json=ROW, timeout=60).status_code == 200
        now = [child.pid for child in psutil.Process(server.process.pid).children()]
        assert len(now) == 2
        assert server.end() == 0
        until(lambda: not any(psutil.pid_exists(pid) for pid in now), "a worker outlived its parent")


def test_workers_end_when_their_parent_is_killed(packages):
    with serving(f"m={packages[Task.BINARY]}", "--workers", "2", "--poll", "50ms") as server:
        server.wait_for("serving", 2)
        workers = psutil.Process(server.process.pid).children()
        server.process.kill()
        _, alive = psutil.wait_procs(workers, 60)
        assert alive == []


def test_what_cannot_be_served_is_one_paragraph_and_code_2(tmp_path):
    place = str(tmp_path)
    for words in (("nothing/",), (place,), ("nobody", "--registry", place), (place, "--workers", "2")):
        with pytest.raises(AssertionError, match="shardwise: "), serving(*words):
            pass
