"""What an input column is: decided from its profile, unless the user says so; and what may be asked of a recipe."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa

from shardwise.core.aggregates import AggregateSpec
from shardwise.core.errors import ConfigError, RejectColumn
from shardwise.core.grids import GridSpec
from shardwise.core.names import nearest
from shardwise.core.schema import FEW_VALUES
from shardwise.features.tokens import split_words
from shardwise.stats.base import Summary

KINDS = ("number", "category", "text", "date", "ignore")
LEAST_WORDED, WORDED_ROWS, WORDED = 30, 100, 1.5  # labels, rows of each, words of each: then words tell more
WORDED_LABELS = 1000  # that are looked at
_BY_GROUP = {
    "number": ("number", "category", "ignore"),
    "decimal": ("number", "category", "ignore"),
    "boolean": ("number", "category", "ignore"),
    "string": KINDS,
    "date": ("date", "ignore"),
    "timestamp": ("date", "ignore"),
    "time": ("date", "ignore"),
    "null": ("ignore",),
}
# Names under which integers are labels of things rather than amounts: `customer_id`, `ZipCode`, `MGR_ID`, `type`.
_CODE_WORDS = "id|ids|code|zip|zipcode|postcode|sku|type|class|category"
_CODE_NAME = re.compile(
    rf"(?:^|[\W_])(?i:{_CODE_WORDS})$|(?<=[a-z])(?:ID|{'|'.join(word.title() for word in _CODE_WORDS.split('|'))})$"
)


class ColumnProfile(Protocol):
    """What a recipe needs to know of a column.

    `minimum` and `maximum` of numbers are of the finite ones. `quantiles` maps ranks in [0, 1] to values; of dates,
    times and strings that are dates to seconds since 1970 UTC or since midnight. `top` holds the heaviest values under
    `core.target.canonical` spelling, by falling count; `distinct` is an estimate. `data.profile` has such columns.
    """

    @property
    def group(self) -> str: ...
    @property
    def type(self) -> Any: ...
    @property
    def count(self) -> int: ...
    @property
    def nulls(self) -> int: ...
    @property
    def minimum(self) -> Any: ...
    @property
    def maximum(self) -> Any: ...
    @property
    def mean(self) -> float: ...
    @property
    def std(self) -> float: ...
    @property
    def distinct(self) -> float: ...
    @property
    def top(self) -> Sequence[tuple[str, int]]: ...
    @property
    def is_constant(self) -> bool: ...
    @property
    def is_id_like(self) -> bool: ...
    @property
    def is_numeric_text(self) -> bool: ...
    @property
    def time_format(self) -> str | None: ...
    @property
    def mean_words(self) -> float: ...
    def quantiles(self, ranks: np.ndarray) -> np.ndarray: ...


class ProfileOnly:
    """Base of the transformers for which the profile is enough: nothing to gather, nothing to seal."""

    gathers: tuple[str, ...] = ()

    def summaries(self) -> Mapping[str, Summary]:
        return {}

    def fit(self, results: Mapping[str, Summary]) -> None:
        """Nothing to do."""

    def sealed(self) -> Self:
        return self

    def transform(
        self,
        batch: pa.RecordBatch,
        out: np.ndarray,
        folds: np.ndarray | None = None,  # noqa: ARG002
        hidden: Collection[int] = (),  # noqa: ARG002
    ) -> None:
        """The same for training rows and new ones."""
        self.write(batch, out)

    def write(self, batch: pa.RecordBatch, out: np.ndarray) -> None:
        raise NotImplementedError


class TableProfile(Protocol):
    """Profiles of the columns by name."""

    @property
    def columns(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """What may be asked of a recipe.

    kinds               column -> `number`, `category`, `text`, `date` or `ignore`; what is not named is decided
    date_formats        column of dates -> the format in which its text was read: kept for text that comes later
    max_categories      largest dictionary of a CODE feature; a column with more distinct values is target-encoded
    min_count           a value seen less often is rare: code 0
    smoothing           rows of prior that every category is credited with in target encoding; None: estimated from how
                        much the target differs between and within categories
    encoded_categories  most categories kept per target-encoded column; the rarest beyond read the prior. Fewer where
                        there are many such columns, folds or classes: all sums together stay below 64 MiB
    encoded_classes     most classes that get a target-encoded column each
    text_buckets        hash width of n-grams, a power of two; lowered likewise
    text_columns        most frequent n-grams that get a column each
    word_columns        columns of n-grams of labels of several words, of all columns of labels together
    grids               which columns are the cells of an image or a sequence, see `features.grid`
    aggregates          group features, see `features.aggregate`
    aggregate_cells     most cells of all aggregates together: some 50 bytes each in memory, 10 to 30 in the package
    aggregate_keys      most keys of an aggregate; the rarest beyond read the aggregate over all keys
    own_fold            whether rows of a training fold see earlier rows of their own fold: where folds are drawn row by
                        row, and neither by group nor by time
    """

    kinds: Mapping[str, str] = field(default_factory=dict)
    date_formats: Mapping[str, str] = field(default_factory=dict)
    max_categories: int = 254
    min_count: int = 3
    smoothing: float | None = None
    encoded_categories: int = 2**17
    encoded_classes: int = 10
    text_buckets: int = 2**17
    text_columns: int = 64
    word_columns: int = 160
    grids: tuple[GridSpec, ...] = ()
    aggregates: tuple[AggregateSpec, ...] = ()
    aggregate_cells: int = 2**20
    aggregate_keys: int = 2**17
    own_fold: bool = False

    def __post_init__(self) -> None:
        least = ("min_count", "encoded_categories", "encoded_classes", "aggregate_cells", "aggregate_keys")
        for name, low in (("max_categories", 2), *((name, 1) for name in least)):
            if getattr(self, name) < low:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint=f"Give a whole number of at least {low}.")
        if self.smoothing is not None and not self.smoothing > 0:
            raise ConfigError(f"smoothing is {self.smoothing}", hint="Give a number of rows above 0.")
        if self.text_buckets < 2**8 or self.text_buckets & (self.text_buckets - 1):
            raise ConfigError(f"text_buckets is {self.text_buckets}", hint="Give a power of two of at least 256.")
        for name in ("text_columns", "word_columns"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint="Give 0 for none.")
        for column, kind in self.kinds.items():
            if kind not in KINDS:
                raise ConfigError(f"there is no kind {kind!r} of column {column!r}", hint=nearest(kind, KINDS))


def transformers_for(name: str, profile: ColumnProfile, config: RecipeConfig) -> tuple[str, ...]:
    """Names of the transformers that apply to a column; raises `RejectColumn` with the reason when none does.

    A kind that the user gave and that the column's type cannot be is a `ConfigError`.
    """
    kind = config.kinds.get(name)
    if kind is not None:
        return _as_told(name, kind, profile, config)
    if profile.group not in _BY_GROUP:
        raise RejectColumn(f"columns of type {profile.type} are not supported")
    if profile.group == "null" or profile.nulls >= profile.count:
        raise RejectColumn("it has no values")
    if profile.is_constant and not _missing_tells(profile):
        raise RejectColumn("it is constant")
    if is_duration(profile):
        return ("number",)
    if profile.group in ("date", "timestamp", "time"):
        return ("date",)
    if profile.group == "string":
        return _for_string(profile, config)
    if profile.is_id_like:
        raise RejectColumn("it looks like an identifier: nearly every row has a value of its own")
    return ("number", *_for_code(name, profile, config))


def _as_told(name: str, kind: str, profile: ColumnProfile, config: RecipeConfig) -> tuple[str, ...]:
    allowed = ("number", "ignore") if is_duration(profile) else _BY_GROUP.get(profile.group, ("ignore",))
    if kind not in allowed:
        raise ConfigError(
            f"column {name!r} of type {profile.type} cannot be of kind {kind!r}", hint=f"Allowed: {', '.join(allowed)}."
        )
    if kind == "ignore":
        raise RejectColumn("ignored, as asked")
    return _categories(profile, config) if kind == "category" else (kind,)


def _for_string(profile: ColumnProfile, config: RecipeConfig) -> tuple[str, ...]:
    if profile.time_format:
        return ("date",)
    if profile.is_numeric_text:
        return ("number",)
    if is_text(profile):
        return ("text",)
    if profile.is_id_like:
        raise RejectColumn("it looks like an identifier: nearly every row has a value of its own")
    return (*_categories(profile, config), *(("words",) if _has_words(profile, config) else ()))


def _has_words(profile: ColumnProfile, config: RecipeConfig) -> bool:
    """Whether labels of several words are many for the rows, and have words in common: little is known of each label,
    and more of its words (Cerda and Varoquaux 2020, "Encoding high-cardinality string categorical variables")."""
    values = max(1, profile.count - profile.nulls)
    few_rows = profile.distinct >= LEAST_WORDED and values < WORDED_ROWS * profile.distinct
    return config.word_columns > 0 and few_rows and profile.mean_words >= WORDED and _share_words(profile)


def _share_words(profile: ColumnProfile) -> bool:
    """Whether half of the labels have a word that some others have, and not most of them: `street 7` has none."""
    labels = pa.array([text.lower() for text, _ in profile.top[:WORDED_LABELS]], pa.string())
    words, rows = split_words(labels)
    pairs = set(zip(words.to_pylist(), rows.tolist(), strict=True))
    known_by = Counter(word for word, _ in pairs)
    telling = {row for word, row in pairs if 1 < known_by[word] <= len(labels) / 2}
    return 2 * len(telling) >= len(labels)


def text_kind(name: str, profile: ColumnProfile, config: RecipeConfig | None = None) -> str:
    """One of `KINDS`: what a column of strings is taken for."""
    try:
        first = transformers_for(name, profile, config or RecipeConfig())[0]
    except RejectColumn:
        return "ignore"
    return "category" if first == "encoding" else first


def is_duration(profile: ColumnProfile) -> bool:
    return str(profile.type).startswith("duration")


def is_text(profile: ColumnProfile) -> bool:
    """Whether strings are free text: several words each, and few of them said twice."""
    values = max(1, profile.count - profile.nulls)
    repeats = values / max(1.0, profile.distinct)
    return (profile.mean_words >= 3 and repeats < 3) or (profile.mean_words >= 8 and repeats < 20)


def _missing_tells(profile: ColumnProfile) -> bool:
    """Whether the nulls of a constant column leave enough to learn from: present or missing is then the content."""
    return min(profile.nulls, profile.count - profile.nulls) >= 10


def _for_code(name: str, profile: ColumnProfile, config: RecipeConfig) -> tuple[str, ...]:
    return _categories(profile, config) if looks_like_code(name, profile) else ()


def looks_like_code(name: str, profile: ColumnProfile) -> bool:
    """Whether whole numbers may be labels: few of them, a name that says so, or many repeats scattered over a range.

    Amounts repeat as well, but they are dense near their centre; labels such as department numbers leave most of their
    range empty. Wrong guesses cost a column: the number itself is always kept.
    """
    if profile.group != "number" or profile.distinct < 3 or profile.minimum is None or profile.minimum < 0:
        return False
    if not _is_whole(profile):
        return False
    if profile.distinct <= FEW_VALUES or _CODE_NAME.search(name):
        return True
    values = profile.count - profile.nulls
    density = profile.distinct / (float(profile.maximum) - float(profile.minimum) + 1)
    return values >= 3 * profile.distinct and density < 0.1


def _is_whole(profile: ColumnProfile) -> bool:
    """Whether the values are whole numbers, also when nulls made floats of them."""
    if str(profile.type).startswith(("int", "uint")):
        return True
    return bool(profile.top) and all("." not in text and "e" not in text.lower() for text, _ in profile.top)


def _categories(profile: ColumnProfile, config: RecipeConfig) -> tuple[str, ...]:
    """A dictionary code; the target encoding instead where the dictionary cannot hold all values.

    Never both: a model that knows the category can subtract what the other folds saw from what all saw, and learn from
    the difference what its own fold holds (measured: pure noise then scores a ROC AUC of 0.61 in cross-validation).
    Strings of which few are so long that the profile has not kept them all are encoded too.
    """
    if profile.distinct > config.max_categories or (profile.group == "string" and len(profile.top) < profile.distinct):
        return ("encoding",)
    return ("category",)
