"""Every format passes the kit."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq

from shardwise.testing.readers import ReaderKit


class TestParquet(ReaderKit):
    suffix = "parquet"

    def write(self, table: pa.Table, path: Path) -> None:
        pq.write_table(table, path, row_group_size=60)


class TestCsv(ReaderKit):
    suffix = "csv"

    def write(self, table: pa.Table, path: Path) -> None:
        pa.csv.write_csv(table, path)


class TestTabs(ReaderKit):
    suffix = "tsv"

    def write(self, table: pa.Table, path: Path) -> None:
        pa.csv.write_csv(table, path, pa.csv.WriteOptions(delimiter="\t"))


class TestJsonLines(ReaderKit):
    suffix = "jsonl"

    def write(self, table: pa.Table, path: Path) -> None:
        lines = (json.dumps(row, default=str, ensure_ascii=False) + "\n" for row in table.to_pylist())
        path.write_text("".join(lines), encoding="utf8")


class TestArrowFile(ReaderKit):
    suffix = "arrow"

    def write(self, table: pa.Table, path: Path) -> None:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=60)


class TestFeather(ReaderKit):
    suffix = "feather"

    def write(self, table: pa.Table, path: Path) -> None:
        pa.feather.write_feather(table, path, compression="zstd", chunksize=60)


class TestCompressedCsv(ReaderKit):
    suffix = "csv.gz"
    splits_files = False

    def write(self, table: pa.Table, path: Path) -> None:
        with gzip.open(path, "wb") as out:
            pa.csv.write_csv(table, out)


class TestCompressedJsonLines(ReaderKit):
    suffix = "jsonl.zst"
    splits_files = False

    def write(self, table: pa.Table, path: Path) -> None:
        lines = "".join(json.dumps(row, default=str) + "\n" for row in table.to_pylist())
        with pa.CompressedOutputStream(path, "zstd") as out:
            out.write(lines.encode())


class TestArrowStream(ReaderKit):
    suffix = "arrows"
    splits_files = False

    def write(self, table: pa.Table, path: Path) -> None:
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=60)
