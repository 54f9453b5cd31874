"""One candidate on one fold: fit, predict the validation rows, score, keep the model."""

import json
import math
import shutil
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.compute.ceiling import cpu_quota
from shardwise.core.candidate import Candidate
from shardwise.core.errors import CeilingReached, Interrupted, Pruned, ShardwiseError, context
from shardwise.core.schema import Feature
from shardwise.core.seeds import derive_seed
from shardwise.core.target import Target
from shardwise.data.rows import BinnedRows, DiskRows
from shardwise.data.rows_soft import SoftRows
from shardwise.models.base import FitRun, Model, Rows
from shardwise.models.families import FAMILIES, NETWORKS, build, save_model
from shardwise.models.guard import Guard
from shardwise.models.neural.model import prepare_torch
from shardwise.models.rungs import leg_end
from shardwise.models.trees_data import DATASETS
from shardwise.split.base import Fold
from shardwise.stats.metrics import METRICS, loss_of
from shardwise.store.files import remove_folder
from shardwise.train.beacon import beacon_in
from shardwise.train.ladder import Rung
from shardwise.train.parallel import Job, SharedFits
from shardwise.train.passes import BINS, FLOATS
from shardwise.train.result import FoldResult
from shardwise.train.validation import validation_rows
from shardwise.train.watch import Watch

PREDICT_S = 6e-8  # seconds that one tree takes for one row, rather too many than too few
LEAF_S = 6e-6  # seconds that a leaf takes once the trees are learned: written, read again, packed
MORE_TIME = 1.5  # than it had, for a network that planned by its time to be trained again
TESTED_ROWS = 50_000  # for so many rows of the sealed test there is time at the end of a run
_NOT_THE_CANDIDATES = (
    CeilingReached,
    Interrupted,
    MemoryError,
    OSError,
    pa.ArrowException,
)  # errors that are no trial's
_RESULT = "result.json"
_REST = "rest"  # in the folder of a leg's model: what the next leg goes on from


@dataclass(frozen=True, kw_only=True)
class Leg:
    """Part `number`, from 0, of a training that is cut into `of` equal ones."""

    number: int
    of: int


@dataclass(frozen=True, kw_only=True)
class FitUnit:
    """A candidate and the fold on which it is evaluated; small and picklable.

    `deadline` is on the machine's monotonic clock; on another machine the time that is left counts from the arrival; a
    fit takes `most_s` seconds at most. On a low rung of a search training rests after `rounds`. All rungs of a trial
    have the `lineage` in common, under which its checkpoint is found; there are `since` rounds in it already. Or it is
    trained on a `share` of the partitions. Or a `leg` of the training is gone, from where the unit with the key `after`
    rests, which stays as it was.
    What a library raises on a candidate is a result and no error, but for the baseline, trial 0; where `forgiving`,
    what we raise is, too. `teacher`: the folder of an ensemble's answers (`data.rows_soft`) that are learned in the
    place of labels. Of a `fold` without validation rows the loss is NaN.
    """

    trial: int
    candidate: Candidate
    number: int
    fold: Fold
    rows: Path
    key: str
    rung: Rung = field(default=Rung(number=0, share=1.0))
    deadline: float = float("inf")
    most_s: float = float("inf")
    rounds: int | None = None
    lineage: str = ""
    since: int = 0
    share: float = 1.0
    leg: Leg | None = None
    after: str = ""
    forgiving: bool = False
    teacher: Path | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "sent": (_boot(), time.monotonic())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        boot, sent_s = state.pop("sent")
        if boot != _boot():
            state["deadline"] += time.monotonic() - sent_s
        self.__dict__.update(state)


def learned_share(unit: FitUnit, share: float) -> float:
    """Of the rows, of a fit on a rung with such a share: families that read rows as floats leave none out."""
    return share if FAMILIES[unit.candidate.family].traits.reads == BINS else 1.0


def outgrown(unit: FitUnit, share: float) -> bool:
    """Whether a fit on such a share of the rows was made with less memory than there is now."""
    return learned_share(unit, share) < learned_share(unit, unit.rung.share)


def _of_rows(unit: FitUnit) -> str:
    """In the name of a checkpoint: what was learned from fewer rows is not gone on from."""
    share = learned_share(unit, unit.rung.share)
    return "" if share == 1.0 else f"-{share:g}"


