"""The package: the same bytes, whole at every instant, and every damage is named."""

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.registry.parts import make_parts, make_table

from shardwise.core.errors import PackageError, SchemaError
from shardwise.core.target import Task
from shardwise.ensemble.stack import Stack
from shardwise.registry import package as module
from shardwise.registry.manifest import libraries, seal_of
from shardwise.registry.package import Member, load_package, package_hash, write_package
from shardwise.store.files import hash_folder

ALL = ("trees", "linear", "baseline")


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return make_parts(tmp_path_factory.mktemp("rows"), families=ALL)


@pytest.fixture(scope="module")
def sealed(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sealed") / "package"
    write_package(folder, **parts)
    return folder


@pytest.fixture
def package(sealed, tmp_path):
    """A copy to damage."""
    return Path(shutil.copytree(sealed, tmp_path / "package"))


def all_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def edit_manifest(folder, change):
    content = json.loads((folder / "manifest.json").read_bytes())
    del content["seal"]
    change(content)
    content["seal"] = seal_of(content)
    (folder / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize("task", list(Task))
def test_a_loaded_package_predicts_as_its_parts_did(task, tmp_path):
    parts = make_parts(tmp_path / "rows", task, ("trees", "linear"))
    digest = write_package(tmp_path / "package", **parts)
    loaded = load_package(tmp_path / "package")
    batch = make_table(50, task, seed=9).to_batches()[0]
    X = parts["recipe"].transform(batch)
    expected = sum(member.weight * member.model.predict(X) for member in parts["models"])
    np.testing.assert_allclose(loaded.scores(batch), expected, rtol=1e-12)
    assert (loaded.hash, package_hash(tmp_path / "package")) == (digest, digest)
    assert loaded.target == parts["target"]
    assert loaded.golden_difference == 0
    assert loaded.scores(batch.slice(0, 0)).shape == expected[:0].shape


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS, Task.REGRESSION, Task.COUNT])
def test_a_stack_is_sealed_with_its_members(task, tmp_path):
    parts = make_parts(tmp_path / "rows", task, ("trees", "linear"))
    outputs = parts["target"].outputs if task is Task.MULTICLASS else 1
    stack = Stack(task, (0.7, 0.4), (0.25,) * outputs, (0, 0, 1, 1))
    write_package(tmp_path / "package", **parts, stack=stack)
    loaded = load_package(tmp_path / "package")
    batch = make_table(300, task, seed=9).to_batches()[0]
    X = parts["recipe"].transform(batch)
    scores = loaded.scores(batch)
    np.testing.assert_array_equal(scores, stack.combine(member.model.predict(X) for member in parts["models"]))
    alone = [loaded.scores(batch.slice(row, 1)) for row in range(40)]
    np.testing.assert_array_equal(np.concatenate(alone), scores[:40])
    assert (loaded.manifest.stack, loaded.golden_difference) == (stack, 0)
    content = json.loads((tmp_path / "package" / "manifest.json").read_bytes())
    assert content["version"] == 2  # an older reader, which would average the members, refuses it
    edit_manifest(tmp_path / "package", lambda content: content["stack"]["groups"].pop())
    with pytest.raises(PackageError, match="does not name"):
        load_package(tmp_path / "package")


def test_the_manifest_says_what_the_package_is(sealed, parts):
    loaded = load_package(str(sealed))
    content = json.loads((sealed / "manifest.json").read_bytes())
    assert content["format"] == "shardwise-package"
    assert content["task"] == "binary"
    assert loaded.inputs.names == ["x", "z", "town", "day"]
    assert loaded.inputs.field("z").type == pa.float32()
    assert [member.family for member in loaded.members] == [f for f in ALL for _ in range(2)]
    assert content["metrics"] == {"roc_auc": {"value": 0.9, "low": 0.8, "high": None}}
    assert set(content["libraries"]) >= {"lightgbm", "numpy", "pyarrow", "scikit-learn", "shardwise"}
    assert set(content["files"]) == {path.relative_to(sealed).as_posix() for path in all_files(sealed)} - {
        "manifest.json"
    }
    np.testing.assert_array_equal(loaded.profile_state()["histogram"], parts["profile_state"]["histogram"])


def test_the_same_parts_give_the_same_bytes_wherever_they_are_written(sealed, parts, tmp_path):
    write_package(tmp_path / "elsewhere" / "model", **parts)
    assert hash_folder(tmp_path / "elsewhere" / "model") == hash_folder(sealed)
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["model"]


def test_other_weights_give_another_hash(sealed, parts, tmp_path):
    models = [Member(member.family, member.model, 1.0 + number) for number, member in enumerate(parts["models"])]
    assert write_package(tmp_path / "package", **{**parts, "models": models}) != package_hash(sealed)


def test_what_only_training_needs_is_not_sealed(parts, sealed, tmp_path):
    write_package(tmp_path / "package", **{**parts, "recipe": parts["recipe"].sealed()})
    assert package_hash(tmp_path / "package") == package_hash(sealed)


def test_nothing_in_it_is_pickled(sealed):
    for path in all_files(sealed):
        assert b"pickle" not in path.read_bytes()
    np.load(sealed / "golden" / "predictions.npy", allow_pickle=False)


