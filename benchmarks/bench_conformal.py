"""Coverage of intervals and sets: how often they hold the truth of rows that nothing has seen. Target: within 1 %.

Each draw takes rows at random, trains small LightGBM models on them by five folds (their mean predicts, or, "anew", a
model of all rows) or on four fifths (a hold-out), gives their out-of-fold predictions to `shardwise.stats.conformal`,
and with folds also their predictions for a quarter as many other rows, without labels, and counts on the rest, at 80,
90 and 95 %. Coverage differs from draw to draw, as the scores that are ranked are few; the mean over draws is what is
promised. Cases by time predict later rows, where nothing is promised: they show by how much it is missed.
`size` is the mean size of a set, or the mean width times that of one width for all, at 90 %.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit, softmax

from common import DATA_SETS, Results, as_numbers, available, chosen, make_parser
from shardwise.core.target import Target, Task
from shardwise.stats.apart import Apart
from shardwise.stats.conformal import Conformal
from shardwise.train.postprocess import LEAST_UNSEEN, MOST_UNSEEN

LEVELS = (0.8, 0.9, 0.95)
NEAR = 0.01
FOLDS = 5
WAYS = "folds", "anew", "hold-out"
MOST_ROWS, HELD = 60_000, 20_000
REAL = ("california_housing", "diamonds", "kin8nm", "bike_sharing_hour", "house_16h", "fremtpl_freq", "adult",
        "bank_marketing", "credit_risk", "otto_products", "covtype_20k", "dry_bean")  # fmt: skip
SHIFTED = {"bike_sharing_hour": "dteday", "electricity_elec2": "date", "walmart_store_sales": "Date",
           "store_item_demand": "date"}  # fmt: skip


class Table(NamedTuple):
    """`rounds` are those of its models."""

    target: Target
    X: np.ndarray
    y: np.ndarray
    rounds: int = 60


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--sizes", default="500,2000,10000", help="rows of which a draw learns")
    args = parser.parse_args()
    results = Results("conformal", args.results)
    sizes = [int(size) for size in args.sizes.split(",")]
    tables = simulations() | {name: (lambda name=name: real(name, args.data)) for name in available(REAL, args.data)}
    shifted = {f"{name} by time": name for name in available(list(SHIFTED), args.data)}
    figures: list[float] = []
    for name in chosen(args.only, [*tables, *shifted]):
        if name in shifted:
            add_shifted(results, name, shifted[name], args)
            continue
        table = tables[name]()
        for size in (each for each in sizes if each <= 0.6 * len(table[2])):
            for way in WAYS:
                figures += add_case(results, f"{name}, {size} rows, {way}", table, size, args.draws)
    results.print_table()
    if figures:
        off = np.abs(np.array(figures))
        print(f"{len(off)} cases: {np.mean(off <= NEAR):.0%} within {NEAR:.0%} of nominal, mean {off.mean():.4f}, "
              f"largest {off.max():.4f}")  # fmt: skip


def add_case(results: Results, name: str, table: Table, size: int, draws: int) -> list[float]:
    """Record the mean coverage over draws; how far it is off at each level."""
    found = [one_draw(table, size, seed, name.rsplit(", ", 1)[1]) for seed in range(draws)]
    held = np.mean([each["held"] for each in found], axis=0)
    figure = {f"{level:.0%}": round(float(share), 4) for level, share in zip(LEVELS, held, strict=True)}
    figure["off"] = round(float(np.abs(held - LEVELS).max()), 4)
    figure["size"] = round(float(np.mean([each["size"] for each in found])), 3)
    results.add(name, figure, draws=draws, target=NEAR)
    return [float(share) - level for share, level in zip(held, LEVELS, strict=True)]


def one_draw(table: Table, size: int, seed: int, way: str) -> dict[str, Any]:
    target, X, y, rounds = table
    order = np.random.default_rng([seed, size]).permutation(len(y))
    own, fresh = order[:size], order[size : size + HELD]
    parts = np.arange(size) % FOLDS
    shown = np.array([0]) if way == "hold-out" else np.arange(FOLDS)
    models = {part: fit(target, X[own[parts != part]], y[own[parts != part]], seed, rounds) for part in shown}
    seen = np.concatenate([own[parts == part] for part in shown])
    where = np.concatenate([np.full((parts == part).sum(), part) for part in shown])
    inside = np.concatenate([answer(models[part], X[own[parts == part]], target) for part in shown])
    cut = min(MOST_UNSEEN, max(LEAST_UNSEEN, size // 4))
    each, outside = (np.stack([answer(model, X[rows], target) for model in models.values()])
                     for rows in (fresh[:cut], fresh[cut:]))  # fmt: skip
    answers = [each.mean(axis=0), outside.mean(axis=0)]
    if way == "anew":
        whole = fit(target, X[own], y[own], seed, rounds)
        answers = [answer(whole, X[rows], target) for rows in (fresh[:cut], fresh[cut:])]
    apart = None if way == "hold-out" else Apart(each, answers[0])
    parts = np.arange(len(seen)) % FOLDS if way == "hold-out" else where
    return judged(target, (y[seen], inside, parts), (y[fresh[cut:]], answers[1]), apart)


def judged(
    target: Target, seen: tuple[np.ndarray, ...], fresh: tuple[np.ndarray, np.ndarray], apart: Apart | None = None
) -> dict[str, Any]:
    """Share of the fresh rows that are held at each level; and the mean size of a set, or the mean width at 90 % over
    that of one width for all."""
    y, inside, parts = seen
    fitted = Conformal.fit(target, y, inside, parts)
    assert fitted is not None
    fitted = fitted if apart is None else fitted.moved(apart)
    held = [float(fitted.holds(*fresh, level).mean()) for level in LEVELS]
    if target.task.is_classification:
        return {"held": held, "size": float(fitted.sets(fresh[1], 0.9).sum(axis=1).mean())}
    low, high = fitted.interval(fresh[1], 0.9)
    plain = np.ptp(np.quantile(y - inside, [0.05, 0.95]))
    return {"held": held, "size": float((high - low).mean() / plain)}


def fit(target: Target, X: np.ndarray, y: np.ndarray, seed: int, rounds: int) -> lgb.Booster:
    objective = {Task.COUNT: "poisson", Task.REGRESSION: "regression"}.get(target.task, target.task.value)
    params: dict[str, Any] = {"objective": objective, "verbosity": -1, "num_leaves": 15, "learning_rate": 0.1,
                              "seed": seed, "num_threads": 1}  # fmt: skip
    params |= {"num_class": target.outputs} if target.task is Task.MULTICLASS else {}
    return lgb.train(params, lgb.Dataset(X, y), rounds)


def answer(model: lgb.Booster, X: np.ndarray, target: Target) -> np.ndarray:
    scores = np.asarray(model.predict(X))
    return np.column_stack([1 - scores, scores]) if target.task is Task.BINARY else scores


def add_shifted(results: Results, name: str, data_set: str, args: Any) -> None:
    """Learn from the first 60 % of the time, by its last fifth; count on what comes later."""
    target, X, y, rounds = real(data_set, args.data, by=SHIFTED[data_set])
    early = int(0.6 * len(y))
    learned, seen = slice(0, int(0.8 * early)), slice(int(0.8 * early), early)
    model = fit(target, X[learned], y[learned], 0, rounds)
    inside, outside = answer(model, X[seen], target), answer(model, X[early:], target)
    found = judged(target, (y[seen], inside, np.arange(len(inside)) % FOLDS), (y[early:], outside))
    figure = {f"{level:.0%}": round(share, 4) for level, share in zip(LEVELS, found["held"], strict=True)}
    figure["off"] = round(max(abs(share - level) for share, level in zip(found["held"], LEVELS, strict=True)), 4)
    figure["size"] = round(found["size"], 3)
    results.add(name, figure, draws=1)


# -- tables ----------------------------------------------------------------------------------------------------------


def simulations() -> dict[str, Callable[[], Table]]:
    """Known noise: even, growing with the mean, skewed, counts; classes, also without any signal."""
    return {
        "even errors": lambda: simulated(lambda mean, rng: mean + rng.normal(size=len(mean))),
        "growing errors": lambda: simulated(lambda mean, rng: mean + (0.2 + np.abs(mean)) * rng.normal(size=len(mean))),
        "skewed errors": lambda: simulated(lambda mean, rng: mean + rng.lognormal(0, 1, len(mean))),
        "counts": lambda: simulated(lambda mean, rng: rng.poisson(np.exp(0.7 * mean + 1)), task=Task.COUNT),
        "two classes": lambda: simulated(lambda mean, rng: rng.random(len(mean)) < expit(2 * mean), task=Task.BINARY),
        "four classes": lambda: simulated(_four, task=Task.MULTICLASS),
        "noise of two classes": lambda: simulated(_noise, task=Task.BINARY)._replace(rounds=3),
        "noise of four classes": lambda: simulated(_noise_of_four, task=Task.MULTICLASS)._replace(rounds=3),
    }


def _noise(mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Nothing to learn: early stopping would leave a few rounds, and all answers are nearly the same."""
    return rng.random(len(mean)) < 1 / 3


