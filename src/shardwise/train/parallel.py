"""One model on several workers: whether it pays, and the fit in a gang that goes on from checkpoints."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from shardwise.compute.gang.base import Gang, Member
from shardwise.compute.gang.desk import ignore
from shardwise.compute.gang.elastic import Elastic
from shardwise.core.errors import Pruned
from shardwise.core.events import WorkerView
from shardwise.core.schema import Feature
from shardwise.core.target import Target, Task
from shardwise.models.base import FitRun, Model, Rows
from shardwise.models.families import FAMILIES, NETWORKS, build, load_model, save_model
from shardwise.models.trees_gang import most_members
from shardwise.plan.training import LARGE_ROWS

SLICES = 8  # of a minibatch: at most so many members share a network or a linear model
GO_ON_S = 0.25  # between two questions whether there is time
CLUSTERS = ("ray", "spark")  # engines with machines of their own that can start members together
_GO, _STOP, _PRUNED = "go", "stop", "pruned"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """`size` members fit one model of these `families` together (1: none does); `text` says why, in a sentence."""

    size: int
    families: frozenset[str] = frozenset()
    text: str


def choose_parallel(asked: str, *, engine: str, workers: int, rows: int, families: Sequence[str]) -> Choice:
    """What `--parallel` comes to: `data` and `none` as asked, `auto` by these numbers.

    Below a million rows many models side by side use the workers better than one on all of them. Above, one model is
    fitted at a time: on this machine LightGBM uses all cores in one process, and a network one core; on a cluster
    either would leave all machines but one idle.

    >>> choose_parallel("auto", engine="local", workers=2, rows=50_000, families=()).size
    1
    """
    able = frozenset(name for name, family in FAMILIES.items() if family.traits.parallel)
    wanted = able & frozenset(families or able)
    if asked == "none" or workers == 1:
        why = "it was asked for" if asked == "none" else "there is one worker"
        return Choice(size=1, text=f"Each model is fitted by one worker, as {why}.")
    if asked == "data":
        names = ", ".join(sorted(wanted))
        return Choice(
            size=workers, families=wanted, text=f"Each model ({names}) is fitted by {workers} workers, as asked."
        )
    if rows < LARGE_ROWS:
        few = f"with {rows:,} rows (below {LARGE_ROWS:,}) many side by side gain more"
        text = f"Each model is fitted by one worker: {few}."
        return Choice(size=1, text=text)
    if engine in CLUSTERS:
        text = f"With {rows:,} rows one model is fitted at a time, by {workers} workers of the cluster together."
        return Choice(size=workers, families=wanted - {"linear"}, text=text)
    networks = frozenset(NETWORKS) & frozenset(families)
    if engine == "local" and networks:
        text = f"With {rows:,} rows one model is fitted at a time; networks, of one thread each, by {workers} workers."
        return Choice(size=workers, families=networks, text=text)
    text = f"With {rows:,} rows one model is fitted at a time, by one worker on all cores."
    return Choice(size=1, text=text)


@dataclass(frozen=True, kw_only=True)
class Job:
    """A fit, as members are told of it: references and settings; `out` is where the model is left."""

    family: str
    params: Mapping[str, Any]
    target: Target
    features: tuple[Feature, ...]
    train: Rows
    valid: Rows | None
    seed: int
    threads: int
    memory_bytes: int
    slices: int
    checkpoint: Path | None
    rests_at: int | None = None
    device: str
    out: Path

    def __call__(self, member: Member) -> dict[str, Any]:
        """In a member: fit; the first one saves the model. `notes` for the user, and whether the trial was `pruned`."""
        model = build(self.family, self.target, self.features, self.params)
        notes: list[str] = []
        run = FitRun(
            seed=self.seed, threads=self.threads, memory_bytes=self.memory_bytes, report=partial(_report, member),
            go_on=_GoOn(member), note=notes.append, checkpoint=self.checkpoint, rests_at=self.rests_at,
            device=self.device, member=member, slices=self.slices,
        )  # fmt: skip
        pruned = False
        try:
            model.fit(self.train, self.valid, run)
        except Pruned:
            pruned = True
        if member.rank == 0:
            shutil.rmtree(self.out, ignore_errors=True)
            self.out.mkdir(parents=True)
            save_model(self.family, model, self.out)
        member.barrier()
        return {"notes": notes, "pruned": pruned}


def _report(member: Member, step: int, score: float) -> bool:
    answer = member.ask(("report", step, score))
    if answer == _PRUNED:
        raise Pruned
    return bool(answer == _GO)


@dataclass
class _GoOn:
    """Whether there is time, as the first member knows it; the others go on until it stops (`Steps.step`)."""

    member: Member
    asked_s: float = 0.0
    going: bool = True

    def __call__(self) -> bool:
        now = time.monotonic()
        if self.member.rank == 0 and self.going and now - self.asked_s > GO_ON_S:
            self.going, self.asked_s = self.member.call(("go on",)) == _GO, now
        return self.going


@dataclass
class _Answers:
    """What the caller tells members; steps that are gone through again after a loss are not reported again."""

    run: FitRun
    stepped: Callable[[], None]
    last_step: int = 0
    last: str = _GO

    def __call__(self, _rank: int, question: tuple[Any, ...]) -> str:
        if question[0] == "go on":
            return _GO if self.run.go_on() else _STOP
        _, step, score = question
        if step > self.last_step:
            self.last_step = step
            self.stepped()
            try:
                self.last = _GO if self.run.report(step, score) else _STOP
            except Pruned:
                self.last = _PRUNED
            return self.last
        return self.last if step == self.last_step else _GO


@dataclass
class SharedFits:
    """Fits models in members of a gang: those of the chosen families by all, others by one."""

    make: Callable[[], Gang]
    choice: Choice
    cpus: int
    show: Callable[[list[WorkerView]], None] = ignore
    ended: Callable[[list[WorkerView]], None] = ignore  # told what the workers of a fit did in all
    _gang: Gang | None = field(default=None, init=False)

    def size_for(self, family: str, params: Mapping[str, Any], target: Target, rows: int) -> int:
        """How many members fit a model together."""
        alone = target.task is Task.QUANTILE or params.get("objective") == "l1" or params.get("extra_trees")
        if family not in self.choice.families or (family == "trees" and alone):
            return 1
        return min(self.choice.size, most_members(rows) if family == "trees" else SLICES)

    def fit(self, job: Job, run: FitRun) -> tuple[Model, bool]:
        """The fitted model, and whether it was pruned. Raises what the fit raises, and `MemberLost` in the end."""
        self._gang = self._gang or self.make()
        elastic = Elastic(self._gang, run.note)
        size = self.size_for(job.family, job.params, job.target, job.train.n_rows)
        last: list[WorkerView] = []

        def watch(workers: list[WorkerView]) -> None:
            last[:] = workers
            self.show(workers)

        told = elastic.run(job, size, answer=_Answers(run, elastic.stepped), watch=watch)
        self.ended(last)
        for text in told["notes"]:
            run.note(text)
        model = load_model(job.out)
        shutil.rmtree(job.out)
        return model, told["pruned"]

    def close(self) -> None:
        """End the gang."""
        if self._gang is not None:
            self._gang.close()
