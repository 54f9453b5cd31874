"""Training again on old and new rows: which run is gone on from, what it is asked for, and what has changed since."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from shardwise.core.config import RunConfig, load_config
from shardwise.core.errors import ConfigError
from shardwise.core.findings import Finding
from shardwise.data.profile import Profile
from shardwise.monitor.judge import DriftConfig, find_drift
from shardwise.monitor.windows import Reference, Window
from shardwise.registry.package import package_hash
from shardwise.registry.references import open_registry
from shardwise.train.inherit import run_named, run_with

# Below these a shift is small (PSI: Siddiqi 2006, Credit Risk Scorecards), and the parent's features and bins are kept
MATTERS = DriftConfig(least_psi=0.1, least_ks=0.1, least_share=0.02)
_OF_THE_PARENT = ("run", "out", "parent", "refit")  # not taken over
_NOTHING = pa.schema([])
SPLIT = ("key", "group", "time_column", "fold_column", "folds", "test_share", "valid_share", "seed")  # of the parent


def retrain_config(
    source: str, data: Sequence[str], given: Mapping[str, Any], *, registry: str | None = None
) -> RunConfig:
    """What a run is asked for that goes on from `source`: a run (name or folder), its package, or `NAME@3`.

    `data` are all sources, old and new; empty: those of the run, which may hold more by now. `given` are the fields of
    `RunConfig` that are asked for anew. Raises `ConfigError` for a run that is not found, or has not ended.
    """
    runs_folder = Path(given.get("runs_folder") or "runs")
    parent = find_run(source, runs_folder, registry)
    path = parent / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{str(parent)!r} is no run: it has no config.yaml", hint="Give the folder of a run.")
    content = {key: value for key, value in load_config(path).items() if key not in _OF_THE_PARENT}
    if data:
        content["data"] = list(data)
    if given.get("runs_folder") is None:
        given = {**given, "runs_folder": str(parent.parent)}
    time = str(content.get("time") or "")
    content["time"] = time.removeprefix("+") or None  # what a finished run was given on top
    asked = {key: value for key, value in given.items() if value is not None}
    config = RunConfig.from_mapping({**content, **asked, "parent": str(parent.resolve())})
    before = RunConfig.from_mapping(content)
    for name in SPLIT:
        if getattr(config, name) != getattr(before, name):
            raise ConfigError(
                f"retraining keeps the split of its parent, and {name!r} is another one", hint="Train anew with it."
            )
    return config


def find_run(source: str, runs_folder: Path, registry: str | None = None) -> Path:
    """The folder of a run by its path or name, or by the package that it has made."""
    place = Path(source)
    if (place / "journal.db").is_file():
        return place
    if (place / "manifest.json").is_file():
        digest = package_hash(place)
        own = place.resolve().parent
        return run_with(own.parent if (own / "journal.db").is_file() else runs_folder, digest)
    if "@" in source:
        return run_with(runs_folder, open_registry(registry).version(source).hash)
    return run_named(runs_folder, source)


def what_changed(known: Profile, fresh: Profile) -> Sequence[Finding]:
    """Columns that are so different in the rows of `fresh` that features planned for those of `known` may not fit."""
    window = Window(fresh, Profile(_NOTHING))
    return find_drift(Reference(inputs=known, answers=None), window, MATTERS)
