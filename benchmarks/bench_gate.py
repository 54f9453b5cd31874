"""The gate's errors: how often it lets a model pass that is worse by the margin, and stops one that is as good.

Pairs of models are simulated whose true gain is computed from two million rows. The margin is set to the true loss,
so that a pass is an error with a nominal chance of 2.5 %; with `--require better` and models that are equally good a
pass is one, too; and so is a model as good that is called worse, on all rows, on one of ten slices, or in its
calibration. The peer is the percentile interval of a paired bootstrap of rows, on the same pairs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import expit

from common import Results, chosen, make_parser, verdict
from shardwise.core.target import Target, Task
from shardwise.stats.calibration import compare_calibration
from shardwise.stats.metrics import METRICS, Metric, Pairs
from shardwise.stats.paired import Gain, gain, holm

NOMINAL, MOST = 0.025, 0.04
TRUTH_ROWS = 2_000_000
GROUP_ROWS = 10
SLICES = 10
MOST_PEER_ROWS = 1_000


@dataclass(frozen=True)
class Case:
    """`draw(rows, seed, worse)` gives champion, challenger and groups; `worse` is how much noise is added."""

    metric: Metric
    draw: Callable[[int, int, float], tuple[Pairs, Pairs, np.ndarray | None]]


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--peer-draws", type=int, default=200)
    parser.add_argument("--rows", type=int, nargs="*", default=[300, 1000, 5000])
    args = parser.parse_args()
    results = Results("gate", args.results)
    known = dict(cases())
    worst = 0.0
    for name in chosen(args.only, [*known, "slices", "calibration"]):
        for rows in args.rows:
            rates = named_rates(name, known, rows, args.draws, args.peer_draws)
            ours = max(rates[key] or 0.0 for key in ("false pass", "false better", "false worse"))
            worst = max(worst, ours)
            results.add(f"{name}, {rows:,} rows", {**rates, "verdict": verdict(ours, MOST)}, nominal=NOMINAL,
                        limit=MOST, draws=args.draws)  # fmt: skip
    results.print_table()
    print(f"largest rate of errors {worst:.3f}, nominal {NOMINAL}, limit {MOST}: {verdict(worst, MOST)}")


def named_rates(
    name: str, known: Mapping[str, Case], rows: int, draws: int, peer_draws: int
) -> dict[str, float | None]:
    columns = ("false pass", "false better", "false worse", "caught", "bootstrap false pass", "bootstrap false better")
    empty: dict[str, float | None] = dict.fromkeys(columns)
    if name == "slices":
        return empty | {"false worse": slice_blocks(known["two classes: log_loss"], rows, draws)}
    if name == "calibration":
        return empty | {"false worse": calibration_blocks(rows, min(draws, 500))}
    return empty | rates_of(known[name], rows, draws, peer_draws)


def rates_of(case: Case, rows: int, draws: int, peer_draws: int) -> dict[str, float | None]:
    """`caught`: how often a model that is worse by the margin is called worse."""
    sign = 1 if case.metric.greater_is_better else -1
    first, second, _ = case.draw(TRUTH_ROWS, -1, 0.6)
    truth = sign * (case.metric.of(second) - case.metric.of(first))
    worse = [_gain(case, rows, seed, 0.6) for seed in range(draws)]
    equal = [_gain(case, rows, seed, 0.0) for seed in range(draws, 2 * draws)]
    few = peer_draws if rows <= MOST_PEER_ROWS else 0  # which costs 400 evaluations a draw
    peers = [[bootstrap(case, rows, seed, noise) for seed in range(start, start + few)]
             for start, noise in ((0, 0.6), (draws, 0.0))]  # fmt: skip
    return {
        "false pass": _share(each.interval()[0] >= truth for each in worse),
        "false better": _share(each.interval()[0] > 0 for each in equal),
        "false worse": _share(each.interval()[1] < 0 for each in equal),
        "caught": _share(each.interval()[1] < 0 for each in worse),
        "bootstrap false pass": _share(low >= truth for low in peers[0]),
        "bootstrap false better": _share(low > 0 for low in peers[1]),
    }


def _gain(case: Case, rows: int, seed: int, worse: float) -> Gain:
    first, second, groups = case.draw(rows, seed, worse)
    return gain(case.metric, first, second, units=groups)


def bootstrap(case: Case, rows: int, seed: int, worse: float, resamples: int = 200) -> float:
    """The 2.5 % point of the gain over resampled rows, or groups."""
    first, second, groups = case.draw(rows, seed, worse)
    rng = np.random.default_rng(seed)
    sign = 1 if case.metric.greater_is_better else -1
    units = np.arange(rows) if groups is None else groups
    found = []
    for _ in range(resamples):
        weight = rng.multinomial(units.max() + 1, np.full(units.max() + 1, 1 / (units.max() + 1)))[units].astype(float)
        kept = weight > 0
        values = [case.metric.of(Pairs(p.y[kept], p.prediction[kept], weight[kept])) for p in (first, second)]
        found.append(sign * (values[1] - values[0]))
    return float(np.quantile(found, NOMINAL))


def slice_blocks(case: Case, rows: int, draws: int) -> float | None:
    """How often a model as good is called worse on one of ten slices."""
    blocked = []
    for seed in range(draws):
        first, second, _ = case.draw(rows, seed, 0.0)
        codes = np.random.default_rng(seed).integers(0, SLICES, rows)
        parts = [np.flatnonzero(codes == code) for code in range(SLICES)]
        raw = np.array([gain(case.metric, first.take(part), second.take(part)).p_below(0.0) for part in parts])
        blocked.append(holm(raw).min() < NOMINAL)
    return _share(blocked)


def calibration_blocks(rows: int, draws: int) -> float | None:
    """How often a model as well calibrated is called worse, with nothing allowed beyond the champion's error."""
    target = Target(column="y", task=Task.BINARY, classes=(0, 1))
    blocked = []
    for seed in range(draws):
        first, second, _ = two_classes(rows, seed, 0.0)
        blocked.append(compare_calibration(target, first, second, allowed=0.0, seed=seed).p_worse < NOMINAL)
    return _share(blocked)


