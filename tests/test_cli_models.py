"""The verbs of the registry on the command line."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.registry.parts import make_parts, make_table

from shardwise.cli import run
from shardwise.registry.package import write_package
from shardwise.testing.tables import people


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def place(tmp_path, monkeypatch, parts):
    """Where the packages `a` and `b` lie, of which `a` is champion and version 1 of `delays`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHARDWISE_REGISTRY", raising=False)
    for name, value in (("a", 0.7), ("b", 0.8)):
        score = {"test": {"accuracy": {"value": value, "low": 0.6, "high": 0.9}}}
        write_package(tmp_path / name, **{**parts, "metrics": score, "lineage": {"data": name, "rows": 400}})
    pq.write_table(make_table(50), "new.parquet")
    assert run(["models", "register", "delays", "a", "--alias", "champion", "--note", "first", "--tag", "team=x"]) == 0
    return tmp_path


def told(capsys, *words: str):
    capsys.readouterr()
    assert run(["models", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_life_of_a_name(place, capsys):
    assert told(capsys, "register", "delays", "b", "--parent", "1", "--alias", "challenger")["number"] == 2
    assert told(capsys, "promote", "delays")["aliases"] == {"champion": 2, "previous": 1}
    assert told(capsys, "list")["models"] == [
        {"name": "delays", "versions": [1, 2], "aliases": {"champion": 2, "previous": 1}}
    ]
    assert [v["aliases"] for v in told(capsys, "list", "delays")["versions"]] == [["previous"], ["champion"]]
    difference = told(capsys, "diff", "delays@1", "delays@2")
    assert difference["metrics"]["test.accuracy"]["change"] == pytest.approx(0.1)
    assert difference["lineage"] == {"data": {"before": "a", "after": "b"}}
    assert told(capsys, "rollback", "delays")["aliases"] == {"champion": 1}
    shown = told(capsys, "show", "delays@champion")
    assert (shown["number"], shown["note"], shown["tags"], shown["aliases"]) == (
        1,
        "first",
        {"team": "x"},
        ["champion"],
    )
    assert [entry["event"]["kind"] for entry in shown["history"]] == [
        "registered", "registered", "pointed", "rolled_back"
    ]  # fmt: skip
    assert told(capsys, "promote", "delays@2", "--to", "staging")["aliases"]["staging"] == 2
    assert told(capsys, "delete", "delays", "--alias", "staging") == {"name": "delays", "removed": "staging"}
    assert told(capsys, "delete", "delays@2") == {"deleted": "delays@2"}


def test_people_get_tables(place, capsys):
    capsys.readouterr()
    assert run(["models", "register", "delays", "b"]) == 0
    assert capsys.readouterr().out == "delays@2\n"
    for words, lines in (
        (["list"], ["name    versions  latest  aliases", "delays  2         2       champion 1"]),
        (["list", "delays"], ["accuracy 0.7", "first"]),
        (["show", "delays"], ["test accuracy", "0.7 (0.6 to 0.9)", "registered 1 as champion", "team=x"]),
        (["diff", "delays@1", "delays@2"], ["metric", "0.8 (+0.1)", "lineage"]),
    ):
        assert run(["models", *words]) == 0
        out = capsys.readouterr().out
        assert all(line in out for line in lines), out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["models", "promot", "x"], "'promote'"),
        (["models", "show", "delay"], "'delays'"),
        (["models", "delete", "delays@1"], "--alias champion"),
        (["models", "delete", "delays"], "delays@3"),
        (["models", "rollback", "delays"], "no champion before"),
        (["models", "promote", "delays"], "challenger"),
        (["models", "register", "delays", "nothing"], "no such folder"),
        (["models", "list", "--registry", "s3x://b"], "not a known kind of storage"),
        (["predict", "delays@chmpion", "new.parquet", "--out", "x.parquet"], "'champion'"),
        (["predict", "delays@1", "new.parquet", "--out", "x.parquet", "--registry", "other"], "empty"),
    ],
)
def test_errors_name_the_next_step(place, capsys, words, message):
    assert run(words) == 2
    assert message in capsys.readouterr().err


def test_an_empty_registry_says_how_to_fill_it(place, capsys):
    assert run(["models", "list", "--registry", "other"]) == 0
    assert "models register NAME PACKAGE" in capsys.readouterr().out
    assert not Path("other").exists()


def test_references_stand_where_packages_are_expected(place, capsys):
    assert run(["predict", "delays@champion", "new.parquet", "--out", "x.parquet", "--keep", "row"]) == 0
    assert run(["predict", "a", "new.parquet", "--out", "y.parquet", "--keep", "row"]) == 0
    assert pq.read_table("x.parquet").equals(pq.read_table("y.parquet"))
    assert run(["evaluate", "delays@1", "new.parquet", "--json"]) == 0


def test_train_registers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pq.write_table(people(300), "people.parquet")
    words = ["train", "people.parquet", "--target", "bought", "--drop", "id,weight,spent,visits", "--folds", "2",
             "--trials", "1", "--register", "buyers", "--registry", "models", "--json"]  # fmt: skip
    assert run(words) == 0
    assert json.loads(capsys.readouterr().out)["version"] == "buyers@1"
    assert run(words) == 0  # the same package: the same version
    assert json.loads(capsys.readouterr().out)["version"] == "buyers@1"
    words[words.index("buyers")] = "a/b"
    assert run(words) == 2
