"""The trials of a run that is under way or has ended, as its journal tells them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.stats.metrics import METRICS
from shardwise.store.journal import SqliteJournal
from shardwise.train.inherit import is_whole, trial_steps


@dataclass(frozen=True, kw_only=True)
class History:
    """The trials of a run, each as far as it got, by number: `score` (None: it failed) and whether it was the best so
    far, `rung` (None in a search without), `rounds`, `seconds` of this machine, `cost_s` by the cost model; of a
    population in `from` the trials that it went on from, each with the rung that was begun so.

    `whole` is False for a trial that rests on a lower rung, or that was ended before all its folds were done: its score
    is of `rounds`, of a `share` of the partitions, or of some folds alone, and it is never the best so far."""

    run: str
    metric: str
    trials: tuple[Mapping[str, Any], ...]

    def to_json(self) -> dict[str, Any]:
        return {"run": self.run, "metric": self.metric, "trials": [dict(trial) for trial in self.trials]}


def read_history(runs_folder: Path, name: str | None) -> History:
    """Of the run of that name, else of the newest; raises `ConfigError` where there is none."""
    paths = {path.parent.name: path for path in runs_folder.glob("*/journal.db")}
    if not paths or (name is not None and name not in paths):
        what = f"there is no run {name!r} below {runs_folder}" if name else f"there is no run below {runs_folder}"
        hint = nearest(name, paths, "Runs") if name and paths else "Give --runs-folder, or tune first."
        raise ConfigError(what, hint=hint)
    run = name or max(paths, key=lambda found: (paths[found].stat().st_mtime_ns, found))
    with SqliteJournal(paths[run], read_only=True) as journal:
        return history_of(run, list(journal.read()))


def history_of(run: str, records: Sequence[Mapping[str, Any]]) -> History:
    """From the records of a journal."""
    metric = next((record["metric"] for record in records if record["kind"] == "task"), None)
    if metric is None:
        raise ConfigError(f"the run {run!r} has no trials yet", hint="Wait until its data are prepared.")
    told = trial_steps(records)
    folds = max((len(step["folds"]) for steps in told.values() for step in steps), default=0)
    trials: list[dict[str, Any]] = []
    sign = -1.0 if METRICS[metric].greater_is_better else 1.0
    best = math.inf
    for number, steps in told.items():
        top = _top(steps)
        loss = top["loss"]
        whole = is_whole(top, folds)
        best_so_far = whole and loss is not None and loss < best
        trials.append({
            "trial": number, "family": top["family"], "params": top["params"], "rung": top["rung"],
            "score": None if loss is None else sign * loss, "best_so_far": best_so_far,
            "whole": whole, "share": top.get("share", 1.0),
            "rounds": max((fold["rounds"] for fold in top["folds"]), default=0),
            "seconds": round(sum(fold["seconds"] for step in steps for fold in step["folds"]), 3),
            "cost_s": sum(step["cost_s"] for step in steps), "failed": top["failed"],
            "expected": top.get("expected"),
            "from": [{"trial": step["source"], "rung": step["rung"]} for step in steps if "source" in step],
        })  # fmt: skip
        best = loss if best_so_far else best
    return History(run=run, metric=metric, trials=tuple(trials))


def _top(steps: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """As far as a trial got: a step that the clock has cut counts where it is better than what is below."""
    top = steps[0]
    for step in steps[1:]:
        cut, loss, before = any(fold.get("cut") for fold in step["folds"]), step["loss"], top["loss"]
        top = step if not cut or (loss is not None and (before is None or loss < before)) else top
    return top
