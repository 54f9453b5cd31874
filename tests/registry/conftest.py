"""Packages that differ in their lineage alone, and an S3 server that creates objects one at a time."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from tests.data.stores import free_port, running
from tests.registry.parts import make_parts

from shardwise.registry.package import write_package

Packages = Callable[[int], Path]

# moto looks for an object, and writes it later: one request at a time makes of it what S3 promises
_SERVER = (
    "import sys; from moto.server import DomainDispatcherApplication, create_backend_app; "
    "from werkzeug.serving import run_simple; "
    "run_simple('127.0.0.1', int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), threaded=False)"
)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="session")
def packages(parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """`packages(n)`: the n-th package; its data fingerprint is `data-n`, its accuracy grows with n."""
    folder = tmp_path_factory.mktemp("packages")

    def package(number: int) -> Path:
        place = folder / str(number)
        if not place.exists():
            metrics = {"test": {"accuracy": {"value": 0.5 + number / 1000, "low": 0.4, "high": 1.0}}}
            write_package(place, **{**parts, "lineage": {"data": f"data-{number}", "rows": 400}, "metrics": metrics})
        return place

    return package


@pytest.fixture(scope="session")
def s3() -> Iterator[dict[str, Any]]:
    """Options that reach a running S3 server with the bucket `models`."""
    for module in ("moto", "flask", "s3fs"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-W", "ignore", "-c", _SERVER, url.rpartition(":")[2]]
    with running(command, f"{url}/moto-api/", {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}):
        storage = {"key": "test", "secret": "test", "endpoint_url": url}
        fsspec.filesystem("s3", **storage).mkdir("models")
        yield storage
