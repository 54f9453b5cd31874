"""What is told, and with which exit code, where a run is ended that is late."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from shardwise.cli import train as train_verb
from shardwise.cli.last_resort import LastResort
from shardwise.core.config import RunConfig


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes, in the place of exits."""
    found: list[int] = []
    monkeypatch.setattr(os, "_exit", found.append)
    return found


def write_manifest(folder: Path, test: dict[str, Any]) -> None:
    manifest = {
        "target": {"task": "binary"}, "metrics": {"valid": {"roc_auc": 0.9}, "test": test},
        "lineage": {"candidate": {"family": "trees"}},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("test", "words"),
    [({}, "not scored on sealed rows"), ({"roc_auc": {"value": 0.9}}, "that of the run so far")],
)
def test_nothing_is_said_of_a_test_that_there_may_not_be(
    tmp_path: Path, codes: list[int], capsys: pytest.CaptureFixture[str], test: dict[str, Any], words: str
) -> None:
    write_manifest(tmp_path, test)
    LastResort(None, as_json=False)._end(tmp_path)
    assert capsys.readouterr().out == f"time was up; the best package so far is {tmp_path} ({words})\n"
    assert codes == [0]


@pytest.mark.parametrize(("registry", "where"), [(None, []), ("my registry", ["--registry", "my registry"])])
@pytest.mark.parametrize("as_json", [False, True])
def test_a_package_that_was_to_be_registered_and_is_not_is_told(
    tmp_path: Path, codes: list[int], capsys: pytest.CaptureFixture[str], *, as_json: bool, registry: str | None,
    where: list[str],
) -> None:  # fmt: skip
    write_manifest(tmp_path, {})
    LastResort(None, as_json=as_json, name="delays", registry=registry)._end(tmp_path)
    shown = capsys.readouterr()
    command = shlex.join(["shardwise", "models", "register", "delays", str(tmp_path), *where])
    assert shown.err == f"shardwise: not registered: {command}\n"
    assert not as_json or json.loads(shown.out)["not_registered"] == command
    assert codes == [3]


def test_training_hands_it_what_is_to_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    class Ended(Exception):
        pass

    def last_resort(*_: Any, **given: Any) -> None:
        made.append(given)
        raise Ended

    monkeypatch.setattr(train_verb, "LastResort", last_resort)
    with pytest.raises(Ended):
        train_verb.train_and_tell(RunConfig(data=("d",), target="y"), name="delays", registry="r", as_json=True)
    assert made == [{"as_json": True, "name": "delays", "registry": "r"}]
