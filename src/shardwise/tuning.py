"""Between a run and its study: what is searched, from which past, and what a step means for who fits models."""

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from shardwise.core.candidate import Candidate
from shardwise.core.errors import ShardwiseError, TaskFailed
from shardwise.core.findings import Finding
from shardwise.core.target import Task
from shardwise.models.families import NETWORKS, build
from shardwise.models.portfolio import JOINING, joining, portfolio
from shardwise.models.rungs import SHARES, leg_count, progress, resumed_at, rounds_on, rung_count
from shardwise.models.spaces import idle_params, spaces_for
from shardwise.plan.knowledge import defaults as shipped_knowledge
from shardwise.plan.learn import Law
from shardwise.plan.sizes import Sizes
from shardwise.plan.training import unit_terms
from shardwise.store.blobs import FolderBlobs
from shardwise.store.ledger import unit_key
from shardwise.train.fitting import sizes_of as fit_sizes
from shardwise.train.forecast import note_trial, sizes_of
from shardwise.train.inherit import Parent, trial_steps
from shardwise.train.meta import meta_features
from shardwise.train.passes import keep_blob
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult, TrialResult
from shardwise.train.run import FORMAT, Run
from shardwise.train.trainer import FitUnit, Leg, drop_rest
from shardwise.tune.archive import Archive, left_out, past, split_otherwise
from shardwise.tune.setup import POPULATION, SEARCHED, make_study
from shardwise.tune.spaces import Cube
from shardwise.tune.step import Result, Step
from shardwise.tune.study import Study

CAUSES = 3  # reasons of failed trials that are told
_NUMBERS = re.compile(r"\d[\d.,]*")
UNPRUNED = (POPULATION,)  # samplers whose trials are all trained to their end
TRIALS = 50  # of a search for which neither trials nor time were given
MOVES = 12  # from trial to trial, in a population
NETWORK_SHARE = 0.5  # of the time that is left, that a network among other candidates may take
NETWORK_EPOCHS = 8  # for which there has to be time, by the cost model; fewer come to little


