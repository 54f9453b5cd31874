"""The only file that knows every stage, from data to report.

data > profile > split > recipe > candidates > best > sealed test > package > report

A run moves forward through work units that are journalled. The clock is looked at between units and inside the training
of a model, and only ever cuts: what comes next never depends on it.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from shardwise.compute.base import NotYet
from shardwise.compute.ceiling import crowd
from shardwise.core.config import RunConfig
from shardwise.core.errors import DataError, DeadlineReached, Interrupted, SchemaError, context
from shardwise.core.events import Events, Said, Scored
from shardwise.core.state import State
from shardwise.data.dataset import Dataset, ReadOptions, open_dataset
from shardwise.data.joined import join_tables
from shardwise.data.rows import DiskRows
from shardwise.ensemble.combine import GreedyCombiner, GreedyConfig, MeanCombiner
from shardwise.models.families import load_model
from shardwise.monitor.windows import ANSWERS, answers_profile
from shardwise.registry.package import Member, write_package
from shardwise.report.gather import Ending, gather
from shardwise.report.page import write_report
from shardwise.split.base import TEST
from shardwise.split.temporal import TemporalSplitter
from shardwise.stats.metrics import Metric, default_metric, loss_of, metric_named
from shardwise.train.fitting import Fitting
from shardwise.train.forecast import note_plan, note_sizes
from shardwise.train.passes import FLOATS
from shardwise.train.prepare import Prepared, prepare
from shardwise.train.result import FoldResult, TrialResult, rank
from shardwise.train.run import Run, already_finished, finish, open_run
from shardwise.train.sealed import open_test
from shardwise.train.trainer import FitUnit
from shardwise.tune.setup import check_search
from shardwise.tune.study import Step
from shardwise.tuning import Tuning

GOLDEN_ROWS = 20
BLENDED_TRIALS = 4  # at most so many candidates in a blend: each one costs latency
BLEND_ROWS = 50_000  # rows by which a blend is chosen
BLEND_GAIN = 0.0005  # a blend must lower the validation loss by this share to be worth its latency
TEST_SHARE = 0.05  # of the time, at most kept for the sealed test; where that is too little, it is thinned
REPORT_S = 2.0  # what the sealed test's intervals, the report and the end of the process take, at most; besides,
REPORT_COLUMN_S, REPORT_CLASS_S = 0.005, 0.05


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run ended with.

    `score` is the value of `metric` on the sealed test with its 95 % interval (`value`, `low`, `high`), and empty
    without a test; `valid_score` the out-of-fold value by which the candidates were compared; `cut` says that time or
    the user ended the search. `report` is empty when none was asked for.
    """

    run: str
    package: str
    package_hash: str
    report: str
    task: str
    metric: str
    score: dict[str, float]
    valid_score: float
    rows: int
    trials: int
    seconds: float
    peak_memory_bytes: int
    cut: bool
    findings: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass
class Search:
    """The trials of a run so far, and what the package holds."""

    prepared: Prepared
    metric: Metric
    trials: list[TrialResult] = field(default_factory=list)
    sealed_trial: int | None = None
    seal_s: float = 0.0
    cut: bool = False

    @property
    def folds(self) -> int:
        return len(self.prepared.splitter.folds())

    def rows(self, *folds: int) -> DiskRows:
        return DiskRows(self.prepared.rows / FLOATS, self.prepared.recipe.features, folds)


@dataclass(frozen=True)
class Ensemble:
    """Weighted fold models, and the out-of-fold loss that they reach together."""

    members: tuple[tuple[TrialResult, FoldResult, float], ...]
    loss: float


def open_data(config: RunConfig) -> Dataset:
    """The dataset that a config names."""
    options = ReadOptions(
        format=config.format, encoding=config.encoding, delimiter=config.delimiter, on_bad_row=config.on_bad_row,
        types=dict(config.types), storage=dict(config.storage),
    )  # fmt: skip
    try:
        dataset = open_dataset(config.data, options=options)
    except SchemaError:  # a column of a type that is not supported, perhaps one to be left out
        if not config.drop:
            raise
        dataset = open_dataset(config.data, options=replace(options, drop=config.drop))
    return join_tables(dataset, config.joins)


