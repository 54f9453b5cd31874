"""From sizes and laws to time, peak memory and disk of every stage on n workers, and whether that fits. Pure.

What is told is an interval: `low` and `high` are where nine of ten runs should lie, by the residuals of the runs from
which the laws were learned. What lies beyond what was measured is said, and what cannot be told is told as such.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from shardwise.core.candidate import Candidate
from shardwise.core.parallel import Parallel
from shardwise.core.target import Task
from shardwise.core.units import format_size
from shardwise.models.families import NETWORKS
from shardwise.models.neural.shape import Shape
from shardwise.plan import gangs, stages, training
from shardwise.plan.learn import Law
from shardwise.plan.memory import MAIN_BYTES, PROCESS_BYTES, growing_bytes, held_rounds, trees_bytes
from shardwise.plan.sizes import Sizes

SURE = 1.645  # standard deviations: nine of ten lie within
MEMORY_SURE = 1.5  # standard deviations above the mean: fourteen of fifteen runs take less
TOO_WIDE = 4.0  # high over low, from which on a time "cannot be told"
SKEWED = 3.0  # largest partition over the mean
WORKERS = (1, 2, 4, 8, 32)
NEAR = 1.3  # times the rows of a slice a run may train on: groups of equal rows are uneven
SAFETY = 0.97  # of a ceiling on memory, as in `train.ladder`
LEAST_ROWS = 2_000  # as there
CLOSE_SHARE = 2 / 3  # of the rows, on the ladder's third rung
STOP_S = 2.5  # what a run with a ceiling in time leaves of it
Laws = Mapping[str, Law]


@dataclass(frozen=True)
class Range:
    """A prediction and where nine of ten runs should lie."""

    low: float
    value: float
    high: float

    @classmethod
    def around(cls, value: float, spread: float) -> "Range":
        factor = math.exp(SURE * spread)
        return cls(value / factor, value, value * factor)

    def __iter__(self) -> Iterator[float]:
        return iter((self.low, self.value, self.high))

    def to_json(self) -> dict[str, float]:
        return {"low": self.low, "value": self.value, "high": self.high}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run may use. `workers` None: as many as there are CPUs; `families` empty: all.

    `confined` says that the ceiling on memory was asked for, and is enforced; `held` are params of all candidates.
    `parallel` and `engine` say whether several workers fit one model, as in `plan.gangs`; `worker_bytes` is the memory
    of a worker of a cluster, where that is known; `shapes` are those of networks that may lie in parts.
    """

    trials: int | None = None
    time_s: float | None = None
    memory_bytes: int = 2**62
    disk_bytes: int = 2**62
    confined: bool = False
    workers: int | None = None
    cpus: int = 1
    families: tuple[str, ...] = ()
    select: bool = True
    held: training.Held = field(default_factory=dict)
    parallel: str = "none"
    engine: str = "local"
    worker_bytes: int | None = None
    shapes: tuple[Shape, ...] = ()

    @property
    def ceiling_bytes(self) -> int | None:
        return self.memory_bytes if self.confined else None


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """All that a forecast rests on: laws, how boosting rounds depend on the candidate, and what a calibration found.

    `rounds` is the best round of the first trees; `rounds_spread` the standard deviation of its logarithm. `factors`
    are measured over predicted seconds of a law, on this data and machine; `write_bytes_s` is the speed of the disk.
    """

    time: Laws
    memory: Laws
    rounds: training.Rounds
    rounds_spread: float
    candidates: Mapping[str, float]
    factors: Mapping[str, float] = field(default_factory=dict)
    measured_workers: int = 1
    write_bytes_s: float = math.inf


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of the run."""

    name: str
    time_s: Range
    memory_bytes: Range

    def to_json(self) -> dict[str, Any]:
        return {"stage": self.name, "time_s": self.time_s.to_json(), "memory_bytes": self.memory_bytes.to_json()}


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run on `workers` workers takes; `told` are sentences that go with it.

    Where `members` fit a model together (1: one does), each of them needs `member_bytes` of memory.
    """

    workers: int
    stages: tuple[Stage, ...]
    time_s: Range
    memory_bytes: Range
    disk_bytes: float
    trials: int
    told: tuple[str, ...] = ()
    members: int = 1
    member_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "workers": self.workers, "time_s": self.time_s.to_json(), "memory_bytes": self.memory_bytes.to_json(),
            "disk_bytes": self.disk_bytes, "trials": self.trials, "stages": [stage.to_json() for stage in self.stages],
            "told": list(self.told), "members": self.members, "member_bytes": self.member_bytes,
        }  # fmt: skip


