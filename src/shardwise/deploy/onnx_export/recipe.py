"""The recipe as nodes: the same float32 features as `Recipe.transform`, from raw columns."""

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from shardwise.core.state import State
from shardwise.deploy.onnx_export.calendar import calendar
from shardwise.deploy.onnx_export.columns import Columns
from shardwise.deploy.onnx_export.graph import refused
from shardwise.features.numeric import LARGEST
from shardwise.features.recipe import Recipe
from shardwise.stats.arrays import array_from_state

Written = list[str]  # float32 [rows, 1] of each feature


def features(recipe: Recipe, columns: Columns) -> str:
    """Float32 `[rows, features]`; raises `ConfigError` that names the column and the transform that cannot be."""
    if recipe.joins:
        raise refused(f"the join on {', '.join(recipe.inputs)}", "it looks rows up in a further table")
    written: Written = []
    for kind, (step, start, stop) in zip(recipe.kinds, recipe.steps, strict=True):
        if kind not in _WRITERS:
            why = f"ONNX has no operators for the transform {kind!r}"
            if kind == "words":
                why += f"; --kind {step.reads[0]}=category reads its labels as they are"
            raise refused(f"column {step.reads[0]!r}", why, step.reads[0])
        found = _WRITERS[kind](columns, step.state())
        assert len(found) == stop - start
        written += found
    return columns.graph.op("Concat", *written, axis=1)


def _number(columns: Columns, state: State) -> Written:
    graph, number = columns.graph, columns.numbers(state["column"])
    if state["offset"] or state["unit"] != 1.0:
        number = graph.op("Sub", graph.op("Div", number, float(state["unit"])), float(state["offset"]))
    single = graph.cast(number, TensorProto.FLOAT)
    ends = [np.float32(state[end]) for end in ("high", "low")]
    extreme = graph.op("Where", graph.op("Greater", single, np.float32(0)), *ends)
    written = [graph.op("Where", graph.op("IsInf", single), extreme, single)]
    if len(state["features"]) > 1:
        written.append(graph.cast(graph.op("IsNaN", number), TensorProto.FLOAT))
    return written


def _category(columns: Columns, state: State) -> Written:
    size = len(state["values"])
    codes = np.array([*range(1, size + 1), np.nan, 0.0], np.float32)
    return [
        columns.graph.op("Gather", codes, columns.places(state["column"], state["values"], numeric=state["numeric"]))
    ]


def _encoding(columns: Columns, state: State) -> Written:
    values = array_from_state(state["values"]).to_pylist()
    places = columns.places(state["column"], values, numeric=state["numeric"])
    return [columns.graph.op("Gather", table, places) for table in state["table"][:, -1].astype(np.float32)]


def _arithmetic(columns: Columns, state: State) -> Written:
    operator = {"minus": "Sub", "over": "Div", "times": "Mul"}[state["operation"]]
    return [_finite(columns, columns.graph.op(operator, *map(columns.numbers, state["columns"])))]


def _finite(columns: Columns, value: str) -> str:
    """Float32 of what float32 can hold; NaN else."""
    graph = columns.graph
    fits = graph.op("LessOrEqual", graph.op("Abs", value), LARGEST)
    return graph.cast(graph.op("Where", fits, value, np.nan), TensorProto.FLOAT)


def _cross(columns: Columns, state: State) -> Written:
    graph, listed = columns.graph, state["values"]
    first, second = (
        columns.places(column, own["values"], numeric=own["numeric"])
        for column, own in zip(state["columns"], listed, strict=True)
    )
    sizes = [len(own["values"]) + 2 for own in listed]
    codes = np.zeros(sizes, np.float32)
    for code, (row, column) in enumerate(state["pairs"], 1):
        codes[row, column] = code
    codes[-2, -2] = np.nan
    place = graph.op("Add", graph.op("Mul", first, np.int64(sizes[1])), second)
    return [graph.op("Gather", codes.ravel(), place)]


def _by_category(columns: Columns, state: State) -> Written:
    graph, listed, names = columns.graph, state["values"], state["columns"]
    places = columns.places(names[0], listed["values"], numeric=listed["numeric"])
    value = graph.op("Gather", np.array(state["numbers"], np.float64), places)
    if len(names) > 1:
        return [_finite(columns, graph.op("Sub", columns.numbers(names[1]), value))]
    return [graph.cast(value, TensorProto.FLOAT)]


_WRITERS: dict[str, Callable[[Columns, State], Written]] = {
    "number": _number, "category": _category, "encoding": _encoding, "date": calendar, "arithmetic": _arithmetic,
    "cross": _cross, "by_category": _by_category,
}  # fmt: skip
