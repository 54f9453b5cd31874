"""How well one column alone tells the target, measured on rows that were not looked at: from 0 (nothing) to 1 (all)."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import DataError
from shardwise.core.target import Target, Task, canonical
from shardwise.split.temporal import time_values
from shardwise.stats.arrays import as_floats, plain

LEAST_OF_CLASS = 10  # rows in two classes at least, where a column that is often missing is judged by those it has
MOST_CLASSES = 20  # that a model of several classes learns, and that are asked for one by one
_SURE = 3.0  # standard errors
_DECORATION = r"[\s,$€£%]"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A column as numbers float64 `(rows,)`, NaN = missing; the numbers of a category are codes without an order."""

    name: str
    values: np.ndarray
    is_category: bool
    is_time: bool
    is_whole: bool  # integers, or text: what identifiers are made of
    distinct: int

    @property
    def missing(self) -> np.ndarray:
        return np.asarray(np.isnan(self.values))

    @property
    def known(self) -> float:
        """Share of the rows."""
        return float(1.0 - self.missing.mean())

    def take(self, rows: np.ndarray) -> Self:
        """`distinct` stays that of all rows."""
        return replace(self, values=self.values[rows])


def read_probe(name: str, column: pa.ChunkedArray) -> Probe | None:
    """A column as it is probed; text that is numbers or times is read as such. None for types that are not."""
    array = plain(column)
    kind = array.type
    if pa.types.is_nested(kind) or pa.types.is_null(kind) or pa.types.is_binary(kind):
        return None
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        numbers = as_floats(array)
        values = np.where(np.isfinite(numbers), numbers, np.nan)
        is_time = bool(pa.types.is_temporal(kind))
        is_whole = not is_time and bool((values == np.floor(values))[~np.isnan(values)].all())
        return _probe(name, values, is_time=is_time, is_whole=is_whole)
    for read, is_time in ((_numbers_in_text, False), (_times_in_text, True)):
        parsed = read(array)
        if parsed is not None:
            return _probe(name, parsed, is_time=is_time, is_whole=not is_time)
    texts = canonical(array)
    codes = pc.index_in(texts, value_set=pc.drop_null(pc.unique(texts)))
    return _probe(name, as_floats(codes), is_category=True, is_whole=True)


def _probe(
    name: str, values: np.ndarray, *, is_category: bool = False, is_time: bool = False, is_whole: bool = False
) -> Probe:
    distinct = len(np.unique(values[~np.isnan(values)]))
    return Probe(
        name=name, values=values, is_category=is_category, is_time=is_time, is_whole=is_whole, distinct=distinct
    )


def _numbers_in_text(texts: pa.Array) -> np.ndarray | None:
    known = texts.drop_null()
    if not len(known) or _as_number(known.slice(0, 100)) is None:
        return None
    return _as_number(texts)


def _as_number(texts: pa.Array) -> np.ndarray | None:
    bare = pc.replace_substring_regex(texts, _DECORATION, "")
    try:
        return as_floats(pc.cast(bare, pa.float64()))
    except pa.ArrowInvalid:
        return None


