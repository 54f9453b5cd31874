import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import TargetError
from shardwise.core.schema import parse_type, schema_from_json, schema_to_json
from shardwise.core.target import Target, Task, canonical


@pytest.mark.parametrize(
    "values",
    [
        pa.array([3, 1, None], pa.int8()),
        pa.array([3.0, 1.0, float("nan")]),
        pa.array(["3", "1", None]),
        pa.array(["3", "1", None]).dictionary_encode(),
        pa.array([3, 1, None], pa.decimal128(10, 2)),
        pa.chunked_array([[3], [1, None]]),
    ],
)
def test_a_category_is_known_by_one_spelling(values: pa.Array) -> None:
    assert canonical(values).to_pylist() == ["3", "1", None]


@pytest.mark.parametrize("classes", [("no", "yes"), (1, 7), (False, True), (0.0, 1.0)])
def test_labels_come_back_in_their_own_type(classes: tuple[object, ...]) -> None:
    target = Target(column="y", task=Task.BINARY, classes=classes)  # type: ignore[arg-type]
    codes = target.encode(pa.array([classes[1], None, classes[0]]))
    assert codes[[0, 2]].tolist() == [1.0, 0.0]
    assert np.isnan(codes[1])
    assert target.decode(np.array([1, 0])).to_pylist() == [classes[1], classes[0]]
    assert Target.from_json(target.to_json()) == target


def test_an_unknown_class_and_an_infinite_number_are_no_label() -> None:
    target = Target(column="y", task=Task.MULTICLASS, classes=("a", "b", "c"))
    assert np.isnan(target.encode(pa.array(["d"]))).all()
    number = Target(column="y", task=Task.REGRESSION)
    assert np.isnan(number.encode(pa.array([float("inf")]))).all()
    with pytest.raises(TargetError):
        number.decode(np.array([0]))


def test_types_come_back_from_their_text() -> None:
    types = [
        pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.large_string(),
        pa.date32(), pa.date64(), pa.timestamp("us"), pa.timestamp("ns", "Europe/Paris"), pa.time32("s"),
        pa.time64("us"), pa.duration("ms"), pa.decimal128(10, 2), pa.null(), pa.dictionary(pa.int32(), pa.string()),
    ]  # fmt: skip
    schema = pa.schema([(f"c{i}", kind) for i, kind in enumerate(types)])
    assert schema_from_json(schema_to_json(schema)) == schema
    assert parse_type("int64") == pa.int64()
