"""Rollouts in the log: one at a time, decided once, whatever the number of replicas."""

import threading

import pytest

from shardwise.core.errors import ConfigError
from shardwise.registry.registry import Registry
from shardwise.registry.rollouts import PASSED, PROMOTED, ROLLED_BACK, Rollouts, ended_rollouts
from shardwise.registry.versions import deleted


@pytest.fixture
def registry(tmp_path, packages):
    made = Registry(tmp_path / "registry")
    for number in (1, 2, 3):
        made.register("m", packages(number))
    made.promote("m@1")
    return made


def test_the_way_to_the_champion(registry):
    rollouts = Rollouts(registry)
    started = rollouts.start("m@2", {"steps": [0.1, 0.5]})
    assert (started.candidate, started.champion, started.step) == (2, 1, 0)
    assert registry.aliases("m") == {"champion": 1, "challenger": 2}
    assert rollouts.move("m", started, 1, "good", {"n": 3})
    assert rollouts.running("m").step == 1
    assert rollouts.end("m", rollouts.running("m"), PROMOTED, "shown", {"n": 9})
    assert registry.aliases("m") == {"champion": 2, "previous": 1}
    assert rollouts.running("m") is None
    told = [entry["event"] for entry in ended_rollouts(registry.history("m"))]
    assert [event["kind"] for event in told] == ["rollout_started", "rollout_moved", "rollout_ended"]
    assert told[2]["evidence"] == {"n": 9}


@pytest.mark.parametrize("outcome", [ROLLED_BACK, PASSED])
def test_other_ends_leave_the_champion(registry, outcome):
    rollouts = Rollouts(registry)
    assert rollouts.end("m", rollouts.start("m@2", {}), outcome, "why", {})
    assert registry.aliases("m")["champion"] == 1


def test_of_many_who_decide_one_does(registry):
    rollouts = Rollouts(registry)
    started = rollouts.start("m@2", {})
    done = []
    threads = [threading.Thread(target=lambda: done.append(rollouts.move("m", started, 1, "", {}))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, False, False, True]
    assert not rollouts.end("m", started, PROMOTED, "late", {})
    assert registry.aliases("m")["champion"] == 1


def test_a_promotion_by_hand_ends_it(registry):
    rollouts = Rollouts(registry)
    rollouts.start("m@2", {})
    registry.promote("m@3")
    assert rollouts.running("m") is None
    rollouts.start("m@2", {})
    assert rollouts.override("m", PROMOTED, "I know better").number == 2
    with pytest.raises(ConfigError, match="nothing of 'm'"):
        rollouts.override("m", ROLLED_BACK, "")


def test_what_cannot_begin_is_said(registry, packages):
    rollouts = Rollouts(registry)
    with pytest.raises(ConfigError, match="champion already"):
        rollouts.start("m@1", {})
    with pytest.raises(ConfigError, match="no version 'challenger'"):
        rollouts.start("m", {})
    rollouts.start("m@2", {})
    with pytest.raises(ConfigError, match="version 2 of 'm' is being rolled out"):
        rollouts.start("m@3", {})
    with pytest.raises(ConfigError, match="challenger"):
        registry.delete("m@2")
    registry.register("other", packages(4))
    with pytest.raises(ConfigError, match="no champion"):
        rollouts.start("other@1", {})


def test_tallies_of_replicas_are_kept_by_step_and_go_with_the_rollout(registry):
    rollouts = Rollouts(registry)
    started = rollouts.start("m@2", {})
    for replica, number in (("a", 1), ("b", 2), ("a", 3)):
        rollouts.put_tally("m", started, replica, {"n": number})
    assert rollouts.tallies("m", started) == [[{"n": 3}, {"n": 2}]]
    rollouts.move("m", started, 1, "", {})
    moved = rollouts.running("m")
    rollouts.put_tally("m", moved, "a", {"n": 5})
    assert rollouts.tallies("m", moved) == [[{"n": 3}, {"n": 2}], [{"n": 5}]]
    rollouts.end("m", moved, ROLLED_BACK, "", {})
    assert rollouts.tallies("m", moved) == [[], []]


def test_the_state_of_a_rollout_comes_back_from_a_checkpoint(registry):
    rollouts = Rollouts(registry)
    started = rollouts.start("m@2", {"steps": [0.1]})
    for number in range(40):
        registry.describe("m@3", note=str(number))
    assert rollouts.running("m") == started


def test_what_takes_part_in_a_rollout_cannot_be_deleted(registry):
    rollouts = Rollouts(registry)
    rollouts.start("m@2", {})
    registry.remove_alias("m", "challenger")
    with pytest.raises(ConfigError, match=r"m@2 takes part in a rollout.*shardwise rollout stop m"):
        registry.delete("m@2")
    rollouts.override("m", PROMOTED, "by hand")
    assert registry.version("m").number == 2


def test_a_rollout_is_over_when_its_champion_is_none_any_more(registry):
    rollouts = Rollouts(registry)
    rollouts.start("m@2", {})
    registry.remove_alias("m", "champion")
    assert rollouts.running("m") is None


def test_a_candidate_that_is_gone_is_not_promoted(registry):
    rollouts = Rollouts(registry)
    started = rollouts.start("m@2", {})
    registry.commit("m", lambda _: deleted(2))  # as a writer of before wrote it
    with pytest.raises(ConfigError, match="m@2 was deleted"):
        rollouts.end("m", started, PROMOTED, "shown", {})
    assert registry.aliases("m")["champion"] == 1
    assert rollouts.end("m", started, ROLLED_BACK, "gone", {})


def test_a_version_that_is_deleted_meanwhile_is_not_rolled_out(registry, monkeypatch):
    found = registry.version("m@3")
    registry.delete("m@3")
    monkeypatch.setattr(registry, "version", lambda _: found)
    with pytest.raises(ConfigError, match="m@3 was deleted"):
        Rollouts(registry).start("m@3", {})
