"""Keys: who has one is let in, whichever way it is sent; files and variables that hold none are refused."""

import os

import pytest
from tests.serve.online.servers import PATIENCE_S  # noqa: F401 - skips where the extra is missing

from shardwise.core.errors import ConfigError
from shardwise.serve.online.keys import VARIABLE, Keys
from shardwise.serve.online.problems import Problem

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


def is_let_in(keys: Keys, **headers: str) -> bool:
    try:
        keys.check({name.replace("_", "-").encode(): value.encode() for name, value in headers.items()})
    except Problem:
        return False
    return True


def test_who_has_no_key_is_told_how_to_send_one():
    with pytest.raises(Problem) as raised:
        Keys([KEY]).check({})
    assert (raised.value.status, raised.value.headers) == (401, {"www-authenticate": "Bearer"})
    assert "authorization" in raised.value.hint


def test_a_key_is_taken_from_either_header():
    keys = Keys([KEY, OTHER])
    for key in (KEY, OTHER):
        assert is_let_in(keys, authorization=f"Bearer {key}")
        assert is_let_in(keys, authorization=f"bearer  {key} ")
        assert is_let_in(keys, x_api_key=key)
        assert is_let_in(keys, authorization="Basic abc", x_api_key=key)


@pytest.mark.parametrize("given", ["", KEY[:-1], KEY + "0", KEY.upper(), f"{KEY}\n{OTHER}", "\xff"])
def test_another_key_is_none(given):
    keys = Keys([KEY, OTHER])
    assert not is_let_in(keys, x_api_key=given)
    assert not is_let_in(keys, authorization=f"Bearer {given}")
    assert not is_let_in(keys, authorization=given)
    assert not is_let_in(keys)


def test_keys_come_from_a_file_and_a_variable(tmp_path, monkeypatch):
    assert Keys.open(None) is None
    file = tmp_path / "keys"
    file.write_text(f"# of the batch jobs\n{KEY}\n\n  {OTHER}  \n")
    keys = Keys.open(str(file))
    assert is_let_in(keys, x_api_key=KEY)
    assert is_let_in(keys, x_api_key=OTHER)
    monkeypatch.setenv(VARIABLE, "of-the-variable-1\nof-the-variable-2")
    assert is_let_in(Keys.open(None), x_api_key="of-the-variable-2")
    assert not is_let_in(Keys.open(None), x_api_key=KEY)
    assert is_let_in(Keys.open(str(file)), x_api_key="of-the-variable-1")


@pytest.mark.parametrize("text", ["", "# none\n", "short\n", f"{KEY} {OTHER}\n", f"{KEY}\n\xe4{KEY}\n"])
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path, text, monkeypatch):
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        Keys.open(str(file))
    assert KEY not in str(raised.value)
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ConfigError, match=VARIABLE):
        Keys.open(None)


def test_a_file_that_changes_is_followed_and_one_that_is_spoilt_is_not(tmp_path):
    file = tmp_path / "keys"
    file.write_text(KEY)
    keys = Keys.open(str(file))
    assert not keys.look()
    new = tmp_path / "new"
    new.write_text(OTHER)
    os.replace(new, file)
    assert keys.look()
    assert not is_let_in(keys, x_api_key=KEY)
    assert is_let_in(keys, x_api_key=OTHER)
    for spoil in (lambda: file.write_text("no"), file.unlink):
        spoil()
        with pytest.raises(ConfigError):
            keys.look()
        assert not keys.look()
        assert is_let_in(keys, x_api_key=OTHER)
