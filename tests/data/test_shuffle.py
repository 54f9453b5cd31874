"""The shuffle loses no row, keeps order within a partition, and gives the same bytes under any ceiling."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwise.core.errors import ConfigError, DataError, DiskFull, OverBudget
from shardwise.core.events import Events
from shardwise.data import buckets as buckets_module
from shardwise.data import shuffle as shuffle_module
from shardwise.data.buckets import Buckets, Encoding, choose_encoding
from shardwise.data.dataset import open_dataset
from shardwise.data.partitioners.hashed import HashPartitioner
from shardwise.data.partitioners.positions import Random
from shardwise.data.shuffle import ShuffleJob, shuffle
from shardwise.data.shuffles import choose_shuffle
from shardwise.testing.tables import people

ROWS = 30_000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    table = people(ROWS)
    for piece in range(3):
        pq.write_table(table.slice(piece * ROWS // 3, ROWS // 3), folder / f"{piece}.parquet", row_group_size=4_000)
    return folder


def run(source: Path, out: Path, partitioner=None, **changes):
    out.mkdir()
    given = {"memory_bytes": 10**9, "threads": 2, **changes}
    job = ShuffleJob(
        dataset=open_dataset([str(source)]), partitioner=partitioner or HashPartitioner(("city",), 3), folder=out,
        name="part-{}".format, **given,
    )  # fmt: skip
    return shuffle(job, Events())


def read(folder: Path, result) -> pa.Table:
    return pa.concat_tables([pq.read_table(folder / file.path) for file in result.files])


def test_rows_are_a_permutation_and_each_is_where_it_belongs(source: Path, tmp_path: Path) -> None:
    partitioner = HashPartitioner(("city", "household"), 7)
    result = run(source, tmp_path / "out", partitioner)
    written = read(tmp_path / "out", result)
    assert written.sort_by("id").equals(people(ROWS).cast(written.schema).sort_by("id"))
    for file in result.files:
        table = pq.read_table(tmp_path / "out" / file.path)
        numbers = partitioner.assign(table.combine_chunks().to_batches()[0], 0)
        assert set(numbers.tolist()) == {file.partition}
        assert (np.diff(table["id"].to_numpy()) > 0).all()  # the order of the data
        assert file.rows == table.num_rows
        assert file.size_bytes == (tmp_path / "out" / file.path).stat().st_size


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("part-*")}


@pytest.mark.parametrize("count", [40, 600])
def test_threads_and_memory_do_not_change_a_byte(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(buckets_module, "MIN_GROUP_ROWS", 512)
    monkeypatch.setattr(buckets_module, "GROUP_BYTES", 200_000)
    partitioner = Random(count)
    roomy = run(source, tmp_path / "roomy", partitioner)
    monkeypatch.setattr(shuffle_module, "BASE_BYTES", 10**9 - 400_000)
    tight = run(source, tmp_path / "tight", partitioner, threads=1)
    assert roomy.spilled_bytes == 0
    assert tight.spilled_bytes > 0
    assert digests(tmp_path / "roomy") == digests(tmp_path / "tight")
    assert len(digests(tmp_path / "tight")) == count


def test_row_groups_are_cut_by_counting(tmp_path: Path) -> None:
    schema = pa.schema({"x": pa.int64()})
    with Buckets(schema, tmp_path, Encoding(group_rows=80), count=1, memory_bytes=10**6) as buckets:
        for start in range(0, 300, 7):
            buckets.add(0, pa.record_batch({"x": list(range(start, min(300, start + 7)))}, schema=schema))
        (file,) = buckets.finish("p{}".format)
    footer = pq.read_metadata(tmp_path / file.path)
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [10, 80, 80, 80, 50]
    assert pq.read_table(tmp_path / file.path)["x"].to_pylist() == list(range(300))


def test_columns_that_repeat_their_values_get_a_dictionary() -> None:
    batch = people(1000).combine_chunks().to_batches()[0]
    found = choose_encoding(batch, "zstd")
    assert {"city", "bought", "visits"} <= set(found.dictionary)
    assert not {"id", "age", "income"} & set(found.dictionary)


def test_a_ceiling_that_is_too_low_is_refused_before_anything_is_read(source: Path, tmp_path: Path) -> None:
    with pytest.raises(OverBudget, match="400MB"):
        run(source, tmp_path / "out", memory_bytes=10**8)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle_module, "DISK_SHARE", 1e12)
    with pytest.raises(DiskFull, match="are needed"):
        run(source, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_source_that_changes_meanwhile_is_named(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.parquet"
    copy.write_bytes((source / "0.parquet").read_bytes())
    finish = Buckets.finish

    def touch_and_finish(self, name):
        copy.write_bytes((source / "1.parquet").read_bytes())
        return finish(self, name)

    monkeypatch.setattr(Buckets, "finish", touch_and_finish)
    with pytest.raises(DataError, match="has changed") as caught:
        run(copy, tmp_path / "out")
    assert "copy.parquet" in str(caught.value)


def damaged(source: Path, folder: Path) -> Path:
    """The three files, with the second half of the second one overwritten in its last row group."""
    folder.mkdir()
    for path in source.iterdir():
        content = bytearray(path.read_bytes())
        if path.name == "1.parquet":
            start = pq.read_metadata(path).row_group(2).column(3).data_page_offset
            content[start : start + 60] = bytes(60)
        (folder / path.name).write_bytes(content)
    return folder


def test_a_corrupt_source_is_named_with_the_way_on(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(damaged(source, tmp_path / "bad"), tmp_path / "out")
    assert "1.parquet" in str(caught.value)
    assert "--skip-corrupt" in str(caught.value)


def test_what_is_lost_with_a_corrupt_source_is_counted(source: Path, tmp_path: Path) -> None:
    result = run(damaged(source, tmp_path / "bad"), tmp_path / "out", skip_corrupt=True)
    assert 0 < result.losses.rows <= ROWS // 3
    assert result.rows + result.losses.rows == ROWS
    assert len(result.losses.messages) == 1


def test_an_unknown_engine_is_told() -> None:
    with pytest.raises(ConfigError, match="'local'"):
        choose_shuffle("locl")
