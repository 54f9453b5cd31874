import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardwise.core.errors import DataError, DiskFull, OverBudget
from shardwise.core.schema import Feature, FeatureKind
from shardwise.data import rows as rows_module
from shardwise.data import rows_order, rows_writer
from shardwise.data.bins import Binner
from shardwise.data.rows import BinnedRows, Chunk, DiskRows, RowsWriter, keep_binner

FEATURES = tuple(Feature(name=f"f{i}", source=f"f{i}", kind=FeatureKind.NUMBER) for i in range(3))
Batch = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def batch(n_rows: int, first: int = 0, folds: int = 3) -> Batch:
    """Rows that carry their number in X, y and weight."""
    number = np.arange(first, first + n_rows)
    X = np.asfortranarray(np.stack([number, number + 0.25, number + 0.5], axis=1).astype(np.float32))
    return X, number.astype(np.float64), (number % 5 + 1).astype(np.float32), (number * 7 % folds).astype(np.int8)


def numbers(chunks: Sequence[Chunk] | Iterator[Chunk]) -> np.ndarray:
    """The numbers of all rows, after checking that X, y and weight belong together."""
    found = [np.empty(0)]
    for chunk in chunks:
        np.testing.assert_array_equal(chunk.X, batch_like(chunk.y))
        if chunk.weight is not None:
            np.testing.assert_array_equal(chunk.weight, chunk.y % 5 + 1)
        found.append(chunk.y)
    return np.concatenate(found)


