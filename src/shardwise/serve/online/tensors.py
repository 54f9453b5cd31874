"""Tensors of the Open Inference Protocol, version 2, as JSON and as bytes.

https://github.com/kserve/open-inference-protocol, and its extension for binary tensors: the JSON comes first, its
length in the header `inference-header-content-length`, then the bytes of the tensors that have `binary_data_size`.
"""

import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.serve.online.problems import Problem

NUMBERS: Mapping[str, str] = {
    "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4",
    "UINT64": "<u8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
DATATYPES = (*NUMBERS, "BOOL", "BYTES")
MISSING = ":missing"  # `town:missing`, BOOL, says where the values of `town` are missing
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class Tensor:
    """A column: its name, its datatype, and its values, None where one is missing."""

    name: str
    datatype: str
    values: list[Any]

    def to_arrow(self) -> pa.Array:
        kind = {"BOOL": pa.bool_(), "BYTES": pa.string()}.get(self.datatype)
        return pa.array(self.values, kind or pa.from_numpy_dtype(np.dtype(NUMBERS[self.datatype])))


def datatype_of(kind: pa.DataType) -> str:
    """The datatype in which a column of an Arrow type is best sent: dates and times as BYTES in ISO 8601.

    >>> datatype_of(pa.int32()), datatype_of(pa.float64()), datatype_of(pa.date32())
    ('INT32', 'FP64', 'BYTES')
    """
    if pa.types.is_boolean(kind):
        return "BOOL"
    if pa.types.is_decimal(kind):
        return "FP64"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        code = np.dtype(kind.to_pandas_dtype()).str[1:]
        return next(name for name, known in NUMBERS.items() if known[1:] == code)
    return "BYTES"


def read_tensors(inputs: Any, tail: bytes) -> list[Tensor]:
    """The tensors of `inputs`, all of the same length; `tail` holds the bytes of binary ones, one after the other.

    How many there may be is checked by who knows the model: `inference.Infer`.
    """
    if not isinstance(inputs, list) or not inputs:
        raise _bad("`inputs` is no list of tensors", 'Send {"inputs": [{"name": "age", "shape": [1], ...}]}.')
    tensors, start = [], 0
    for number, content in enumerate(inputs):
        if not isinstance(content, dict) or not isinstance(content.get("name"), str):
            raise _bad(f"input {number} has no name", "Name each input as the model's metadata does.")
        size = _binary_size(content)
        if size is None:
            tensors.append(_from_json(content))
        else:
            tensors.append(_from_bytes(content, tail[start : start + size], size))
            start += size
    if start != len(tail):
        raise _bad(f"{len(tail) - start:,} bytes follow the last tensor", "Check binary_data_size of each input.")
    _check_lengths(tensors)
    return tensors


def masked(tensors: Sequence[Tensor], columns: Collection[str]) -> list[Tensor]:
    """The tensors without those that say where others are missing, and those with None there.

    Bytes know no null, and NaN is of floats alone: a text, an integer or a truth value is missing where the tensor
    `NAME:missing` (BOOL, of the same length) is true, whatever stands there. A column of the model (`columns`) that has
    such a name is that column.
    """
    given = {tensor.name for tensor in tensors}
    masks = {
        name.removesuffix(MISSING): tensor for tensor in tensors
        if (name := tensor.name).endswith(MISSING) and name not in columns and name.removesuffix(MISSING) in given
    }  # fmt: skip
    for column, mask in masks.items():
        if mask.datatype != "BOOL" or None in mask.values:
            raise _bad(f"input {mask.name!r} is {mask.datatype}, or has nulls",
                       f"It says where {column!r} is missing: send BOOL, true where it is.", column=column)  # fmt: skip
    names_of_masks = {mask.name for mask in masks.values()}
    return [
        tensor if tensor.name not in masks else replace(tensor, values=[
            None if gone else value for value, gone in zip(tensor.values, masks[tensor.name].values, strict=True)
        ])
        for tensor in tensors if tensor.name not in names_of_masks
    ]  # fmt: skip


def _check_lengths(tensors: Sequence[Tensor]) -> None:
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            raise _bad(f"input {tensor.name!r} comes twice", "Send each column once.", column=tensor.name)
        seen.add(tensor.name)
    first = tensors[0]
    other = next((tensor for tensor in tensors if len(tensor.values) != len(first.values)), None)
    if other is not None:
        message = f"input {first.name!r} has {len(first.values)} rows, {other.name!r} has {len(other.values)}"
        raise _bad(message, "Give as many rows to each input.", column=other.name)


def _rows_of_shape(content: Mapping[str, Any]) -> int:
    """Rows of a tensor of the shape `[rows]` or `[rows, 1]`."""
    shape, name = content.get("shape"), content["name"]
    right = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not right or len(shape) not in (1, 2) or (len(shape) == 2 and shape[1] != 1):  # type: ignore[arg-type, index]
        raise _bad(f"input {name!r} has the shape {shape}", "A column has the shape [rows] or [rows, 1].", column=name)
    return int(shape[0])  # type: ignore[index]


def _datatype(content: Mapping[str, Any]) -> str:
    found = content.get("datatype")
    if found not in DATATYPES:
        raise _bad(f"input {content['name']!r} has the datatype {found!r}", f"There are: {', '.join(DATATYPES)}.",
                   column=content["name"])  # fmt: skip
    return str(found)


def _binary_size(content: Mapping[str, Any]) -> int | None:
    parameters = content.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return None
    if type(size) is not int or size < 0:
        raise _bad(f"input {content['name']!r} has the binary_data_size {size!r}", "Give its number of bytes.")
    return size


def _from_json(content: Mapping[str, Any]) -> Tensor:
    rows, datatype, name = _rows_of_shape(content), _datatype(content), content["name"]
    data = content.get("data")
    if not isinstance(data, list):
        raise _bad(f"input {name!r} has no list `data`", "Give its values in `data`, or binary_data_size.", column=name)
    if data and isinstance(data[0], list):
        data = [value for row in data for value in (row if isinstance(row, list) else [row])]
    if len(data) != rows:
        raise _bad(f"input {name!r} has {len(data)} values and the shape {content['shape']}",
                   "Give as many values as the shape says.", column=name)  # fmt: skip
    return Tensor(name, datatype, _typed(data, datatype, name))


def _typed(data: list[Any], datatype: str, name: str) -> list[Any]:
    """Values of JSON in the precision of their datatype."""
    if datatype in ("BOOL", "BYTES"):
        wanted: tuple[type, ...] = (bool,) if datatype == "BOOL" else (str,)
    else:
        wanted = (int, float) if datatype.startswith("FP") else (int,)
    for value in data:
        if value is not None and type(value) not in wanted:
            raise Problem(422, "wrong_type", f"input {name!r} is {datatype} and holds {str(value)[:50]!r}",
                          hint="Send the datatype that the values have; null where one is missing.",
                          column=name)  # fmt: skip
    if datatype in ("FP64", "BOOL", "BYTES"):
        return [float(value) if type(value) is int else value for value in data] if datatype == "FP64" else data
    return _narrowed(data, datatype, name)


def _narrowed(data: list[Any], datatype: str, name: str) -> list[Any]:
    kind = np.dtype(NUMBERS[datatype])
    try:
        with np.errstate(over="ignore"):
            return [None if value is None else np.array(value, kind).item() for value in data]
    except OverflowError as error:
        raise Problem(422, "wrong_type", f"input {name!r} holds a number that is no {datatype}",
                      hint="Send a wider datatype.", column=name) from error  # fmt: skip


def _from_bytes(content: Mapping[str, Any], raw: bytes, size: int) -> Tensor:
    rows, datatype, name = _rows_of_shape(content), _datatype(content), content["name"]
    if len(raw) != size:
        raise _bad(f"the bytes of input {name!r} end early", "Check binary_data_size of each input.", column=name)
    if datatype == "BYTES":
        values: list[Any] = _texts(raw, name)
    else:
        kind = np.dtype("?" if datatype == "BOOL" else NUMBERS[datatype])
        if size != rows * kind.itemsize:
            raise _bad(f"input {name!r} has {size} bytes, {rows} values of {datatype} have {rows * kind.itemsize}",
                       "Check its shape and datatype.", column=name)  # fmt: skip
        values = np.frombuffer(raw, kind).tolist()
    if len(values) != rows:
        raise _bad(f"input {name!r} holds {len(values)} values, its shape says {rows}", "Check its shape.", column=name)
    return Tensor(name, datatype, values)


def _texts(raw: bytes, name: str) -> list[Any]:
    """Each value: its length in four bytes, then UTF-8."""
    values, start = [], 0
    try:
        while start < len(raw):
            (length,) = _LENGTH.unpack_from(raw, start)
            content = raw[start + 4 : start + 4 + length]
            if len(content) < length:
                raise struct.error("a text ends early")
            values.append(content.decode())
            start += 4 + length
    except (struct.error, UnicodeDecodeError) as error:
        hint = "Each is its length in four bytes, little endian, then UTF-8."
        raise _bad(f"the texts of input {name!r} cannot be read", hint, column=name) from error
    return values


def to_bytes(tensor: Tensor) -> bytes:
    """The values as the binary extension has them; none is missing."""
    if tensor.datatype == "BYTES":
        texts = [str(value).encode() for value in tensor.values]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    return np.array(tensor.values, "?" if tensor.datatype == "BOOL" else NUMBERS[tensor.datatype]).tobytes()


def _bad(message: str, hint: str, **where: Any) -> Problem:
    return Problem(400, "bad_tensor", message, hint=hint, **where)