def forecast(sizes: Sizes, budget: Budget, known: Knowledge) -> Forecast:
    """Time, memory and disk of a run that trains on all rows, stage by stage, on `budget.workers` workers."""
    fits = _Fits(sizes, budget, known)
    parts = [_stage(name, fits) for name in stages.STAGES]
    time_s = _total([part.time_s for part in parts])
    if budget.time_s is not None:
        time_s = _cut(time_s, budget)
    highest = max((part.memory_bytes for part in parts), key=lambda each: each.value)
    told = (*_told_gang(fits), *_told_beyond(fits), *_told_skew(sizes), *_told_width(time_s))
    return Forecast(
        workers=fits.workers, stages=tuple(parts), time_s=time_s, memory_bytes=highest,
        disk_bytes=sum(stages.disk_bytes(sizes).values()), trials=len(fits.chosen), told=told,
        members=fits.most_members, member_bytes=fits.member_bytes,
    )  # fmt: skip


class _Fits:
    """The candidates of a run on its folds: seconds of each, how many are trained at a time, trees of the best."""

    def __init__(self, sizes: Sizes, budget: Budget, known: Knowledge) -> None:
        self.sizes, self.budget, self.known = sizes, budget, known
        self.chosen = training.candidates(sizes, budget.trials, budget.families, budget.held, budget.memory_bytes)
        self.workers = budget.workers or budget.cpus
        self.placed, self.choice = placement(sizes, budget)
        near = placement(replace(sizes, train_rows=round(NEAR * sizes.train_rows)), budget)[0]
        self.widest = max(self.placed, near, key=lambda placed: placed.processes)
        self.passes = stages.passing(
            sizes, workers=budget.workers, cpus=budget.cpus, memory_bytes=budget.memory_bytes,
            ceiling_bytes=budget.ceiling_bytes,
        )  # fmt: skip

    @property
    def first(self) -> Candidate:
        return next((c for c in self.chosen if c.family == "trees"), Candidate(family="trees"))

    def best_round(self, candidate: Candidate) -> float:
        best = self.known.rounds.at(self.sizes.train_rows)
        return training.rounds_of(candidate, self.first, best, self.known.candidates)

    def terms(self, candidate: Candidate) -> tuple[str, dict[str, float]]:
        best = self.best_round(candidate) if candidate.family in training.GROWN else 0.0
        members = self.members(candidate)
        law, terms = training.unit_terms(candidate, self.sizes, best, threads=self.placed.threads)
        return law, gangs.shared_terms(terms, members, self.choice.split)

    def members(self, candidate: Candidate) -> int:
        """How many workers fit it together."""
        quantile, rows = self.sizes.task == Task.QUANTILE, self.sizes.train_rows
        return self.choice.members(candidate.family, candidate.params, quantile=quantile, rows=rows)

    @property
    def member_bytes(self) -> int:
        """Of each member of a gang; 0 where there is none."""
        if not self.together:
            return 0
        return gangs.member_bytes(
            self.sizes, self.most_members, self.together, shapes=self.budget.shapes, split=self.choice.split
        )

    @property
    def together(self) -> frozenset[str]:
        """Families whose models several workers fit together."""
        return frozenset(c.family for c in self.chosen if self.members(c) > 1)

    @property
    def networks_bytes(self) -> int:
        """Memory of the processes of this machine that fit networks together; laws know of trees alone."""
        here = self.budget.engine == "local" and bool(self.together & set(NETWORKS))
        return self.most_members * self.member_bytes if here else 0

    @property
    def most_members(self) -> int:
        return max(self.members(candidate) for candidate in self.chosen)

    def seconds(self, candidate: Candidate) -> float:
        law, terms = self.terms(candidate)
        return self.known.time[law](terms) * self.known.factors.get(law, 1.0)

    @property
    def trees(self) -> float:
        """Trees of 31 leaves that make the members of the best trial, about: the largest candidate."""
        models = 1 if self.refits else self.sizes.folds
        return models * self.sizes.outputs * max(self._grown, default=1.0)

    @property
    def _grown(self) -> list[float]:
        """Trees of 31 leaves of a model of each candidate that has some, for an output."""
        return [training.grown(c, self.best_round(c)) for c in self.chosen if c.family in training.GROWN]

    @property
    def refits(self) -> bool:
        return training.refits(self.sizes, self.budget.ceiling_bytes, {c.family for c in self.chosen})

    @property
    def refit_s(self) -> float:
        """Seconds of a fold's fit of the members that are trained anew on all rows, about."""
        return mean(self.seconds(c) for c in self.chosen if c.family == "trees") if self.refits else 0.0

    def stage_terms(self, name: str) -> stages.Terms:
        """Of the seconds of any stage but the training."""
        refit_s = self.refit_s if name == "ensemble" else 0.0
        return stages.time_terms(name, self.sizes, self.passes, trees=self.trees, refit_s=refit_s)

    def memory_terms(self, name: str) -> stages.Terms:
        """Of the peak of any stage, with the worker processes that a few more rows would bring."""
        return stages.memory_terms(
            name, self.sizes, self.passes, self.widest, trees=self.trees,
            growing=training.growing(self.sizes, self._grown, self.widest.slots),
        )  # fmt: skip

    def train_s(self) -> float:
        lengths = [self.seconds(candidate) for candidate in self.chosen for _ in range(self.sizes.folds)]
        busy = training.makespan(lengths, self.placed.slots)
        terms = training.train_terms(self.sizes, len(self.chosen), self.placed.processes, self.trees)
        overhead = self.known.time["train"](terms) * self.known.factors.get("train", 1.0)
        together = sum(self.members(candidate) > 1 for candidate in self.chosen) * self.sizes.folds
        return busy + overhead + (gangs.starting_s(self.budget.engine, together) if together else 0.0)

    def train_spread(self) -> float:
        """Of the fits' law and of the rounds, which matter where trees take most of the time."""
        trees = [c for c in self.chosen if c.family in training.GROWN]
        if not trees:
            return self.known.time["linear"].spread
        law = self.known.time[self.terms(trees[0])[0]].spread
        return math.hypot(law / math.sqrt(len(trees)), self.known.rounds_spread)


