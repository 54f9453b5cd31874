"""Rows as JSON, and answers as JSON: what `POST /predict` reads and writes."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import orjson

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest, nearest_column
from shardwise.serve.online.live import Served
from shardwise.serve.online.problems import Problem
from shardwise.serve.online.settings import ServeConfig

Row = dict[str, Any]
MOST_COMPARED = 1_000  # names of a request among which one that is mistyped is looked for
_NESTED = (dict, list)
_TIMES = (str, type(None))
_PLAIN = frozenset((int, float, bool, type(None)))


def read_json(body: bytes) -> Any:
    """The value; raises `Problem` 400 for what is no JSON, also NaN, Infinity and what is nested too deeply."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "Write null for a value that is missing: NaN and Infinity are no JSON."
        raise Problem(400, "malformed_json", f"the body is no JSON: {error}", hint=hint) from None


def rows_of(content: Any, config: ServeConfig) -> tuple[list[Row], bool]:
    """The rows, and whether it is a single one; raises `Problem` 422 for another shape, 413 for too many rows."""
    if isinstance(content, dict):
        return [content], True
    if not isinstance(content, list):
        raise _no_rows(f"the body is {_kind(content)}")
    if len(content) > config.max_rows:
        hint = "Send Arrow: content-type application/vnd.apache.arrow.stream."
        raise Problem(413, "too_many_rows", f"{len(content):,} rows of JSON, at most {config.max_rows:,} are read",
                      hint=hint)  # fmt: skip
    for number, row in enumerate(content):
        if not isinstance(row, dict):
            raise _no_rows(f"the element {number} of the list is {_kind(row)}")
    return content, False


def check_rows(rows: Sequence[Row], served: Served, config: ServeConfig) -> None:
    """Raise `Problem` 422 that names a column which is missing, not known, or holds what is no value of a column."""
    columns, times = served.predictor.columns, served.times
    known = served.predictor.known
    for number, row in enumerate(rows):
        where = {"row": number} if len(rows) > 1 else {}
        if not known <= row.keys():
            raise _missing(row, served, where)
        if len(row) > len(known) and config.extra == "refuse":
            raise unknown_column(next(name for name in row if name not in known), columns, where)
        if not _PLAIN.issuperset(map(type, row.values())):
            _check_values(row, columns, config, where)
        for name in times:
            if type(row[name]) not in _TIMES:
                raise no_time(name, _kind(row[name]), where)


def answer_json(served: Served, scores: np.ndarray, *, single: bool, level: float | None = None) -> bytes:
    """`{"model", "version", "prediction", "probabilities"}`, or `"predictions"` with a list of such.

    With a confidence level each has `"interval"`, `[low, high]`, or `"set"`, a list of labels.
    """
    head = {"model": served.name, "version": served.version}
    answers = _answers(served, scores)
    if level is not None:
        answers = [each | more for each, more in zip(answers, _bounds(served, scores, level), strict=True)]
    return orjson.dumps(head | answers[0] if single else head | {"predictions": answers})


def _answers(served: Served, scores: np.ndarray) -> list[dict[str, Any]]:
    predictor = served.predictor
    if not predictor.labels:
        return [{"prediction": number} for number in scores.reshape(-1).tolist()]
    names = predictor.class_names
    return [
        {"prediction": predictor.labels[best], "probabilities": dict(zip(names, row, strict=True))}
        for best, row in zip(predictor.target.classes_of(scores).tolist(), scores.tolist(), strict=True)
    ]


def _bounds(served: Served, scores: np.ndarray, level: float) -> list[dict[str, Any]]:
    predictor = served.predictor
    columns = predictor.bounds_of(scores, level).columns
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    if not predictor.labels:
        return [{"interval": list(ends)} for ends in rows]
    return [{"set": [label for label, own in zip(predictor.labels, held, strict=True) if own]} for held in rows]


def confidence_level(text: str | None, served: Served) -> float | None:
    """The `confidence_level` of a request's address; raises `Problem` 400 for one that the model cannot promise."""
    if text is None:
        return None
    try:
        level = float(text)
    except ValueError:
        raise Problem(400, "bad_level", f"the confidence level {text!r} is no number",
                      hint="Write ?confidence_level=0.9") from None  # fmt: skip
    try:
        served.predictor.answer_schema(level)
    except ConfigError as error:
        raise Problem(400, "bad_level", error.message, hint=error.hint) from None
    return level


def unknown_column(name: str, columns: Sequence[str], where: Mapping[str, Any]) -> Problem:
    hint = f"{nearest(name, columns, 'The model reads')} Leave it out, or start the server with --extra ignore."
    return Problem(422, "unknown_column", f"the model reads no column {name!r}", hint=hint, column=name, **where)


def no_time(name: str, what: str, where: Mapping[str, Any]) -> Problem:
    return Problem(422, "wrong_type", f"column {name!r} is a date or a time, and holds {what}",
                   hint='Send it as a text such as "2024-05-06" or "2024-05-06T07:08:09", or null.', column=name,
                   **where)  # fmt: skip


def _missing(row: Row, served: Served, where: Mapping[str, Any]) -> Problem:
    missing = [name for name in served.predictor.columns if name not in row]
    shown = ", ".join(map(repr, missing[:10])) + (" ..." if len(missing) > 10 else "")
    others = list(islice((name for name in row if name not in served.predictor.known), MOST_COMPARED))
    hint = nearest_column(missing[0], others) if others else "Give null for a value that is not known."
    return Problem(422, "missing_column", f"the row lacks {len(missing)} column(s) that the model reads: {shown}",
                   hint=hint, column=missing[0], **where)  # fmt: skip


def _check_values(row: Row, columns: Sequence[str], config: ServeConfig, where: Mapping[str, Any]) -> None:
    for name in columns:
        value = row[name]
        if isinstance(value, _NESTED):
            raise Problem(422, "wrong_type", f"column {name!r} holds {_kind(value)}",
                          hint="Give a number, a text, true, false or null.", column=name, **where)  # fmt: skip
        if isinstance(value, str) and len(value) > config.max_text_bytes:
            raise Problem(413, "text_too_long", f"column {name!r} holds a text of {len(value):,} characters",
                          hint=f"At most {config.max_text_bytes:,} are read.", column=name, **where)  # fmt: skip


def _no_rows(what: str) -> Problem:
    return Problem(422, "not_rows", f"{what}, and rows were expected",
                   hint='Send an object such as {"age": 33, "city": "Ulm"}, or a list of objects.')  # fmt: skip


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
