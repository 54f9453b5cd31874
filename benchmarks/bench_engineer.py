"""Loss and seconds with and without features of two columns (`--engineer auto`), on public data sets.

Each data set is split at random, 80 % to train. The peer is our own run with `engineer="none"`: both train the default
candidates `--trials` says (two: the constant and one model of trees) on the same file. Compared are losses on the other
20 % (1 - roc_auc, log_loss, rmse, mean_poisson_deviance): with over without, at most 1.001 in the median.
"""

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import shardwise
from bench_quality import METRICS, loss, write_split
from common import DATA_SETS, Results, available, chosen, in_fresh_process, make_parser, verdict
from shardwise.core.events import StageStarted
from shardwise.data.dataset import open_dataset
from shardwise.serve.evaluate import evaluate

LIMIT = 1.001
NAMES = (
    "adult", "bank_marketing", "california_housing", "diamonds", "credit_risk", "covtype_20k", "spambase", "house_16h",
    "pol", "kin8nm", "higgs_7k", "electricity_elec2", "bike_sharing_hour", "employee_salaries", "telco_churn",
    "hotel_bookings",
)  # fmt: skip


def main() -> None:
    args = _arguments()
    results = Results("engineer", args.results)
    for name in available(chosen(args.only, NAMES), args.data):
        for seed in range(args.repeat):
            with tempfile.TemporaryDirectory() as folder:
                figures, details = compare(args, name, Path(folder), seed)
            results.add(name, figures, **details)
            print(f"{name}: {figures['ratio']:.4f} of the loss without, {figures['added']} features", flush=True)
    results.print_table()
    for what, ratios in (
        ("all data sets", [row["ratio"] for row in results.rows]),
        ("those with added features", [row["ratio"] for row in results.rows if row["added"]]),
    ):
        if ratios:
            middle = float(np.median(ratios))
            print(f"median ratio of {len(ratios)}, {what}: {middle:.4f}, {verdict(middle, LIMIT)}")


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=60_000, help="at most so many rows of each data set")
    parser.add_argument("--trials", type=int, default=2, help="default candidates of each run")
    return parser.parse_args()


def compare(args: argparse.Namespace, name: str, folder: Path, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Figures for the table, and details for the record."""
    write_split(DATA_SETS[name], args.data / f"{name}.parquet", folder, seed, args.rows)
    runs = {}
    for mode in ("none", "auto"):
        runs[mode], _ = in_fresh_process(
            train_and_score, folder=str(folder), name=name, engineer=mode, trials=args.trials
        )
    plain, ours = runs["none"], runs["auto"]
    figures = {
        "ratio": ours["loss"] / plain["loss"], "without": plain["loss"], "with": ours["loss"],
        "added": len(ours["added"]), "gain": ours["gain"], "none_s": round(plain["seconds"], 1),
        "engineer_s": round(ours["engineer_s"], 1), "ours_s": round(ours["seconds"], 1),
    }  # fmt: skip
    return figures, {"rows": args.rows, "trials": args.trials, "seed": seed, "features": ours["added"]}


def train_and_score(folder: str, name: str, engineer: str, trials: int) -> dict[str, Any]:
    """Train on train.parquet, and the loss on test.parquet."""
    data_set, place = DATA_SETS[name], Path(folder)
    more = {"task": "count"} if data_set.task == "count" else {}
    stages: list[tuple[float, Any]] = []
    result = shardwise.train(
        place / "train.parquet", data_set.target, trials=trials, engineer=engineer, run=engineer,
        runs_folder=str(place / "runs"), report=False,
        listen=lambda event: stages.append((time.perf_counter(), event)), **more,
    )  # fmt: skip
    scored = evaluate(shardwise.load(result.package), open_dataset(place / "test.parquet"), bootstrap=2)
    metric = METRICS[data_set.task]
    told = next((finding for finding in result.findings if finding["code"] == "engineered"), None)
    return {
        "loss": loss(metric, scored["metrics"][metric]["value"]), "seconds": result.seconds,
        "added": list(told["columns"]) if told else [], "gain": told["evidence"]["gain"] if told else 0.0,
        "engineer_s": _engineer_s(stages),
    }  # fmt: skip


def _engineer_s(events: list[tuple[float, Any]]) -> float:
    """Seconds from the start of the search to that of the next stage."""
    starts = [(at_s, event.stage) for at_s, event in events if isinstance(event, StageStarted)]
    return float(sum(end - start for (start, stage), (end, _) in pairwise(starts) if stage == "engineer"))


if __name__ == "__main__":
    main()
