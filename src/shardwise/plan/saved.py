"""Predictions that wait for their run: `plan` writes one, and the run that is asked for the same takes it over."""

import hashlib
import json
from pathlib import Path
from typing import Any

from shardwise.core.config import RunConfig
from shardwise.plan.cost import Forecast
from shardwise.plan.past import FORMAT
from shardwise.store.files import write_atomic

FOLDER = "plans"  # beside the runs


def _path(config: RunConfig, fingerprint: str) -> Path:
    budget = [config.time, config.memory, config.disk, config.trials, config.workers]
    asked = hashlib.blake2b(json.dumps(budget).encode(), digest_size=4).hexdigest()
    return Path(config.runs_folder) / FOLDER / f"{config.identity()}-{fingerprint[:12]}-{asked}.json"


def predicted(found: Forecast, source: str) -> dict[str, Any]:
    """What is journalled of a forecast."""
    return {
        "format": FORMAT, "source": source,
        "predicted": {
            "time_s": found.time_s.to_json(), "memory_bytes": found.memory_bytes.to_json(),
            "disk_bytes": found.disk_bytes,
        },
    }  # fmt: skip


def keep(config: RunConfig, fingerprint: str, record: dict[str, Any]) -> None:
    """Write a prediction for the run of `config` on the data of `fingerprint`; the newest counts."""
    path = _path(config, fingerprint)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(record).encode())


def kept(config: RunConfig, fingerprint: str) -> dict[str, Any] | None:
    """The prediction for a run, or None; a file of another format, or one that is none, does not count."""
    path = _path(config, fingerprint)
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf8"))
    except ValueError:  # no run fails for the want of a prediction
        return None
    return record if isinstance(record, dict) and record.get("format") == FORMAT else None
