"""What MLflow is told of a version: tags, params, metrics. Pure.

Tags that begin with `shardwise.` are ours; `shardwise.tags` names those of the version's own, so that what was taken
away here goes there as well, and what others have put there stays.

    shardwise.version, shardwise.package    the number here, and the hash of the package: what tells a copy from others
    shardwise.created, .task, .target, .families, .data, .config, .rows, .code, .parent     as in `registry.versions`
    shardwise.deleted                       the version was deleted here
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from shardwise.registry.compare import values_of
from shardwise.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, NameState, Version

PREFIX = "shardwise."
VERSION, PACKAGE, TAGS, DELETED = (PREFIX + word for word in ("version", "package", "tags", "deleted"))
ORIGIN, ALIASES = PREFIX + "origin", PREFIX + "aliases"  # of the model
_OURS = (CHAMPION, CHALLENGER, PREVIOUS)


def facts_of(version: Version) -> dict[str, str]:
    """Our tags of a version; what is not known is left out."""
    told = {
        "version": version.number, "package": version.hash, "created": version.created, "task": version.task,
        "target": version.target, "families": ",".join(version.families), **version.lineage,
        "tags": json.dumps(sorted(version.tags)),
    }  # fmt: skip
    return {PREFIX + key: str(value) for key, value in told.items() if value is not None}


def tags_of(version: Version) -> dict[str, str]:
    """All tags of a version; its own cannot stand for ours."""
    return {**version.tags, **facts_of(version)}


def params_of(version: Version) -> dict[str, str]:
    """Params of the run that holds a version's files."""
    return {key.removeprefix(PREFIX): text for key, text in facts_of(version).items() if key != TAGS}


def metrics_of(version: Version) -> dict[str, float]:
    """Metrics of the run, with the path to each as its name, such as `test.roc_auc`; `.low` and `.high` beside it."""
    found = values_of(_with_bounds(version.metrics))
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def _with_bounds(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """An interval as three numbers, told by their names."""
    told: dict[str, Any] = {}
    for name, part in metrics.items():
        if isinstance(part, Mapping) and "value" in part:
            told |= {name: part["value"], f"{name}.low": part.get("low"), f"{name}.high": part.get("high")}
        else:
            told[name] = _with_bounds(part) if isinstance(part, Mapping) else part
    return told


def stale_tags(seen: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Tags of a copy that were ours and are not any more."""
    mine = {*_listed(seen.get(TAGS)), *(key for key in seen if key.startswith(PREFIX))}
    return sorted(key for key in mine if key in seen and key not in wanted)


def stale_aliases(seen: Mapping[str, str], told_before: str | None, state: NameState) -> list[str]:
    """Aliases there that are ours to keep, and that point at nothing here."""
    mine = {*_OURS, *_listed(told_before)}
    return sorted(alias for alias in seen if alias in mine and alias not in state.aliases)


def _listed(text: str | None) -> list[str]:
    """Of a tag that holds a list; what people have made of it otherwise names nothing."""
    try:
        content = json.loads(text or "[]")
    except ValueError:
        return []
    return [word for word in content if isinstance(word, str)] if isinstance(content, list) else []
