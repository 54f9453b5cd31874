"""Sizes: split as the splitter splits, guessed from a schema, the same after a journal."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.plan.shapes import sizes

from shardwise.data.dataset import open_dataset
from shardwise.plan.sizes import Folding, Sizes, guess_sizes, largest_share, split_rows
from shardwise.split.plan import SplitPlan, choose_splitter


@pytest.mark.parametrize("rows", [60, 1_000, 20_000, 150_000])
@pytest.mark.parametrize("asked", [Folding(), Folding(folds=3), Folding(test_share=0.3)])
def test_rows_of_folds_are_those_that_the_splitter_gives(rows: int, asked: Folding) -> None:
    splitter = choose_splitter(SplitPlan(rows=rows, features=["x"], folds=asked.folds, test_share=asked.test_share))
    folds = splitter.assign(pa.record_batch({"x": np.arange(rows)}), 0)
    told = split_rows(rows, asked)
    assert told["folds"] == len(splitter.folds())
    assert abs(told["test_rows"] - (folds == -1).sum()) <= 6 * np.sqrt(rows)
    for fold in splitter.folds():
        assert abs(told["train_rows"] - np.isin(folds, fold.train).sum()) <= 6 * np.sqrt(rows)
        assert abs(told["valid_rows"] - np.isin(folds, fold.valid).sum()) <= 6 * np.sqrt(rows)


def test_a_guess_counts_columns_and_says_that_it_is_one(tmp_path: Path) -> None:
    table = pa.table({"a": [1.0] * 50, "b": ["x"] * 50, "y": [1] * 50, "left": [2] * 50})
    pq.write_table(table, tmp_path / "t.parquet")
    found = guess_sizes(open_dataset(tmp_path / "t.parquet"), 50, "y", asked=Folding(), drop=["left"])
    assert found.rows == 50
    assert found.features == 2
    assert dict(found.columns) == {"number": 3, "string": 1}
    assert "features" in found.guessed


def test_sizes_survive_a_journal() -> None:
    assert Sizes.from_json(sizes(encoded=2).to_json()) == sizes(encoded=2)
    assert Sizes.from_json({**sizes().to_json(), "of_a_later_release": 1}) == sizes()


def test_the_share_of_the_largest_partition(tmp_path: Path) -> None:
    for name, rows in (("a", 10), ("b", 30_000)):
        pq.write_table(pa.table({"x": np.random.default_rng(0).random(rows)}), tmp_path / f"{name}.parquet")
    dataset = open_dataset(tmp_path)
    stored = [partition.size_bytes for partition in dataset.partitions]
    assert largest_share(dataset) == max(stored) / sum(stored) > 0.9