def _times_in_text(texts: pa.Array) -> np.ndarray | None:
    try:
        values = time_values(texts)
    except DataError:
        return None
    return values if np.isnan(values).sum() <= texts.null_count + 0.01 * len(texts) else None


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The target of a sample: y float64 `(rows,)` without NaN, and which half of the rows each one is in.

    `left_out` says how many classes are not there any more.
    """

    target: Target
    y: np.ndarray
    half: np.ndarray
    left_out: int = 0

    @classmethod
    def of(cls, target: Target, y: np.ndarray, seed: int) -> "Labels":
        return cls(target=target, y=y, half=np.random.default_rng(seed).integers(0, 2, len(y)))

    @property
    def n_classes(self) -> int:
        return len(self.target.classes)

    def take(self, rows: np.ndarray) -> "Labels":
        return replace(self, y=self.y[rows], half=self.half[rows])

    def heaviest(self) -> tuple["Labels", np.ndarray]:
        """Those of the most frequent classes, at most `MOST_CLASSES`, numbered anew; and which rows these are."""
        if self.target.task is not Task.MULTICLASS or self.n_classes <= MOST_CLASSES:
            return self, np.arange(len(self.y))
        counts = np.bincount(self.y.astype(np.int64), minlength=self.n_classes)
        kept = np.sort(np.argsort(-counts, kind="stable")[:MOST_CLASSES])
        rows = np.flatnonzero(np.isin(self.y, kept))
        target = replace(self.target, classes=tuple(self.target.classes[k] for k in kept), decision=())
        y = np.searchsorted(kept, self.y[rows]).astype(np.float64)
        return Labels(target=target, y=y, half=self.half[rows], left_out=self.n_classes - len(kept)), rows

    def where_known(self, probe: Probe) -> tuple["Labels", Probe] | None:
        """Of the rows where a column is known; None where it is hardly ever missing, or too often to tell."""
        rows = np.flatnonzero(~probe.missing)
        if not least_known(len(self.y)) <= len(rows) < 0.995 * len(self.y):
            return None
        part = self.take(rows)
        return (part, probe.take(rows)) if part.are_many else None

    @property
    def are_many(self) -> bool:
        """Whether two classes have `LEAST_OF_CLASS` rows each; of numbers: whether there are two."""
        least = LEAST_OF_CLASS if self.target.task.is_classification else 1
        _, counts = np.unique(self.y, return_counts=True)
        return int((counts >= least).sum()) >= 2

    @cached_property
    def chance(self) -> float:
        """Power that a column may have by chance, in one of a thousand. Of two classes: what the rarer one leaves open;
        Mann and Whitney 1947: the variance of an AUC of 0.5 is (n + 1) / (12 positives negatives)."""
        if self.target.task is not Task.BINARY:
            return 0.0
        rows, positive = len(self.y), float((self.y > 0.5).sum())
        return min(1.0, _SURE * float(np.sqrt((rows + 1) / (3 * max(positive * (rows - positive), 1.0)))))

    def in_words(self, power: float) -> str:
        """A power as a person knows it."""
        if self.target.task is Task.BINARY:
            return f"an AUC of {(power + 1) / 2:.3f}"
        if self.target.task is Task.MULTICLASS:
            among = f" among the {self.n_classes} heaviest classes" if self.left_out else ""
            return f"{power:.1%} fewer errors than the most frequent class{among}"
        return f"an R2 of {power:.3f}"

    def power(self, cells: np.ndarray) -> float:
        """How well the number of the cell `(rows,)` in which a row is tells its target, learned on the other half.

        Two classes: 2 AUC - 1; several: the share of the errors of the most frequent class that is avoided; numbers:
        R2, of the values or of their ranks, whichever is more.
        """
        if self.target.task is Task.BINARY:
            return _gini(cells, self.y, self.half)
        if self.target.task is Task.MULTICLASS:
            return _errors_avoided(cells, self.y, self.half)
        return max(_r2(cells, self.y, self.half), _r2(cells, ranks(self.y), self.half))

    def drift_of(self, probe: Probe) -> float:
        """Power of a time column. Of several classes: the mean of 2 AUC - 1 of each one against the others, by rows,
        of the most frequent ones.

        Classes that become more or less frequent seldom change which one is the most frequent.
        """
        if self.target.task is not Task.MULTICLASS:
            return self.power_of(probe)
        cells = cells_of(probe.values, probe.is_category)
        counts = np.bincount(self.y.astype(np.int64), minlength=self.n_classes)
        heavy = [k for k in np.argsort(-counts, kind="stable")[:MOST_CLASSES] if counts[k]]
        powers = [_gini(cells, (self.y == k).astype(np.float64), self.half) for k in heavy]
        return float(np.average(powers, weights=counts[heavy]))

    def drift_in_words(self, power: float) -> str:
        if self.target.task is Task.MULTICLASS:
            return f"an AUC of {(power + 1) / 2:.3f} on average over the classes"
        return self.in_words(power)

    def power_of(self, probe: Probe) -> float:
        """Power of a column alone; of a number also that of a straight line, as far as it is known."""
        power = self.power(cells_of(probe.values, probe.is_category))
        if self.target.task.is_classification or probe.is_category:
            return power
        return max(power, correlation(probe.values, self.y) ** 2 * probe.known)


def cells_of(values: np.ndarray, is_category: bool) -> np.ndarray:
    """Cell numbers `(rows,)`: categories as they are, numbers in up to 1024 quantile bins; missing is a cell."""
    missing = np.isnan(values)
    known = values[~missing]
    if not len(known):
        return np.zeros(len(values), dtype=np.int64)
    distinct = np.unique(known)
    limit = bins_of(len(known))
    if is_category or len(distinct) <= limit:
        cells, last = np.searchsorted(distinct, values), len(distinct) - 1
    else:
        edges = np.unique(np.quantile(known, np.arange(1, limit) / limit))
        cells, last = np.searchsorted(edges, values, side="right"), len(edges)
    return np.where(missing, last + 1, cells).astype(np.int64)


def least_known(rows: int) -> int:
    """Of so many rows in how many a column has to be known to be judged by them."""
    return max(50, min(200, rows // 2))


def bins_of(rows: int) -> int:
    """Quantile bins of so many numbers, at most."""
    return int(np.clip(rows // 30, 8, 1024))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks `(rows,)` of values, ties at their mean, from 0 to 1."""
    _, code, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - counts / 2)[code] / max(len(values), 1))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation over the rows where both are known; 0 where there are few, or where one does not vary."""
    known = ~np.isnan(a) & ~np.isnan(b)
    if known.sum() < 20:
        return 0.0
    a, b = a[known] - a[known].mean(), b[known] - b[known].mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def proportion(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[float, float]:
    """Share of the rows with an x where y / x is within 10 % of its median, and the same with x shuffled.

    0, 0 where such a row is rare.
    """
    present = ~np.isnan(x)
    x, y = x[present], y[present]
    known = (x != 0) & (y != 0)
    if known.sum() < max(50, 0.5 * len(x)) or len(x) < least_known(len(present)):
        return 0.0, 0.0
    x, y = x[known], y[known]
    shares = []
    for other in (x, np.random.default_rng(seed).permutation(x)):
        ratio = y / other
        middle = np.median(ratio)
        shares.append(float(np.mean(np.abs(ratio - middle) <= 0.1 * abs(middle))) if middle else 0.0)
    return shares[0] * float(known.mean()), shares[1] * float(known.mean())


def _tables(cells: np.ndarray, half: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Sums `(2, cells)` of the rows of each half in each cell."""
    n_cells = int(cells.max(initial=0)) + 1
    sums = np.bincount(half * n_cells + cells, weights=weights, minlength=2 * n_cells)
    return sums.reshape(2, n_cells).astype(np.float64)


