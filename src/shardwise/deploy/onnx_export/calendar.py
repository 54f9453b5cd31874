"""Parts of dates as nodes: `features.dates`, in int64 arithmetic but for the hour and its waves."""

import numpy as np
from onnx import TensorProto

from shardwise.core.state import State
from shardwise.deploy.onnx_export.columns import MISSING, Columns
from shardwise.deploy.onnx_export.graph import Graph, refused
from shardwise.features.moments import DAY_US, HOUR_US

_WAVES = {"month": (1, 12), "weekday": (0, 7)}  # first value, period


def calendar(columns: Columns, state: State) -> list[str]:
    """Float32 `[rows, 1]` of each part of a column; raises `ConfigError` for clocks of a time zone."""
    graph, column = columns.graph, state["column"]
    if state["zone"] not in (None, "UTC"):
        why = f"ONNX has no operators for the transform 'date' on the clocks of {state['zone']}"
        raise refused(f"column {column!r}", why, column)
    micros = columns.moments(column, state["format"], of_day=state["time_of_day"])
    missing = graph.op("Equal", micros, np.int64(MISSING))
    clock = Clock(graph, graph.op("Where", missing, np.int64(state["start_us"]), micros), state["start_us"])
    written = []
    for feature in state["features"]:
        part = feature["name"].removeprefix(f"{column}:")
        nothing = np.float32(0.0 if part == "weekend" else np.nan)
        written.append(graph.op("Where", missing, nothing, graph.cast(clock.part(part), TensorProto.FLOAT)))
    return written


class Clock:
    """Calendar parts of microseconds, each computed once."""

    def __init__(self, graph: Graph, micros: str, start_us: int) -> None:
        self._graph, self._micros, self._start_us = graph, micros, start_us
        self._found: dict[str, str] = {}

    def part(self, name: str) -> str:
        """By its name in `features.dates`; int64 or double `[rows, 1]`."""
        if name not in self._found:
            self._found[name] = self._compute(name)
        return self._found[name]

    def _compute(self, name: str) -> str:
        graph = self._graph
        base, _, wave = name.partition("_")
        if wave in ("sin", "cos"):
            if base == "hour":
                return graph.op(wave.title(), graph.op("Mul", self.part("hour"), 2 * np.pi / 24))
            first, period = _WAVES[base]
            turns = (np.arange(first + period) - first) * (2 * np.pi / period)
            return graph.op("Gather", getattr(np, wave)(turns), self.part(base))
        if name == "weekend":
            return graph.op("GreaterOrEqual", self.part("weekday"), np.int64(5))
        if name == "weekday":  # 1970-01-01 was a Thursday; Monday is 0
            return graph.op("Mod", graph.op("Add", self._days, np.int64(3)), np.int64(7))
        if name == "elapsed_days":
            since = graph.op("Sub", self._micros, np.int64(self._start_us))
            return graph.op("Div", graph.cast(since, TensorProto.DOUBLE), float(DAY_US))
        if name == "hour":
            of_day = graph.op("Mod", self._micros, np.int64(DAY_US))
            return graph.op("Div", graph.cast(of_day, TensorProto.DOUBLE), float(HOUR_US))
        self._civil()
        return self._found[name]

    @property
    def _days(self) -> str:
        if "days" not in self._found:
            self._found["days"] = self._floor(self._micros, DAY_US)
        return self._found["days"]

    def _floor(self, value: str, by: int) -> str:
        """The quotient, rounded down: ONNX rounds to zero."""
        rest = self._graph.op("Mod", value, np.int64(by))
        return self._graph.op("Div", self._graph.op("Sub", value, rest), np.int64(by))

    def _sum(self, *terms: tuple[int, str], plus: int = 0) -> str:
        total = self._graph.constant(np.int64(plus))
        for factor, value in terms:
            term = value if factor == 1 else self._graph.op("Mul", value, np.int64(factor))
            total = self._graph.op("Add", total, term)
        return total

    def _civil(self) -> None:
        """Year, month, day and day of the year: `features.dates.civil`."""
        graph, floor, add = self._graph, self._floor, self._sum
        shifted = add((1, self._days), plus=719_468)
        era = floor(shifted, 146_097)
        of_era = add((1, shifted), (-146_097, era))
        rest = add((1, of_era), (-1, floor(of_era, 1_460)), (1, floor(of_era, 36_524)), (-1, floor(of_era, 146_096)))
        year_of_era = floor(rest, 365)
        before = add((365, year_of_era), (1, floor(year_of_era, 4)), (-1, floor(year_of_era, 100)))
        of_year = add((1, of_era), (-1, before))
        march = floor(add((5, of_year), plus=2), 153)
        self._found["day"] = add((1, of_year), (-1, floor(add((153, march), plus=2), 5)), plus=1)
        spring = graph.op("Less", march, np.int64(10))
        month = graph.op("Where", spring, add((1, march), plus=3), add((1, march), plus=-9))
        early = graph.cast(graph.op("LessOrEqual", month, np.int64(2)), TensorProto.INT64)
        year = add((1, year_of_era), (400, era), (1, early))
        zero = [graph.op("Equal", graph.op("Mod", year, np.int64(by)), np.int64(0)) for by in (4, 100, 400)]
        leap = graph.op("Or", graph.op("And", zero[0], graph.op("Not", zero[1])), zero[2])
        late = add((1, of_year), (1, graph.cast(leap, TensorProto.INT64)), plus=60)
        self._found["day_of_year"] = graph.op("Where", spring, late, add((1, of_year), plus=-305))
        self._found["month"], self._found["year"] = month, year
