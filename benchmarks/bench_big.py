"""Bigger than memory: `shardwise train --memory` on 30 generated columns against LightGBM with everything in memory.

Both sides learn the same number of trees with the same params, and are scored on the same 500,000 rows. Ours runs in a
control group of the size of its ceiling where one may be made: the kernel would kill it above. Peaks are the highest
sum of proportional set sizes over the process tree, of many looks. Three figures are limited: the peak over the
ceiling (at most 1), the AUC that is lost (at most 0.001, at half the memory 0.005), and the time over the peer's,
reading included (at most 1.5). Cases are rows and a ceiling: 2m-500MB, 20m-2GB, 20m-1GB, and 100m-8GB on request; so
is 67m-1GB, whose float32 matrix is eight times the ceiling, without the peer, which needs some 30 GB for it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common import Results, chosen, in_fresh_process, make_parser, megabytes, run_measured, shardwise_command, verdict
from generated import HIGH, LOW, TARGET, write_wide, write_wide_test
from shardwise.compute.ceiling import cpu_quota, tree_memory_bytes
from shardwise.compute.limits import MemoryGroup
from shardwise.core.units import parse_size

CASES = {"2m-500MB": (2_000_000, "500MB"), "20m-2GB": (20_000_000, "2GB"), "20m-1GB": (20_000_000, "1GB")}
ON_REQUEST = {"100m-8GB": (100_000_000, "8GB"), "67m-1GB": (67_000_000, "1GB")}
ALONE = ("67m-1GB",)  # without the peer
AUC_LIMIT = {"20m-1GB": 0.005, "2m-500MB": 0.005}
TEST_ROWS = 500_000
TIME_LIMIT = 1.5


def main() -> None:
    args = _arguments()
    results = Results("big", args.results)
    with tempfile.TemporaryDirectory(dir=args.folder) as scratch:
        for name in chosen(args.only, [*CASES, *ON_REQUEST]) if args.only else list(CASES):
            rows, memory = {**CASES, **ON_REQUEST}[name]
            data = _data(args.folder or Path(scratch), rows)
            theirs = None if name in ALONE or args.alone else _peer(data, args)
            for turn in range(args.repeat):
                ours = train_confined(data["table"], memory, args.trees, Path(scratch) / f"{name}-{turn}")
                figures = compare(name, data, ours, theirs)
                results.add(name, figures, peer=theirs, trees=args.trees, cores=cpu_quota())
                print(f"{name}: {figures}", flush=True)
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--alone", action="store_true", help="without the peer: only peak and AUC are of interest")
    parser.add_argument("--folder", type=Path, help="where the tables are kept between runs; else they are removed")
    return parser.parse_args()


def _data(folder: Path, rows: int) -> dict[str, Any]:
    """The table and the test rows."""
    test = folder / "wide-test.parquet"
    return {"table": write_table_once(folder, rows), "test": test, "bayes_auc": write_wide_test(test, TEST_ROWS)}


def write_table_once(folder: Path, rows: int) -> Path:
    """The table's folder, written unless it is there."""
    table = folder / f"wide-{rows}"
    if not (table / "done").exists():
        write_wide(table, rows, target=True)
        (table / "done").touch()
    return table


def compare(name: str, data: dict[str, Any], ours: dict[str, Any], theirs: dict[str, Any] | None) -> dict[str, Any]:
    """Figures for the table."""
    words = ["evaluate", str(ours["package"]), str(data["test"]), "--json"]
    auc = run_measured(shardwise_command(*words)).answer()["metrics"]["roc_auc"]["value"]
    over = ours["peak_bytes"] / parse_size(ours["ceiling"])
    figures = {
        "ceiling": ours["ceiling"], "peak_mb": megabytes(ours["peak_bytes"]), "peak_ratio": round(over, 3),
        "group": ours["group"], "auc": auc, "bayes_auc": data["bayes_auc"], "seconds": round(ours["seconds"], 1),
        "share": ours["share"],
    }  # fmt: skip
    if theirs is None:
        return {**figures, "verdict": verdict(over, 1)}
    lost, ratio = theirs["auc"] - auc, ours["seconds"] / theirs["seconds"]
    kept = over <= 1 and lost <= AUC_LIMIT.get(name, 0.001) and ratio <= TIME_LIMIT
    return {
        **figures, "auc_lost": round(lost, 5), "peer_s": round(theirs["seconds"], 1), "ratio": round(ratio, 3),
        "peer_peak_mb": theirs["peak_mb"], "verdict": verdict(0 if kept else 1, 0),
    }  # fmt: skip


