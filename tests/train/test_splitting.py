"""How runs split rows that are few, badly counted, or of few different times: whole runs of a baseline."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.core.config import RunConfig
from shardwise.core.errors import DataError, TargetError
from shardwise.core.events import Event, Events, Said
from shardwise.workflow import TrainResult, train


def run(tmp_path: Path, data: pa.Table | Path, heard: list[Event] | None = None, **changes: Any) -> TrainResult:
    path = data if isinstance(data, Path) else tmp_path / "data.parquet"
    if isinstance(data, pa.Table):
        pq.write_table(data, path)
    asked = {"target": "y", "trials": 1, "report": False, "runs_folder": str(tmp_path / "runs")}
    events = Events([heard.append]) if heard is not None else None
    return train(RunConfig.from_mapping({"data": str(path), **asked, **changes}), events)


def split_of(result: TrainResult) -> dict[str, Any]:
    split: dict[str, Any] = shardwise.load(result.package).package.manifest.lineage["split"]
    return split


def said(heard: list[Event]) -> str:
    return " ".join(event.text for event in heard if isinstance(event, Said))


def numbers(rows: int, **columns: Any) -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table({"x": rng.normal(size=rows), "y": np.where(rng.random(rows) < 0.5, "a", "b"), **columns})


@pytest.mark.parametrize("first", [3, 30])
def test_a_short_first_file_does_not_decide_the_split(tmp_path: Path, first: int) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    sizes, rng = [first, *[250] * 11], np.random.default_rng(0)
    for number, rows in enumerate(sizes):
        lines = "".join(f"{x:.6f},{i % 2}\n" for i, x in enumerate(rng.normal(size=rows)))
        (folder / f"{number:02}.csv").write_text("x,y\n" + lines)
    result = run(tmp_path, folder)
    assert result.rows == sum(sizes)
    assert split_of(result)["shares"]["folds"] == 8


def test_rows_that_were_expected_wrongly_are_split_anew(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        text, rows = ("", 3_000) if number == 4 else ("long" * 100, 10)  # the fifth of six files is not looked at
        lines = "".join(f"{x:.6f},{i % 2},{text}\n" for i, x in enumerate(rng.normal(size=rows)))
        (folder / f"{number}.csv").write_text("x,y,z\n" + lines)
    heard: list[Event] = []
    result = run(tmp_path, folder, heard)
    assert result.rows == 3_050
    assert split_of(result)["shares"]["folds"] == 8
    assert "3,050 rows were counted" in said(heard)


def test_too_few_rows_in_many_files_are_told_by_their_number(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.csv").write_text(f"x,y\n{number},{number}\n")
    with pytest.raises(DataError, match="3 rows are too few"):
        run(tmp_path, folder)


def test_of_few_different_times_every_fold_has_rows(tmp_path: Path) -> None:
    result = run(tmp_path, numbers(900, year=np.arange(900) % 4 + 2000), time_column="year")
    assert split_of(result)["cuts"] == [2001.0, 2002.0, 2003.0]
    assert not [finding for finding in result.findings if finding["code"] == "empty_fold"]
    assert result.score["value"] == pytest.approx(0.5)


def test_the_newest_rows_without_labels_are_not_the_test(tmp_path: Path) -> None:
    table = numbers(900, day=np.arange(900))
    y = table["y"].to_pylist()[:700] + [None] * 200
    result = run(tmp_path, table.set_column(1, "y", pa.array(y)), time_column="day")
    assert split_of(result)["cuts"][-1] < 700 * 0.95
    assert result.score["value"] == pytest.approx(0.5)


def test_text_without_a_time_is_told_and_a_part_of_it_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    days = [f"2024-01-{1 + i % 28:02} 10:00:00,{i:03}" for i in range(300)]
    pq.write_table(numbers(300, when=days), folder / "0.parquet")
    pq.write_table(numbers(20, when=["unknown"] * 20), folder / "1.parquet")
    assert run(tmp_path, folder, time_column="when").rows == 320
    with pytest.raises(DataError, match="'unknown' is not a time"):
        run(tmp_path, folder / "1.parquet", time_column="when")


def test_a_fold_without_rows_is_told(tmp_path: Path) -> None:
    result = run(tmp_path, numbers(300, part=np.arange(300) % 2), fold_column="part", folds=3)
    assert [f["text"] for f in result.findings if f["code"] == "empty_fold"] == ["Fold 2 has no rows."]


def test_few_rows_of_two_contents_are_split_by_position(tmp_path: Path) -> None:
    heard: list[Event] = []
    result = run(tmp_path, pa.table({"x": [0, 1] * 5, "y": ["a", "b"] * 5}), heard)
    assert split_of(result)["kind"] == "position"
    assert split_of(result)["shares"]["folds"] == 5
    assert result.valid_score == pytest.approx(0.5)
    assert "position" in said(heard)


def two_positives(seed: int = 0) -> pa.Table:
    return pa.table({"x": np.random.default_rng(seed).normal(size=30), "y": ["b"] * 2 + ["a"] * 28})


def test_a_rare_class_is_never_sealed_whole(tmp_path: Path) -> None:
    changed: set[bool] = set()
    for seed in range(20):
        heard: list[Event] = []
        result = run(tmp_path, two_positives(seed), heard, run=f"r{seed}", seed=seed)
        assert np.isfinite(result.valid_score)
        changed.add("another seed" in said(heard))
        if len(changed) == 2:
            return
    raise AssertionError("all seeds were the same")


def test_a_class_that_must_be_sealed_whole_is_named_with_what_can_be_done(tmp_path: Path) -> None:
    table = two_positives().append_column("day", pa.array([30, 30, *range(28)]))
    with pytest.raises(TargetError, match=r"'b' \(2\) are in the test fold.*--seed.*--test-share"):
        run(tmp_path, table, time_column="day")