def _stage(name: str, fits: _Fits) -> Stage:
    sizes, known = fits.sizes, fits.known
    if name == "select" and not fits.budget.select:
        return Stage(name=name, time_s=Range(0.0, 0.0, 0.0), memory_bytes=Range(0.0, 0.0, 0.0))
    memory = known.memory["profile" if name == "open" else name]
    megabytes = memory(fits.memory_terms(name))
    peak = 1e6 * megabytes * math.exp(MEMORY_SURE * memory.spread)
    if name == "train":
        peak = max(peak, 1e6 * stages.PROCESS_MB + fits.networks_bytes)
        time_s = Range.around(fits.train_s(), fits.train_spread())
    else:
        law = known.time[name]
        seconds = law(fits.stage_terms(name)) * known.factors.get(name, 1.0)
        if name == "encode":  # no faster than the rows are written
            seconds = max(seconds, stages.disk_bytes(sizes)["rows"] / known.write_bytes_s)
        time_s = Range.around(seconds, law.spread)
    return Stage(name=name, time_s=time_s, memory_bytes=Range.around(peak, memory.spread))


def _total(parts: Sequence[Range]) -> Range:
    """Sum of parts whose errors do not depend on each other."""
    value = sum(part.value for part in parts)
    below = math.sqrt(sum((part.value - part.low) ** 2 for part in parts))
    above = math.sqrt(sum((part.high - part.value) ** 2 for part in parts))
    return Range(max(0.0, value - below), value, value + above)


def _cut(time_s: Range, budget: Budget) -> Range:
    """Under a ceiling in time: without --trials the search uses all of it, with --trials it may end before."""
    assert budget.time_s is not None
    limit = max(budget.time_s - STOP_S, budget.time_s / 2)
    if budget.trials is None:
        return Range(limit, limit, budget.time_s)
    return Range(*(min(each, limit) for each in (time_s.low, time_s.value, time_s.high)))


def _told_gang(fits: _Fits) -> list[str]:
    """How many work together, and what each of them has to have."""
    if not fits.member_bytes:
        return []
    return [f"{fits.choice.text} Each of them needs about {format_size(fits.member_bytes)} of memory for it."]


