"""Population-based training (Jaderberg et al. 2017): the worst go on from the best, with other params.

A population has `SIZE` members, which are trained side by side in legs. After each leg, when all of them have ended
it, each of the worst quarter is given up: in its place goes on a copy of one of the best quarter - its weights, what
its optimiser remembers, its place in the training - with those params changed that may change while a model learns. So
a population takes the epochs of as many trainings as it has members, however often they are copied, and what comes out
is a schedule of params that no single candidate has.

Whole generations and not whoever comes first: who is among the worst is then the same on any number of workers.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from shardwise.core.space import Space
from shardwise.tune.samplers.plain import RandomSampler
from shardwise.tune.spaces import Cube
from shardwise.tune.trial import Trial

SIZE = 8
SHARE = 0.25  # of the members that are given up, and of those from which they are copied
SHIFT = 0.1  # of a range, up or down
ANEW = 0.25  # of the changes: drawn from the whole range


@dataclass(frozen=True)
class PopulationSampler:
    """New members are random; `changes` names the params that may change while a model learns."""

    learns: ClassVar[bool] = True
    changes: Collection[str] = ()

    def suggest(self, space: Space, trials: Sequence[Trial], seed: int) -> dict[str, object]:
        return RandomSampler().suggest(space, trials, seed)

    def move(self, space: Space, number: int, members: Sequence[Trial], seed: int) -> tuple[int, dict[str, object]]:
        """(the member from which trial `number` goes on, with which params): itself as it is, or one of the best.

        `members` are all, as they stood after the leg; one that is `done` or failed has nothing to go on from.
        """
        ranked = sorted(members, key=lambda trial: (np.inf if trial.failed else trial.loss, trial.number))
        place = next(place for place, trial in enumerate(ranked) if trial.number == number)
        own, share = ranked[place], max(1, round(SHARE * len(ranked)))
        best = [trial for trial in ranked[:share] if not trial.done and not trial.failed]
        worse = own.failed or (bool(best) and own.loss > best[-1].loss)
        if place < len(ranked) - share or not best or not worse:
            return number, dict(own.params)
        rng = np.random.default_rng(seed)
        parent = best[int(rng.integers(len(best)))]
        return parent.number, {**parent.params, **self._changed(Cube(space), parent, rng)}

    def _changed(self, cube: Cube, parent: Trial, rng: np.random.Generator) -> dict[str, object]:
        point = cube.point(parent.params)
        for place in range(len(point)):
            anew, drawn, sign = rng.random(), rng.random(), rng.choice((-1.0, 1.0))
            sign = sign if 0.0 <= point[place] + sign * SHIFT <= 1.0 else -sign  # at an end there is one way only
            point[place] = drawn if anew < ANEW else point[place] + sign * SHIFT
        return {name: value for name, value in cube.params(point).items() if name in self.changes}
