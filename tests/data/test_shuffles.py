"""Whatever shuffles the rows, the files have the same bytes."""

import hashlib
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.compute.engines import ENGINES
from shardwise.compute.exchange.engines import EXCHANGES
from shardwise.compute.exchange.over_files import exchange_by
from shardwise.core.errors import ConfigError, DataError
from shardwise.data import buckets as buckets_module
from shardwise.data import shuffles
from shardwise.data.shuffles import SHUFFLES
from shardwise.testing.tables import people

ROWS = 6_000
PROCESSES = "processes"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three files, and an engine of processes of this machine."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    for piece in range(3):
        pq.write_table(people(ROWS).slice(piece * 2000, 2000), f"data/{piece}.parquet", row_group_size=900)
    monkeypatch.setitem(EXCHANGES, PROCESSES, partial(exchange_by, "local"))
    monkeypatch.setitem(SHUFFLES, PROCESSES, partial(shuffles.shuffle_on, PROCESSES))
    monkeypatch.setitem(ENGINES, PROCESSES, ENGINES["local"])
    return tmp_path


def digests(folder: str) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(folder).iterdir()}


@pytest.mark.parametrize(
    ("by", "workers"),
    [
        (["hash:city,household:5"], 2),
        (["range:age:4"], 1),
        (["year:since", "hash:city:3"], 1),
        (["roundrobin:3"], 1),
        (["random:4"], 1),
    ],
)
def test_the_files_of_one_process(by: list[str], workers: int) -> None:
    here = shardwise.partition("data", "here", by)
    there = shardwise.partition("data", "there", by, engine=PROCESSES, workers=workers)
    assert digests("here") == digests("there")
    assert here.to_json() | {"out": ""} == there.to_json() | {"out": ""}
    assert shardwise.health("here").to_json() == shardwise.health("there").to_json()


def test_many_parcels_and_row_groups_are_the_files_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parcels are cut by memory, row groups by counting."""
    for name, size in (("MIN_GROUP_ROWS", 256), ("GROUP_BYTES", 50_000)):
        monkeypatch.setattr(buckets_module, name, size)
    monkeypatch.setattr(shuffles, "PARCELS_BYTES", 40_000)
    shardwise.partition("data", "here", "hash:city:2")
    shardwise.partition("data", "there", "hash:city:2", engine=PROCESSES, workers=1)
    assert pq.ParquetFile("there/part-00000.parquet").num_row_groups > 3
    assert digests("here") == digests("there")


def test_rows_are_appended_and_compacted_by_an_engine() -> None:
    pq.write_table(people(50), "new.parquet")
    for out, engine in (("here", "local"), ("there", PROCESSES)):
        shardwise.partition("data", out, "hash:household:3")
        shardwise.partition("new.parquet", out, append=True, engine=engine, **workers(engine))
        shardwise.partition(out, compact=True, engine=engine, **workers(engine))
    assert digests("here") == digests("there")


def workers(engine: str) -> dict[str, int]:
    return {} if engine == "local" else {"workers": 1}


def test_text_whose_type_turns_out_wider_is_written_whole() -> None:
    rows = ["x,k"] + [f"{number},{number % 3}" for number in range(70_000)] + ["late,1"]
    Path("wide.csv").write_text("\n".join(rows))
    for out, engine in (("here", "local"), ("there", PROCESSES)):
        result = shardwise.partition("wide.csv", out, "hash:k:3", engine=engine, **workers(engine))
        assert result.manifest.schema.field("x").type == pa.string()
    assert digests("here") == digests("there")


def test_what_is_lost_with_a_corrupt_source_is_counted_the_same() -> None:
    content = bytearray(Path("data/1.parquet").read_bytes())
    content[2000:9000] = b"\xff" * 7000
    Path("data/1.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"1\.parquet"):
        shardwise.partition("data", "there", "hash:city:3", engine=PROCESSES, workers=2)
    assert not Path("there").exists()
    here = shardwise.partition("data", "here", "hash:city:3", skip_corrupt=True)
    there = shardwise.partition("data", "there", "hash:city:3", skip_corrupt=True, engine=PROCESSES, workers=1)
    assert there.lost_rows == here.lost_rows > 0
    assert there.notes == here.notes
    assert digests("here") == digests("there")


def test_a_failure_leaves_the_old_dataset_and_no_other_file(monkeypatch: pytest.MonkeyPatch) -> None:
    shardwise.partition("data", "out", "hash:city:3")
    before = digests("out")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "out")

    monkeypatch.setattr(shuffles, "_check_files", fail)
    with pytest.raises(OSError, match="No space"):
        shardwise.partition("data", "out", "hash:city:5", overwrite=True, engine=PROCESSES, workers=1)
    assert digests("out") == before


def test_files_that_are_not_to_be_seen_here_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    is_file = Path.is_file
    monkeypatch.setattr(shuffles.Path, "is_file", lambda path: not path.name.startswith("part-") and is_file(path))
    with pytest.raises(DataError, match="where all workers see them"):
        shardwise.partition("data", "out", "hash:city:3", engine=PROCESSES, workers=1)


def test_data_without_rows_is_said() -> None:
    pq.write_table(people(5).slice(0, 0), "none.parquet")
    with pytest.raises(DataError, match="no rows"):
        shardwise.partition("none.parquet", "out", "hash:city:3", engine=PROCESSES, workers=1)


def test_an_address_needs_an_engine() -> None:
    with pytest.raises(ConfigError, match="--engine ray, spark or dask"):
        shardwise.partition("data", "out", "hash:city:3", address="10.0.0.1:6379")
    assert not Path("out").exists()
