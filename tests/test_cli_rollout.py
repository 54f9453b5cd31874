"""shardwise rollout on the command line."""

import json

import pytest
from tests.registry.parts import make_parts

from shardwise.cli import run
from shardwise.registry.package import write_package


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(autouse=True)
def _place(tmp_path, monkeypatch, parts):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SHARDWISE_REGISTRY", raising=False)
    for name in ("a", "b"):
        write_package(tmp_path / name, **{**parts, "lineage": {"data": name, "rows": 400}})
        assert run(["models", "register", "m", name]) == 0
    assert run(["models", "promote", "m@1"]) == 0


def told(capsys, *words):
    capsys.readouterr()
    assert run(["rollout", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_start_status_and_a_decision_by_hand(capsys):
    started = told(capsys, "start", "m@2", "--steps", "2%,0.1", "--shadow", "--margin", "0.01", "--least", "5m")
    assert started["rules"]["steps"] == [0.0, 0.02, 0.1]
    assert (started["rules"]["margin"], started["rules"]["least_s"]) == (0.01, 300.0)
    running = told(capsys, "status", "m")["running"]
    assert (running["candidate"], running["champion"], running["share"]) == (2, 1, 0.0)
    assert running["next"]["action"] == "wait"
    assert run(["rollout", "promote", "m", "--reason", "seen enough"]) == 0
    assert "m@champion is version 2" in capsys.readouterr().out
    assert run(["rollout", "status", "m"]) == 0
    assert "promoted, seen enough" in capsys.readouterr().out


def test_rollback_and_stop_leave_the_champion(capsys):
    for verb in ("rollback", "stop"):
        assert run(["rollout", "start", "m@2", "--no-promote"]) == 0
        assert run(["rollout", verb, "m"]) == 0
        assert "m@champion is version 1" in capsys.readouterr().out


def test_the_config_names_the_options(capsys, tmp_path):
    (tmp_path / "rollout.yaml").write_text("steps: [5%, 0.5]\nalpha: 0.01\nshadow: false\n")
    rules = told(capsys, "start", "m@2", "--config", "rollout.yaml")["rules"]
    assert (rules["steps"], rules["alpha"]) == ([0.05, 0.5], 0.01)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["start", "m@2", "--steps", "ten"], "no share"),
        (["start", "m@2", "--steps", "50%,10%"], "rising shares"),
        (["start", "m@1"], "champion already"),
        (["promote", "m"], "nothing of 'm'"),
        (["status", "n"], "no model 'n'"),
        (["begin", "m"], "no verb rollout 'begin'"),
    ],
)
def test_bad_input_is_2_and_says_what(words, message, capsys):
    assert run(["rollout", *words]) == 2
    assert message in capsys.readouterr().err
