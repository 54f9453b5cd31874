"""What a forecast rests on: shipped laws, adapted by past runs on this machine, corrected by a calibration."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from typing import Any

import numpy as np

from shardwise.compute.ceiling import cpu_quota
from shardwise.core.candidate import Candidate
from shardwise.core.target import Task
from shardwise.plan import stages, training
from shardwise.plan.calibrate import Calibration, slice_of
from shardwise.plan.cost import Budget, Knowledge, placement
from shardwise.plan.gangs import Choice, shared_terms
from shardwise.plan.learn import Law, Terms, adapted, fit_law
from shardwise.plan.past import PastRun
from shardwise.plan.probe import Fitted
from shardwise.plan.sizes import Sizes

DEFAULTS = "defaults.json"
RIDGE = 1.0  # how strongly powers are drawn to what is expected of them
MOST_FACTOR = 4.0  # by which a calibration may correct a law
USUAL_POWER = 0.6  # of the rows, by which rounds grow: 0 to 1.4 over 13 data sets
CUT_GROWTH = 1.3  # of the rounds of a fit that time has cut
USUAL_DOUBLINGS = 2.0  # of the rows, over which a slope that was seen counts as much as the usual power
MOST_POWER = 1.2  # that is believed
SPREAD, SPREAD_DOUBLING, SPREAD_CUT = 0.15, 0.15, 0.3  # of the logarithm of the best round
PACE_SHARE = 0.5
LEAST_S = 0.05  # a measurement below this is noise

Observed = dict[str, list[tuple[Terms, float]]]


def defaults() -> Knowledge:
    """What is shipped: learned by `benchmarks/bench_plan.py --learn`."""
    content = json.loads(resources.files("shardwise.plan").joinpath(DEFAULTS).read_text("utf8"))
    return from_json(content)


def to_json(known: Knowledge) -> dict[str, Any]:
    """Knowledge without what belongs to one data set."""
    return {
        "time": {name: law.to_json() for name, law in sorted(known.time.items()) if law.runs},
        "memory": {name: law.to_json() for name, law in sorted(known.memory.items()) if law.runs},
        "rounds": {"best": round(known.rounds.best, 1), "rows": known.rounds.rows, "power": known.rounds.power},
        "rounds_spread": round(known.rounds_spread, 3),
        "candidates": {name: round(value, 4) for name, value in sorted(known.candidates.items())},
        "measured_workers": known.measured_workers,
    }


def from_json(content: Mapping[str, Any]) -> Knowledge:
    """Inverse of `to_json`."""
    return Knowledge(
        time={**_unknown(), **{name: Law(**law) for name, law in content["time"].items()}},
        memory={**_unknown(), **{name: Law(**law) for name, law in content["memory"].items()}},
        rounds=training.Rounds(**content["rounds"]),
        rounds_spread=content["rounds_spread"],
        candidates=content["candidates"],
        measured_workers=content["measured_workers"],
    )


def _unknown() -> dict[str, Law]:
    """Laws of stages of which no run has told yet: they take nothing."""
    return {name: Law({}, 0.0, 0, {}) for name in stages.STAGES[1:]}


# -- from past runs ---------------------------------------------------------------------------------------------------


def observed_time(runs: Sequence[PastRun]) -> Observed:
    """Terms and seconds of every stage and of every fit of past runs, by the name of the law."""
    found: Observed = {}
    for run in runs:
        for law, terms, seconds in (*_stage_times(run), *_unit_times(run)):
            found.setdefault(law, []).append((terms, seconds))
    return found


def observed_memory(runs: Sequence[PastRun]) -> Observed:
    """Terms of every stage of past runs, and its peak in megabytes."""
    found: Observed = {}
    for run in runs:
        for stage in stages.STAGES[1:]:
            if stage in run.stages and run.ceiling_bytes is None:
                terms = stages.memory_terms(
                    stage, run.sizes, _passes(run), _placed(run), trees=_trees(run),
                    growing=training.growing(run.sizes, _grown(run), _placed(run).slots),
                )  # fmt: skip
                found.setdefault(stage, []).append((terms, 1e-6 * run.stages[stage]["peak_bytes"]))
    return found


def _placed(run: PastRun) -> training.Placement:
    return _placement(run)[0]


def _placement(run: PastRun) -> tuple[training.Placement, Choice]:
    families = tuple(sorted({trial["family"] for trial in run.trials}))
    budget = Budget(
        workers=run.asked, cpus=run.workers, memory_bytes=run.ceiling_bytes or 2**62,
        confined=run.ceiling_bytes is not None, families=families, parallel=run.parallel, engine=run.engine,
        time_s=run.time_s,
    )  # fmt: skip
    return placement(run.sizes, budget)


def _passes(run: PastRun) -> stages.Passing:
    memory_bytes = run.ceiling_bytes or 2**62
    return stages.passing(
        run.sizes, workers=run.asked, cpus=run.workers, memory_bytes=memory_bytes, ceiling_bytes=run.ceiling_bytes
    )


def _stage_times(run: PastRun) -> Iterator[tuple[str, Terms, float]]:
    for stage in stages.STAGES[1:]:
        if stage == "train" or stage not in run.stages:
            continue
        terms = stages.time_terms(stage, run.sizes, _passes(run), trees=_trees(run), refit_s=_refit_s(run))
        yield stage, terms, run.stages[stage]["seconds"]
    rest = run.seconds - sum(stage["seconds"] for stage in run.stages.values())
    yield "open", stages.time_terms("open", run.sizes, _passes(run)), rest
    if "train" in run.stages:
        lengths = [fold["seconds"] for trial in run.trials for fold in trial["folds"]]
        placed = _placed(run)
        over = run.stages["train"]["seconds"] - training.makespan(lengths, placed.slots)
        yield "train", training.train_terms(run.sizes, len(run.trials), placed.processes, _trees(run)), over


def _trees(run: PastRun) -> float:
    """Trees of 31 leaves of the largest candidate, as in a forecast."""
    models = 1 if _refits(run) else run.sizes.folds
    return models * run.sizes.outputs * max(_grown(run), default=1.0)


def _grown(run: PastRun) -> list[float]:
    """Trees of 31 leaves of a model of each candidate that has some, for an output."""
    return [
        training.grown(Candidate(family=trial["family"], params=trial["params"]), float(np.mean(_rounds(trial))))
        for trial in run.trials
        if trial["family"] in training.GROWN
    ]


def _refits(run: PastRun) -> bool:
    return training.refits(run.sizes, run.ceiling_bytes, {trial["family"] for trial in run.trials})


def _refit_s(run: PastRun) -> float:
    """Mean seconds of a fold's fit of trees, where some are trained anew on all rows."""
    seconds = [fold["seconds"] for trial in run.trials if trial["family"] == "trees" for fold in trial["folds"]]
    return float(np.mean(seconds)) if _refits(run) and seconds else 0.0


