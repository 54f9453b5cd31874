"""Datasets: whatever the format and the cuts, the rows are those that were written."""

import datetime as dt
import json
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardwise.core.errors import SchemaError
from shardwise.data.dataset import Dataset, ReadOptions, TypeConflict, open_dataset
from shardwise.data.readers import records
from shardwise.testing.readers import rows_of

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r", exclude_categories=("Cs",)), max_size=8)
COLUMNS = {
    "int": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "float": (pa.float64(), st.floats(allow_nan=False)),
    "flag": (pa.bool_(), st.booleans()),
    "day": (pa.date32(), st.dates(dt.date(1, 1, 1))),
    "text": (pa.string(), TEXT.map(lambda text: f"t{text}")),  # never empty, a number, a date or `NA`
}
WRITERS = {
    "parquet": lambda table, path, rows: pq.write_table(table, path, row_group_size=rows),
    "csv": lambda table, path, rows: pyarrow.csv.write_csv(table, path),
    "jsonl": lambda table, path, rows: path.write_text(
        "".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist())
    ),
    "arrow": lambda table, path, rows: write_arrow(table, path, rows),
}


def write_arrow(table: pa.Table, path: Path, rows: int) -> None:
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """A table whose text columns have a value, so that the type can be seen."""
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, unique=True))
    rows = draw(st.integers(1, 40))
    columns = {"key": pa.array(range(rows))}
    for name in names:
        kind, values = COLUMNS[name]
        first = draw(values)
        rest = draw(st.lists(st.none() | values, min_size=rows - 1, max_size=rows - 1))
        columns[f"{name} é🎉"] = pa.array([first, *rest], kind)
    return pa.table(columns)


@settings(max_examples=60)
@given(tables(), st.sampled_from(sorted(WRITERS)), st.integers(1, 50), st.integers(1, 3000), st.integers(1, 50))
def test_what_was_written_is_read(table: pa.Table, suffix: str, chunk: int, target_bytes: int, batch_rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cut = min(chunk, table.num_rows)
        WRITERS[suffix](table.slice(0, cut), Path(folder) / f"part-2.{suffix}", chunk)
        if cut < table.num_rows:
            WRITERS[suffix](table.slice(cut), Path(folder) / f"part-10.{suffix}", chunk)
        dataset = open_dataset(folder, target_bytes=target_bytes)
        read = rows_of(dataset, batch_rows=batch_rows)
        assert same(read, table)


def same(read: pa.Table, written: pa.Table) -> bool:
    """Equal, where all-integer floats of text formats may be read as integers."""
    return read.column_names == written.column_names and all(
        read[name].to_pylist() == written[name].to_pylist() for name in written.column_names
    )


def csv_files(folder: Path, **contents: str) -> str:
    for name, content in contents.items():
        (folder / f"{name}.csv").write_text(content, encoding="utf8")
    return str(folder)


# ------------------------------------------------------------------------------------------------ unification


def test_schemas_are_unified_and_the_report_says_which_files_had_what(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([1], pa.int32()), "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"c": [True], "a": [2.5], "b": ["y"]}), tmp_path / "2.parquet")
    pq.write_table(pa.table({"b": pa.nulls(1), "a": pa.array([3], pa.int64())}), tmp_path / "3.parquet")
    dataset = open_dataset(tmp_path)
    assert dataset.schema == pa.schema([("a", pa.float64()), ("b", pa.string()), ("c", pa.bool_())])
    assert rows_of(dataset).to_pylist() == [
        {"a": 1.0, "b": "x", "c": None}, {"a": 2.5, "b": "y", "c": True}, {"a": 3.0, "b": None, "c": None},
    ]  # fmt: skip
    columns = json.loads(json.dumps(dataset.report))["columns"]
    assert [(found["type"], found["files"]) for found in columns["a"]["found"]] == [
        ("int32", 1), ("double", 1), ("int64", 1),
    ]  # fmt: skip
    assert columns["c"]["missing"]["files"] == 2
    assert dataset.rows == 3


def test_files_that_really_disagree_are_named_with_both_types(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"a": ["x"]}), tmp_path / "2.parquet")
    with pytest.raises(SchemaError, match=r"'a': it is int64 in .*1\.parquet and string in .*2\.parquet"):
        open_dataset(tmp_path)
    as_text = open_dataset(tmp_path, options=ReadOptions(types={"a": "string"}))
    assert rows_of(as_text)["a"].to_pylist() == ["1", "x"]


