"""The only file that knows every stage, from data to report.

data > profile > split > recipe > candidates > best > sealed test > package > report

A run moves forward through work units that are journalled. The clock is looked at between units and inside the training
of a model, and only ever cuts: what comes next never depends on it.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from shardwise.asking import Asking
from shardwise.choosing import Choosing, Ensemble
from shardwise.core.config import RunConfig
from shardwise.core.errors import DataError, SchemaError, context
from shardwise.core.events import Events, Said, Scored
from shardwise.core.findings import Finding
from shardwise.core.state import State
from shardwise.data.dataset import Dataset, ReadOptions, open_dataset
from shardwise.data.joined import join_tables
from shardwise.data.source import suggest_skipping
from shardwise.distilling import Distilling, not_distilled
from shardwise.models.families import load_model
from shardwise.monitor.windows import ANSWERS, answers_profile
from shardwise.refitting import refitted
from shardwise.registry.package import Member, write_package
from shardwise.report.gather import Ending, gather
from shardwise.retraining import what_changed
from shardwise.searching import Search, recall, report_s, reserve_s
from shardwise.stats.metrics import Metric, check_metric, metric_to_compare_by
from shardwise.train.fitting import Fitting
from shardwise.train.forecast import note_plan, note_sizes, short_findings
from shardwise.train.gaps import few_findings, member_scores, nested_findings
from shardwise.train.postprocess import PostProcess, coverage_findings, out_of_fold, postprocess, unseen
from shardwise.train.prepare import prepare, tell
from shardwise.train.result import FoldResult, TrialResult, rank
from shardwise.train.run import Run, already_finished, finish, open_run
from shardwise.train.sealed import open_test
from shardwise.train.validation import limit_findings
from shardwise.tune.setup import check_search
from shardwise.tune.step import Step
from shardwise.tuning import Tuning, archive_of

GOLDEN_ROWS = 20
WIDE_COLUMNS = 2_000  # beyond, a package takes seconds, and the baseline is not worth one


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run ended with.

    `score` is the value of `metric` on the sealed test with its 95 % interval (`value`, `low`, `high`), widened for the
    `looks` at the test that the folder of runs knows, and empty without a test; `valid_score` the out-of-fold value by
    which the candidates were compared; `cut` says that time or the user ended the search. `ensemble` tells what the
    package answers with, and what else was judged. `report` is empty when none was asked for.
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
    looks: int = 1
    ensemble: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


def open_data(config: RunConfig) -> Dataset:
    """The dataset that a config names."""
    options = ReadOptions(
        format=config.format, encoding=config.encoding, delimiter=config.delimiter, on_bad_row=config.on_bad_row,
        skip_corrupt=config.skip_corrupt, types=dict(config.types), storage=dict(config.storage),
    )  # fmt: skip
    try:
        dataset = open_dataset(config.data, options=options)
    except DataError as error:
        suggest_skipping(error)
        if not config.drop or not isinstance(error, SchemaError):
            raise  # else a column of a type that is not supported is perhaps one to be left out
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
    check_metric(config.metric, config.task)
    with context(stage="data"):
        dataset = join_tables(dataset, config.joins) if dataset is not None else open_data(config)
    with open_run(config, dataset.fingerprint, events, spent_s=spent_s) as run:
        if (done := already_finished(run)) is not None:
            hint = "--time +5m goes on with it, another --run NAME starts anew"
            events.emit(Said(text=f"Run {run.folder.name} is finished, this is its result; {hint}."))
            return TrainResult(**done)
        if config.sampler == "meta":
            archive_of(run)  # one that cannot be read is refused before the data are
        note_plan(run, dataset)
        prepared = prepare(run, dataset, what_changed)
        note_sizes(run, prepared)
        task = prepared.target.task
        search = Search.of(run, prepared, metric_to_compare_by(config.metric, task))
        valid = [search.choosing(run).validation(fold.valid) for fold in prepared.splitter.folds()]
        search.evaluated = tuple(index for index, rows in enumerate(valid) if rows.n_rows) or search.evaluated
        _tell(run, search, limit_findings(prepared.target, valid))
        run_trials(run, search)
        result = conclude(run, search)
        finish(run, result.to_json())
        return result


def run_trials(run: Run, search: Search) -> None:
    """Try candidates until the budget is used; the best package so far is on disk at every moment."""
    tuning = Tuning(run, search.prepared, search.metric.name)
    asking = Asking(run, search, tuning)
    fitted: list[tuple[Step, FoldResult]] = []  # of one step
    with closing(Fitting(run, search.prepared, search.metric.name)) as fitting, run.stage("train") as stage:
        search.slots = fitting.slots
        for unit, result in fitting.results(asking.units()):
            step = asking.steps.pop(unit.key)
            if fitted and fitted[0][0] is not step:
                _told(run, search, tuning, fitted)
                fitted = []
            fitted.append((step, result))
            search.cut = search.cut or (result.cut and not step.aside)
            stage["rows"] += result.valid_rows
            if len(fitted) == search.folds:
                _told(run, search, tuning, fitted)
                fitted = []
        if fitted:
            _told(run, search, tuning, fitted)
    if not asking.whole:
        for trial in recall(run, search, tuning):
            _show(run, search, trial)
        search.trials = search.found
    search.prepared = replace(
        search.prepared, findings=(*search.prepared.findings, *fitting.findings, *tuning.findings(fitting.given_up))
    )
    _tell(run, search, short_findings(run, search.trials) if search.cut else ())


def _told(run: Run, search: Search, tuning: Tuning, done: Sequence[tuple[Step, FoldResult]]) -> None:
    """Take in what a step found; when its trial is the best, it becomes the package."""
    step = done[0][0]
    folds = tuple(fold for _, fold in done if fold.folder or fold.failed)  # what came too late is not there
    before = search.at(step.number, aside=step.aside)
    complete = len(folds) == search.folds
    if not folds or (before is not None and not complete):  # cut on its way up: what it was on the rung below stands
        return
    trial = TrialResult(
        number=step.number, candidate=step.candidate, folds=folds, complete=complete,
        before_s=before.seconds if before else 0.0,
    )  # fmt: skip
    if not tuning.tell(step, trial) or not search.take(step, trial):
        return
    best = _show(run, search, trial)
    if run.package.exists() and (search.finished or trial.number in search.replayed):
        return  # what lies there is as good, or better: an ensemble
    left_s = run.deadline.remaining_s()
    affordable = search.seal_s < 0.02 * run.deadline.used_s() and left_s > 2 * reserve_s(run, search)
    is_wide = len(search.prepared.dataset.schema) > WIDE_COLUMNS and run.config.max_latency_s is None
    if is_wide and (trial.number == 0 or left_s <= reserve_s(run, search)):
        return  # nothing is tried after it: the package comes at once
    if search.sealed_trial is None or (best is trial and (trial.number == 1 or affordable)):
        seal(run, search, search.choosing(run).single(best), {})
        search.sealed_trial = best.number


def _show(run: Run, search: Search, trial: TrialResult) -> TrialResult:
    """Tell who listens of a trial; the best one so far."""
    best, score = _best(search), _score(search.metric, trial.loss)
    run.events.emit(
        Scored(
            trial=trial.number, candidate=str(trial.candidate), metric=search.metric.name, score=score,
            best=best is trial,
        )
    )  # fmt: skip
    return best


def _best(search: Search) -> TrialResult:
    """The best trial so far; raises `DataError` where the metric is defined on no fold."""
    ranked = rank(search.found)
    if not ranked:
        tried = max((len(trial.folds) for trial in search.found), default=0)
        none = "the one fold that was tried" if tried == 1 else f"any of the {tried} folds that were tried"
        raise DataError(
            f"{search.metric.name} is not defined on {none}: few rows, or one class in each",
            hint="Choose another --metric such as log_loss, or give another --seed or fewer --folds.",
        )
    return ranked[0]


def _score(metric: Metric, loss: float) -> float:
    return -loss if metric.greater_is_better else loss


def seal(
    run: Run, search: Search, ensemble: Ensemble, test: Mapping[str, Any], answers: State | None = None, *,
    after: PostProcess | None = None,
) -> str:  # fmt: skip
    """Write the package, replacing the one before in one step; its hash. `answers`: profile of those to the test;
    `after`: what is done with what the models answer together."""
    started = time.perf_counter()
    prepared = search.prepared
    after = after or PostProcess(target=prepared.target)
    members = [
        Member(trial.candidate.family, load_model(run.model(fold.folder)), weight)
        for trial, fold, weight in ensemble.members
    ]
    best = ensemble.members[0][0]
    digest = write_package(
        run.package,
        recipe=prepared.recipe.sealed(), models=members, target=after.target, schema=prepared.dataset.schema,
        calibrator=after.calibrator, conformal=after.conformal,
        profile_state=search.profile_state | ({ANSWERS: answers} if answers else {}),
        golden=prepared.opened.sample().slice(0, GOLDEN_ROWS),
        stack=ensemble.stack, extra={"ensemble": dict(ensemble.told)} if ensemble.told else {},
        metrics={"valid": {search.metric.name: _score(search.metric, ensemble.loss)}, "test": dict(test)},
        lineage={
            "data": prepared.dataset.fingerprint, "config": run.config.identity(), "rows": prepared.profile.rows,
            "split": prepared.splitter.to_json(), "trial": best.number, "candidate": best.candidate.to_json(),
            **({"parent": run.parent.package_hash} if run.parent else {}),
        },
    )  # fmt: skip
    search.seal_s = time.perf_counter() - started
    return digest


def _tell(run: Run, search: Search, findings: Sequence[Finding]) -> None:
    search.prepared = replace(search.prepared, findings=(*search.prepared.findings, *tell(run, findings)))


def conclude(run: Run, search: Search) -> TrainResult:
    """Open the sealed test (if there is one) once for the chosen ensemble; write the final package and the report."""
    with run.stage("ensemble"):
        chosen, after = _chosen(run, search)
    with run.stage("test") as stage:
        left_s = run.deadline.remaining_s() - report_s(search) - 1.5 * search.seal_s
        test = open_test(run, search.prepared, chosen.team, after, left_s)
        stage["rows"] = len(test.y)
        _tell(run, search, [*after.findings, *test.findings, *coverage_findings(test.coverage),
                            *nested_findings(search.metric, search.trials, len(test.y))])  # fmt: skip
    with run.stage("package"):
        answers = answers_profile(after.target, test.prediction).state() if len(test.y) else None
        digest = seal(run, search, chosen, test.metrics, answers, after=after)
    ending = Ending(
        metric=search.metric, trials=search.trials, members=chosen.members, told=chosen.told, y=test.y,
        prediction=test.prediction, test_metrics=test.widened, package_hash=digest, decision=after.target.decision,
        looks=test.looks,
    )  # fmt: skip
    report = _report(run, search, ending) if run.config.report else ""
    name = search.metric.name
    return TrainResult(
        run=run.folder.name, package=str(run.package), package_hash=digest, report=report,
        task=search.prepared.target.task.value, metric=name, score=test.widened.get(name, {}),
        valid_score=_score(search.metric, chosen.loss), rows=search.prepared.profile.rows, trials=len(search.trials),
        seconds=round(run.deadline.used_s(), 2), peak_memory_bytes=run.watch.peak_bytes, cut=search.cut,
        findings=[finding.to_json() for finding in search.prepared.findings], looks=test.looks,
        ensemble=dict(chosen.told),
    )  # fmt: skip


def _chosen(run: Run, search: Search) -> tuple[Ensemble, PostProcess]:
    """The ensemble of the run, or its student, and what is done with its answers; all by out-of-fold predictions."""
    choosing, prepared = search.choosing(run), search.prepared
    chosen = _distilled(run, search, choosing) if run.config.distill else _ensemble(run, search, choosing)
    _tell(run, search, chosen.findings)
    seen = out_of_fold(run, prepared, chosen.joint, search.metric, chosen.crossed)
    left_s = run.deadline.remaining_s() - reserve_s(run, search, refits=False)
    apart = unseen(run, prepared, chosen.joint, chosen.team, left_s) if len(seen.y) else None
    after = postprocess(prepared.splitter, prepared.target, search.metric, seen, apart)
    chosen = replace(chosen, loss=chosen.loss - after.gain)
    _tell(
        run, search, few_findings(prepared, search.metric, seen.pairs, _score(search.metric, chosen.loss), seen.units)
    )
    return chosen, after


def _ensemble(run: Run, search: Search, choosing: Choosing) -> Ensemble:
    """Within the limits, its members trained anew on all rows where there is time."""
    chosen = choosing.choose(search.trials)
    left_s = run.deadline.remaining_s() - reserve_s(run, search, refits=False)
    return refitted(run, search.prepared, choosing, chosen, left_s)


def _distilled(run: Run, search: Search, choosing: Choosing) -> Ensemble:
    """The student; where there is none the ensemble itself, within the limits, with a finding that says why."""
    teachers = choosing.choose(search.trials, limited=False)
    left_s = run.deadline.remaining_s() - reserve_s(run, search, refits=False)
    student: Ensemble | str = "the run was stopped"
    if not run.interrupts.stop_requested:
        student = Distilling(run, search.prepared, choosing, rank(search.trials)).student(teachers, left_s)
    if isinstance(student, Ensemble):
        return student
    chosen = _ensemble(run, search, choosing)
    return replace(chosen, findings=(*chosen.findings, not_distilled(student)))


def _report(run: Run, search: Search, ending: Ending) -> str:
    """Path of the report, written."""
    from shardwise.report.page import write_report  # draws: half a second to import, which other processes do without

    path = run.folder / "report.html"
    with run.stage("report"):
        gaps = member_scores(run, search.prepared, search.metric, ending.members, report_s(search))
        ending = replace(ending, gaps=gaps)
        write_report(gather(run, search.prepared, ending), path)
    return str(path)
