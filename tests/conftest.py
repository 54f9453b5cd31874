"""Settings of all tests: property tests draw the same examples each time, and have no clock; the longest come first, so
that workers end together."""

import pytest
from hypothesis import settings

LONG = {
    "test_choosing", "test_engines", "test_estimators", "test_lost_nodes", "test_registry", "test_repository",
    "test_tuning", "test_workflow", "test_workflow_template",
}  # fmt: skip

settings.register_profile("shardwise", deadline=None, derandomize=True)
settings.load_profile("shardwise")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONG)
