from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_object_arrays_are_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        dump_state({"x": np.array([object()])})


@pytest.mark.parametrize("content", [b"", b"SWST", b"pickle", b"SWST\x01" + (2**40).to_bytes(8, "little") + b"{"])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(DataError):
        load_state(content)
