"""How far the columns of new rows are from those of training: sizes of drift, and tests whether chance explains it.

Both sides are profiles, so that any number of rows, windows and replicas is compared in the same small space.

| size | of | meaning |
|---|---|---|
| psi | bins or categories | population stability index: sum (b - a) ln(b / a), half a row added to each cell |
| js  | the same | Jensen-Shannon distance, base 2: 0 = equal, 1 = nothing in common (Lin 1991) |
| ks  | numbers | greatest distance of the distribution functions |
| largest_change | categories | of the share of a value |

A test gives the chance of so much difference where nothing has changed:

    distribution   of numbers Kolmogorov-Smirnov on the sketches, whose own error is taken off; of categories
                   chi-square of homogeneity and likelihood ratio, cells with few expected rows joined
    missing        shares of missing cells: Fisher's exact test
    new            values that training did not have, against the chance of such a value (Good 1953: values seen once)
    outside        numbers beyond the extremes of training, against 2 in rows + 1; exact for numbers without ties

The last two chances are themselves estimates from the training rows, and count as such: beta distributed, so that the
rows are beta-binomial. As if they were known they would alarm too often where a window is not small beside training.

Times go on, so that of times only missing cells are compared; of texts whose values hardly repeat, only missing cells
too.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.special import betaln, chdtrc, kolmogorov, rel_entr

from shardwise.data.column_profile import ColumnProfile
from shardwise.data.profile import Profile

BINS = 10
MOST_CATEGORIES = 100
LEAST_EXPECTED = 10  # rows of a cell of the chi-square
_FEW_VALUES = 20  # numbers with no more are categories
_SHOWN = 5
_TERMS = 100_000  # of a sum, after which they are nothing


@dataclass(frozen=True, kw_only=True)
class ColumnDrift:
    """A column of training and of new rows. `p_values` by test; sizes that do not apply are None."""

    column: str
    kind: str  # number, category, missing only
    rows: int
    psi: float | None = None
    js: float | None = None
    ks: float | None = None
    p_values: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"column": self.column, "kind": self.kind, "rows": self.rows, "psi": self.psi, "js": self.js,
                "ks": self.ks, "p_values": dict(self.p_values), **self.facts}  # fmt: skip


def compare_profiles(reference: Profile, current: Profile) -> Iterator[ColumnDrift]:
    """For each column that both have, in the order of the reference."""
    for name, before in reference.columns.items():
        after = current.columns.get(name)
        if after is not None and before.count and after.count:
            yield compare_columns(before, after)


def compare_columns(before: ColumnProfile, after: ColumnProfile) -> ColumnDrift:
    """The drift from the training profile of a column to that of new rows."""
    tests: dict[str, float] = {"missing": _missing(before, after)}
    facts: dict[str, Any] = {"missing": [before.nulls / before.count, after.nulls / after.count]}
    kind = kind_of(before)
    sizes: dict[str, float] = {}
    if kind == "number" and before.sketch.count and after.sketch.count:
        sizes = _numbers(before, after, tests, facts)
    elif kind == "category" and before.present and after.present:
        sizes = _categories(before, after, tests, facts)
    return ColumnDrift(column=before.name, kind=kind, rows=after.count, p_values=tests, facts=facts, **sizes)


def kind_of(column: ColumnProfile) -> str:
    """How a column is compared, by its profile of training: `number`, `category`, or `missing only`."""
    if column.is_time_like or column.group in ("time", "null"):
        return "missing only"
    if column.top_exact and len(column.top) <= _FEW_VALUES:
        return "category"
    if column.group in ("number", "decimal"):
        return "missing only" if column.is_id_like else "number"
    return "missing only" if column.is_id_like or not _repeats(column) else "category"


def _repeats(column: ColumnProfile) -> bool:
    """Whether most cells have one of the frequent values."""
    return sum(count for _, count in column.top[:MOST_CATEGORIES]) >= 0.5 * column.present


def _missing(before: ColumnProfile, after: ColumnProfile) -> float:
    return fisher((before.nulls, before.count), (after.nulls, after.count))


def fisher(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Two-sided p-value of two shares `(hits, rows)`: twice the smaller tail.

    >>> round(fisher((0, 50_000), (3, 1_000)), 7)
    1.5e-05
    """
    from scipy.stats import hypergeom  # takes a third of a second to import, which no run that trains needs

    hits, rows = before[0] + after[0], before[1] + after[1]
    law = hypergeom(rows, hits, after[1])
    return float(min(1.0, 2 * min(law.cdf(after[0]), law.sf(after[0] - 1))))


def _numbers(
    before: ColumnProfile, after: ColumnProfile, tests: dict[str, float], facts: dict[str, Any]
) -> dict[str, float]:
    old, new = before.sketch, after.sketch
    places = np.union1d(old.values(), new.values())
    ks = float(np.abs(old.shares(places) - new.shares(places)).max())
    tests["distribution"] = ks_p_value(ks - old.rank_error() - new.rank_error(), old.count, new.count)
    outside = _outside(before, after)
    tests["outside"] = at_least(outside, new.count, 2.0, old.count - 1.0)
    facts |= {"range": [[old.minimum, old.maximum], [new.minimum, new.maximum]], "outside_rows": outside,
              "median": [float(old.at(np.array([0.5]))[0]), float(new.at(np.array([0.5]))[0])]}  # fmt: skip
    edges = np.unique(old.at(np.arange(1, BINS) / BINS))
    cells = [np.diff(np.concatenate([[0.0], each.shares(edges), [1.0]])) * each.count for each in (old, new)]
    return {"ks": ks, **sizes_of(*cells)}


def ks_p_value(distance: float, before: int, after: int) -> float:
    """Of the two-sample test; asymptotic, which is on the safe side (Smirnov 1948)."""
    return float(kolmogorov(max(distance, 0.0) * np.sqrt(before * after / (before + after))))


