"""Early stopping of trials: `shardwise tune --pruner asha` against the same candidates evaluated in full.

The same data, seed and sampler (random, so that both sides try the same candidates), once with `--pruner none` and once
with each pruner. Cost is counted in boosting rounds of all fits, not in seconds, so that it does not depend on what
else the machine does; what is continued from a checkpoint counts from there. Compared are the out-of-fold losses of the
best candidate of each side, and the values on the sealed test.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common import DATA_SETS, Results, available, chosen, make_parser, run_measured, shardwise_command
from shardwise.store.journal import SqliteJournal

NAMES = (
    "adult", "bank_marketing", "bike_sharing_hour", "california_housing", "credit_risk", "diamonds", "house_16h",
    "kin8nm", "hotel_bookings", "electricity_elec2",
)  # fmt: skip
PRUNERS = ("asha", "hyperband", "median", "curve")
LOSS, COST = 1.002, 1 / 3


def main() -> None:
    args = _arguments()
    results = Results("asha", args.results)
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in args.pruners.split(",")}
    for name in available(chosen(args.only, NAMES), args.data):
        with tempfile.TemporaryDirectory() as folder:
            write_rows(name, args, Path(folder))
            full = search(name, "none", args, Path(folder))
            for pruner, found in ratios.items():
                figures = compared(full, search(name, pruner, args, Path(folder)))
                found.append((figures["loss_ratio"], figures["cost_ratio"]))
                results.add(f"{name} {pruner}", figures, rows=args.rows, trials=args.trials)
                print(f"{name} {pruner}: {figures}", flush=True)
    for pruner, found in ratios.items():
        loss, cost = np.median(np.array(found), axis=0)
        worst = max(ratio for ratio, _ in found)
        verdict = "ok" if loss <= LOSS and cost <= COST else "MISSED"
        figures = {"full": None, "pruned": None, "loss_ratio": round(float(loss), 5), "test_change": None,
                   "rounds": None, "cost_ratio": round(float(cost), 4), "verdict": verdict}  # fmt: skip
        results.add(f"median {pruner}", figures, worst_loss_ratio=worst, data_sets=len(found))
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=8_000, help="of each data set")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--pruners", default="asha", help=f"of {', '.join(PRUNERS)}")
    return parser.parse_args()


def write_rows(name: str, args: argparse.Namespace, folder: Path) -> None:
    data_set = DATA_SETS[name]
    table = pq.read_table(args.data / f"{name}.parquet").drop_columns(list(data_set.drop))
    table = table.filter(pc.is_valid(table[data_set.target])).replace_schema_metadata(None)
    chosen_rows = np.random.default_rng(0).permutation(table.num_rows)[: args.rows]
    pq.write_table(table.take(pa.array(np.sort(chosen_rows))), folder / "rows.parquet")


def search(name: str, pruner: str, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Loss of the best candidate, value on the sealed test, and rounds of all fits."""
    words = [
        "tune", "rows.parquet", "--target", DATA_SETS[name].target, "--sampler", "random", "--pruner", pruner,
        "--trials", str(args.trials), "--families", "trees", "--folds", "3", "--run", pruner, "--json",
    ]  # fmt: skip
    result = run_measured(shardwise_command(*words), folder).answer()
    with SqliteJournal(folder / "runs" / pruner / "journal.db", read_only=True) as journal:
        trials = [record for record in journal.read() if record["kind"] == "trial" and record["family"] == "trees"]
    best: dict[int, float] = {}
    for trial in trials:  # in the order in which they climbed
        best[trial["number"]] = trial["loss"]
    rounds = sum(fold["steps"] for trial in trials for fold in trial["folds"])
    return {"loss": min(best.values()), "test": result["score"]["value"], "rounds": rounds}


def compared(full: dict[str, Any], pruned: dict[str, Any]) -> dict[str, Any]:
    """Losses that are shares are compared as they are: 1 - AUC would make much of little."""
    return {
        "full": full["loss"], "pruned": pruned["loss"],
        "loss_ratio": round(1.0 + (pruned["loss"] - full["loss"]) / abs(full["loss"]), 5),
        "test_change": round(pruned["test"] / full["test"] - 1.0, 5),
        "rounds": full["rounds"], "cost_ratio": round(pruned["rounds"] / full["rounds"], 4),
        "verdict": "",
    }  # fmt: skip


if __name__ == "__main__":
    main()
