"""Which candidate next: the portfolio in its order, then what the sampler proposes. Knows nothing of models."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

from shardwise.core.candidate import Candidate
from shardwise.core.seeds import derive_seed
from shardwise.core.space import Space
from shardwise.tune.samplers import SAMPLERS, Sampler, Trial


@dataclass
class Study:
    """Ask for candidates, tell their losses.

    `limit` is the number of candidates in all (None: no end, the caller stops asking). The sampler searches the spaces
    in turn, by family name.
    """

    portfolio: Sequence[Candidate]
    spaces: Mapping[str, Space]
    seed: int
    limit: int | None = None
    sampler: Sampler = field(default_factory=SAMPLERS["random"])
    history: list[Trial] = field(default_factory=list)

    def ask(self) -> Iterator[tuple[int, Candidate]]:
        """Numbered candidates, drawn one by one."""
        return islice(self._endless(), self.limit)

    def tell(self, candidate: Candidate, loss: float) -> None:
        self.history.append({**candidate.to_json(), "loss": loss})

    def _endless(self) -> Iterator[tuple[int, Candidate]]:
        yield from enumerate(self.portfolio)
        families = sorted(self.spaces)
        if not families:
            return
        for number in count(len(self.portfolio)):
            family = families[number % len(families)]
            seed = derive_seed(self.seed, "tune", number)
            yield number, Candidate(family=family, params=self.sampler.suggest(self.spaces[family], self.history, seed))
