"""Whole runs: does the reported 95 % interval hold the score on a large untouched set, and on a target that is noise?

Each draw gives `shardwise.train` rows of a public table at random, with its usual split and a few candidates; the score
on rows that the run never saw is the truth, which the interval of the sealed test has to hold in 93 to 97 of 100 draws.
On the same rows intervals or sets at a confidence level of 90 % are counted. On a noise target the interval has to hold
what chance gives (an AUC of 0.5, an R2 of at most 0) in at least 95 of 100 draws.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import shardwise
from common import DATA_SETS, Results, available, chosen, make_parser
from shardwise.core.config import RunConfig
from shardwise.serve.predictor import Predictor
from shardwise.stats.evaluation import Evaluation
from shardwise.workflow import TrainResult, train

LEAST, MOST, LEAST_NOISE = 0.93, 0.97, 0.95
LEVEL = 0.9
HELD = 20_000
REAL = ("adult", "bank_marketing", "credit_risk", "california_housing", "diamonds", "kin8nm", "house_16h",
        "otto_products", "covtype_20k", "dry_bean")  # fmt: skip
Make = Callable[[int], pa.Table]
CHANCE = {"roc_auc": 0.5, "r2": 0.0}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--rows", type=int, default=3000, help="of which a run learns, its sealed test among them")
    parser.add_argument("--trials", type=int, default=3)
    args = parser.parse_args()
    results = Results("honesty", args.results)
    noises: dict[str, Make] = {"noise classes": noise_classes, "noise numbers": noise_numbers}
    real = list(available(REAL, args.data))
    held: list[bool] = []
    for name in chosen(args.only, [*noises, *real]):
        if name in noises:
            add_noise(results, name, noises[name], args)
        else:
            held += add_real(results, name, args)
    results.print_table()
    if held:
        print(f"{len(held)} draws of {len(real)} data sets: {np.mean(held):.1%} of the intervals hold the truth")


def add_real(results: Results, name: str, args: Any) -> list[bool]:
    known = DATA_SETS[name]
    table = pq.read_table(args.data / f"{name}.parquet")
    table = table.filter(table.column(known.target).is_valid()).drop_columns(list(known.drop))
    hits, covered = [], []
    for seed in range(args.draws):
        order = np.random.default_rng(seed).permutation(len(table))
        fresh = table.take(pa.array(order[args.rows : args.rows + HELD])).combine_chunks()
        result, predictor = run(table.take(pa.array(order[: args.rows])), known.target, args, task=known.task)
        y, scores = labelled(predictor, fresh)
        gathered = Evaluation(predictor.target)
        gathered.update(y, scores)
        truth = gathered.result([result.metric])["metrics"][result.metric]["value"]
        hits.append(result.score["low"] <= truth <= result.score["high"])
        conformal = predictor.package.conformal
        assert conformal is not None
        covered.append(float(conformal.holds(y, scores, LEVEL).mean()))
    results.add(name, figure(hits, covered), draws=args.draws, rows=args.rows, target=[LEAST, MOST])
    return hits


def figure(hits: list[bool], covered: list[float]) -> dict[str, float]:
    """Share of the draws whose interval held, coverage at `LEVEL` and how far off it is."""
    coverage = float(np.mean(covered))
    return {"interval": round(float(np.mean(hits)), 3), "coverage": round(coverage, 4),
            "off": round(abs(coverage - LEVEL), 4)}  # fmt: skip


def add_noise(results: Results, name: str, make: Make, args: Any) -> None:
    hits, covered = [], []
    metric = "roc_auc" if "classes" in name else "r2"
    for seed in range(args.draws):
        result, predictor = run(make(seed), "y", args, metric=metric)
        low, high = result.score["low"], result.score["high"]
        hits.append(low <= CHANCE[metric] and (metric == "r2" or high >= CHANCE[metric]))
        assert predictor.package.conformal is not None
        covered.append(
            float(predictor.package.conformal.holds(*labelled(predictor, make(10_000 + seed)), LEVEL).mean())
        )
    results.add(name, figure(hits, covered), draws=args.draws, target=LEAST_NOISE)


def run(table: pa.Table, target: str, args: Any, **options: Any) -> tuple[TrainResult, Predictor]:
    with tempfile.TemporaryDirectory(prefix="shardwise-") as folder:
        path = Path(folder) / "rows.parquet"
        pq.write_table(table, path)
        asked = {"data": str(path), "target": target, "trials": args.trials, "report": False, "workers": 1}
        result = train(RunConfig.from_mapping({**asked, "runs_folder": str(Path(folder) / "runs"), **options}))
        return result, shardwise.load(result.package)


def labelled(predictor: Predictor, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Labels and predictions of the rows whose class the model knows."""
    y = predictor.target.encode(table.column(predictor.target.column).combine_chunks())
    known = ~np.isnan(y)
    return y[known], predictor.predict(table)[known]


def noise_classes(seed: int, rows: int = 3000) -> pa.Table:
    rng = np.random.default_rng([seed, 7])
    return _noise(rng, rows).append_column("y", pa.array(rng.integers(0, 2, rows)))


def noise_numbers(seed: int, rows: int = 3000) -> pa.Table:
    rng = np.random.default_rng([seed, 8])
    return _noise(rng, rows).append_column("y", pa.array(rng.normal(size=rows)))


def _noise(rng: np.random.Generator, rows: int) -> pa.Table:
    numbers = {f"x{place}": rng.normal(size=rows) for place in range(8)}
    towns = rng.integers(0, 300, rows)
    return pa.table({**numbers, "town": [f"t{town}" for town in towns], "kind": rng.choice(list("abcd"), rows)})


if __name__ == "__main__":
    main()
