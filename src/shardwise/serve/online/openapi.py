"""The OpenAPI document of what the server answers over HTTP, with the columns of the models that are live."""

from importlib.metadata import version
from typing import Any

from shardwise.serve.online.http import ARROW_STREAM, JSON
from shardwise.serve.online.live import Models
from shardwise.serve.online.schemas import (
    PROBLEM,
    answer_schema,
    explained_schema,
    feedback_by_id_schema,
    feedback_schema,
    row_schema,
)
from shardwise.serve.online.settings import ServeConfig

_PROBLEMS = {
    400: "what was sent cannot be understood", 404: "there is no such model or version",
    408: "the body did not come in time", 413: "too many rows, or too many bytes", 415: "another content-type",
    422: "a row that the model cannot read", 429: "too much waits already: see retry-after",
    504: "the answer would have come too late",
}  # fmt: skip
_ELSEWHERE = {403: "a page of another origin has sent it"}
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}
_OBJECT = {"type": "object"}


def document(models: Models, config: ServeConfig, *, secured: bool) -> dict[str, Any]:
    """OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.0). `secured`: a key is asked for, but by what tells of health.

    What `infer` reads is told by the Open Inference Protocol, not here.
    """
    served = [slot.live for slot in models.slots]
    schemas: dict[str, Any] = {"Problem": PROBLEM, "Feedback_by_id": feedback_by_id_schema()}
    for each in served:
        schemas[f"Row_{each.name}"] = row_schema(each, config)
        schemas[f"Answer_{each.name}"] = answer_schema(each)
        schemas[f"Explained_{each.name}"] = explained_schema(each)
        schemas[f"Feedback_{each.name}"] = feedback_schema(each, named=len(models.names) == 1)
    told: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "shardwise", "version": version("shardwise"), "description": "Predictions of packages."},
        "paths": _paths(models, config, secured=secured),
        "components": {"schemas": schemas},
    }
    if secured:
        told["components"]["securitySchemes"] = _SCHEMES
        told["security"] = [{name: []} for name in _SCHEMES]
    return told


def _paths(models: Models, config: ServeConfig, *, secured: bool) -> dict[str, Any]:
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "enum": models.names}}
    no_model, not_ready = _problems(404, secured=secured), {"503": {"description": "No", **_json(_OBJECT)}}
    no_key = _problems(secured=secured)
    is_open: dict[str, Any] = {"security": []} if secured else {}
    return {
        "/predict": {"post": _predict(models, config, secured=secured)},
        "/explain": {"post": _explain(models, secured=secured)},
        "/feedback": {"post": _feedback(models, config, secured=secured)},
        "/v2/health/live": {"get": _get("Whether the process answers", _OBJECT) | is_open},
        "/v2/health/ready": {"get": _get("Whether requests are wanted", _OBJECT, not_ready) | is_open},
        "/v2": {"get": _get("The server", _OBJECT, no_key)},
        "/v2/models": {"get": _get("The models and their versions", _OBJECT, no_key)},
        "/v2/models/{name}": {"parameters": [name], "get": _get("Inputs and outputs of a model", _OBJECT, no_model)},
        "/v2/models/{name}/ready": {
            "parameters": [name], "get": _get("Whether it answers", _OBJECT, not_ready | no_model),
        },
        "/metrics": {"get": {"summary": "Figures for Prometheus", "responses": {
            "200": {"description": "In its text format", "content": {"text/plain": {"schema": {"type": "string"}}}},
            **no_key,
        }}},
    }  # fmt: skip


def _predict(models: Models, config: ServeConfig, *, secured: bool) -> dict[str, Any]:
    row, answer = _any_of(models, "Row"), _any_of(models, "Answer")
    many = {"type": "object", "required": ["model", "version", "predictions"], "properties": {
        "model": {"type": "string"}, "version": {"type": "string"}, "predictions": {"type": "array"},
    }}  # fmt: skip
    binary = {ARROW_STREAM: {"schema": {"type": "string", "format": "binary"}}}
    rows = {"type": "array", "items": row, "description": f"At most {config.max_rows:,}."}
    return {
        "summary": "Predict a row, a list of rows, or a table of Arrow",
        "operationId": "predict",
        "parameters": _parameters(models),
        "requestBody": {"required": True, "content": {JSON: {"schema": {"oneOf": [row, rows]}}, **binary}},
        "responses": {
            "200": {"description": "The answer", "content": {JSON: {"schema": {"anyOf": [answer, many]}}, **binary}},
            **_problems(*_PROBLEMS, secured=secured),
        },
    }


def _explain(models: Models, *, secured: bool) -> dict[str, Any]:
    parameters = [each for each in _parameters(models) if each["name"] != "confidence_level"]
    return {
        "summary": "The answer for a row, and what each column adds to it",
        "operationId": "explain",
        "parameters": parameters,
        "requestBody": {"required": True, **_json(_any_of(models, "Row"))},
        "responses": {
            "200": {"description": "The answer, and why", **_json(_any_of(models, "Explained"))},
            **_problems(*_PROBLEMS, secured=secured),
        },
    }


def _parameters(models: Models) -> list[dict[str, Any]]:
    found = [
        {"name": "model", "in": "query", "required": len(models.names) > 1,
         "schema": {"type": "string", "enum": models.names}},
        {"name": "version", "in": "query", "required": False, "schema": {"type": "string"},
         "description": "One of the versions that the model tells; else the first live one."},
        {"name": "x-deadline-ms", "in": "header", "required": False,
         "schema": {"type": "integer", "minimum": 1}, "description": "More than the server's own time is none."},
    ]  # fmt: skip
    scored = [slot.live.predictor.package.conformal for slot in models.slots]
    if any(each is not None for each in scored):
        most = min(each.most_level for each in scored if each is not None)
        found.append({
            "name": "confidence_level", "in": "query", "required": False,
            "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": most},
            "description": "Adds `interval` or `set`, which hold the truth so often.",
        })  # fmt: skip
    return found


def _feedback(models: Models, config: ServeConfig, *, secured: bool) -> dict[str, Any]:
    item = {"anyOf": [{"$ref": "#/components/schemas/Feedback_by_id"}, _any_of(models, "Feedback")]}
    told = {"type": "object", "required": ["accepted", "unknown"], "properties": {
        "accepted": {"type": "integer"}, "unknown": {"type": "array", "items": {"type": "string"}},
    }}  # fmt: skip
    items = {"type": "array", "items": item, "description": f"At most {config.max_rows:,}."}
    return {
        "summary": "Labels of rows that were answered",
        "operationId": "feedback",
        "requestBody": {"required": True, **_json({"oneOf": [item, items]})},
        "responses": {
            "200": {"description": "How many count", **_json(told)},
            **_problems(*_PROBLEMS, *_ELSEWHERE, secured=secured),
        },
    }  # fmt: skip


def _get(summary: str, schema: dict[str, Any], more: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": {"description": "Yes", **_json(schema)}, **(more or {})}}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {JSON: {"schema": schema}}}


def _problems(*statuses: int, secured: bool) -> dict[str, Any]:
    texts = {401: "a key is missing, or is not known"} if secured else {}
    texts |= {status: text for status, text in {**_PROBLEMS, **_ELSEWHERE}.items() if status in statuses}
    body = _json({"$ref": "#/components/schemas/Problem"})
    return {str(status): {"description": text, **body} for status, text in texts.items()}


def _any_of(models: Models, kind: str) -> dict[str, Any]:
    references = [{"$ref": f"#/components/schemas/{kind}_{name}"} for name in models.names]
    return references[0] if len(references) == 1 else {"anyOf": references}
