from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core import state as state_module
from shardwise.core import tables
from shardwise.core.errors import DataError
from shardwise.core.state import dump_state, load_state

scalars = (
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text() | st.binary()
)
arrays = st.lists(st.floats(allow_nan=False), max_size=8).map(np.array)
states = st.dictionaries(st.text(), st.recursive(scalars | arrays, lambda inner: st.lists(inner, max_size=4)))


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and bool(np.array_equal(a, b))
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@given(states)
def test_state_comes_back_and_its_bytes_are_the_same(state: dict[str, Any]) -> None:
    content = dump_state(state)
    loaded = load_state(content)
    assert loaded.keys() == state.keys()
    assert all(same(state[key], loaded[key]) for key in state)
    assert dump_state(loaded) == content


@pytest.mark.parametrize("dtype", ["int8", "uint64", "float32", "bool", "<U3", "S4"])
def test_arrays_keep_type_and_shape(dtype: str) -> None:
    array = np.zeros((2, 3), dtype)
    loaded = load_state(dump_state({"x": array}))["x"]
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)


def test_keys_of_our_own_notation_are_kept() -> None:
    state = {"$array": [1], "$bytes": {"$": b"x", "$$array": 2}}
    assert load_state(dump_state(state)) == state


cells = scalars | arrays | st.lists(scalars, max_size=3) | st.dictionaries(st.text(max_size=2), scalars, max_size=2)


same_keys = st.fixed_dictionaries({"a": cells, "$b": arrays, "c": st.floats(), "d": st.just("x")})
others = st.dictionaries(st.text(max_size=2), cells, min_size=1, max_size=2)


@given(st.lists(same_keys | others, min_size=1))
def test_a_long_list_of_dicts_comes_back(rows: list[dict[str, Any]]) -> None:
    plain = [load_state(dump_state(row)) for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "LEAST_ROWS", 1)
        content = dump_state({"rows": rows})
        assert b"$table" in content
        assert repr(load_state(content)["rows"]) == repr(plain)
        assert dump_state(load_state(content)) == content


def test_a_wide_state_is_written_with_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call for each entry of the dicts, not for each dict."""
    calls: list[Any] = []
    strip = state_module._strip
    monkeypatch.setattr(state_module, "_strip", lambda value, *rest: (calls.append(0), strip(value, *rest))[1])
    number = {"n": 1, "x": 0.5, "values": np.arange(3.0), "inner": [{"a": None, "b": 2.0}]}
    text = {"n": 1, "bytes": np.arange(3, dtype=np.uint8), "values": np.arange(2)}
    dump_state({"columns": [number, number, text] * 3_000})
    assert len(calls) < 40


def test_object_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        dump_state({"x": np.array([object()])})


@pytest.mark.parametrize("content", [b"", b"SWST", b"pickle", b"SWST\x01" + (2**40).to_bytes(8, "little") + b"{"])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(DataError):
        load_state(content)
