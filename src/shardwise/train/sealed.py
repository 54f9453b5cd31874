"""The sealed test fold: opened once for the chosen models, and journalled before it is looked at."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shardwise.core.seeds import derive_seed
from shardwise.data.rows import Chunk, DiskRows
from shardwise.models.families import load_model
from shardwise.split.base import TEST
from shardwise.stats.evaluation import Evaluation
from shardwise.train.passes import FLOATS
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult
from shardwise.train.run import Run

PACE_ROWS = 1024  # are predicted once to see how long all of them will take


@dataclass(frozen=True)
class TestScore:
    """Labels `(rows,)`, predictions and metrics with intervals; all empty where no row is sealed."""

    __test__ = False  # no test case, for pytest

    y: np.ndarray = field(default_factory=lambda: np.zeros(0))
    prediction: np.ndarray = field(default_factory=lambda: np.zeros(0))
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Team:
    """Models that predict together: `combine` makes one prediction of those of all. `key` holds all that decides it."""

    members: Sequence[FoldResult]
    combine: Callable[[Iterable[np.ndarray]], np.ndarray]
    key: str


def open_test(run: Run, prepared: Prepared, team: Team, left_s: float) -> TestScore:
    """Score the models on the test fold.

    Where predicting all of it would take longer than `left_s` seconds, every k-th row is scored, and the user is told.
    """
    test_rows = prepared.fold_rows.get(TEST, 0)
    if not test_rows:
        return TestScore()
    _note_look(run, team.key)
    rows = DiskRows(prepared.rows / FLOATS, prepared.recipe.features, (TEST,))
    needed_s = _needed_s(run, team.members, rows)
    step = max(1, int(np.ceil(min(test_rows, needed_s / max(left_s, 0.05)))))
    if step > 1:
        run.say(f"The time was up: the test is scored on one of {step} of its rows.", level="warning")
    chunks = [_thinned(chunk, step) for chunk in rows.chunks()]
    y = np.concatenate([chunk.y for chunk in chunks])
    prediction = team.combine(_predictions(run, team.members, chunks))
    evaluation = Evaluation(prepared.target)
    weights = [chunk.weight for chunk in chunks if chunk.weight is not None]
    evaluation.update(y, prediction, np.concatenate(weights) if weights else None)
    metrics = evaluation.result(seed=derive_seed(run.config.seed, "bootstrap"))["metrics"]
    return TestScore(y, prediction, metrics)


def _needed_s(run: Run, members: Sequence[FoldResult], rows: DiskRows) -> float:
    """Seconds that all test rows take: as in the trials, at the pace at which the first member goes here."""
    row_s = [fold.predict_s / max(1, fold.valid_rows) for fold in members]
    if rows.n_rows < 2 * PACE_ROWS or not row_s[0]:
        return rows.n_rows * sum(row_s)
    model = load_model(run.model(members[0].folder))
    few = next(iter(rows.chunks())).X[:PACE_ROWS]
    started = time.perf_counter()
    model.predict(few)
    pace = (time.perf_counter() - started) / len(few) / row_s[0]
    return rows.n_rows * sum(row_s) * min(pace, 1.0)


def _note_look(run: Run, key: str) -> None:
    """Journal that the test is opened for these models; looking at the same ones again is no further look."""
    looks = {record["members"] for record in run.records("test opened")}
    if key in looks:
        return
    run.note("test opened", members=key, look=len(looks) + 1)
    if looks:
        text = f"The test fold was opened {len(looks)} time(s) before: its score is a little too good now."
        run.say(text, level="warning")


def _thinned(chunk: Chunk, step: int) -> Chunk:
    if step == 1:
        return chunk
    weight = None if chunk.weight is None else chunk.weight[::step]
    return Chunk(np.asfortranarray(chunk.X[::step]), chunk.y[::step], weight)


def _predictions(run: Run, members: Sequence[FoldResult], chunks: Sequence[Chunk]) -> Iterator[np.ndarray]:
    for fold in members:
        model = load_model(run.model(fold.folder))
        yield np.concatenate([model.predict(chunk.X) for chunk in chunks])
