"""Between a run and its ensemble: which trials become members, and what they may cost."""

import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from shardwise.contending import chosen_rows, diverse, frugal, representatives
from shardwise.core.config import MAX_SIZE
from shardwise.core.errors import DeadlineReached, Interrupted
from shardwise.core.findings import Finding
from shardwise.core.state import dump_state
from shardwise.core.units import format_duration, format_size
from shardwise.data.rows import DiskRows
from shardwise.ensemble.combine import MeanCombiner
from shardwise.ensemble.limits import Limit, not_kept
from shardwise.ensemble.select import LIMITED, NONE, Choice, Cost, Limits, Pool, Selection, Way, is_slow, parts
from shardwise.ensemble.stack import Stack
from shardwise.ensemble.stacking import StackCombiner
from shardwise.models.families import NETWORKS, load_model
from shardwise.models.pace import batch_s, encode_s
from shardwise.serve.predictor import Predictor
from shardwise.split.temporal import TemporalSplitter
from shardwise.stats.metrics import Metric, loss_of, perfect_loss
from shardwise.store.files import folder_bytes
from shardwise.store.ledger import unit_key
from shardwise.train.passes import FLOATS
from shardwise.train.postprocess import Joint, Team
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult, TrialResult, on_same_folds, rank
from shardwise.train.run import FORMAT, Run
from shardwise.train.validation import joint_units, joint_weight, validation_rows

USUAL_THROUGHPUT = 100_000  # rows/s, where nothing else is asked for ...
PRICE = 0.005  # ... and a slower ensemble does not lower the loss by this share of what is above a perfect one
SLOWER = 1.2  # than it is already, an ensemble for which speed was given up may become by further seeds
CORES = 2  # of the machine for which a throughput is promised
FAR = 0.1  # a trial without all folds is taken, alone, where its loss is lower by this share than the best whole one's
TIMED_ROWS = 100  # that are predicted one by one to see how long one takes
SPARE = 0.97  # of a limit: sizes and timing are not known to the last digit
REST_BYTES = 2**15  # of a package: its manifest, calibration and golden rows
LATENCY = "latency"  # what is journalled of models that were timed


@dataclass(frozen=True)
class Ensemble:
    """Weighted fold models (or a stack of them), and the out-of-fold loss that they reach together.

    `told` is what the package and the report tell of the choice, as JSON values. `crossed` are the answers to all rows
    out of fold by what was learned without them; None where they are not known for all.
    """

    members: tuple[tuple[TrialResult, FoldResult, float], ...]
    loss: float
    stack: Stack | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    crossed: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def team(self) -> Team:
        """The models, for who scores them on the sealed test."""
        weights = [weight for _, _, weight in self.members]
        combiner = MeanCombiner(weights) if self.stack is None else self.stack
        models = [fold.model_name for _, fold, _ in self.members]
        key = unit_key(FORMAT, models, weights, *([] if self.stack is None else [self.stack.to_json()]))
        return Team([fold for _, fold, _ in self.members], combiner.combine, key)

    @property
    def joint(self) -> Joint:
        """Its trials, for what is told of it out of fold."""
        trials = list({trial.number: trial for trial, _, _ in self.members}.values())
        if self.stack is not None:
            return Joint(trials, replace(self.stack, groups=tuple(range(len(trials)))).combine)
        weights = [sum(weight for trial, _, weight in self.members if trial is each) for each in trials]
        return Joint(trials, MeanCombiner(weights).combine)


