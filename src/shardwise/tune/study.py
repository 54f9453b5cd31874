"""What is tried next: a sequence of steps, each decided by what the steps well before it have found.

A step evaluates a trial on a rung. It is a paused trial that the pruner lets go on (from the highest rung first), else
a new candidate: the portfolio in its order, then what the sampler of a family proposes, the family chosen by a bandit
where there are several. A sampler may train its trials as populations: a rung is then a leg of the training, and what
a trial goes on from may be another one. Knows nothing of models.

**Deterministic.** Step i is decided by the results of the steps before i - lag, all of them and no others, whatever has
come in by then: so the sequence is the same on one worker and on many, fast or slow, after kills and when it is longer.
Up to lag + 1 steps are under way at a time; where one of them takes long, the others wait for it only lag steps later.
Default candidates depend on no result: but for searches with rungs or populations they wait for none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from shardwise.compute.base import NOT_YET, NotYet
from shardwise.core.candidate import Candidate
from shardwise.core.seeds import derive_seed
from shardwise.core.space import Space
from shardwise.tune.population import Population
from shardwise.tune.pruners import NoPruner, Pruner
from shardwise.tune.samplers import SAMPLERS, Sampler
from shardwise.tune.samplers.bandit import choose_family
from shardwise.tune.samplers.meta import MetaSampler
from shardwise.tune.samplers.plain import GridSampler
from shardwise.tune.samplers.population import SIZE, PopulationSampler
from shardwise.tune.standings import Standings
from shardwise.tune.step import Result, Step
from shardwise.tune.trial import Trial

TRIES = 4  # draws of a sampler until it proposes something that was not tried


@dataclass
class Study:
    """Ask for steps, tell what they found.

    `limit` is the number of trials in all (None: no end, the caller stops asking). `rungs` has for each family on how
    many rungs a trial can stand, the last one being the whole evaluation; 1 where it is not there. `fixed` are params
    that a family's candidates get in any case.
    """

    portfolio: Sequence[Candidate]
    spaces: Mapping[str, Space]
    seed: int
    limit: int | None = None
    samplers: Mapping[str, Sampler] = field(default_factory=dict)
    pruner: Pruner = field(default_factory=NoPruner)
    rungs: Mapping[str, int] = field(default_factory=dict)
    fixed: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    lag: int = 1
    _begun: dict[tuple[int, int], Step] = field(default_factory=dict)
    _steps: list[Step | None] = field(default_factory=list)  # None: nothing could be decided yet
    _trials: dict[int, Trial] = field(default_factory=dict)  # as far as they may be seen
    _results: dict[tuple[int, int], Result] = field(default_factory=dict)
    _seen: int = 0  # steps whose results are in `_trials`

    def __post_init__(self) -> None:
        self._standings = Standings(self.pruner)

    def ask(self) -> Iterator[Step | NotYet]:
        """The steps, decided one by one; `NOT_YET` where the results of earlier ones have to be told first."""
        while True:
            if not self._look() and not self._is_known():
                yield NOT_YET
                continue
            step = self._decide()
            if step is None and not (self.learns and self._under_way()):
                return
            self._steps.append(step)
            if step is not None:
                self._begun[step.number, step.rung] = step
                if step.number not in self._trials:
                    self._trials[step.number] = Trial(
                        number=step.number, family=step.candidate.family, params=step.candidate.params, done=False
                    )
                yield step

    def tell(self, step: Step, result: Result) -> None:
        self._results[step.number, step.rung] = result

    @property
    def trials(self) -> list[Trial]:
        """All that were begun, with everything that was told of them, by number."""
        found = dict(self._trials)
        for step in self._steps[self._seen :]:
            if step is not None and (step.number, step.rung) in self._results:
                found[step.number] = _reached(found[step.number], step, self._results[step.number, step.rung])
        return [found[number] for number in sorted(found)]

    def expected(self, step: Step) -> float | None:
        """Which share of random params an archive expects to be better, where what is tried was proposed from one."""
        family, params = step.candidate.family, step.candidate.params
        sampler = self.samplers.get(family)
        if not step.proposed or not isinstance(sampler, MetaSampler):
            return None
        return sampler.expected(self.spaces[family], params)

    def is_settled(self, number: int) -> bool:
        """Whether the population of a trial has all its members, so that a longer search goes the same way."""
        family = self._trials[number].family
        own = [other for other in sorted(self._trials) if self._trials[other].family == family]
        return own.index(number) < len(own) // SIZE * SIZE

    @property
    def learns(self) -> bool:
        """Whether what comes next depends on what was found."""
        several = len(self.spaces) > 1
        return several or self.pruner.prunes or any(sampler.learns for sampler in self.samplers.values())

    def _look(self) -> bool:
        """Take in the results that the next step may see; whether they are all there."""
        while self.learns and self._seen < len(self._steps) - self.lag:
            step = self._steps[self._seen]
            if step is not None:
                result = self._results.get((step.number, step.rung))
                if result is None:
                    return False
                self._trials[step.number] = _reached(self._trials[step.number], step, result)
                if self.pruner.prunes:
                    self._standings.add(self._trials[step.number])
            self._seen += 1
        return True

    def _is_known(self) -> bool:
        """Whether the next step is the next default candidate, whatever was found: one that the clock has cut is never
        told, and those behind it need not wait for it."""
        rests = self.pruner.prunes or any(isinstance(each, PopulationSampler) for each in self.samplers.values())
        return not rests and len(self._trials) < min(len(self.portfolio), self.limit or len(self.portfolio))

    def _under_way(self) -> set[int]:
        """Trials of the last steps, whose results may not be seen yet."""
        return {step.number for step in self._steps[self._seen :] if step is not None}

    def _decide(self) -> Step | None:
        """None when there is nothing to do before more is seen, or at all."""
        under_way = self._under_way() if self.learns else set()
        if (going_on := self._promoted(under_way)) is not None:
            return going_on
        number = len(self._trials)
        for population in self._populations(whole=self.limit is not None and number >= self.limit):
            if (leg := population.step()) is not None:
                return None if isinstance(leg, NotYet) else leg
        if (self.limit is None or number < self.limit) and (new := self._new(number)) is not None:
            return new
        return None if under_way or not self.learns else self._winner()

    def _populations(self, *, whole: bool) -> Iterator[Population]:
        """Those that have all their members; where the `whole` search has, the last one may have fewer."""
        for family, sampler in self.samplers.items():
            if not isinstance(sampler, PopulationSampler):
                continue
            own = [number for number in sorted(self._trials) if self._trials[number].family == family]
            for members in (own[start : start + SIZE] for start in range(0, len(own), SIZE)):
                if len(members) == SIZE or whole:
                    yield Population(
                        sampler=sampler, space=self.spaces[family], fixed=self.fixed.get(family, {}),
                        legs=self.rung_count(family), seed=self.seed, members=members, begun=self._begun,
                        results=self._results, trials=self._trials,
                    )  # fmt: skip

    def _promoted(self, under_way: set[int]) -> Step | None:
        trial = self._standings.first(under_way)
        return None if trial is None else self._next_rung(trial)

    def _winner(self) -> Step | None:
        """The best trial is trained to its end, if it is not."""
        usable = [trial for trial in self._trials.values() if trial.losses and not trial.failed]
        best = min(usable, key=lambda trial: (trial.loss, trial.number), default=None)
        return None if best is None or best.done else self._next_rung(best)

    def above(self, step: Step) -> Step | None:
        """The next rung of a step's trial, aside from the sequence; None where there is none."""
        if step.last or not self.pruner.prunes:
            return None
        rung, below = step.rung + 1, (*step.below, step.rung)
        last = rung == self.rung_count(step.candidate.family) - 1
        return replace(step, rung=rung, last=last, below=below, aside=True)

    def _next_rung(self, trial: Trial) -> Step:
        rung = trial.rung + 1
        candidate = Candidate(family=trial.family, params=trial.params)
        return Step(
            number=trial.number, candidate=candidate, rung=rung, last=rung == self.rung_count(trial.family) - 1,
            below=tuple(below for below, loss in enumerate(trial.losses) if loss == loss),
            proposed=trial.number >= len(self.portfolio),
        )  # fmt: skip

    def rung_count(self, family: str) -> int:
        """On how many rungs a trial of the family stands in this search."""
        return self.rungs.get(family, 1) if self.pruner.prunes or self._in_population(family) else 1

    def _in_population(self, family: str) -> bool:
        return isinstance(self.samplers.get(family), PopulationSampler)

    def _new(self, number: int) -> Step | None:
        if number < len(self.portfolio):
            candidate = self.portfolio[number]
        elif families := [family for family in sorted(self.spaces) if not self.is_exhausted(family)]:
            candidate = self._proposed(number, families)
        else:
            return None
        rungs = self.rung_count(candidate.family)
        first = 0 if self._in_population(candidate.family) else self.pruner.first_rung(number, rungs)
        return Step(
            number=number, candidate=candidate, rung=first, last=first == rungs - 1,
            proposed=number >= len(self.portfolio),
        )  # fmt: skip

    def is_exhausted(self, family: str) -> bool:
        """Whether all points of a family's grid were proposed."""
        sampler, portfolio = self.samplers.get(family), len(self.portfolio)
        if not isinstance(sampler, GridSampler):
            return False
        own = sum(trial.family == family for trial in self._trials.values() if trial.number >= portfolio)
        return own >= sampler.points(self.spaces[family])

    def _proposed(self, number: int, families: Sequence[str]) -> Candidate:
        seed = derive_seed(self.seed, "tune", number)
        trials = [self._trials[known] for known in sorted(self._trials)]
        family = choose_family(families, trials, seed)
        own = [trial for trial in trials if trial.family == family]
        tried = [dict(trial.params) for trial in own]
        sampler = self.samplers.get(family) or SAMPLERS["random"]()
        params: dict[str, object] = {}
        for attempt in range(TRIES):
            drawn = seed if not attempt else derive_seed(seed, "again", attempt)
            params = {**sampler.suggest(self.spaces[family], own, drawn), **self.fixed.get(family, {})}
            if params not in tried:
                break
        return Candidate(family=family, params=params)


def _reached(trial: Trial, step: Step, result: Result) -> Trial:
    """The trial with what a step found; rungs that it did not stand on count as NaN."""
    losses = trial.losses + (float("nan"),) * (step.rung - len(trial.losses)) + (result.loss,)
    done = result.done or step.last or result.loss != result.loss
    return replace(
        trial, params=step.candidate.params, losses=losses, curve=result.curve, cost_s=trial.cost_s + result.cost_s,
        done=done,
    )  # fmt: skip
