"""The raw columns as inputs of the graph: `[rows, 1]`, under their own names, and how a missing value is said.

| role     | tensor         | columns                                    | missing                      |
|----------|----------------|--------------------------------------------|------------------------------|
| `number` | double, float  | decimals, truth values, durations (s), text that holds numbers; float32 | NaN |
| `whole`  | int64          | integers                                   | -2**63                       |
| `text`   | string         | text                                       | the empty string             |
| `moment` | int64          | dates, timestamps, text that holds such: microseconds since 1970 UTC | -2**63 |
| `time`   | int64          | times of day: microseconds since midnight  | -2**63                       |

-2**63 is what NumPy has for a time that is none (NaT). A tensor of text has no missing cells, hence the empty one. So
two values are not told from a missing cell, as the package does: an empty text, and the integer -2**63. `CAVEATS` says
so to who uses the graph.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.compute as pc
from onnx import TensorProto, helper

from shardwise.deploy.onnx_export.graph import ML, Graph, refused, tensor
from shardwise.features.dates import read_instants, read_times
from shardwise.features.numeric import is_string, read_numbers

MISSING = -(2**63)
CAVEATS = (
    "A missing cell is NaN in numbers, -2**63 in integers and times, and the empty text in texts: an empty text and "
    "the integer -2**63 are missing here, and values that were never seen to the package."
)


@dataclass(frozen=True)
class Input:
    """How a column is given. `single`: as float32; `time_format`: in which text was read as dates."""

    role: str
    single: bool = False
    time_format: str | None = None

    @property
    def kind(self) -> int:
        """The type of the tensor."""
        if self.role == "number":
            return int(TensorProto.FLOAT if self.single else TensorProto.DOUBLE)
        return int(TensorProto.STRING if self.role == "text" else TensorProto.INT64)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(**content)

    def cells(self, column: pa.Array, name: str) -> np.ndarray:
        """What is fed for a column of raw rows, `(rows, 1)`; raises `SchemaError` for cells that cannot be read."""
        if self.role == "number":
            return read_numbers(column, name).astype(np.float32 if self.single else np.float64)[:, None]
        if self.role == "text":
            plain = column.cast(pa.string())
            return np.array(pc.fill_null(plain, "").to_pylist(), dtype=object)[:, None]
        if self.role == "whole":
            whole = pc.cast(column, pa.int64())
        else:
            whole = read_times(column, name) if self.role == "time" else read_instants(column, name, self.time_format)
        return np.asarray(pc.fill_null(whole, MISSING).to_numpy(zero_copy_only=False))[:, None]


class Columns:
    """The inputs of a graph for raw columns of the types of `schema`; each becomes one when it is first read."""

    def __init__(self, graph: Graph, schema: pa.Schema) -> None:
        self.graph, self._schema = graph, schema
        self.inputs: dict[str, Input] = {}
        self._numbers: dict[str, str] = {}

    def declared(self) -> list[onnx.ValueInfoProto]:
        """The inputs in the order of the schema; a column that nothing reads is none."""
        return [
            helper.make_tensor_value_info(name, self.inputs[name].kind, ["rows", 1])
            for name in self._schema.names if name in self.inputs
        ]  # fmt: skip

    def numbers(self, column: str) -> str:
        """Double `[rows, 1]`, NaN where missing: `features.numeric.read_numbers`."""
        if column not in self._numbers:
            given, graph = self._given(column, self._number_input(column)), self.graph
            number = column if given.kind == TensorProto.DOUBLE else graph.cast(column, TensorProto.DOUBLE)
            if given.role == "whole":
                number = graph.op("Where", graph.op("Equal", column, np.int64(MISSING)), np.nan, number)
            self._numbers[column] = number
        return self._numbers[column]

    def moments(self, column: str, time_format: str | None, *, of_day: bool) -> str:
        """Int64 `[rows, 1]` microseconds, `MISSING` where missing."""
        self._given(column, Input("time" if of_day else "moment", time_format=time_format))
        return column

    def places(self, column: str, values: Sequence[str], *, numeric: bool) -> str:
        """Int64 `[rows, 1]`: place among `values`, their number where missing, and one more where it is none of them:
        `features.category.Vocabulary.lookup`."""
        kind, graph = self._kind(column), self.graph
        if is_string(kind) and not numeric:
            return self._places_of_texts(column, values)
        if numeric and self._number_input(column).role == "whole":
            self._given(column, Input("whole"))
            keys = [(int(text), place) for place, text in enumerate(values) if text.lstrip("-").isdigit()]
            missing = graph.op("Equal", column, np.int64(MISSING))
            return self._places(column, np.array([key for key, _ in keys], np.int64), keys, (missing, len(values)))
        spelled = {"true": 1.0, "false": 0.0} if pa.types.is_boolean(kind) else None
        if spelled is None and not numeric:
            raise refused(f"column {column!r}", f"categories of the type {kind} are not read there", column)
        number = graph.op("Add", self.numbers(column), 0.0)  # -0.0 is 0
        told = [(_as_number(text, spelled), place) for place, text in enumerate(values)]
        known = [(key, place) for key, place in told if key is not None]
        missing = graph.op("IsNaN", graph.op("Sub", number, number))  # so are infinities
        return self._places(number, np.array([key for key, _ in known], np.float64), known, (missing, len(values)))

    def _places_of_texts(self, column: str, values: Sequence[str]) -> str:
        if "" in values:
            raise refused(f"column {column!r}", "the empty text is a category, and means a missing cell there", column)
        self._given(column, Input("text"))
        missing = self.graph.op("Equal", column, np.array("", dtype=object))
        keys = list(zip(values, range(len(values)), strict=True))
        return self._places(column, np.array(list(values), dtype=object), keys, (missing, len(values)))

    def _places(
        self, value: str, keys: np.ndarray, told: Sequence[tuple[Any, int]], without: tuple[str, int]
    ) -> str:  # fmt: skip
        missing, size = without
        found: str | np.ndarray = np.array(size + 1)
        if len(keys):
            found = self.graph.op(
                "LabelEncoder", value, domain=ML, keys_tensor=tensor("keys", keys),
                values_tensor=tensor("values", np.array([place for _, place in told], np.int64)),
                default_tensor=tensor("default", np.array([size + 1], np.int64)),
            )  # fmt: skip
        return self.graph.op("Where", missing, np.int64(size), found)

    def _number_input(self, column: str) -> Input:
        kind = self._kind(column)
        if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
            return Input("whole")
        return Input("number", single=pa.types.is_float32(kind) or pa.types.is_float16(kind))

    def _kind(self, column: str) -> pa.DataType:
        kind = self._schema.field(column).type
        return kind.value_type if pa.types.is_dictionary(kind) else kind

    def _given(self, column: str, wanted: Input) -> Input:
        given = self.inputs.setdefault(column, wanted)
        if given != wanted:
            why = f"it is read as {given.role} and as {wanted.role}, and can be given once"
            raise refused(f"column {column!r}", why, column)
        return given


def _as_number(text: str, spelled: Mapping[str, float] | None) -> float | None:
    if spelled is not None:
        return spelled.get(text)
    try:
        return float(text)
    except ValueError:
        return None


def feeds(inputs: Mapping[str, Input], rows: pa.RecordBatch | pa.Table) -> dict[str, np.ndarray]:
    """Raw rows as what a session of ONNX Runtime is fed: `(rows, 1)` for each input.

    Raises `SchemaError` for cells that cannot be read, `KeyError` for columns that are missing.
    """
    columns = {name: rows.column(name) for name in inputs}
    flat = {
        name: each.combine_chunks() if isinstance(each, pa.ChunkedArray) else each for name, each in columns.items()
    }
    return {name: given.cells(flat[name], name) for name, given in inputs.items()}
