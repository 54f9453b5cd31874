"""Watching training: false alarms on usual fits of public data, and what becomes of fits with far too large steps.

Of each data set so many rows, a fifth of them to learn from is kept for validation. Usual fits: the defaults of each
family and a few draws from ranges that are searched; none of them diverges, so that each divergence that is told is a
false alarm. The same on a target that is shuffled, where a fit may well be worse than a constant. Wild fits have a
learning rate of 25 to 3,000 times the default; told is the share of the usual fit's gain over the best constant that
they come to, and what they come to when nobody watches.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np

from bench_families import Data, _features
from common import DATA_SETS, Results, available, chosen, make_parser
from shardwise.core.errors import ShardwiseError
from shardwise.core.space import Float, Space
from shardwise.core.target import Target
from shardwise.models.base import FitRun
from shardwise.models.families import FAMILIES, build
from shardwise.models.guard import Guard
from shardwise.models.spaces import SPACES
from shardwise.stats.anomalies import DIVERGED, NOT_FINITE, PLATEAU, SLOW_DOWN
from shardwise.testing.models import TRAIN, VALID, Pair, Table, on_disk
from shardwise.train.watch import Watch
from shardwise.tune.spaces import Cube

NAMES = (
    "adult", "bank_marketing", "california_housing", "covtype_20k", "credit_risk", "diamonds", "dry_bean",
    "fremtpl_freq", "higgs_7k", "house_16h", "kin8nm", "online_retail", "pol", "spambase", "telco_churn",
)  # fmt: skip
NETWORK: dict[str, Any] = {"epochs": 12, "width": 32, "members": 4}
RATES: dict[str, Space] = {
    "linear": SPACES["linear"] | {"learning_rate": Float(0.01, 0.1, log=True, default=0.04)},
    "neural": {"learning_rate": Float(5e-4, 1e-2, log=True, default=3e-3)},
    "trees": SPACES["trees"],
}
WILD: dict[str, tuple[float, ...]] = {"linear": (1.0, 10.0), "neural": (0.3, 3.0, 10.0), "trees": (3.0, 10.0)}
FALSE, SHARE = 0.01, 0.8
LEAST = 0.02  # of the constant's loss, gained by the usual fit


def main() -> None:
    args = _arguments()
    results = Results("watch", args.results)
    told: dict[str, list[dict[str, Any]]] = {"usual": [], "shuffled": [], "wild": []}
    for name in available(chosen(args.only, NAMES), args.data):
        for case, fits in told.items():
            found = list(measured(args, name, case))
            fits += found
            print(f"{name} {case}: {summary(case, found)}", flush=True)
    for case, fits in told.items():
        results.add(case, summary(case, fits), rows=args.rows, draws=args.draws, fits=len(fits))
    for rate in sorted({(fit["family"], fit["rate"]) for fit in told["wild"]}):
        fits = [fit for fit in told["wild"] if (fit["family"], fit["rate"]) == rate]
        results.add(f"wild {rate[0]} {rate[1]:g}", summary("wild", fits), fits=len(fits))
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--rows", type=int, default=2500, help="of each data set")
    parser.add_argument("--draws", type=int, default=3, help="usual fits of each family besides its defaults")
    return parser.parse_args()


def measured(args: argparse.Namespace, name: str, case: str) -> Any:
    """The fits of a case: family, learning rate, anomalies, and shares of the usual gain, watched and not."""
    data = Data(DATA_SETS[name], args.data / f"{name}.parquet", 0, args.rows)
    if case == "shuffled":
        data.y = np.random.default_rng(0).permutation(data.y)
    target = Target(column="y", task=data.task, classes=data.classes)
    with tempfile.TemporaryDirectory() as folder:
        rows = _rows(data, Path(folder))
        for family, rates in WILD.items():
            pair, held = rows[FAMILIES[family].traits.reads], NETWORK if family == "neural" else {}
            if case != "wild":
                for params in _drawn(family, args.draws):
                    yield fitted(family, target, pair, params | held) | {"rate": 0.0}
                continue
            usual = fitted(family, target, pair, held)["gain"]
            if usual < LEAST * Guard.of(target, pair[1].target(), None).start:
                continue  # so little can be learned from these rows that a share of it says nothing
            for rate in rates:
                fit = fitted(family, target, pair, {**held, "learning_rate": rate})
                with mock.patch.object(Guard, "judge", return_value=None):
                    alone = fitted(family, target, pair, {**held, "learning_rate": rate})
                yield fit | {"rate": rate, "share": fit["gain"] / usual, "alone": alone["gain"] / usual}


def _rows(data: Data, folder: Path) -> dict[str, Pair]:
    X = data.codes()
    folds = np.where(np.arange(data.train.sum()) % 5 == 0, VALID, TRAIN).astype(np.int8)
    table = Table(X[data.train], data.y[data.train], None, folds)
    return {reads: on_disk(folder / reads, table, _features(data, X), reads) for reads in ("floats", "bins")}


def _drawn(family: str, draws: int) -> list[dict[str, Any]]:
    cube = Cube(RATES[family])
    rng = np.random.default_rng(1)
    return [{}, *(dict(cube.params(rng.random(len(RATES[family])))) for _ in range(draws))]


def fitted(family: str, target: Target, rows: Pair, params: dict[str, Any]) -> dict[str, Any]:
    """What is noticed, and by how much the best step is better than a constant."""
    watch = Watch(deadline=float("inf"), stop=None)
    model = build(family, target, getattr(rows[0], "all_features", rows[0].features), params)
    start = Guard.of(target, rows[1].target(), None).start
    try:
        model.fit(*rows, FitRun(seed=1, report=watch.report, notice=watch.noticed.append))
    except ShardwiseError as error:  # not finite to the end
        return {"family": family, "kinds": [NOT_FINITE], "gain": 0.0, "error": error.message}
    found = watch.anomalies(start, rows[0].n_rows, 2**62)
    losses = [loss for _, loss in watch.points]
    return {"family": family, "kinds": [anomaly.kind for anomaly in found], "gain": max(0.0, start - min(losses))}


def summary(case: str, fits: list[dict[str, Any]]) -> dict[str, Any]:
    seen = [bool({DIVERGED, NOT_FINITE} & set(fit["kinds"])) for fit in fits]
    figures: dict[str, Any] = {
        "fits": len(fits), "diverged": sum(seen), "plateau": sum(PLATEAU in fit["kinds"] for fit in fits),
        "slow_down": sum(SLOW_DOWN in fit["kinds"] for fit in fits), "share": None, "alone": None, "verdict": "",
    }  # fmt: skip
    if case == "wild":
        restarted = [fit for fit in fits if fit["family"] != "trees"] or fits
        shares = [fit["share"] for fit in restarted]
        figures |= {"share": round(median(shares), 3), "alone": round(median(f["alone"] for f in restarted), 3)}
        figures["verdict"] = "ok" if figures["share"] >= SHARE else "MISSED"
    elif case == "usual":
        figures["verdict"] = "ok" if sum(seen) <= FALSE * len(fits) else "MISSED"
    return figures


if __name__ == "__main__":
    main()
