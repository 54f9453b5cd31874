"""Small trees on the scores of an ensemble's members, and members that draw trained from several seeds.

One run of `shardwise train --trials N` on four fifths of a data set; from its trials the package is made anew without
both, with trees (as by default), with three seeds, and with both. Each is scored by `evaluate` on the other fifth;
`ratio` is its loss over that without both, `crossed` the same out of fold, by which the run decides. `answers` tells
what it chose.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from bench_quality import METRICS, loss, write_split
from common import DATA_SETS, Results, available, chosen, in_fresh_process, make_parser
from shardwise.core.config import RunConfig
from shardwise.data.dataset import open_dataset
from shardwise.ensemble import growing
from shardwise.serve.evaluate import evaluate
from shardwise.serve.predictor import Predictor
from shardwise.workflow import train

NAMES = (
    "pol", "kin8nm", "house_16h", "california_housing", "diamonds", "bike_sharing_hour", "covtype_20k", "dry_bean",
    "adult", "bank_marketing", "higgs_7k", "spambase", "telco_churn",
)  # fmt: skip
VARIANTS = {"neither": (False, 1), "trees": (True, 1), "seeds": (False, 3), "both": (True, 3)}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--trials", type=int, default=10, help="candidates, the baseline included")
    parser.add_argument("--rows", type=int, help="only so many rows of each data set, for a quick look")
    args = parser.parse_args()
    results = Results("stacking", args.results)
    for name in available(chosen(args.only, NAMES), args.data):
        for seed in range(args.repeat):
            with tempfile.TemporaryDirectory() as folder:
                compare(args, results, (name, seed), Path(folder))
    results.print_table()


def compare(args: argparse.Namespace, results: Results, what: tuple[str, int], folder: Path) -> None:
    name, seed = what
    data_set, metric = DATA_SETS[name], METRICS[DATA_SETS[name].task]
    rows = write_split(data_set, args.data / f"{name}.parquet", folder, seed, args.rows)
    first: dict[str, float] = {}
    for place, variant in enumerate(VARIANTS):
        found, cost = in_fresh_process(
            package_of, folder=str(folder), target=data_set.target, task=data_set.task, trials=args.trials, place=place
        )
        own = {"loss": loss(metric, found["value"]), "crossed": loss(metric, found["valid"])}
        first = first or own
        figures = {
            "variant": variant, "metric": metric, "loss": own["loss"], "ratio": own["loss"] / first["loss"],
            "crossed": own["crossed"] / first["crossed"], "answers": found["kind"], "models": found["models"],
            "seconds": round(cost.seconds, 1),
        }  # fmt: skip
        results.add(f"{name} {variant}", figures, split={"seed": seed, **rows})
        print(name, figures, flush=True)


def package_of(folder: str, target: str, task: str, trials: int, place: int) -> dict[str, Any]:
    """Trains, or makes the package anew of the trials that are there, and scores it."""
    trees, seeds = list(VARIANTS.values())[place]
    growing.MOST_CLASSES = growing.MOST_CLASSES if trees else 0
    asked: dict[str, Any] = {
        "data": f"{folder}/train.parquet", "target": target, "trials": trials, "run": "bench", "report": False,
        "runs_folder": f"{folder}/runs", "bag_seeds": seeds,
        "max_size": f"{50_000 + place}KB",  # another limit: it chooses again
        **({"task": "count"} if task == "count" else {}),
    }  # fmt: skip
    result = train(RunConfig.from_mapping(asked))
    scores = evaluate(Predictor.load(result.package), open_dataset(f"{folder}/test.parquet"))
    metric = METRICS[task]
    return {
        "value": scores["metrics"][metric]["value"], "valid": result.valid_score, "kind": result.ensemble["kind"],
        "models": result.ensemble["models"],
    }  # fmt: skip


if __name__ == "__main__":
    main()
