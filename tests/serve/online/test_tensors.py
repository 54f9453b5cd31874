"""Tensors come back as they were sent, as JSON and as bytes."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.serve.online.servers import PATIENCE_S  # noqa: F401 - skips where the extra is missing

from shardwise.core.schema import parse_type
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.tensors import DATATYPES, NUMBERS, Tensor, datatype_of, masked, read_tensors, to_bytes


def values_of(datatype: str) -> st.SearchStrategy:
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
    kind = np.dtype(NUMBERS[datatype])
    if kind.kind == "f":
        return st.floats(width=8 * kind.itemsize, allow_nan=False)
    return st.integers(np.iinfo(kind).min, np.iinfo(kind).max)


columns = st.lists(st.sampled_from(DATATYPES), min_size=1, max_size=4).flatmap(
    lambda kinds: st.integers(0, 5).flatmap(
        lambda rows: st.tuples(
            *(st.lists(values_of(kind), min_size=rows, max_size=rows).map(lambda v, k=kind: (k, v)) for kind in kinds)
        )
    )
)


@given(columns)
def test_bytes_and_json_say_the_same(given_columns):
    tensors = [Tensor(f"c{number}", kind, values) for number, (kind, values) in enumerate(given_columns)]
    tails = [to_bytes(tensor) for tensor in tensors]
    heads = [{"name": t.name, "datatype": t.datatype, "shape": [len(t.values)]} for t in tensors]
    binary = [{**head, "parameters": {"binary_data_size": len(tail)}} for head, tail in zip(heads, tails, strict=True)]
    plain = [{**head, "data": tensor.values} for head, tensor in zip(heads, tensors, strict=True)]
    assert read_tensors(binary, b"".join(tails)) == read_tensors(plain, b"") == tensors
    for tensor in tensors:
        assert tensor.to_arrow().to_pylist() == tensor.values


@pytest.mark.parametrize(
    "kind", ["int8", "uint64", "float", "double", "bool", "string", "date32[day]", "timestamp[us]", "decimal128(5, 2)"]
)
def test_each_type_of_a_column_has_a_datatype(kind):
    assert datatype_of(parse_type(kind)) in DATATYPES


def test_missing_values_are_null():
    (found,) = read_tensors([{"name": "x", "datatype": "FP32", "shape": [2], "data": [None, 0.1]}], b"")
    assert found.values == [None, float(np.float32(0.1))]
    assert found.to_arrow() == pa.array([None, 0.1], pa.float32())


@given(st.binary(max_size=40), st.integers(0, 50), st.integers(0, 5), st.sampled_from(DATATYPES))
def test_any_bytes_are_read_or_refused(tail, size, rows, datatype):
    content = {"name": "x", "datatype": datatype, "shape": [rows], "parameters": {"binary_data_size": size}}
    try:
        (found,) = read_tensors([content], tail)
    except Problem as problem:
        refused = problem
    else:
        assert len(found.values) == rows
        return
    assert refused.status == 400


def test_a_tensor_beside_another_says_where_it_is_missing():
    town, flags = Tensor("town", "BYTES", ["Ulm", ""]), Tensor("town:missing", "BOOL", [False, True])
    assert masked([flags, town], {"town"}) == [Tensor("town", "BYTES", ["Ulm", None])]
    assert masked([town, flags], {"town", "town:missing"}) == [town, flags]  # a column of the model by itself
    other = Tensor("day:missing", "BOOL", [True, False])  # of no column that was sent: refused as any that is not known
    assert masked([town, other], {"town"}) == [town, other]
    for wrong in (Tensor("town:missing", "INT8", [0, 1]), Tensor("town:missing", "BOOL", [None, True])):
        with pytest.raises(Problem, match="town:missing"):
            masked([town, wrong], {"town"})


def test_inputs_that_come_twice_are_found_without_comparing_each_with_each():
    compared = []

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            compared.append(other)
            return str.__eq__(self, other)

    inputs = [{"name": Name(f"c{number}"), "shape": [1], "datatype": "FP64", "data": [1]} for number in range(300)]
    inputs.append({**inputs[-1], "name": Name("c299")})
    with pytest.raises(Problem, match="'c299' comes twice"):
        read_tensors(inputs, b"")
    assert len(compared) < 10 * len(inputs)


def test_masks_are_taken_away_without_comparing_each_with_each():
    columns = [f"c{number}" for number in range(50)]
    tensors = [Tensor(name, "INT64", [1, 2]) for name in columns]
    masks = [Tensor(f"{name}:missing", "BOOL", [False, True]) for name in columns]
    assert masked([*masks, *tensors], columns) == [Tensor(name, "INT64", [1, None]) for name in columns]
