"""The registry on a folder, in S3 and in a store without conditional writes; many writers; killed writers."""

import errno
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shardwise.core.errors import ConfigError, DiskFull, PackageError
from shardwise.registry.leases import Lease
from shardwise.registry.objects import ObjectShelf
from shardwise.registry.registry import Registry

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["folder", "s3", "memory"])
def registry(request, tmp_path):
    """An empty registry."""
    if request.param == "folder":
        return Registry(tmp_path / "registry")
    if request.param == "s3":
        place = f"s3://models/{tmp_path.name}"
        return Registry(place, storage=request.getfixturevalue("s3"), cache=tmp_path / "cache")
    found = Registry(f"memory://{tmp_path.name}", cache=tmp_path / "cache")
    found.shelf = ObjectShelf(found.place, lease=Lease(settle_s=0.0))
    return found


def start(work, registry, packages, folder, storage=None):
    request = {"work": work, "place": registry.place, "storage": storage, "cache": str(folder / "cache"),
               "packages": list(map(str, packages))}  # fmt: skip
    command = [sys.executable, "-m", "tests.registry.writers", json.dumps(request)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_versions_are_numbered_described_and_loaded(registry, packages):
    assert registry.names() == []
    first = registry.register("delays", packages(1), note="the first", tags={"team": "a"})
    second = registry.register("delays", packages(2), parent=1, code="abc123", aliases=["champion", "blue"])
    assert (first.number, second.number) == (1, 2)
    assert registry.names() == ["delays"]
    assert registry.versions("delays") == [first, second]
    assert first.lineage == {"data": "data-1", "config": None, "rows": 400, "code": first.lineage["code"],
                             "parent": None}  # fmt: skip
    assert (second.lineage["parent"], second.lineage["code"]) == (1, "abc123")
    assert second.metrics["test"]["accuracy"]["value"] == pytest.approx(0.502)
    assert registry.aliases("delays") == {"champion": 2, "blue": 2}
    for reference in ("delays", "delays@2", "delays@champion", "delays@blue"):
        assert registry.version(reference) == second
    assert registry.load("delays@1").manifest.lineage["data"] == "data-1"
    assert registry.load("delays").hash == second.hash


def test_the_same_package_stays_the_version_that_it_is(registry, packages):
    first = registry.register("m", packages(1), note="a", tags={"x": "1", "y": "2"})
    again = registry.register("m", packages(1), aliases=["champion"], tags={"x": "", "z": "3"})
    assert again.number == first.number
    assert again.note == "a"
    assert again.tags == {"y": "2", "z": "3"}
    assert registry.aliases("m") == {"champion": 1}
    assert len(registry.shelf.names("m/packages")) == 1


def test_promotion_and_rollback_move_the_aliases_together(registry, packages):
    for number in (1, 2, 3):
        registry.register("m", packages(number))
    registry.promote("m@1")
    registry.promote("m@2", "challenger")
    assert registry.promote("m").number == 2  # the challenger
    assert registry.aliases("m") == {"champion": 2, "previous": 1}
    registry.promote("m@3", expect=2)
    with pytest.raises(ConfigError, match=r"version 3, and 2 was expected"):
        registry.promote("m@1", expect=2)
    assert registry.rollback("m").number == 2
    assert registry.aliases("m") == {"champion": 2, "previous": 1}
    assert registry.rollback("m").number == 1
    with pytest.raises(ConfigError, match="no champion before"):
        registry.rollback("m")
    assert [entry["event"]["kind"] for entry in registry.history("m")][-2:] == ["rolled_back", "rolled_back"]


def test_deleting_refuses_what_an_alias_names_and_never_uses_a_number_again(registry, packages):
    registry.register("m", packages(1), aliases=["champion", "gold"])
    registry.register("m", packages(2))
    with pytest.raises(ConfigError, match=r"m@1 is champion and gold"):
        registry.delete("m@1")
    assert registry.delete("m@2").number == 2
    assert len(registry.shelf.names("m/packages")) == 1
    with pytest.raises(ConfigError, match=r"no version '2'.*champion"):
        registry.version("m@2")
    assert registry.register("m", packages(2)).number == 3
    registry.remove_alias("m", "champion")
    registry.remove_alias("m", "gold")
    registry.delete("m@1")
    registry.delete("m@3")
    assert registry.names() == []
    with pytest.raises(ConfigError, match="All its versions were deleted"):
        registry.version("m@1")


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("delay@1", "'delays'"),
        ("delays@champoin", "'champion'"),
        ("delays@7", "1, champion"),
        ("delays@", "delays@3"),
        ("../x@1", "no name of a model"),
    ],
)
def test_errors_name_the_nearest(registry, packages, reference, told):
    registry.register("delays", packages(1), aliases=["champion"])
    with pytest.raises(ConfigError, match=told):
        registry.version(reference)


@pytest.mark.parametrize("alias", ["12", "previous", "a/b", ""])
def test_aliases_that_cannot_be_are_refused_before_anything_is_written(registry, packages, alias):
    with pytest.raises(ConfigError, match="alias"):
        registry.register("m", packages(1), aliases=[alias])
    assert registry.names() == []


