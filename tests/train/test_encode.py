"""Rows on disk: which are kept as what, and what is done again when the data change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwise.core.config import RunConfig
from shardwise.core.errors import DiskFull
from shardwise.core.events import Events
from shardwise.core.units import format_size
from shardwise.data.base import Partition
from shardwise.data.dataset import Dataset, open_dataset
from shardwise.data.rows import BinnedRows, DiskRows
from shardwise.split.base import TEST
from shardwise.train import encode as encoding_module
from shardwise.train import prepare as preparing
from shardwise.train.encode import Encoding, encode
from shardwise.train.passes import BINS, FLOATS
from shardwise.train.run import Run, open_run
from shardwise.workflow import train


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three files of 400 rows."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        pq.write_table(table(number), folder / f"{number}.parquet")
    return folder


def table(seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(3, 400))
    colours = rng.choice(["red", "green", "blue"], 400)
    return pa.table({"a": x[0], "b": x[1], "colour": colours, "y": x[0] + (colours == "red") + 0.1 * x[2] > 0})


def config(data: Path, **more: Any) -> RunConfig:
    asked = {"data": str(data), "target": "y", "trials": 2, "runs_folder": str(data.parent / "runs"), "report": False}
    return RunConfig.from_mapping({**asked, "families": "trees", **more})


def prepared_encoding(run: Run, data: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Encoding, Path]:
    """What `prepare` hands over to `encode`, and where the rows are."""
    seen: list[Encoding] = []

    def spy(run: Run, encoding: Encoding) -> tuple[Path, tuple[Path, ...]]:
        seen.append(encoding)
        return encode(run, encoding)

    monkeypatch.setattr(preparing, "encode", spy)
    prepared = preparing.prepare(run, open_dataset(str(data)))
    return seen[0], prepared.rows


def units(run: Run) -> int:
    return len(run.records("unit"))


def test_only_the_partition_that_changed_is_binned_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_run(config(data), "fingerprint", Events()) as run:
        encoding, folder = prepared_encoding(run, data, monkeypatch)
        before, done = _codes(encoding, folder), units(run)
        assert encode(run, encoding)[0] == folder
        assert units(run) == done
        pq.write_table(table(1).set_column(0, "a", pa.array(np.full(400, 9.0))), data / "1.parquet")
        encode(run, replace(encoding, dataset=open_dataset(str(data))))
        assert units(run) == done + 1
        after = _codes(encoding, folder)
    changed = [(x != y).any() for x, y in zip(before, after, strict=True)]
    assert changed == [False, True, False]


def _codes(encoding: Encoding, folder: Path) -> list[np.ndarray]:
    """Copies of the codes of column `a`, by partition."""
    rows = BinnedRows(folder / BINS, encoding.recipe.features, range(-1, 20))
    parts: dict[int, list[np.ndarray]] = {}
    for block, chunk in zip(rows._blocks, rows.chunks(), strict=True):
        parts.setdefault(block.partition, []).append(np.array(chunk.X[:, 0]))
    return [np.concatenate(parts[index]) for index in sorted(parts)]


def test_scored_rows_are_all_kept_as_floats_and_some_of_the_others(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding_module, "FLOAT_BYTES", 4 * 3 * 300)
    asked = config(data, valid_share=0.2, test_share=0.2)
    with open_run(asked, "fingerprint", Events()) as run:
        encoding, folder = prepared_encoding(run, data, monkeypatch)
        fold = encoding.splitter.folds()[0]
        features = encoding.recipe.features

        def rows(kind: str, folds: tuple[int, ...]) -> int:
            reader = BinnedRows if kind == BINS else DiskRows
            return reader(folder / kind, features, folds).n_rows

        assert rows(BINS, fold.valid) == rows(FLOATS, fold.valid) == encoding.fold_rows[fold.valid[0]]
        assert (rows(BINS, (TEST,)), rows(FLOATS, (TEST,))) == (0, encoding.fold_rows[TEST])
        trained = sum(encoding.fold_rows[f] for f in fold.train)
        assert rows(BINS, fold.train) == trained
        assert 0.5 * 300 < rows(FLOATS, fold.train) < 1.5 * 300 < trained


def test_a_ceiling_on_disk_that_is_too_low_says_the_least(data: Path) -> None:
    with pytest.raises(DiskFull, match="are allowed") as caught:
        train(config(data, disk="20kB"))
    least = caught.value.hint.split("--disk ")[1].split(",")[0]
    assert train(config(data, disk=f"{2 * float(least.split()[0]):.0f} {least.split()[1]}", run="more")).trials == 2
    assert format_size(20_000) in str(caught.value)


def test_further_candidates_read_the_codes_and_not_the_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = train(config(data, run="run"))
    read: list[str] = []

    def forbidden(self: Dataset, partition: Partition, *_: Any, **__: Any) -> Any:
        read.append(partition.path)
        raise AssertionError("the raw data were read again")

    monkeypatch.setattr(Dataset, "read", forbidden)
    more = train(config(data, run="run", trials=4))
    assert (first.trials, more.trials, read) == (2, 4, [])
