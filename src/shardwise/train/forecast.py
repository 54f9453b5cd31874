"""What a run is expected to take, told or journalled before it begins; and what it took, for later plans."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from shardwise.compute.ceiling import cpu_quota, disk_free, memory_limit_bytes
from shardwise.compute.engines import worker_memory_bytes
from shardwise.core.config import RunConfig
from shardwise.core.errors import TargetError, context
from shardwise.core.events import FirstModel
from shardwise.core.findings import Finding
from shardwise.core.names import nearest
from shardwise.core.schema import copies
from shardwise.core.seeds import derive_seed
from shardwise.core.target import Task
from shardwise.core.units import format_duration
from shardwise.data.dataset import Dataset, TypeConflict
from shardwise.data.rows import BinnedRows
from shardwise.data.source import estimate_rows
from shardwise.plan import saved
from shardwise.plan.answer import Plan, answer
from shardwise.plan.calibrate import Calibration, Question, calibrate
from shardwise.plan.cost import Budget, Knowledge, forecast, under_ceiling
from shardwise.plan.knowledge import calibrated, defaults, learned
from shardwise.plan.past import FORMAT, read_runs
from shardwise.plan.sizes import Folding, Sizes, guess_sizes, is_positive, largest_share
from shardwise.split.base import TEST
from shardwise.split.plan import SplitPlan
from shardwise.store.base import Record
from shardwise.store.records import encode
from shardwise.train.grids import asked_grids
from shardwise.train.passes import BINS
from shardwise.train.prepare import MAX_WIDENED, Prepared
from shardwise.train.result import TrialResult
from shardwise.train.run import Run
from shardwise.train.selection import selected
from shardwise.train.targets import infer_target

CALIBRATION_SHARE = 0.05  # of what the run is expected to take ...
CALIBRATION_S = (6.0, 60.0)  # ... but at least and at most this
FIRST = 2  # trials: the baseline, and a model
LEARNED_RUNS = 20  # at the start of a run: reading more journals would take longer than it is worth


def plan_run(config: RunConfig, dataset: Dataset) -> Plan:
    """Calibrate on a slice of the data and say what the run of `config` takes; the prediction waits for that run.

    Raises `TargetError` for a column that is not there, and what a run on this data would raise.
    """
    check_target(config, dataset)
    budget = budget_of(config)
    runs, refused = read_runs(Path(config.runs_folder))
    known = learned(defaults(), runs)
    usual = forecast(_guessed(config, dataset), budget, known)
    limit_s = min(max(CALIBRATION_SHARE * usual.time_s.value, CALIBRATION_S[0]), CALIBRATION_S[1])
    with context(stage="plan"):
        dataset, measured = _calibrate(config, dataset, limit_s)
    known = calibrated(known, measured)
    budget = replace(budget, shapes=measured.shapes)
    if config.parallel != "none":
        budget = replace(budget, worker_bytes=worker_memory_bytes(config.engine, config.address))
    found = answer(measured.sizes, budget, known)
    saved.keep(config, dataset.fingerprint, saved.predicted(found.expected, "calibration"))
    return replace(found, calibration=measured, past_runs=len(runs), refused=tuple(refused))


def _calibrate(config: RunConfig, dataset: Dataset, limit_s: float) -> tuple[Dataset, Calibration]:
    """In the time that is left when the types of a text file turn out wider than its first rows said."""
    question = Question(
        target=config.target,
        infer=lambda column: infer_target(config.target, column, task=config.task, quantile=config.quantile),
        exclude=frozenset((*config.drop, *services(config))),
        kinds=tuple(sorted(config.kinds.items())), grids=asked_grids(config, dataset.schema.names),
        folding=folding(config), families=config.families, held=config.params,
        split=asked_split(config), select=partial(selected, mode=config.select, seed=config.seed),
        seed=config.seed,
    )  # fmt: skip
    for _ in range(MAX_WIDENED):
        try:
            return dataset, calibrate(dataset, question, Path(config.runs_folder), limit_s)
        except TypeConflict as conflict:
            dataset = dataset.widened(conflict.column)
    raise AssertionError("types cannot be widened that often")


def check_target(config: RunConfig, dataset: Dataset) -> None:
    """Raises `TargetError` with the nearest name."""
    if config.target not in dataset.schema.names:
        raise TargetError(
            f"the data has no column {config.target!r}", hint=nearest(config.target, dataset.schema.names)
        )


def services(config: RunConfig) -> tuple[str, ...]:
    """Columns that serve the run and are no features."""
    return tuple(name for name in (config.weight, config.group, config.fold_column, *config.key) if name)


def asked_split(config: RunConfig) -> SplitPlan | None:
    """How rows are to be split, where a config says so; its rows, features and times are those of a slice."""
    if not (config.group or config.key or config.time_column or config.fold_column):
        return None
    return SplitPlan(
        rows=0, features=(), key=config.key, group=config.group, time_column=config.time_column,
        fold_column=config.fold_column, folds=config.folds, test_share=config.test_share,
        valid_share=config.valid_share, seed=derive_seed(config.seed, "split"),
    )  # fmt: skip


def folding(config: RunConfig) -> Folding:
    return Folding(
        folds=config.folds, test_share=config.test_share, valid_share=config.valid_share,
        temporal=config.time_column is not None,
    )  # fmt: skip


def budget_of(config: RunConfig) -> Budget:
    """What a run may use; without a ceiling on memory, that of the machine or the container."""
    memory = min(config.memory_bytes or 2**62, memory_limit_bytes())
    disk = min(config.disk_bytes or 2**62, disk_free(config.runs_folder))
    return Budget(
        trials=config.trials, time_s=config.time_s, memory_bytes=memory, confined=config.memory is not None,
        disk_bytes=disk, workers=config.workers, cpus=cpu_quota(), families=config.families, held=config.params,
        select=config.select != "none", parallel=config.parallel, engine=config.engine,
    )  # fmt: skip


def _guessed(config: RunConfig, dataset: Dataset) -> Sizes:
    return guess_sizes(
        dataset, _counted(dataset), config.target, asked=folding(config), drop=(*config.drop, *services(config))
    )


def _counted(dataset: Dataset) -> int:
    """Rows, where text does not fit its column's type by the next wider one."""
    try:
        return estimate_rows(dataset)
    except TypeConflict as conflict:
        return _counted(dataset.widened(conflict.column))


