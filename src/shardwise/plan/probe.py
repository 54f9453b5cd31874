"""How many rounds the first trees take, and how long a round is: fits on parts of a slice.

The best round grows with the rows, by a power that differs between data sets from 0 to more than 1, so a fit on all
rows is worth more than any extrapolation. Where the time does not allow it, a learner of three times the rate, which
takes about a third of the rounds, goes further: what the rate does to the rounds is seen on few rows, and what the rows
do to them on many.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardwise.compute.ceiling import cpu_quota
from shardwise.core.candidate import Candidate
from shardwise.core.schema import Feature
from shardwise.core.target import Target
from shardwise.data.rows import BinnedRows
from shardwise.models.base import FitRun
from shardwise.models.trees import Trees
from shardwise.models.trees_data import DATASETS
from shardwise.plan.training import params_of

VALID_FOLD, TRAIN_FOLD = 0, 1  # of the codes of a slice
FIRST_ROWS = 4_000
LEAST_ROWS = 50
FASTER = 3.0  # times the learning rate
COST_POWER = 0.9  # seconds of a fit by its rows: with them grow the seconds of a round, and the rounds
USED = 0.85  # of the time that is left, for estimates are estimates


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fit on `rows` rows, scored on `valid_rows`, at `faster` times the learning rate of the candidate.

    `best` is its best round, `steps` all that were boosted; `cut` says that its time was over.
    """

    rows: int
    valid_rows: int
    best: int
    steps: int
    seconds: float
    cut: bool
    faster: float = 1.0


def probe(
    folder: Path, features: Sequence[Feature], target: Target, trees: Candidate, limit_s: float
) -> tuple[Fitted, ...]:
    """Fits of `trees` on the codes in `folder` within `limit_s`: on few rows, then on as many as it allows."""
    probing = _Probing(folder, features, target, trees.params, time.perf_counter() + limit_s)
    try:
        return tuple(probing.fits())
    finally:
        DATASETS.free()


class _Probing:
    """The fits of a probe, each within the time that is left."""

    def __init__(
        self, folder: Path, features: Sequence[Feature], target: Target, params: Mapping[str, Any], ends: float
    ) -> None:
        self.valid = BinnedRows(folder, features, (VALID_FOLD,))
        self.whole = BinnedRows(folder, features, (TRAIN_FOLD,))
        self._features, self._target, self._params, self._ends = tuple(features), target, dict(params), ends

    @property
    def left_s(self) -> float:
        return self._ends - time.perf_counter()

    def fits(self) -> list[Fitted]:
        total = self.whole.n_rows
        if total < LEAST_ROWS or not self.valid.n_rows:
            return []
        first = self.fit(total if total <= 1.5 * FIRST_ROWS else FIRST_ROWS)
        if first.cut or first.rows >= total:
            return [first]
        if self._affordable(first) >= total:
            return [first, self.fit(total)]
        faster = self.fit(FIRST_ROWS, FASTER)
        rows = min(total, self._affordable(faster))
        if faster.cut or rows < 1.5 * FIRST_ROWS:
            return [first, faster]
        return [first, faster, self.fit(rows, FASTER)]

    def _affordable(self, small: Fitted) -> int:
        """Rows of a fit that takes the time that is left."""
        return int(small.rows * max(0.0, USED * self.left_s / max(small.seconds, 1e-3)) ** (1 / COST_POWER))

    def fit(self, rows: int, faster: float = 1.0) -> Fitted:
        """On `rows` rows; ends when the time is over."""
        rate = faster * params_of(Candidate(family="trees", params=self._params)).learning_rate
        model = Trees(self._target, self._features, **{**self._params, "learning_rate": rate})
        train = self.whole.sampled(rows / self.whole.n_rows)
        started, limit_s = time.perf_counter(), max(self.left_s, 0.5)
        seen, cut = 0, False

        def report(step: int, _loss: float) -> bool:
            nonlocal seen, cut
            seen = step
            cut = time.perf_counter() - started > limit_s
            return not cut

        model.fit(train, self.valid, FitRun(seed=0, threads=cpu_quota(), report=report))
        return Fitted(
            rows=train.n_rows, valid_rows=self.valid.n_rows, best=model.rounds, steps=seen,
            seconds=time.perf_counter() - started, cut=cut, faster=faster,
        )  # fmt: skip