def batch_like(y: np.ndarray) -> np.ndarray:
    return np.stack([y, y + 0.25, y + 0.5], axis=1).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three partitions of 100, 0 and 57 rows, in batches of 10."""
    writer = RowsWriter(tmp_path, 3)
    for index, (first, n_rows) in enumerate([(0, 100), (100, 0), (100, 57)]):
        with writer.partition(index) as out:
            for start in range(first, first + n_rows, 10):
                out.write(*batch(min(10, first + n_rows - start), start))
    return tmp_path


def test_all_folds_together_are_all_rows_once(folder: Path) -> None:
    found = [numbers(DiskRows(folder, FEATURES, [fold]).chunks()) for fold in range(3)]
    for fold, rows in enumerate(found):
        assert (rows * 7 % 3 == fold).all()
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(157))
    assert DiskRows(folder, FEATURES, [0, 1, 2]).n_rows == 157


def test_chunks_are_column_major_views_of_the_files(folder: Path) -> None:
    for chunk in DiskRows(folder, FEATURES, [0]).chunks():
        assert chunk.X.flags.f_contiguous
        assert not chunk.X.flags.owndata
        assert not chunk.X.flags.writeable
        assert (chunk.X.dtype, chunk.y.dtype) == (np.float32, np.float64)


def test_target_weight_and_memory_have_the_order_of_the_chunks(folder: Path) -> None:
    rows = DiskRows(folder, FEATURES, [2, 0])
    order = numbers(rows.chunks())
    whole = rows.in_memory(10**9)
    np.testing.assert_array_equal(rows.target(), order)
    np.testing.assert_array_equal(rows.weight(), order % 5 + 1)
    np.testing.assert_array_equal(numbers([whole]), order)
    np.testing.assert_array_equal(numbers(rows.batches(7)), order)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shared")
    RowsWriter(path, 3).write(0, *batch(150))
    RowsWriter(path, 3).write(1, *batch(50, 150))
    return path


@settings(max_examples=25)
@given(batch_rows=st.integers(1, 200), seed=st.integers(0, 5), buffer=st.integers(1, 200), piece=st.integers(1, 60))
def test_shuffled_batches_are_a_permutation(shared: Path, batch_rows: int, seed: int, buffer: int, piece: int) -> None:
    rows = DiskRows(shared, FEATURES, [0, 1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "SHUFFLE_ROWS", buffer)
        patch.setattr(rows_order, "_PIECE_ROWS", piece)
        first = [np.array(chunk.y) for chunk in rows.batches(batch_rows, seed)]
        again = [np.array(chunk.y) for chunk in rows.batches(batch_rows, seed)]
        numbers(rows.batches(batch_rows, seed))
        places = list(rows.places(batch_rows, seed))
    assert [part.tolist() for part in first] == [part.tolist() for part in again]
    assert all(len(part) == batch_rows for part in first[:-1])
    np.testing.assert_array_equal(np.sort(np.concatenate(first)), np.sort(rows.target()))
    assert [part.tolist() for part in first] == [rows.target()[part].tolist() for part in places]


def test_another_seed_gives_another_order(folder: Path) -> None:
    rows = DiskRows(folder, FEATURES, [0, 1, 2])
    orders = [np.concatenate([chunk.y for chunk in rows.batches(16, seed)]) for seed in (0, 1)]
    assert (orders[0] != orders[1]).any()
    assert np.abs(np.diff(orders[0])).mean() > 20  # neighbours come from far apart


def test_memory_limit(folder: Path) -> None:
    rows = DiskRows(folder, FEATURES, [0])
    with pytest.raises(OverBudget, match="are allowed"):
        rows.in_memory(100)


@pytest.mark.parametrize("block_rows", [1, 25, 10_000])
def test_block_size_does_not_change_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_rows: int) -> None:
    monkeypatch.setattr(rows_writer, "BLOCK_ROWS", block_rows)
    with RowsWriter(tmp_path, 3).partition(0) as out:
        for start in range(0, 60, 20):
            out.write(*batch(20, start))
    assert out.rows == {0: 20, 1: 20, 2: 20}
    for fold in range(3):
        found = numbers(DiskRows(tmp_path, FEATURES, [fold]).chunks())
        np.testing.assert_array_equal(found, [n for n in range(60) if n * 7 % 3 == fold])


def test_the_caller_may_reuse_its_buffer(tmp_path: Path) -> None:
    X, y, weight, folds = batch(20)
    with RowsWriter(tmp_path, 3).partition(0) as out:
        out.write(X, y, weight, folds)
        X[:] = -1
    numbers(DiskRows(tmp_path, FEATURES, [0, 1, 2]).chunks())


def test_row_major_and_wider_numbers_are_taken(tmp_path: Path) -> None:
    X, y, weight, folds = batch(20)
    RowsWriter(tmp_path, 3).write(0, np.ascontiguousarray(X, np.float64), y, weight, folds)
    assert len(numbers(DiskRows(tmp_path, FEATURES, [0, 1, 2]).chunks())) == 20


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        RowsWriter(tmp_path / name, 3).write(4, *batch(50))
    files = [sorted((tmp_path / name / "part-000004").iterdir()) for name in ("a", "b")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_rows_without_target_are_left_out(tmp_path: Path) -> None:
    X, y, _, folds = batch(10)
    y[[0, 4]] = np.nan
    assert sum(RowsWriter(tmp_path, 3).write(0, X, y, None, folds).values()) == 8
    rows = DiskRows(tmp_path, FEATURES, [0, 1, 2])
    np.testing.assert_array_equal(np.sort(numbers(rows.chunks())), [1, 2, 3, 5, 6, 7, 8, 9])


def test_nothing_at_all(tmp_path: Path) -> None:
    RowsWriter(tmp_path, 3).write(0, *batch(0))
    for rows in (DiskRows(tmp_path, FEATURES, [0]), DiskRows(tmp_path / "nowhere", FEATURES, [0])):
        assert (rows.n_rows, list(rows.chunks()), list(rows.batches(5, 1)), len(rows.target())) == (0, [], [], 0)
        assert rows.in_memory(0).X.shape == (0, 3)


def test_no_features(tmp_path: Path) -> None:
    _, y, weight, folds = batch(10)
    RowsWriter(tmp_path, 0).write(0, np.empty((10, 0), np.float32), y, weight, folds)
    rows = DiskRows(tmp_path, (), [0, 1, 2])
    assert rows.in_memory(10**6).X.shape == (10, 0)
    assert sorted(np.concatenate([chunk.y for chunk in rows.batches(3, 1)])) == list(range(10))


def test_partitions_without_weights_count_one(tmp_path: Path) -> None:
    X, y, weight, folds = batch(10)
    RowsWriter(tmp_path, 3).write(0, X, y, weight, folds)
    RowsWriter(tmp_path, 3).write(1, X, y, None, folds)
    found = DiskRows(tmp_path, FEATURES, [0, 1, 2]).weight()
    assert found is not None
    assert found.sum() == weight.sum() + 10
    assert DiskRows(tmp_path, FEATURES, [0], partitions=[1]).weight() is None


def test_some_partitions(folder: Path) -> None:
    assert set(numbers(DiskRows(folder, FEATURES, [0, 1, 2], partitions=[2]).chunks())) == set(range(100, 157))


def test_writing_again_replaces(folder: Path) -> None:
    before = DiskRows(folder, FEATURES, [0, 1, 2])
    RowsWriter(folder, 3).write(0, *batch(5))
    after = DiskRows(folder, FEATURES, [0, 1, 2])
    assert after.n_rows == 5 + 57
    assert before.key != after.key
    assert after.key == DiskRows(folder, FEATURES, [2, 1, 0]).key
    assert sorted(path.name for path in folder.iterdir()) == ["part-000000", "part-000001", "part-000002"]


def test_an_error_leaves_no_half_partition(tmp_path: Path) -> None:
    writer = RowsWriter(tmp_path, 3)

    def fail() -> None:
        with writer.partition(7) as out:
            out.write(*batch(10))
            raise OSError(28, "No space left on device")

    with pytest.raises(DiskFull, match="partition 7"):
        fail()
    assert not writer.done(7)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_not_read_and_swept(tmp_path: Path) -> None:
    writer = RowsWriter(tmp_path, 3)
    writer.write(1, *batch(10))
    killed = writer.partition(0)
    killed.__enter__().write(*batch(10))
    assert DiskRows(tmp_path, FEATURES, [0, 1, 2]).n_rows == 10
    writer.sweep()
    assert [path.name for path in tmp_path.iterdir()] == ["part-000001"]
    assert [writer.done(index) for index in (0, 1)] == [False, True]


def test_a_reader_is_a_small_reference(folder: Path) -> None:
    rows = DiskRows(folder, FEATURES, [0, 1])
    expected = numbers(rows.chunks())
    content = pickle.dumps(rows)
    assert len(content) < 5_000
    np.testing.assert_array_equal(numbers(pickle.loads(content).chunks()), expected)


@pytest.mark.parametrize("change", ["X", "y", "weight", "folds"])
def test_shapes_that_disagree_are_refused(tmp_path: Path, change: str) -> None:
    parts = dict(zip(("X", "y", "weight", "folds"), batch(10), strict=True))
    parts[change] = parts[change][:-1]
    with pytest.raises(DataError, match="shapes"):
        RowsWriter(tmp_path, 3).write(0, **parts)


def test_weights_in_some_batches_only_are_refused(tmp_path: Path) -> None:
    X, y, weight, folds = batch(10)
    with RowsWriter(tmp_path, 3).partition(0) as out:
        out.write(X, y, weight, folds)
        with pytest.raises(DataError, match="weights"):
            out.write(X, y, None, folds)


def test_rows_of_other_features_or_formats_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="3 features"):
        DiskRows(folder, FEATURES[:2], [0])
    manifest = folder / "part-000000" / "rows.json"
    manifest.write_text(manifest.read_text().replace('"format": 2', '"format": 9'))
    with pytest.raises(DataError, match="format 9"):
        DiskRows(folder, FEATURES, [0])


@pytest.fixture(scope="module")
def binned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,000 rows of two folds as codes in two partitions, of which the features 0 and 2 have bins."""
    path = tmp_path_factory.mktemp("binned")
    binner = Binner([0, 2], [np.arange(0, 2000, 20) + 0.5, np.array([1000.0])])
    keep_binner(path, binner)
    writer = RowsWriter(path, 2, np.uint8)
    for index in range(2):
        X, y, weight, folds = batch(1000, 1000 * index, folds=2)
        writer.write(index, binner.codes(X).T, y, weight, folds)
    return path