# -- the journal of a run ----------------------------------------------------------------------------------------------


def note_plan(run: Run, dataset: Dataset) -> None:
    """Journal what the run is expected to take, once: what `plan` said, else what the sizes and past runs say.

    Nothing is calibrated here. Where time is limited, listeners hear what a first model would take.
    """
    if run.records("plan"):
        return
    config = run.config
    runs, _ = read_runs(Path(config.runs_folder), LEARNED_RUNS)
    known: Knowledge = learned(defaults(), runs)
    sizes, budget = _guessed(config, dataset), budget_of(config)
    record = saved.kept(config, dataset.fingerprint)
    if record is None:
        record = saved.predicted(under_ceiling(sizes, budget, known)[0], "past runs" if runs else "shipped")
    run.note("plan", **record)
    if config.time is not None:
        least = under_ceiling(sizes, replace(budget, trials=FIRST, time_s=None), known)[0]
        run.note("first_model", seconds=least.time_s.value)
        run.events.emit(FirstModel(seconds=least.time_s.value))


def short_findings(run: Run, trials: Sequence[TrialResult]) -> tuple[Finding, ...]:
    """That the time was too short for a single model, and what one takes."""
    models = [trial for trial in trials if trial.candidate.family != "baseline"]
    limit_s = run.deadline.limit_s
    if limit_s is None or run.interrupts.stop_requested or any(each.complete and not each.cut for each in models):
        return ()
    there = "its first model was cut" if models else "the baseline answers"
    text = f"{format_duration(limit_s)} were too short for a model that is trained to its end: {there}."
    least_s = next((float(record["seconds"]) for record in run.records("first_model")), limit_s)
    known = f"one takes about {format_duration(least_s)}" if least_s > limit_s else "one takes longer than was expected"
    evidence = {"limit_s": limit_s, "least_s": least_s, "models": len(models)}
    return (Finding(code="short_time", severity="warning", text=text, evidence=evidence,
                    hint=f"Give more --time, {known}, or fewer --folds or rows."),)  # fmt: skip