def _had_time(unit: FitUnit, earlier: FoldResult) -> bool:
    """Whether a network, which plans by its time, had about as much when it was trained before."""
    if unit.candidate.family not in NETWORKS or math.isinf(unit.most_s):
        return False
    return min(unit.most_s, unit.deadline - time.monotonic()) < MORE_TIME * earlier.seconds


@cache
def _boot() -> str:
    """The machine since its start: whose monotonic clock it is."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text() if path.exists() else socket.gethostname()


@dataclass(frozen=True, kw_only=True)
class FitTask:
    """Fits units; once the file `stop` exists, training ends with what it has. It tells in the folder `beacons` what it
    does, and in the process of those who watch it has them `look` there."""

    models: Path
    features: tuple[Feature, ...]
    target: Target
    metric: str
    seed: int
    threads: int
    memory_bytes: int
    test_rows: int = 0
    stop: Path | None = None
    device: str = "auto"
    slices: int = 1
    beacons: Path | None = None
    look: Callable[[], None] | None = None  # such a task stays in this process
    shared: SharedFits | None = None  # where models are fitted by several workers; such a task stays in this process

    def __call__(self, unit: FitUnit) -> Mapping[str, Any]:
        with context(stage="train", trial=unit.trial, candidate=str(unit.candidate), fold=unit.number):
            earlier = self._earlier(unit)
            if earlier is not None and outgrown(unit, earlier.share):
                if self._is_late(unit):
                    return earlier.to_json()
            elif earlier is not None and (not earlier.cut or _had_time(unit, earlier)):
                return earlier.to_json()  # who did it was killed before that was journalled
            if (unit.trial > 1 or unit.since) and time.monotonic() > unit.deadline:
                return (earlier or _not_begun(unit)).to_json()
            try:
                with self._told(unit):
                    return self._fit(unit, earlier).to_json()
            except Exception as error:
                if unit.trial == 0 or isinstance(error, _NOT_THE_CANDIDATES):
                    raise
                if isinstance(error, ShardwiseError) and not unit.forgiving:
                    raise
                return failed_fit(unit, error).to_json()

    def _is_late(self, unit: FitUnit) -> bool:
        """Whether there is no time to train it anew, or the user wants no more of it."""
        return time.monotonic() > unit.deadline or (self.stop is not None and self.stop.exists())

    def _told(self, unit: FitUnit) -> AbstractContextManager[None]:
        """Those who watch are told of the fit inside."""
        if self.beacons is None:
            return nullcontext()
        return beacon_in(self.beacons).fitting(unit.trial, unit.number, unit.key)

    def _saw(self, rows: int) -> None:
        if self.beacons is not None:
            beacon_in(self.beacons).saw(rows)

    def _reported(self, watch: Watch, step: int, score: float) -> bool:
        if self.beacons is not None:
            beacon_in(self.beacons).reported(step, score)
        if self.look is not None:
            self.look()
        return watch.report(step, score)

    def _earlier(self, unit: FitUnit) -> FoldResult | None:
        """What the unit came to before it was cut, in a run that is now gone on with."""
        return left_by(self.models, unit.key)

    def _fit(self, unit: FitUnit, earlier: FoldResult | None) -> FoldResult:
        started = time.perf_counter()
        valid = validation_rows(unit.rows, self.features, unit.fold.valid, self.target, self.metric)
        rows = self._rows(unit, FAMILIES[unit.candidate.family].traits.reads, valid)
        unit = _placed(unit, rows[0].n_rows)
        self._take_up(unit)
        if unit.candidate.family in NETWORKS:
            prepare_torch()  # before its time begins
        watch = Watch(
            deadline=min(unit.deadline, time.monotonic() + unit.most_s), stop=self.stop, rounds=unit.rounds,
            step_s=self._step_s(unit, valid.n_rows), works_here=self.shared is None,
        )  # fmt: skip
        notes: list[str] = []
        model, pruned = self._learned(unit, rows, self._run(unit, watch, notes))
        watch.cut = watch.cut or watch.hurried or pruned
        fitted = time.perf_counter()
        prediction = predict_rows(model, valid)
        predict_s = time.perf_counter() - fitted
        y, weight = valid.target(), valid.weight()
        start = Guard.of(self.target, y, weight, worse_rounds=None).start
        anomalies = watch.anomalies(start, rows[0].n_rows, self.memory_bytes)
        result = FoldResult(
            trial=unit.trial, fold=unit.number, loss=self._loss(y, prediction, weight),
            seconds=round(time.perf_counter() - started, 3), predict_s=round(predict_s, 4),
            rounds=int(getattr(model, "rounds", 0)) or watch.best_step, valid_rows=valid.n_rows, cut=watch.cut,
            folder=unit.key, curve=watch.thinned(), importance=_top(model.importance()), share=unit.rung.share,
            notes=tuple(notes), anomalies=anomalies, rests=watch.rests or unit.share < 1.0,
            steps=max(0, len(watch.points) - unit.since),
        )  # fmt: skip
        if earlier is not None and result.cut and earlier.loss <= result.loss:
            return earlier  # there was more time for it then
        self._keep(unit, model, prediction, result)
        return result

    def _loss(self, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> float:
        """NaN where the labels leave the metric without a value, whatever the candidate: no row, or one class alone."""
        quantile = self.target.quantile
        value = METRICS[self.metric].compute(y, prediction, weight, quantile=quantile)
        if np.isnan(value) and np.isfinite(prediction).all():
            return value
        return loss_of(self.metric, value)

    def _run(self, unit: FitUnit, watch: Watch, notes: list[str]) -> FitRun:
        return FitRun(
            seed=derive_seed(self.seed, "fit", unit.trial, unit.number), threads=min(self.threads, cpu_quota()),
            left_s=watch.left_s, hurried=watch.hurry, report=partial(self._reported, watch), go_on=watch.go_on,
            memory_bytes=self.memory_bytes, model_bytes=unit.rung.model_bytes,
            note=notes.append, notice=watch.noticed.append, saw=self._saw, checkpoint=self._checkpoint(unit),
            device=self.device, rests_at=unit.rounds, slices=self.slices,
        )  # fmt: skip

    def _checkpoint(self, unit: FitUnit) -> Path:
        return self.models / f".{unit.lineage or unit.key}{_of_rows(unit)}.part"

    def _rest(self, unit: FitUnit) -> Path:
        return self.models / f".{unit.lineage}{_of_rows(unit)}.rest"

    def _take_up(self, unit: FitUnit) -> None:
        """A leg goes on with a copy of where the one before it rests, unless it was begun already.

        A fit removes its checkpoint at its end. What a promoted trial goes on from is kept until its model lies there:
        without it a fit that was killed in between would go on from the start, and draw otherwise.
        """
        checkpoint = self._checkpoint(unit)
        if unit.lineage:
            here, there = (checkpoint, self._rest(unit)) if checkpoint.exists() else (self._rest(unit), checkpoint)
            if here.exists():
                self._copy(unit, here, there)
        if unit.after and not checkpoint.exists():
            self._copy(unit, self.models / unit.after / _REST, checkpoint)

    def _copy(self, unit: FitUnit, source: Path, target: Path) -> None:
        """Of a folder, in the place of what stands there."""
        copy = self.models / f".{unit.key}.copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
        shutil.rmtree(target, ignore_errors=True)
        copy.rename(target)

    def _step_s(self, unit: FitUnit, valid_rows: int) -> float:
        """Seconds that a step of the fit adds to what comes after it: to predict, to write, to test and to pack."""
        rows = valid_rows + min(self.test_rows, TESTED_ROWS)
        leaves: int = self._params(unit).get("num_leaves", 0)
        return self.target.outputs * (PREDICT_S * rows / self.threads + LEAF_S * leaves)

    def _params(self, unit: FitUnit) -> Mapping[str, Any]:
        params = unit.candidate.params
        reads = FAMILIES[unit.candidate.family].traits.reads
        return unit.rung.held_down(params) if reads == BINS else params

    def _learned(self, unit: FitUnit, rows: tuple[DiskRows, DiskRows], run: FitRun) -> tuple[Model, bool]:
        """The fitted model, and whether the trial was ended early."""
        self._free(unit)
        params = self._params(unit)
        model = build(unit.candidate.family, self.target, self.features, params)
        if self.shared is not None:
            return self.shared.fit(self._job(unit, params, rows, run), run)
        try:
            model.fit(*rows, run)
        except Pruned:
            return model, True
        return model, False

    def _job(self, unit: FitUnit, params: Mapping[str, Any], rows: tuple[DiskRows, DiskRows], run: FitRun) -> Job:
        assert self.shared is not None
        family = unit.candidate.family
        size = self.shared.size_for(family, params, self.target, rows[0].n_rows)
        threads, memory_bytes = self.shared.room.of_each(size)
        return Job(
            family=family, params=params, target=self.target, features=self.features, train=rows[0], valid=rows[1],
            seed=run.seed, threads=threads, memory_bytes=memory_bytes,
            model_bytes=run.model_bytes // size,  # each member has all trees
            slices=self.slices, checkpoint=run.checkpoint, rests_at=run.rests_at, device=self.device,
            out=self.models / f".{unit.key}.gang", split=self.shared.choice.split if size > 1 else None,
        )  # fmt: skip

    def _free(self, unit: FitUnit) -> None:
        """On a low rung what is kept for the next candidate goes."""
        if unit.rung.lean:
            DATASETS.free()

    def _rows(self, unit: FitUnit, reads: str, valid: DiskRows) -> tuple[DiskRows, DiskRows]:
        """Training and validation rows of the kind that a model family reads."""
        if reads == BINS:
            train, binned = (BinnedRows(unit.rows / BINS, self.features, f) for f in (unit.fold.train, unit.fold.valid))
            train = train.of_partitions(unit.share, derive_seed(self.seed, "partitions")).sampled(unit.rung.share)
            return train if unit.teacher is None else SoftRows(train, unit.teacher), binned.limited(valid.limit)
        return DiskRows(unit.rows / FLOATS, self.features, unit.fold.train), valid

    def _keep(self, unit: FitUnit, model: Model, prediction: np.ndarray, result: FoldResult) -> None:
        """Leave the model and its out-of-fold predictions in a folder that appears as a whole."""
        temp = self.models / f".{unit.key}"
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir(parents=True)
        save_model(unit.candidate.family, model, temp / "model")
        np.save(temp / "valid.npy", prediction)
        (temp / _RESULT).write_text(json.dumps(result.to_json()), encoding="utf8")
        if unit.leg is not None and unit.rounds is not None and not result.cut:
            self._checkpoint(unit).rename(temp / _REST)
        remove_folder(self.models / unit.key)
        temp.rename(self.models / unit.key)
        if unit.lineage and not self._checkpoint(unit).exists():
            shutil.rmtree(self._rest(unit), ignore_errors=True)


def _placed(unit: FitUnit, rows: int) -> FitUnit:
    """A leg with the rounds where it begins and ends, when it learns from so many rows; the last one has no end."""
    if unit.leg is None:
        return unit
    number, of = unit.leg.number, unit.leg.of
    end = leg_end(unit.candidate, rows, number, of) if number < of - 1 else None
    return replace(unit, since=leg_end(unit.candidate, rows, number - 1, of), rounds=end)


def left_by(models: Path, key: str) -> FoldResult | None:
    """What a unit left in its folder, whole or cut; None where it did not come to a model."""
    path = models / key / _RESULT
    return FoldResult.from_json(json.loads(path.read_text(encoding="utf8"))) if path.exists() else None


def drop_rest(folder: Path) -> None:
    """Of the unit of a leg: no other one will go on from it."""
    shutil.rmtree(folder / _REST, ignore_errors=True)


def _not_begun(unit: FitUnit) -> FoldResult:
    return FoldResult(trial=unit.trial, fold=unit.number, loss=float("nan"), seconds=0.0, cut=True)


def failed_fit(unit: FitUnit, error: Exception) -> FoldResult:
    """The result of a unit that has no model; of an error that is not ours it is told where it came from, too."""
    if isinstance(error, ShardwiseError):
        why = f"{type(error).__name__}: {error.message}"
    else:
        place = traceback.extract_tb(error.__traceback__)[-1]
        message = str(error).strip().partition("\n")[0]
        why = f"{type(error).__name__}: {message} ({Path(place.filename).name}, line {place.lineno})"
    return FoldResult(trial=unit.trial, fold=unit.number, loss=float("nan"), seconds=0.0, failed=why)


def predict_rows(model: Model, rows: Rows) -> np.ndarray:
    """Predictions for all rows, in their order: float64 `(rows, classes)` or `(rows,)`."""
    parts = [model.predict(chunk.X) for chunk in rows.chunks()]
    return np.concatenate(parts) if parts else np.empty(0)


def _top(importance: Mapping[str, float], limit: int = 100) -> dict[str, float]:
    ranked = sorted(importance.items(), key=lambda item: (-item[1], item[0]))
    return {name: float(share) for name, share in ranked[:limit] if share > 0}
