"""Coverage: how often the 95 % interval of a score holds the true score. Target: 93 to 97 of 100.

Simulated cases have a truth that is known, or computed from two million rows. Real ones: a small LightGBM learns from a
third of a data set, the other rows are the population whose score is the truth, and test sets are drawn from them with
replacement. Each case draws `--draws` test sets; a coverage is then known to 1.3 % (one standard error at 300).
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit
from scipy.stats import norm

from common import DATA_SETS, Results, as_numbers, available, chosen, make_parser
from shardwise.stats.intervals import interval
from shardwise.stats.metrics import METRICS, Pairs

SIZES = (100, 300, 1000, 5000, 20_000)
LEAST, MOST = 0.93, 0.97
TRUTH_ROWS = 2_000_000
REAL = ("adult", "bank_marketing", "credit_risk", "california_housing", "diamonds", "nycflights13", "otto_products",
        "fremtpl_freq", "store_item_demand", "us_babynames")  # fmt: skip
MOST_ROWS = 150_000  # of a data set
Draw = Callable[[int, np.random.Generator], Pairs]
BINARY = ("roc_auc", "log_loss", "accuracy")
NUMBERS = ("rmse", "mae", "r2")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--draws", type=int, default=300)
    args = parser.parse_args()
    results = Results("intervals", args.results)
    simulated = {name: (draw, metrics, truth_of(draw, metrics)) for name, (draw, metrics) in simulations().items()}
    real = dict(real_cases(args))
    figures: list[tuple[str, float]] = []
    for name in chosen(args.only, [*simulated, *real]):
        kind = "simulated" if name in simulated else "real"
        draw, metrics, truth = (simulated | real)[name]
        for metric in metrics:
            held = coverage(metric, truth[metric], draw, args.draws)
            figures += [(kind, share) for share in held.values()]
            by_rows = {str(rows): round(share, 3) for rows, share in held.items()}
            figure = {"kind": kind, **by_rows, "lowest": round(min(held.values()), 3)}
            results.add(f"{name}: {metric}", figure, draws=args.draws, target=[LEAST, MOST])
    results.print_table()
    for kind in ("simulated", "real"):
        shares = np.array([share for each, share in figures if each == kind])
        if len(shares):
            inside, low = np.mean((shares >= LEAST) & (shares <= MOST)), np.mean(shares < LEAST - 0.03)
            print(
                f"{kind}: {len(shares)} cases, mean {shares.mean():.3f}, {inside:.0%} within {LEAST} to {MOST}, "
                f"{low:.0%} below {LEAST - 0.03:.2f}, lowest {shares.min():.3f}"
            )


def coverage(metric: str, truth: float, draw: Draw, draws: int) -> dict[int, float]:
    """Share of the intervals that hold the truth, by rows."""
    shares = {}
    for size in SIZES:
        rng = np.random.default_rng([size, 1])
        found = [interval(METRICS[metric], draw(size, rng), seed=seed) for seed in range(draws)]
        known = [each for each in found if np.isfinite(each.low)]
        shares[size] = float(np.mean([each.low <= truth <= each.high for each in known]))
    return shares


# -- simulated -------------------------------------------------------------------------------------------------------


def simulations() -> dict[str, tuple[Draw, tuple[str, ...]]]:
    cases: dict[str, tuple[Draw, tuple[str, ...]]] = {}
    for area, share in ((0.65, 0.5), (0.85, 0.5), (0.85, 0.1), (0.98, 0.5), (0.98, 0.1), (0.995, 0.2)):
        cases[f"two classes, AUC {area}, {share:.0%}"] = (two_classes(area, share), BINARY)
    for name, errors in ERRORS.items():
        cases[f"errors {name}"] = (numbers(errors), NUMBERS)
    return cases


def two_classes(area: float, share: float) -> Draw:
    """Scores of two normals, and the probability that goes with them."""
    apart = norm.ppf(area) * np.sqrt(2.0)

    def draw(rows: int, rng: np.random.Generator) -> Pairs:
        y = (rng.random(rows) < share).astype(float)
        logits = apart * (rng.normal(size=rows) + apart * y) - apart**2 / 2 + np.log(share / (1 - share))
        return Pairs.labelled(y, expit(logits))

    return draw


ERRORS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "normal": lambda n, rng: rng.normal(size=n),
    "laplace": lambda n, rng: rng.laplace(size=n),
    "t(5)": lambda n, rng: rng.standard_t(5, size=n),
    "log-normal": lambda n, rng: rng.lognormal(sigma=0.75, size=n) - np.exp(0.75**2 / 2),
    "2 % ten times as wide": lambda n, rng: rng.normal(size=n) * np.where(rng.random(n) < 0.02, 10.0, 1.0),
}


def numbers(errors: Callable[[int, np.random.Generator], np.ndarray]) -> Draw:
    def draw(rows: int, rng: np.random.Generator) -> Pairs:
        x = 2 * rng.normal(size=rows)
        return Pairs.labelled(x + errors(rows, rng), x)

    return draw


def truth_of(draw: Draw, metrics: tuple[str, ...]) -> dict[str, float]:
    pairs = draw(TRUTH_ROWS, np.random.default_rng(0))
    return {name: METRICS[name].of(pairs) for name in metrics}


# -- real ------------------------------------------------------------------------------------------------------------


def real_cases(args: argparse.Namespace) -> Iterator[tuple[str, tuple[Draw, tuple[str, ...], dict[str, float]]]]:
    wanted = [name for name in REAL if args.only is None or name in args.only]
    for name in available(wanted, args.data):
        population = predicted(name, args.data)
        metrics = _metrics(name)
        truth = {metric: METRICS[metric].of(population) for metric in metrics}
        yield name, (_resampled(population), metrics, truth)


def _metrics(name: str) -> tuple[str, ...]:
    task = DATA_SETS[name].task
    return {"binary": BINARY, "multiclass": ("log_loss", "accuracy")}.get(task, NUMBERS)


def _resampled(population: Pairs) -> Draw:
    return lambda rows, rng: population.take(rng.integers(0, len(population), rows))


def predicted(name: str, data: Path) -> Pairs:
    """Labels and predictions of the rows that a small model has not seen."""
    known = DATA_SETS[name]
    table = pq.read_table(data / f"{name}.parquet")
    table = table.filter(table.column(known.target).is_valid())
    rng = np.random.default_rng(0)
    table = table.take(pa.array(rng.permutation(len(table))[:MOST_ROWS]))
    names = [each for each in table.column_names if each not in (known.target, *known.drop)]
    X = np.column_stack([as_numbers(table.column(each)) for each in names])
    y = as_numbers(table.column(known.target), codes=known.task in ("binary", "multiclass"))
    learned = np.arange(len(y)) < len(y) // 3
    params: dict[str, Any] = {"objective": known.task, "verbosity": -1, "num_leaves": 31, "seed": 0}
    params |= {"multiclass": {"num_class": len(np.unique(y))}, "count": {"objective": "poisson"}}.get(known.task, {})
    model = lgb.train(params, lgb.Dataset(X[learned], y[learned]), 60)
    prediction = np.asarray(model.predict(X[~learned]))
    return Pairs.labelled(y[~learned], prediction)


if __name__ == "__main__":
    main()