class Tuning:
    """The study of a run, and the keys under which its steps are journalled."""

    def __init__(self, run: Run, prepared: Prepared, metric: str) -> None:
        self._run = run
        self._prepared = prepared
        self._metric = metric
        features = meta_features(prepared)
        if not run.records("task"):
            run.note("task", features=features, metric=metric)
        archive = archive_of(run) if run.config.sampler == "meta" else Archive()
        self._left_out = split_otherwise(run.records("archive"), prepared.splitter.to_json())
        self.study = self._study(features, archive.without(self._left_out))
        self.failures: list[tuple[int, str]] = []  # (trial, reason)
        self.has_model = False  # that is no baseline
        self._told: dict[int, Step] = {}  # the last step of each trial
        self._noted = trial_steps(run.records("trial"))
        self._moves: list[dict[str, Any]] = []  # in populations: which trial went on from which other one

    def _study(self, features: Mapping[str, float], archive: Archive) -> Study:
        run, prepared, config = self._run, self._prepared, self._run.config
        lowest = prepared.opened.columns[prepared.target.column].minimum
        candidates = portfolio(
            prepared.target, prepared.recipe.features, prepared.train_rows, config.families,
            positive=prepared.target.task is Task.REGRESSION and lowest is not None and float(lowest) >= 0,
            held=config.params, extras=self._extras(),
        )  # fmt: skip
        if run.parent is not None:
            candidates = _parents_first(candidates, run.parent)
        study = make_study(
            config, candidates, spaces_for(config.families or SEARCHED), folds=len(prepared.splitter.folds()),
            rung_count=self._rung_count, idle=idle_params(prepared.recipe.features),
            archive=archive, features=features,
        )  # fmt: skip
        defaults = [Candidate(family=family, params=Cube(space).default()) for family, space in study.spaces.items()]
        for candidate in (*candidates, *defaults):  # a param that the family does not have is refused here
            build(candidate.family, prepared.target, prepared.recipe.features, candidate.params)
        return study

    def _rung_count(self, family: str) -> int:
        config = self._run.config
        if config.sampler != POPULATION:
            return rung_count(family, config.rungs)
        return leg_count(family, config.params.get(family, {}), fit_sizes(self._prepared).rows)

    def _extras(self) -> list[str]:
        """Families that join because their extra was installed when the run began: a run that goes on keeps them."""
        if not self._run.records("extras"):
            self._run.note("extras", families=joining(self._run.memory_bytes))
        return list(self._run.records("extras")[0]["families"])

    def key(self, step: Step, fold: int) -> str:
        """Of the work unit of a step on a fold; one that rests on a rung, or goes on from one, has its own."""
        parts = (self._prepared.rows.name, step.candidate.to_json(), step.number, fold, self._metric)
        path: list[Any] = [self.rest(replace(step, rung=rung, last=False)) for rung in step.below] + [self.rest(step)]
        if self._in_legs(step):
            path = [self.key(step.after, fold) if step.after else "", step.rung, self._legs(step)]
        return unit_key(FORMAT, "fit", *parts, *([path] if path != [(None, 1.0)] else []))

    def unit(self, step: Step, fold: int, deadline: float, most_s: float = math.inf) -> FitUnit:
        """The work of a step on a fold, until the deadline, and for `most_s` seconds at most."""
        rounds, share = self.rest(step)
        in_legs = self._in_legs(step)
        return FitUnit(
            trial=step.number, candidate=step.candidate, number=fold, fold=self._prepared.splitter.folds()[fold],
            rows=self._prepared.fold_rows_folders[fold], key=self.key(step, fold), deadline=deadline, most_s=most_s,
            rounds=rounds, share=share, since=self._begins_at(step), lineage=self._lineage(step, fold),
            forgiving=step.proposed or (step.candidate.family in JOINING and not self._run.config.families),
            leg=Leg(number=step.rung, of=self._legs(step)) if in_legs else None,
            after=self.key(step.after, fold) if step.after else "",
        )  # fmt: skip

    def _in_legs(self, step: Step) -> bool:
        return self._run.config.sampler == POPULATION and self._legs(step) > 1

    def _legs(self, step: Step) -> int:
        return self.study.rungs.get(step.candidate.family, 1)

    def rest(self, step: Step) -> tuple[int | None, float]:
        """(rounds after which training rests, None: at its end, or that of the leg; share of the partitions)."""
        if step.last or self._run.config.sampler == POPULATION:
            return None, 1.0
        if self._run.config.rungs == "partitions":
            return None, SHARES[step.rung]
        return rounds_on(step.candidate, step.rung), 1.0

    def _begins_at(self, step: Step) -> int:
        """Rounds that a step has already, as it goes on from the rung below."""
        by_rounds = step.below and self._run.config.rungs == "rounds"
        return resumed_at(step.candidate, step.below[-1]) if by_rounds else 0

    def _lineage(self, step: Step, fold: int) -> str:
        """What the units of a trial's rungs have in common; empty in a search without rungs."""
        if not self.study.pruner.prunes or self._run.config.rungs != "rounds":
            return ""
        return self.key(replace(step, rung=0, below=(), last=True), fold)

    def most_s(self, step: Step, left_s: float) -> float:
        """Seconds that a fold may take of those that are left for it: a network among others leaves time to them, as it
        makes the best of what it gets."""
        shares = step.candidate.family in NETWORKS and not self._run.config.families
        return left_s * NETWORK_SHARE if shares else math.inf

    def leaves_out(self, step: Step, most_s: float) -> bool:
        """Whether a step is left out, as a fold of `most_s` seconds has no time for enough epochs of a network: nothing
        waits for what it would have found, and a longer run comes back to it."""
        if math.isinf(most_s):
            return False
        laws = (unit_terms(step.candidate, self._sizes, 0.0, steps=steps) for steps in (NETWORK_EPOCHS, None))
        if most_s >= min(self._laws[name](terms) for name, terms in laws):
            return False
        self._run.say(f"Trial {step.number} is left out, no time for {NETWORK_EPOCHS} epochs: {step.candidate}")
        self.study.tell(step, Result(loss=math.nan, done=True))
        return True

    def tell(self, step: Step, trial: TrialResult) -> bool:
        """Hand the study what a step found, and journal it; whether the trial is there to be used.

        A failure on one fold is one of the trial. What the clock has cut, or ended before all folds, decides nothing in
        a search that learns: of a family that is searched nothing is told, and steps that wait for it are not begun.
        Nor is what is done aside.
        """
        reason = next((fold.failed for fold in trial.folds if fold.failed), "")
        if reason:
            self.failures.append((step.number, reason))
            self._run.say(f"Trial {step.number} failed: {reason}", level="warning")
        self.has_model |= not reason and step.candidate.family != "baseline"
        loss = math.nan if reason else trial.loss
        cost_s = self.rest(step)[1] * sum(self._cost_s(step.candidate, fold) for fold in trial.folds)
        rung = step.rung if self.study.pruner.prunes or self._in_legs(step) else None
        note_trial(
            self._run, trial, loss=loss, cost_s=cost_s, rung=rung, failed=reason, source=step.source,
            expected=self.study.expected(step), share=self.rest(step)[1],
            noted=self._noted.setdefault(step.number, []),
        )  # fmt: skip
        searched = self.study.learns and step.candidate.family in self.study.spaces
        if step.aside or (searched and (trial.cut or not trial.complete)):
            return not reason
        curve = tuple((progress(step.candidate, at), value) for at, value in trial.folds[0].curve)
        done = not any(fold.rests for fold in trial.folds)
        self.study.tell(step, Result(loss=loss, cost_s=cost_s, curve=curve, done=done))
        if step.after is not None:
            self._took_up(step, step.after)
        self._told[step.number] = step
        return not reason

    def take_over(self, step: Step, fold: int) -> None:
        """A fold whose training has ended on the rung below is done on this one too: journal it so."""
        if not step.below or self._in_legs(step):
            return
        lower = replace(step, rung=step.below[-1], below=step.below[:-1], last=False)
        record = self._run.ledger.get(self.key(lower, fold))
        if record is not None and not record["rests"] and not record["failed"]:
            again, key = {**record, "seconds": 0.0, "steps": 0}, self.key(step, fold)
            if self._run.ledger.get(key) != again:
                self._run.ledger.put(key, again)

    def _took_up(self, step: Step, after: Step) -> None:
        """A leg of a population is done: say from whom it was copied, and drop what no leg will go on from any more.

        When a generation has begun its legs, the one before has ended them: what that began from is not needed again.
        A population to which a longer search adds members keeps all.
        """
        unneeded: list[Step | None] = [after.after]
        if step.source is not None:
            params, was = step.candidate.params, after.candidate.params
            changed = {name: params[name] for name in params if params[name] != was.get(name)}
            self._moves.append({"trial": step.number, "leg": step.rung, "source": step.source, "changed": changed})
            given_up = self._told[step.number]
            unneeded += (given_up, given_up.after)
        if self.study.is_settled(step.number):
            for old in filter(None, unneeded):
                for fold in range(len(self._prepared.splitter.folds())):
                    drop_rest(self._run.folder / "models" / self.key(old, fold))

    def _cost_s(self, candidate: Candidate, fold: FoldResult) -> float:
        """By the laws that are shipped: the same on every machine, as the next step depends on it."""
        name, terms = unit_terms(candidate, self._sizes, float(fold.rounds), steps=float(fold.steps))
        law = self._laws.get(name)
        return law(terms) if law is not None else 0.0

    @cached_property
    def _laws(self) -> Mapping[str, Law]:
        return shipped_knowledge().time

    @cached_property
    def _sizes(self) -> Sizes:
        return sizes_of(self._prepared)

    def findings(self, given_up: Sequence[ShardwiseError] = ()) -> tuple[Finding, ...]:
        """What is told of the search; when only the baseline could be trained raises `TaskFailed`, or what the first
        fit that was `given_up` ended with: `OverBudget` or `WorkerLost`."""
        return (*self._failed(given_up), *self._moved(), *self._exhausted(), *left_out(self._left_out))

    def _exhausted(self) -> tuple[Finding, ...]:
        ended = [family for family in self.study.spaces if self.study.is_exhausted(family)]
        if not ended:
            return ()
        text = f"All points of the grid of {', '.join(ended)} were tried."
        hint = "Widen the --space, or choose another --sampler, to search on."
        return (Finding(code="grid_ended", severity="info", text=text, evidence={"families": ended}, hint=hint),)

    def _moved(self) -> tuple[Finding, ...]:
        if not self._moves:
            return ()
        told = [f"{move['trial']} from {move['source']} (leg {move['leg']})" for move in self._moves]
        text = f"In the population {len(told)} trials went on from another one's checkpoint: {', '.join(told[:MOVES])}"
        return (
            Finding(
                code="population", severity="info", evidence={"moves": self._moves},
                text=text + (f" and {len(told) - MOVES} more." if len(told) > MOVES else "."),
            ),
        )  # fmt: skip

    def _failed(self, given_up: Sequence[ShardwiseError]) -> tuple[Finding, ...]:
        if not self.failures:
            return ()
        text = grouped(self.failures)
        if not self.has_model:
            if given_up:
                first = given_up[0]
                hint = first.hint or "Give more --memory or fewer --workers, or leave the family out with --families."
                raise type(first)(f"all trials failed: {text}", hint=hint)
            raise TaskFailed(f"all trials failed: {text}", hint="Narrow the --space, or leave params out.")
        return (
            Finding(
                code="failed_trials", severity="warning", text=f"{len(self.failures)} trial(s) failed: {text}",
                evidence={"trials": [number for number, _ in self.failures]},
                hint="They are left out; " + ("give more --memory." if given_up else "narrow the --space."),
            ),
        )  # fmt: skip


