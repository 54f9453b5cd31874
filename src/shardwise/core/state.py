"""State on disk without pickle: nested dicts and lists of JSON values, NumPy arrays and bytes, as one byte string.

Layout: `SWST`, format version (1 byte), length of the JSON header (8 bytes, little endian), header, buffers. In the
header a buffer is `{"$array": [dtype, shape, offset]}` or `{"$bytes": [length, offset]}`, and a long list of dicts is a
table (`core.tables`). The same state gives the same bytes.
"""

import json
import math
from typing import Any

import numpy as np

from shardwise.core.errors import DataError
from shardwise.core.tables import is_table, read_table, write_table

State = dict[str, Any]
_MAGIC = b"SWST\x01"
_KINDS = "biufSU"
_PLAIN = frozenset({str, int, float, bool, type(None)})


def dump_state(state: State) -> bytes:
    """Serialise; floats NaN and infinities are kept.

    >>> load_state(dump_state({"n": 3, "x": np.arange(2.0)}))
    {'n': 3, 'x': array([0., 1.])}
    """
    buffers: list[bytes] = []
    header = json.dumps(_strip(state, buffers, [0]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return join_state(header, b"".join(buffers))


def load_state(content: bytes) -> State:
    """Read what `dump_state` wrote; raises `DataError` when the bytes are something else."""
    start = len(_MAGIC) + 8
    if content[: len(_MAGIC)] != _MAGIC or len(content) < start:
        raise DataError("these bytes are no saved state, or of another format version")
    size = int.from_bytes(content[len(_MAGIC) : start], "little")
    try:
        loaded = _restore(json.loads(content[start : start + size]), memoryview(content)[start + size :])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("the saved state is damaged") from error
    assert isinstance(loaded, dict)
    return loaded


def split_state(content: bytes) -> tuple[bytes, bytes]:
    """The JSON header and the buffers of what `dump_state` wrote, for those who keep them in two files."""
    start = len(_MAGIC) + 8
    size = int.from_bytes(content[len(_MAGIC) : start], "little")
    return content[start : start + size], content[start + size :]


def join_state(header: bytes, buffers: bytes) -> bytes:
    """Inverse of `split_state`.

    >>> load_state(join_state(*split_state(dump_state({"n": 3}))))
    {'n': 3}
    """
    return b"".join([_MAGIC, len(header).to_bytes(8, "little"), header, buffers])


def _strip(value: Any, buffers: list[bytes], offset: list[int]) -> Any:
    if isinstance(value, dict):
        # Sorted, so that the buffers lie in one order; `$` is ours, a key that begins with it gets a second one.
        return {
            _escape(key): part if type(part) in _PLAIN else _strip(part, buffers, offset)
            for key, part in sorted(value.items(), key=_spelling)
        }
    if isinstance(value, list | tuple):
        if _PLAIN.issuperset(map(type, value)):  # most lists are long and hold words or numbers
            return list(value)
        if is_table(value):
            return {"$table": write_table(value, lambda part: _strip(part, buffers, offset))}
        return [_strip(part, buffers, offset) for part in value]
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in _KINDS:
            raise TypeError(f"arrays of {value.dtype} are not saved")
        place = {"$array": [value.dtype.str, list(value.shape), offset[0]]}
        content = np.ascontiguousarray(value).tobytes()
    elif isinstance(value, bytes):
        place, content = {"$bytes": [len(value), offset[0]]}, value
    elif isinstance(value, np.generic):
        return value.item()
    else:
        return value
    buffers.append(content)
    offset[0] += len(content)
    return place


def _restore(value: Any, buffers: memoryview) -> Any:
    if isinstance(value, list):
        if _PLAIN.issuperset(map(type, value)):
            return value
        return [_restore(part, buffers) for part in value]
    if not isinstance(value, dict):
        return value
    if "$table" in value:
        return read_table(value["$table"], lambda part: _restore(part, buffers))
    if "$array" in value:
        name, shape, offset = value["$array"]
        flat = np.frombuffer(buffers, dtype=np.dtype(name), count=math.prod(shape), offset=offset)
        return flat.copy() if len(shape) == 1 else flat.reshape(shape).copy()
    if "$bytes" in value:
        length, offset = value["$bytes"]
        return bytes(buffers[offset : offset + length])
    return {
        key.removeprefix("$"): part if type(part) in _PLAIN else _restore(part, buffers) for key, part in value.items()
    }


def _escape(key: object) -> str:
    text = str(key)
    return f"${text}" if text.startswith("$") else text


def _spelling(item: tuple[object, object]) -> str:
    return str(item[0])
