"""Decisions over HTTP: who may, what is refused, and what becomes of the registry."""

import pytest
from tests.registry.parts import make_package

pytest.importorskip("orjson", reason="the extra `serve` is not installed")

from shardwise.core.errors import ConfigError
from shardwise.monitor.canary import RolloutRules
from shardwise.registry.registry import Registry
from shardwise.registry.rollouts import Rollouts, ended_rollouts
from shardwise.serve.online.keys import Keys
from shardwise.serve.online.live import FolderSource, RegistrySource
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.ui.decisions import Decisions

ADMIN, CLIENT = "admin-0123456789abcdef", "client-0123456789abcdef"


class Slot:
    def __init__(self, source):
        self.source = source


class Models:
    def __init__(self, *sources):
        self.slots = [Slot(source) for source in sources]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return [make_package(folder / str(seed), families=("baseline",), rows=60 + seed) for seed in range(3)]


@pytest.fixture
def registry(tmp_path, made):
    opened = Registry(tmp_path / "registry")
    for package in made:
        opened.register("m", package)
    opened.promote("m@1")
    opened.promote("m@2")
    return opened


@pytest.fixture
def told():
    return []


@pytest.fixture
def decisions(registry, tmp_path, told):
    models = Models(RegistrySource("m", registry, "m"), FolderSource("f", tmp_path))
    return Decisions(models, Keys([ADMIN]), lambda event, **details: told.append((event, details)))


def begin(registry):
    return Rollouts(registry).start("m@3", RolloutRules().to_json())


def headers(key=None, **more):
    given = {name.replace("_", "-").encode(): value.encode() for name, value in more.items()}
    return given if key is None else {b"authorization": f"Bearer {key}".encode(), **given}


def refusal(work, *arguments):
    with pytest.raises(Problem) as raised:
        work(*arguments)
    return raised.value.status, raised.value.code


def test_without_keys_of_its_own_nobody_decides():
    closed = Decisions(Models())
    assert closed.may(headers(ADMIN)) == "off"
    assert refusal(closed.check, headers(ADMIN), "application/json") == (403, "decisions_off")


def test_only_a_key_that_may_decide_does(decisions):
    assert [decisions.may(headers(key)) for key in (None, CLIENT, ADMIN)] == ["key", "key", "on"]
    assert refusal(decisions.check, headers(), "application/json") == (401, "key_missing")
    assert refusal(decisions.check, headers(CLIENT), "application/json") == (401, "key_unknown")
    decisions.check(headers(ADMIN), "application/json")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_page_of_a_stranger_decides_nothing(decisions, site):
    assert refusal(decisions.check, headers(ADMIN, sec_fetch_site=site), "application/json") == (403, "other_origin")
    decisions.check(headers(ADMIN, sec_fetch_site="same-origin"), "application/json")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_form_of_html_can_send_is_refused(decisions, kind):
    assert refusal(decisions.check, headers(ADMIN), kind) == (415, "unsupported_type")


def test_a_version_becomes_champion_and_is_taken_back(decisions, registry, told):
    asked = {"name": "m", "action": "promote", "version": 3, "expect": 2, "reason": "good\nnight"}
    assert decisions.decide(asked, "r-1") == {"name": "m", "champion": 3, "outcome": "promoted"}
    assert registry.aliases("m")["champion"] == 3
    assert decisions.decide({"name": "m", "action": "rollback", "expect": 3}, "r-2")["champion"] == 2
    assert told[0] == ("decided", {"model": "m", "outcome": "promoted", "champion": 3, "reason": "good night",
                                   "request_id": "r-1"})  # fmt: skip


def test_a_rollout_ends_as_it_is_decided(decisions, registry):
    begin(registry)
    assert decisions.decide({"name": "m", "action": "promote", "version": 3, "expect": 2}, "r")["champion"] == 3
    assert ended_rollouts(registry.history("m"))[-1]["event"]["outcome"] == "promoted"
    registry.rollback("m")
    second = begin(registry)
    asked = {"name": "m", "action": "rollback", "rollout": second.id, "expect": 2, "reason": "slow"}
    assert decisions.decide(asked, "r") == {"name": "m", "champion": 2, "outcome": "rolled_back"}
    event = ended_rollouts(registry.history("m"))[-1]["event"]
    assert (event["outcome"], event["reason"], event["evidence"]) == (
        "rolled_back", "slow", {"by": "hand", "over": "HTTP"})  # fmt: skip
    assert refusal(decisions.decide, asked, "r") == (409, "moved")


def test_who_looked_at_an_old_page_decides_nothing(decisions, registry):
    running = begin(registry)
    for stale in ({"action": "promote", "version": 3, "expect": 1}, {"action": "promote", "version": 1, "expect": 3},
                  {"action": "rollback", "expect": 1}, {"action": "rollback", "rollout": "other", "expect": 2},
                  {"action": "rollback", "rollout": running.id, "expect": 1}):  # fmt: skip
        assert refusal(decisions.decide, {"name": "m", **stale}, "r")[0] == 409, stale
    assert registry.aliases("m")["champion"] == 2
    assert Rollouts(registry).running("m") == running


@pytest.mark.parametrize(
    "asked",
    [[], "m", {}, {"name": "m"}, {"name": "m", "action": "delete"}, {"name": "m", "action": "promote", "expect": 2},
     {"name": "m", "action": "promote", "version": "3", "expect": 2}, {"name": 3, "action": "rollback", "expect": 2},
     {"name": "m", "action": "promote", "version": True, "expect": 2},
     {"name": "m", "action": "rollback", "expect": -1}, {"name": "m", "action": "rollback", "expect": 2, "why": ""},
     {"name": "m", "action": "rollback", "expect": 2, "reason": "x" * 501},
     {"name": "m", "action": "rollback", "expect": 2, "rollout": [1]}],
)  # fmt: skip
def test_what_is_no_decision_is_refused(decisions, asked):
    assert refusal(decisions.decide, asked, "r") == (422, "no_decision")


@pytest.mark.parametrize("name", ["f", "other", "../m"])
def test_only_names_of_a_registry_can_be_decided_on(decisions, name):
    assert refusal(decisions.decide, {"name": name, "action": "rollback", "expect": 2}, "r")[0] == 404


def test_the_registry_knows_what_was_expected(registry):
    with pytest.raises(ConfigError, match="1 was expected"):
        registry.rollback("m", expect=1)
    assert registry.rollback("m", expect=2).number == 1
    assert [entry["number"] for entry in registry.history("m", last=2)] == [5, 6]
