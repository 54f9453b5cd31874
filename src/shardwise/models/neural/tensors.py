"""Named arrays as a safetensors file, with NumPy alone, so that a package with a network loads without any extra.

Layout (https://github.com/huggingface/safetensors): length of the header (8 bytes, little endian), the header as JSON
`{name: {"dtype", "shape", "data_offsets"}}` padded with blanks to 8 bytes, the buffers. The same arrays give the same
bytes.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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
    sizes = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    head, _ = _layout(sizes, metadata)
    return b"".join([head, *(np.ascontiguousarray(arrays[name]).tobytes() for name in sorted(arrays))])


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """The bytes of `dump_tensors` into a file, without a copy of all of them in memory."""
    head, _ = _layout({name: (array.shape, array.dtype) for name, array in arrays.items()}, None)
    with path.open("wb") as file:
        file.write(head)
        for name in sorted(arrays):
            np.ascontiguousarray(arrays[name]).tofile(file)


def create_tensors(
    file: BinaryIO, sizes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """Float32 arrays of these shapes in an empty file, zeros so far: what is written into them is in the file.

    They take no memory that the system could not take back.
    """
    head, places = _layout({name: (size, np.dtype(np.float32)) for name, size in sizes.items()}, metadata)
    file.write(head)
    file.truncate(max((stop for _, stop in places.values()), default=len(head)))
    content = np.memmap(file, dtype=np.uint8, mode="r+")
    return {name: content[slice(*places[name])].view(np.float32).reshape(size) for name, size in sizes.items()}


def map_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """`read_tensors`, whose arrays are read when they are looked at, and cannot be written to."""
    with path.open("rb") as file, _damaged():
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        metadata = header.pop(_META, {})
        content = np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))[8 + size :]
        arrays = {name: content[slice(*entry["data_offsets"])].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
                  for name, entry in header.items()}  # fmt: skip
        return arrays, metadata


def _layout(
    arrays: Mapping[str, tuple[tuple[int, ...], np.dtype]], metadata: Mapping[str, str] | None
) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """What comes before the arrays, and where in the file each of them lies: (first byte, one past the last)."""
    header: dict[str, object] = {_META: dict(metadata)} if metadata else {}
    offset = 0
    places = {}
    for name in sorted(arrays):
        size, dtype = arrays[name]
        place = (offset, offset + math.prod(size) * dtype.itemsize)
        header[name] = {"dtype": _NAMES[dtype], "shape": list(size), "data_offsets": list(place)}
        places[name] = place
        offset = place[1]
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    head = len(text).to_bytes(8, "little") + text
    return head, {name: (len(head) + start, len(head) + stop) for name, (start, stop) in places.items()}


@contextmanager
def _damaged() -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PackageError("the weights are damaged", hint="Train the model again.") from error


def load_tensors(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the metadata; raises `PackageError` when the bytes are damaged or of another type."""
    size = int.from_bytes(content[:8], "little")
    with _damaged():
        header = json.loads(content[8 : 8 + size])
        metadata = header.pop(_META, {})
        return {name: _array(entry, memoryview(content)[8 + size :]) for name, entry in header.items()}, metadata


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """`load_tensors` of a file."""
    return load_tensors(path.read_bytes())


def _array(entry: Mapping[str, object], buffers: memoryview) -> np.ndarray:
    start, stop = entry["data_offsets"]  # type: ignore[misc]
    flat = np.frombuffer(buffers[start:stop], dtype=_DTYPES[str(entry["dtype"])])  # type: ignore[has-type]
    return flat.reshape(entry["shape"]).copy()  # type: ignore[call-overload,no-any-return]
