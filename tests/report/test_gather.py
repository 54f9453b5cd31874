"""What a run hands to its report."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.report.runs import Page

from shardwise.core.candidate import Candidate
from shardwise.core.config import RunConfig
from shardwise.report import page, summary
from shardwise.report.data import ReportData
from shardwise.report.gather import Ending, _trials
from shardwise.stats.metrics import METRICS
from shardwise.testing.tables import people
from shardwise.train.result import FoldResult, TrialResult, rank
from shardwise.workflow import train


def result_of(number: int, losses: dict[int, float], folds: int = 3, **facts: Any) -> TrialResult:
    done = tuple(FoldResult(trial=number, fold=fold, loss=loss, seconds=1.0, **facts) for fold, loss in losses.items())
    return TrialResult(number=number, candidate=Candidate(family="trees"), folds=done, complete=len(losses) == folds)


def told(*trials: TrialResult) -> ReportData:
    ending = Ending(
        metric=METRICS["rmse"], trials=trials, members=[], told={}, y=np.zeros(0), prediction=np.zeros(0),
        test_metrics={}, package_hash="",
    )  # fmt: skip
    return ReportData(
        title="t", task="regression", target="y", metric="rmse", greater_is_better=False, trials=_trials(ending)
    )


def test_trials_are_ranked_as_the_run_ranks_them() -> None:
    trials = [
        result_of(0, {0: 0.3, 1: 0.9, 2: 0.9}),
        result_of(1, {0: 0.2, 1: 0.8, 2: 0.8}),
        result_of(2, {0: 0.25}),  # its mean is the lowest, as the first fold is easy
        result_of(3, {0: 0.4, 1: 0.7, 2: 0.5}, rests=True),
        result_of(4, {0: float("nan"), 1: float("inf"), 2: 0.1}),
    ]
    data = told(*trials)
    assert [trial["number"] for trial in data.ranked] == [trial.number for trial in rank(trials)] == [2, 3, 1, 0]
    assert [trial["status"] for trial in data.ranked] == ["cut", "rests on a rung", "done", "done"]
    only_worse = told(trials[1], trials[2])
    assert [trial["number"] for trial in only_worse.ranked] == [1, 2]


def test_scores_of_folds_stand_beside_those_of_the_same_folds() -> None:
    data = told(result_of(0, {0: 0.3, 1: 0.9, 2: 0.9}), result_of(1, {2: 0.8}))
    assert [trial["fold_scores"] for trial in data.trials] == [[0.3, 0.9, 0.9], [None, None, 0.8]]


def report_of(folder: Path, monkeypatch: pytest.MonkeyPatch, **asked: Any) -> tuple[ReportData, Any]:
    """What the report of a small run gets, and what the run gave back."""
    table = people(400)
    bought = [None if place % 4 == 0 else label for place, label in enumerate(table["bought"].to_pylist())]
    content = table.set_column(table.schema.get_field_index("bought"), "bought", pa.array(bought))
    pq.write_table(content, folder / "people.parquet")
    held: list[ReportData] = []
    monkeypatch.setattr(page, "write_report", lambda data, path: held.append(data))
    config = {
        "data": str(folder / "people.parquet"), "target": "bought", "trials": 3, "folds": 3,
        "drop": ["id", "household"], "runs_folder": str(folder / "runs"), **asked,
    }  # fmt: skip
    result = train(RunConfig.from_mapping(config))
    return held[0], result


def test_a_run_tells_its_own_validation_score_its_weights_and_the_rows_that_were_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, result = report_of(tmp_path, monkeypatch, weight="weight")
    assert data.valid_score == result.valid_score
    scored = len(data.test["y"])
    assert 0 < scored < data.rows_by_fold[-1]  # a fourth has no label
    assert f"on {scored} sealed test rows" in summary.headline(data).source
    assert "weigh rows by weight;" in Page(page.render(data)).text
