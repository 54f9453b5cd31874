"""What is written where a package is expected."""

import pytest

import shardwise
from shardwise.core.errors import ConfigError, PackageError
from shardwise.registry.package import package_hash


@pytest.fixture
def place(tmp_path, monkeypatch, packages):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHARDWISE_REGISTRY", raising=False)
    shardwise.Registry("registry").register("m", packages(1), aliases=["champion"])
    return tmp_path


@pytest.mark.parametrize("reference", ["m@1", "m@champion", "registry"])
def test_paths_and_references_are_loaded(place, packages, reference):
    path = "registry" if reference == "registry" else None
    if path:
        reference = next((place / "registry/m/packages").iterdir())
    assert shardwise.load(reference).package.hash == package_hash(packages(1))


def test_the_registry_is_given_or_a_variable(place, packages, monkeypatch):
    shardwise.Registry(place / "other").register("m", packages(2), aliases=["champion"])
    assert shardwise.load("m@champion", registry=place / "other").package.hash == package_hash(packages(2))
    monkeypatch.setenv("SHARDWISE_REGISTRY", str(place / "other"))
    assert shardwise.load("m@champion").package.hash == package_hash(packages(2))
    assert shardwise.load("m@champion", registry="registry").package.hash == package_hash(packages(1))


def test_what_is_not_there_is_named(place):
    with pytest.raises(PackageError, match="no such folder"):
        shardwise.load("mm")
    with pytest.raises(PackageError, match="m@champion"):
        shardwise.load("m", registry="registry")
    with pytest.raises(ConfigError, match="'m'"):
        shardwise.load("mm@1")
    with pytest.raises(ConfigError, match="empty"):
        shardwise.load("mm@1", registry="nowhere")
    assert not (place / "nowhere").exists()
