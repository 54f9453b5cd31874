"""S3, Google Cloud Storage and Azure Blob Storage, against real servers on this machine."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from tests.data.stores import fill, free_port, running

from shardwise.core.errors import DataError
from shardwise.data.dataset import ReadOptions, open_dataset
from shardwise.testing.readers import rows_of

# the emulator's published account, https://github.com/Azure/Azurite#default-storage-account
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class Store:
    """A bucket `tables` with the sample table, how it is called, and the options that reach it."""

    scheme: str
    storage: dict[str, Any]
    table: pa.Table

    @property
    def options(self) -> ReadOptions:
        return ReadOptions(storage=self.storage)

    @property
    def system(self) -> Any:
        return fsspec.filesystem(self.scheme, **self.storage)

    def url(self, name: str) -> str:
        return f"{self.scheme}://tables/{name}"


def needs(*modules: str) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {missing}")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    needs("moto", "flask", "s3fs")
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", url.rpartition(":")[2]]
    with running(command, f"{url}/moto-api/", {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}):
        storage = {"key": "test", "secret": "test", "endpoint_url": url}
        yield Store("s3", storage, fill(fsspec.filesystem("s3", **storage), "tables", tmp_path_factory.mktemp("s3")))


@pytest.fixture(scope="module")
def gs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    needs("gcp_storage_emulator", "gcsfs")
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gcp_storage_emulator",
        "start",
        "--host=127.0.0.1",
        f"--port={port}",
        "--in-memory",
    ]
    with pytest.MonkeyPatch.context() as patch, running(command, f"http://127.0.0.1:{port}/"):
        patch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # else it asks each bucket over gRPC what it is
        storage = {"token": "anon", "project": "test", "endpoint_url": f"http://127.0.0.1:{port}"}
        yield Store("gs", storage, fill(fsspec.filesystem("gs", **storage), "tables", tmp_path_factory.mktemp("gs")))


@pytest.fixture(scope="module")
def abfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    needs("adlfs")
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not installed (npm install azurite)")
    url = f"http://127.0.0.1:{free_port()}"
    command = [program, "--inMemoryPersistence", "--silent", "--skipApiVersionCheck", "--blobHost", "127.0.0.1"]
    with running([*command, "--blobPort", url.rpartition(":")[2]], f"{url}/{ACCOUNT}"):
        endpoint = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={url}/{ACCOUNT};"
        storage = {"connection_string": endpoint}
        system = fsspec.filesystem("abfs", **storage)
        yield Store("abfs", storage, fill(system, "tables", tmp_path_factory.mktemp("abfs")))


@pytest.fixture(scope="module", params=["s3", "gs", "abfs"])
def store(request: pytest.FixtureRequest) -> Store:
    found: Store = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(
    "source", ["one.csv", "lines.jsonl", "parts", "parts/", "parts/*.parquet", "p*/part-*.parquet", "lin*.jsonl"]
)
def test_files_folders_and_globs(store: Store, source: str) -> None:
    dataset = open_dataset([store.url(source)], options=store.options, target_bytes=8_000)
    assert len(dataset.partitions) > 1
    assert rows_of(dataset).equals(store.table)


def test_hive_folders(store: Store) -> None:
    dataset = open_dataset([store.url("hive")], options=store.options)
    assert rows_of(dataset, ["year"])["year"].to_pylist() == [2023] * 500 + [2024] * 500
    secrets = [str(value) for value in store.storage.values()]
    assert not any(secret in repr(dataset.reader.options) for secret in secrets)


def test_what_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(DataError, match=r"no such file.*://tables/nope\.csv"):
        open_dataset([store.url("nope.csv")], options=store.options)
    with pytest.raises(DataError, match="matches no file"):
        open_dataset([store.url("nope*.csv")], options=store.options)
    with pytest.raises(DataError, match="no such file"):
        open_dataset([f"{store.scheme}://no-such-bucket/x.csv"], options=store.options)


def test_a_changed_object_is_noticed(store: Store) -> None:
    store.system.pipe_file("tables/change.csv", b"x\n1\n")
    dataset = open_dataset([store.url("change.csv")], options=store.options)
    store.system.pipe_file("tables/change.csv", b"x\n2\n")
    with pytest.raises(DataError, match="changed"):
        next(dataset.read(dataset.partitions[0]))
