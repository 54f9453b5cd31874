"""JSON Schemas of rows, answers, labels and problems, for the OpenAPI document."""

from typing import Any

import pyarrow as pa

from shardwise.core.target import Label
from shardwise.serve.online.live import Served
from shardwise.serve.online.settings import EXTRA, ServeConfig

_TEXT = {"type": "string"}
_NUMBER = r"^(-?[0-9]{1,15}(\.[0-9]{1,15})?)?$"  # an empty text is a value that is missing
PROBLEM: dict[str, Any] = {
    "type": "object", "required": ["code", "message", "hint", "error", "request_id"],
    "properties": {
        **dict.fromkeys(("code", "message", "hint", "error", "request_id", "column"), _TEXT),
        "row": {"type": "integer"},
    },
}  # fmt: skip


def row_schema(served: Served, config: ServeConfig) -> dict[str, Any]:
    """Of a row that the model reads."""
    fields = served.predictor.package.inputs
    return {"type": "object", "required": fields.names, "additionalProperties": config.extra != EXTRA[0],
            "properties": {field.name: column_schema(field.type, config) for field in fields}}  # fmt: skip


def column_schema(kind: pa.DataType, config: ServeConfig) -> dict[str, Any]:
    """Of a value of a column, as in files, of which CSV has texts alone; null where it is missing."""
    if pa.types.is_boolean(kind):
        return {"type": ["boolean", "null"]}
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return {"anyOf": [{"type": ["number", "boolean", "null"]}, {"type": "string", "pattern": _NUMBER}]}
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        time = {"type": "string", "format": "date" if pa.types.is_date(kind) else "date-time"}
        return {"anyOf": [time, {"enum": ["", None]}]}
    most = f"At most {config.max_text_bytes:,} characters."
    return {"type": ["string", "number", "boolean", "null"], "description": most}


def answer_schema(served: Served) -> dict[str, Any]:
    """Of the answer for a single row."""
    labels = served.predictor.labels
    properties: dict[str, Any] = {"model": _TEXT, "version": _TEXT, "prediction": _labels(labels)}
    if labels:
        shares = {name: {"type": "number", "minimum": 0, "maximum": 1} for name in served.predictor.class_names}
        properties["probabilities"] = {"type": "object", "properties": shares, "required": list(shares)}
    required = list(properties)
    if labels:
        properties["set"] = {"type": "array", "items": _labels(labels)}
    else:
        properties["interval"] = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    return {"type": "object", "required": required, "properties": properties}


def explained_schema(served: Served) -> dict[str, Any]:
    """Of the answer for a row with `explanation`: `answer` = `start` + the sum of `contribution` + `rest`."""
    answer, number = answer_schema(served), {"type": "number"}
    part = {"feature": _TEXT, "contribution": number}
    column = {"column": _TEXT, "contribution": number, "features": {"type": "array", "items": _whole(part)}}
    told = {
        **dict.fromkeys(("answer", "start", "rest", "share"), number),
        "of": {"type": ["string", "null"]}, "silent": {"type": "array", "items": _TEXT},
        "columns": {"type": "array", "items": _whole(column)},
    }  # fmt: skip
    return {**answer, "required": [*answer["required"], "explanation"],
            "properties": {**answer["properties"], "explanation": _whole(told)}}  # fmt: skip


def _whole(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def feedback_schema(served: Served, *, named: bool) -> dict[str, Any]:
    """Of the label of a row. `named`: the model need not be told."""
    label = {"anyOf": [_labels(served.predictor.labels), {"type": "null"}]}
    row = {
        "row": {"$ref": f"#/components/schemas/Row_{served.name}"},
        "model": {"const": served.name},
        "version": _TEXT,
    }
    asked = ["row"] if named else ["row", "model"]
    return {"oneOf": [
        _closed(row | {"label": label}, [*asked, "label"]),
        _closed(row | {"labels": {"type": "array", "items": label, "minItems": 1, "maxItems": 1}}, [*asked, "labels"]),
    ]}  # fmt: skip


def feedback_by_id_schema() -> dict[str, Any]:
    """Of the labels of an answer, which is found by its id; of an id that is not known they are not looked at."""
    label = {"type": ["string", "number", "boolean", "null"]}
    told = {"id": {"type": "string", "description": "x-request-id of the answer"}, "model": _TEXT, "version": _TEXT}
    return {"oneOf": [
        _closed(told | {"label": label}, ["id", "label"]),
        _closed(told | {"labels": {"type": "array", "items": label}}, ["id", "labels"]),
    ]}  # fmt: skip


def _closed(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties, "additionalProperties": False}


def _labels(labels: list[Label]) -> dict[str, Any]:
    return {"enum": labels} if labels else {"type": "number"}