class Choosing:
    """Chooses the ensemble of a run from its trials; `metric` is the one by which the trials were compared."""

    def __init__(self, run: Run, prepared: Prepared, metric: Metric) -> None:
        self._run = run
        self._prepared = prepared
        self.metric = metric

    def single(self, trial: TrialResult) -> Ensemble:
        """A trial's fold models, equally weighted."""
        folds = self._folds(trial)
        return Ensemble(tuple((trial, fold, 1.0 / len(folds)) for fold in folds), trial.loss)

    def _folds(self, trial: TrialResult) -> tuple[FoldResult, ...]:
        """Of a forward chain only the last, which has seen the most."""
        return trial.folds[-1:] if isinstance(self._prepared.splitter, TemporalSplitter) else trial.folds

    def choose(self, trials: Sequence[TrialResult], *, limited: bool = True) -> Ensemble:
        """The best trial, or a few together where that is better out of fold; where `limited`, within the limits of the
        run, which do not hold for models that only teach others.

        Raises `DeadlineReached` or `Interrupted` when there is no trial.
        """
        ranked = rank(trials)
        if not ranked:
            if self._run.interrupts.stop_requested:
                raise Interrupted("stopped before the first model was trained", hint="The same command goes on.")
            raise DeadlineReached("the time was up before the first model was trained", hint="Give more --time.")
        whole = [each for each in ranked if each.complete and each.candidate.family != "baseline"]
        if ranked[0].candidate.family == "baseline" or not whole or self._is_far_better(ranked[0], whole[0]):
            return self._as_it_is(ranked[0]) if limited else self.single(ranked[0])
        limits = self.limits() if limited else NONE
        contenders = self._contenders(whole, limits) if limited else diverse(whole)
        pool = self._pool(contenders, limited)
        usual = limited and self._run.config.min_throughput is None and is_slow(pool, limits)
        choice = self._fast(contenders, pool, limits) if usual else self._chosen(pool, limits)
        return self._ensemble(choice, contenders, pool)

    def _as_it_is(self, trial: TrialResult) -> Ensemble:
        """A trial alone that may have been cut, with as many of its fold models as keep the limits that were given."""
        limits, cost, folds = self.limits(), self.cost(trial), self._folds(trial)
        if self._run.config.min_throughput is None:
            limits = replace(limits, batch_s=math.inf)
        most = min(getattr(limits, name) / max(getattr(cost, name), 1e-12) for name in LIMITED)
        count = max(1, min(len(folds), int(most)))
        kept = sorted(range(len(folds)), key=partial(preference, folds, 0))[:count]
        over = self.over(cost, [], "the one model that there is") if most < 1.0 else None
        members = tuple((trial, folds[fold], 1.0 / count) for fold in sorted(kept))
        return Ensemble(members, trial.loss, findings=() if over is None else (over,))

    def _contenders(self, whole: Sequence[TrialResult], limits: Limits) -> list[TrialResult]:
        chosen = {trial.number for trial in (*diverse(whole), *frugal(whole, partial(self.cost, alone=False), limits))}
        return [trial for trial in whole if trial.number in chosen]

    def _is_far_better(self, first: TrialResult, whole: TrialResult) -> bool:
        """Whether a trial without all its folds, on those that it has, is so much better than the best whole one that
        luck and an ensemble do not make it up."""
        if first.complete:
            return False
        mine, theirs = on_same_folds(first, whole)
        return theirs - mine > FAR * abs(theirs - perfect_loss(self.metric.name))

    def _fast(self, contenders: Sequence[TrialResult], pool: Pool, limits: Limits) -> Choice:
        """Within the usual speed, unless it costs too much. Networks, which are not trained anew on all rows, keep all
        fold models: leaving some out raises the loss, and no score tells by how much."""
        whole = [
            count if trial.candidate.family in NETWORKS and self._run.config.max_latency is None else 1
            for trial, count in zip(contenders, pool.models, strict=True)
        ]
        choice = self._chosen(replace(pool, least=whole), limits)
        free = self._chosen(pool, replace(limits, batch_s=math.inf))
        price = PRICE * (choice.way.loss - perfect_loss(self.metric.name))
        return free if not choice.fits or choice.way.loss - free.way.loss > price else choice

    def _chosen(self, pool: Pool, limits: Limits) -> Choice:
        return Selection(
            pool, self.loss, self._prepared.target, limits, perfect=perfect_loss(self.metric.name)
        ).choose()

    def loss(self, y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> float:
        """Of predictions as `Model.predict` gives them; lower is better."""
        quantile = self._prepared.target.quantile
        return loss_of(self.metric.name, self.metric.compute(y, prediction, weight, quantile=quantile))

    def _pool(self, contenders: Sequence[TrialResult], limited: bool) -> Pool:
        folds = [self.validation(fold.valid) for fold in self._prepared.splitter.folds()]
        fold = np.concatenate([np.full(rows.n_rows, number) for number, rows in enumerate(folds)])
        target, y = self._prepared.target, np.concatenate([rows.target() for rows in folds])
        taken, count = representatives(y, chosen_rows(target, self.metric, len(y)), target)
        weight = joint_weight(folds)
        weight = count if weight is None else weight[taken] * (1.0 if count is None else count)
        return Pool(
            predictions=[self._only(trial, taken) for trial in contenders], y=y[taken], fold=fold[taken],
            weight=weight, part=parts(fold, units=joint_units(folds))[taken],
            costs=[self.cost(trial) if limited else Cost() for trial in contenders],
            models=[len(self._folds(trial)) for trial in contenders],
        )  # fmt: skip

    def _only(self, trial: TrialResult, rows: np.ndarray) -> np.ndarray:
        """Predictions of a trial for these rows out of fold, over all its folds; the others are not in memory."""
        found, before = [], 0
        for fold in trial.folds:
            answers = np.load(self._answers_file(fold), mmap_mode="r")
            own = rows[np.searchsorted(rows, before) : np.searchsorted(rows, before + len(answers))]
            found.append(np.asarray(answers[own - before]))
            before += len(answers)
        return np.concatenate(found)

    def rows(self, folds: Sequence[int]) -> DiskRows:
        """Of these folds, as they are predicted."""
        return DiskRows(self._prepared.rows / FLOATS, self._prepared.recipe.features, folds)

    def validation(self, folds: Sequence[int]) -> DiskRows:
        """Of these folds, as candidates are compared on them."""
        features, target = self._prepared.recipe.features, self._prepared.target
        return validation_rows(self._prepared.rows, features, folds, target, self.metric.name)

    def out_of_fold(self, fold: FoldResult) -> np.ndarray:
        """Predictions of the fold's validation rows, in their order."""
        return np.asarray(np.load(self._answers_file(fold)))

    def _answers_file(self, fold: FoldResult) -> Path:
        return self._run.folder / "models" / fold.folder / "valid.npy"

    def _ensemble(self, choice: Choice, contenders: Sequence[TrialResult], pool: Pool) -> Ensemble:
        way, members, groups = choice.way, [], []
        for place, (number, count) in enumerate(zip(way.members, way.models, strict=True)):
            folds = self._folds(contenders[number])
            kept = sorted(sorted(range(len(folds)), key=partial(preference, folds, place))[:count])
            share = way.combiner.weights[number] if way.kind != "single" else 1.0
            members += [(contenders[number], folds[fold], share / count) for fold in kept]
            groups += [place] * count
        stack = None
        if isinstance(way.combiner, StackCombiner):
            stack = replace(way.combiner.stack, groups=tuple(groups))
        told = {
            "kind": way.kind, "judged": [self._way(way, contenders) for way in choice.judged],
            "models": len(members),
        }  # fmt: skip
        cost = pool.costs[way.members[0]]
        over = None if choice.fits else self.over(cost, pool.costs, "the model that comes nearest")
        whole = way.crossed if len(pool.y) == sum(fold.valid_rows for fold in contenders[0].folds) else None
        return Ensemble(tuple(members), way.loss, stack, told, () if over is None else (over,), whole)

    def _way(self, way: Way, contenders: Sequence[TrialResult]) -> dict[str, Any]:
        sign = -1.0 if self.metric.greater_is_better else 1.0
        return {
            "kind": way.kind, "trials": [contenders[number].number for number in way.members],
            "models": sum(way.models), "score": sign * way.loss, "gain": way.gain, "error": way.error,
        }  # fmt: skip

    # -- what members cost ---------------------------------------------------------------------------------------------

    def limits(self) -> Limits:
        """On all models together: what the package and the encoding of a row take is taken off."""
        config = self._run.config
        throughput = USUAL_THROUGHPUT if config.min_throughput is None else config.min_throughput
        row_s = CORES / throughput - encode_s(self._prepared.recipe.features) if throughput else math.inf
        alone_s = math.inf
        if config.max_latency_s is not None:
            alone_s = SPARE * config.max_latency_s - self._base_s()
        size = config.max_size_bytes - self._base_bytes
        return Limits(bytes=SPARE * size, batch_s=max(row_s, 1e-9), alone_s=max(alone_s, 1e-9))

    @cached_property
    def _base_bytes(self) -> int:
        """What a package takes beside its models."""
        states = (self._prepared.recipe.sealed().state(), self._prepared.opened.state())
        return REST_BYTES + sum(len(dump_state(state)) for state in states)

    def cost(self, trial: TrialResult, *, alone: bool = True) -> Cost:
        """Of a fold model of a trial: the largest one, with the average rounds. A latency is measured once in a run,
        where it is asked for."""
        folds = self._folds(trial)
        size = max(folder_bytes(self._run.model(fold.folder)) for fold in folds)
        rounds = statistics.fmean(fold.rounds for fold in folds)
        outputs, features = self._prepared.target.outputs, self._prepared.recipe.features
        alone_s = 0.0
        if alone and self._run.config.max_latency_s is not None:
            alone_s = self._timed(folds[0].model_name, partial(self._alone_s, folds[0]))
        return Cost(bytes=size, batch_s=batch_s(trial.candidate, rounds, outputs, features), alone_s=alone_s)

    def has_room(self, models: Sequence[TrialResult]) -> bool:
        """Whether a package of these models, each of its trial, keeps the limits; where speed was given up, whether it
        is not much slower than with one model of each."""
        limits = self.limits()
        costs = {trial.number: self.cost(trial) for trial in models}
        once = sum(cost.batch_s for cost in costs.values())
        limits = replace(limits, batch_s=max(limits.batch_s, SLOWER * once))
        taken = [costs[trial.number] for trial in models]
        return all(sum(getattr(cost, name) for cost in taken) <= getattr(limits, name) for name in LIMITED)

    def _alone_s(self, fold: FoldResult) -> float:
        model = load_model(self._run.model(fold.folder))
        return _median_s([partial(model.predict, row) for row in self._single_rows()])

    def _base_s(self) -> float:
        """What a row takes beside its models: measured on the package so far, less its models."""
        return self._timed("base", self._measured_base_s)

    def _measured_base_s(self) -> float:
        predictor = Predictor.load(self._run.package)
        models = sum(
            _median_s([partial(member.model.predict, row) for row in self._single_rows()])
            for member in predictor.package.members
        )
        return max(0.0, self.latency_s(predictor) - models)

    def _single_rows(self) -> list[np.ndarray]:
        folds = [fold for evaluation in self._prepared.splitter.folds() for fold in evaluation.valid]
        rows = next(iter(self.rows(folds).chunks())).X[:TIMED_ROWS]  # some folds may be empty
        return [rows[place : place + 1] for place in range(len(rows))]

    def latency_s(self, predictor: Predictor) -> float:
        """Seconds that a row of Python values takes, alone, in the median."""
        rows = self._prepared.opened.sample().slice(0, TIMED_ROWS).to_pylist()
        return _median_s([partial(predictor.predict_one, row) for row in rows])

    def _timed(self, what: str, measure: Any) -> float:
        """A latency, measured once in a run: a restart decides by the same numbers."""
        for record in self._run.records(LATENCY):
            if record["model"] == what:
                return float(record["seconds"])
        seconds = float(measure())
        self._run.note(LATENCY, model=what, seconds=seconds)
        return seconds

    def over(self, cost: Cost, others: Sequence[Cost], holds: str) -> Finding | None:
        """What is told where models of this `cost`, which the package `holds`, do not keep the limits that it has to
        keep; `others` cost what else was trained. None where they keep them.

        Without --min-throughput a throughput is no such limit: it is given up where it costs too much.
        """
        return not_kept(list(self._kept_by(cost, [cost, *others])), holds)

    def _kept_by(self, cost: Cost, every: Sequence[Cost]) -> Iterator[Limit]:
        config, base = self._run.config, self._base_bytes
        yield Limit(
            option="--max-size", given=format_size(config.max_size_bytes), default=config.max_size == MAX_SIZE,
            most=config.max_size_bytes, takes=base + cost.bytes / SPARE, beside=base, show=format_size,
            least=base + min(each.bytes for each in every) / SPARE, parts="recipe, profile and manifest",
            enough=lambda least: f"{math.ceil(least / 1000)}KB",
        )  # fmt: skip
        if config.max_latency_s is not None:
            base_s = self._base_s()
            yield Limit(
                option="--max-latency", given=format_duration(config.max_latency_s), default=False,
                most=config.max_latency_s, takes=(base_s + cost.alone_s) / SPARE, beside=base_s / SPARE,
                least=(base_s + min(each.alone_s for each in every)) / SPARE, parts="encoding the row",
                show=format_duration, enough=lambda least: f"{math.ceil(1e4 * least) / 10:g}ms",
            )  # fmt: skip
        if config.min_throughput:
            encode = encode_s(self._prepared.recipe.features)
            yield Limit(
                option="--min-throughput", given=f"{config.min_throughput:,}", default=False,
                most=CORES / config.min_throughput, takes=encode + cost.batch_s, beside=encode,
                least=encode + min(each.batch_s for each in every), parts="encoding",
                show=lambda seconds: f"{1e6 * seconds / CORES:.3g} microseconds a row",
                enough=lambda least: f"{math.floor(CORES / least)}",
            )  # fmt: skip


def preference(folds: Sequence[FoldResult], place: int, number: int) -> tuple[bool, int, int]:
    """Which fold models of a member are kept first: those that were not cut, then those that came further; each member
    leaves others out."""
    fold = folds[number]
    return fold.cut, -fold.rounds if fold.cut else 0, (number - place) % len(folds)


def _median_s(calls: Sequence[Any]) -> float:
    calls[0]()  # what is set up once
    taken = []
    for call in calls:
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