def test_codes_are_read_as_they_were_written(binned: Path) -> None:
    rows = BinnedRows(binned, FEATURES, [1])
    assert rows.features == (FEATURES[0], FEATURES[2])
    for chunk in rows.chunks():
        assert chunk.X.dtype == np.uint8
        np.testing.assert_array_equal(chunk.X[:, 0], np.ceil((chunk.y - 0.5) / 20).clip(0))
        np.testing.assert_array_equal(chunk.X[:, 1], chunk.y + 0.5 > 1000)
    assert sum(rows.block_rows()) == rows.n_rows == 1000


def test_a_share_of_the_codes_is_the_same_rows_each_time(binned: Path) -> None:
    whole = BinnedRows(binned, FEATURES, [0, 1])
    some, again = whole.sampled(0.3), pickle.loads(pickle.dumps(whole.sampled(0.3)))
    np.testing.assert_array_equal(some.target(), again.target())
    assert some.n_rows == len(some.target()) == sum(some.block_rows())
    assert abs(some.n_rows - 600) < 5 * np.sqrt(2000 * 0.3 * 0.7)
    assert set(some.target()) < set(whole.target())
    more = whole.sampled(0.6)
    assert set(some.target()) < set(more.target())
    for chunk in some.chunks():
        np.testing.assert_array_equal(chunk.X[:, 1], chunk.y + 0.5 > 1000)
    np.testing.assert_array_equal(some.weight(), some.target() % 5 + 1)
    assert some.key != whole.key
    assert whole.sampled(1.0) is whole