def _rounds(trial: Mapping[str, Any]) -> list[float]:
    return [float(fold["rounds"]) for fold in trial["folds"]]


def _unit_times(run: PastRun) -> Iterator[tuple[str, Terms, float]]:
    placed, choice = _placement(run)
    quantile = run.sizes.task == Task.QUANTILE
    for trial in run.trials:
        candidate = Candidate(family=trial["family"], params=trial["params"])
        for fold in trial["folds"]:
            part = replace(run.sizes, train_rows=round(run.sizes.train_rows * fold.get("share", 1.0)))
            law, terms = training.unit_terms(
                candidate, part, fold["rounds"], threads=placed.threads, steps=fold["steps"]
            )
            members = choice.members(candidate.family, candidate.params, quantile=quantile, rows=part.train_rows)
            yield law, shared_terms(terms, members, choice.split), fold["seconds"]


def learned(known: Knowledge, runs: Sequence[PastRun]) -> Knowledge:
    """Shipped laws adapted to this machine by what past runs took."""
    time_s, memory = observed_time(runs), observed_memory(runs)
    workers = max([known.measured_workers, *(run.workers for run in runs if run.asked is not None)])
    return replace(
        known,
        time={name: adapted(law, time_s.get(name, [])) for name, law in known.time.items()},
        memory={name: adapted(law, memory.get(name, [])) for name, law in known.memory.items()},
        measured_workers=workers,
    )


def learned_anew(runs: Sequence[PastRun]) -> Knowledge:
    """Laws from runs alone: what is shipped."""
    candidates = _candidate_powers(runs)
    rounds, spread = _usual_rounds(runs)
    return Knowledge(
        time={name: fit_law(seen) for name, seen in observed_time(runs).items()},
        memory={
            name: fit_law(seen, known=stages.known_megabytes(name)) for name, seen in observed_memory(runs).items()
        },
        rounds=rounds, rounds_spread=spread, candidates=candidates, measured_workers=max(run.workers for run in runs),
    )  # fmt: skip


def _first_best(run: PastRun) -> float:
    """Mean best round of the first trees; 0 without trees."""
    first = next((trial for trial in run.trials if trial["family"] == "trees"), None)
    return float(np.mean(_rounds(first))) if first else 0.0


def _usual_rounds(runs: Sequence[PastRun], power: float = USUAL_POWER) -> tuple[training.Rounds, float]:
    """The geometric mean of the best rounds at 10,000 rows, and the spread of its logarithm."""
    logs = [math.log(_first_best(run) / (run.sizes.train_rows / 1e4) ** power) for run in runs if _first_best(run)]
    return training.Rounds(math.exp(float(np.mean(logs))), 10_000, power), float(np.std(logs))


