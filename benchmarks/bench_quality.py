"""Quality: `shardwise train --time 60s` against LightGBM with early stopping, on the same split.

Each data set is cut once into 80 % and 20 %, at random from a fixed seed (store_item_demand too, so neither side has to
forecast); both sides get the same two files. Ours: the command line, then `shardwise evaluate` on the test file. The
peer: `lightgbm_peer.py`, without a time limit. Compared are losses (1 - roc_auc, log_loss, rmse,
mean_poisson_deviance): ours over the peer's, at most 1.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common import (
    DATA_SETS,
    DataSet,
    Results,
    available,
    chosen,
    folder_bytes,
    in_fresh_process,
    make_parser,
    megabytes,
    run_measured,
    shardwise_command,
    verdict,
)
from lightgbm_peer import best_lightgbm
from shardwise.compute.ceiling import cpu_quota

NAMES = (
    "adult",
    "bank_marketing",
    "california_housing",
    "diamonds",
    "nycflights13",
    "otto_products",
    "credit_risk",
    "fremtpl_freq",
    "store_item_demand",
)
METRICS = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse", "count": "mean_poisson_deviance"}
TEST_SHARE = 0.2
LIMIT = 1.0


def main() -> None:
    args = _arguments()
    results = Results("quality", args.results)
    for name in available(chosen(args.only, NAMES), args.data):
        for seed in range(args.repeat):
            with tempfile.TemporaryDirectory() as folder:
                figures, details = compare(args, name, Path(folder), seed)
            results.add(name, figures, **details)
            print(
                f"{name}: {figures['ratio']:.4f} of LightGBM's loss, at most {LIMIT}: {figures['verdict']}", flush=True
            )
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--time", default="60s", help="ceiling for ours")
    parser.add_argument("--rows", type=int, help="only so many rows of each data set, for a quick look")
    parser.add_argument("--threads", type=int, default=cpu_quota(), help="for the peer; ours takes what there is")
    return parser.parse_args()


def compare(args: argparse.Namespace, name: str, folder: Path, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures for the table, and details for the record."""
    data_set = DATA_SETS[name]
    metric = METRICS[data_set.task]
    rows = write_split(data_set, args.data / f"{name}.parquet", folder, seed, args.rows)
    ours = train_ours(data_set, folder, args.time)
    theirs, cost = in_fresh_process(
        best_lightgbm, train=str(folder / "train.parquet"), test=str(folder / "test.parquet"),
        target=data_set.target, task=data_set.task, threads=args.threads,
    )  # fmt: skip
    value = ours["metrics"][metric]["value"]
    ratio = loss(metric, value) / loss(metric, theirs["value"])
    figures = {
        "metric": metric, "ours": value, "peer": theirs["value"], "ratio": ratio, "verdict": verdict(ratio, LIMIT),
        "ours_s": round(ours["seconds"], 1), "peer_s": round(cost.seconds, 1),
        "ours_peak_mb": megabytes(ours["peak_rss_bytes"]), "peer_peak_mb": megabytes(cost.peak_rss_bytes),
        "package_mb": megabytes(ours["package_bytes"]),
    }  # fmt: skip
    details = {
        "split": {"kind": "random", "seed": seed, **rows}, "time": args.time, "threads": args.threads,
        "interval": ours["metrics"][metric], "trials": ours["trials"], "ours_cpu_s": round(ours["cpu_s"], 1),
        "peer_cpu_s": round(cost.cpu_s, 1), "peer_tried": theirs["tried"], "peer_chosen": theirs["chosen"],
    }  # fmt: skip
    return figures, details


def loss(metric: str, value: float) -> float:
    """Lower is better."""
    return 1.0 - value if metric == "roc_auc" else value


def write_split(data_set: DataSet, source: Path, folder: Path, seed: int, limit_rows: int | None) -> dict[str, int]:
    """Write train.parquet and test.parquet without the columns to drop and without rows of no label; their rows."""
    table = pq.read_table(source).drop_columns(list(data_set.drop)).replace_schema_metadata(None)
    table = table.filter(pc.is_valid(table[data_set.target]))
    order = np.random.default_rng(seed).permutation(table.num_rows)[:limit_rows]
    cut = int(len(order) * (1 - TEST_SHARE))
    parts = {"train": order[:cut], "test": order[cut:]}
    for name, rows in parts.items():
        pq.write_table(table.take(pa.array(rows)), folder / f"{name}.parquet", compression="zstd")
    return {f"{name}_rows": len(rows) for name, rows in parts.items()}


def train_ours(data_set: DataSet, folder: Path, time: str) -> dict[str, Any]:
    """Train on train.parquet and evaluate on test.parquet, both by the command line."""
    words = ["train", "train.parquet", "--target", data_set.target, "--time", time, "--run", "bench", "--json"]
    if data_set.task == "count":
        words += ["--task", "count"]
    trained = run_measured(shardwise_command(*words), folder)
    result = trained.answer()
    package = folder / result["package"]
    scored = run_measured(shardwise_command("evaluate", str(package), "test.parquet", "--json"), folder).answer()
    return {
        "metrics": scored["metrics"], "trials": result.get("trials"), "seconds": trained.seconds,
        "cpu_s": trained.cpu_s, "peak_rss_bytes": trained.peak_rss_bytes, "package_bytes": folder_bytes(package),
    }  # fmt: skip


if __name__ == "__main__":
    main()