def train_confined(table: Path, memory: str, trees: int, folder: Path) -> dict[str, Any]:
    """Run the command line in a group of the ceiling's size, and look at its memory meanwhile."""
    folder.mkdir(parents=True)
    words = ["train", str(table), "--target", TARGET, "--memory", memory, "--trials", "2", "--families", "trees",
             "--param", f"trees.n_estimators={trees}", "--run", "big", "--out", "package", "--json"]  # fmt: skip
    group = MemoryGroup.make(parse_size(memory))
    enter = None if group is None else lambda: group.add(os.getpid())
    started, peak = time.perf_counter(), 0
    with open(folder / "out", "w+b") as out, open(folder / "err", "w+b") as err:
        process = subprocess.Popen(shardwise_command(*words), cwd=folder, stdout=out, stderr=err, preexec_fn=enter)
        while process.poll() is None:
            peak = max(peak, tree_memory_bytes(process.pid))
            time.sleep(0.1)
        seconds = time.perf_counter() - started
    if group is not None:
        group.close()
    if process.returncode:
        sys.exit((folder / "err").read_text()[-3000:])
    result = json.loads((folder / "out").read_text().splitlines()[-1])
    sampled = [finding["evidence"]["share"] for finding in result["findings"] if finding["code"] == "sampled"]
    return {
        "seconds": seconds, "peak_bytes": peak, "ceiling": memory, "group": group is not None,
        "share": (sampled or [1.0])[0], "package": folder / "package",
    }  # fmt: skip


def _peer(data: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    theirs, cost = in_fresh_process(
        lightgbm_in_memory, table=str(data["table"]), test=str(data["test"]), trees=args.trees, threads=cpu_quota()
    )
    return {**theirs, "peak_mb": megabytes(cost.peak_rss_bytes)}


def lightgbm_in_memory(table: str, test: str, trees: int, threads: int) -> dict[str, Any]:
    """LightGBM on the whole float32 matrix: low-cardinality texts as categories, the others as ordinal codes."""
    import lightgbm as lgb
    from sklearn.metrics import roc_auc_score

    started = time.perf_counter()
    matrix = _Matrix()
    X, y = matrix.read(sorted(Path(table).glob("*.parquet")))
    read_s = time.perf_counter() - started
    params = {
        "objective": "binary", "learning_rate": 0.1, "num_leaves": 127, "feature_fraction": 0.8, "min_data_in_leaf": 40,
        "num_threads": threads, "verbosity": -1,
    }  # fmt: skip
    train_set = lgb.Dataset(X, y, categorical_feature=matrix.low, params=params).construct()
    del X
    booster = lgb.train(params, train_set, trees)
    seconds = time.perf_counter() - started
    X, y = matrix.read([Path(test)])
    return {"auc": float(roc_auc_score(y, booster.predict(X))), "seconds": seconds, "read_s": read_s}


class _Matrix:
    """Reads files as float32 `(rows, features)`; the dictionaries are those of the first files that are read."""

    def __init__(self) -> None:
        self.texts = [f"low{i}" for i in range(len(LOW))] + [f"high{i}" for i in range(len(HIGH))]
        self.low: list[int] = []
        self._values: dict[str, pa.Array] = {}

    def read(self, paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
        table = pa.concat_tables([pq.read_table(path, read_dictionary=self.texts) for path in paths])
        table = table.unify_dictionaries()
        columns: list[np.ndarray] = []
        for name in table.column_names:
            if name == TARGET:
                continue
            if name in self.texts[: len(LOW)] and name not in self._values:
                self.low.append(len(columns))
            columns += self._features(name, table[name])
        X = np.empty((table.num_rows, len(columns)), np.float32)
        for i, column in enumerate(columns):
            X[:, i] = column
        return X, table[TARGET].to_numpy().astype(np.float32)

    def _features(self, name: str, column: pa.ChunkedArray) -> list[np.ndarray]:
        if pa.types.is_timestamp(column.type):
            seconds = column.cast(pa.int64()).cast(pa.float64(), safe=False).to_numpy() / 1e6
            return [(seconds / 86_400).astype(np.float32), (seconds % 86_400 / 3600).astype(np.float32)]
        if name not in self.texts:
            return [column.cast(pa.float32()).to_numpy()]
        if name not in self._values:
            self._values[name] = column.chunk(0).dictionary
            parts = [part.indices for part in column.chunks]
        else:
            parts = [pc.index_in(part.cast(pa.string()), value_set=self._values[name]) for part in column.chunks]
        return [np.concatenate([part.cast(pa.float32()).to_numpy(zero_copy_only=False) for part in parts])]


if __name__ == "__main__":
    main()
