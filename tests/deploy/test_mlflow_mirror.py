"""A name of the registry in MLflow's registry: a database of MLflow's own, read by MLflow's own client."""

import json
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.registry.parts import make_parts, make_table

from shardwise.cli import run
from shardwise.registry.package import write_package
from shardwise.registry.registry import Registry
from shardwise.serve.predictor import Predictor

pytestmark = pytest.mark.filterwarnings("default")  # of MLflow and what it imports


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Folders of four packages that differ in their lineage and their score."""
    folder = tmp_path_factory.mktemp("packages")
    parts = make_parts(folder / "parts")
    for number in range(4):
        score = {"test": {"accuracy": {"value": 0.5 + number / 10, "low": 0.4, "high": None}}}
        write_package(folder / str(number), **{**parts, "metrics": score, "lineage": {"data": str(number)}})
    return [folder / str(number) for number in range(4)]


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """A database that MLflow has made, with its folder of artifacts beside it."""
    for name in ("mlflow", "sqlalchemy", "alembic", "pandas"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="module")
def client(uri):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@pytest.fixture
def registry(tmp_path, packages, monkeypatch):
    """Versions 1 and 2 of `delays`, of which 2 is champion and 1 previous."""
    monkeypatch.setenv("SHARDWISE_REGISTRY", str(tmp_path / "registry"))
    made = Registry(tmp_path / "registry")
    made.register("delays", packages[0], aliases=["champion"], note="first", tags={"team": "x", "stage": "a"})
    made.register("delays", packages[1], aliases=["champion", "blue"])
    return made


@pytest.fixture
def mirror(uri, tmp_path, capsys):
    """Runs the verb for a reference; `--as` gives each test a model of its own."""
    name = tmp_path.name

    def go(reference="delays", *more, code=0):
        capsys.readouterr()
        words = ["--to", uri, "--as", name, "--artifacts", str(tmp_path / "files")]
        assert run(["models", "mirror", reference, *words, "--json", *more]) == code
        told = capsys.readouterr()
        return json.loads(told.out) if code == 0 else told.err

    go.name = name
    return go


def seen(client, name):
    """What MLflow holds of a model: aliases, and of each version tags and description."""
    found = {int(v.version): v for v in client.search_model_versions(f"name = '{name}'")}
    aliases = {alias: int(place) for alias, place in client.get_registered_model(name).aliases.items()}
    return aliases, found


def test_all_versions_with_aliases_tags_note_and_scores(registry, mirror, client):
    told = mirror()
    assert told["versions"] == {"1": 1, "2": 2}
    assert (told["added"], told["changed"], told["left_out"], told["foreign"]) == ([1, 2], [], [], [])
    aliases, versions = seen(client, mirror.name)
    assert aliases == told["aliases"] == {"champion": 2, "previous": 1, "blue": 2}
    assert versions[1].description == "first"
    assert {"team": "x", "stage": "a", "shardwise.package": registry.version("delays@1").hash,
            "shardwise.data": "0"}.items() <= versions[1].tags.items()  # fmt: skip
    run_of = client.get_run(versions[2].run_id)
    assert run_of.data.metrics == {"test.accuracy": 0.6, "test.accuracy.low": 0.4}
    assert run_of.data.params["target"] == "y"


def test_again_changes_nothing_and_later_only_what_has_changed(registry, mirror, client, packages):
    mirror()
    before = [(v.version, v.run_id, v.last_updated_timestamp) for v in seen(client, mirror.name)[1].values()]
    assert {key: mirror()[key] for key in ("added", "changed")} == {"added": [], "changed": []}
    assert [(v.version, v.run_id, v.last_updated_timestamp) for v in seen(client, mirror.name)[1].values()] == before
    client.set_model_version_tag(mirror.name, "1", "reviewer", "somebody")
    client.set_registered_model_alias(mirror.name, "theirs", "1")
    registry.describe("delays@1", note="old", tags={"team": "y", "stage": ""})
    registry.remove_alias("delays", "blue")
    registry.register("delays", packages[2], aliases=["challenger"])
    registry.rollback("delays")
    told = mirror()
    assert (told["added"], told["changed"]) == ([3], [1])
    aliases, versions = seen(client, mirror.name)
    assert aliases == {"champion": 1, "challenger": 3, "theirs": 1}
    own = {key: text for key, text in versions[1].tags.items() if not key.startswith("shardwise.")}
    assert (versions[1].description, own) == ("old", {"team": "y", "reviewer": "somebody"})


def test_a_version_that_was_deleted_is_told_and_goes_where_asked(registry, mirror, client):
    mirror()
    registry.remove_alias("delays", "blue")
    registry.rollback("delays")
    registry.delete("delays@2")
    told = mirror()
    assert (told["versions"], told["gone"], told["pruned"]) == ({"1": 1}, {"2": 2}, False)
    aliases, versions = seen(client, mirror.name)
    assert aliases == {"champion": 1}
    assert versions[2].tags["shardwise.deleted"] == "true"
    assert mirror("delays", "--prune")["pruned"]
    assert set(seen(client, mirror.name)[1]) == {1}


def test_one_version_and_no_alias_that_answers_with_another(registry, mirror, client, packages):
    mirror()
    registry.register("delays", packages[2], aliases=["champion"])
    told = mirror("delays@1")
    assert told["versions"] == {"1": 1}
    assert told["left_out"] == ["the alias 'champion': its version is not mirrored"]
    assert seen(client, mirror.name)[0] == {"previous": 2, "blue": 2}
    assert mirror("delays@champion")["added"] == [3]
    assert seen(client, mirror.name)[0] == {"champion": 3, "previous": 2, "blue": 2}


def test_mlflow_answers_with_the_bits_of_the_package(registry, mirror, uri, packages):
    mlflow = pytest.importorskip("mlflow")
    mirror()
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    rows = make_table(40, seed=5)
    try:
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        loaded = mlflow.pyfunc.load_model(f"models:/{mirror.name}@champion")
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])
    found = loaded.predict(rows.to_pandas().astype({"day": "datetime64[ns]"}))
    expected = Predictor.load(packages[1]).answer(rows)
    for name in expected.schema.names:
        np.testing.assert_array_equal(found[name], expected.column(name).to_pylist())


def test_files_that_are_lost_or_of_another_package_are_brought_again(registry, mirror, client, tmp_path):
    mirror()
    folders = {n: Path(v.source.removeprefix("file://")) for n, v in seen(client, mirror.name)[1].items()}
    shutil.rmtree(folders[1])
    text = (folders[2] / "MLmodel").read_text()
    (folders[2] / "MLmodel").write_text(text.replace(registry.version("delays@2").hash, "0" * 64))
    told = mirror()
    assert (told["versions"], told["added"]) == ({"1": 3, "2": 4}, [1, 2])
    assert seen(client, mirror.name)[0] == {"champion": 4, "previous": 3, "blue": 4}
    for number, place in ((1, 3), (2, 4)):
        source = Path(seen(client, mirror.name)[1][place].source.removeprefix("file://"))
        package = yaml.safe_load((source / "MLmodel").read_text())["metadata"]["package"]
        assert package == registry.version(f"delays@{number}").hash


def test_what_was_broken_off_is_no_version_and_what_was_brought_is_used(registry, mirror, client, monkeypatch):
    from shardwise.deploy import mlflow_mirror

    def stopped(*words, **more):
        raise ConnectionError("the network is gone")

    for name in ("log_batch", "create_model_version"):
        with monkeypatch.context() as patch:
            patch.setattr(mlflow_mirror.MlflowClient, name, stopped)
            assert "the network is gone" in mirror("delays@1", code=2)
        assert seen(client, mirror.name)[1] == {}
    assert mirror("delays@1")["added"] == [1]
    experiment = client.get_experiment_by_name(f"shardwise/{mirror.name}").experiment_id
    states = [found.info.status for found in client.search_runs([experiment])]
    assert sorted(states) == ["FINISHED", "RUNNING"]  # the second time found the first one's files whole


def test_what_is_not_ours_is_refused_or_left(registry, mirror, client, packages, tmp_path):
    other = Registry(tmp_path / "other")
    other.register("delays", packages[0])
    client.create_registered_model(f"{mirror.name}-theirs")
    assert "is not the mirror of 'delays'" in mirror("delays", "--as", f"{mirror.name}-theirs", code=2)
    mirror()
    assert "Mirror it under another name" in mirror("delays", "--registry", other.place, code=2)
    client.create_model_version(mirror.name, str(tmp_path / "files"))
    client.set_registered_model_alias(mirror.name, "champion", "3")
    told = mirror()
    assert told["foreign"] == [3]
    assert seen(client, mirror.name)[0]["champion"] == 2


def test_names_that_mlflow_does_not_take_are_told(registry, mirror):
    registry.promote("delays@1", "latest")
    registry.promote("delays@1", "a.b")
    registry.describe("delays@1", tags={"wei!rd": "1"})
    told = mirror()
    assert told["versions"] == {"1": 1, "2": 2}
    assert len(told["left_out"]) == 3
    assert all(word in " ".join(told["left_out"]) for word in ("'latest'", "'a.b'", "'wei!rd'"))
    assert set(told["aliases"]) == {"champion", "previous", "blue"}


def test_people_get_a_table(registry, uri, tmp_path, capsys):
    words = ["models", "mirror", "delays", "--to", uri, "--as", tmp_path.name, "--artifacts", str(tmp_path / "f")]
    assert run(words) == 0
    out = capsys.readouterr().out
    assert f"delays@2  {tmp_path.name} version 2  new  blue, champion" in out
    registry.remove_alias("delays", "blue")
    registry.rollback("delays")
    registry.delete("delays@2")
    assert run(words) == 0
    assert "delays@2 was deleted here; version 2 there stays: --prune deletes it" in capsys.readouterr().out


@pytest.fixture
def silent():
    """A server that takes connections and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_places_that_are_none_are_told_at_once(registry, tmp_path, capsys, silent, monkeypatch):
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setattr("shardwise.deploy.mlflow_mirror._WAIT_S", 0.2)
    (tmp_path / "text.db").write_text("no database at all")
    for place, message in (
        (silent, "nobody answers there: Read timed out"),
        ("http://127.0.0.1:9", "nobody answers there: [Errno 111] Connection refused"),
        ("http://user:secret@127.0.0.1:9", "(mlflow http://127.0.0.1:9)"),
        ("postgresql://127.0.0.1:9/x", "nobody answers there: [Errno 111] Connection refused"),
        (f"sqlite:///{tmp_path}/text.db", "not a database"),
        (f"sqlite:///{tmp_path}/text.db/deeper/x.db", "a folder is needed"),
        ("sqlite:////proc/x.db", "unable to open database file"),
        ("elsewhere://x", "MLflow says"),
    ):
        assert run(["models", "mirror", "delays", "--to", place]) == 2, place
        told = capsys.readouterr().err
        assert message in told, told
        assert "secret" not in told


def test_files_that_cannot_be_written(registry, mirror, client, tmp_path):
    (tmp_path / "file").write_text("")
    message = mirror("delays", "--experiment", mirror.name, "--artifacts", str(tmp_path / "file" / "x"), code=2)
    assert "a file was given where a folder is needed" in message
    assert seen(client, mirror.name)[1] == {}


def test_without_the_extra(registry, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "shardwise.deploy.mlflow_mirror", raising=False)
    monkeypatch.setitem(sys.modules, "mlflow.entities", None)
    assert run(["models", "mirror", "delays", "--to", "x"]) == 2
    assert "pip install 'shardwise[mlflow]'" in capsys.readouterr().err
