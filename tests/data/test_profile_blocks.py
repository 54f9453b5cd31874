import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.state import dump_state
from shardwise.data import blocks
from shardwise.data.column_profile import ColumnProfile
from shardwise.data.hashing import HashedBatch, hash_column, hash_rows
from shardwise.data.profile import Profile


def wide(rows: int, seed: int, *, kind: type = np.float32) -> pa.RecordBatch:
    """Eighty columns of floats of which each cell is its own, and some of which it is not so."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 80)).astype(kind)
    X[:2, 0], X[3, 1], X[4, 2], X[5, 3] = X[2, 0], np.nan, np.inf, -np.inf
    X[:, 4], X[6, 5], X[7, 6], X[:2, 7] = 3.0, -0.0, 0.0, [0.0, -0.0]
    columns = {f"x{number}": pa.array(column) for number, column in enumerate(X.T)}
    columns["null"] = pa.array([None, *X[1:, 8].tolist()], pa.float32())
    columns["text"] = pa.array([f"t{row % 7}" for row in range(rows)])
    columns["whole"] = pa.array(rng.integers(0, 9, rows))
    return pa.record_batch(columns)


def profiled(*batches: pa.RecordBatch) -> Profile:
    profile = Profile(batches[0].schema, capacity=300)
    for batch in batches:
        profile.update(batch)
    return profile


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("rows", [40, 2_000])  # below and beyond what is kept of a column
def test_a_block_is_counted_to_the_same_bytes_as_its_columns(
    monkeypatch: pytest.MonkeyPatch, rows: int, kind: type
) -> None:
    batches = [wide(rows, seed, kind=kind) for seed in range(3)]

    def state() -> tuple[bytes, bytes]:
        whole, other = profiled(*batches[:2]), profiled(batches[2])
        first = dump_state(whole.state())
        whole.merge(other)
        return first, dump_state(whole.state())

    together = state()
    monkeypatch.setattr(blocks, "LEAST_COLUMNS", 1_000)
    assert together == state()


def test_what_is_plain_is_not_counted_column_by_column(monkeypatch: pytest.MonkeyPatch) -> None:
    alone: list[str] = []
    update = ColumnProfile.update
    monkeypatch.setattr(
        ColumnProfile, "update", lambda self, cells, hashes: (alone.append(self.name), update(self, cells, hashes))[1]
    )
    profiled(wide(500, 0))
    assert alone == ["x0", "x1", "x2", "x3", "x4", "x7", "null", "text", "whole"]


def test_hashes_of_a_wide_batch_are_those_of_its_columns() -> None:
    batch = wide(50, 1)
    hashed = HashedBatch.of(batch).hashes
    assert all(np.array_equal(hashed[name], hash_column(batch.column(name))) for name in batch.schema.names)
    few = ["x3", "text"]
    assert np.array_equal(hash_rows(batch, few), hash_rows(batch, few, hashes=hashed))
    names = batch.schema.names
    assert np.array_equal(hash_rows(pa.Table.from_batches([batch]), names), hash_rows(batch, names, hashes=hashed))


def test_a_copy_is_counted_on_by_itself() -> None:
    profile = profiled(wide(300, 0))
    before, copy = dump_state(profile.state()), profile.copy()
    assert dump_state(copy.state()) == before
    copy.merge(profiled(wide(300, 1)))
    copy.update(wide(300, 2))
    assert dump_state(profile.state()) == before
    restored = Profile.from_state(profile.state())
    restored.merge(profiled(wide(300, 1)))
    restored.update(wide(300, 2))
    assert dump_state(restored.state()) == dump_state(copy.state())
