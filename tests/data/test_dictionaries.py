"""Strings that are read as dictionaries: the same rows, the same statistics, for less work."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwise.core.state import dump_state
from shardwise.data.dataset import Dataset, open_dataset
from shardwise.data.hashing import HashedBatch, hash_rows
from shardwise.data.profile import Profile
from shardwise.data.readers import parquet
from shardwise.stats.arrays import used_words


@pytest.fixture
def table() -> pa.Table:
    rng = np.random.default_rng(0)
    few = [None if i == 7 else f"word {i}" for i in rng.integers(0, 8, 5000)]
    many = [f"{i:06x} a long text that is different in each row {i}" for i in range(5000)]
    return pa.table({"few": few, "many": many, "x": rng.normal(size=5000)})


@pytest.fixture
def dataset(table: pa.Table, tmp_path: Path) -> Dataset:
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1500)
    return open_dataset([str(tmp_path)])


def read(dataset: Dataset) -> pa.Table:
    return pa.Table.from_batches([batch for part in dataset.partitions for batch in dataset.read(part)])


def test_only_small_dictionaries_are_taken_over_and_the_rows_are_the_same(table: pa.Table, dataset: Dataset) -> None:
    encoded = read(dataset.with_dictionaries())
    assert pa.types.is_dictionary(encoded.schema.field("few").type)
    assert encoded.schema.field("many").type == pa.string()  # its dictionary would hold a whole row group in memory
    assert encoded.cast(table.schema).equals(table)
    assert read(dataset).equals(table)


def test_the_profile_is_the_same_to_the_byte(dataset: Dataset) -> None:
    states = []
    for each in (dataset, dataset.with_dictionaries()):
        profile = Profile(dataset.schema)
        for part in each.partitions:
            for batch in each.read(part, None, 750):
                profile.add(HashedBatch.of(batch))
        states.append(dump_state(profile.state()))
    assert states[0] == states[1]
    assert profile.size_bytes == sum(
        batch.nbytes for part in dataset.partitions for batch in dataset.read(part, None, 750)
    )


def test_filtered_and_joined_batches_keep_rows_and_hashes(table: pa.Table) -> None:
    batch = table.combine_chunks().to_batches()[0]
    cells = HashedBatch.of(batch)
    kept = np.arange(len(table)) % 3 == 1
    parts = HashedBatch.concat([cells.filter(kept), cells.filter(~kept)])
    expected = pa.concat_tables([table.filter(pa.array(kept)), table.filter(pa.array(~kept))])
    assert pa.Table.from_batches([parts.batch]).cast(table.schema).equals(expected.combine_chunks())
    known = hash_rows(parts.batch, table.column_names, hashes=parts.hashes)
    np.testing.assert_array_equal(known, hash_rows(expected, table.column_names))


@pytest.mark.parametrize("nulls", [False, True])
def test_words_that_no_cell_has_are_dropped(nulls: bool) -> None:
    indices = pa.array([4, None if nulls else 4, 2, 0, 2], pa.int32())
    cells = pa.DictionaryArray.from_arrays(indices, ["a", "b", "c", "d", "e"])
    used = used_words(cells)
    assert used.dictionary.to_pylist() == ["a", "c", "e"]
    assert used.to_pylist() == cells.to_pylist()
    assert used_words(used).equals(used)


def test_narrow_files_are_cut_by_rows_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "TARGET_ROWS", (100, 300))
    for name in "ab":
        pq.write_table(pa.table({"x": range(1000)}), tmp_path / f"{name}.parquet", row_group_size=50)
    parts = open_dataset([str(tmp_path)]).partitions
    assert [part.rows for part in parts] == [250] * 8  # an eighth of the rows
    first = [(file << 40) + start for file in (0, 1) for start in (0, 250, 500, 750)]
    assert [part.first_row for part in parts] == first


def test_the_number_of_a_row_does_not_depend_on_the_plan(tmp_path: Path) -> None:
    for name in "ab":
        pq.write_table(pa.table({"x": range(1000)}), tmp_path / f"{name}.parquet", row_group_size=50)
    for target_bytes in (1, 1000, 1 << 30):
        dataset = open_dataset([str(tmp_path)], target_bytes=target_bytes)
        rows = [part.first_row + i for part in dataset.partitions for i in range(part.rows or 0)]
        assert rows == [(file << 40) + i for file in (0, 1) for i in range(1000)]
