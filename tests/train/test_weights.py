"""A weight column by which no row counts is named before anything is learned."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwise.core.config import RunConfig
from shardwise.core.errors import DataError
from shardwise.core.events import Events
from shardwise.data.dataset import open_dataset
from shardwise.data.profile import Profile
from shardwise.train.prepare import prepare
from shardwise.train.run import open_run
from shardwise.train.weights import check_weights


def profile(*weights: float | None) -> Profile:
    made = Profile(pa.schema({"w": pa.float64()}))
    made.update(pa.record_batch({"w": pa.array(weights, pa.float64())}))
    return made


def test_a_run_whose_rows_all_have_weight_0_says_so(tmp_path: Path) -> None:
    x, path = np.random.default_rng(0).normal(size=400), tmp_path / "table.parquet"
    pq.write_table(pa.table({"x": x, "w": np.zeros(400), "y": x > 0}), path)
    asked = {"data": str(path), "target": "y", "weight": "w", "runs_folder": str(tmp_path / "runs"), "report": False}
    with (
        open_run(RunConfig.from_mapping(asked), "fingerprint", Events()) as run,
        pytest.raises(DataError, match="all 400 rows have weight 0 in column 'w'"),
    ):
        prepare(run, open_dataset(str(path)))


@pytest.mark.parametrize("weights", [(0.0, None), (None, None), (-1.0, 0.0), (float("nan"), -2.0)])
def test_weights_that_count_as_0_are_none(weights: tuple[float | None, ...]) -> None:
    with pytest.raises(DataError, match="none of 2 rows has a weight above 0 in column 'w'"):
        check_weights("w", profile(*weights), profile(*weights))


def test_rows_outside_the_test_fold_decide() -> None:
    check_weights("w", profile(0.0, 1.0), profile(0.0, 1.0))
    check_weights(None, profile(0.0), profile(0.0))
    with pytest.raises(DataError, match="all 1 rows outside the test fold have weight 0"):
        check_weights("w", profile(0.0, 1.0), profile(0.0))