def sizes_of(prepared: Prepared) -> Sizes:
    """The sizes of a run whose rows are encoded; nothing in them is guessed."""
    dataset, recipe, target = prepared.dataset, prepared.recipe, prepared.target
    folds, rows = prepared.splitter.folds(), prepared.fold_rows
    kinds = Counter(feature.kind.value for feature in recipe.features)
    return Sizes(
        rows=prepared.profile.rows,
        columns=dict(sorted(Counter(column.group for column in prepared.profile.columns.values()).items())),
        size_bytes=dataset.size_bytes,
        memory_bytes=prepared.profile.size_bytes,
        partitions=len(dataset.partitions),
        largest=largest_share(dataset),
        features=len(recipe.features),
        binned=len(BinnedRows(prepared.rows / BINS, recipe.features, ()).features),
        copied=len(copies(recipe.features)),
        encoded=kinds["encoded"],
        texts=recipe.texts,
        outputs=target.outputs if target.task is Task.MULTICLASS else 1,
        task=target.task.value,
        positive=is_positive(prepared.opened.columns[target.column].minimum),
        folds=len(folds),
        train_rows=max(sum(rows.get(number, 0) for number in fold.train) for fold in folds),
        valid_rows=max(sum(rows.get(number, 0) for number in fold.valid) for fold in folds),
        test_rows=rows.get(TEST, 0),
        encodings=len({prepared.rows, *prepared.fold_rows_folders}),
    )


def note_sizes(run: Run, prepared: Prepared) -> None:
    """Journal the sizes of a run, once."""
    if not run.records("sizes"):
        sizes = sizes_of(prepared).to_json()
        run.note(
            "sizes", format=FORMAT, sizes=sizes, workers=run.executor.slots, asked=run.config.workers,
            ceiling_bytes=run.config.memory_bytes, parallel=run.config.parallel, engine=run.config.engine,
            time_s=run.config.time_s,
        )  # fmt: skip


def note_trial(
    run: Run,
    trial: TrialResult,
    *,
    loss: float,
    cost_s: float,
    rung: int | None,
    failed: str = "",
    source: int | None = None,
    expected: float | None = None,
    share: float = 1.0,
    noted: list[Record],
) -> None:
    """Journal what a trial found and took; in a search on rungs, what it did on this `rung`, from which other trial
    (`source`) it went on to it, on which `share` of the partitions, and whether it rests there; which share of random
    params was `expected` to be better. What is `noted` of the trial already is not journalled again."""
    told = {
        "kind": "trial",
        "number": trial.number,
        **trial.candidate.to_json(),
        "loss": loss if math.isfinite(loss) else None,
        "rung": rung,
        "cost_s": round(cost_s, 4),
        "failed": failed,
        "rests": any(fold.rests for fold in trial.folds),
        "share": share,
        **({} if source is None else {"source": source}),
        **({} if expected is None else {"expected": round(expected, 4)}),
        "folds": [
            {
                "seconds": fold.seconds, "predict_s": fold.predict_s, "rounds": fold.rounds, "cut": fold.cut,
                "share": fold.share, "steps": fold.steps, "valid_rows": fold.valid_rows,
            }
            for fold in trial.folds
        ],
    }  # fmt: skip
    if encode(told, sort=True) not in (encode(record, sort=True) for record in noted):
        run.note(**told)
        noted.append(told)