def partitions(folder: Path, count: int, rows: int = 20) -> BinnedRows:
    """So many partitions, the targets rising from one to the next but for their order on disk."""
    keep_binner(folder, Binner([0, 2], [np.arange(0, 2000, 20) + 0.5, np.array([1000.0])]))
    writer = RowsWriter(folder, 2, np.uint8)
    for index in range(count):
        _, _, weight, folds = batch(rows, 0, folds=2)
        level = index * 7 % count
        writer.write(index, np.zeros((rows, 2), np.uint8), np.full(rows, float(level)), weight, folds)
    return BinnedRows(folder, FEATURES, [0, 1])


@pytest.mark.parametrize("seed", range(4))
def test_a_share_of_the_partitions_is_like_the_whole_and_larger_ones_have_it_too(tmp_path: Path, seed: int) -> None:
    whole = partitions(tmp_path, 18)
    ninth, third, most = (set(whole.of_partitions(share, seed).target()) for share in (1 / 9, 1 / 3, 0.8))
    assert ninth < third < most < set(whole.target())
    assert [len(ninth), len(third), len(most)] == [2, 6, 14]
    assert abs(np.mean(sorted(third)) - 8.5) <= 1.5  # of six drawn at random 1.9 is one standard deviation
    assert max(np.diff([-1, *sorted(third), 18])) <= 5  # and there is no hole in them
    again = pickle.loads(pickle.dumps(whole.of_partitions(1 / 3, seed)))
    assert set(again.target()) == third
    assert again.key != whole.key
    assert whole.of_partitions(1.0) is whole


def test_the_seed_says_which_partitions(tmp_path: Path) -> None:
    whole = partitions(tmp_path, 30)
    drawn = {tuple(sorted(set(whole.of_partitions(0.1, seed).target()))) for seed in range(8)}
    assert len(drawn) > 3


def test_of_few_partitions_it_is_a_share_of_the_rows_and_larger_ones_have_it_too(binned: Path) -> None:
    whole = BinnedRows(binned, FEATURES, [0, 1])
    ninth, third = whole.of_partitions(1 / 9), whole.of_partitions(1 / 3)
    assert 130 < ninth.n_rows < 320
    assert set(ninth.target()) < set(third.target())
    assert {int(y) // 1000 for y in ninth.target()} == {0, 1}


def test_pages_that_were_given_back_are_read_again(binned: Path) -> None:
    rows = BinnedRows(binned, FEATURES, [0, 1])
    before = [np.array(rows.block(i).X) for i in range(len(rows.block_rows()))]
    for i, codes in enumerate(before):
        rows.release(i)
        np.testing.assert_array_equal(rows.block(i).X, codes)
