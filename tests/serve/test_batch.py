"""Predictions for files: input order, any format, whole or not at all."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from tests.registry.parts import make_table

from shardwise.core.errors import ConfigError, DataError, DiskFull, SchemaError
from shardwise.core.target import Task
from shardwise.data.dataset import ReadOptions, open_dataset
from shardwise.serve.batch import predict_files
from shardwise.serve.part_folders import MARK
from shardwise.serve.pieces import PredictOptions
from shardwise.store import files

SUFFIXES = [".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz"]
ANSWER = ["prediction", "probability_false", "probability_true"]


@pytest.fixture(scope="module")
def table():
    return make_table(1000, seed=5)


@pytest.fixture
def dataset(table, tmp_path):
    """Three files, several partitions."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number, (start, stop) in enumerate([(0, 400), (400, 401), (401, 1000)]):
        pq.write_table(table.slice(start, stop - start), folder / f"{number}.parquet", row_group_size=150)
    return open_dataset([str(folder)], target_bytes=10_000)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def read(path):
    return open_dataset_table(path) if path.is_dir() or path.suffix != ".parquet" else pq.read_table(path)


def open_dataset_table(path):
    dataset = open_dataset([str(path)])
    batches = [batch for partition in dataset.partitions for batch in dataset.read(partition)]
    return pa.Table.from_batches(batches, dataset.schema)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_predictions_come_in_input_order_with_the_columns_kept(suffix, predictor, dataset, table, out):
    path = out / f"scores{suffix}"
    assert predict_files(predictor, dataset, path, keep=["row", "y"], options=PredictOptions(batch_rows=64)) == 1000
    found, expected = read(path), predictor.answer(table)
    assert found.schema.names == ["row", "y", *ANSWER]
    for name in ("row", "y"):
        assert found[name].to_pylist() == table[name].to_pylist()
    for name in ANSWER:
        assert found[name].to_pylist() == expected.column(name).to_pylist()
    assert list(out.iterdir()) == [path]


