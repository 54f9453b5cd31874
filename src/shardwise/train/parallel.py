"""One model on several workers: the fit in a gang that goes on from checkpoints; `plan.gangs` says whether it pays."""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from shardwise.compute.gang.base import Gang, Member
from shardwise.compute.gang.desk import ignore
from shardwise.compute.gang.elastic import Elastic, any_number
from shardwise.core.errors import Pruned
from shardwise.core.events import WorkerView
from shardwise.core.parallel import Split
from shardwise.core.schema import Feature
from shardwise.core.target import Target, Task
from shardwise.models.base import FitRun, Model, Rows
from shardwise.models.families import NETWORKS, build, load_model, save_model
from shardwise.models.neural.model import has_torch
from shardwise.plan.gangs import Choice
from shardwise.stats.anomalies import Anomaly
from shardwise.train.watch import Workers

GO_ON_S = 0.25  # between two questions whether there is time
_GO, _STOP, _PRUNED = "go", "stop", "pruned"
_NOTE = "note"


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
    model_bytes: int = 2**62
    slices: int
    checkpoint: Path | None
    rests_at: int | None = None
    device: str
    out: Path
    split: Split | None = None

    def __call__(self, member: Member) -> dict[str, Any]:
        """In a member: fit; the first one saves the model. The anomalies that were `noticed`, and whether the trial was
        `pruned`."""
        if self.family in NETWORKS and self.device in ("auto", "cuda") and has_torch():
            from shardwise.models.neural.turns import take_gpu

            take_gpu(member)
        model = build(self.family, self.target, self.features, self.params)
        noticed: list[Anomaly] = []
        run = FitRun(
            seed=self.seed, threads=self.threads, memory_bytes=self.memory_bytes, report=partial(_report, member),
            go_on=_GoOn(member), note=partial(_note, member), notice=noticed.append, checkpoint=self.checkpoint,
            saw=member.saw, rests_at=self.rests_at, device=self.device, member=member, slices=self.slices,
            split=self.split, model_bytes=self.model_bytes,
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
        return {"noticed": noticed, "pruned": pruned}


def _note(member: Member, text: str) -> None:
    """Of any member: one alone may lack memory, say."""
    member.call((_NOTE, text))


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
    """What the caller tells members; steps that are gone through again after a loss are not reported again, and what
    several note is noted once."""

    run: FitRun
    stepped: Callable[[], None]
    last_step: int = 0
    last: str = _GO
    noted: set[str] = field(default_factory=set)

    def __call__(self, _rank: int, question: tuple[Any, ...]) -> str:
        if question[0] == _NOTE:
            text = question[1]
            if text not in self.noted:
                self.noted.add(text)
                self.run.note(text)
            return _GO
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


@dataclass(frozen=True, kw_only=True)
class Room:
    """Threads and memory: of a machine, where members have shares of them, or of each member of a cluster's own."""

    threads: int
    memory_bytes: int
    shared: bool

    def of_each(self, members: int) -> tuple[int, int]:
        """(threads, bytes) of one of so many.

        >>> Room(threads=4, memory_bytes=8, shared=True).of_each(2)
        (2, 4)
        >>> Room(threads=4, memory_bytes=8, shared=False).of_each(2)
        (4, 8)
        """
        if not self.shared:
            return self.threads, self.memory_bytes
        return max(1, self.threads // members), self.memory_bytes // members


@dataclass
class SharedFits:
    """Fits models in members of a gang: those of the chosen families by all, others by one."""

    make: Callable[[], Gang]
    choice: Choice
    room: Room
    show: Callable[[list[WorkerView]], None] = ignore
    ended: Callable[[list[WorkerView]], None] = ignore  # told what the workers of a fit did in all
    tell: Callable[[Anomaly], None] = field(default=lambda _anomaly: None)  # at once
    _gang: Gang | None = field(default=None, init=False)

    def size_for(self, family: str, params: Mapping[str, Any], target: Target, rows: int) -> int:
        """How many members fit a model together."""
        return self.choice.members(family, params, quantile=target.task is Task.QUANTILE, rows=rows)

    def fit(self, job: Job, run: FitRun) -> tuple[Model, bool]:
        """The fitted model, and whether it was pruned. Raises what the fit raises, and `MemberLost` in the end."""
        self._gang = self._gang or self.make()
        elastic = Elastic(self._gang, run.note, any_number if job.split is None else job.split.fitting)
        size = self.size_for(job.family, job.params, job.target, job.train.n_rows)
        last: list[WorkerView] = []
        answers, looks = _Answers(run, elastic.stepped), Workers(self._noticed(run))

        def watch(workers: list[WorkerView]) -> None:
            last[:] = workers
            looks(list(workers), answers.last_step)
            self.show(workers)

        told = elastic.run(job, size, answer=answers, watch=watch)
        self.ended(last)
        for anomaly in told["noticed"]:
            run.notice(anomaly)
        model = load_model(job.out)
        shutil.rmtree(job.out)
        return model, told["pruned"]

    def _noticed(self, run: FitRun) -> Callable[[Anomaly], None]:
        def notice(anomaly: Anomaly) -> None:
            run.notice(anomaly)
            self.tell(anomaly)

        return notice

    def close(self) -> None:
        """End the gang."""
        if self._gang is not None:
            self._gang.close()
