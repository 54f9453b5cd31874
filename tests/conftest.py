"""Settings of all tests: property tests draw the same examples each time, and have no clock; workers begin with the
longest modules, so that all end together. And an S3 server that creates objects one at a time, for several rooms."""

import os
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any

import fsspec
import pytest
from hypothesis import settings
from tests.data.stores import free_port, running

from shardwise import tuning

LONG = {
    "test_choosing", "test_engines", "test_estimators", "test_lost_nodes", "test_on_ray", "test_page", "test_registry",
    "test_repository", "test_tuning", "test_workflow", "test_workflow_template",
}  # fmt: skip

settings.register_profile("shardwise", deadline=None, derandomize=True)
settings.load_profile("shardwise")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers begin with equal stretches of the list: the long modules are spread over their beginnings."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    modules = sorted({item.path.stem for item in items} & LONG)
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for place, name in enumerate(modules):
        shares[place % workers] += [item for item in items if item.path.stem == name]
    rest = iter([item for item in items if item.path.stem not in LONG])
    size = -(-len(items) // workers)
    for share in shares:
        share += islice(rest, max(0, size - len(share)))
    items[:] = [*(item for share in shares for item in share), *rest]


@pytest.fixture
def few_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Families of extras do not join the default ones: what a test shows does not depend on them, and networks take
    seconds to import."""
    monkeypatch.setattr(tuning, "joining", lambda _memory_bytes: [])


# moto looks for an object, and writes it later: one request at a time makes of it what S3 promises
_SERVER = (
    "import sys; from moto.server import DomainDispatcherApplication, create_backend_app; "
    "from werkzeug.serving import run_simple; "
    "run_simple('127.0.0.1', int(sys.argv[1]), DomainDispatcherApplication(create_backend_app), threaded=False)"
)


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
