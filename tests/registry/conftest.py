"""Packages that differ in their lineage alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.registry.parts import make_parts

from shardwise.registry.package import write_package

Packages = Callable[[int], Path]


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
