"""What earlier studies found: tasks with their meta-features, and the losses of the params that were tried on them.

One archive is shipped with the package, made by `benchmarks/make_archive.py` on generated data; the journals of the
runs on this machine are another, which grows with every run. Losses are compared within a task only, by rank.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Self

from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError, DataError, ShardwiseError, context
from shardwise.core.findings import Finding
from shardwise.store.journal import SqliteJournal

FORMAT = 1
SHIPPED = "archive.json"
LEAST_TRIALS = 5  # of a family, from which a task tells something
MOST_RUNS = 60  # of this machine, the newest
SHOWN_RUNS = 4  # of those that are left out


@dataclass(frozen=True, kw_only=True)
class PastTask:
    """A data set with its meta-features by name, and what was tried: `family`, `params`, `loss`.

    Of a run on this machine `data` is the fingerprint of its data, and `split` says how its rows were split (None where
    its journal does not tell); they are not written to archives.
    """

    name: str
    features: Mapping[str, float]
    trials: Sequence[Mapping[str, Any]]
    data: str = field(default="", compare=False)
    split: Mapping[str, Any] | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "features": dict(self.features), "trials": [dict(trial) for trial in self.trials]}


@dataclass(frozen=True)
class Archive:
    """Tasks, by name."""

    tasks: tuple[PastTask, ...] = ()

    def of(self, family: str) -> "Archive":
        """The tasks on which enough of a model family was tried, with nothing else."""
        found = []
        for task in self.tasks:
            trials = [trial for trial in task.trials if trial["family"] == family and trial["loss"] is not None]
            if len(trials) >= LEAST_TRIALS:
                found.append(PastTask(name=task.name, features=task.features, trials=trials))
        return Archive(tuple(found))

    def splits_of(self, data: str) -> dict[str, Mapping[str, Any] | None]:
        """How the tasks on data of that fingerprint were split, by name."""
        return {task.name: task.split for task in self.tasks if task.data == data}

    def without(self, names: Collection[str]) -> "Archive":
        """All tasks but these."""
        return Archive(tuple(task for task in self.tasks if task.name not in names))

    def merged(self, other: "Archive") -> "Archive":
        """Both; of tasks of the same name that of the other one."""
        names = {task.name for task in other.tasks}
        kept = [task for task in self.tasks if task.name not in names]
        return Archive(tuple(sorted((*kept, *other.tasks), key=lambda task: task.name)))

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "tasks": [task.to_json() for task in self.tasks]}

    @classmethod
    def from_json(cls, content: Any) -> Self:
        """Raises `ConfigError` for what is no archive, or one of another format version."""
        if not isinstance(content, dict) or "format" not in content:
            raise ConfigError("this is no archive of trials", hint="Make one with shardwise tune --export FILE.")
        if content["format"] != FORMAT:
            raise ConfigError(
                f"the archive has the format {content['format']!r}, this version of shardwise reads {FORMAT}",
                hint="Make it again from the runs: shardwise tune --export FILE.",
            )
        tasks = tuple(PastTask(**task) for task in content["tasks"])
        for task in tasks:
            _check_task(task)
        return cls(tasks)

    def digest(self) -> str:
        """Hash of the content."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


def _check_task(task: PastTask) -> None:
    """Raise `TypeError` for what samplers could not learn from."""
    numbers = [*task.features.values(), *(trial["loss"] for trial in task.trials if trial["loss"] is not None)]
    if not all(isinstance(value, int | float) for value in numbers):
        raise TypeError(f"features and losses of {task.name!r} are not all numbers")
    if not all(isinstance(trial["family"], str) and isinstance(trial["params"], Mapping) for trial in task.trials):
        raise TypeError(f"trials of {task.name!r} have no family or no params")


@cache
def shipped() -> Archive:
    """The archive that comes with the package."""
    return Archive.from_json(json.loads(resources.files("shardwise.tune").joinpath(SHIPPED).read_text("utf8")))


def past(config: RunConfig, *, without: str = "") -> tuple[Archive, list[str]]:
    """The archive that a config names, and which runs could not be read; raises `ConfigError`."""
    if config.archive == "none":
        return Archive(), []
    if config.archive == "shipped":
        return shipped(), []
    if config.archive == "auto":
        runs, refused = of_runs(config.runs_folder, without=without)
        return shipped().merged(runs), refused
    try:
        return read_archive(config.archive), []
    except (ConfigError, DataError) as error:
        error.hint = f"{error.hint} Allowed: auto, shipped, none, or a file."
        raise


