"""The sealed test fold: opened once for the chosen models, and journalled before it is looked at."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from shardwise.core.findings import Finding
from shardwise.core.seeds import derive_seed
from shardwise.core.state import dump_state
from shardwise.data.chunk import thinned
from shardwise.data.rows import Chunk, DiskRows
from shardwise.models.families import load_model
from shardwise.split.base import TEST
from shardwise.stats.evaluation import Evaluation
from shardwise.stats.paired import describe_groups
from shardwise.store.looks import Looks, Marks
from shardwise.train.passes import FLOATS
from shardwise.train.postprocess import PostProcess, Team, coverage
from shardwise.train.prepare import Prepared
from shardwise.train.result import FoldResult
from shardwise.train.run import Run

GROUP = "group"  # column by which rows of the test depend on each other
MARKS = 64  # rows by which a test is known again
FEW_GROUPS = 10  # of equal size: the score of fewer says little
PACE_ROWS = 1024  # are predicted once to see how long all of them will take


@dataclass(frozen=True)
class TestScore:
    """Labels `(rows,)`, predictions and metrics with intervals; all empty where no row is sealed.

    `metrics` go into the package, whose bytes know nothing of other runs; `widened` have the intervals of all `looks`
    at these rows, as far as they are known in the folder of runs.
    """

    __test__ = False  # no test case, for pytest

    y: np.ndarray = field(default_factory=lambda: np.zeros(0))
    prediction: np.ndarray = field(default_factory=lambda: np.zeros(0))
    metrics: Mapping[str, Any] = field(default_factory=dict)
    looks: int = 1
    widened: Mapping[str, Any] = field(default_factory=dict)
    coverage: Mapping[str, Any] = field(default_factory=dict)  # of intervals or sets, see `postprocess.coverage`
    findings: tuple[Finding, ...] = ()


def open_test(run: Run, prepared: Prepared, team: Team, chosen: PostProcess, left_s: float) -> TestScore:
    """Score the models on the test fold, after what was `chosen` to be done with their answers.

    Where predicting all of it would take longer than `left_s` seconds, every k-th row is scored, and the user is told.
    """
    rows = DiskRows(prepared.rows / FLOATS, prepared.recipe.features, (TEST,))
    if not rows.n_rows:
        if sealed := prepared.fold_rows.get(TEST, 0):
            text = f"None of the {sealed:,} sealed rows has a label and a weight: the score is the out-of-fold one."
            run.say(text, level="warning")
        return TestScore()
    looks = _note_look(run, prepared, team.key)
    needed_s = _needed_s(run, team.members, rows)
    step = max(1, int(np.ceil(min(rows.n_rows, needed_s / max(left_s, 0.05)))))
    if step > 1:
        run.say(f"The time was up: the test is scored on one of {step} of its rows.", level="warning")
    chunks = [replace(chunk, X=np.asfortranarray(chunk.X)) for chunk in thinned(rows.chunks(), step)]
    y = np.concatenate([chunk.y for chunk in chunks])
    prediction = chosen.apply(team.combine(_predictions(run, team.members, chunks)))
    evaluation, units = Evaluation(chosen.target), _units(rows, step)
    weights = [chunk.weight for chunk in chunks if chunk.weight is not None]
    groups = {} if units is None else {GROUP: pa.array(units)}
    evaluation.update(y, prediction, np.concatenate(weights) if weights else None, groups)
    how: dict[str, Any] = {"seed": derive_seed(run.config.seed, "bootstrap"), "group": next(iter(groups), None)}
    scored = evaluation.result(**how)
    metrics = scored["metrics"]
    widened = metrics if looks == 1 else evaluation.result(**how, looks=looks)["metrics"]
    findings = _few_groups(scored["groups"])
    return TestScore(y, prediction, metrics, looks, widened, coverage(chosen, y, prediction, units), findings)


def _units(rows: DiskRows, step: int) -> np.ndarray | None:
    """Codes `(rows,)` of the groups of every `step`-th row; None where each row is on its own."""
    groups = rows.group()
    return None if groups is None else np.unique(groups[::step], return_inverse=True)[1]


def _few_groups(groups: Mapping[str, Any] | None) -> tuple[Finding, ...]:
    if groups is None or groups["worth"] >= FEW_GROUPS:
        return ()
    text = f"The sealed rows are of {describe_groups(groups)}: the score says little of new groups."
    hint = "Give another --seed or a larger --test-share, or compare by the scores out of fold."
    return (Finding(code="few_groups", severity="warning", text=text, evidence=dict(groups), hint=hint),)


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


def _note_look(run: Run, prepared: Prepared, key: str) -> int:
    """Journal that the test is opened for these models; which look it is, of this run and of others at these rows.

    Looking at the same models again is no further look. The rows are known by their split, and by their labels or by
    what some of them hold: a file that was moved, that got a column or rows more, holds the same test. What the run's
    own journal tells counts wherever its folder lies now.
    """
    column = prepared.target.column
    labels = hashlib.sha256(dump_state(prepared.profile.columns[column].state())).hexdigest()
    rows, marks = [prepared.splitter.sealed(), column], Marks(labels, prepared.profile.smallest_hashes(MARKS))
    known, before = Looks(Path(run.config.runs_folder)), [record["members"] for record in run.records("test opened")]
    looks = max(known.count(rows, [each, labels], marks) for each in (*before, key))
    if key not in before:
        run.note("test opened", members=key, look=looks)
    if looks > 1:
        text = (
            f"The test fold was opened for {looks - 1} other model(s) before: its score is a little too good now, and "
            f"its interval is widened for {looks} looks."
        )
        run.say(text, level="warning")
    return looks


def _predictions(run: Run, members: Sequence[FoldResult], chunks: Sequence[Chunk]) -> Iterator[np.ndarray]:
    for fold in members:
        model = load_model(run.model(fold.folder))
        yield np.concatenate([model.predict(chunk.X) for chunk in chunks])
