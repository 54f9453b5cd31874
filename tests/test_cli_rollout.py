"""shardwise rollout on the command line."""

import json
import re

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
    ("text", "rule", "value"),
    [
        ("margin: 2%", "margin", 0.02),
        ("slower: '50%'", "slower", 0.5),
        ("least: 1m", "least_s", 60.0),
        ("least_s: 90s", "least_s", 90.0),
        ("least: 0", "least_s", 0.0),
        ("no_promote: true", "promote", False),
        ("no-promote: true", "promote", False),
        ("promote: false", "promote", False),
        ("least_requests: 7", "least_requests", 7),
        ("steps: 5%", "steps", [0.05]),
        ("steps: 1%,0.5", "steps", [0.01, 0.5]),
        ("shadow: true", "steps", [0.0, 0.01, 0.05, 0.25]),
        ("quality: arms", "quality", "arms"),
    ],
)
def test_the_config_is_read_as_the_command_line_is(text, rule, value, capsys, tmp_path):
    (tmp_path / "rollout.yaml").write_text(text)
    assert told(capsys, "start", "m@2", "--config", "rollout.yaml")["rules"][rule] == value


def test_the_command_line_counts_more_than_the_config(capsys, tmp_path):
    (tmp_path / "rollout.yaml").write_text("margin: 1%\nleast_s: 5\nlabels: ignored\n")
    rules = told(capsys, "start", "m@2", "--config", "rollout.yaml", "--margin", "3%", "--least", "1h")["rules"]
    assert (rules["margin"], rules["least_s"], rules["labels"]) == (0.03, 3600.0, "ignored")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("margin:", "None is no share"),
        ("margin: [1]", "no share"),
        ("margin: true", "True is no share"),
        ("alpha: .nan", "no share"),
        ("alpha: 0.9", "between 0 and 0.5"),
        ("least_s: soon", "not a duration"),
        ("least: true", "not a duration"),
        ("least_requests: 1.5", "1.5 is no whole number"),
        ("least_requests: true", "no whole number"),
        ("promote: maybe", "'maybe' is neither true nor false"),
        ("shadow: 1", "neither true nor false"),
        ("steps: 5", "rising shares"),
        ("steps: []", "rising shares"),
        ("steps: [[1]]", "no share"),
        ("steps:", "no share"),
        ("labels: [a]", "no word"),
        ("labels: soon", "labels is 'soon'"),
        ("marginn: 1%", "Did you mean 'margin'"),
        ("least: 1m\nleast_s: 60", "says again"),
        ("promote: true\nno_promote: true", "says again"),
        ("[1, 2]", "no mapping"),
    ],
)
def test_a_config_that_cannot_be_meant_is_2_and_says_what(text, message, capsys, tmp_path):
    (tmp_path / "rollout.yaml").write_text(text)
    assert run(["rollout", "start", "m@2", "--config", "rollout.yaml"]) == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))


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