def read_archive(path: str | Path) -> Archive:
    """An archive from a file; raises `ConfigError`."""
    with context(path=str(path)):
        try:
            return Archive.from_json(json.loads(Path(path).read_text(encoding="utf8")))
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            hint = "Make one with shardwise tune --export FILE."
            raise ConfigError("this is no archive of trials", hint=hint) from error


def of_runs(folder: str | Path, *, without: str = "", most: int | None = MOST_RUNS) -> tuple[Archive, list[str]]:
    """The tasks of the `most` newest runs (None: of all) below a folder by their journals, and which of these could not
    be read, and why.

    `without` names a run that is left out: the one that asks.
    """
    paths = sorted(Path(folder).glob("*/journal.db"), key=lambda path: (-path.stat().st_mtime_ns, path))[:most]
    tasks, refused = [], []
    for path in sorted(paths):
        if path.parent.name == without:
            continue
        try:
            with SqliteJournal(path, read_only=True) as journal:
                task = task_of(path.parent.name, list(journal.read()))
        except (ShardwiseError, KeyError, TypeError) as error:
            refused.append(f"{path.parent.name}: {error}")
            continue
        if task is not None:
            tasks.append(task)
    return Archive(tuple(tasks)), refused


def task_of(name: str, records: Sequence[Mapping[str, Any]]) -> PastTask | None:
    """From the journal of a run: of each trial what was found at its highest rung; None where there is nothing. A
    journal that does not say what data it is of counts as one of other data.

    What the clock has cut, or ended before all folds were done, tells of the clock. Trials that went on from another
    one are left out: what they found is due to params that changed on the way.
    """
    features = next((record["features"] for record in reversed(records) if record["kind"] == "task"), None)
    told = [record for record in records if record["kind"] == "trial"]
    copied = {record["number"] for record in told if "source" in record}
    folds = max((len(record.get("folds", ())) for record in told), default=0)
    highest: dict[int, Mapping[str, Any]] = {}
    for record in told:
        before = highest.get(record["number"], record)
        if record["number"] not in copied and _is_whole(record, folds) and _rung(record) >= _rung(before):
            highest[record["number"]] = record
    trials = [
        {"family": record["family"], "params": record["params"], "loss": record["loss"]}
        for _, record in sorted(highest.items())
    ]
    if features is None or not trials:
        return None
    data = next((record.get("data", "") for record in records if record["kind"] == "opened"), "")
    split = next((record["content"]["split"] for record in reversed(records) if record["kind"] == "encoded"), None)
    return PastTask(name=name, features=features, trials=trials, data=data, split=split)


def split_otherwise(kept: Sequence[Mapping[str, Any]], split: Mapping[str, Any]) -> list[str]:
    """Names of the tasks on a run's own rows that were split otherwise, by what is journalled of its archive: rows of
    its sealed test may have been open there, and params been judged by them."""
    known = kept[0].get("same_data", {}) if kept else {}
    return sorted(name for name, other in known.items() if other != split)


def left_out(names: Sequence[str]) -> tuple[Finding, ...]:
    """That runs are not learned from, as `split_otherwise` says."""
    if not names:
        return ()
    shown = ", ".join(names[:SHOWN_RUNS]) + (f" and {len(names) - SHOWN_RUNS} more" if len(names) > SHOWN_RUNS else "")
    return (
        Finding(
            code="runs_left_out", severity="info", evidence={"runs": list(names)},
            text=f"{len(names)} earlier run(s) on the same rows, split otherwise, are not learned from: rows of the "
            f"sealed test may have been open there ({shown}).",
            hint="With the --seed and the split of such a run its trials are learned from.",
        ),
    )  # fmt: skip


def _rung(record: Mapping[str, Any]) -> int:
    return record.get("rung") or 0


def _is_whole(record: Mapping[str, Any], folds: int) -> bool:
    own = record.get("folds", ())
    cut = any(fold.get("cut") for fold in own)
    return record.get("loss") is not None and not cut and len(own) == folds
