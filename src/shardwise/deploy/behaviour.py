"""Behavioural tests, declared in YAML: what must hold whatever the scores say.

After Ribeiro et al. (2020, "Beyond accuracy: behavioral testing of NLP models with CheckList"), for tables:

    tests:
      - name: the flight number does not matter
        kind: invariance                 # the answer stays within `tolerance`
        change: {flight: [1, 2, 3]}      # each of these values, or "+1", "-1", "*1.1", or null
        tolerance: 0.05
      - name: farther is not shorter
        kind: direction                  # the answer rises or falls, or does not
        change: {distance: "*1.5"}
        expect: not falls                # rises, falls, not rises, not falls
        share: 0.95                      # of the rows for which it must hold; 1 is the default
        of: late                         # the class whose probability is looked at, else the last one
      - name: plain cases
        kind: minimum                    # rows with the answer that they must get
        rows:
          - {row: {distance: 300, carrier: UA}, expect: false}
          - {row: {distance: 300, carrier: UA}, low: 0.0, high: 0.4}
        share: 1.0
      - name: good enough in the evening
        kind: minimum                    # or a metric on the new rows that match
        where: {hour: 22}
        metric: accuracy
        at_least: 0.7                    # or at_most, for losses

Invariance and direction are tested on rows drawn from the new data. An answer is the probability of a class, or the
number that is predicted. A row of `rows` that lacks a column gets null there.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import ConfigError, context
from shardwise.core.names import nearest, nearest_column
from shardwise.core.target import canonical, canonical_label
from shardwise.deploy.verdict import Check, Status
from shardwise.serve.predictor import Predictor
from shardwise.stats.metrics import Pairs, decided, metric_named

MOST_ROWS = 1_000
_STEP = re.compile(r"([+\-*])(\d+(?:\.\d+)?(?:[eE][+\-]?\d+)?)")
_SMALL = 1e-9  # by which an answer may differ and count as the same
_EXPECT: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "rises": lambda moved: moved > _SMALL,
    "falls": lambda moved: moved < -_SMALL,
    "not rises": lambda moved: moved <= _SMALL,
    "not falls": lambda moved: moved >= -_SMALL,
}
_KEYS = {
    "invariance": ({"change"}, {"tolerance", "share", "of"}),
    "direction": ({"change", "expect"}, {"share", "of"}),
    "minimum": (set(), {"rows", "share", "where", "metric", "at_least", "at_most", "of"}),
}


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
    name, kind = str(given.pop("name", f"test {number}")), given.pop("kind", None)
    with context(test=name):
        if kind not in _KEYS:
            raise ConfigError(f"there is no kind {kind!r} of test", hint=nearest(str(kind), _KEYS))
        needed, more = _KEYS[kind]
        for key in given:
            if key not in needed | more:
                raise ConfigError(f"a test of {kind} has no {key!r}", hint=nearest(str(key), needed | more))
        if needed - given.keys():
            raise ConfigError(f"a test of {kind} needs {', '.join(sorted(needed - given.keys()))}")
        _check_values(kind, given)
    return BehaviourTest(name, kind, given)


def _check_values(kind: str, given: Mapping[str, Any]) -> None:
    share = given.get("share", 1.0)
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise ConfigError(f"share is {share!r}", hint="Give a number above 0, up to 1.")
    if kind == "minimum":
        if ("rows" in given) == ("metric" in given):
            raise ConfigError("a test of minimum needs either rows or metric", hint="Give one of the two.")
        if "metric" in given and ("at_least" in given) == ("at_most" in given):
            raise ConfigError("a metric needs either at_least or at_most", hint="Give one of the two.")
        return
    if not isinstance(given["change"], Mapping) or not given["change"]:
        raise ConfigError(f"change is {given['change']!r}", hint="Name a column: {distance: '*1.5'}.")
    if kind == "direction" and given["expect"] not in _EXPECT:
        raise ConfigError(f"expect is {given['expect']!r}", hint=nearest(str(given["expect"]), _EXPECT))


def behaviour_checks(tests: Sequence[BehaviourTest], predictor: Predictor, rows: pa.Table) -> Iterator[Check]:
    """Run the tests on a predictor; `rows` are raw rows with the target, in random order."""
    for test in tests:
        with context(test=test.name):
            if "metric" in test.given:
                yield _metric(test, predictor, rows)
            elif test.kind == "minimum":
                yield _cases(test, predictor)
            else:
                yield _change(test, predictor, rows.slice(0, MOST_ROWS))


def _answers(test: BehaviourTest, predictor: Predictor, rows: pa.Table) -> np.ndarray:
    """Float64 `(rows,)`: the probability of the class that is looked at, or the number that is predicted."""
    scores = predictor.predict(rows)
    if not predictor.class_names:
        return scores
    wanted = test.given.get("of", predictor.target.classes[-1])
    name = canonical_label(wanted)
    if name not in predictor.class_names:
        raise ConfigError(f"there is no class {wanted!r}", hint=nearest(name, predictor.class_names))
    return np.asarray(scores[:, predictor.class_names.index(name)])


def _change(test: BehaviourTest, predictor: Predictor, rows: pa.Table) -> Check:
    before = _answers(test, predictor, rows)
    holds, worst = np.ones(len(rows), bool), 0.0
    for changed, touched in _changed(test.given["change"], rows):
        moved = np.where(touched, _answers(test, predictor, changed) - before, 0.0)
        if test.kind == "invariance":
            holds &= np.abs(moved) <= float(test.given.get("tolerance", _SMALL))
        else:
            holds &= _EXPECT[test.given["expect"]](moved) | ~touched
        worst = max(worst, float(np.abs(moved).max(initial=0.0)))
    word = "unchanged" if test.kind == "invariance" else test.given["expect"]
    return _judged(test, holds, f"the answer is as expected ({word})", {"largest_change": worst})


def _changed(change: Mapping[str, Any], rows: pa.Table) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """The rows with the columns changed, for each value that is to be tried, and which rows are another than before."""
    for column in change:
        if column not in rows.column_names:
            raise ConfigError(
                f"the data has no column {column!r} to change", hint=nearest_column(column, rows.column_names)
            )
    lists = {name: value if isinstance(value, list) else [value] for name, value in change.items()}
    for turn in range(max(map(len, lists.values()))):
        table, touched = rows, np.zeros(len(rows), bool)
        for name, values in lists.items():
            before = rows.column(name).combine_chunks()
            after = _moved(before, values[turn % len(values)])
            same = pc.fill_null(pc.equal(canonical(before), canonical(after)), False)
            same = pc.or_(same, pc.and_(before.is_null(), after.is_null()))
            touched |= ~same.to_numpy(zero_copy_only=False)
            table = table.set_column(table.column_names.index(name), name, after)
        yield table, touched


def _moved(column: pa.Array, value: Any) -> pa.Array:
    """The column with each cell replaced by a value, or changed by a step such as `+1`; missing cells stay."""
    step = _STEP.fullmatch(value) if isinstance(value, str) else None
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    if step is not None and numeric:
        how = {"+": operator.add, "-": operator.sub, "*": operator.mul}[step[1]]
        numbers = pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
        moved = how(numbers, float(step[2]))
        if pa.types.is_integer(column.type):
            moved = np.round(moved)
        return pc.cast(pa.array(moved, mask=np.asarray(column.is_null())), column.type, safe=False)
    try:
        return pa.array([value], column.type).take(pa.array(np.zeros(len(column), np.int64)))
    except (pa.ArrowException, OverflowError) as error:
        raise ConfigError(
            f"a column of {column.type} cannot hold {value!r}", hint="Change it to another value."
        ) from error


def _cases(test: BehaviourTest, predictor: Predictor) -> Check:
    holds = []
    for number, case in enumerate(test.given["rows"], 1):
        if not isinstance(case, Mapping) or not isinstance(case.get("row"), Mapping) or len(case) < 2:
            raise ConfigError(f"row {number} is {case!r}", hint="Write {row: {...}, expect: LABEL}, or low and high.")
        for name in case["row"]:
            if name not in predictor.known and name != predictor.target.column:
                raise ConfigError(f"the model reads no column {name!r}", hint=nearest_column(name, predictor.columns))
        holds.append(_holds(test, case, predictor, dict.fromkeys(predictor.columns) | dict(case["row"])))
    return _judged(test, np.array(holds, bool), "the answer is the one that is declared", {})


def _holds(test: BehaviourTest, case: Mapping[str, Any], predictor: Predictor, row: Mapping[str, Any]) -> bool:
    scores = predictor.row_scores(row)
    if "expect" in case:
        if not predictor.class_names:
            raise ConfigError("a model of numbers has no label to expect", hint="Give low and high.")
        return predictor.class_names[int(predictor.target.classes_of(scores))] == canonical_label(case["expect"])
    answer = scores[0]
    if predictor.class_names:
        name = canonical_label(test.given.get("of", predictor.target.classes[-1]))
        answer = scores[predictor.class_names.index(name)]
    return bool(float(case.get("low", -np.inf)) <= answer <= float(case.get("high", np.inf)))


def _metric(test: BehaviourTest, predictor: Predictor, rows: pa.Table) -> Check:
    metric = metric_named(str(test.given["metric"]), predictor.target.task)
    for name, value in test.given.get("where", {}).items():
        if name not in rows.column_names:
            raise ConfigError(f"the data has no column {name!r}", hint=nearest_column(name, rows.column_names))
        texts = canonical(rows.column(name))
        rows = rows.filter(pc.fill_null(pc.equal(texts, canonical_label(value)), False))
    y = predictor.target.encode(rows.column(predictor.target.column).combine_chunks())
    pairs = decided(metric, Pairs.labelled(y, predictor.predict(rows)), predictor.target)
    value = metric.of(pairs, predictor.target.quantile)
    least, most = (float(test.given.get(key, end)) for key, end in (("at_least", -np.inf), ("at_most", np.inf)))
    evidence = {"rows": len(rows), metric.name: float(value)}
    if not np.isfinite(value):
        return Check(group="behaviour", name=test.name, status=Status.SKIP, evidence=evidence,
                     text=f"{test.name}: {metric.name} is not defined on the {len(rows):,} rows")  # fmt: skip
    limit = f"at least {least:g}" if "at_least" in test.given else f"at most {most:g}"
    return Check(group="behaviour", name=test.name, status=Status.PASS if least <= value <= most else Status.FAIL,
                 text=f"{test.name}: {metric.name} {value:.4g} on {len(rows):,} rows, {limit} is asked for",
                 evidence=evidence)  # fmt: skip


def _judged(test: BehaviourTest, holds: np.ndarray, what: str, evidence: Mapping[str, Any]) -> Check:
    share = float(holds.mean()) if len(holds) else 1.0
    status = Status.PASS if share >= test.share else Status.FAIL
    text = f"{test.name}: {what} in {share:.1%} of {len(holds):,} rows, {test.share:.1%} are asked for"
    told = {"rows": len(holds), "share": share, **evidence}
    return Check(group="behaviour", name=test.name, status=status, text=text, evidence=told)