def _parents_first(candidates: Sequence[Candidate], parent: Parent) -> list[Candidate]:
    """The baseline, the best candidates of the run that is gone on from, then the others."""
    best = [Candidate(**each) for each in parent.first]
    return [candidates[0], *best, *(candidate for candidate in candidates[1:] if candidate not in best)]


def grouped(failures: Sequence[tuple[int, str]]) -> str:
    """The most frequent reasons with how often they came; those that differ in numbers alone are one, by its first.

    >>> grouped([(3, "812 MB were used"), (4, "815 MB were used"), (5, "no split")])
    '812 MB were used (2 times), no split'
    """
    first: dict[str, str] = {}
    for _, reason in failures:
        first.setdefault(_NUMBERS.sub("#", reason), reason)
    counts = Counter(_NUMBERS.sub("#", reason) for _, reason in failures).most_common()
    told = [f"{first[kind]} ({count} times)" if count > 1 else first[kind] for kind, count in counts[:CAUSES]]
    return ", ".join(told) + (f" and {len(counts) - CAUSES} other reasons" if len(counts) > CAUSES else "")


def archive_of(run: Run) -> Archive:
    """The past from which a run learns, as it was when the run began: kept with it, as results depend on it."""
    kept = run.records("archive")
    blobs = FolderBlobs(run.blobs)
    if kept:
        return Archive.from_json(json.loads(blobs.read(kept[0]["blob"])))
    found, refused = past(run.config, without=run.folder.name)
    for reason in refused:
        run.say(f"A run tells nothing: {reason}", level="warning")
    content = json.dumps(found.to_json(), sort_keys=True).encode()
    same = found.splits_of(run.records("opened")[0]["data"])  # compared with the run's own split, once there is one
    blob = keep_blob(run.blobs, content)
    run.note("archive", blob=blob, digest=found.digest(), tasks=len(found.tasks), same_data=same)
    return found


def tuned(given: Mapping[str, Any]) -> dict[str, Any]:
    """What `tune` asks for where nothing else is said: it searches, where `train` tries the default candidates."""
    found = dict(given)
    if found.get("pruner") is None:
        found["pruner"] = "none" if given.get("sampler") in UNPRUNED else "asha"
    if found.get("trials") is None and found.get("time") is None:
        found["trials"] = TRIALS
    return found
