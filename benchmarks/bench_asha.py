"""Cheaper searches: `shardwise tune --pruner asha` and `--sampler pbt` against the same candidates evaluated in full.

The same data, seed and random candidates, once evaluated in full (`--sampler random --pruner none`) and once by each of
the `--searches`: a pruner on rungs of boosting rounds (`asha`) or of partitions (`asha/partitions`, with the rows in
`--parts` files), or a population of networks (`pbt`). Cost is counted in boosting rounds or epochs of all fits, times
the share of the rows that they learned from, not in seconds, so that it does not depend on what else the machine does;
what is continued from a checkpoint counts from there. Compared are the out-of-fold losses of the best candidate of each
side, and the values on the sealed test.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from common import DATA_SETS, Results, available, chosen, make_parser, run_measured, shardwise_command
from shardwise.models.rungs import SHARES
from shardwise.store.journal import SqliteJournal

NAMES = (
    "adult", "bank_marketing", "bike_sharing_hour", "california_housing", "credit_risk", "diamonds", "house_16h",
    "kin8nm", "hotel_bookings", "electricity_elec2",
)  # fmt: skip
SEARCHES = ("asha", "hyperband", "median", "curve", "asha/partitions", "hyperband/partitions", "pbt")
LOSS, COST = 1.002, 1 / 3  # asked of pruners; of a population: a lower loss at no higher cost
POPULATION_COST = 1.0
NETWORK = {"width": 64, "members": 4, "epochs": 24}


def main() -> None:
    args = _arguments()
    results = Results("asha", args.results)
    ratios: dict[str, list[dict[str, Any]]] = {name: [] for name in args.searches.split(",")}
    for name in available(chosen(args.only, NAMES), args.data):
        for seed in range(args.repeat):
            with tempfile.TemporaryDirectory() as folder:
                write_rows(name, args, Path(folder))
                full: dict[str, dict[str, Any]] = {}
                for search, found in ratios.items():
                    family = "neural" if search == "pbt" else "trees"
                    if family not in full:
                        full[family] = searched(name, family, ("none", seed), args, Path(folder))
                    figures = compared(full[family], searched(name, family, (search, seed), args, Path(folder)))
                    found.append(figures)
                    results.add(f"{name} {search}", figures, rows=args.rows, trials=args.trials, seed=seed)
                    print(f"{name} {search}: {figures}", flush=True)
    for search, found in ratios.items():
        results.add(f"median {search}", summary(search, found), data_sets=len(found) // args.repeat)
    results.print_table()


def summary(search: str, found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    keys = "score_ratio", "loss_ratio", "cost_ratio"
    score, loss, cost = (float(np.median([figures[key] for figures in found])) for key in keys)
    most = (1.0, POPULATION_COST) if search == "pbt" else (LOSS, COST)
    return {
        "full": None, "pruned": None, "score_ratio": round(score, 5), "loss_ratio": round(loss, 5),
        "test_change": None, "rounds": None,
        "cost_ratio": round(cost, 4), "verdict": "ok" if score <= most[0] and cost <= most[1] else "MISSED",
        "worst_loss_ratio": max(figures["loss_ratio"] for figures in found),
        "better": sum(figures["loss_ratio"] < 1.0 for figures in found), "searches": len(found),
    }  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=8_000, help="of each data set")
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--parts", type=int, default=18, help="files in which the rows lie")
    parser.add_argument("--searches", default="asha,asha/partitions", help=f"of {', '.join(SEARCHES)}")
    return parser.parse_args()


def write_rows(name: str, args: argparse.Namespace, folder: Path) -> None:
    data_set = DATA_SETS[name]
    table = pq.read_table(args.data / f"{name}.parquet").drop_columns(list(data_set.drop))
    table = table.filter(pc.is_valid(table[data_set.target])).replace_schema_metadata(None)
    chosen_rows = np.random.default_rng(0).permutation(table.num_rows)[: args.rows]
    table = table.take(pa.array(np.sort(chosen_rows)))
    (folder / "rows").mkdir()
    for part, places in enumerate(np.array_split(np.arange(table.num_rows), args.parts)):
        pq.write_table(table.slice(places[0], len(places)), folder / "rows" / f"part-{part:02}.parquet")


def searched(
    name: str, family: str, how: tuple[str, int], args: argparse.Namespace, folder: Path
) -> dict[str, Any]:  # fmt: skip
    """Loss of the best candidate, value on the sealed test, and rounds of all fits, times the share of their rows.

    `how` it is searched: pruner and rungs, or `pbt`, and the seed.
    """
    search, seed = how
    pruner, _, rungs = ("none", "", "") if search == "pbt" else search.partition("/")
    run = f"{family}-{search.replace('/', '-')}"
    held = NETWORK if family == "neural" else {}
    words = [
        "tune", "rows", "--target", DATA_SETS[name].target, "--sampler", "pbt" if search == "pbt" else "random",
        "--pruner", pruner, "--rungs", rungs or "rounds", "--trials", str(args.trials), "--families", family,
        "--folds", str(args.folds), "--seed", str(seed), "--run", run, "--json",
        *(word for param, value in held.items() for word in ("--param", f"{family}.{param}={value}")),
    ]  # fmt: skip
    result = run_measured(shardwise_command(*words), folder).answer()
    with SqliteJournal(folder / "runs" / run / "journal.db", read_only=True) as journal:
        trials = [record for record in journal.read() if record["kind"] == "trial" and record["family"] == family]
    best: dict[int, float] = {}
    for trial in trials:  # in the order in which they climbed
        best[trial["number"]] = trial["loss"]
    shares = (*SHARES, 1.0) if rungs == "partitions" else (1.0,) * 9
    rounds = sum(fold["steps"] * shares[trial["rung"] or 0] for trial in trials for fold in trial["folds"])
    return {"loss": min(best.values()), "test": result["score"]["value"], "rounds": round(rounds)}


def compared(full: dict[str, Any], pruned: dict[str, Any]) -> dict[str, Any]:
    """`score_ratio`: how the score changes; `loss_ratio`: what is above that of perfect answers, of an AUC 1 - AUC."""
    perfect = -1.0 if full["loss"] < 0 else 0.0
    return {
        "full": full["loss"], "pruned": pruned["loss"],
        "score_ratio": round(1.0 + (pruned["loss"] - full["loss"]) / abs(full["loss"]), 5),
        "loss_ratio": round((pruned["loss"] - perfect) / (full["loss"] - perfect), 5),
        "test_change": round(pruned["test"] / full["test"] - 1.0, 5),
        "rounds": full["rounds"], "cost_ratio": round(pruned["rounds"] / full["rounds"], 4),
        "verdict": "",
    }  # fmt: skip


if __name__ == "__main__":
    main()
