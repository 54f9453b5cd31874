"""How many rounds the first trees take, and how long a round is: fits on parts of a slice.

The best round grows with the rows, by a power that differs between data sets from 0 to more than 1, so a fit on all
rows is worth more than any extrapolation. Where the time does not allow it, fits go as far as it does, each as many
times larger as the one before says that it may be. (A learner of three times the rate goes further in the same seconds,
and stops too early on many rows: decision 0008.)
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

from shardwise.compute.ceiling import cpu_quota
from shardwise.core.candidate import Candidate
from shardwise.core.schema import Feature
from shardwise.core.target import Target
from shardwise.data.rows import BinnedRows
from shardwise.models.base import FitRun
from shardwise.models.trees import Trees
from shardwise.models.trees_data import DATASETS
from shardwise.split.base import Fold

FIRST_ROWS = 4_000
GROWTH = 1.5  # of the rows, that makes a further fit worth its time
LEAST_ROWS = 50
COST_POWER = 0.9  # seconds of a fit by its rows: with them grow the seconds of a round, and the rounds
USED = 0.85  # of the time that is left, for estimates are estimates


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A fit on `rows` rows, scored on `valid_rows`.

    `best` is its best round, `steps` all that were boosted; `cut` says that its time was over. Of `folds` of them all
    is the mean.
    """

    rows: int
    valid_rows: int
    best: int
    steps: int
    seconds: float
    cut: bool
    folds: int = 1


@dataclass(frozen=True)
class Coded:
    """The codes of a slice in a folder, and the evaluations that are fitted, in this order."""

    folder: Path
    features: tuple[Feature, ...]
    target: Target
    evaluations: tuple[Fold, ...]


def probe(rows: Coded, trees: Candidate, limit_s: float) -> tuple[Fitted, ...]:
    """Fits of `trees` within `limit_s`: on few rows, then on as many as it allows; on all rows of further folds too."""
    probing = _Probing(rows, trees.params, time.perf_counter() + limit_s)
    try:
        return tuple(probing.fits())
    finally:
        DATASETS.free()


class _Probing:
    """The fits of a probe, each within the time that is left."""

    def __init__(self, rows: Coded, params: Mapping[str, Any], ends: float) -> None:
        self._rows, self._params, self._ends = rows, dict(params), ends
        self.valid, self.whole = self._evaluation(rows.evaluations[0])

    def _evaluation(self, fold: Fold) -> tuple[BinnedRows, BinnedRows]:
        """Rows that validate, and rows that train."""
        valid, train = (BinnedRows(self._rows.folder, self._rows.features, part) for part in (fold.valid, fold.train))
        return valid, train

    @property
    def left_s(self) -> float:
        return self._ends - time.perf_counter()

    def fits(self) -> list[Fitted]:
        total = self.whole.n_rows
        if total < LEAST_ROWS or not self.valid.n_rows:
            return []
        first = self.fit(total if total <= 1.5 * FIRST_ROWS else FIRST_ROWS)
        fits = [first]
        while not fits[-1].cut and fits[-1].rows < total:
            rows = min(total, self._affordable(fits[-1]))
            if rows < GROWTH * fits[-1].rows:
                break
            fits.append(self.fit(rows))
        if not fits[-1].cut and fits[-1].rows >= total:
            fits[-1] = self._on_folds(fits[-1])
        return fits

    def _on_folds(self, whole: Fitted) -> Fitted:
        """The mean of a fit on all rows of the first fold and of further ones, as many as there is time for: the best
        rounds of folds differ by a quarter."""
        fits = [whole]
        for fold in self._rows.evaluations[1:]:
            if fits[-1].cut or fits[-1].seconds > USED * self.left_s:
                break
            self.valid, self.whole = self._evaluation(fold)
            fits.append(self.fit(self.whole.n_rows))
        done = [each for each in fits if not each.cut] or fits
        best, steps, seconds = (mean(getattr(each, name) for each in done) for name in ("best", "steps", "seconds"))
        return replace(whole, best=round(best), steps=round(steps), seconds=seconds, folds=len(done))

    def _affordable(self, small: Fitted) -> int:
        """Rows of a fit that takes the time that is left."""
        return int(small.rows * max(0.0, USED * self.left_s / max(small.seconds, 1e-3)) ** (1 / COST_POWER))

    def fit(self, rows: int) -> Fitted:
        """On `rows` rows; ends when the time is over."""
        model = Trees(self._rows.target, self._rows.features, **self._params)
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
            seconds=time.perf_counter() - started, cut=cut,
        )  # fmt: skip
