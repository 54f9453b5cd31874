"""What can go wrong while a model is trained, seen in the numbers that a fit tells: pure detectors, a history in, an
anomaly or None out. Whoever asks decides what is done about it.

| kind         | what is looked at                          | seen when                                               |
|--------------|--------------------------------------------|---------------------------------------------------------|
| not_finite   | validation losses                          | the last one is NaN or infinite                         |
| diverged     | validation losses, the constant's loss     | far above the constant's, or a few rounds surely above  |
| plateau      | validation losses of a whole fit           | nothing learned, or hardly anything in the second half  |
| slow_down    | seconds and seconds of CPU of each step    | the last steps took several times as long as before     |
| memory_creep | memory at the end of steps                 | it grows all the while, and does not level off          |
| straggler    | what workers did since the last look       | most of the others wait for one of them half the time   |
|              | fits of the same trial on several workers  | one takes twice the others' time for a row              |

Losses depend on rows, params and seed alone, so that training may be changed by the first two. What rests on a clock or
on memory is only told. Thresholds are chosen by numbers: docs/decisions/0028-watching-training.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any, Self

import numpy as np

from shardwise.core.events import WorkerView
from shardwise.core.units import format_size

NOT_FINITE, DIVERGED, PLATEAU = "not_finite", "diverged", "plateau"
SLOW_DOWN, MEMORY_CREEP, STRAGGLER = "slow_down", "memory_creep", "straggler"

EXPLODED = 1.0  # above the constant's loss (of additive learners: the first loss), in units of it: once is enough
WORSE, WORSE_ROUNDS = 0.02, 3  # by so much above it in so many rounds in a row
NO_BETTER = -0.005  # after training began again
FLAT_STEPS, FLAT_SHARE = 20, 0.001  # steps that a fit has at least; of the whole fall of the loss
VAIN_STEPS = 5  # from which on it counts that none of them was better than a constant
SLOWER, SLOWER_S = 3.0, 5.0  # times as long a step; seconds that this has cost
CREEP_SAMPLES, CREEP_BYTES, CREEP_SHARE = 16, 2**26, 0.2  # growth that counts, in bytes and of what was used
WAITED_SHARE = 0.5  # of their time, from which others wait for a straggler
STRAGGLES = 5  # looks in a row
SLOW_FITS, SLOW_FITS_S = 2.0, 5.0  # times as long for like work, and seconds that this has cost


@dataclass(frozen=True, kw_only=True)
class Anomaly:
    """Something that went wrong in training: when (`step` of the reports, from 1), the numbers, and what was done."""

    kind: str
    step: int
    text: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    action: str = "Training went on."

    def __str__(self) -> str:
        return f"{self.text} {self.action}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "evidence": dict(self.evidence)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(**content)


def divergence(
    losses: Sequence[float], start: float, unit: float = 0.0, *, error: float = 0.0, learned: float = 0.0,
    worse_rounds: int | None = WORSE_ROUNDS, since: int = 0,
) -> Anomaly | None:  # fmt: skip
    """Judges the last of the losses (lower is better, above 0); `start` is that of the best constant, `error` its
    standard error: a few rounds that are worse by less are chance, as where few rows carry the loss.

    Distances are counted in `start`, or in `unit` where that is more: a nat for classes, of which one may be so rare
    that the constant's loss is next to nothing. Where both are 0 nothing can be said of finite losses. Rows that are
    judged may be all alike, and those that are `learned` from not: where the constant's loss is more on these, what is
    above counts in that. Where `worse_rounds` is None only a loss that has exploded counts, beside the first one where
    that is larger: for learners that add to what they have, may overfit at first, and may begin elsewhere than at the
    constant. Training began again after `since`; from then on it counts too when no round is better than the constant.
    """
    step, last = len(losses), losses[-1]
    if not math.isfinite(last):
        text = f"The validation loss of step {step} is not finite."
        return Anomaly(kind=NOT_FINITE, step=step, text=text, evidence={"constant": start})
    if not max(start, unit) > 0:
        return None
    base = start if worse_rounds is not None else max(start, losses[0])
    scale = max(base, unit, learned)
    recent = losses[max(since, step - (worse_rounds or 1)) :]
    least = NO_BETTER * max(start, unit) if since else max(WORSE * scale, error)
    steady = len(recent) == worse_rounds and min(recent) - start > least
    if last - base <= EXPLODED * scale and not steady:
        return None
    best = min(losses)
    against = f"that of a constant {start:.4g}" if base == start else f"that of the first one {base:.4g}"
    text = f"The validation loss of step {step} is {last:.4g}, {against}."
    evidence = {"loss": last, "constant": start, "best": best, "best_step": float(losses.index(best) + 1)}
    evidence |= {"error": error} if error else {}
    return Anomaly(kind=DIVERGED, step=step, text=text, evidence=evidence)


def plateau(losses: Sequence[float], start: float) -> Anomaly | None:
    """Of a whole fit: whether nothing was learned, or hardly anything in the second half of the steps up to the best
    one. What comes after the best step is the wait for a better one, and does not count."""
    if len(losses) < VAIN_STEPS or not all(map(math.isfinite, losses)):
        return None
    best = np.minimum.accumulate(np.array(losses))
    last = int(np.argmin(best))
    evidence = {"best": float(best[-1]), "steps": float(len(losses)), "constant": start}
    if best[-1] >= start > 0:
        text = f"No step of {len(losses)} is better than a constant: {best[-1]:.4g} against {start:.4g}."
        return Anomaly(kind=PLATEAU, step=len(losses), text=text, evidence=evidence)
    flat = FLAT_SHARE * (max(start, losses[0]) - float(best[-1]))
    if last < FLAT_STEPS or best[last // 2] - best[-1] > flat:
        return None
    since = int(np.argmax(best <= best[-1] + flat)) + 1
    text = f"From step {since} to {last + 1} the validation loss fell by less than {FLAT_SHARE:.1%} of its whole fall."
    return Anomaly(kind=PLATEAU, step=last + 1, text=text, evidence=evidence | {"since": float(since)})


def slow_down(seconds: Sequence[float], busy: Sequence[float], rows: int = 0) -> Anomaly | None:
    """Whether the last quarter of the steps (3 to 20 of them) took several times as long as those before.

    `seconds` and `busy` are those of each step, on the clock and of CPU; a step goes through `rows` rows. Medians: a
    single pause is no slow-down.
    """
    recent = min(20, max(3, len(seconds) // 4))
    if len(seconds) < 3 * recent:
        return None
    before, now = (float(np.median(part)) for part in (seconds[:-recent], seconds[-recent:]))
    if now < SLOWER * before or recent * (now - before) < SLOWER_S:
        return None
    share, usual = (sum(b) / max(sum(s), 1e-9) for b, s in ((busy[-recent:], seconds[-recent:]),
                                                            (busy[:-recent], seconds[:-recent])))  # fmt: skip
    why = " The process waits for others on the machine." if share < 0.5 * usual else ""
    text = f"A step took {now:.2g} s at last, {before:.2g} s before.{why}"
    evidence = {"seconds": now, "seconds_before": before, "cpu_share": share, "cpu_share_before": usual}
    if rows:
        evidence |= {"rows_s": rows / max(now, 1e-9), "rows_s_before": rows / max(before, 1e-9)}
    return Anomaly(kind=SLOW_DOWN, step=len(seconds), text=text, evidence=evidence)


def memory_creep(steps: Sequence[int], used: Sequence[int], limit_bytes: int = 2**62) -> Anomaly | None:
    """Whether memory grows all the while: in each of four equal parts of the last three quarters of the samples.

    `used` are bytes at the end of `steps`. The first quarter does not count: there the data is read.
    """
    if len(used) < CREEP_SAMPLES:
        return None
    parts = np.array_split(np.asarray(used, dtype=np.float64)[len(used) // 4 :], 4)
    levels = np.array([np.quantile(part, 0.1) for part in parts])  # what stays when garbage is collected
    rises, wavers = np.diff(levels), float(np.median([np.ptp(part) for part in parts]))
    grown = float(levels[-1] - levels[0])
    if grown < max(CREEP_BYTES, CREEP_SHARE * levels[0], wavers):
        return None
    if rises.min() <= 0 or rises[-1] < 0.5 * rises.mean():
        return None
    span = 0.75 * max(1, steps[-1] - steps[len(used) // 4])  # between the middles of the first and the last part
    per_step = grown / span
    left = (limit_bytes - used[-1]) / per_step
    soon = f" The ceiling is {left:,.0f} steps away." if limit_bytes < 2**62 else ""
    text = f"Memory grows with each step, by {format_size(per_step)}, and is at {format_size(used[-1])}.{soon}"
    evidence = {"bytes": float(used[-1]), "bytes_before": float(levels[0]), "bytes_per_step": per_step}
    return Anomaly(kind=MEMORY_CREEP, step=steps[-1], text=text, evidence=evidence)


def waited_for(workers: Sequence[WorkerView], share: float) -> int | None:
    """The rank of the worker that others wait for: it waits least itself. None where the others do not wait for long,
    in the median: one of them alone waits because it is quick, or has little to do."""
    ranked = sorted(workers, key=lambda worker: (waited_share(worker), worker.rank))
    return ranked[0].rank if len(ranked) > 1 and _usual_wait(ranked[1:]) >= share else None


def _usual_wait(workers: Sequence[WorkerView]) -> float:
    return median(map(waited_share, workers))


def waited_share(worker: WorkerView) -> float:
    """Of its time."""
    return worker.wait_s / max(1e-9, worker.work_s + worker.talk_s + worker.wait_s)


def straggler(looks: Sequence[Sequence[WorkerView]], step: int = 0) -> Anomaly | None:
    """Whether the same worker was waited for, or silent, between all of the last looks (workers in order of rank)."""
    if len(looks) <= STRAGGLES or len({len(look) for look in looks[-STRAGGLES - 1 :]}) > 1:
        return None
    recent = looks[-STRAGGLES - 1 :]
    spans = [[_since(a, b) for a, b in zip(*pair, strict=True)] for pair in pairwise(recent)]
    slow = {_slowest(span) for span in spans}
    rank = slow.pop()
    if rank is None or slow:
        return None
    whole = [_since(a, b) for a, b in zip(recent[0], recent[-1], strict=True)]
    others = [worker for worker in whole if worker.rank != rank]
    waited = _usual_wait(others)
    name = f"Worker {rank} ({recent[-1][rank].place})"
    text = f"{name} is slower than the others, which wait {waited:.0%} of their time."
    if not _told(whole[rank]):
        text = f"{name} says nothing any more."
    evidence = {
        "worker": float(rank), "others_wait": waited, "rows": float(whole[rank].rows),
        "others_rows": float(np.mean([worker.rows for worker in others])),
    }  # fmt: skip
    return Anomaly(kind=STRAGGLER, step=step, text=text, evidence=evidence)


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What a worker did of some work: `like` is the same for work of the same kind, done or under way."""

    worker: int
    like: int
    rows: int
    seconds: float


