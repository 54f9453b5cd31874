"""Where and how models are fitted: side by side or one at a time, in this process or a confined one, on which rung."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from shardwise.compute.base import Executor, NotYet
from shardwise.compute.ceiling import cpu_quota
from shardwise.compute.engines import Asked
from shardwise.compute.gang.engines import make_gang
from shardwise.core.errors import OverBudget, ShardwiseError, WorkerLost
from shardwise.core.events import Working
from shardwise.core.findings import Finding
from shardwise.core.units import format_size
from shardwise.data.rows import BinnedRows
from shardwise.models.families import FAMILIES
from shardwise.plan.gangs import SLICES, Choice, Networks, choose_parallel, network_shapes
from shardwise.plan.memory import MAIN_BYTES, PASS_BYTES, held_rounds, trees_bytes
from shardwise.plan.training import LARGE_ROWS, fit_threads, side_by_side
from shardwise.split.base import TEST
from shardwise.stats.anomalies import PLATEAU, STRAGGLER
from shardwise.train.beside import Beside
from shardwise.train.ladder import Ladder, make_ladder
from shardwise.train.parallel import Room, SharedFits
from shardwise.train.passes import BINS
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult
from shardwise.train.run import Run, gpu_asked
from shardwise.train.trainer import FitTask, FitUnit, failed_fit, learned_share, outgrown
from shardwise.train.units import run_units

AHEAD = 2  # fits a worker that may wait for an earlier one: a search that looks at the history waits for what it needs
NOTHING_KEPT = 1  # the last rung that gives up anything which families that read no bins have


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What decides the memory of a fit: the most rows that one evaluation trains on and validates with."""

    rows: int
    valid_rows: int
    features: int
    outputs: int

    @property
    def cells(self) -> int:
        return self.rows * self.features

    @property
    def fit_bytes(self) -> int:
        return trees_bytes(self.rows, self.features, self.outputs, valid_rows=self.valid_rows)


def _holds(lowered: Mapping[str, Any], memory_bytes: int) -> bool:
    """Whether a rung that was needed is needed with so much memory: with more it may do without."""
    return bool(memory_bytes <= lowered.get("memory_bytes", memory_bytes))


def ignored() -> None:
    """Nobody looks."""


def sizes_of(prepared: Prepared) -> Sizes:
    folds = [(_rows(prepared, fold.train), _rows(prepared, fold.valid)) for fold in prepared.splitter.folds()]
    rows, valid_rows = max(folds)
    features = BinnedRows(prepared.rows / BINS, prepared.recipe.features, ()).features
    return Sizes(rows=rows, valid_rows=valid_rows, features=len(features), outputs=prepared.target.outputs)


def _rows(prepared: Prepared, folds: tuple[int, ...]) -> int:
    return sum(prepared.fold_rows.get(fold, 0) for fold in folds)


