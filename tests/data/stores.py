"""Object stores on this machine: start a server, wait for it, stop it; the sample table in several shapes."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from shardwise.testing.readers import sample_table


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: Sequence[str], url: str, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """A server that answers at `url`, whatever the answer; it is stopped afterwards."""
    server = subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(url, server)
        yield
    finally:
        server.terminate()
        server.wait()


def _wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert server.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


def fill(system: Any, bucket: str, local: Path) -> pa.Table:
    """Put the sample table into a bucket as CSV, JSON lines, Parquet parts and Hive folders."""
    table = sample_table()
    files = {"one.csv": "csv", "parts/part-2.parquet": "parquet", "parts/part-10.parquet": "parquet"}
    files |= {"hive/year=2023/a.csv": "csv", "hive/year=2024/a.csv": "csv", "parts/_SUCCESS": "none"}
    for name, kind in files.items():
        path = local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(table.slice(250) if "10" in name else table.slice(0, 250) if "-2" in name else table, path, kind)
    (local / "lines.jsonl").write_text("".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist()))
    system.mkdir(bucket)
    for path in local.rglob("*"):
        if path.is_file():
            system.put_file(str(path), f"{bucket}/{path.relative_to(local).as_posix()}")
    return table


def _write(table: pa.Table, path: Path, kind: str) -> None:
    if kind == "csv":
        pa.csv.write_csv(table, path)
    elif kind == "parquet":
        pq.write_table(table, path, row_group_size=60)
    else:
        path.touch()