def train(
    config: RunConfig, events: Events | None = None, *, dataset: Dataset | None = None, spent_s: float = 0.0
) -> TrainResult:
    """Train under the ceilings of `config`; the same config goes on where a killed run stopped.

    A `dataset` that is open already is taken in the place of `config.data`, which then only names it. `spent_s` is what
    has passed since the user pressed the key. Raises a `ShardwiseError`.
    """
    events = events or Events()
    check_search(config)
    with context(stage="data"):
        dataset = join_tables(dataset, config.joins) if dataset is not None else open_data(config)
    with open_run(config, dataset.fingerprint, events, spent_s=spent_s) as run:
        if (done := already_finished(run)) is not None:
            hint = "--time +5m goes on with it, another --run NAME starts anew"
            events.emit(Said(text=f"Run {run.folder.name} is finished, this is its result; {hint}."))
            return TrainResult(**done)
        note_plan(run, dataset)
        prepared = prepare(run, dataset)
        note_sizes(run, prepared)
        task = prepared.target.task
        search = Search(prepared, metric_named(config.metric or default_metric(task), task))
        run_trials(run, search)
        result = conclude(run, search)
        finish(run, result.to_json())
        return result


def run_trials(run: Run, search: Search) -> None:
    """Try candidates until the budget is used; the best package so far is on disk at every moment."""
    tuning = Tuning(run, search.prepared, search.metric.name)
    steps: dict[str, Step] = {}  # by the keys of their units
    fitted: list[tuple[Step, FoldResult]] = []  # of one step
    with closing(Fitting(run, search.prepared, search.metric.name)) as fitting, run.stage("train") as stage:
        for unit, result in fitting.results(_units(run, search, tuning, (steps, fitting.slots))):
            step = steps.pop(unit.key)
            if fitted and fitted[0][0] is not step:
                _told(run, search, tuning, fitted)
                fitted = []
            fitted.append((step, result))
            search.cut = search.cut or result.cut
            stage["rows"] += result.valid_rows
            if len(fitted) == search.folds:
                _told(run, search, tuning, fitted)
                fitted = []
        if fitted:
            _told(run, search, tuning, fitted)
    search.prepared = replace(
        search.prepared, findings=(*search.prepared.findings, *fitting.findings, *tuning.findings())
    )


