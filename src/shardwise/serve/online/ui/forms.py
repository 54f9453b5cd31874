"""A form to try a row: the columns that a model reads, a row as it is usual, and the explanation of its answer."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from shardwise.core.schema import FeatureKind
from shardwise.data.column_profile import ColumnProfile
from shardwise.monitor.windows import Reference
from shardwise.serve.explain import Explanation
from shardwise.serve.online.live import Served
from shardwise.serve.online.rows import answer_json

_VALUES = 50  # of a category, the most frequent ones


def form_of(served: Served) -> dict[str, Any]:
    """`{"model", "version", "inputs": [{"name", "kind", "type", "typical", "values"}]}`; reads the package's profile.

    `typical` is a median or the most frequent category, or None; `values` are categories that the model knows. Texts
    and identifiers of the training data are not told.
    """
    package = served.predictor.package
    reference = Reference.of(package)
    profiles = {} if reference is None else reference.inputs.columns
    coded = {feature.source for feature in package.recipe.features if feature.kind is FeatureKind.CODE}
    inputs = [_of_input(field, profiles.get(field.name), is_category=field.name in coded) for field in package.inputs]
    return {"model": served.name, "version": served.version, "inputs": inputs}


def _of_input(field: pa.Field, profile: ColumnProfile | None, *, is_category: bool) -> dict[str, Any]:
    kind = _kind(field.type)
    typical, values = None, list[str]()
    if profile is not None and profile.count > profile.nulls:
        values = [value for value, _ in profile.top[:_VALUES]] if is_category and kind == "text" else []
        typical = values[0] if values else _middle(field.type, kind, profile)
    return {"name": field.name, "kind": kind, "type": str(field.type), "typical": typical, "values": values}


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "flag"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    return "time" if pa.types.is_temporal(kind) else "text"


def _middle(type_: pa.DataType, kind: str, profile: ColumnProfile) -> Any:
    """The median; None where there is none that tells nothing of a single row."""
    if kind == "flag":
        return profile.top[0][0].lower() in ("true", "1") if profile.top else None
    if kind not in ("number", "time") or pa.types.is_time(type_) or pa.types.is_duration(type_):
        return None
    median = float(profile.quantiles(np.array([0.5]))[0])
    if not np.isfinite(median):
        return None
    if kind == "number":
        return round(median) if pa.types.is_integer(type_) else float(f"{median:.4g}")
    moment = datetime.fromtimestamp(round(median), UTC)
    return (moment.date() if pa.types.is_date(type_) else moment).isoformat()[:19]


def explained_json(served: Served, row: Mapping[str, Any]) -> bytes:
    """The answer for a row as `/predict` gives it, with `explanation`."""
    scores = served.predictor.computed([row])
    found = served.predictor.explain_one(row)
    answer = orjson.loads(answer_json(served, scores, single=True))
    return orjson.dumps(answer | {"explanation": explanation_json(served, row, found)})


def explanation_json(served: Served, row: Mapping[str, Any], found: Explanation) -> dict[str, Any]:
    """Contributions by column, the largest first, each with those of its features.

    `of` is the class whose probability is explained; None for a number. See `serve.explain` for what adds up to what.
    """
    columns: dict[str, list[dict[str, Any]]] = {}
    for feature, contribution in zip(found.features, found.contributions.tolist(), strict=True):
        columns.setdefault(feature.source, []).append({"feature": feature.name, "contribution": contribution})
    told = [{"column": name, "value": row.get(name), "contribution": sum(each["contribution"] for each in parts),
             "features": parts} for name, parts in columns.items()]  # fmt: skip
    return {
        "of": None if found.output is None else served.predictor.class_names[found.output],
        "answer": found.answer, "start": found.start, "rest": found.rest, "share": found.share,
        "silent": list(found.silent), "columns": sorted(told, key=lambda each: -abs(each["contribution"])),
    }  # fmt: skip