def placement(sizes: Sizes, budget: Budget) -> tuple[training.Placement, gangs.Choice]:
    """Where models are fitted, and by how many workers each: one model at a time where several fit it.

    Raises `ConfigError` where a network cannot lie in parts on so many workers.
    """
    workers = budget.workers or budget.cpus
    each = budget.memory_bytes // workers if budget.engine == "local" else budget.worker_bytes or budget.memory_bytes
    choice = gangs.choose_parallel(
        budget.parallel, engine=budget.engine, workers=workers, rows=sizes.train_rows, families=budget.families,
        networks=gangs.Networks(shapes=budget.shapes, worker_bytes=each),
    )  # fmt: skip
    if choice.size > 1:
        threads = max(1, budget.cpus // choice.size) if budget.engine == "local" else 1
        return training.Placement(slots=1, processes=choice.size, threads=threads), choice
    cpus = budget.cpus if budget.engine == "local" else budget.workers or budget.cpus  # a worker elsewhere has its own
    placed = training.place(
        sizes, workers=budget.workers, cpus=cpus, ceiling_bytes=budget.ceiling_bytes, time_s=budget.time_s
    )
    return placed, choice


def _told_beyond(fits: _Fits) -> list[str]:
    """What is an extrapolation."""
    over = {name: fits.known.time[name].beyond(fits.stage_terms(name)) for name in stages.STAGES if name != "train"}
    for candidate in fits.chosen:
        law, terms = fits.terms(candidate)
        over[f"train ({law.replace('_', ' ')})"] = fits.known.time[law].beyond(terms)
    found = [f"{name} {times:.0f} times" for name, times in sorted(over.items()) if times > 1.0]
    told = [f"Beyond what was measured: {', '.join(found)} the largest that was."] if found else []
    if fits.workers > fits.known.measured_workers:
        most = fits.known.measured_workers
        told.append(f"Beyond what was measured: {fits.workers} workers; at most {most} were measured.")
    return told


def _told_skew(sizes: Sizes) -> list[str]:
    times = sizes.largest * sizes.partitions
    if sizes.partitions < 2 or times < SKEWED:
        return []
    what = f"The largest partition has {times:.1f} times the mean ({sizes.largest:.0%} of the bytes)"
    return [f"{what}: cannot tell how well passes share the work, because one worker reads it alone."]


def _told_width(time_s: Range) -> list[str]:
    if time_s.high <= TOO_WIDE * max(time_s.low, 1e-9):
        return []
    return ["Cannot tell the time, but for its order of magnitude, because the number of boosting rounds is not known."]


def row_share(sizes: Sizes, budget: Budget) -> float:
    """The share of the training rows on which the first rung of the ladder trains; 0.0 where nothing can be trained.

    The ceiling less the processes is shared by the models that are fitted at a time, as in `train.ladder`.
    """
    placed, _ = placement(sizes, budget)
    room = (SAFETY * budget.memory_bytes - MAIN_BYTES - placed.processes * PROCESS_BYTES) / placed.slots
    fixed = trees_bytes(0, sizes.seen, sizes.outputs, valid_rows=sizes.valid_rows)
    per_row = trees_bytes(1, sizes.seen, sizes.outputs) - trees_bytes(0, sizes.seen, sizes.outputs)
    room -= growing_bytes(room, sizes.outputs, held_rounds(budget.held))
    share = min(1.0, (room - fixed) / max(1, sizes.train_rows * per_row))
    return share if share * sizes.train_rows >= min(sizes.train_rows, LEAST_ROWS) else 0.0


def least_memory_bytes(sizes: Sizes, budget: Budget) -> int:
    """The least ceiling under which something can be trained, one model at a time."""
    workers = budget.workers if Parallel.parse(budget.parallel).splits else 1
    placed, _ = placement(sizes, replace(budget, workers=workers, memory_bytes=1, confined=True))
    rows = min(sizes.train_rows, LEAST_ROWS)
    fixed = trees_bytes(rows, sizes.seen, sizes.outputs, valid_rows=sizes.valid_rows)
    fits = fixed + growing_bytes(5 / 4 * fixed, sizes.outputs, held_rounds(budget.held))
    return round((MAIN_BYTES + placed.processes * PROCESS_BYTES + placed.slots * fits) / SAFETY)


def under_ceiling(sizes: Sizes, budget: Budget, known: Knowledge) -> tuple[Forecast, float]:
    """The forecast of what will happen under the ceiling on memory, and the share of rows that is trained on.

    Where the estimate is above the ceiling though the ladder would take all rows, the ladder's third rung is expected.
    """
    share = row_share(sizes, budget)
    whole = forecast(sizes, budget, known)
    above = whole.memory_bytes.value > budget.memory_bytes
    if share >= 1.0 and not above:
        return whole, 1.0
    share = CLOSE_SHARE if share >= 1.0 and budget.confined else share
    found = forecast(replace(sizes, train_rows=round(sizes.train_rows * share)), budget, known)
    held = Range(*(min(each, budget.memory_bytes) for each in found.memory_bytes))
    return replace(found, memory_bytes=held), share
