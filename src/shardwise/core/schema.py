"""Column types as text, schemas as JSON, and the description of a model-ready feature."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import lru_cache
from typing import Any

import pyarrow as pa

from shardwise.core.errors import SchemaError

_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, tz=(.+))?\]")
_DECIMAL = re.compile(r"decimal(32|64|128|256)\((\d+), (-?\d+)\)")
_UNIT = re.compile(r"(time32|time64|duration)\[(s|ms|us|ns)\]")
_DICTIONARY = re.compile(r"dictionary<values=(.+?), indices=(\w+), ordered=([01])>")
_FACTORIES = {"time32": pa.time32, "time64": pa.time64, "duration": pa.duration}
_ALIASES = {"double": "float64", "float": "float32", "halffloat": "float16"}
FEW_VALUES = 24  # whole numbers of a column that may be labels: an hour of the day is the largest usual one


@lru_cache(maxsize=1024)
def parse_type(text: str) -> pa.DataType:
    """The Arrow type that `str(type)` wrote; raises `SchemaError` for one that is not supported.

    >>> parse_type("timestamp[us, tz=UTC]"), parse_type("double")
    (TimestampType(timestamp[us, tz=UTC]), DataType(double))
    """
    if match := _TIMESTAMP.fullmatch(text):
        return pa.timestamp(match[1], tz=match[2])
    if match := _DECIMAL.fullmatch(text):
        return getattr(pa, f"decimal{match[1]}")(int(match[2]), int(match[3]))
    if match := _UNIT.fullmatch(text):
        return _FACTORIES[match[1]](match[2])
    if match := _DICTIONARY.fullmatch(text):
        return pa.dictionary(parse_type(match[2]), parse_type(match[1]), ordered=match[3] == "1")
    if text.startswith(("date32", "date64")):
        return pa.date32() if text.startswith("date32") else pa.date64()
    try:
        return pa.type_for_alias(_ALIASES.get(text, text))
    except ValueError as error:
        raise SchemaError(
            f"{text!r} is not a column type", hint="Write it as Arrow does: int64, double, string, date32"
        ) from error


def schema_to_json(schema: pa.Schema) -> list[dict[str, str]]:
    """`[{"name": ..., "type": ...}, ...]` in column order."""
    return [{"name": field.name, "type": str(field.type)} for field in schema]


def schema_from_json(fields: Sequence[Mapping[str, str]]) -> pa.Schema:
    """Inverse of `schema_to_json`."""
    return pa.schema([pa.field(field["name"], parse_type(field["type"])) for field in fields])


class FeatureKind(StrEnum):
    """What the numbers of a feature mean.

    NUMBER   a quantity; NaN = missing
    FLAG     0 or 1; never missing
    CODE     a category as an integer 0..cardinality-1; 0 = rare or unseen, NaN = missing
    ENCODED  a quantity derived from the target (out-of-fold target encoding); never missing
    """

    NUMBER = "number"
    FLAG = "flag"
    CODE = "code"
    ENCODED = "encoded"


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column of the model-ready float32 matrix.

    `low` and `high` clip outliers, `fill` replaces NaN, `center` and `scale` standardise: these are for linear and
    neural models, which read `(clip(x or fill) - center) / scale`; trees read the raw number. `redundant` says that a
    tree can read the same off another feature of the source: that it is missing, a wave of its hour. `place` is that of
    a cell of a grid (`core.grids`): (row, column, channel) in an image, (step, channel) in a sequence.
    """

    name: str
    source: str
    kind: FeatureKind
    cardinality: int = 0
    low: float = float("-inf")
    high: float = float("inf")
    fill: float = 0.0
    center: float = 0.0
    scale: float = 1.0
    redundant: bool = False
    place: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        content = {name: getattr(self, name) for name in _WRITTEN}
        return {**content, "place": list(self.place)} if self.place else content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Feature":
        return cls(**{**content, "kind": FeatureKind(content["kind"]), "place": tuple(content.get("place", ()))})


_WRITTEN = tuple(field.name for field in fields(Feature) if field.name != "place")


def copies(features: Iterable[Feature], *, used: bool = False) -> frozenset[str]:
    """Names of categories of at most `FEW_VALUES` numbers that are there as numbers too: an hour, a weekday; none, if
    they are `used` nevertheless.

    Which of both tells more depends on the data. Categories of more numbers are labels (`features.columns`) and are not
    named here.

    >>> hour = Feature(name="hour", source="hour", kind=FeatureKind.NUMBER)
    >>> sorted(copies([hour, Feature(name="hour:category", source="hour", kind=FeatureKind.CODE, cardinality=25)]))
    ['hour:category']
    """
    features = () if used else tuple(features)
    numbers = {feature.name for feature in features if feature.kind is FeatureKind.NUMBER}
    return frozenset(
        feature.name
        for feature in features
        if feature.kind is FeatureKind.CODE
        and feature.cardinality <= FEW_VALUES + 1
        and feature.source in numbers
        and feature.name == f"{feature.source}:category"
    )