def test_a_folder_gets_a_part_for_each_partition(predictor, dataset, table, out):
    for _ in range(2):  # a folder that we wrote may be replaced
        assert predict_files(predictor, dataset, f"{out}/scores/", keep=["row"]) == 1000
    parts = sorted((out / "scores").glob("*.parquet"))
    assert [part.name[:10] for part in parts] == [f"part-{p.index:05d}" for p in dataset.partitions]
    assert len(parts) > 3
    assert [row for part in parts for row in pq.read_table(part)["row"].to_pylist()] == table["row"].to_pylist()
    mark = json.loads((out / "scores" / MARK).read_text())
    assert mark["asked"]["package"] == predictor.package.hash
    assert [part["part"] for part in mark["parts"]] == [part.name for part in parts]
    assert sum(part["rows"] for part in mark["parts"]) == mark["rows"] == 1000
    assert read(out / "scores").num_rows == 1000
    assert [path.name for path in out.iterdir()] == ["scores"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_do_not_depend_on_threads_or_batches(suffix, predictor, dataset, out):
    contents = set()
    for threads, batch_rows in ((1, 1000), (2, 64), (3, 37)):
        options = PredictOptions(threads=threads, batch_rows=batch_rows)
        predict_files(predictor, dataset, out / f"s{suffix}", keep=["town"], options=options)
        written = (out / f"s{suffix}").read_bytes()
        contents.add(gzip.decompress(written) if suffix.endswith("gz") else written)
    assert len(contents) == 1


def test_text_files_give_the_answers_of_parquet(predictor, table, out, tmp_path):
    pa_csv.write_csv(table, tmp_path / "data.csv")
    predict_files(predictor, open_dataset([str(tmp_path / "data.csv")]), out / "s.parquet", keep=["row"])
    found = pq.read_table(out / "s.parquet")
    np.testing.assert_allclose(found["probability_true"], predictor.answer(table).column("probability_true"), rtol=1e-6)


def test_a_text_column_of_digits_stays_text(predictor, table, out, tmp_path):
    digits = table.set_column(3, "town", pa.array(["007"] * len(table)))
    pa_csv.write_csv(digits, tmp_path / "data.csv", pa_csv.WriteOptions(quoting_style="none"))
    predict_files(predictor, open_dataset([str(tmp_path / "data.csv")]), out / "s.parquet", keep=["town"])
    assert set(pq.read_table(out / "s.parquet")["town"].to_pylist()) == {"007"}


def test_a_type_that_turns_out_wider_is_no_problem(predictor, out, tmp_path):
    lines = ["x,z,town,day", *["1,1,Ulm,2024-01-01"] * 500, "1,0.5,Ulm,2024-01-01"]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    dataset = open_dataset([str(tmp_path / "a.csv")], options=ReadOptions(types={"z": "int64"}))
    assert predict_files(predictor, dataset, out / "s.parquet", keep=["z"]) == 501
    assert pq.read_table(out / "s.parquet")["z"].to_pylist() == [1.0] * 500 + [0.5]


def test_a_dataset_without_rows_gives_an_output_with_columns(predictor, dataset, out):
    dataset = replace(dataset, partitions=())
    for name in ("s.parquet", "s.csv", "s.jsonl", "folder"):
        assert predict_files(predictor, dataset, out / name, keep=["row"]) == 0
    assert pq.read_table(out / "s.parquet").schema.names == ["row", *ANSWER]
    assert (out / "s.csv").read_text().strip() == ",".join(f'"{name}"' for name in ["row", *ANSWER])
    assert (out / "s.jsonl").read_bytes() == b""
    assert pq.read_table(out / "folder" / "part-00000.parquet").num_rows == 0


def test_dictionaries_are_kept_in_parquet_and_written_as_text_elsewhere(predictor, table, out, tmp_path):
    coded = table.set_column(3, "town", table["town"].dictionary_encode())
    pq.write_table(coded, tmp_path / "coded.parquet")
    dataset = open_dataset([str(tmp_path / "coded.parquet")])
    for name in ("s.csv", "s.jsonl"):
        predict_files(predictor, dataset, out / name, keep=["town"])
        assert read(out / name)["town"].to_pylist() == table["town"].to_pylist()


@pytest.mark.parametrize(
    ("keep", "kind", "message"),
    [
        (["rwo"], SchemaError, r"no column 'rwo' to keep.*Did you mean 'row'"),
        (["row", "row"], ConfigError, "kept twice"),
        (["prediction"], ConfigError, "cannot be kept"),
    ],
)
def test_columns_that_cannot_be_kept(*, keep, kind, message, predictor, table, out, tmp_path):
    pq.write_table(table.append_column("prediction", table["x"]), tmp_path / "d.parquet")
    with pytest.raises(kind, match=message):
        predict_files(predictor, open_dataset([str(tmp_path / "d.parquet")]), out / "s.parquet", keep=keep)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["s.xlsx", "s.parquet.gz", "s.json"])
def test_an_unknown_suffix_lists_the_known_ones(name, predictor, dataset, out):
    with pytest.raises(ConfigError, match=r"\.parquet, \.csv, \.csv\.gz, \.jsonl, \.jsonl\.gz, or a folder"):
        predict_files(predictor, dataset, out / name)


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv.gz"])
def test_an_object_has_the_bytes_of_a_file(name, predictor, dataset, s3, out):
    url = f"s3://models/scored-{out.name}/{name}"
    assert predict_files(predictor, dataset, url, keep=["row"], storage=s3) == 1000
    predict_files(predictor, dataset, out / name, keep=["row"])
    assert fsspec.filesystem("s3", **s3).cat_file(url) == (out / name).read_bytes()


def test_an_object_is_replaced_whole_or_not_at_all(predictor, dataset, s3, out, monkeypatch):
    url = f"s3://models/kept-{out.name}/scores.parquet"
    predict_files(predictor, dataset, url, storage=s3)
    system = fsspec.filesystem("s3", **s3)
    before, answered = system.cat_file(url), []

    def fails(batch):
        answered.append(batch.num_rows)
        if len(answered) == 2:
            raise DataError("the second batch cannot be read")
        return np.full((batch.num_rows, 2), 0.5)

    monkeypatch.setattr(predictor, "predict", fails)
    with pytest.raises(DataError, match="second batch"):
        predict_files(predictor, dataset, url, storage=s3, options=PredictOptions(threads=1))
    assert system.cat_file(url) == before
    assert system.ls(url.rpartition("/")[0], detail=False, refresh=True) == [url.removeprefix("s3://")]