def test_text_files_that_disagree_are_read_as_text_with_a_note(tmp_path: Path) -> None:
    dataset = open_dataset(csv_files(tmp_path, a="x,y\n1,2024-01-01\n", b="y,x\n31/12/2024,abc\n"))
    assert rows_of(dataset).to_pylist() == [{"x": "1", "y": "2024-01-01"}, {"x": "abc", "y": "31/12/2024"}]
    assert "read as text" in dataset.report["columns"]["x"]["note"]
    assert "read as text" in dataset.report["columns"]["y"]["note"]


def test_evidence_about_dates_is_gathered_over_all_files(tmp_path: Path) -> None:
    dataset = open_dataset(csv_files(tmp_path, a="d\n1/2/2024\n", b="d\n31/1/2024\n"))
    assert rows_of(dataset)["d"].to_pylist() == [dt.date(2024, 2, 1), dt.date(2024, 1, 31)]


def test_ambiguous_dates_stay_text_until_somebody_decides(tmp_path: Path) -> None:
    folder = csv_files(tmp_path, a="d\n1/2/2024\n3/4/2024\n")
    dataset = open_dataset(folder)
    assert dataset.schema.field("d").type == pa.string()
    assert "%d/%m/%Y or %m/%d/%Y" in dataset.report["columns"]["d"]["note"]
    decided = open_dataset(folder, options=ReadOptions(types={"d": "%m/%d/%Y"}))
    assert rows_of(decided)["d"].to_pylist() == [dt.date(2024, 1, 2), dt.date(2024, 3, 4)]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "NA", "3"], pa.int64()),
        (["1", "2.5", "n/a"], pa.float64()),
        (["inf", "-inf", "NaN", "1e3"], pa.float64()),
        (["true", "FALSE", "null"], pa.bool_()),
        (["0", "1"], pa.int64()),
        (["123456789012345678901234", "1"], pa.float64()),
        (["2024-01-01", "2024-01-02 03:04:05"], pa.timestamp("us")),
        (["2024-01-01T00:00:00Z", "2024-01-01T00:00:00+05:30"], pa.timestamp("us", "UTC")),
        (["10:30:00", ""], pa.time32("s")),
        (["5 Mar 2024", "12 December 2023"], pa.date32()),
        (["NA", "None"], pa.null()),
        (["1", "x"], pa.string()),
    ],
)
def test_inferred_types(tmp_path: Path, cells: list[str], kind: pa.DataType) -> None:
    rows = "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))
    dataset = open_dataset(csv_files(tmp_path, a=f"row,x\n{rows}"))
    assert dataset.schema.field("x").type == kind
    assert rows_of(dataset).num_rows == len(cells)


# ------------------------------------------------------------------------------------------------ sampled types


