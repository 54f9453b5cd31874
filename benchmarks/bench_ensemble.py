"""Ensembles: what `--max-size`, `--max-latency` and `--distill` cost in loss, and bring in size and speed.

One run of `shardwise train --trials N` on four fifths of a data set; from its trials the package is chosen without
limits, by default, for 100,000 rows/s, for 1 ms a row, and distilled, each scored by `shardwise evaluate` on the other
fifth. Losses stand beside that of LightGBM with early stopping on the same split (`lightgbm_peer.py`), over which the
gain is counted: `kept` is the share of the unlimited ensemble's gain. Rows/s are those of `Predictor.predict` on
100,000 rows, latencies those of `predict_one`, both of them in a process of its own.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench_quality import METRICS, loss, write_split
from common import (
    DATA_SETS,
    Results,
    available,
    chosen,
    folder_bytes,
    in_fresh_process,
    make_parser,
    megabytes,
    run_measured,
    shardwise_command,
)
from lightgbm_peer import best_lightgbm
from shardwise.compute.ceiling import cpu_quota
from shardwise.serve.predictor import Predictor

NAMES = ("adult", "california_housing", "diamonds", "credit_risk", "bank_marketing", "covtype_20k", "kin8nm")
VARIANTS: dict[str, tuple[str, ...]] = {
    "unlimited": ("--max-size", "10GB", "--min-throughput", "0"),
    "default": (),
    "fast": ("--min-throughput", "100000"),
    "1ms": ("--max-size", "10GB", "--min-throughput", "0", "--max-latency", "1ms"),
    "distilled": ("--distill",),
}
ROWS, SINGLE = 100_000, 300


def main() -> None:
    args = _arguments()
    results = Results("ensemble", args.results)
    for name in available(chosen(args.only, NAMES), args.data):
        for seed in range(args.repeat):
            with tempfile.TemporaryDirectory() as folder:
                for figures, details in compare(args, name, Path(folder), seed):
                    results.add(f"{name} {figures['variant']}", figures, **details)
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--trials", type=int, default=10, help="candidates, the baseline included")
    parser.add_argument("--rows", type=int, help="only so many rows of each data set, for a quick look")
    return parser.parse_args()


def compare(
    args: argparse.Namespace, name: str, folder: Path, seed: int
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """For each variant the figures for the table, and details for the record."""
    data_set, metric = DATA_SETS[name], METRICS[DATA_SETS[name].task]
    rows = write_split(data_set, args.data / f"{name}.parquet", folder, seed, args.rows)
    peer, _ = in_fresh_process(
        best_lightgbm, train=str(folder / "train.parquet"), test=str(folder / "test.parquet"),
        target=data_set.target, task=data_set.task, threads=cpu_quota(),
    )  # fmt: skip
    base, found = loss(metric, peer["value"]), []
    most = 0.0
    for variant, words in VARIANTS.items():
        asked = ["train", "train.parquet", "--target", data_set.target, "--trials", str(args.trials), "--json"]
        asked += ["--run", "bench", *(["--task", "count"] if data_set.task == "count" else [])]
        result = run_measured(shardwise_command(*asked, *words), folder).answer()
        package = folder / result["package"]
        scored = run_measured(shardwise_command("evaluate", str(package), "test.parquet", "--json"), folder).answer()
        own = loss(metric, scored["metrics"][metric]["value"])
        most = most or base - own
        speed, _ = in_fresh_process(paces, package=str(package), rows=str(folder / "test.parquet"))
        figures = {
            "variant": variant, "metric": metric, "loss": own, "ratio": own / base,
            "kept": (base - own) / most if most > 0 else None, "answers": result["ensemble"]["kind"],
            "models": result["ensemble"]["models"], "package_mb": megabytes(folder_bytes(package)), **speed,
        }  # fmt: skip
        found.append(
            (figures, {"split": {"seed": seed, **rows}, "peer": peer["value"], "ensemble": result["ensemble"]})
        )
        print(name, json.dumps(figures), flush=True)
    return found


def paces(package: str, rows: str) -> dict[str, float]:
    """Rows/s in a batch (the best of three), and the median of a row alone in microseconds."""
    predictor, table = Predictor.load(package), pq.read_table(rows)
    many = pa.concat_tables([table] * -(-ROWS // table.num_rows)).slice(0, ROWS).combine_chunks()
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        predictor.predict(many)
        seconds.append(time.perf_counter() - started)
    singles = []
    for row in table.slice(0, SINGLE).to_pylist():
        started = time.perf_counter()
        predictor.predict_one(row)
        singles.append(time.perf_counter() - started)
    return {"rows_per_s": round(ROWS / min(seconds)), "alone_us": round(1e6 * statistics.median(singles), 1)}


if __name__ == "__main__":
    main()
