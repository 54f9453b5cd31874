"""Overhead: what `train` does before it encodes - profile, split, recipe - against DuckDB's SUMMARIZE of the files.

Both read all rows and columns from Parquet once or twice and gather statistics of them, with the same number of
threads, in fresh processes that take turns (ours, DuckDB, ours, ...); starting the interpreter and importing counts for
neither. Rows are assigned to folds within the profile's pass. The ratio is (profile + recipe) / SUMMARIZE, the median
over the turns, at most 2 for a million rows and more. Beside it: the same with everything from the call to the first
encoded row, which adds opening the data, the journal, and the leak tests.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from common import DATA_SETS, Results, available, chosen, in_fresh_process, make_parser, megabytes, verdict
from generated import TARGET, write_table
from shardwise.compute.ceiling import cpu_quota
from shardwise.core.config import RunConfig
from shardwise.core.events import Event, Events, StageStarted
from shardwise.workflow import train

NAMES = ("generated", "us_babynames", "un_votes", "online_retail", "pg17_motor_policies")
LIMIT = 2.0
LARGE_ROWS = 1_000_000  # the limit is for files of so many rows; smaller ones are for information


def main() -> None:
    parser = make_parser(__doc__)
    parser.set_defaults(repeat=5)
    parser.add_argument("--rows", type=int, default=2_000_000, help="of the generated table")
    args = parser.parse_args()
    results = Results("overhead", args.results)
    names = chosen(args.only, NAMES)
    with tempfile.TemporaryDirectory() as folder:
        if "generated" in names:
            measure(results, args, "generated", write_table(Path(folder), args.rows), TARGET)
    for name in available([name for name in names if name != "generated"], args.data):
        measure(results, args, name, args.data / f"{name}.parquet", DATA_SETS[name].target)
    results.print_table()


def measure(results: Results, args: argparse.Namespace, name: str, data: Path, target: str) -> None:
    """Take turns, and keep the medians."""
    files = sorted(map(str, data.glob("*.parquet"))) if data.is_dir() else [str(data)]
    threads = cpu_quota()
    turns = [turn(files, target, threads) for _ in range(args.repeat + 1)][1:]  # the first one fills the file cache
    figures: dict[str, Any] = {key: statistics.median(each[key] for each in turns) for key in turns[0]}
    content = [pq.ParquetFile(file).metadata for file in files]
    size = {"rows": sum(each.num_rows for each in content), "columns": content[0].num_columns}
    figures["verdict"] = verdict(figures["ratio"], LIMIT) if size["rows"] >= LARGE_ROWS else "for information"
    results.add(name, {**size, **figures}, limit=LIMIT, threads=threads, turns=turns)
    print(f"{name}: {figures['ratio']:.3f} times SUMMARIZE, at most {LIMIT}: {figures['verdict']}", flush=True)


def turn(files: list[str], target: str, threads: int) -> dict[str, float]:
    """Seconds of ours and of DuckDB's, one after the other."""
    with tempfile.TemporaryDirectory() as runs:
        ours, cost = in_fresh_process(stages_before_encode, files=files, target=target, runs=runs)
    theirs, their_cost = in_fresh_process(summarize, files=files, threads=threads)
    return {
        "profile_s": ours["profile"], "recipe_s": ours["recipe"], "leaks_s": ours["leaks"], "open_s": ours["open"],
        "summarize_s": theirs, "ratio": (ours["profile"] + ours["recipe"]) / theirs,
        "ratio_all": sum(ours.values()) / theirs, "ours_peak_mb": megabytes(cost.peak_rss_bytes),
        "peer_peak_mb": megabytes(their_cost.peak_rss_bytes),
    }  # fmt: skip


class _EnoughError(Exception):
    """The stages to be measured are over."""


def stages_before_encode(files: list[str], target: str, runs: str) -> dict[str, float]:
    """Seconds of each stage of `train` up to the first encoded row; `open` is from the call to the first stage."""
    seconds: dict[str, float] = defaultdict(float)
    stage, began = "open", time.perf_counter()

    def listen(event: Event) -> None:
        nonlocal stage, began
        if isinstance(event, StageStarted):
            now = time.perf_counter()
            seconds[stage] += now - began
            stage, began = event.stage, now
            if stage == "encode":
                raise _EnoughError

    try:
        train(RunConfig(data=tuple(files), target=target, runs_folder=runs, run="bench"), Events([listen]))
    except _EnoughError:
        return dict(seconds)
    raise RuntimeError("the run ended without encoding a row")


def summarize(files: list[str], threads: int) -> float:
    """Seconds of DuckDB's SUMMARIZE over all columns of the files."""
    connection = duckdb.connect()
    connection.execute(f"SET threads = {int(threads)}")
    connection.execute("SET enable_progress_bar = false")  # it goes to standard output
    began = time.perf_counter()
    connection.execute("SUMMARIZE SELECT * FROM read_parquet($1)", [files]).fetchall()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
