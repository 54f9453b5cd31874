"""What differs between two packages, from their manifests and the descriptions of their models."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shardwise.core.schema import Feature
from shardwise.models.saved import Header
from shardwise.registry.manifest import Manifest

_LINEAGE = ("data", "rows", "config", "split", "candidate")


def compare(before: Manifest, old: Path, after: Manifest, new: Path) -> dict[str, Any]:
    """Differences from the package in the folder `old` to that in `new`, as JSON values; what is equal is left out.

    target    `{"column": ..., "task": ..., "classes": {"before", "after"}}`
    columns   raw columns: `added`, `removed` (names), `changed` (`{name: {"before", "after"}}`, Arrow types)
    features  of the recipe: `added`, `removed`, `changed` (kind and source)
    models    how many of each family, `{family: {"before", "after"}}`
    params    `{"family.name": {"before", "after"}}`
    metrics   `{"test.roc_auc": {"before", "after", "change"}}`, equal ones too
    lineage   data, rows, config, split, candidate: `{"before", "after"}`
    libraries `{name: {"before", "after"}}`
    """
    first, second = _headers(before, old), _headers(after, new)
    return {
        "target": _changed(_target(before), _target(after)),
        "columns": _sets(_types(before), _types(after)),
        "features": _sets(_features(first), _features(second)),
        "models": _changed(_counts(before), _counts(after)),
        "params": _changed(_params(first), _params(second)),
        "metrics": _metrics(values_of(before.metrics), values_of(after.metrics)),
        "lineage": _changed(_some(before.lineage), _some(after.lineage)),
        "libraries": _changed(before.libraries, after.libraries),
    }


def _headers(manifest: Manifest, folder: Path) -> dict[str, Header]:
    """The description of the first model of each family."""
    found: dict[str, Header] = {}
    for member in manifest.members:
        if member.family not in found:
            found[member.family] = Header.read(folder / member.folder)
    return found


def _target(manifest: Manifest) -> dict[str, Any]:
    target = manifest.target
    return {"column": target.column, "task": target.task.value, "classes": list(map(str, target.classes))}


def _types(manifest: Manifest) -> dict[str, str]:
    return {field.name: str(field.type) for field in manifest.inputs}


def _features(headers: Mapping[str, Header]) -> dict[str, str]:
    features: dict[str, Feature] = {feature.name: feature for h in headers.values() for feature in h.features}
    return {name: f"{feature.kind.value} of {feature.source}" for name, feature in features.items()}


def _counts(manifest: Manifest) -> dict[str, int]:
    families = [member.family for member in manifest.members]
    return {family: families.count(family) for family in sorted(set(families))}


def _params(headers: Mapping[str, Header]) -> dict[str, Any]:
    return {f"{family}.{name}": value for family, head in headers.items() for name, value in head.params.items()}


def _some(lineage: Mapping[str, Any]) -> dict[str, Any]:
    return {key: lineage.get(key) for key in _LINEAGE}


def values_of(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, float | None]:
    """`value` of each metric, with the path to it as its name."""
    found: dict[str, float | None] = {}
    for name, part in metrics.items():
        if isinstance(part, Mapping) and "value" in part:
            found[prefix + name] = part["value"]
        elif isinstance(part, Mapping):
            found |= values_of(part, f"{prefix}{name}.")
        elif part is None or isinstance(part, int | float):
            found[prefix + name] = part
    return found


def _metrics(before: Mapping[str, float | None], after: Mapping[str, float | None]) -> dict[str, Any]:
    return {name: _step(before.get(name), after.get(name)) for name in sorted({*before, *after})}


def _step(old: float | None, new: float | None) -> dict[str, float | None]:
    return {"before": old, "after": new, "change": None if old is None or new is None else new - old}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    names = sorted({*before, *after})
    return {
        name: {"before": before.get(name), "after": after.get(name)}
        for name in names
        if before.get(name) != after.get(name)
    }


def _sets(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Any]:
    both = {name: text for name, text in before.items() if name in after}
    return {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "changed": _changed(both, {name: after[name] for name in both}),
    }