def _gini(cells: np.ndarray, y: np.ndarray, half: np.ndarray) -> float:
    rows, positive = _tables(cells, half), _tables(cells, half, y)
    powers = []
    for own, other in ((0, 1), (1, 0)):
        prior = positive[other].sum() / max(rows[other].sum(), 1)
        _, place = np.unique(-(positive[other] + prior) / (rows[other] + 1), return_inverse=True)
        up = np.bincount(place, weights=positive[own])
        down = np.bincount(place, weights=rows[own] - positive[own])
        if up.sum() > 0 and down.sum() > 0:
            area = ((np.cumsum(up) - up / 2) * down).sum() / (up.sum() * down.sum())
            powers.append(2 * area - 1)
    return max(0.0, float(np.mean(powers))) if powers else 0.0


def _errors_avoided(cells: np.ndarray, y: np.ndarray, half: np.ndarray) -> float:
    """Pairs of a cell and a class are counted where they occur: most of many classes are in few cells."""
    width = int(y.max()) + 1
    pairs, code = np.unique(cells * width + y.astype(np.int64), return_inverse=True)
    place, label = np.divmod(pairs, width)
    joint = _tables(code, half)
    hits = 0.0
    for own, other in ((0, 1), (1, 0)):
        prior = np.bincount(label, joint[other], width) / max(joint[other].sum(), 1)
        guess = np.full(int(place.max()) + 1, prior.argmax())
        there = np.flatnonzero(joint[other] > 0)
        score = joint[other][there] + 1e-3 * prior[label[there]]
        last = there[np.lexsort((-label[there], score, place[there]))]  # of a cell the best comes last
        guess[place[last]] = label[last]
        hits += joint[own][label == guess[place]].sum()
    base = np.bincount(y.astype(np.int64)).max() / len(y)
    return max(0.0, float((hits / len(y) - base) / (1 - base))) if base < 1 else 0.0


def _r2(cells: np.ndarray, y: np.ndarray, half: np.ndarray) -> float:
    y = y - y.mean()
    rows, total = _tables(cells, half), _tables(cells, half, y)
    error = 0.0
    for own, other in ((0, 1), (1, 0)):
        guess = total[other] / (rows[other] + 1)
        error += (rows[own] * guess**2 - 2 * guess * total[own]).sum()
    spread = (y**2).sum()
    return max(0.0, float(-error / spread)) if spread > 0 else 0.0
