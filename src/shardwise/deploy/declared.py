"""Behavioural tests as they are declared: read from YAML, and refused where a value is none that a test can have.

What is allowed is told in `deploy.behaviour`. A test that would look at nothing is refused here, so that none can pass.
"""

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from shardwise.core.errors import ConfigError, context
from shardwise.core.names import nearest
from shardwise.core.units import is_number

SMALL = 1e-9  # by which an answer may differ and count as the same
RISES, FALLS, NOT_RISES, NOT_FALLS = "rises", "falls", "not rises", "not falls"
_EXPECT = (RISES, FALLS, NOT_RISES, NOT_FALLS)
_KEYS: Mapping[str, tuple[set[str], set[str]]] = {
    "invariance": ({"change"}, {"tolerance", "share", "of"}),
    "direction": ({"change", "expect"}, {"share", "of"}),
    "minimum": (set(), {"rows", "share", "where", "metric", "at_least", "at_most", "of"}),
}
_CASES, _METRIC = {"rows", "share", "of"}, {"where", "metric", "at_least", "at_most"}  # which go with which
_CASE = ("row", "expect", "low", "high")


@dataclass(frozen=True)
class BehaviourTest:
    """A test as it was declared."""

    name: str
    kind: str
    given: Mapping[str, Any]

    @property
    def share(self) -> float:
        return float(self.given.get("share", 1.0))


def read_tests(content: Any) -> tuple[BehaviourTest, ...]:
    """The tests of a list of mappings; raises `ConfigError` that names the test and what is wrong with it."""
    if not isinstance(content, list):
        raise ConfigError("the behavioural tests are no list", hint="Write `tests:` and a line `- name: ...` for each.")
    return tuple(_read(item, number) for number, item in enumerate(content, 1))


def _read(item: Any, number: int) -> BehaviourTest:
    if not isinstance(item, Mapping):
        raise ConfigError(f"test {number} is {item!r}", hint="Write name, kind and what the kind needs.")
    given = dict(item)
    name, kind = str(given.pop("name", f"test {number}")), str(given.pop("kind", None))
    with context(test=name):
        if kind not in _KEYS:
            raise ConfigError(f"there is no kind {kind!r} of test", hint=nearest(kind, _KEYS))
        needed, more = _KEYS[kind]
        _only(given, needed | more, f"a test of {kind}")
        if needed - given.keys():
            raise ConfigError(f"a test of {kind} needs {', '.join(sorted(needed - given.keys()))}")
        _check_values(kind, given)
    return BehaviourTest(name, kind, given)


def _check_values(kind: str, given: Mapping[str, Any]) -> None:
    share = given.get("share", 1.0)
    if not _is_number(share) or not 0 < share <= 1:
        raise ConfigError(f"share is {share!r}", hint="Give a number above 0, up to 1.")
    if "of" in given and not _is_value(given["of"]):
        raise ConfigError(f"of is {given['of']!r}", hint="Name the class whose probability is looked at.")
    if kind == "minimum":
        _check_minimum(given)
        return
    _check_change(given["change"])
    if kind == "direction" and given["expect"] not in _EXPECT:
        raise ConfigError(f"expect is {given['expect']!r}", hint=nearest(str(given["expect"]), _EXPECT))
    tolerance = given.get("tolerance", SMALL)
    if not _is_number(tolerance) or tolerance < 0:
        raise ConfigError(f"tolerance is {tolerance!r}", hint="Give a number from 0 up, in units of the answer.")


def _check_change(change: Any) -> None:
    if not isinstance(change, Mapping) or not change or not all(isinstance(name, str) for name in change):
        raise ConfigError(f"change is {change!r}", hint="Name a column: {distance: '*1.5'}.")
    for column, values in change.items():
        listed = values if isinstance(values, list) else [values]
        if not listed or not all(value is None or _is_value(value) for value in listed):
            hint = "Give a value, a step such as '+1', null, or a list of such with at least one."
            raise ConfigError(f"change is {values!r}", hint=hint, column=column)


def _check_minimum(given: Mapping[str, Any]) -> None:
    if ("rows" in given) == ("metric" in given):
        raise ConfigError("a test of minimum needs either rows or metric", hint="Give one of the two.")
    what, other = ("rows", _METRIC) if "rows" in given else ("a metric", _CASES)
    lost = sorted(other & given.keys())
    if lost:
        hint = "Leave it out, or write a test of its own."
        raise ConfigError(f"{lost[0]} does not go with {what}", hint=hint)
    if "rows" in given:
        _check_cases(given["rows"])
        return
    if ("at_least" in given) == ("at_most" in given):
        raise ConfigError("a metric needs either at_least or at_most", hint="Give one of the two.")
    for name in ("at_least", "at_most"):
        if name in given and not _is_number(given[name]):
            raise ConfigError(f"{name} is {given[name]!r}", hint="Give a number, in units of the metric.")
    if not isinstance(given["metric"], str):
        raise ConfigError(f"metric is {given['metric']!r}", hint="Name a metric, such as accuracy or rmse.")
    where = given.get("where", {})
    if not isinstance(where, Mapping) or not all(isinstance(n, str) and _is_value(v) for n, v in where.items()):
        raise ConfigError(f"where is {where!r}", hint="Give a value for each column: {hour: 22}.")


def _check_cases(rows: Any) -> None:
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"rows is {rows!r}", hint="Write a list of {row: {...}, expect: LABEL}, at least one.")
    for number, case in enumerate(rows, 1):
        with context(row=number):
            if not isinstance(case, Mapping) or not isinstance(case.get("row"), Mapping) or len(case) < 2:
                raise ConfigError(
                    f"row {number} is {case!r}", hint="Write {row: {...}, expect: LABEL}, or low and high."
                )
            _only(case, _CASE, "a row of a test")
            _check_case(case)


def _check_case(case: Mapping[str, Any]) -> None:
    for name in case["row"]:
        if not isinstance(name, str):
            raise ConfigError(f"{name!r} is no name of a column", hint="Write {row: {distance: 300}, expect: LABEL}.")
    for name in ("low", "high"):
        if name in case and not _is_number(case[name]):
            raise ConfigError(f"{name} is {case[name]!r}", hint="Give a number, in units of the answer.")
    if "expect" in case and not _is_value(case["expect"]):
        raise ConfigError(f"expect is {case['expect']!r}", hint="Give the label that the row must get.")
    if "low" in case and "high" in case and case["low"] > case["high"]:
        raise ConfigError(f"low is {case['low']} and high {case['high']}", hint="Give low first, the lesser one.")


def _only(given: Mapping[Any, Any], allowed: Collection[str], what: str) -> None:
    for key in given:
        if key not in allowed:
            raise ConfigError(f"{what} has no {key!r}", hint=nearest(str(key), allowed))


def _is_number(value: Any) -> bool:
    return is_number(value) and abs(value) <= sys.float_info.max


def _is_value(value: Any) -> bool:
    """Something that a cell or a label can be."""
    return isinstance(value, str | int | float | date)
