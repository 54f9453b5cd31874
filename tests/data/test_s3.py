"""S3, against a real server on this machine (moto)."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from shardwise.core.errors import DataError
from shardwise.data.dataset import ReadOptions, open_dataset
from shardwise.testing.readers import rows_of, sample_table

MISSING = [name for name in ("moto", "flask", "s3fs") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {MISSING}")


@pytest.fixture(scope="module")
def storage() -> Iterator[dict[str, Any]]:
    """Options for an S3 server that runs on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/moto-api/", server)
        yield {"key": "test", "secret": "test", "endpoint_url": f"http://127.0.0.1:{port}"}
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert server.poll() is None, "the server has ended"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server does not answer")


@pytest.fixture(scope="module")
def bucket(storage: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """The bucket `tables` with the sample table in several shapes."""
    table, local = sample_table(), tmp_path_factory.mktemp("s3")
    files = {"one.csv": "csv", "parts/part-2.parquet": "parquet", "parts/part-10.parquet": "parquet"}
    files |= {"hive/year=2023/a.csv": "csv", "hive/year=2024/a.csv": "csv", "parts/_SUCCESS": "none"}
    for name, kind in files.items():
        path = local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(table.slice(250) if "10" in name else table.slice(0, 250) if "-2" in name else table, path, kind)
    (local / "lines.jsonl").write_text("".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist()))
    system = fsspec.filesystem("s3", **storage)
    system.mkdir("tables")
    for path in local.rglob("*"):
        if path.is_file():
            system.put_file(str(path), f"tables/{path.relative_to(local).as_posix()}")
    return table


def write(table: pa.Table, path: Path, kind: str) -> None:
    if kind == "csv":
        pa.csv.write_csv(table, path)
    elif kind == "parquet":
        pq.write_table(table, path, row_group_size=60)
    else:
        path.touch()


@pytest.mark.parametrize(
    "source", ["one.csv", "lines.jsonl", "parts", "parts/", "parts/*.parquet", "p*/part-*.parquet", "lin*.jsonl"]
)
def test_files_folders_and_globs(storage: dict[str, Any], bucket: pa.Table, source: str) -> None:
    dataset = open_dataset([f"s3://tables/{source}"], options=ReadOptions(storage=storage), target_bytes=8_000)
    assert len(dataset.partitions) > 1
    assert rows_of(dataset).equals(bucket)


def test_hive_folders(storage: dict[str, Any], bucket: pa.Table) -> None:
    dataset = open_dataset(["s3://tables/hive"], options=ReadOptions(storage=storage))
    assert rows_of(dataset, ["year"])["year"].to_pylist() == [2023] * 500 + [2024] * 500
    assert "test" not in repr(dataset.reader.options)


def test_what_is_not_there_is_named(storage: dict[str, Any], bucket: pa.Table) -> None:
    options = ReadOptions(storage=storage)
    with pytest.raises(DataError, match=r"no such file.*s3://tables/nope\.csv"):
        open_dataset(["s3://tables/nope.csv"], options=options)
    with pytest.raises(DataError, match="matches no file"):
        open_dataset(["s3://tables/nope*.csv"], options=options)
    with pytest.raises(DataError, match="no such file"):
        open_dataset(["s3://no-such-bucket/x.csv"], options=options)


def test_a_changed_object_is_noticed(storage: dict[str, Any], bucket: pa.Table) -> None:
    system = fsspec.filesystem("s3", **storage)
    system.pipe_file("tables/change.csv", b"x\n1\n")
    dataset = open_dataset(["s3://tables/change.csv"], options=ReadOptions(storage=storage))
    system.pipe_file("tables/change.csv", b"x\n2\n")
    with pytest.raises(DataError, match="changed"):
        next(dataset.read(dataset.partitions[0]))
