"""CatBoost, or a network, beside LightGBM: whether one more member of another family earns its seconds.

As in decision 0026: of each data set so many rows, three fifths of them to learn from, one to stop by and to learn
greedy weights from, one to score. The first four candidates of trees of the portfolio, and one of `--family` at the
family's defaults, one thread each. Losses (log loss, rmse, Poisson deviance) on the last fifth: of the best single
model of the four, of the one more, of the blend of the four, and of the blend with it; the latter over the one before,
and CPU seconds of the one more over those of the four together.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bench_families import Data, _features
from common import DATA_SETS, Results, available, chosen, make_parser, verdict
from shardwise.core.target import Target
from shardwise.ensemble.combine import GreedyCombiner
from shardwise.models.base import FitRun
from shardwise.models.families import FAMILIES, build
from shardwise.models.losses import task_loss
from shardwise.models.portfolio import portfolio
from shardwise.testing.models import TRAIN, VALID, Pair, Table, on_disk

NAMES = (
    "adult", "amazon_employee_access", "bank_marketing", "california_housing", "connect_4", "covtype_20k",
    "credit_risk", "diamonds", "electricity_elec2", "house_16h", "kin8nm", "spambase", "telco_churn",
)  # fmt: skip
LIMIT = 0.995  # a median gain of half a percent
MEMBERS = 4


def main() -> None:
    args = _arguments()
    results = Results("catboost", args.results)
    found = []
    for name in available(chosen(args.only, NAMES), args.data):
        for seed in range(args.repeat):
            figures = compare(args, name, seed)
            found.append(figures)
            results.add(name, figures, family=args.family, rows=args.rows, seed=seed, params=args.param)
            print(f"{name}: {figures}", flush=True)
    middle: dict[str, Any] = {
        key: round(statistics.median(each[key] for each in found), 4) for key in ("ratio", "single", "seconds")
    }
    blank = dict.fromkeys(("trees", "added", "blend", "with"))
    middle = {**blank, **middle, "took_s": None}
    results.add(
        "median",
        {**middle, "verdict": verdict(middle["ratio"], LIMIT)},
        family=args.family,
        rows=args.rows,
        data_sets=len(found),
    )
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=5000, help="of each data set")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="a param of the one more")
    parser.add_argument("--family", default="catboost", choices=("catboost", "neural"), help="of the one more")
    return parser.parse_args()


def compare(args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    data = Data(DATA_SETS[name], args.data / f"{name}.parquet", seed, args.rows)
    asked = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in args.param)}
    target = Target(column="y", task=data.task, classes=data.classes)
    X = data.codes()
    features = _features(data, X)
    part = np.where(np.arange(len(data.y)) % 4 == 3, VALID, TRAIN).astype(np.int8)
    table = Table(X[data.train], data.y[data.train], None, part[data.train])
    trees = [c for c in portfolio(target, features, args.rows) if c.family == "trees"][:MEMBERS]
    wanted = [("trees", dict(candidate.params)) for candidate in trees] + [(args.family, asked)]
    known, fresh, seconds = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        rows: dict[str, Pair] = {k: on_disk(Path(folder) / k, table, features, k) for k in ("floats", "bins")}
        for family, params in wanted:
            began = time.process_time()
            model = build(family, target, features, params)
            model.fit(*rows[FAMILIES[family].traits.reads], FitRun(seed=1))
            seconds.append(time.process_time() - began)
            known.append(model.predict(table.X[table.folds == VALID]))
            fresh.append(model.predict(X[~data.train]))
    y, y_known = data.y[~data.train], table.y[table.folds == VALID]
    losses = [task_loss(target, y, each) for each in fresh]
    blends = []
    for count in (MEMBERS, MEMBERS + 1):
        combiner = GreedyCombiner(lambda truth, said: task_loss(target, truth, said))
        combiner.fit(known[:count], y_known)
        blends.append(task_loss(target, y, combiner.combine(fresh[:count])))
    return {
        "trees": min(losses[:MEMBERS]), "added": losses[-1], "blend": blends[0], "with": blends[1],
        "ratio": round(blends[1] / blends[0], 4), "single": round(losses[-1] / min(losses[:MEMBERS]), 4),
        "seconds": round(seconds[-1] / sum(seconds[:-1]), 2), "took_s": round(seconds[-1], 1), "verdict": "",
    }  # fmt: skip


if __name__ == "__main__":
    main()
