"""Tables of candidates and their losses, one a data set, from which samplers are replayed in no time.

A table is what `shardwise tune --sampler random` journals: some rows of a data set, a few hundred candidates of small
trees, each one evaluated once, kept in a folder of runs. Between its points a forest interpolates, so that a sampler
may ask for any params. The interpolation is smoother than the truth: noise of a single evaluation is averaged out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sklearn.ensemble import ExtraTreesRegressor

import shardwise
from common import DATA_SETS
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.space import Space
from shardwise.core.target import Target, Task
from shardwise.models.portfolio import portfolio
from shardwise.models.spaces import idle_params, spaces_for
from shardwise.tune.archive import PastTask, of_runs
from shardwise.tune.samplers import Sampler
from shardwise.tune.spaces import Cube
from shardwise.tune.trial import Trial

FAMILY = "trees"
POOL = 2_000  # random params from which the scale of a table is taken
KINDS = {"codes": FeatureKind.CODE, "encoded": FeatureKind.ENCODED}


@dataclass(frozen=True)
class Table:
    """A task, the space that was searched on it, and a forest over what was found."""

    task: PastTask

    @property
    def name(self) -> str:
        return self.task.name

    @cached_property
    def space(self) -> Space:
        return spaces_for((FAMILY,), idle_params(self._features))[FAMILY]

    @property
    def _features(self) -> list[Feature]:
        """One of each kind that the task has."""
        kinds = [kind for name, kind in KINDS.items() if self.task.features[name] > 0]
        return [Feature(name=kind, source=kind, kind=kind) for kind in (FeatureKind.NUMBER, *kinds)]

    @cached_property
    def cube(self) -> Cube:
        return Cube(self.space)

    @cached_property
    def _forest(self) -> ExtraTreesRegressor:
        X = np.array([self.cube.point(trial["params"]) for trial in self.task.trials])
        y = np.array([trial["loss"] for trial in self.task.trials])
        return ExtraTreesRegressor(100, min_samples_leaf=2, random_state=0, n_jobs=1).fit(X, y)

    @cached_property
    def _pool(self) -> np.ndarray:
        points = np.random.default_rng(0).random((POOL, len(self.cube.names)))
        return np.asarray(self._forest.predict(points))

    def loss(self, params: Any) -> float:
        """0 for the best of the pool, 1 for its median."""
        value = float(self._forest.predict(self.cube.point(params)[None, :])[0])
        low, middle = float(self._pool.min()), float(np.median(self._pool))
        return (value - low) / max(middle - low, 1e-12)

    @property
    def portfolio(self) -> list[Mapping[str, Any]]:
        """The default candidates of the family, which a run tries before it searches."""
        target = Target(column="y", task=Task.BINARY, classes=("no", "yes"))
        return [candidate.params for candidate in portfolio(target, self._features, POOL, (FAMILY,))[1:]]

    def replay(
        self, sampler: Sampler, trials: int, seed: int, first: Sequence[Mapping[str, Any]] = ()
    ) -> np.ndarray:  # fmt: skip
        """Best loss so far `(trials,)`, after the candidates that came `first`; each trial sees all before it."""
        done: list[Trial] = []
        for number in range(len(first) + trials):
            params = first[number] if number < len(first) else sampler.suggest(self.space, done, 10_000 * seed + number)
            done.append(Trial(number=number, family=FAMILY, params=params, losses=(self.loss(params),)))
        return np.minimum.accumulate([trial.loss for trial in done])[len(first) :]


def make_table(name: str, data: Path, cache: Path, *, rows: int, trials: int) -> None:
    """Fill the table of a data set; what is there already is not evaluated again."""
    data_set = DATA_SETS[name]
    source = cache / "tables" / f"{name}-{rows}.parquet"
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        table = pq.read_table(data / f"{name}.parquet").drop_columns(list(data_set.drop))
        table = table.filter(pc.is_valid(table[data_set.target])).replace_schema_metadata(None)
        chosen = np.sort(np.random.default_rng(0).permutation(table.num_rows)[:rows])
        pq.write_table(table.take(pa.array(chosen)), source)
    random_trials(source, data_set.target, name, cache / "runs", trials=trials)


def random_trials(
    source: Path, target: str, run: str, runs_folder: Path, *, trials: int, folds: int = 3, rounds: int = 300
) -> None:
    """Random search on a table, in a run of that name."""
    held = {FAMILY: {"n_estimators": rounds}}
    shardwise.tune(
        str(source), target, run=run, runs_folder=str(runs_folder), sampler="random", pruner="none", trials=trials,
        families=(FAMILY,), params=held, folds=folds, test_share=0, report=False, workers=1,
    )  # fmt: skip


def read_tables(cache: Path, names: Sequence[str]) -> list[Table]:
    """The tables that are there."""
    archive, refused = of_runs(cache / "runs")
    for reason in refused:
        print(f"left out: {reason}")
    return [Table(task) for task in archive.of(FAMILY).tasks if task.name in names]