def _share(flags: Iterable[bool]) -> float | None:
    found = list(flags)
    return round(float(np.mean(found)), 4) if found else None


# -- pairs ---------------------------------------------------------------------------------------------------------


def cases() -> Iterator[tuple[str, Case]]:
    for metric in ("roc_auc", "average_precision", "log_loss", "accuracy"):
        yield f"two classes: {metric}", Case(METRICS[metric], two_classes)
    for metric in ("roc_auc", "log_loss"):
        yield f"one in ten: {metric}", Case(METRICS[metric], partial(two_classes, rare=True))
        yield f"groups of {GROUP_ROWS}: {metric}", Case(METRICS[metric], partial(two_classes, grouped=True))
    for name, errors in ERRORS.items():
        yield f"errors {name}: rmse", Case(METRICS["rmse"], partial(numbers, errors=errors))


ERRORS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "t(5)": lambda rng, n: rng.standard_t(5, size=n),
    "log-normal": lambda rng, n: rng.lognormal(sigma=0.75, size=n) - np.exp(0.75**2 / 2),
}


def two_classes(
    rows: int, seed: int, worse: float, *, rare: bool = False, grouped: bool = False
) -> tuple[Pairs, Pairs, np.ndarray | None]:
    """Both see the true logit with an error in common and one of their own."""
    rng = np.random.default_rng([seed & 0xFFFF_FFFF, rows])
    groups = np.arange(rows) // GROUP_ROWS if grouped else None

    def noise() -> np.ndarray:
        if groups is None:
            return rng.normal(size=rows)
        return np.sqrt(0.7) * rng.normal(size=groups[-1] + 1)[groups] + np.sqrt(0.3) * rng.normal(size=rows)

    logit = 1.5 * noise() - (3.0 if rare else 0.0)
    y = (rng.random(rows) < expit(logit)).astype(float)
    shared = 0.5 * noise()
    first, second = (expit(logit + shared + size * noise()) for size in (0.5, np.hypot(0.5, worse)))
    weight = np.ones(rows)
    return Pairs(y, first, weight), Pairs(y, second, weight), groups


def numbers(
    rows: int, seed: int, worse: float, *, errors: Callable[[np.random.Generator, int], np.ndarray]
) -> tuple[Pairs, Pairs, np.ndarray | None]:
    rng = np.random.default_rng([seed & 0xFFFF_FFFF, rows])
    y = errors(rng, rows)
    first, second = (size * errors(rng, rows) for size in (0.3, np.hypot(0.3, worse / 2)))
    return Pairs(y, first, np.ones(rows)), Pairs(y, second, np.ones(rows)), None


if __name__ == "__main__":
    main()