def _outside(before: ColumnProfile, after: ColumnProfile) -> int:
    """Rows beyond the extremes of training; of a large window as its sketch tells, and at least those that are sure."""
    new, (low, high) = after.sketch, (before.sketch.minimum, before.sketch.maximum)
    below = float(new.shares(np.array([np.nextafter(low, -np.inf)]))[0])
    above = 1.0 - float(new.shares(np.array([high]))[0])
    sure = int(new.minimum < low) + int(new.maximum > high)
    return max(round((below + above) * new.count), sure)


def at_least(hits: int, rows: int, a: float, b: float) -> float:
    """Chance of so many hits among `rows` where the share of hits is Beta(a, b): the tail of the beta-binomial.

    >>> round(at_least(1, 1, 2.0, 98.0), 3), at_least(0, 10, 2.0, 98.0)
    (0.02, 1.0)
    """
    if not hits or b <= 0:
        return 1.0
    upper = hits > rows * a / (a + b)
    k = np.arange(hits, min(rows, hits + _TERMS) + 1) if upper else np.arange(hits)
    terms = betaln(k + a, rows - k + b) - betaln(a, b) - betaln(k + 1, rows - k + 1) - np.log(rows + 1)
    total = float(np.exp(terms).sum())
    return min(1.0, total) if upper else max(0.0, 1.0 - total)


def unseen_share(once: int, twice: int, rows: int) -> tuple[float, float]:
    """The share of rows whose value was not seen, as Beta(a, b): mean (once + 1) / (rows + 1) (Good 1953), variance
    (once + 2 twice + 1) / rows^2 (Robbins 1968); of the values of `rows` rows so many were seen once, and twice."""
    mean = min((once + 1) / (rows + 1), 1.0)
    weight = rows * (once + 1) / (once + 2 * twice + 1)
    return mean * weight, (1.0 - mean) * weight


def _categories(
    before: ColumnProfile, after: ColumnProfile, tests: dict[str, float], facts: dict[str, Any]
) -> dict[str, float]:
    old, new = dict(before.top), dict(after.top)
    cells = _cells(before, after)
    tests["distribution"] = homogeneity(*cells)
    unseen = [value for value in new if value not in old]
    if before.top_exact:
        rows = sum(new[value] for value in unseen)
        once, twice = (sum(count == times for count in old.values()) for times in (1, 2))
        tests["new"] = at_least(rows, after.present, *unseen_share(once, twice, before.present))
        facts |= {"new_values": unseen[:_SHOWN], "new_rows": rows}
    expected = {value: count * after.present / before.present for value, count in before.top[:MOST_CATEGORIES]}
    facts["vanished_values"] = [
        value for value, rows in expected.items() if rows >= LEAST_EXPECTED and value not in new
    ][:_SHOWN]
    facts["largest_change"] = float(np.abs(cells[0] / cells[0].sum() - cells[1] / cells[1].sum()).max())
    return sizes_of(*cells)


def _cells(before: ColumnProfile, after: ColumnProfile) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each frequent value, and of all others in the last cell; both `(cells,)`.

    Frequent in both together: those that are frequent in training are so in part by chance, and less so elsewhere.
    """
    sides = [{value: count + each.top_error for value, count in each.top} for each in (before, after)]
    total = {value: sides[0].get(value, 0) + sides[1].get(value, 0) for value in {**sides[0], **sides[1]}}
    least = 20 * (before.top_error + after.top_error)
    kept = sorted((value for value in total if total[value] > least), key=lambda value: (-total[value], value))
    counts = [np.array([side.get(value, 0) for value in kept[:MOST_CATEGORIES]], np.float64) for side in sides]
    rest = [max(0.0, each.present - count.sum()) for each, count in zip((before, after), counts, strict=True)]
    return np.append(counts[0], rest[0]), np.append(counts[1], rest[1])


def homogeneity(before: np.ndarray, after: np.ndarray) -> float:
    """P-value of two rows of counts `(cells,)` that have one law; cells where few rows of the smaller side are expected
    are one, and part of the rarest of the others where that has few rows, too: left out, a window of one new value
    would be empty. The larger of two: far out Pearson's is too small where some cells are rare (3 to 5 times at 3e-5),
    that of the likelihood ratio where there are many cells (1.4 to 2.7 times)."""
    total = before + after
    small = min(before.sum(), after.sum()) / max(total.sum(), 1.0)
    few = total * small < LEAST_EXPECTED
    table = np.stack([np.append(each[~few], each[few].sum()) for each in (before, after)])
    if table[:, -1].sum() * small < LEAST_EXPECTED:  # all of them together are too few as well
        table, rest = table[:, :-1], table[:, -1]
        if table.shape[1]:
            table[:, table.sum(axis=0).argmin()] += rest
    if table.shape[1] < 2:
        return 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    statistics = [((table - expected) ** 2 / expected).sum(), 2.0 * rel_entr(table, expected).sum()]
    return float(chdtrc(table.shape[1] - 1, statistics).max())


def sizes_of(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    """`psi` and `js` of counts `(cells,)`.

    >>> {name: round(size, 3) for name, size in sizes_of(np.array([50.0, 50.0]), np.array([90.0, 10.0])).items()}
    {'psi': 0.853, 'js': 0.378}
    """
    a, b = ((each + 0.5) / (each + 0.5).sum() for each in (before, after))
    middle = (a + b) / 2
    divergence = (rel_entr(a, middle).sum() + rel_entr(b, middle).sum()) / 2 / np.log(2)
    return {"psi": float(((b - a) * np.log(b / a)).sum()), "js": float(np.sqrt(max(divergence, 0.0)))}
