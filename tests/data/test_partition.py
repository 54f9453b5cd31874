"""Partitioned datasets: readers see old or new, appended rows join, a kill leaves nothing half-done."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.core.errors import ConfigError, DataError, SchemaError
from shardwise.data import commit as commit_module
from shardwise.data.commit import PENDING_NAME
from shardwise.data.dataset import open_dataset
from shardwise.data.manifest import MANIFEST_NAME, read_manifest
from shardwise.data.partition import rows_of
from shardwise.testing.readers import rows_of as read_rows
from shardwise.testing.tables import people

ROWS = 3_000


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pq.write_table(people(ROWS), "people.parquet")
    return tmp_path


def ids(folder: str) -> list[int]:
    return sorted(read_rows(open_dataset([folder]), ["id"])["id"].to_pylist())


def files(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_the_manifest_tells_what_is_there(place: Path) -> None:
    result = shardwise.partition("people.parquet", "out", ["year:since", "hash:city:3"])
    manifest = read_manifest(Path("out"))
    assert manifest == result.manifest
    assert manifest.rows == ROWS
    assert manifest.by == ("year:since", "hash:city:3")
    assert manifest.key == ("since", "city")
    for file in manifest.files:
        table = pq.read_table(f"out/{file.path}")
        times = table["since"].to_pylist()
        assert (file.rows, file.nulls) == (len(times), 0)
        assert (file.minimum, file.maximum) == (min(times).isoformat(), max(times).isoformat())
    assert sorted(os.listdir("out")) == sorted([MANIFEST_NAME, *(file.path for file in manifest.files)])


def test_the_same_command_gives_the_same_bytes(place: Path) -> None:
    shardwise.partition("people.parquet", "a", "range:age:4", threads=1)
    shardwise.partition("people.parquet", "b", "range:age:4", threads=2, memory="2GB")
    assert files("a") == files("b")


def test_readers_read_what_the_manifest_names_and_tell_the_scheme(place: Path) -> None:
    shardwise.partition("people.parquet", "out", "hash:city:4")
    pq.write_table(people(10), "out/stray.parquet")
    dataset = open_dataset(["out"])
    assert dataset.rows == ROWS
    assert dataset.report["schemes"][0]["by"] == ["hash:city:4"]
    assert ids("out") == list(range(ROWS))


@pytest.mark.parametrize("damage", ["gone", "cut", "manifest"])
def test_a_file_that_is_not_as_the_manifest_says_is_named(place: Path, damage: str) -> None:
    manifest = shardwise.partition("people.parquet", "out", "hash:city:2").manifest
    victim = Path("out") / (MANIFEST_NAME if damage == "manifest" else manifest.files[0].path)
    if damage == "gone":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[:-7])
    with pytest.raises(DataError) as caught:
        open_dataset(["out"])
    assert victim.name in str(caught.value)


def test_appended_rows_join_the_partitions_of_their_keys(place: Path) -> None:
    pq.write_table(people(ROWS).slice(0, 1000), "old.parquet")
    pq.write_table(people(ROWS).slice(1000), "new.parquet")
    shardwise.partition("people.parquet", "whole", "hash:household:5")
    shardwise.partition("old.parquet", "out", "hash:household:5")
    result = shardwise.partition("new.parquet", "out", append=True)
    assert ids("out") == list(range(ROWS))
    assert rows_of(result.manifest) == rows_of(read_manifest(Path("whole")))
    assert len(result.manifest.files) == 10
    compacted = shardwise.partition("out", compact=True).manifest
    assert len(compacted.files) == 5
    assert rows_of(compacted) == rows_of(result.manifest)
    assert ids("out") == list(range(ROWS))
    assert len(list(Path("out").glob("*.parquet"))) == 5


def test_new_values_get_partitions_and_the_others_keep_theirs(place: Path) -> None:
    table = people(ROWS)
    early = table.filter(pa.compute.less(pa.compute.year(table["since"]), 2022))
    pq.write_table(early, "early.parquet")
    shardwise.partition("early.parquet", "out", ["hash:city:2", "year:since"])
    result = shardwise.partition("people.parquet", "out", append=True)
    assert result.manifest.count == 8
    for file in result.manifest.files:
        rows = pq.read_table(f"out/{file.path}")
        year = file.label.split("year of since = ")[1]
        assert {str(each.year) for each in rows["since"].to_pylist()} == {year}
    assert result.manifest.rows == ROWS + early.num_rows


def test_appended_stretches_follow_those_that_are_there(place: Path) -> None:
    shardwise.partition("people.parquet", "out", "rows:2000")
    result = shardwise.partition("people.parquet", "out", append=True)
    assert rows_of(result.manifest) == [2000, 1000, 2000, 1000]


def test_rows_that_are_appended_twice_are_told(place: Path) -> None:
    shardwise.partition("people.parquet", "out", "range:since:3")
    result = shardwise.partition("people.parquet", "out", append=True)
    assert any("twice" in note for note in result.notes)
    assert any("overlap" in note for note in result.notes)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (people(20).drop_columns(["city"]), "lacks the column 'city'"),
        (people(20).append_column("town", people(20)["city"]), "column 'town'"),
        (people(20).set_column(0, "id", pa.array(["x"] * 20)), "'id'"),
    ],
)
def test_other_columns_are_not_appended(place: Path, table: pa.Table, told: str) -> None:
    shardwise.partition("people.parquet", "out", "hash:city:2")
    before = files("out")
    pq.write_table(table, "other.parquet")
    with pytest.raises(SchemaError, match=told):
        shardwise.partition("other.parquet", "out", append=True)
    assert files("out") == before


def test_columns_in_another_order_and_narrower_types_are_appended(place: Path) -> None:
    shardwise.partition("people.parquet", "out", "hash:city:2")
    table = people(20).select(people(20).schema.names[::-1])
    pq.write_table(table.set_column(9, "id", table["id"].cast(pa.int16())), "other.parquet")
    shardwise.partition("other.parquet", "out", append=True)
    assert open_dataset(["out"]).rows == ROWS + 20
    assert open_dataset(["out"]).schema.field("id").type == pa.int64()


def test_text_whose_type_turns_out_wider_is_written_whole(place: Path) -> None:
    rows = ["x,k"] + [f"{number},{number % 3}" for number in range(70_000)] + ["late,1"]
    Path("wide.csv").write_text("\n".join(rows))
    result = shardwise.partition("wide.csv", "out", "hash:k:3")
    assert result.manifest.rows == 70_001
    assert result.manifest.schema.field("x").type == pa.string()


class TestKills:
    """Whatever the instant, the old dataset or the new one is there, and the same command goes through."""

    @pytest.mark.parametrize("step", ["write_atomic", "sync", "write_manifest", "recover"])
    def test_in_each_step_of_the_commit(self, place: Path, step: str) -> None:
        shardwise.partition("people.parquet", "out", "hash:city:3")
        before = ids("out")
        script = (
            "import os, shardwise.api\nfrom shardwise.data import commit\n"
            f"commit.{step} = lambda *a: os.kill(os.getpid(), 9)\n"
            "shardwise.partition('people.parquet', 'out', append=True)\n"
        )
        done = subprocess.run([sys.executable, "-c", script], check=False)
        assert done.returncode == -signal.SIGKILL
        names = before if step != "recover" else sorted(before * 2)
        assert ids("out") == names
        result = shardwise.partition("people.parquet", "out", append=True)
        assert ids("out") == sorted([*names, *before])
        left = {name for name in os.listdir("out") if not name.startswith(("part-", "_"))}
        assert left == set()
        assert {file.path for file in result.manifest.files} == set(os.listdir("out")) - {MANIFEST_NAME}

    def test_while_rows_are_shuffled(self, place: Path) -> None:
        script = (
            "import os, shardwise\nfrom shardwise.data.buckets import Buckets\n"
            "Buckets.finish = lambda *a: (print('here', flush=True), os.kill(os.getpid(), 9))\n"
            "shardwise.partition('people.parquet', 'out', 'hash:city:3')\n"
        )
        done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
        assert done.stdout == b"here\n"
        with pytest.raises(DataError):
            open_dataset(["out"])
        shardwise.partition("people.parquet", "out", "hash:city:3")
        assert ids("out") == list(range(ROWS))
        assert all(name.startswith(("part-", "_")) for name in os.listdir("out"))


def test_a_reader_never_sees_a_mix(place: Path) -> None:
    """The manifest is replaced between two generations while a reader opens the dataset again and again."""
    shardwise.partition("people.parquet", "out", "hash:city:3")
    script = (
        "import shardwise\n"
        "for n in (2, 5, 3): shardwise.partition('people.parquet', 'out', f'hash:city:{n}', overwrite=True)\n"
    )
    seen = set()
    with subprocess.Popen([sys.executable, "-c", script]) as writer:
        while writer.poll() is None:
            dataset = open_dataset(["out"])
            assert dataset.rows == ROWS
            seen.add(dataset.report["schemes"][0]["count"])
            time.sleep(0.005)
    assert writer.returncode == 0
    assert seen <= {2, 3, 5}


def test_a_full_disk_leaves_nothing_visible(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "out")

    monkeypatch.setattr(commit_module, "sync", full)
    with pytest.raises(shardwise.ShardwiseError, match="no space is left") as caught:
        shardwise.partition("people.parquet", "out", "hash:city:3")
    assert caught.value.exit_code == 3
    monkeypatch.undo()
    monkeypatch.chdir(place)
    assert not list(Path("out").glob("part-*"))
    shardwise.partition("people.parquet", "out", "hash:city:3")
    assert not (Path("out") / PENDING_NAME).exists()


@pytest.mark.parametrize(
    ("data", "out", "told"),
    [
        ("people.parquet", "full", "not empty"),
        ("people.parquet", "people.parquet", "a file stands"),
        (".", "inside", "lies inside the data"),
        ("outer/people.parquet", "outer", "not empty|lies inside"),
        ("people.parquet", "s3://bucket/out", "local folders"),
    ],
)
def test_places_that_are_in_the_way(place: Path, data: str, out: str, told: str) -> None:
    for folder in ("full", "outer"):
        Path(folder).mkdir()
    Path("full/notes.txt").write_text("mine")
    pq.write_table(people(20), "outer/people.parquet")
    with pytest.raises((DataError, ConfigError), match=told):
        shardwise.partition(data, out, "hash:city:2")
    assert Path("full/notes.txt").read_text() == "mine"
    assert not Path("inside").exists()


def test_a_dataset_that_stands_is_not_replaced_unasked(place: Path) -> None:
    shardwise.partition("people.parquet", "out", "hash:city:2")
    before = files("out")
    with pytest.raises(DataError, match=r"--append.*--overwrite"):
        shardwise.partition("people.parquet", "out", "hash:city:3")
    assert files("out") == before
    shardwise.partition("people.parquet", "out", "hash:city:3", overwrite=True)
    assert ids("out") == list(range(ROWS))
    assert len(json.loads(Path("out", MANIFEST_NAME).read_text())["partitions"]) == len(
        list(Path("out").glob("*.parquet"))
    )