@pytest.fixture
def short_survey(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at a few small pieces only, as in a file of gigabytes."""
    monkeypatch.setattr(records, "_FILE_BYTES", (2_000, 2_000))
    monkeypatch.setattr(records, "_SAMPLE_BYTES", 500)


def late(tmp_path: Path, value: str, rows: int = 20_000) -> Dataset:
    lines = [f"{i},{i}" for i in range(rows)]
    lines[rows // 3 + 11] = f"7,{value}"
    return open_dataset(csv_files(tmp_path, a="id,x\n" + "\n".join(lines) + "\n"), target_bytes=30_000)


@pytest.mark.usefixtures("short_survey")
@pytest.mark.parametrize(("value", "kind"), [("1.5", pa.float64()), ("abc", pa.string()), ("9" * 25, pa.float64())])
def test_a_value_that_was_not_seen_is_a_conflict_and_widening_solves_it(
    tmp_path: Path, value: str, kind: pa.DataType
) -> None:
    dataset = late(tmp_path, value)
    assert dataset.schema.field("x").type == pa.int64()
    conflicts = []
    while True:
        try:
            read = rows_of(dataset)
            break
        except TypeConflict as conflict:
            conflicts.append(conflict)
            dataset = dataset.widened(conflict.column)
    assert conflicts[0].column == "x"
    assert conflicts[0].value == value
    part = next(part for part in dataset.partitions if part.index == conflicts[0].context["partition"])
    row = next(
        i for i, x in enumerate(y for batch in dataset.read(part) for y in batch["id"].to_pylist()) if i and x == 7
    )
    assert conflicts[0].context["row"] == row + 1
    assert dataset.schema.field("x").type == kind
    assert read.num_rows == 20_000
    assert str(read["x"][20_000 // 3 + 11]) in (value, str(float(value)) if value != "abc" else "")


@pytest.mark.usefixtures("short_survey")
def test_widening_for_the_value_takes_one_step(tmp_path: Path) -> None:
    dataset = late(tmp_path, "abc").widened("x", "abc")
    assert dataset.schema.field("x").type == pa.string()
    assert rows_of(dataset)["x"][20_000 // 3 + 11].as_py() == "abc"
    assert dataset.fingerprint != late(tmp_path, "abc").fingerprint


# ------------------------------------------------------------------------------------------------ places and options


def test_hive_folders_become_typed_columns(tmp_path: Path) -> None:
    for year, city in (("2024", "S%C3%A3o Paulo"), ("2023", "Roma"), ("__HIVE_DEFAULT_PARTITION__", "Roma")):
        folder = tmp_path / f"year={year}" / f"city={city}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"x": [1, 2], "city": ["in the file"] * 2}), folder / "part.parquet")
    dataset = open_dataset(tmp_path)
    assert dataset.schema == pa.schema([("x", pa.int64()), ("year", pa.int64()), ("city", pa.string())])
    rows = rows_of(dataset, ["year", "city"]).to_pylist()
    assert rows[::2] == [
        {"year": 2023, "city": "Roma"}, {"year": 2024, "city": "São Paulo"}, {"year": None, "city": "Roma"},
    ]  # fmt: skip
    as_text = open_dataset(tmp_path / "year=*", options=ReadOptions(types={"year": "string"}, drop=("city",)))
    assert rows_of(as_text).to_pylist()[0] == {"x": 1, "year": "2023"}


def test_dates_in_paths(tmp_path: Path) -> None:
    for day in ("2024-01-01", "2024-01-02"):
        (tmp_path / f"day={day}").mkdir()
        csv_files(tmp_path / f"day={day}", a="x\n1\n")
    assert rows_of(open_dataset(tmp_path))["day"].to_pylist() == [dt.date(2024, 1, 1), dt.date(2024, 1, 2)]


def test_the_fingerprint_follows_files_options_and_plan(tmp_path: Path) -> None:
    folder = csv_files(tmp_path, a="x\n1\n")
    first = open_dataset(folder)
    assert open_dataset(folder).fingerprint == first.fingerprint
    assert open_dataset(folder, target_bytes=5).fingerprint != first.fingerprint
    assert open_dataset(folder, options=ReadOptions(types={"x": "string"})).fingerprint != first.fingerprint
    os.utime(tmp_path / "a.csv", ns=(1, 1))
    assert open_dataset(folder).fingerprint != first.fingerprint


def test_secrets_of_the_storage_are_not_shown(tmp_path: Path) -> None:
    dataset = open_dataset(csv_files(tmp_path, a="x\n1\n"), options=ReadOptions(storage={"secret": "s3cr3t"}))
    assert "s3cr3t" not in f"{dataset!r}{json.dumps(dataset.describe())}"


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    rows = "".join("1\n" if i % 10 == 3 else f"{i},b\n" for i in range(1000))
    options = ReadOptions(on_bad_row="skip")
    dataset = open_dataset(csv_files(tmp_path, a="x,y\n" + rows), options=options, target_bytes=1000)
    read, skipped = 0, 0
    for part in dataset.partitions:
        batches = dataset.read(part)
        read += sum(batch.num_rows for batch in batches)
        skipped += batches.skipped_rows
    assert (read, skipped) == (900, 100)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig", "shift_jis", "utf-32"])
@pytest.mark.parametrize("target_bytes", [50, 1 << 30])
def test_encodings(tmp_path: Path, encoding: str, target_bytes: int) -> None:
    text = "テスト" if encoding == "shift_jis" else "naïve café"
    content = f"id,{text}\n" + "".join(f'{i},"{text}, {i}"\n' for i in range(100))
    (tmp_path / "a.csv").write_bytes(content.encode(encoding))
    dataset = open_dataset(tmp_path, options=ReadOptions(encoding=encoding), target_bytes=target_bytes)
    assert rows_of(dataset)[text].to_pylist() == [f"{text}, {i}" for i in range(100)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_sniffed(tmp_path: Path, delimiter: str) -> None:
    rows = [["name", "x"], ["a, b; c | d", "1"], ["e", "2"]]
    content = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in rows)
    assert rows_of(open_dataset(csv_files(tmp_path, a=content)))["x"].to_pylist() == [1, 2]


@pytest.mark.parametrize("codec", ["gzip", "bz2", "zstd", "lz4"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_compression_is_seen_by_content(tmp_path: Path, codec: str, suffix: str) -> None:
    content = b'x,y\n1,"a\nb"\n' if suffix == "csv" else b'{"x": 1, "y": "a\\nb"}\n'
    with pa.CompressedOutputStream(str(tmp_path / f"a.{suffix}"), codec) as out:
        out.write(content)
    assert rows_of(open_dataset(tmp_path)).to_pylist() == [{"x": 1, "y": "a\nb"}]


def test_json_columns_of_several_types_are_text(tmp_path: Path) -> None:
    lines = ['{"a": 1, "d": "2024-01-31"}', '{"a": "x"}', '{"a": true, "n": 12345678901234567890}', '{"a": 1.5}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    read = rows_of(open_dataset(tmp_path))
    assert read["a"].to_pylist() == ["1", "x", "true", "1.5"]
    assert read["d"].to_pylist()[0] == dt.date(2024, 1, 31)
    assert read["n"].to_pylist()[2] == 12345678901234567890.0


def test_numbers_in_json_strings_are_text_until_somebody_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": "12.5"}\n{"a": null}\n')
    assert rows_of(open_dataset(tmp_path))["a"].to_pylist() == ["12.5", None]
    read = rows_of(open_dataset(tmp_path, options=ReadOptions(types={"a": "float64"})))
    assert read["a"].to_pylist() == [12.5, None]


def test_a_file_without_rows_among_others_is_a_partition_without_rows(tmp_path: Path) -> None:
    dataset = open_dataset(csv_files(tmp_path, a="x\n1\n", b="x\n", c=""))
    assert rows_of(dataset)["x"].to_pylist() == [1]
    assert dataset.report["empty_files"]["files"] == 1


def test_ten_thousand_columns(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(10_000)]
    dataset = open_dataset(csv_files(tmp_path, a=",".join(names) + "\n" + ",".join(["1"] * 10_000) + "\n"))
    assert dataset.schema.names == names
    assert rows_of(dataset).num_rows == 1
