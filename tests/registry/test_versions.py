"""What events make of a name, against a plain model of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import ConfigError
from shardwise.registry import versions as events
from shardwise.registry.versions import NameState, Version, check_alias, check_name


def version(number: int) -> Version:
    return Version(
        name="m", number=number, hash=f"h{number}", folder=f"packages/{number}", created="", task="binary", target="y"
    )


MOVES = st.lists(st.tuples(st.sampled_from(["register", "promote", "point", "rollback", "delete"]), st.integers(1, 6)))


def walk(moves) -> list[NameState]:
    """All states on the way; a move that a registry would refuse is left out."""
    states = [NameState()]
    for kind, number in moves:
        state = states[-1]
        there = number in state.versions
        if kind == "register":
            event = events.registered(version(state.last + 1), ("newest",))
        elif kind == "promote" and there:
            event = events.pointed("champion", number)
        elif kind == "point" and there:
            event = events.pointed("challenger", number)
        elif kind == "rollback" and len(state.champions) > 1:
            event = events.rolled_back(state.champions[-2])
        elif kind == "delete" and there and not state.aliases_of(number):
            event = events.deleted(number)
        else:
            continue
        states.append(state.apply(event))
    return states


@given(MOVES)
def test_aliases_always_point_at_versions_that_are_there(moves):
    for state in walk(moves):
        assert set(state.aliases.values()) <= set(state.versions)
        assert set(state.champions) <= set(state.versions)
        assert state.aliases.get("champion") == (state.champions[-1] if state.champions else None)
        assert state.aliases.get("previous") == (state.champions[-2] if len(state.champions) > 1 else None)
        assert max(state.versions, default=0) <= state.last


@given(MOVES)
def test_a_state_comes_back_from_json(moves):
    for state in walk(moves):
        assert NameState.from_json(state.to_json()) == state


@given(MOVES, st.integers(1, 6))
def test_rollback_takes_a_promotion_back(moves, number):
    state = walk(moves)[-1]
    if number not in state.versions or not state.champions or state.champions[-1] == number:
        return
    promoted = state.apply(events.pointed("champion", number))
    back = promoted.apply(events.rolled_back(promoted.champions[-2]))
    assert back.champions == state.champions
    assert {**back.aliases, "challenger": 0} == {**state.aliases, "challenger": 0}


def test_champions_after_a_deletion_do_not_repeat():
    state = NameState()
    for number in (1, 2, 3):
        state = state.apply(events.registered(version(number)))
    for number in (1, 2, 1, 3):
        state = state.apply(events.pointed("champion", number))
    assert state.apply(events.deleted(2)).champions == (1, 3)


def test_without_a_champion_there_is_no_previous_one():
    state = NameState().apply(events.registered(version(1), ("champion",)))
    state = state.apply(events.registered(version(2), ("champion", "blue")))
    assert state.apply(events.unpointed("champion")).aliases == {"blue": 2}
    assert state.apply(events.unpointed("blue")).aliases == {"champion": 2, "previous": 1}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "-a", "a@1", "a" * 101, "ä"])
def test_names_that_cannot_be(name):
    with pytest.raises(ConfigError, match="letters, digits"):
        check_name(name)
    with pytest.raises(ConfigError, match="alias"):
        check_alias(name)
