"""From which runs on its own rows a search learns: its sealed test must not have been open there."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from shardwise import tuning
from shardwise.core.config import RunConfig
from shardwise.testing.tables import people
from shardwise.tune import archive as archives
from shardwise.tune.archive import Archive
from shardwise.tune.setup import make_study
from shardwise.workflow import TrainResult, train


def run(folder: Path, name: str, *, sampler: str = "random", seed: int = 0) -> TrainResult:
    asked: dict[str, Any] = {
        "data": str(folder / "people.parquet"), "target": "bought", "drop": ("id", "weight", "spent", "visits"),
        "folds": 2, "trials": 2, "families": ("linear",), "sampler": sampler, "seed": seed, "run": name,
        "runs_folder": str(folder / "runs"), "report": False,
    }  # fmt: skip
    return train(RunConfig.from_mapping(asked))


def test_runs_to_which_the_sealed_rows_were_open_are_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(people(300), tmp_path / "people.parquet")
    run(tmp_path, "alike")
    run(tmp_path, "other", seed=5)
    learned = list[set[str]]()

    def studied(*args: Any, archive: Any, **more: Any) -> Any:
        learned.append({task.name for task in archive.tasks})
        return make_study(*args, archive=archive, **more)

    monkeypatch.setattr(tuning, "make_study", studied)
    monkeypatch.setattr(archives, "shipped", Archive)  # which takes long to learn from
    result = run(tmp_path, "warm", sampler="meta")
    assert learned == [{"alike"}]
    (told,) = [finding for finding in result.findings if finding["code"] == "runs_left_out"]
    assert told["evidence"]["runs"] == ["other"]