def test_a_bucket_that_is_not_there_is_told(predictor, dataset, s3):
    with pytest.raises(DataError, match=r"no such file|storage answers"):
        predict_files(predictor, dataset, "s3://nobodys/scores.parquet", storage=s3)


def test_the_data_itself_is_not_replaced_by_its_predictions(predictor, table, s3, out):
    url = f"s3://models/data-{out.name}/rows.parquet"
    with fsspec.open(url, "wb", **s3) as file:
        pq.write_table(table, file)
    with pytest.raises(ConfigError, match="where the data is read from"):
        predict_files(predictor, open_dataset([url], options=ReadOptions(storage=s3)), url, storage=s3)


def test_a_folder_that_holds_something_else_is_refused(predictor, dataset, out):
    (out / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match="something else than predictions"):
        predict_files(predictor, dataset, out)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_the_input_is_not_overwritten(predictor, dataset):
    source = Path(dataset.partitions[0].path)
    before = source.read_bytes()
    with pytest.raises(ConfigError, match="where the data is read from"):
        predict_files(predictor, dataset, source)
    assert source.read_bytes() == before


def test_missing_columns_are_found_before_anything_is_written(predictor, table, out, tmp_path):
    pq.write_table(table.drop_columns(["x"]), tmp_path / "d.parquet")
    with pytest.raises(SchemaError, match="lacks 1 column"):
        predict_files(predictor, open_dataset([str(tmp_path / "d.parquet")]), out / "s.parquet")
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["s.parquet", "s.csv", "s.jsonl", "folder"])
def test_an_error_in_the_middle_leaves_what_was_there_and_nothing_else(name, predictor, table, out, tmp_path):
    bad = [table["town"].to_pylist()[row] for row in range(len(table))]
    texts = [str(value) for value in table["z"].to_pylist()[:-1]] + ["no number"]
    pq.write_table(table.set_column(2, "z", pa.array(texts)).set_column(3, "town", [bad]), tmp_path / "d.parquet")
    pq.write_table(table, tmp_path / "good.parquet")
    predict_files(predictor, open_dataset([str(tmp_path / "good.parquet")]), out / name)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    dataset = open_dataset([str(tmp_path / "d.parquet")])
    with pytest.raises(SchemaError, match="no number"):
        predict_files(predictor, dataset, out / name, options=PredictOptions(batch_rows=50))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["s.parquet", "s.csv", "s.jsonl", "folder"])
def test_a_full_disk_is_our_error_and_leaves_nothing(name, predictor, dataset, out, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(DiskFull, match="no space"):
        predict_files(predictor, dataset, out / name)
    assert list(out.iterdir()) == []


def test_a_place_that_cannot_be_written_is_our_error(predictor, dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="a file was given where a folder is needed"):
        predict_files(predictor, dataset, tmp_path / "file" / "s.parquet")


KILLED = """
import sys
from shardwise.data.dataset import open_dataset
from shardwise.serve.batch import PredictOptions, predict_files
from shardwise.serve.predictor import Predictor
predictor, dataset = Predictor.load(sys.argv[1]), open_dataset([sys.argv[2]])
print("ready", flush=True)
while True:
    predict_files(predictor, dataset, sys.argv[3], options=PredictOptions(batch_rows=50))
"""


@pytest.mark.parametrize("name", ["s.csv", "folder"])
def test_a_kill_leaves_whole_predictions_and_the_next_run_cleans_up(name, predictor, packages, dataset, out):
    data = str(Path(dataset.partitions[0].path).parent)
    command = [sys.executable, "-c", KILLED, str(packages[Task.BINARY]), data, str(out / name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    if (out / name).exists():
        assert read(out / name).num_rows == 1000
    predict_files(predictor, dataset, out / name)
    assert [path.name for path in out.iterdir()] == [name]


def test_options_that_make_no_sense():
    for options in ({"threads": 0}, {"batch_rows": 0}):
        with pytest.raises(ConfigError, match="at least 1"):
            PredictOptions(**options)