class Fitting:
    """Fits units one after the other or side by side; goes down the ladder where memory does not suffice."""

    def __init__(self, run: Run, prepared: Prepared, metric: str) -> None:
        self._run = run
        sizes = sizes_of(prepared)
        choice = self._choose_parallel(sizes, prepared)
        self.shared = self._shared(choice) if choice.size > 1 else None
        self.executor = run.inline if self.shared is not None else self._choose_executor(sizes)
        self.ladder = self._make_ladder(sizes)
        inline = self.executor is run.inline
        self._beside = self._watched() if self.shared is None and (inline or self.executor.slots > 1) else None
        self._rung = max(
            (record["rung"] for record in run.records("rung") if _holds(record, run.memory_bytes)), default=0
        )
        self._learned = 1.0  # share of the rows: the least of those that models have learned from
        self.given_up: list[ShardwiseError] = []  # of candidates that took their workers with them, or all memory
        self._task = FitTask(
            models=run.folder / "models", features=prepared.recipe.features, target=prepared.target, metric=metric,
            seed=run.config.seed, threads=fit_threads(sizes.cells, self.executor.threads),
            memory_bytes=run.worker_bytes(), test_rows=prepared.fold_rows.get(TEST, 0),
            stop=run.stop_file, device=run.config.device,
            beacons=None if self._beside is None else self._beside.folder, look=self._beside if inline else None,
            slices=SLICES if run.config.parallel == "data" or sizes.rows >= LARGE_ROWS else 1, shared=self.shared,
        )  # fmt: skip
        for finding in self._sampled(self.ladder.rungs[self._rung].share):
            run.say(finding.text, level="warning")

    @property
    def slots(self) -> int:
        return self.executor.slots

    @property
    def findings(self) -> tuple[Finding, ...]:
        """That not all rows were trained on, where it is so."""
        return self._sampled(self._learned)

    def _sampled(self, share: float) -> tuple[Finding, ...]:
        if share >= 1.0:
            return ()
        text, hint = f"Models are trained on {share:.1%} of the rows", "Give more --memory."
        if share < self.ladder.rungs[self._rung].share:
            text, hint = f"{text}, as there was less memory: there was no time for more of them.", "Give more --time."
        else:
            text = f"{text}: all do not fit under {format_size(self._run.memory_bytes)}."
        evidence = {"share": share, "rung": self._rung}
        return (Finding(code="sampled", severity="warning", text=text, evidence=evidence, hint=hint),)

    def results(self, units: Iterator[FitUnit | NotYet]) -> Iterator[tuple[FitUnit, FoldResult]]:
        """Each unit with its result, in order; what is journalled is not fitted again."""
        ahead = AHEAD * self.slots if self.slots > 1 else 0
        on_rung = (
            unit if isinstance(unit, NotYet) else replace(unit, rung=self.ladder.rungs[self._rung]) for unit in units
        )
        work = run_units(
            self._run.ledger, self.executor, self._task, on_rung, key=lambda unit: unit.key, ahead=ahead,
            final=lambda record: not record["cut"], serves=lambda unit, record: not outgrown(unit, record["share"]),
            instead=self._lower, failed=self._gave_up, look=self._beside or ignored,
        )  # fmt: skip
        for unit, record in work:
            result = FoldResult.from_json(record)
            self._learned = min(self._learned, learned_share(unit, result.share))
            self._run.short |= self._learned < 1.0
            for text in result.notes:
                self._run.say(f"Trial {unit.trial}, fold {unit.number}: {text}", level="warning")
            for anomaly in result.anomalies:
                if anomaly.kind != STRAGGLER:  # which was told while it happened
                    level = "info" if anomaly.kind == PLATEAU else "warning"
                    self._run.say(f"Trial {unit.trial}, fold {unit.number}: {anomaly}", level=level)
            yield unit, result

    def _lower(self, unit: FitUnit, error: BaseException) -> FitUnit | None:
        """The unit on the next rung, when memory was not enough on this one; journalled and told.

        Families that read no bins do not become smaller on those below the first.
        """
        number = unit.rung.number + 1
        binned = FAMILIES[unit.candidate.family].traits.reads == BINS
        if not isinstance(error, OverBudget) or number >= (len(self.ladder.rungs) if binned else NOTHING_KEPT + 1):
            return None
        rung = self.ladder.rungs[number]
        if number > self._rung:
            self._rung = number
            self._run.note(
                "rung", rung=number, unit=unit.key, reason=error.message, memory_bytes=self._run.memory_bytes
            )
            self._run.say(f"{error.message[0].upper()}{error.message[1:]}. Trying with {rung}.", level="warning")
        return replace(unit, rung=rung)

    def _gave_up(self, unit: FitUnit, error: BaseException) -> Mapping[str, Any] | None:
        """A result that says so, of a unit whose workers died, or which does not fit on the last rung: others may.

        It is not journalled: the same command with more memory tries it again. What came of it with less memory stands.
        The baseline has to fit.
        """
        if unit.trial == 0 or not isinstance(error, OverBudget | WorkerLost):
            return None
        self._run.short = True
        if (known := self._run.ledger.get(unit.key)) is not None:
            return known
        self.given_up.append(error)
        cause = error.__cause__ if isinstance(error.__cause__, WorkerLost) else error
        return failed_fit(unit, cause).to_json()

    def _watched(self) -> Beside:
        """Workers that fit models side by side, or this process."""
        run = self._run
        return Beside(
            run.folder, show=lambda workers: run.events.emit(Working(workers=tuple(workers), together=False)),
            tell=lambda anomaly: run.say(str(anomaly), level="warning"),
        )  # fmt: skip

    def _choose_executor(self, sizes: Sizes) -> Executor:
        apart = side_by_side(sizes.cells, sizes.rows, self._run.config.time_s)
        return self._run.executor_for(side_by_side=apart, needed_bytes=sizes.fit_bytes)

    def _choose_parallel(self, sizes: Sizes, prepared: Prepared) -> Choice:
        """By how many workers each model is fitted; said, where there was something to choose."""
        config = self._run.config
        local = config.engine == "local"
        workers = config.workers or (cpu_quota() if local else self._run.executor.slots)
        each = self._run.worker_bytes() // (workers if local else 1)
        shapes = network_shapes(prepared.target, prepared.recipe.features, config.families, config.params)
        networks = Networks(shapes=shapes, worker_bytes=each)
        choice = choose_parallel(
            config.parallel, engine=config.engine, workers=workers, rows=sizes.rows, families=config.families,
            networks=networks,
        )  # fmt: skip
        if config.parallel == "data" or choice.size > 1:
            self._run.say(choice.text)
        return choice

    def _shared(self, choice: Choice) -> SharedFits:
        run, ceiling = self._run, self._run.config.memory_bytes
        asked = Asked(
            workers=choice.size, address=run.config.address,
            memory_bytes=None if ceiling is None else max(PASS_BYTES, ceiling - MAIN_BYTES),
            gpu=gpu_asked(run.config),
        )  # fmt: skip
        run.executor.retire()  # workers that the passes have left idle
        if run.config.engine == "local":
            room = Room(threads=cpu_quota(), memory_bytes=run.memory_bytes, shared=True)
        else:
            room = Room(threads=run.executor.threads, memory_bytes=run.worker_bytes(), shared=False)
        return SharedFits(
            partial(make_gang, run.config.engine, asked), choice, room,
            show=lambda workers: run.events.emit(Working(workers=tuple(workers))),
            ended=lambda workers: run.note("workers", workers=[asdict(worker) for worker in workers]),
            tell=lambda anomaly: run.say(str(anomaly), level="warning"),
        )  # fmt: skip

    def close(self) -> None:
        """End the workers that fit models together; journal what those did that fitted some side by side."""
        if self.shared is not None:
            self.shared.close()
        if self._beside is not None:
            workers = [asdict(worker) for worker in self._beside.close()]
            if workers and self.slots > 1:
                self._run.note("workers", together=False, workers=workers)

    def _make_ladder(self, sizes: Sizes) -> Ladder:
        if self.slots == 1:
            self._run.executor.retire()  # workers that the passes have left idle
        workers = 0 if self.executor is self._run.inline else self.slots
        return make_ladder(
            self._run.memory_bytes, sizes.rows, sizes.features, sizes.outputs, valid_rows=sizes.valid_rows,
            at_once=self.slots, workers=workers if self.shared is None else self.shared.choice.size,
            rounds=held_rounds(self._run.config.params),
        )  # fmt: skip
