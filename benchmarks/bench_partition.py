"""Partitioning: 20 M rows x 30 columns into 64 Parquet files, against DuckDB and PyArrow's dataset writer.

All run in fresh processes that take turns, with 2 threads and the same compression; seconds are those of the whole
process. DuckDB gets the same ceiling on memory as ours; PyArrow's writer knows none. PyArrow has no hash of strings,
and gets ours. Limits: at most 1.2 times the seconds of the faster peer, the peak of the process tree under the ceiling;
range partitions even within 5 %; and with a key that has 40 % of the rows, after the remedy, at most 1.3 times the mean
for the busiest of 8 workers: in rows, and in seconds of training on them (LightGBM, one worker after the other, so that
none waits for another's core).
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from common import (
    Results,
    chosen,
    folder_bytes,
    in_fresh_process,
    make_parser,
    megabytes,
    print_table,
    run_measured,
    shardwise_command,
    verdict,
)
from generated import HOT_KEY, TARGET, write_wide
from shardwise.core.units import parse_size
from shardwise.data.hashing import hash_rows

NAMES = ("hash", "sort", "range", "hot")
KEY, SORT_KEY = "high1", "x0"
PARTS, THREADS = 64, 2
WORKERS, TRAIN_ROUNDS = 8, 30
TIME_LIMIT, EVEN_LIMIT, WORK_LIMIT = 1.2, 1.05, 1.3


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000, help="of the generated table")
    parser.add_argument("--memory", default="1GB", help="ceiling of ours and of DuckDB")
    parser.add_argument("--compression", default="zstd", help="of input and output: zstd or snappy")
    parser.add_argument("--source", type=Path, help="folder of a table that was generated before")
    args = parser.parse_args()
    results = Results("partition", args.results)
    names = chosen(args.only, NAMES)
    with tempfile.TemporaryDirectory(dir=args.source.parent if args.source else None) as place:
        source = args.source or write_wide(Path(place) / "source", args.rows, compression=args.compression)
        if "hash" in names:
            turns = Turns(args=args, source=source, out=Path(place) / "out")
            turns.measure(results, "hash", f"hash:{KEY}:{PARTS}", ("duckdb", "pyarrow", "grouped"))
        if "sort" in names:
            turns = Turns(args=args, source=source, out=Path(place) / "out")
            turns.measure(results, "sort", f"range:{SORT_KEY}:{PARTS}", ("ordered",))
        if "range" in names:
            evenness(results, source, Path(place))
        if "hot" in names:
            hot_key(results, args, Path(place))
    for row in results.rows:  # cases have figures of their own
        print_table([row])


@dataclass(frozen=True, kw_only=True)
class Turns:
    """Ours and the peers, one after the other, from `source` to `out`, which is removed after each."""

    args: argparse.Namespace
    source: Path
    out: Path

    def measure(self, results: Results, case: str, by: str, peers: tuple[str, ...]) -> None:
        """The medians of seconds and peaks, and the ratio to the faster peer."""
        turns = [
            {"ours": self.ours(by), **{peer: self.theirs(peer) for peer in peers}} for _ in range(self.args.repeat)
        ]
        figures: dict[str, Any] = {"rows": rows_of(self.source)}
        for name in turns[0]:
            seconds, peak, size = (statistics.median(turn[name][i] for turn in turns) for i in range(3))
            figures |= {f"{name}_s": round(seconds, 2), f"{name}_peak": megabytes(peak), f"{name}_mb": megabytes(size)}
        figures["ratio"] = round(figures["ours_s"] / min(figures[f"{peer}_s"] for peer in peers), 3)
        figures["verdict"] = verdict(figures["ratio"], TIME_LIMIT)
        figures["memory"] = verdict(figures["ours_peak"], parse_size(self.args.memory) / 1e6)
        results.add(case, figures, limit=TIME_LIMIT, threads=THREADS, compression=self.args.compression,
                    memory_limit=self.args.memory)  # fmt: skip
        print(
            f"{case}: {figures['ratio']} times the faster peer, at most {TIME_LIMIT}: {figures['verdict']}", flush=True
        )

    def ours(self, by: str) -> tuple[float, float, float]:
        """Seconds, peak bytes, and bytes written."""
        command = shardwise_command(
            "partition", str(self.source), str(self.out), "--by", by, "--memory", self.args.memory, "--workers",
            str(THREADS), "--compression", self.args.compression, "--json",
        )  # fmt: skip
        cost = run_measured(command).checked()
        return _and_remove(cost.seconds, cost.peak_rss_bytes, self.out)

    def theirs(self, peer: str) -> tuple[float, float, float]:
        """The same of a peer."""
        function = with_duckdb if peer in ("duckdb", "ordered") else with_pyarrow
        _, cost = in_fresh_process(
            function, source=str(self.source), out=str(self.out), compression=self.args.compression,
            memory=self.args.memory, variant=peer,
        )  # fmt: skip
        return _and_remove(cost.seconds, cost.peak_rss_bytes, self.out)


def _and_remove(seconds: float, peak: float, out: Path) -> tuple[float, float, float]:
    size = folder_bytes(out)
    shutil.rmtree(out)
    return seconds, peak, size


def with_duckdb(source: str, out: str, compression: str, memory: str, variant: str) -> None:
    """PARTITION_BY a hash, or ORDER BY the key into files of about as many rows."""
    connection = duckdb.connect()
    connection.execute(f"SET threads = {THREADS}; SET memory_limit = '{memory}'; SET temp_directory = '{out}.tmp'")
    connection.execute("SET preserve_insertion_order = false")
    files = f"read_parquet('{source}/*.parquet')"
    if variant == "ordered":
        query, how = f"SELECT * FROM {files} ORDER BY {SORT_KEY}", "FILE_SIZE_BYTES '32MB'"
    else:
        query, how = f"SELECT *, hash({KEY}) % {PARTS} AS part FROM {files}", "PARTITION_BY (part)"
    connection.execute(f"COPY ({query}) TO '{out}' (FORMAT parquet, {how}, COMPRESSION {compression})")
    shutil.rmtree(f"{out}.tmp", ignore_errors=True)


def with_pyarrow(source: str, out: str, compression: str, memory: str, variant: str) -> None:  # noqa: ARG001
    """The dataset writer as it comes, or `grouped`: with row groups of 32,768 to 131,072 rows."""
    pa.set_cpu_count(THREADS)
    data = ds.dataset(source)
    schema = data.schema.append(pa.field("part", pa.int32()))

    def batches() -> Any:
        for batch in data.to_batches(batch_size=131_072):
            part = pa.array((hash_rows(batch, [KEY]) % np.uint64(PARTS)).astype(np.int32))
            yield pa.RecordBatch.from_arrays([*batch.columns, part], schema=schema)

    groups = {"min_rows_per_group": 32_768, "max_rows_per_group": 131_072} if variant == "grouped" else {}
    ds.write_dataset(
        pa.RecordBatchReader.from_batches(schema, batches()), out, format="parquet", partitioning=["part"],
        file_options=ds.ParquetFileFormat().make_write_options(compression=compression), **groups,
    )  # fmt: skip


def evenness(results: Results, source: Path, place: Path) -> None:
    """Rows of the largest range partition over the mean: numbers, dates, strings."""
    for key in ("x1", "seen", "high2"):
        out = place / "ranges"
        answer = run_measured(
            shardwise_command("partition", str(source), str(out), "--by", f"range:{key}:{PARTS}", "--json")
        ).answer()
        shutil.rmtree(out)
        ratio = round(answer["largest_rows"] * answer["filled"] / answer["rows"], 4)
        figures = {
            "rows": answer["rows"],
            "parts": answer["filled"],
            "ratio": ratio,
            "verdict": verdict(ratio, EVEN_LIMIT),
        }
        results.add(f"range {key}", figures, limit=EVEN_LIMIT)
        print(f"range {key}: largest over mean {ratio}, at most {EVEN_LIMIT}: {figures['verdict']}", flush=True)


def hot_key(results: Results, args: argparse.Namespace, place: Path) -> None:
    """Work of the busiest of 8 workers over the mean, before and after the remedy; one key has 40 % of the rows."""
    source = write_wide(place / "hot", min(args.rows, 2_000_000), hot_share=0.4, target=True)
    out = place / "hot-out"
    run_measured(shardwise_command("partition", str(source), str(out), "--by", f"hash:high0:{PARTS}")).checked()
    look = shardwise_command("profile", str(out), "--partitions", "--workers", str(WORKERS), "--json")
    before, before_s = run_measured(look).answer(), busiest(out)
    named = any(
        finding["code"] == "hot_key" and finding["evidence"]["key"] == [HOT_KEY] for finding in before["findings"]
    )
    run_measured(shardwise_command("partition", str(out), "--remedy", "salt")).checked()
    after, after_s = run_measured(look).answer(), busiest(out)
    figures = {
        "rows": before["rows"], "named": named, "before": round(before["straggler"], 3),
        "ratio": round(after["straggler"], 3), "seconds_before": before_s, "seconds_ratio": after_s,
        "verdict": verdict(max(after["straggler"], after_s), WORK_LIMIT),
    }  # fmt: skip
    results.add("hot key", figures, limit=WORK_LIMIT, skew=[before["skew"], after["skew"]])
    print(f"hot key: {json.dumps(figures)}", flush=True)


def busiest(folder: Path) -> float:
    """Seconds of training of the busiest worker over the mean; files go, largest first, to who has the fewest rows."""
    shares: list[list[Path]] = [[] for _ in range(WORKERS)]
    rows = [0] * WORKERS
    sizes = {path: pq.read_metadata(path).num_rows for path in folder.rglob("*.parquet")}
    for path in sorted(sizes, key=lambda path: (-sizes[path], str(path))):
        least = rows.index(min(rows))
        shares[least].append(path)
        rows[least] += sizes[path]
    seconds = [in_fresh_process(train_on, files=[str(path) for path in share])[0] for share in shares]
    return round(max(seconds) / statistics.mean(seconds), 3)


def train_on(files: list[str]) -> float:
    """Seconds of LightGBM on the numbers of these files, binning included, on one thread."""
    table = pa.concat_tables([pq.ParquetFile(path).read() for path in files])
    X = np.column_stack(
        [table[name].to_numpy() for name in table.schema.names if pa.types.is_floating(table[name].type)]
    )
    began = time.perf_counter()
    data = lgb.Dataset(X, table[TARGET].to_numpy(), free_raw_data=True)
    lgb.train({"objective": "binary", "num_threads": 1, "verbosity": -1}, data, num_boost_round=TRAIN_ROUNDS)
    return time.perf_counter() - began


def rows_of(folder: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in folder.glob("*.parquet"))


if __name__ == "__main__":
    main()
