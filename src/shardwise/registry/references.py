"""What people write where a package is expected: a path, or a version of the registry.

    model/          a folder
    NAME@3          a version
    NAME@champion   the version that an alias points at

A folder that is there wins. The registry is the one that is named, else that of the variable SHARDWISE_REGISTRY, else
`./registry`.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from shardwise.core.errors import PackageError
from shardwise.registry.package import Package, load_package
from shardwise.registry.registry import Registry

VARIABLE = "SHARDWISE_REGISTRY"
DEFAULT = "registry"


def open_registry(place: str | Path | None = None, storage: Mapping[str, object] | None = None) -> Registry:
    """The registry at `place`, a folder or URL, or the default one. Nothing is written."""
    return Registry(place or os.environ.get(VARIABLE) or DEFAULT, storage=storage)


def open_package(
    text: str | Path, registry: str | Path | None = None, storage: Mapping[str, object] | None = None
) -> Package:
    """Load a package by its path or reference, checked; raises `PackageError`, `ConfigError` with the nearest name."""
    if Path(text).exists() or not isinstance(text, str):
        return load_package(text)
    found = open_registry(registry, storage)
    if "@" in text:
        return found.load(text)
    if registry is not None and text in found.names():
        raise PackageError(f"{text!r} is a name of the registry", hint=f"Say which version: {text}@champion.")
    return load_package(text)
