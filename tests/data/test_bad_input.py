"""Input that cannot be used: an error of ours, in one paragraph, that names the path and what is wrong."""

import gzip
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shardwise.core.errors import BadInput, ConfigError, DataError, SchemaError, ShardwiseError
from shardwise.data.dataset import ReadOptions, open_dataset
from shardwise.testing.readers import rows_of


def parquet_bytes() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": list(range(1000))}), sink)
    return bytes(sink.getvalue())


CASES = {
    "empty": ("a.csv", b"", DataError, "empty"),
    "blank": ("a.csv", b"\n\n  \n", DataError, "empty"),
    "header only": ("a.csv", b"x,y\n", DataError, "no rows"),
    "ragged": ("a.csv", b"x,y\n1,2\n1,2,3\n", DataError, r"2 cells were expected, 3 were found.*row 2"),
    "latin-1": ("a.csv", b"x,y\ncaf\xe9,1\n", DataError, "not utf-8.*--encoding"),
    "latin-1 header": ("a.csv", b"caf\xe9,y\n1,1\n", DataError, "not utf-8.*--encoding"),
    "twice": ("a.csv", b"x,y,x\n1,2,3\n", SchemaError, "used twice: 'x'"),
    "no name": ("a.csv", b",y\n1,2\n", SchemaError, "column 1 has no name"),
    "never closed": ("a.csv", b'x,y\n1,"2\n', DataError, "never closed"),
    "gzip cut": ("a.csv.gz", gzip.compress(os.urandom(5000).hex().encode())[:2000], DataError, "decompressed"),
    "no parquet": ("a.parquet", b"hello, this is text", DataError, "not a Parquet file"),
    "parquet cut": ("a.parquet", parquet_bytes()[:-100], DataError, "not a Parquet file"),
    "no arrow": ("a.arrow", b"hello, this is text", DataError, "Arrow IPC"),
    "unknown": ("a.xyz", b"hello", DataError, "format of the file is not known"),
    "array": ("a.json", b'[{"x": 1}]', DataError, "JSON array"),
    "no json": ("a.jsonl", b'{"x": 1}\n{"x"\n', DataError, "no JSON object.*row 2"),
    "no object": ("a.jsonl", b"5\n", DataError, "no JSON object"),
    "nested": ("a.jsonl", b'{"x": {"y": 1}}\n', SchemaError, "'x' is nested"),
    "twice in json": ("a.jsonl", b'{"x": 1, "x": 2}\n', SchemaError, "two values for 'x'"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_file(tmp_path: Path, case: str) -> None:
    name, content, kind, words = CASES[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=f"(?s){words}") as caught:
        rows_of(open_dataset(tmp_path / name))
    assert isinstance(caught.value, BadInput)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value).strip()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file.*nope\.csv"):
        open_dataset(tmp_path / "nope.csv")
    with pytest.raises(DataError, match="matches no file"):
        open_dataset(tmp_path / "*.csv")
    with pytest.raises(DataError, match="holds no data file"):
        open_dataset(tmp_path)
    with pytest.raises(DataError, match="no data was given"):
        open_dataset([])


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", refuse)  # root may read everything
    with pytest.raises(DataError, match="permission denied") as caught:
        open_dataset(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_mixed_formats(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=r"1 parquet .*b\.parquet.* and 1 csv .*a\.csv"):
        open_dataset(tmp_path)


def test_other_files_of_a_folder_are_ignored_and_reported(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".b.csv.crc").write_text("")
    dataset = open_dataset(tmp_path)
    assert rows_of(dataset).num_rows == 1
    assert dataset.report["ignored_files"]["files"] == 1


@pytest.mark.parametrize("kind", [pa.list_(pa.int8()), pa.struct({"a": pa.int8()}), pa.binary()])
def test_refused_types_can_be_dropped(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"x": [1], "bad": pa.nulls(1, kind)}), tmp_path / "a.parquet")
    with pytest.raises(SchemaError, match=r"'bad'.*drop.*a\.parquet|a\.parquet.*'?bad.*drop"):
        open_dataset(tmp_path)
    assert open_dataset(tmp_path, options=ReadOptions(drop=("bad",))).schema.names == ["x"]


@pytest.mark.parametrize(
    "options",
    [{"format": "excel"}, {"encoding": "klingon"}, {"encoding": "rot13"}, {"delimiter": "ab"}, {"on_bad_row": "x"}],
)
def test_unknown_options(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options.values()))):
        ReadOptions(**options)


def test_a_type_for_a_column_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("price,y\n1,2\n")
    with pytest.raises(SchemaError, match="Did you mean 'price'"):
        open_dataset(tmp_path, options=ReadOptions(types={"prise": "string"}))
    with pytest.raises(SchemaError, match="not a column type"):
        open_dataset(tmp_path, options=ReadOptions(types={"price": "money"}))


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "jsonl", "parquet", "arrow"])
@given(content=st.binary(max_size=80) | st.text(alphabet='x1,"\n\r{}:[]t\x00é', max_size=80).map(str.encode))
@example(content=b"x\x00y\n1\n")
@example(content=b"\xff\xfe1")
@example(content=b"\x1f\x8b")
@example(content=b'{"": 1}')
@example(content=b"PAR1PAR1PAR1")
@example(content=b"ARROW1\x00\x00ARROW1")
def test_any_bytes_are_a_dataset_or_an_error_of_ours(suffix: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{suffix}"
        path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
        try:
            rows_of(open_dataset(path, target_bytes=20))
        except ShardwiseError as error:
            assert isinstance(error, BadInput)  # noqa: PT017 - an error is one of two good outcomes
            assert path.name in str(error)  # noqa: PT017
