"""Shuffles of engines: 30 columns into 64 Parquet files by the hash of a key, on this process, Ray, Dask and Spark.

Each engine runs two workers of its own on this machine, in a fresh process; its start is in the seconds. Beside ours
stand the shuffles that the engines' users would write: Spark's DataFrame with its own hash (`spark-sql`, no order) and
with our numbers and order (`spark-rows`), and the groups of Ray Data (`ray-rows`). Ours give the same bytes on all.
"""

import copy
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from common import (
    HERE,
    Results,
    chosen,
    folder_bytes,
    in_fresh_process,
    make_parser,
    megabytes,
    run_measured,
    shardwise_command,
)
from generated import write_wide
from shardwise.compute.ceiling import cpu_quota
from shardwise.data.partitioners.hashed import HashPartitioner

KEY, PARTS = "high1", 64
OURS = ("local", "ray", "dask", "spark")
PEERS = ("spark-sql", "spark-rows", "ray-rows")
NUMBERED = (("part", "integer"), ("row", "long"))


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=3_000_000, help="of the generated table")
    parser.add_argument("--source", type=Path, help="folder of a table that was generated before")
    args = parser.parse_args()
    results, first = Results("shuffle", args.results), None
    with tempfile.TemporaryDirectory(dir=args.source.parent if args.source else None) as place:
        source = args.source or write_wide(Path(place) / "source", args.rows)
        out = Path(place) / "out"
        for way in chosen(args.only, OURS + PEERS) * args.repeat:
            figures = ours(way, source, out) if way in OURS else theirs(way, source, out)
            first = first or figures["seconds"]
            results.add(way, {**figures, "ratio": round(figures["seconds"] / first, 2)}, rows=args.rows, parts=PARTS)
            print(f"{way}: {figures}", flush=True)
            shutil.rmtree(out)
    results.print_table()


def ours(engine: str, source: Path, out: Path) -> dict[str, Any]:
    """Seconds, peak of the process tree, and a digest of all that was written."""
    words = ("partition", str(source), str(out), "--by", f"hash:{KEY}:{PARTS}", "--engine", engine, "--workers",
             str(cpu_quota()), "--json")  # fmt: skip
    cost = run_measured(shardwise_command(*words)).checked()
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(out.glob("part-*"))))
    return {"seconds": round(cost.seconds, 1), "peak_mb": megabytes(cost.peak_rss_bytes),
            "mb": megabytes(folder_bytes(out)), "digest": digest.hexdigest()[:8]}  # fmt: skip


def theirs(way: str, source: Path, out: Path) -> dict[str, Any]:
    """The same of a peer; its order is its own."""
    places = {"source": str(source), "out": str(out)}
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])  # for the workers
    if way == "ray-rows":
        _, cost = in_fresh_process(with_ray, **places)
    else:
        _, cost = in_fresh_process(with_spark, **places, way=way)
    written = sum(pq.read_metadata(path).num_rows for path in out.rglob("*.parquet"))
    if written != sum(pq.read_metadata(path).num_rows for path in source.glob("*.parquet")):
        raise RuntimeError(f"{way} has written {written:,} rows")
    return {"seconds": round(cost.seconds, 1), "peak_mb": megabytes(cost.peak_rss_bytes),
            "mb": megabytes(folder_bytes(out)), "digest": "-"}  # fmt: skip


def with_spark(source: str, out: str, way: str) -> None:
    """A DataFrame, repartitioned by the key with Spark's hash, or by our numbers and sorted by those of the rows."""
    from pyspark.sql import SparkSession

    settings = {"spark.ui.enabled": "false", "spark.driver.memory": "4g", "spark.driver.host": "127.0.0.1",
                "spark.sql.execution.arrow.pyspark.enabled": "true"}  # fmt: skip
    session = SparkSession.builder.master(f"local[{cpu_quota()}]").config(map=settings).getOrCreate()
    frame = session.read.parquet(source)
    if way == "spark-sql":
        frame = frame.repartition(PARTS, KEY)
        frame.write.option("compression", "zstd").parquet(out)
    else:
        schema = copy.deepcopy(frame.schema)
        for name, kind in NUMBERED:
            schema = schema.add(name, kind)
        frame = frame.mapInArrow(_numbered, schema).repartition(PARTS, "part").sortWithinPartitions("part", "row")
        frame.drop("row").write.option("compression", "zstd").partitionBy("part").parquet(out)
    session.stop()


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    row = 0
    for batch in batches:
        yield number(pa.Table.from_batches([batch]), row).to_batches()[0]
        row += batch.num_rows


def number(table: pa.Table, row: int = 0) -> pa.Table:
    """The table with a column of partition numbers and one of row numbers."""
    (batch,) = table.combine_chunks().to_batches()
    numbers = HashPartitioner((KEY,), PARTS).assign(batch, row)
    rows = np.arange(row, row + len(batch), dtype=np.int64)
    return table.append_column("part", pa.array(numbers)).append_column("row", pa.array(rows))


def with_ray(source: str, out: str) -> None:
    """Groups of Ray Data by our numbers, each sorted and written as a file."""
    import ray
    import ray.data

    ray.init(num_cpus=cpu_quota(), include_dashboard=False, log_to_driver=False, object_store_memory=4_000_000_000)
    ray.data.DataContext.get_current().enable_progress_bars = False
    Path(out).mkdir()

    def write(group: pa.Table) -> pa.Table:
        part = group["part"][0].as_py()
        group = group.sort_by("row").drop_columns(["part", "row"])
        pq.write_table(group, f"{out}/{part}.parquet", compression="zstd", row_group_size=2**16)
        return pa.table({"part": [part], "rows": [group.num_rows]})

    frame = ray.data.read_parquet(source).map_batches(number, batch_format="pyarrow")
    frame.groupby("part", num_partitions=PARTS).map_groups(write, batch_format="pyarrow").take_all()
    ray.shutdown()


if __name__ == "__main__":
    main()
