"""The generations of a population: which member begins its next leg, and from whose checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shardwise.compute.base import NOT_YET, NotYet
from shardwise.core.candidate import Candidate
from shardwise.core.seeds import derive_seed
from shardwise.core.space import Space
from shardwise.tune.samplers.population import PopulationSampler
from shardwise.tune.step import Result, Step
from shardwise.tune.trial import Trial


@dataclass(frozen=True, kw_only=True)
class Population:
    """Members are numbers of trials; `legs` is how many each of them has. `begun` are the steps that were asked for
    by (trial, rung), `results` what they found, of which those count that `trials` tell of."""

    sampler: PopulationSampler
    space: Space
    fixed: Mapping[str, object]
    legs: int
    seed: int
    members: Sequence[int]
    begun: Mapping[tuple[int, int], Step]
    results: Mapping[tuple[int, int], Result]
    trials: Mapping[int, Trial]

    def step(self) -> Step | NotYet | None:
        """The next leg of a member, in the order of generations and numbers; `NOT_YET` while a generation is not at
        its end, None when there is no further leg."""
        for generation in range(self.legs - 1):
            stood = {number: self._rung(number, generation) for number in self.members}
            if any(len(self.trials[number].losses) <= rung for number, rung in stood.items()):
                return NOT_YET
            members = [self._stood(number, rung) for number, rung in stood.items()]
            for number, rung in stood.items():
                if (number, generation + 1) in self.begun:
                    continue
                seed = derive_seed(self.seed, "population", number, generation)
                parent, params = self.sampler.move(self.space, number, members, seed)
                if parent != number or not self._ended(number, rung):
                    return self._next(number, generation + 1, self.begun[parent, stood[parent]], params)
        return None

    def _rung(self, number: int, generation: int) -> int:
        """The last leg of a member up to a generation: one whose training has ended early stays where it was."""
        return max(rung for rung in range(generation + 1) if (number, rung) in self.begun)

    def _ended(self, number: int, rung: int) -> bool:
        result = self.results[number, rung]
        return result.done or result.loss != result.loss

    def _stood(self, number: int, rung: int) -> Trial:
        candidate = self.begun[number, rung].candidate
        return Trial(
            number=number, family=candidate.family, params=candidate.params, done=self._ended(number, rung),
            losses=(self.results[number, rung].loss,),
        )  # fmt: skip

    def _next(self, number: int, rung: int, after: Step, params: Mapping[str, object]) -> Step:
        return Step(
            number=number, candidate=Candidate(family=after.candidate.family, params={**params, **self.fixed}),
            rung=rung, last=rung == self.legs - 1, after=after, proposed=after.proposed,
            below=tuple(below for below in range(rung) if (number, below) in self.begun),
        )  # fmt: skip