def _candidate_powers(runs: Sequence[PastRun]) -> dict[str, float]:
    """How the best round depends on the candidate: least squares on logarithms, drawn to rate 1 and leaves 0."""
    rows, values = [], []
    for run in runs:
        trees = [trial for trial in run.trials if trial["family"] == "trees"]
        for trial in trees[1:]:
            mine, theirs = (
                training.params_of(Candidate(family="trees", params=t["params"])) for t in (trial, trees[0])
            )
            best = float(np.mean(_rounds(trial)))
            if best < 5 or _first_best(run) < 5:
                continue
            rows.append([
                math.log(theirs.learning_rate / mine.learning_rate), math.log(mine.num_leaves / theirs.num_leaves),
                float(mine.extra_trees - theirs.extra_trees), float(mine.target_transform is not None),
            ])  # fmt: skip
            values.append(math.log(best / _first_best(run)))
    expected = np.array([1.0, 0.0, 0.0, 0.0])
    X = np.array([*rows, *(RIDGE * np.eye(4))])
    y = np.array([*values, *(RIDGE * expected)])
    rate, leaves, extra, logs = np.linalg.lstsq(X, y, rcond=None)[0].tolist()
    return {"rate": rate, "leaves": leaves, "extra_trees": math.exp(extra), "logs": math.exp(logs)}


# -- from a calibration -----------------------------------------------------------------------------------------------


def calibrated(known: Knowledge, measured: Calibration) -> Knowledge:
    """Corrected by what the slice took, and with the rounds that its fits say."""
    part = slice_of(measured.sizes, measured.rows)
    factors = {
        stage: _factor(
            measured.passes_s[stage], known.time[stage](stages.time_terms(stage, part, stages.Passing(1, 0)))
        )
        for stage in stages.PASSES
        if stage in known.time
    }
    if "select" in measured.passes_s:  # on a sample, so that the slice is no smaller
        usual_s = known.time["select"](stages.time_terms("select", measured.sizes, stages.Passing(1, 0)))
        factors["select"] = _factor(measured.passes_s["select"], usual_s)
    known = replace(known, factors=factors, write_bytes_s=measured.write_bytes_s)
    usable = [fit for fit in measured.fits if fit.steps]
    if not usable or measured.trees is None:
        return known
    last = usable[-1]
    shape = replace(part, train_rows=last.rows, valid_rows=last.valid_rows)
    law, terms = training.unit_terms(measured.trees, shape, last.best, threads=cpu_quota(), steps=last.steps)
    speed = _factor(last.seconds, known.time[law](terms))
    rounds, spread = rounds_from(usable, measured.sizes, known)
    factors |= {law: speed, "large_trees": speed if law == "large_trees" else math.sqrt(speed)}
    pace = _pace([speed, factors.get("select", 1.0)])
    factors = {**dict.fromkeys((*known.time, *stages.STAGES), pace), **factors}
    return replace(known, factors=factors, rounds=rounds, rounds_spread=spread)


def _pace(factors: Sequence[float]) -> float:
    """By how much this machine is slower now than where the laws were learned, for what was not measured: half of what
    other measurements say, because data differ as well."""
    return math.exp(PACE_SHARE * float(np.mean(np.log(factors))))


def _factor(measured_s: float, predicted_s: float) -> float:
    """Measured over predicted seconds, both lifted above noise, within bounds."""
    ratio = (measured_s + LEAST_S) / (predicted_s + LEAST_S)
    return min(MOST_FACTOR, max(1 / MOST_FACTOR, ratio))


def rounds_from(fits: Sequence[Fitted], sizes: Sizes, known: Knowledge) -> tuple[training.Rounds, float]:
    """Best round of the candidate and its growth with the rows.

    On as many rows as a run trains on, the best round is that of the fit. Else it is that of the largest fit, or more
    where its time was over; from there it grows by a power between the usual one and that which was seen,
    nearer to the latter the more doublings of the rows it was seen over.
    """
    done = [replace(fit, best=round(CUT_GROWTH * fit.best)) if fit.cut else fit for fit in fits if fit.best]
    if not done:
        return known.rounds, known.rounds_spread
    small, last = done[0], done[-1]
    power = known.rounds.power
    seen = math.log2(last.rows / small.rows)
    if seen > 0.0:
        slope = math.log2(last.best / small.best) / seen
        power += (min(MOST_POWER, max(0.0, slope)) - power) * seen / (seen + USUAL_DOUBLINGS)
    doublings = abs(math.log2(max(sizes.train_rows, 1) / last.rows))
    spread = SPREAD / math.sqrt(last.folds) + SPREAD_DOUBLING * doublings + SPREAD_CUT * last.cut
    return training.Rounds(last.best, last.rows, power), min(known.rounds_spread, spread)
