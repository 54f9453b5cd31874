"""Loss, columns and seconds with and without the selection of features, on real data and the same with noise.

Each data set is split at random, 80 % to train. The peer is our own run with `select="none"`: both train the constant
and one model of trees (two trials) on the same file. Then again with 50 columns of noise: normal, whole numbers, a
copy of real columns in another order. Compared are losses on the other 20 % (1 - roc_auc, log_loss, rmse,
mean_poisson_deviance): with selection over without, at most 1.002 in the median; of the noise at least 80 % is to be
dropped, and none of the ten columns that the model without noise finds most important.
"""

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import shardwise
from bench_quality import METRICS, loss, write_split
from common import DATA_SETS, DataSet, Results, available, chosen, in_fresh_process, make_parser, verdict
from shardwise.core.events import StageStarted
from shardwise.data.dataset import open_dataset
from shardwise.serve.evaluate import evaluate

LIMIT, LEAST_NOISE, NOISE = 1.002, 0.8, 50
MORE = {
    "covtype_20k": DataSet(target="Cover_Type", task="multiclass"),
    "spambase": DataSet(target="spam", task="binary"),
    "house_16h": DataSet(target="target", task="regression"),
    "pol": DataSet(target="target", task="regression"),
    "telco_churn": DataSet(target="Churn", task="binary", drop=("customerID",)),
    "heart_disease_2020": DataSet(target="HeartDisease", task="binary"),
    "higgs_7k": DataSet(target="target", task="binary"),
    "kin8nm": DataSet(target="y", task="regression"),
}
SETS = {**DATA_SETS, **MORE}
NAMES = (
    "adult", "bank_marketing", "california_housing", "diamonds", "credit_risk", "otto_products", "nycflights13",
    "covtype_20k", "spambase", "house_16h", "pol", "heart_disease_2020", "higgs_7k", "kin8nm",
)  # fmt: skip


def main() -> None:
    args = _arguments()
    results = Results("selection", args.results)
    for name in available(chosen(args.only, NAMES), args.data):
        with tempfile.TemporaryDirectory() as folder:
            for noise in (0, NOISE):
                figures, details = compare(args, name, Path(folder), noise)
                results.add(f"{name}+{noise}", figures, **details)
                print(
                    f"{name} with {noise} columns of noise: {figures['ratio']:.4f} of the loss without selection, "
                    f"at most {LIMIT} in the median",
                    flush=True,
                )
    results.print_table()
    for noise in (0, NOISE):
        ratios = [row["ratio"] for row in results.rows if row["case"].endswith(f"+{noise}")]
        middle = float(np.median(ratios))
        print(f"median ratio with {noise} columns of noise: {middle:.4f}, {verdict(middle, LIMIT)}")


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=60_000, help="at most so many rows of each data set")
    parser.add_argument("--mode", default="auto", help="auto or strict")
    return parser.parse_args()


def compare(args: argparse.Namespace, name: str, folder: Path, noise: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures for the table, and details for the record."""
    data_set = SETS[name]
    write_split(data_set, args.data / f"{name}.parquet", folder, 0, args.rows)
    if noise:
        for part in ("train", "test"):
            add_noise(folder / f"{part}.parquet", data_set.target, noise)
    runs = {}
    for select in ("none", args.mode):
        runs[select], _ = in_fresh_process(
            train_and_score, folder=str(folder), name=name, select=select, run=f"{select}-{noise}"
        )
    plain, ours = runs["none"], runs[args.mode]
    dropped = set(ours["rejected"]) - set(plain["rejected"])
    real = [column for column in plain["important"] if not column.startswith("noise_")][:10]
    noisy = [column for column in dropped if column.startswith("noise_")]
    figures = {
        "ratio": ours["loss"] / plain["loss"], "without": plain["loss"], "with": ours["loss"],
        "columns": plain["columns"], "dropped": len(dropped) - len(noisy),
        "noise_dropped": len(noisy), "noise_kept": ours["noise"], "important_dropped": len(dropped & set(real)),
        "none_s": round(plain["seconds"], 1), "select_s": round(ours["select_s"], 1),
        "ours_s": round(ours["seconds"], 1),
    }  # fmt: skip
    return figures, {"mode": args.mode, "rows": args.rows, "dropped_columns": sorted(dropped - set(noisy))}


def add_noise(path: Path, target: str, noise: int) -> None:
    """Columns that tell nothing: a third normal, a third whole numbers, a third real columns in another order."""
    table = pq.read_table(path)
    rng = np.random.default_rng(len(table))
    real = [name for name in table.schema.names if name != target]
    for number in range(noise):
        kind = number % 3
        if kind == 0:
            values: Any = pa.array(rng.normal(size=table.num_rows))
        elif kind == 1:
            values = pa.array(rng.integers(0, 40, table.num_rows))
        else:
            values = table[real[number % len(real)]].take(pa.array(rng.permutation(table.num_rows)))
        table = table.append_column(f"noise_{number}", values)
    pq.write_table(table, path)


def train_and_score(folder: str, name: str, select: str, run: str) -> dict[str, Any]:
    """Train on train.parquet, and the loss on test.parquet."""
    data_set, place = SETS[name], Path(folder)
    more = {"task": "count"} if data_set.task == "count" else {}
    stages: list[tuple[float, Any]] = []
    result = shardwise.train(
        place / "train.parquet", data_set.target, trials=2, select=select, run=run, runs_folder=str(place / "runs"),
        report=False, listen=lambda event: stages.append((time.perf_counter(), event)), **more,
    )  # fmt: skip
    package = shardwise.load(result.package).package
    scored = evaluate(shardwise.load(result.package), open_dataset(place / "test.parquet"), bootstrap=2)
    metric = METRICS[data_set.task]
    sources = {feature.name: feature.source for feature in package.recipe.features}
    important: dict[str, float] = {}
    for member in package.members:
        for feature, share in member.model.importance().items():
            important[sources[feature]] = important.get(sources[feature], 0.0) + share
    ranked = sorted(important, key=lambda column: -important[column])
    return {
        "loss": loss(metric, scored["metrics"][metric]["value"]), "seconds": result.seconds, "important": ranked,
        "rejected": sorted(package.recipe.rejected), "columns": len(package.recipe.inputs),
        "noise": sum(column.startswith("noise_") for column in package.recipe.inputs),
        "select_s": _select_s(stages),
    }  # fmt: skip


def _select_s(events: list[tuple[float, Any]]) -> float:
    """Seconds from the start of the selection to that of the next stage."""
    starts = [(at_s, event.stage) for at_s, event in events if isinstance(event, StageStarted)]
    spent = [end - start for (start, stage), (end, _) in pairwise(starts) if stage == "select"]
    return float(sum(spent))


if __name__ == "__main__":
    main()