def _noise_of_four(mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.choice(4, len(mean), p=[0.4, 0.3, 0.2, 0.1])


def _four(mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shares = softmax(np.outer(mean, [2.0, 1.0, -1.0, -2.0]), axis=1)
    return (shares.cumsum(axis=1) < rng.random((len(mean), 1))).sum(axis=1)


def simulated(
    draw: Callable[[np.ndarray, np.random.Generator], np.ndarray], task: Task = Task.REGRESSION, rows: int = 40_000
) -> Table:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, 6))
    mean = X[:, 0] + np.sin(2 * X[:, 1]) + 0.5 * X[:, 2] * X[:, 3]
    y = draw(mean, rng).astype(np.float64)
    return Table(_target(task, y), X, y)


def _target(task: Task, y: np.ndarray) -> Target:
    classes = tuple(range(int(y.max()) + 1)) if task.is_classification else ()
    return Target(column="y", task=task, classes=classes)


def real(name: str, data: Path, by: str | None = None) -> Table:
    """A public table as numbers, at most `MOST_ROWS` of its rows; in the order of the column `by`."""
    known = DATA_SETS[name]
    table = pq.read_table(data / f"{name}.parquet")
    table = table.filter(table.column(known.target).is_valid())
    table = table.take(pa.array(np.random.default_rng(0).permutation(len(table))[:MOST_ROWS]))
    table = table if by is None else table.sort_by(by)
    names = [each for each in table.column_names if each not in (known.target, *known.drop)]
    X = np.column_stack([as_numbers(table.column(each)) for each in names])
    task = Task(known.task)
    y = as_numbers(table.column(known.target), codes=task.is_classification)
    return Table(_target(task, y), X, y)


if __name__ == "__main__":
    main()
