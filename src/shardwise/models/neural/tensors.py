"""Named arrays as a safetensors file, with NumPy alone, so that a package with a network loads without any extra.

Layout (https://github.com/huggingface/safetensors): length of the header (8 bytes, little endian), the header as JSON
`{name: {"dtype", "shape", "data_offsets"}}` padded with blanks to 8 bytes, the buffers. The same arrays give the same
bytes.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shardwise.core.errors import PackageError

_DTYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}
_NAMES = {np.dtype(text): name for name, text in _DTYPES.items()}
_META = "__metadata__"


def dump_tensors(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a file; arrays are float32, float64 or int64 of any shape.

    >>> load_tensors(dump_tensors({"w": np.arange(2.0)}, {"a": "b"}))
    ({'w': array([0., 1.])}, {'a': 'b'})
    """
    header: dict[str, object] = {_META: dict(metadata)} if metadata else {}
    buffers: list[bytes] = []
    offset = 0
    for name in sorted(arrays):
        array = arrays[name]
        content = np.ascontiguousarray(array).tobytes()
        place = [offset, offset + len(content)]
        header[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": place}
        buffers.append(content)
        offset = place[1]
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *buffers])


def load_tensors(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata; raises `PackageError` when the bytes are damaged or of another type."""
    size = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + size])
        metadata = header.pop(_META, {})
        arrays = {name: _array(entry, memoryview(content)[8 + size :]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackageError("the weights are damaged", hint="Train the model again.") from error
    return arrays, metadata


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """`load_tensors` of a file."""
    return load_tensors(path.read_bytes())


def _array(entry: Mapping[str, object], buffers: memoryview) -> np.ndarray:
    start, stop = entry["data_offsets"]  # type: ignore[misc]
    flat = np.frombuffer(buffers[start:stop], dtype=_DTYPES[str(entry["dtype"])])  # type: ignore[has-type]
    return flat.reshape(entry["shape"]).copy()  # type: ignore[call-overload,no-any-return]