def _units(run: Run, search: Search, tuning: Tuning, drawn: tuple[dict[str, Step], int]) -> Iterator[FitUnit | NotYet]:
    """Steps of the study x folds, until the time is used or the user asks to stop; the journal is gone through."""
    steps, slots = drawn
    for step in tuning.study.ask():
        if isinstance(step, NotYet):
            yield step
            continue
        for index in range(search.folds):
            key, real = tuning.key(step, index), step.number <= 1
            left_s = run.deadline.remaining_s() - _reserve_s(run, search, first=real)
            first = real and index == 0 and not step.below  # the baseline and a first real model are always tried
            if run.ledger.get(key) is None and (run.interrupts.stop_requested or (left_s <= 0 and not first)):
                search.cut = True
                if step.number == 0 and not run.interrupts.stop_requested:
                    break  # of the baseline one fold is enough; then comes the first real model
                if not run.model(key).exists():
                    return  # what was cut before counts as it is
            waves = -(-(search.folds - index) // slots)  # what is left of the trial, `slots` folds at a time
            steps[key] = step
            yield tuning.unit(step, index, time.monotonic() + max(left_s, 0.0) / waves)


def _reserve_s(run: Run, search: Search, *, first: bool = False) -> float:
    """Seconds to keep for the sealed test of the models so far, the package and the report.

    While none is trained the time for the test is what it may be; the first one keeps time for itself, see `FitTask`.
    """
    test_rows = search.prepared.fold_rows.get(TEST, 0)
    most_s = TEST_SHARE * (run.deadline.limit_s or 0.0) if test_rows else 0.0
    trained = [trial for trial in search.trials if trial.candidate.family != "baseline"]
    slowest = sorted((trial.predict_row_s for trial in trained), reverse=True)[:BLENDED_TRIALS]
    test_s = 1.2 * test_rows * sum(slowest) if trained or first else most_s
    return _report_s(search) + search.seal_s + min(most_s, test_s)


def _report_s(search: Search) -> float:
    columns, classes = len(search.prepared.dataset.schema), search.prepared.target.outputs
    return crowd() * (REPORT_S + REPORT_COLUMN_S * columns + REPORT_CLASS_S * classes)


def _told(run: Run, search: Search, tuning: Tuning, done: Sequence[tuple[Step, FoldResult]]) -> None:
    """Take in what a step found; when its trial is the best, it becomes the package."""
    step = done[0][0]
    folds = tuple(fold for _, fold in done if fold.folder or fold.failed)  # what came too late is not there
    before = next((trial for trial in search.trials if trial.number == step.number), None)
    complete = len(folds) == search.folds
    if not folds or (before is not None and not complete):  # cut on its way up: what it was on the rung below stands
        return
    trial = TrialResult(
        number=step.number, candidate=step.candidate, folds=folds, complete=complete,
        before_s=before.seconds if before else 0.0,
    )  # fmt: skip
    if not tuning.tell(step, trial):
        return
    search.trials = [*(other for other in search.trials if other is not before), trial]
    best = _best(search)
    score, name = _score(search.metric, trial.loss), search.metric.name
    run.events.emit(
        Scored(trial=trial.number, candidate=str(trial.candidate), metric=name, score=score, best=best is trial)
    )
    left_s = run.deadline.remaining_s()
    affordable = search.seal_s < 0.02 * run.deadline.used_s() and left_s > 2 * _reserve_s(run, search)
    if best is trial and (search.sealed_trial is None or trial.number == 1 or affordable):
        seal(run, search, _single(search, best), {})
        search.sealed_trial = trial.number


def _best(search: Search) -> TrialResult:
    """The best trial so far; raises `DataError` where the metric is defined on no fold."""
    ranked = rank(search.trials)
    if not ranked:
        raise DataError(
            f"{search.metric.name} is not defined on any of the {search.folds} folds: few rows, or one class in each",
            hint="Choose another --metric such as log_loss, or give fewer --folds.",
        )
    return ranked[0]


def _score(metric: Metric, loss: float) -> float:
    return -loss if metric.greater_is_better else loss


def _single(search: Search, trial: TrialResult) -> Ensemble:
    """A trial's fold models, equally weighted; of a forward chain only the last, which has seen the most."""
    folds = trial.folds[-1:] if isinstance(search.prepared.splitter, TemporalSplitter) else trial.folds
    return Ensemble(tuple((trial, fold, 1.0 / len(folds)) for fold in folds), trial.loss)


def choose(run: Run, search: Search) -> Ensemble:
    """The best trial, or a blend of a few when that is better out-of-fold. Raises when there is no trial."""
    ranked = rank(search.trials)
    if not ranked:
        if run.interrupts.stop_requested:
            raise Interrupted("stopped before the first model was trained", hint="The same command goes on.")
        raise DeadlineReached("the time was up before the first model was trained", hint="Give more --time.")
    best = _single(search, ranked[0])
    pool = [trial for trial in ranked if trial.complete and trial.candidate.family != "baseline"][:8]
    if len(pool) < 2 or not ranked[0].complete:
        return best
    blended = _blend(run, search, pool)
    return blended if blended.loss < best.loss - BLEND_GAIN * abs(best.loss) else best


def _blend(run: Run, search: Search, pool: list[TrialResult]) -> Ensemble:
    """Greedy selection on out-of-fold predictions; the test is not touched."""
    folds = search.prepared.splitter.folds()
    valid = [search.rows(*fold.valid) for fold in folds]
    y = np.concatenate([rows.target() for rows in valid])
    weights = [rows.weight() for rows in valid]
    weight = None if weights[0] is None else np.concatenate([w for w in weights if w is not None])
    predictions = [np.concatenate([_out_of_fold(run, fold) for fold in trial.folds]) for trial in pool]

    few = slice(None, None, -(-len(y) // BLEND_ROWS))
    some = None if weight is None else weight[few]
    greedy = GreedyCombiner(lambda y, p: _loss(search, y, p, some), GreedyConfig(rounds=12))
    greedy.fit([prediction[few] for prediction in predictions], y[few])
    lowest = sorted(greedy.weights, reverse=True)[min(BLENDED_TRIALS, len(pool)) - 1]
    combiner = MeanCombiner([weight if weight >= lowest else 0.0 for weight in greedy.weights])
    members = tuple(
        (trial, fold, share * part)
        for trial, share in zip(pool, combiner.weights, strict=True)
        for _, fold, part in _single(search, trial).members
        if share > 0
    )
    return Ensemble(members, _loss(search, y, combiner.combine(predictions), weight))


def _loss(search: Search, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> float:
    quantile = search.prepared.target.quantile
    return loss_of(search.metric.name, search.metric.compute(y, prediction, weight, quantile=quantile), quantile)


def _out_of_fold(run: Run, fold: FoldResult) -> np.ndarray:
    return np.asarray(np.load(run.folder / "models" / fold.folder / "valid.npy"))


def seal(run: Run, search: Search, ensemble: Ensemble, test: Mapping[str, Any], answers: State | None = None) -> str:
    """Write the package, replacing the one before in one step; its hash. `answers`: profile of those to the test."""
    started = time.perf_counter()
    prepared = search.prepared
    members = [
        Member(trial.candidate.family, load_model(run.model(fold.folder)), weight)
        for trial, fold, weight in ensemble.members
    ]
    best = ensemble.members[0][0]
    digest = write_package(
        run.package,
        recipe=prepared.recipe.sealed(), models=members, target=prepared.target, schema=prepared.dataset.schema,
        profile_state=prepared.opened.state() | ({ANSWERS: answers} if answers else {}),
        golden=prepared.opened.sample().slice(0, GOLDEN_ROWS),
        metrics={"valid": {search.metric.name: _score(search.metric, ensemble.loss)}, "test": dict(test)},
        lineage={
            "data": prepared.dataset.fingerprint, "config": run.config.identity(), "rows": prepared.profile.rows,
            "split": prepared.splitter.to_json(), "trial": best.number, "candidate": best.candidate.to_json(),
        },
    )  # fmt: skip
    search.seal_s = time.perf_counter() - started
    return digest


def conclude(run: Run, search: Search) -> TrainResult:
    """Open the sealed test (if there is one) once for the chosen ensemble; write the final package and the report."""
    with run.stage("test") as stage:
        chosen = choose(run, search)
        members = [(fold, weight) for _, fold, weight in chosen.members]
        left_s = run.deadline.remaining_s() - _report_s(search) - 1.5 * search.seal_s
        test = open_test(run, search.prepared, members, left_s)
        stage["rows"] = len(test.y)
    with run.stage("package"):
        answers = answers_profile(search.prepared.target, test.prediction).state() if len(test.y) else None
        digest = seal(run, search, chosen, test.metrics, answers)
    ending = Ending(
        metric=search.metric, trials=search.trials, members=chosen.members, y=test.y, prediction=test.prediction,
        test_metrics=test.metrics, package_hash=digest,
    )  # fmt: skip
    report = _report(run, search, ending) if run.config.report else ""
    name = search.metric.name
    return TrainResult(
        run=run.folder.name, package=str(run.package), package_hash=digest, report=report,
        task=search.prepared.target.task.value, metric=name, score=test.metrics.get(name, {}),
        valid_score=_score(search.metric, chosen.loss), rows=search.prepared.profile.rows, trials=len(search.trials),
        seconds=round(run.deadline.used_s(), 2), peak_memory_bytes=run.watch.peak_bytes, cut=search.cut,
        findings=[finding.to_json() for finding in search.prepared.findings],
    )  # fmt: skip


def _report(run: Run, search: Search, ending: Ending) -> str:
    """Path of the report, written."""
    path = run.folder / "report.html"
    with run.stage("report"):
        write_report(gather(run, search.prepared, ending), path)
    return str(path)
