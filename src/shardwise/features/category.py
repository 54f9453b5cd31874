"""Categories as integers: a dictionary of the heaviest values, 0 for rare or unseen, NaN for missing."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import RejectColumn
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.state import State
from shardwise.core.target import canonical
from shardwise.features.base import Cell
from shardwise.features.columns import ColumnProfile, ProfileOnly, RecipeConfig
from shardwise.features.numeric import EXACT_WHOLE, is_string

UNSEEN, NULL = -1, -2
_SMALL = 1024  # below so many rows a dict that is kept beats a hash table that Arrow builds anew


class Vocabulary:
    """Positions of values in a fixed list, whatever the type in which they come.

    Values are known by their `core.target.canonical` text. `numeric` says that the training column held numbers: then
    text is read as a number first, so that "3", "3.0" and 3 are one category.
    """

    def __init__(self, values: Sequence[str] | pa.Array, *, numeric: bool = False) -> None:
        self.values = values if isinstance(values, pa.Array) else pa.array(list(values), pa.string())
        self.numeric = numeric
        self._integers = _as_integers(self.values) if numeric else None
        self._positions: dict[str, int] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def lookup(self, array: pa.Array) -> np.ndarray:
        """Int32 `(rows,)`: position, `UNSEEN` (-1) or `NULL` (-2); NaN counts as null.

        >>> Vocabulary(["7", "3"], numeric=True).lookup(pa.array(["3.0", None, "x", "7"])).tolist()
        [1, -2, -1, 0]
        """
        kind = array.type
        if pa.types.is_dictionary(kind):
            return _decode(self.lookup(array.dictionary), array.indices)
        if pa.types.is_null(kind):
            return np.full(len(array), NULL, dtype=np.int32)
        if self._integers is not None and pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
            found = pc.index_in(pc.cast(array, pa.int64()), value_set=self._integers)
        else:
            array = spelled(array, numeric=self.numeric)
            found = self._search(array)
        return _positions(found, array)

    def _search(self, texts: pa.Array) -> pa.Array:
        if len(texts) > _SMALL or len(texts) > len(self):
            return pc.index_in(texts, value_set=self.values)
        positions = self._by_text()
        return pa.array([positions.get(text) for text in texts.to_pylist()], pa.int32())

    def _by_text(self) -> dict[str, int]:
        if self._positions is None:
            self._positions = {text: place for place, text in enumerate(self.values.to_pylist())}
        return self._positions

    def finder(self, kind: pa.DataType) -> Callable[[Any], int | None] | None:
        """What finds a single value of Python in a column of the type `kind`, as `lookup` does in a batch.

        The function gives None for values that only a batch tells; None for types that are not found so.

        >>> find = Vocabulary(["7", "3"], numeric=True).finder(pa.float64())
        >>> find(3.0), find(7), find(2.0), find(None), find(2.5)
        (1, 0, -1, -2, None)
        """
        if is_string(kind) and not self.numeric:
            return self._text_finder(str, str)
        if pa.types.is_boolean(kind) and not self.numeric:
            return self._text_finder(bool, lambda value: "true" if value else "false")
        if self.numeric and pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
            return self._whole_finder(EXACT_WHOLE[64])
        if self.numeric and pa.types.is_float64(kind):
            return self._whole_finder(EXACT_WHOLE[64])
        if self.numeric and pa.types.is_float32(kind):
            return self._whole_finder(EXACT_WHOLE[32])
        return None

    def _text_finder(self, wanted: type, spelling: Callable[[Any], str]) -> Callable[[Any], int | None]:
        positions = self._by_text()

        def find(value: Any) -> int | None:
            if type(value) is wanted:
                return positions.get(spelling(value), UNSEEN)
            return NULL if value is None else None

        return find

    def _whole_finder(self, exact: int) -> Callable[[Any], int | None]:
        positions = self._by_text()

        def find(value: Any) -> int | None:
            kind = type(value)
            if (kind is int or (kind is float and value.is_integer())) and -exact < value < exact:
                return positions.get(str(int(value)), UNSEEN)
            return NULL if value is None else None

        return find


def spelled(array: pa.Array, *, numeric: bool) -> pa.Array:
    """Canonical strings; of a column that held numbers in training, text is read as numbers where it is some."""
    if numeric and is_string(array.type):
        texts = pc.utf8_trim_whitespace(pc.cast(array, pa.string()))
        looks = pc.match_substring_regex(texts, r"^[+-]?\d+(\.0*)?$")
        plain = pc.replace_substring_regex(texts, r"^\+|\.0*$", "")
        plain = pc.replace_substring_regex(plain, r"^(-?)0+(\d)", r"\1\2")
        return pc.if_else(looks, plain, pc.if_else(pc.equal(texts, ""), None, texts))
    return canonical(array)


def _as_integers(values: pa.Array) -> pa.Array | None:
    try:
        return pc.cast(values, pa.int64())
    except pa.ArrowInvalid:  # categories with a fraction
        return None


def _positions(found: pa.Array, array: pa.Array) -> np.ndarray:
    places = np.array(pc.fill_null(found, UNSEEN).to_numpy(zero_copy_only=False), dtype=np.int32)
    if array.null_count:
        places[array.is_null().to_numpy(zero_copy_only=False)] = NULL
    return places


def _decode(table: np.ndarray, indices: pa.Array) -> np.ndarray:
    extended = np.append(table, np.int32(NULL))
    filled = pc.fill_null(pc.cast(indices, pa.int64()), len(table))
    decoded: np.ndarray = extended[filled.to_numpy(zero_copy_only=False)]
    return decoded


class Category(ProfileOnly):
    """One column as a code: 1 is the heaviest value of the training rows, ties in the order of the text."""

    def __init__(self, column: str, vocabulary: Vocabulary) -> None:
        self.reads: tuple[str, ...] = (column,)
        self._vocabulary = vocabulary
        # the last two places are reached by NULL (-2) and UNSEEN (-1)
        self._codes = np.array([*range(1, len(vocabulary) + 1), np.nan, 0.0], dtype=np.float32)

    @classmethod
    def plan(cls, column: str, profile: ColumnProfile, config: RecipeConfig) -> Self:
        heavy = [(text, count) for text, count in profile.top if count >= config.min_count]
        if not heavy:
            raise RejectColumn(f"no value is seen {config.min_count} times")
        ordered = sorted(heavy, key=lambda item: (-item[1], item[0]))[: config.max_categories]
        return cls(column, Vocabulary([text for text, _ in ordered], numeric=is_numeric(profile)))

    def output(self) -> Sequence[Feature]:
        column = self.reads[0]
        return (
            Feature(
                name=f"{column}:category", source=column, kind=FeatureKind.CODE, cardinality=len(self._vocabulary) + 1
            ),
        )

    def write(self, batch: pa.RecordBatch, out: np.ndarray) -> None:
        np.take(self._codes, self._vocabulary.lookup(batch.column(self.reads[0])), out=out[:, 0], mode="wrap")

    def cell(self, kind: pa.DataType) -> Cell | None:
        find, codes = self._vocabulary.finder(kind), self._codes.tolist()
        if find is None:
            return None

        def cell(value: Any) -> Sequence[float] | None:
            place = find(value)
            return None if place is None else (codes[place],)

        return cell

    def state(self) -> State:
        return {
            "column": self.reads[0],
            "values": self._vocabulary.values.to_pylist(),
            "numeric": self._vocabulary.numeric,
        }

    @classmethod
    def from_state(cls, state: State) -> Self:
        return cls(state["column"], Vocabulary(state["values"], numeric=state["numeric"]))


def is_numeric(profile: ColumnProfile) -> bool:
    """Whether the training column held numbers."""
    return profile.group in ("number", "decimal")
