"""What is prepared for the trials."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from shardwise.core.config import RunConfig
from shardwise.core.errors import OverBudget
from shardwise.core.target import Target, Task
from shardwise.split.base import TEST
from shardwise.testing.tables import people
from shardwise.train.prepare import BASE_BYTES, fitting_share
from shardwise.workflow import train

TARGET = Target(column="y", task=Task.BINARY, classes=(0, 1))
RECIPE: Any = SimpleNamespace(features=[None] * 20)
ROWS = {TEST: 1_000_000, 0: 500_000, 1: 500_000}  # 20 + 2 * 40 bytes each outside the test: 100 MB


@pytest.mark.parametrize(("spare", "share"), [(200e6, 1.0), (100e6, 1.0), (55.9e6, 0.55), (1.1e6, 0.01)])
def test_the_share_is_what_fits_and_all_where_it_fits(spare: float, share: float) -> None:
    assert fitting_share(ROWS, RECIPE, TARGET, BASE_BYTES + int(spare)) == share


def test_too_little_for_anything_says_the_least() -> None:
    with pytest.raises(OverBudget, match="351 MB"):
        fitting_share(ROWS, RECIPE, TARGET, BASE_BYTES)


def test_a_low_ceiling_trains_on_a_share_of_the_rows_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(people(2000), path)
    asked = {"data": str(path), "target": "bought", "trials": 2, "folds": 2, "runs_folder": str(tmp_path / "runs")}
    config = RunConfig.from_mapping({**asked, "drop": ("id", "weight", "spent", "visits"), "key": "household"})
    whole = train(config)
    low = train(config.with_changes(memory=str(BASE_BYTES + 50_000), run="low"))
    told = {finding["code"]: finding for finding in low.findings}
    assert 0.1 < told["sampled"]["evidence"]["share"] < 0.9
    assert "sampled" not in {finding["code"] for finding in whole.findings}
    assert low.score["value"] > 0.7
