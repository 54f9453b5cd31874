"""Samplers against random search at 50 trials, on tables of public data sets; meta-learning against 30 random trials.

For each data set, random candidates are evaluated once on 2,000 of its rows with small trees (`tuning_tables.py`), kept
in the folder given by --cache, and a forest interpolates between them; then every sampler is replayed on it, with
several seeds. So what is compared are decisions, on surfaces of real tasks that are smoothed, and not training times.

Figures. `area`: the mean of the best loss so far over the trials, where 0 is the best of 2,000 random params and 1
their median; the mean over seeds. A sampler wins a data set when its area is below that of random search. Meta-learning
sees the tables of all other data sets and never its own: `warm` is the first trial at which it is as good as the median
of what 30 random trials reach. With `--portfolio` all samplers begin after the default candidates of a run, and the
area is that of the trials which follow them: `start` is where they left off.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import Results, available, chosen, make_parser
from shardwise.tune.archive import Archive, PastTask
from shardwise.tune.samplers import Sampler, make_sampler
from shardwise.tune.samplers.meta import MetaSampler
from tuning_tables import FAMILY, Table, make_table, read_tables

NAMES = (
    "adult", "bank_marketing", "bike_sharing_hour", "california_housing", "connect_4", "covtype_20k", "credit_risk",
    "diamonds", "dry_bean", "electricity_elec2", "employee_salaries", "etth1", "give_me_some_credit", "higgs_7k",
    "hotel_bookings", "house_16h", "kin8nm", "nycflights13", "pol", "spambase", "store_item_demand", "telco_churn",
    "walmart_store_sales", "amazon_employee_access",
)  # fmt: skip
SAMPLERS = ("random", "sobol", "tpe", "gp", "cma", "rl")
COLD = 30  # random trials whose best is the mark for warm ones
PAST = 60  # trials of each other task that meta-learning knows
WINS, WARM = 0.75, 8


def main() -> None:
    args = _arguments()
    names = list(available(chosen(args.only, NAMES), args.data))
    kept = {table.name: 1 + len(table.task.trials) for table in read_tables(args.cache, NAMES)}  # and the baseline
    for name in names:
        if kept.get(name, 0) >= args.configs:
            continue
        print(f"{name}: table of {args.configs} candidates", flush=True)
        make_table(name, args.data, args.cache, rows=args.rows, trials=args.configs)
    if args.tables_only:
        return
    tables = read_tables(args.cache, NAMES)
    results = Results("samplers", args.results)
    areas: dict[str, list[float]] = {name: [] for name in (*SAMPLERS, "meta")}
    warm = []
    for table in (table for table in tables if table.name in names):
        figures = compare(table, [other for other in tables if other is not table], args)
        warm.append(figures.get("warm", 0.0))
        for sampler, found in areas.items():
            found.append(figures[sampler])
        results.add(
            table.name, figures, rows=args.rows, configs=args.configs, seeds=args.repeat, trials=args.trials,
            portfolio=args.portfolio,
        )  # fmt: skip
        print(table.name, figures, flush=True)
    _summary(results, areas, warm)
    results.print_table()


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.set_defaults(repeat=5)
    parser.add_argument("--cache", type=Path, default=Path("runs/samplers"), help="folder in which the tables are kept")
    parser.add_argument("--rows", type=int, default=2_000, help="of each data set")
    parser.add_argument("--configs", type=int, default=150, help="candidates of a table")
    parser.add_argument("--trials", type=int, default=50, help="of a replay")
    parser.add_argument("--portfolio", action="store_true", help="replay what follows the default candidates")
    parser.add_argument("--tables-only", action="store_true", help="fill the tables, and end")
    return parser.parse_args()


def compare(table: Table, others: Sequence[Table], args: argparse.Namespace) -> dict[str, float]:
    """Area of each sampler, and the warm trials of meta-learning."""
    first = table.portfolio if args.portfolio else []
    figures = {name: area(table, make_sampler(name), args, first) for name in SAMPLERS}
    past = Archive(tuple(_shortened(other.task) for other in others)).of(FAMILY)
    meta = MetaSampler(archive=past, features=table.task.features)
    curves = [table.replay(meta, args.trials, seed, first) for seed in range(args.repeat)]
    figures["meta"] = round(float(np.mean(curves)), 4)
    if args.portfolio:
        return {**figures, "start": round(min(table.loss(params) for params in first), 4)}
    cold = [table.replay(make_sampler("random"), COLD, 100 + seed)[-1] for seed in range(20)]
    reached = [int(np.argmax(curve <= np.median(cold))) + 1 if curve[-1] <= np.median(cold) else 99 for curve in curves]
    return {**figures, "warm": float(np.median(reached))}


def area(table: Table, sampler: Sampler, args: argparse.Namespace, first: Sequence[Mapping[str, Any]]) -> float:
    return round(float(np.mean([table.replay(sampler, args.trials, seed, first) for seed in range(args.repeat)])), 4)


def _shortened(task: PastTask) -> PastTask:
    return PastTask(name=task.name, features=task.features, trials=task.trials[:PAST])


def _summary(results: Results, areas: dict[str, list[float]], warm: list[float]) -> None:
    """Share of data sets won, mean area, and the median of the warm trials, as a case of its own."""
    random = np.array(areas["random"])
    wins = {name: round(float(np.mean(np.array(found) < random)), 3) for name, found in areas.items()}
    means = {name: round(float(np.mean(found)), 4) for name, found in areas.items()}
    passed = all(wins[name] >= WINS for name in ("rl", "tpe", "gp")) and np.median(warm) <= WARM
    verdict = "ok" if passed else "MISSED"
    told = {"warm": float(np.median(warm))} if any(warm) else {}
    results.add("all", {**means, **told}, wins=wins, verdict=verdict, tables=len(random))
    print(f"\nwins over random search, of {len(random)} data sets: {wins}, at least {WINS} asked")
    print(f"warm trials, median: {np.median(warm)}, at most {WARM} asked: {verdict}")


if __name__ == "__main__":
    main()