def lost_seconds(paces: Sequence[Pace]) -> dict[int, tuple[float, float]]:
    """(seconds, those that the others would have taken for it) by worker, of work the like of which others did too.

    The others' pace is the median of theirs; work without rows so far tells none.
    """
    found: dict[int, tuple[float, float]] = {}
    for like in sorted({pace.like for pace in paces}):
        sums: dict[int, tuple[int, float]] = {}
        for pace in (pace for pace in paces if pace.like == like):
            rows, seconds = sums.get(pace.worker, (0, 0.0))
            sums[pace.worker] = rows + pace.rows, seconds + pace.seconds
        for worker, (rows, seconds) in sums.items():
            others = [n / s for other, (n, s) in sums.items() if other != worker and n and s > 0]
            if others:
                spent_s, wanted_s = found.get(worker, (0.0, 0.0))
                found[worker] = spent_s + seconds, wanted_s + rows / float(np.median(others))
    return found


def slow_workers(paces: Sequence[Pace]) -> dict[int, float]:
    """Those that take `SLOW_FITS` times as long as others for like work, or more, and by how many times, where that has
    cost `SLOW_FITS_S`: what rests on the clock has to be plain."""
    return {
        worker: spent_s / max(wanted_s, 1e-9)
        for worker, (spent_s, wanted_s) in lost_seconds(paces).items()
        if spent_s >= SLOW_FITS * wanted_s and spent_s - wanted_s >= SLOW_FITS_S
    }


def _slowest(span: Sequence[WorkerView]) -> int | None:
    """The worker that said nothing while the others did, else the one that they wait for."""
    silent = [worker.rank for worker in span if not _told(worker)]
    return silent[0] if len(silent) == 1 < len(span) else waited_for(span, WAITED_SHARE)


def _told(worker: WorkerView) -> bool:
    return worker.work_s + worker.talk_s + worker.wait_s > 0


def _since(before: WorkerView, now: WorkerView) -> WorkerView:
    return WorkerView(
        rank=now.rank, place=now.place, rows=now.rows - before.rows, work_s=now.work_s - before.work_s,
        talk_s=now.talk_s - before.talk_s, wait_s=now.wait_s - before.wait_s, rows_s=now.rows_s,
    )  # fmt: skip
