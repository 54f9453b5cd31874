"""Retraining: loss on untouched rows and seconds of `shardwise retrain`, against a training of all rows anew.

A fifth of a public data set is held out. Of the other rows five sixths are old: a run learns from them. The last sixth
is new, drawn at random (`alike`), or the rows with the greatest values of the first number (`shifted`). Then all of
them are learned from: by `retrain` as it decides, by `retrain` when it may not look for changes (`keep`), and by a new
run. The loss of `retrain` is held to that of the new run: at most 1.01 times in the median of all cases.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import shardwise
from common import DATA_SETS, Results, available, chosen, in_fresh_process, make_parser, verdict
from shardwise import retraining
from shardwise.core.target import Task
from shardwise.data.dataset import open_dataset
from shardwise.monitor.judge import DriftConfig
from shardwise.serve.evaluate import evaluate
from shardwise.serve.predictor import Predictor

MOST = 1.01
NAMES = ("bank_marketing", "california_housing", "adult", "covtype_20k", "house_16h", "credit_risk")
WAYS = ("alike", "shifted")
NEVER = DriftConfig(least_psi=np.inf, least_ks=np.inf, least_share=np.inf)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--trials", type=int, default=4)
    args = parser.parse_args()
    results = Results("retrain", args.results)
    ratios = []
    names = list(available(NAMES, args.data))
    for case in chosen(args.only, [f"{name} {way}" for name in names for way in WAYS]):
        name, way = case.split(" ")
        figures = measure(name, way, args)
        ratios.append(figures["ratio"])
        results.add(case, figures, trials=args.trials, most=MOST)
        print(f"{case}: {figures['ratio']:.4f} of the loss of a new run, in {figures['seconds']:.2f} of its time",
              flush=True)  # fmt: skip
    results.print_table()
    if ratios:
        median = statistics.median(ratios)
        print(f"median {median:.4f}, at most {MOST}: {verdict(median, MOST)}")


def measure(name: str, way: str, args: argparse.Namespace) -> dict[str, Any]:
    """Losses and seconds over those of a new run."""
    with tempfile.TemporaryDirectory() as place:
        rows = write(name, way, args.data, Path(place))
        common = {"name": name, "folder": place, "trials": args.trials}
        in_fresh_process(learn, how="first", **common)
        found = {how: in_fresh_process(learn, how=how, **common) for how in ("retrain", "keep", "new")}
    loss = {how: answer["loss"] for how, (answer, _) in found.items()}
    seconds = {how: measured.seconds for how, (_, measured) in found.items()}
    return {
        "rows": rows, "kept": found["retrain"][0]["kept"], "ratio": round(loss["retrain"] / loss["new"], 4),
        "ratio_keep": round(loss["keep"] / loss["new"], 4), "seconds": round(seconds["retrain"] / seconds["new"], 3),
        "seconds_keep": round(seconds["keep"] / seconds["new"], 3), "new_s": round(seconds["new"], 2),
        "loss": loss["retrain"],
    }  # fmt: skip


def write(name: str, way: str, data: Path, folder: Path) -> int:
    """Old rows in four files, new ones in one, and those held out; the number of all."""
    table = pq.read_table(data / f"{name}.parquet")
    table = table.take(pa.array(np.random.default_rng(0).permutation(len(table))))
    held = len(table) // 5
    rest = table.slice(held)
    if way == "shifted":
        numbers = (
            field.name for field in rest.schema if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        )
        first = next(each for each in numbers if each not in (DATA_SETS[name].target, *DATA_SETS[name].drop))
        rest = rest.sort_by(first)
    old = len(rest) * 5 // 6
    order = np.random.default_rng(1).permutation(old)
    (folder / "old").mkdir()
    for piece, places in enumerate(np.array_split(order, 4)):
        pq.write_table(rest.take(pa.array(places)), folder / "old" / f"{piece}.parquet")
    pq.write_table(rest.slice(old), folder / "new.parquet")
    pq.write_table(table.slice(0, held), folder / "held.parquet")
    return len(table)


def learn(name: str, folder: str, trials: int, how: str) -> dict[str, Any]:
    """Loss on the rows held out, and whether features and bins were kept."""
    place, known = Path(folder), DATA_SETS[name]
    old, new = str(place / "old"), str(place / "new.parquet")
    common: dict[str, Any] = {"runs_folder": str(place / "runs"), "trials": trials, "report": False, "run": how}
    if how == "keep":
        retraining.MATTERS = NEVER
    if how in ("first", "new"):
        data = [old] if how == "first" else [old, new]
        result = shardwise.train(data, known.target, task=known.task, drop=known.drop, **common)
    else:
        result = shardwise.retrain("first", [old, new], **common)
    kept = [finding["evidence"]["kept"] for finding in result.findings if finding["code"] == "retrained"]
    metric = "rmse" if not Task(known.task).is_classification else "log_loss"
    held = open_dataset([str(place / "held.parquet")])
    scores = evaluate(Predictor.load(result.package), held, metrics=[metric], bootstrap=2)["metrics"]
    return {"loss": scores[metric]["value"], "kept": bool(kept and kept[0])}


if __name__ == "__main__":
    main()
