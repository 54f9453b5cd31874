"""What others make of the server by its own document and figures: schemathesis, promtool."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.serve.online.servers import PATIENCE_S, serving

from shardwise.core.target import Task

httpx = pytest.importorskip("httpx")
ROOT = Path(__file__).parents[3]
SCHEMATHESIS = "import sys; from schemathesis.cli import schemathesis; sys.exit(schemathesis())"
# A deadline of a millisecond may be missed, by the body or by the answer.
SETTINGS = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 504]
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 408, 415, 422, 429, 504]
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 404, 408, 429, 504]
"""
PHASES = "examples,coverage,fuzzing"


@pytest.fixture(scope="module")
def server(promising):
    places = [f"{task}={promising[task].package.folder}" for task in (Task.BINARY, Task.REGRESSION)]
    with serving(*places, "--monitor") as running:
        yield running


def test_schemathesis_finds_nothing(server, tmp_path):
    """Requests that the document allows are answered as it says; requests that it does not allow are refused."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    config = tmp_path / "schemathesis.toml"
    config.write_text(SETTINGS)
    words = ["--config-file", str(config), "run", f"{server.url}/openapi.json", "--max-examples", "10", "--phases",
             PHASES, "--generation-deterministic", "--no-color"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
                   "SCHEMATHESIS_HOOKS": "tests.serve.online.arrow_bodies"}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", SCHEMATHESIS, *words], env=environment, cwd=tmp_path, text=True,
                          capture_output=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]


def test_promtool_finds_nothing(server):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool, of Prometheus, is not installed")
    assert httpx.post(f"{server.url}/predict?model=binary", json={}, timeout=PATIENCE_S).status_code == 422
    told = httpx.get(f"{server.url}/metrics", timeout=PATIENCE_S).content
    done = subprocess.run([promtool, "check", "metrics"], input=told, capture_output=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
