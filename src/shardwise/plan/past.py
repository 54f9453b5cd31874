"""Past runs, as their journals tell them: what was predicted, the sizes, and what each stage and each trial took."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from shardwise.core.errors import ShardwiseError
from shardwise.plan.sizes import Sizes
from shardwise.store.journal import SqliteJournal

KINDS = ("opened", "plan", "sizes", "stage", "trial", "finished")
NEWEST_RUNS = 60  # of which a plan learns
WITHIN = 0.2  # a prediction is near when it is off by at most this share
FORMAT = 1  # of the records `plan` and `sizes`


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """A run that was finished in one go, every trial of it too.

    stages   name -> `seconds` and `peak_bytes`, of stages that ran several times the sum and the highest
    trials   `family`, `params` and `folds` (seconds, steps, rounds) of each, in order
    workers  how many there were, `asked` how many were asked for; `ceiling_bytes` None where there was none
    parallel, engine, time_s  as they were asked for
    plan     what was predicted at its start: `time_s`, `memory_bytes`, each with low, value and high; else None
    """

    name: str
    sizes: Sizes
    workers: int
    asked: int | None
    ceiling_bytes: int | None
    stages: Mapping[str, Mapping[str, float]]
    trials: Sequence[Mapping[str, Any]]
    seconds: float
    peak_bytes: int
    plan: Mapping[str, Any] | None = None
    parallel: str = "none"
    engine: str = "local"
    time_s: float | None = None

    @classmethod
    def of(cls, name: str, records: Iterable[Mapping[str, Any]]) -> Self | None:
        """From a journal; None for a run that is not finished, was cut, continued, searched on rungs, or is of another
        format."""
        found: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in KINDS}
        for record in records:
            if record["kind"] in found:
                found[record["kind"]].append(record)
        results = [record["result"] for record in found["finished"]]
        sizes = [record for record in found["sizes"] if record.get("format") == FORMAT]
        if len(results) != 1 or len(sizes) != 1 or len(found["plan"]) > 1 or results[0]["cut"]:
            return None
        if any(record.get("rung") is not None for record in found["trial"]):
            return None  # of rungs the laws know nothing
        plans = [record for record in found["plan"] if record.get("format") == FORMAT]
        return cls(
            name=name,
            sizes=Sizes.from_json(sizes[0]["sizes"]),
            workers=sizes[0]["workers"],
            asked=sizes[0]["asked"],
            ceiling_bytes=sizes[0].get("ceiling_bytes"),
            stages=_stages(found["stage"]),
            trials=sorted(found["trial"], key=lambda trial: int(trial["number"])),
            seconds=results[0]["seconds"],
            peak_bytes=results[0]["peak_memory_bytes"],
            plan=plans[0]["predicted"] if plans else None,
            parallel=sizes[0].get("parallel", "none"),
            engine=sizes[0].get("engine", "local"),
            time_s=sizes[0].get("time_s"),
        )

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "sizes": self.sizes.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(**{**content, "sizes": Sizes.from_json(content["sizes"])})


def _stages(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    stages: dict[str, dict[str, float]] = {}
    for record in records:
        stage = stages.setdefault(record["stage"], {"seconds": 0.0, "peak_bytes": 0})
        stage["seconds"] += record["seconds"]
        stage["peak_bytes"] = max(stage["peak_bytes"], record["peak_bytes"])
    return stages


def read_runs(folder: Path, limit: int = NEWEST_RUNS) -> tuple[list[PastRun], list[str]]:
    """The newest finished runs below `folder`, by name, and for journals that cannot be used the reasons."""
    journals = sorted(folder.glob("*/journal.db"), key=lambda path: (-path.stat().st_mtime_ns, path))[:limit]
    runs, refused = [], []
    for path in sorted(journals):
        try:
            with SqliteJournal(path, read_only=True) as journal:
                run = PastRun.of(path.parent.name, journal.read())
        except (ShardwiseError, KeyError, TypeError) as error:
            refused.append(f"{path.parent.name}: {error!r}" if isinstance(error, KeyError) else f"{path}: {error}")
            continue
        if run is not None:
            runs.append(run)
    return runs, refused


def accuracy(runs: Sequence[PastRun]) -> dict[str, Any]:
    """Predicted over actual, for each run and in all: the median, and the share within 20 %."""
    rows: list[dict[str, Any]] = [
        {
            "run": run.name, "rows": run.sizes.rows, "features": run.sizes.features,
            "time_s": _compared(run.plan["time_s"]["value"], run.seconds),
            "memory_bytes": _compared(run.plan["memory_bytes"]["value"], run.peak_bytes),
        }
        for run in runs
        if run.plan is not None
    ]  # fmt: skip
    totals = {what: _summary([row[what]["ratio"] for row in rows]) for what in ("time_s", "memory_bytes")}
    return {"runs": rows, **totals}


def _compared(predicted: float, actual: float) -> dict[str, float]:
    return {"predicted": predicted, "actual": actual, "ratio": predicted / max(actual, 1e-9)}


def _summary(ratios: Sequence[float]) -> dict[str, Any]:
    values = np.asarray(ratios, float)
    if not len(values):
        return {"runs": 0, "median": None, "within": None, "under": 0}
    return {
        "runs": len(values),
        "median": float(np.median(values)),
        "within": float(np.mean(np.abs(values - 1.0) <= WITHIN)),
        "under": int((values < 1.0).sum()),
    }
