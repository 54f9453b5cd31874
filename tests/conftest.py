"""Settings of all tests: property tests draw the same examples each time, and have no clock; workers begin with the
longest modules, so that all end together."""

import os
from itertools import islice

import pytest
from hypothesis import settings

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
