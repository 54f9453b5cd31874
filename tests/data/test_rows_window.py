"""Windows on binned rows: together they are the whole, in its order, whatever the partitions are."""

from pathlib import Path

import numpy as np
import pytest

from shardwise.core.schema import Feature, FeatureKind
from shardwise.data.bins import Binner
from shardwise.data.limits import Limit
from shardwise.data.rows import BinnedRows, RowsWriter, keep_binner
from shardwise.data.rows_window import ALIGNED_ROWS, RowsWindow, window_of

FEATURES = tuple(Feature(name=f"x{i}", source=f"x{i}", kind=FeatureKind.NUMBER) for i in range(3))
SIZES = (3000, 0, 10, 5000, 1)  # of partitions


@pytest.fixture(scope="module", params=["plain", "weighted"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place: Path = tmp_path_factory.mktemp(request.param)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(sum(SIZES), 3)).astype(np.float32)
    binner = Binner.fit(FEATURES, X)
    keep_binner(place, binner)
    writer, start = RowsWriter(place, 3, np.uint8), 0
    for index, size in enumerate(SIZES):
        rows = slice(start, start + size)
        weight = rng.random(size).astype(np.float32) if request.param == "weighted" and index != 3 else None
        folds = (np.arange(size) % 4 == 3).astype(np.int8)
        y, groups = (
            np.arange(rows.start, rows.stop, dtype=float),
            np.arange(rows.start, rows.stop, dtype=np.uint64) // 3,
        )
        with writer.partition(index) as part:
            part.write(binner.codes(X[rows]).T, y, weight, folds, groups)
        start += size
    return place


def codes(rows: BinnedRows) -> np.ndarray:
    parts = [rows.block(number).X for number in range(len(rows.block_rows()))]
    return np.concatenate([np.empty((0, len(FEATURES)), np.uint8), *parts])


@pytest.mark.parametrize("share", [1.0, 0.6])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("partitions", [None, (1, 3, 4)])
def test_windows_make_up_the_whole(folder: Path, size: int, share: float, partitions: tuple[int, ...] | None) -> None:
    whole = BinnedRows(folder, FEATURES, (0,), share=share, partitions=partitions)
    windows = [window_of(whole, rank, size) for rank in range(size)]
    assert all(window.start % ALIGNED_ROWS == 0 for window in windows)
    assert [window.n_rows for window in windows] == [sum(window.block_rows()) for window in windows]
    np.testing.assert_array_equal(np.concatenate([codes(window) for window in windows]), codes(whole))
    np.testing.assert_array_equal(np.concatenate([window.target() for window in windows]), whole.target())
    groups = [window.group() for window in windows]
    np.testing.assert_array_equal(np.concatenate([g for g in groups if g is not None]), whole.group())
    weights = [window.weight() for window in windows]
    if (all_weights := whole.weight()) is None:
        assert weights == [None] * size
    else:
        np.testing.assert_array_equal(np.concatenate([w for w in weights if w is not None]), all_weights)


def test_shares_are_equal_but_for_the_alignment(folder: Path) -> None:
    whole = BinnedRows(folder, FEATURES, (0, 1))
    for size in (2, 3, 4):
        shares = [window_of(whole, rank, size).n_rows for rank in range(size)]
        assert max(shares) - min(shares) <= 2 * ALIGNED_ROWS


def test_what_windows_share_and_what_not(folder: Path) -> None:
    whole = BinnedRows(folder, FEATURES, (0,))
    first, second = (window_of(whole, rank, 2) for rank in range(2))
    assert first.source is second.source is whole
    assert len({whole.key, first.key, second.key}) == 3
    assert RowsWindow(whole, 0, 0).block_rows() == []


def test_a_window_has_the_limit_of_the_whole(folder: Path) -> None:
    limit = Limit(center=100.0, distance=1000.0)
    whole = BinnedRows(folder, FEATURES, (0, 3))
    limited = whole.limited(limit)
    expected = limited.weight()
    assert expected is not None
    before = whole.weight()
    np.testing.assert_allclose(expected, limit.weight(whole.target()) * (1.0 if before is None else before), rtol=1e-6)
    found = [window_of(limited, rank, 3).weight() for rank in range(3)]
    np.testing.assert_array_equal(np.concatenate([each for each in found if each is not None]), expected)
    assert limited.key != whole.key
    assert whole.limit is None
