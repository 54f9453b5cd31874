"""Schemes by which rows go to partitions: from what was asked to a `Partitioner`, and back from JSON.

A scheme's module is imported when it is used, as those by similarity need scikit-learn.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from shardwise.core.errors import ConfigError, DataError
from shardwise.core.names import nearest
from shardwise.data.base import Partitioner
from shardwise.data.partitioners.base import Source, check_key
from shardwise.data.partitioners.nested import Nested
from shardwise.data.partitioners.remade import load_hot_keys, load_remapped
from shardwise.data.partitioners.spec import Spec, parse_spec

__all__ = ["PARTITIONERS", "Source", "Spec", "parse_spec", "partitioner_from_json", "plan_partitioner"]

PARTITIONERS: dict[str, str] = {
    "hash": "hashed:HashPartitioner",
    "range": "ranges:RangePartitioner",
    "value": "values:ValuePartitioner",
    "roundrobin": "positions:RoundRobin",
    "random": "positions:Random",
    "stretches": "positions:Stretches",
    "bypiece": "positions:ByPiece",
    "balanced": "packed:PackedPartitioner",
    "similar": "similar:SimilarPartitioner",
    "minhash": "minhash:MinHashPartitioner",
}
"""Kind -> module and class with `from_json`; besides these, `nested`, `remapped` and `hotkeys` hold others."""


def partitioner_from_json(content: Mapping[str, Any]) -> Partitioner:
    """Inverse of `to_json`; raises `DataError` for a kind that is not known."""
    kind = str(content.get("kind"))
    if kind == "nested":
        return Nested([partitioner_from_json(level) for level in content["levels"]])
    if kind in ("remapped", "hotkeys"):
        base = partitioner_from_json(content["base"])
        return load_remapped(content, base) if kind == "remapped" else load_hot_keys(content, base)
    if kind not in PARTITIONERS:
        raise DataError(f"there is no partitioner {kind!r}", hint=nearest(kind, PARTITIONERS))
    module, name = PARTITIONERS[kind].split(":")
    found: Partitioner = getattr(_module(module), name).from_json(content)
    return found


def plan_partitioner(specs: Sequence[Spec], source: Source) -> Partitioner:
    """The partitioner of one or several levels, fitted on the data; each level takes at most one pass over its columns.

    Raises `ConfigError` and `SchemaError` for what cannot be done with these columns.
    """
    if not specs:
        raise ConfigError("nothing says how to partition", hint="Give --by, like --by hash:carrier:8.")
    levels = [_plan(spec, source) for spec in specs]
    return levels[0] if len(levels) == 1 else Nested(levels)


def _plan(spec: Spec, source: Source) -> Partitioner:
    if spec.columns != ("*",):
        check_key(spec.columns, source.schema.names)
    count = spec.number or source.count
    module = _module(_HOMES[spec.kind])
    match spec.kind:
        case "hash":
            found = module.HashPartitioner(spec.columns, count, seed=source.seed)
        case "range" if "at" in spec.options:
            found = module.given_ranges(source, spec.columns[0], _words(spec.options["at"]))
        case "range":
            found = module.even_ranges(source, spec.columns[0], count)
        case "value" | "year" | "month" | "day" | "hour":
            grain = None if spec.kind == "value" else spec.kind
            found = module.plan_values(source, spec.columns[0], grain)
        case "roundrobin":
            found = module.RoundRobin(count)
        case "random":
            found = module.Random(count, seed=source.seed)
        case "rows" | "bytes":
            cuts = module.cut_by_size(source, float(count), by_bytes=spec.kind == "bytes")
            found = _module("positions").Stretches(cuts, name=spec.kind)
        case "similar":
            found = module.plan_clusters(source, spec.columns, count)
        case "minhash":
            found = module.plan_leaders(source, spec.columns[0], count)
        case _:
            found = _plan_balanced(spec, source, count)
    planned: Partitioner = found
    return planned


_HOMES = {
    "hash": "hashed", "range": "ranges", "value": "values", "year": "values", "month": "values", "day": "values",
    "hour": "values", "roundrobin": "positions", "random": "positions", "rows": "lengths", "bytes": "lengths",
    "similar": "similar", "minhash": "minhash", "balanced": "packed",
}  # fmt: skip


def _plan_balanced(spec: Spec, source: Source, count: int) -> Partitioner:
    """By shares that follow from speeds: whole keys where a key is named, else stretches of rows."""
    shares = _speeds(spec, count)
    cost = spec.options.get("cost")
    if cost is not None:
        check_key([cost], source.schema.names)
    if spec.columns:
        packed: Partitioner = _module("packed").plan_packs(source, spec.columns, shares, cost)
        return packed
    lengths = _module("lengths")
    cuts = lengths.cut_by_cost(source, cost, shares) if cost else lengths.cut_by_rows(source, shares)
    stretches: Partitioner = _module("positions").Stretches(cuts, name="balanced")
    return stretches


def _speeds(spec: Spec, count: int) -> list[float]:
    """A speed for each partition; raises `ConfigError` for what is none."""
    if "speeds" not in spec.options:
        return [1.0] * count
    words = _words(spec.options["speeds"])
    try:
        speeds = [float(word) for word in words]
    except ValueError:
        speeds = []
    if not speeds or min(speeds) <= 0 or (spec.number and spec.number != len(speeds)):
        raise ConfigError(f"speeds {spec.options['speeds']!r} are not one positive number for each partition",
                          hint="Write them like balanced:speeds=2,1,1 for three partitions.")  # fmt: skip
    return speeds


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _module(name: str) -> Any:
    return importlib.import_module(f"{__name__}.{name}")