def test_a_package_with_a_flipped_byte_is_refused(registry, packages, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(packages(1), broken)
    content = bytearray((broken / "recipe.json").read_bytes())
    content[-1] ^= 1
    (broken / "recipe.json").write_bytes(content)
    with pytest.raises(PackageError, match=r"recipe\.json"):
        registry.register("m", broken)
    assert registry.names() == []
    assert registry.shelf.names("m/packages") == []


def test_what_was_changed_in_the_registry_is_refused_at_load(registry, packages, tmp_path):
    version = registry.register("m", packages(1))
    path = f"m/{version.folder}"
    registry.shelf.remove_folder(path)
    registry.shelf.add_folder(path, packages(2))
    with pytest.raises(PackageError, match="not the one that was registered"):
        registry.load("m@1")


def test_a_damaged_copy_in_the_cache_is_fetched_again(registry, packages):
    version = registry.register("m", packages(1))
    if registry.shelf.local("m") is not None:
        pytest.skip("a folder is read where it is")
    (registry.folder("m@1") / "recipe.json").write_bytes(b"")
    assert registry.load("m@1").hash == version.hash


def test_a_failed_copy_leaves_nothing(registry, packages, monkeypatch):
    def fails(path, content):
        raise OSError(28, "No space left on device")

    registry.register("m", packages(1))
    monkeypatch.setattr(registry.shelf, "create", fails)
    with pytest.raises(OSError, match="No space"):
        registry.register("m", packages(2))
    assert [version.number for version in registry.versions("m")] == [1]
    assert len(registry.shelf.names("m/packages")) == 1


def test_a_full_disk_is_that_of_the_registry(packages, tmp_path, monkeypatch):
    def fails(source, target, *size):
        raise OSError(errno.ENOSPC, "No space left on device")

    registry = Registry(tmp_path / "models")
    monkeypatch.setattr(shutil, "copyfileobj", fails)
    with pytest.raises(DiskFull) as full:
        registry.register("m", packages(1))
    assert str(full.value.context["path"]).startswith(str(tmp_path / "models"))
    assert registry.shelf.names("m/packages") == []


def test_what_dead_writers_left_is_removed_after_a_day(registry, packages):
    registry.register("m", packages(1))
    registry.register("m", packages(2))
    old, new = (f"0123456789ab-{int(time.time() - age):x}-00000000" for age in (90_000, 80_000))
    for orphan in (old, new):
        registry.shelf.add_folder(f"m/packages/{orphan}", packages(3))
    registry.delete("m@2")
    left = registry.shelf.names("m/packages")
    assert new in left
    assert old not in left
    assert len(left) == 2


def test_reading_writes_nothing(packages, tmp_path):
    registry = Registry(tmp_path / "registry")
    registry.register("m", packages(1), aliases=["champion"])
    before = sorted(path for path in (tmp_path / "registry").rglob("*"))
    assert registry.load("m@champion").hash == registry.version("m").hash
    assert sorted(path for path in (tmp_path / "registry").rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize("where", ["folder", "s3"])
def test_many_processes_lose_and_double_nothing(where, packages, tmp_path, request):
    storage = request.getfixturevalue("s3") if where == "s3" else None
    place = "s3://models/many" if storage else tmp_path / "registry"
    registry = Registry(place, storage=storage, cache=tmp_path / "cache")
    registry.register("m", packages(0))
    last = 12 if storage else 20  # an object store on this machine is slow
    shares = [[packages(number) for number in range(first, last + 1, 4)] for first in (1, 2, 3, 4)]
    writers = [start("all", registry, share, tmp_path, storage) for share in shares]
    while any(writer.poll() is None for writer in writers):  # a reader sees complete versions at every instant
        state = registry.state("m")
        assert set(state.aliases.values()) <= set(state.versions)
        registry.folder(state.versions[state.last])
    outputs = [writer.communicate()[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0, 0]
    numbers = sorted(number for output in outputs for number in json.loads(output))
    assert numbers == list(range(2, last + 2))
    versions = registry.versions("m")
    assert {version.lineage["data"] for version in versions} == {f"data-{number}" for number in range(last + 1)}
    assert len(registry.shelf.names("m/packages")) == last + 1
    assert registry.aliases("m")["champion"] == last + 1
    assert registry.aliases("m")["previous"] == last
    assert registry.guarantee == "atomic"


@pytest.mark.slow
def test_a_writer_killed_at_any_step_leaves_its_version_or_nothing(packages, tmp_path):
    registry = Registry(tmp_path / "registry")
    steps = 60
    writer = start("killed", registry, [packages(number) for number in range(100, 100 + steps)], tmp_path)
    seen = json.loads(writer.communicate()[0])
    assert writer.returncode == 0
    count, killed = 0, 0
    for line in seen:
        code, _, state = line.partition(" ")
        told = json.loads(state)
        now = len(told["versions"]) if told else 0
        assert now in (count, count + 1)
        assert now == count + 1 or int(code) == signal.SIGKILL
        if told:
            assert told["versions"] == list(range(1, now + 1))
            assert told["aliases"]["champion"] == now
        count, killed = now, killed + (int(code) == signal.SIGKILL)
    assert killed > 20, "hardly anything was killed"
    assert count > 1, "no writer came through"
    assert registry.register("m", packages(1)).number == count + 1
