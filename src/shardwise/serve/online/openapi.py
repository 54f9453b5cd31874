"""The OpenAPI document of `POST /predict` and of what is around it, with the columns of the models that are live."""

from importlib.metadata import version
from typing import Any

import pyarrow as pa

from shardwise.core.target import Label
from shardwise.serve.online.http import ARROW_STREAM, JSON
from shardwise.serve.online.live import Models, Served

_PROBLEMS = {
    400: "what was sent cannot be understood", 404: "there is no such model or version",
    408: "the body did not come in time", 413: "too many rows, or too many bytes", 415: "another content-type",
    422: "a row that the model cannot read", 429: "too much waits already: see retry-after",
    504: "the answer would have come too late",
}  # fmt: skip


def document(models: Models) -> dict[str, Any]:
    """OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0)."""
    served = [slot.live for slot in models.slots]
    rows = {f"Row_{each.name}": _row(each) for each in served}
    answers = {f"Answer_{each.name}": _answer(each) for each in served}
    schemas = {**rows, **answers, "Problem": _problem()}
    return {
        "openapi": "3.1.0",
        "info": {"title": "shardwise", "version": version("shardwise"), "description": "Predictions of packages."},
        "paths": {
            "/predict": {"post": _predict(models, list(rows), list(answers))},
            "/feedback": {"post": _feedback()},
            "/v2/health/live": {"get": _health("Whether the process answers")},
            "/v2/health/ready": {"get": _health("Whether requests are wanted", not_ready=True)},
        },
        "components": {"schemas": schemas},
    }


def _predict(models: Models, rows: list[str], answers: list[str]) -> dict[str, Any]:
    row, answer = _any_of(rows), _any_of(answers)
    versions = {"name": "version", "in": "query", "required": False, "schema": {"type": "string"},
                "description": "One of the live versions; else the first."}  # fmt: skip
    model = {"name": "model", "in": "query", "required": len(models.names) > 1,
             "schema": {"type": "string", "enum": models.names}}  # fmt: skip
    deadline = {"name": "x-deadline-ms", "in": "header", "required": False,
                "schema": {"type": "integer", "minimum": 1, "maximum": 86_400_000}}  # fmt: skip
    level = {"name": "confidence_level", "in": "query", "required": False,
             "schema": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
             "description": "Adds `interval` or `set`, which hold the truth so often."}  # fmt: skip
    many = {"type": "object", "required": ["model", "version", "predictions"], "properties": {
        "model": {"type": "string"}, "version": {"type": "string"}, "predictions": {"type": "array"},
    }}  # fmt: skip
    binary = {ARROW_STREAM: {"schema": {"type": "string", "format": "binary"}}}
    return {
        "summary": "Predict a row, a list of rows, or a table of Arrow",
        "operationId": "predict",
        "parameters": [model, versions, level, deadline],
        "requestBody": {"required": True, "content": {
            JSON: {"schema": {"oneOf": [row, {"type": "array", "items": row}]}}, **binary,
        }},
        "responses": {
            "200": {"description": "The answer", "content": {JSON: {"schema": {"anyOf": [answer, many]}}, **binary}},
            **_problems(),
        },
    }  # fmt: skip


def _feedback() -> dict[str, Any]:
    label = {"type": ["string", "number", "boolean", "null"]}
    item = {"type": "object", "properties": {
        "id": {"type": "string", "description": "x-request-id of the answer"}, "label": label,
        "row": {"type": "object"},
        "labels": {"type": "array", "items": label}, "model": {"type": "string"}, "version": {"type": "string"},
    }}  # fmt: skip
    told = {"type": "object", "required": ["accepted", "unknown"], "properties": {
        "accepted": {"type": "integer"}, "unknown": {"type": "array", "items": {"type": "string"}},
    }}  # fmt: skip
    return {
        "summary": "Labels of rows that were answered",
        "operationId": "feedback",
        "requestBody": {"required": True, "content": {
            JSON: {"schema": {"oneOf": [item, {"type": "array", "items": item}]}},
        }},
        "responses": {"200": {"description": "How many count", "content": {JSON: {"schema": told}}}, **_problems()},
    }  # fmt: skip


def _health(summary: str, *, not_ready: bool = False) -> dict[str, Any]:
    body = {"content": {JSON: {"schema": {"type": "object"}}}}
    answers = {"200": {"description": "Yes", **body}}
    return {"summary": summary, "responses": answers | ({"503": {"description": "No", **body}} if not_ready else {})}


def _row(served: Served) -> dict[str, Any]:
    fields = served.predictor.package.inputs
    return {"type": "object", "required": fields.names, "additionalProperties": False,
            "properties": {field.name: _column(field.type) for field in fields}}  # fmt: skip


def _column(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_boolean(kind):
        return {"type": ["boolean", "null"]}
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return {"type": ["number", "null"]}
    if pa.types.is_date(kind):
        return {"type": ["string", "null"], "format": "date"}
    if pa.types.is_timestamp(kind):
        return {"type": ["string", "null"], "format": "date-time"}
    return {"type": ["string", "null"]}


def _answer(served: Served) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "model": {"type": "string"}, "version": {"type": "string"}, "prediction": _labels(served.predictor.labels),
    }  # fmt: skip
    if served.predictor.labels:
        shares = {name: {"type": "number", "minimum": 0, "maximum": 1} for name in served.predictor.class_names}
        properties["probabilities"] = {"type": "object", "properties": shares, "required": list(shares)}
    required = list(properties)
    if served.predictor.labels:
        properties["set"] = {"type": "array", "items": _labels(served.predictor.labels)}
    else:
        properties["interval"] = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    return {"type": "object", "required": required, "properties": properties}


def _labels(labels: list[Label]) -> dict[str, Any]:
    return {"enum": labels} if labels else {"type": "number"}


def _problem() -> dict[str, Any]:
    text = {"type": "string"}
    return {"type": "object", "required": ["code", "message", "hint", "error", "request_id"], "properties": {
        "code": text, "message": text, "hint": text, "error": text, "request_id": text, "column": text,
        "row": {"type": "integer"},
    }}  # fmt: skip


def _problems() -> dict[str, Any]:
    body = {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    return {str(status): {"description": text, **body} for status, text in _PROBLEMS.items()}


def _any_of(names: list[str]) -> dict[str, Any]:
    references = [{"$ref": f"#/components/schemas/{name}"} for name in names]
    return references[0] if len(references) == 1 else {"anyOf": references}
