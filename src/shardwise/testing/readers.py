"""Conformance kit for readers: a format is right when every way of cutting its files gives the same rows.

Subclass `ReaderKit` in a test and say how a table is written:

    class TestCsv(ReaderKit):
        suffix = "csv"

        def write(self, table, path):
            pyarrow.csv.write_csv(table, path)
"""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import DataError, SchemaError
from shardwise.data.dataset import Dataset, open_dataset

_ROWS = 500


def rows_of(dataset: Dataset, columns: list[str] | None = None, batch_rows: int = 65_536) -> pa.Table:
    """All rows of a dataset, partition after partition."""
    batches = [batch for part in dataset.partitions for batch in dataset.read(part, columns, batch_rows)]
    kept = [field for field in dataset.schema if columns is None or field.name in columns]
    return pa.Table.from_batches(batches, schema=pa.schema(kept))


def sample_table(rows: int = _ROWS, seed: int = 0) -> pa.Table:
    """Numbers, text with line breaks and emoji, dates and nulls."""
    random = np.random.default_rng(seed)
    texts = np.array(["plain", 'a "quoted" word', "two\nlines", "naïve, 日本 🎉", "x;y|z"])
    return pa.table(
        {
            "id": pa.array(np.arange(rows)),
            "value": pa.array(np.round(random.normal(size=rows), 6), mask=random.random(rows) < 0.1),
            "text": pa.array(texts[random.integers(0, len(texts), rows)], mask=random.random(rows) < 0.1),
            "day": pa.array(random.integers(0, 20_000, rows).astype(np.int32)).cast(pa.date32()),
            "flag": pa.array(random.random(rows) < 0.5),
        }
    )


class ReaderKit:
    """What holds for every format; `splits_files` is False for one that is only read from the beginning."""

    suffix = ""
    splits_files = True

    def write(self, table: pa.Table, path: Path) -> None:
        """Write `table` to `path`, in pieces where the format has some."""
        raise NotImplementedError

    def dataset(self, folder: Path, target_bytes: int = 4_000) -> tuple[pa.Table, Dataset]:
        table = sample_table()
        rows = table.num_rows if self.splits_files else 100
        for start in range(0, table.num_rows, rows):
            self.write(table.slice(start, rows), folder / f"data-{start}.{self.suffix}")
        return table, open_dataset([str(folder)], target_bytes=target_bytes)

    def test_all_partitions_together_are_the_table(self, tmp_path: Path) -> None:
        table, dataset = self.dataset(tmp_path)
        assert len(dataset.partitions) > 2
        assert rows_of(dataset).equals(table)

    def test_the_cuts_do_not_change_the_rows(self, tmp_path: Path) -> None:
        table, dataset = self.dataset(tmp_path, target_bytes=1 << 40)
        assert len(dataset.partitions) == len(list(tmp_path.iterdir()))
        for target_bytes in (1, 777, 10_000):
            again = open_dataset([str(tmp_path)], target_bytes=target_bytes)
            assert rows_of(again).equals(table)

    def test_batches_are_bounded(self, tmp_path: Path) -> None:
        table, dataset = self.dataset(tmp_path)
        sizes = [batch.num_rows for part in dataset.partitions for batch in dataset.read(part, None, 7)]
        assert max(sizes) <= 7
        assert sum(sizes) == table.num_rows

    def test_columns_are_chosen_in_the_order_of_the_schema(self, tmp_path: Path) -> None:
        table, dataset = self.dataset(tmp_path)
        assert rows_of(dataset, ["flag", "id"]).equals(table.select(["id", "flag"]))
        assert sum(b.num_rows for part in dataset.partitions for b in dataset.read(part, [])) == table.num_rows

    def test_an_unknown_column_is_named(self, tmp_path: Path) -> None:
        _, dataset = self.dataset(tmp_path)
        with pytest.raises(SchemaError, match="'nope'"):
            next(dataset.read(dataset.partitions[0], ["nope"]))

    def test_a_pickled_dataset_reads_the_same(self, tmp_path: Path) -> None:
        table, dataset = self.dataset(tmp_path)
        assert rows_of(pickle.loads(pickle.dumps(dataset))).equals(table)  # noqa: S301 - as an executor sends it

    def test_partitions_are_numbered_and_planning_repeats(self, tmp_path: Path) -> None:
        _, dataset = self.dataset(tmp_path)
        again = open_dataset([str(tmp_path)], target_bytes=dataset.target_bytes)
        assert [part.index for part in dataset.partitions] == list(range(len(dataset.partitions)))
        assert again.partitions == dataset.partitions
        assert again.fingerprint == dataset.fingerprint

    def test_a_changed_file_is_noticed(self, tmp_path: Path) -> None:
        _, dataset = self.dataset(tmp_path)
        self.write(sample_table(_ROWS + 1), tmp_path / f"data-0.{self.suffix}")
        with pytest.raises(DataError, match=rf"changed .*data-0.{self.suffix}"):
            next(dataset.read(dataset.partitions[0]))

    def test_an_empty_file_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / f"void.{self.suffix}"
        path.write_bytes(b"")
        with pytest.raises(DataError, match=rf"empty .*{path.name}"):
            open_dataset([str(path)])

    def test_one_row_is_a_dataset(self, tmp_path: Path) -> None:
        table = sample_table(1)
        self.write(table, tmp_path / f"one.{self.suffix}")
        assert rows_of(open_dataset([str(tmp_path)])).num_rows == 1