def test_a_flipped_bit_in_any_file_is_found_and_the_file_named(package):
    for path in all_files(package):
        content = path.read_bytes()
        damaged = bytearray(content or b"\0")
        damaged[len(damaged) // 2] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(PackageError) as caught:
            load_package(package)
        assert path.name in str(caught.value)
        path.write_bytes(content)
    load_package(package)


def test_a_missing_file_is_named(package):
    for path in all_files(package):
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(PackageError, match=path.name):
            load_package(package)
        path.write_bytes(content)


def test_a_file_that_was_slipped_into_a_model_is_refused_and_one_beside_it_ignored(package):
    (package / "scores.parquet").write_bytes(b"mine")
    load_package(package)
    (package / "models" / "0-trees" / "more.txt").write_bytes(b"x")
    with pytest.raises(PackageError, match=r"more\.txt"):
        load_package(package)


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../outside", "", ".", "a\\b", "a\0b"])
def test_a_path_that_leaves_the_folder_is_refused(package, path):
    (package.parent / "outside").write_bytes(b"x")
    edit_manifest(package, lambda content: content["files"].update({path: "0" * 64}))
    with pytest.raises(PackageError, match="not allowed"):
        load_package(package)


def test_a_model_folder_that_leaves_the_package_is_refused(package):
    edit_manifest(package, lambda content: content["members"][0].update(folder="../package/models/0-trees"))
    with pytest.raises(PackageError, match="not name"):
        load_package(package)


@pytest.mark.parametrize("name", ["recipe.json", "models", "models/0-trees"])
def test_a_link_is_refused(package, name):
    target = package.parent / "moved"
    (package / name).rename(target)
    (package / name).symlink_to(target)
    with pytest.raises(PackageError, match="is a link"):
        load_package(package)


def test_a_newer_format_asks_for_an_upgrade(package):
    edit_manifest(package, lambda content: content.update(version=3))
    with pytest.raises(PackageError, match=r"version 3.*Upgrade"):
        load_package(package)


def damage_of(name, value):
    return lambda content: content.update({name: value})


@pytest.mark.parametrize(
    "change",
    [
        damage_of("version", "1"),
        damage_of("target", None),
        damage_of("inputs", [{"name": "x", "type": "nonsense"}]),
        damage_of("inputs", 5),
        damage_of("members", [{"folder": 3}]),
        damage_of("members", [{"folder": 3, "family": "trees", "weight": 1}]),
        damage_of("members", []),
        damage_of("files", ["recipe.json"]),
        damage_of("files", {}),
        damage_of("files", {"recipe.json": None}),
        lambda content: content["files"].pop("recipe.arrays"),
        lambda content: content.pop("lineage"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(package, change):
    edit_manifest(package, change)
    with pytest.raises(PackageError):
        load_package(package)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{}", b"\xff\xfe", b'{"format": "other", "version": 1}'])
def test_a_manifest_that_is_none_is_refused(package, content):
    (package / "manifest.json").write_bytes(content)
    with pytest.raises(PackageError):
        load_package(package)


def test_what_is_no_package_is_said_with_a_hint(tmp_path):
    with pytest.raises(PackageError, match=r"no such folder.*shardwise train"):
        load_package(tmp_path / "missing")
    with pytest.raises(PackageError, match=r"no manifest\.json.*shardwise train"):
        load_package(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PackageError, match="no manifest"):
        package_hash(tmp_path / "file")


def test_the_library_of_a_family_is_named_where_a_member_is_of_it():
    pytest.importorskip("catboost")
    assert libraries(["trees", "catboost"]).keys() - libraries(["trees"]).keys() == {"catboost"}


def test_golden_rows_that_are_predicted_differently_are_an_error(package, monkeypatch):
    def shifted(by):
        original = module.score
        return lambda *args, **more: original(*args, **more) + by

    versions = dict.fromkeys(module.libraries(), "0")
    with monkeypatch.context() as patch:
        patch.setattr(module, "score", shifted(1e-5))
        with pytest.raises(PackageError, match=r"golden rows.*tolerance 1e-06"):
            load_package(package)
        patch.setattr(module, "libraries", lambda *_: versions)
        assert load_package(package).golden_difference == pytest.approx(1e-5, rel=0.5)
    with monkeypatch.context() as patch:
        patch.setattr(module, "libraries", lambda *_: versions)
        patch.setattr(module, "score", shifted(1e-2))
        with pytest.raises(PackageError, match="library versions"):
            load_package(package)
        patch.setattr(module, "score", shifted(np.nan))
        with pytest.raises(PackageError, match="golden rows"):
            load_package(package)


def test_another_folder_is_not_replaced_and_an_empty_one_is(parts, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.csv").write_text("a\n")
    with pytest.raises(PackageError, match="something else than a package"):
        write_package(tmp_path / "data", **parts)
    assert (tmp_path / "data" / "mine.csv").read_text() == "a\n"
    (tmp_path / "empty").mkdir()
    write_package(tmp_path / "empty", **parts)
    load_package(tmp_path / "empty")


def test_golden_rows_must_have_the_inputs(parts, tmp_path):
    golden = parts["golden"].drop_columns(["x"])
    with pytest.raises(SchemaError, match=r"golden rows lack.*x"):
        write_package(tmp_path / "package", **{**parts, "golden": golden})
    assert not (tmp_path / "package").exists()


def test_a_package_loads_while_it_is_replaced_again_and_again(parts, tmp_path):
    folder, done = tmp_path / "package", threading.Event()
    small = {**parts, "models": parts["models"][-1:]}
    hashes = {write_package(folder, **{**small, "lineage": {"number": number}}) for number in (0, 1)}

    def replace():
        number = 0
        while not done.is_set():
            write_package(folder, **{**small, "lineage": {"number": number % 2}})
            number += 1

    writer = threading.Thread(target=replace)
    writer.start()
    try:
        seen = {load_package(folder).hash for _ in range(40)}
    finally:
        done.set()
        writer.join()
    assert seen <= hashes
