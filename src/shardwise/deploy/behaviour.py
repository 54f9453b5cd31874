"""Behavioural tests, declared in YAML (read by `deploy.declared`): what must hold whatever the scores say.

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
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import ConfigError, context
from shardwise.core.names import nearest, nearest_column
from shardwise.core.target import canonical, canonical_label
from shardwise.deploy.declared import FALLS, NOT_FALLS, NOT_RISES, RISES, SMALL, BehaviourTest
from shardwise.deploy.verdict import Check, Status
from shardwise.serve.predictor import Predictor
from shardwise.stats.metrics import Pairs, decided, metric_named

MOST_ROWS = 1_000
_STEP = re.compile(r"([+\-*])(\d+(?:\.\d+)?(?:[eE][+\-]?\d+)?)")
_EXPECT: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    RISES: lambda moved: moved > SMALL,
    FALLS: lambda moved: moved < -SMALL,
    NOT_RISES: lambda moved: moved <= SMALL,
    NOT_FALLS: lambda moved: moved >= -SMALL,
}


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
    place = _class_of(test, predictor)
    return scores if place is None else np.asarray(scores[:, place])


def _class_of(test: BehaviourTest, predictor: Predictor) -> int | None:
    """The place of the class that is looked at; None for a model of numbers."""
    if not predictor.class_names:
        if "of" in test.given:
            raise ConfigError(f"of is {test.given['of']!r}, and the model predicts numbers", hint="Leave `of` out.")
        return None
    return _place(test.given.get("of", predictor.target.classes[-1]), predictor)


def _place(label: Any, predictor: Predictor) -> int:
    name = canonical_label(label)
    if name not in predictor.class_names:
        raise ConfigError(f"there is no class {label!r}", hint=nearest(name, predictor.class_names))
    return predictor.class_names.index(name)


def _change(test: BehaviourTest, predictor: Predictor, rows: pa.Table) -> Check:
    before = _answers(test, predictor, rows)
    holds, worst, tried = np.ones(len(rows), bool), 0.0, np.zeros(len(rows), bool)
    for changed, touched in _changed(test.given["change"], rows):
        tried |= touched
        moved = np.where(touched, _answers(test, predictor, changed) - before, 0.0)
        if test.kind == "invariance":
            holds &= np.abs(moved) <= float(test.given.get("tolerance", SMALL))
        else:
            holds &= _EXPECT[test.given["expect"]](moved) | ~touched
        worst = max(worst, float(np.abs(moved).max(initial=0.0)))
    if not tried.any():
        return Check(group="behaviour", name=test.name, status=Status.SKIP, evidence={"rows": len(rows), "changed": 0},
                     text=f"{test.name}: none of {len(rows):,} rows is another after the change")  # fmt: skip
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
        if pa.types.is_integer(column.type) and isinstance(value, float) and not value.is_integer():
            raise OverflowError  # Arrow would cut it
        return pa.array([value], column.type).take(pa.array(np.zeros(len(column), np.int64)))
    except (pa.ArrowException, OverflowError) as error:
        raise ConfigError(
            f"a column of {column.type} cannot hold {value!r}", hint="Change it to another value."
        ) from error


def _cases(test: BehaviourTest, predictor: Predictor) -> Check:
    holds = []
    for number, case in enumerate(test.given["rows"], 1):
        with context(row=number):
            for name in case["row"]:
                if name not in predictor.known and name != predictor.target.column:
                    hint = nearest_column(name, predictor.columns)
                    raise ConfigError(f"the model reads no column {name!r}", hint=hint)
            holds.append(_holds(test, case, predictor, dict.fromkeys(predictor.columns) | dict(case["row"])))
    return _judged(test, np.array(holds, bool), "the answer is the one that is declared", {})


def _holds(test: BehaviourTest, case: Mapping[str, Any], predictor: Predictor, row: Mapping[str, Any]) -> bool:
    """Whether all that a case declares is so: the label, and the bounds of the answer."""
    scores, place = predictor.row_scores(row), _class_of(test, predictor)
    answer = scores[0 if place is None else place]
    within = bool(float(case.get("low", -np.inf)) <= answer <= float(case.get("high", np.inf)))
    if "expect" not in case:
        return within
    if place is None:
        raise ConfigError("a model of numbers has no label to expect", hint="Give low and high.")
    return within and int(predictor.target.classes_of(scores)) == _place(case["expect"], predictor)


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
    share = float(holds.mean())
    status = Status.PASS if share >= test.share else Status.FAIL
    text = f"{test.name}: {what} in {share:.1%} of {len(holds):,} rows, {test.share:.1%} are asked for"
    told = {"rows": len(holds), "share": share, **evidence}
    return Check(group="behaviour", name=test.name, status=status, text=text, evidence=told)
