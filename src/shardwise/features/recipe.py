"""The recipe: raw batches -> the model-ready matrix. Planned from a profile, fitted by merged summaries.

The way: `Recipe.plan` decides a transformer or more for every column; `summaries()` names what a pass over the
training rows must gather (nothing, when the profile was enough); `fit` takes the merged results; `transform` is the
same code for training, batch and online prediction; `sealed()` leaves out what only training rows need.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa

from shardwise.core.errors import ConfigError, DataError, RejectColumn, SchemaError, context
from shardwise.core.names import nearest_column
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.state import State
from shardwise.core.target import Target, canonical_label
from shardwise.data.join import Join
from shardwise.data.joined import needed_joins
from shardwise.features.aggregate import Aggregate
from shardwise.features.aggregate_plan import plan_aggregates
from shardwise.features.base import Transformer
from shardwise.features.category import Category, is_numeric
from shardwise.features.columns import ColumnProfile, RecipeConfig, TableProfile, transformers_for
from shardwise.features.combine import Arithmetic, ByCategory, Cross
from shardwise.features.dates import Calendar
from shardwise.features.encoding import TargetEncoding
from shardwise.features.grid import check_kinds, plan_grids
from shardwise.features.numeric import Number
from shardwise.features.target_sums import Labels, Visibility
from shardwise.features.text import Text
from shardwise.stats.base import Summary

__all__ = ["FORMAT", "TRANSFORMERS", "Recipe", "RecipeConfig"]

FORMAT = 1
_ENCODED_CELLS = 1 << 23  # float64 sums of all target-encoded columns together: 64 MiB
_TEXT_CELLS = 1 << 23  # and of all text columns
_LEAST_CATEGORIES, _LEAST_BUCKETS = 256, 1 << 10
_BUCKETS_A_LABEL = 16
TRANSFORMERS: dict[str, type[Any]] = {
    "number": Number,
    "category": Category,
    "encoding": TargetEncoding,
    "date": Calendar,
    "text": Text,
    "words": Text,
    "aggregate": Aggregate,
    "arithmetic": Arithmetic,
    "cross": Cross,
    "by_category": ByCategory,
}


class Recipe:
    """Fitted feature transformers.

    `inputs` are the raw columns that `transform` reads; `features` describe the columns of the matrix, in order, and
    are known after `fit`; `rejected` maps columns that are not used to the reason.
    """

    joins: tuple[Join, ...] = ()  # of which new rows get columns that they do not have

    def __init__(
        self, steps: Sequence[tuple[str, Transformer]], rejected: Mapping[str, str], joins: Sequence[Join] = ()
    ) -> None:
        self._steps, self.joins = tuple(steps), tuple(joins)
        self.rejected = dict(rejected)
        self.features: tuple[Feature, ...] = ()
        self._outputs: list[tuple[Transformer, int, int]] = []
        if not self.summaries():
            self._lay_out()

    @classmethod
    def plan(
        cls,
        schema: pa.Schema,
        profile: TableProfile,
        *,
        target: Target,
        exclude: Collection[str] = (),
        config: RecipeConfig | None = None,
        visible: Mapping[int, Sequence[int]],
        joins: Sequence[Join] = (),
    ) -> Self:
        """Decide what becomes of every column of `schema` but the target and `exclude`.

        `visible` maps a fold to the folds whose targets its rows may see; -1 is the test fold and every new row. Raises
        `ConfigError` for a kind of an unknown column, `DataError` when no column is left.
        """
        config = config or RecipeConfig()
        _check_kinds(config, schema)
        columns = [name for name in schema.names if name != target.column and name not in exclude]
        cells = plan_grids(config.grids, columns, profile)
        check_kinds(cells, config.kinds)
        chosen, rejected = _choose([name for name in columns if name not in cells], profile, config)
        kinds = [kind for names in chosen.values() for kind in names]
        setting = _Setting(config, Visibility(visible), _labels(target, profile, config), Counter(kinds))
        steps: list[tuple[str, Transformer]] = [("number", cell) for cell in cells.values()]
        for column, names in chosen.items():
            try:
                with context(column=column):
                    steps += _plan_column(column, names, profile.columns[column], setting)
            except RejectColumn as reason:
                rejected[column] = str(reason)
        steps += plan_aggregates(schema, profile, target, config, visible)
        if not steps:
            raise DataError(
                "no column is left to learn from",
                hint="; ".join(f"{name}: {why}" for name, why in list(rejected.items())[:5]),
            )
        return cls(steps, rejected, joins)

    @property
    def _read(self) -> dict[str, None]:
        """Columns that the steps read, joined ones too, in order."""
        return dict.fromkeys(column for _, step in self._steps for column in step.reads)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The raw columns that `transform` reads: what joins add is found by their keys."""
        needed, _ = needed_joins(self.joins, set(self._read))
        return (*(name for name in self._read if name in needed), *sorted(needed.difference(self._read)))

    def summaries(self) -> dict[str, Summary]:
        """Fresh summaries to gather over the training rows; batches carry TARGET and FOLD besides `inputs`."""
        return {
            f"{number}.{name}": summary
            for number, (_, step) in enumerate(self._steps)
            for name, summary in step.summaries().items()
        }

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the transformers, in the order of their features: a key of `TRANSFORMERS` for each."""
        return tuple(name for name, _ in self._steps)

    @property
    def texts(self) -> int:
        """How many columns are read by their words."""
        return sum(isinstance(step, Text) for _, step in self._steps)

    @property
    def summary_inputs(self) -> tuple[str, ...]:
        """Raw columns that `summaries()` read; the others need no second pass."""
        gathering = [step for _, step in self._steps if step.summaries()]
        return tuple(dict.fromkeys(name for step in gathering for name in (*step.reads, *step.gathers)))

    def fit(self, results: Mapping[str, Summary]) -> None:
        """Take the merged summaries, under the names of `summaries()`."""
        for number, (_, step) in enumerate(self._steps):
            step.fit({name: results[f"{number}.{name}"] for name in step.summaries()})
        self._lay_out()

    @property
    def uses_target(self) -> bool:
        """Whether some features derive from the target, so that `folds` and `hidden` make a difference."""
        encoded = any(feature.kind is FeatureKind.ENCODED for feature in self.features)
        return encoded or any(aggregate.uses_target for aggregate in self.aggregates)

    @property
    def aggregates(self) -> tuple[Aggregate, ...]:
        return tuple(step for _, step in self._steps if isinstance(step, Aggregate))

    @property
    def steps(self) -> Sequence[tuple[Transformer, int, int]]:
        """The transformers with the first of their columns of the matrix, and the one after the last."""
        return tuple(self._outputs)

    def _lay_out(self) -> None:
        """Give every step its columns of the matrix."""
        features: list[Feature] = []
        self._outputs = []
        for _, step in self._steps:
            written = step.output()
            self._outputs.append((step, len(features), len(features) + len(written)))
            features += written
        self.features = tuple(features)

    def transform(
        self, batch: pa.RecordBatch, *, folds: np.ndarray | None = None, hidden: Collection[int] = ()
    ) -> np.ndarray:
        """Float32 `(rows, features)`, column-major; NaN is missing.

        `folds` `(rows,)` says that these are training rows: what derives from the target is then out-of-fold. `hidden`
        names folds whose targets no row may see, such as the validation folds of one evaluation: without it a training
        row of fold 0 is encoded with targets of fold 4, which a model that is validated on fold 4 can make a little
        use of. Columns may come in any order and in other types of the same meaning; raises `SchemaError` for a missing
        one, or for a value that cannot be read.
        """
        batch = self._joined(self._checked(batch))
        out = np.empty((batch.num_rows, len(self.features)), dtype=np.float32, order="F")
        for step, start, stop in self._outputs:
            step.transform(batch, out[:, start:stop], folds, hidden)
        return out

    def _joined(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """With the columns of further tables, where it does not have them."""
        _, used = needed_joins(self.joins, set(self._read)) if self.joins else (set(), [])
        for join in used:
            present = [name for name in join.adds if name in batch.schema.names]
            if len(present) < len(join.adds):
                batch = join.apply(batch.drop_columns(present) if present else batch)
        return batch

    def _checked(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        names = batch.schema.names
        given = set(names)
        missing = [column for column in self.inputs if column not in given]
        if missing:
            raise SchemaError(
                f"the data has no column {missing[0]!r}"
                + (f", nor {len(missing) - 1} others: {', '.join(missing[1:6])}" if len(missing) > 1 else ""),
                hint=nearest_column(missing[0], names) if names else "It has no columns at all.",
            )
        if len(given) < len(names):
            twice = next((column for column in self.inputs if names.count(column) > 1), None)
            if twice is not None:
                raise SchemaError(f"the data has {names.count(twice)} columns {twice!r}", hint="Rename all but one.")
        return batch

    def without(self, reasons: Mapping[str, str]) -> "Recipe":
        """A copy without the steps whose features are all named in `reasons`; columns that no step reads any more are
        rejected for the reason of their feature."""
        kept = [place for place, (_, step) in enumerate(self._steps)
                if not all(feature.name in reasons for feature in step.output())]  # fmt: skip
        copy = Recipe.__new__(Recipe)
        copy._steps = tuple(self._steps[place] for place in kept)
        copy.joins = self.joins
        whys = {feature.source: reasons[feature.name] for feature in self.features if feature.name in reasons}
        copy.rejected = {**self.rejected, **{name: why for name, why in whys.items() if name not in copy._read}}
        copy._lay_out()
        return copy

    def extended(self, steps: Sequence[Mapping[str, Any]]) -> "Recipe":
        """A copy with more fitted steps after its own, each with its `kind` and `content` as in `state`."""
        copy = Recipe.__new__(Recipe)
        copy._steps = (*self._steps, *((step["kind"], _load(step)) for step in steps))
        copy.rejected, copy.joins = dict(self.rejected), self.joins
        copy._lay_out()
        return copy

    def sealed(self) -> "Recipe":
        """A copy for prediction: it cannot transform training rows, and says nothing of single folds."""
        copy = Recipe.__new__(Recipe)
        copy._steps = tuple((name, step.sealed()) for name, step in self._steps)
        copy.rejected, copy.joins = dict(self.rejected), tuple(needed_joins(self.joins, set(self._read))[1])
        copy._lay_out()
        return copy

    def state(self) -> State:
        """All that `from_state` needs, planned or fitted, as `core.state` saves it."""
        steps = [{"kind": name, "content": step.state()} for name, step in self._steps]
        content = {"format": FORMAT, "fitted": bool(self._outputs), "steps": steps, "rejected": self.rejected}
        return content | ({"joins": [join.state() for join in self.joins]} if self.joins else {})

    @classmethod
    def from_state(cls, state: State) -> "Recipe":
        """Inverse of `state`; raises `DataError` for another format version."""
        if state.get("format") != FORMAT:
            raise DataError(
                f"the recipe has format version {state.get('format')!r}, version {FORMAT} is understood",
                hint="Read it with the release of shardwise that wrote it.",
            )
        loaded = Recipe.__new__(Recipe)
        loaded._steps = tuple((step["kind"], _load(step)) for step in state["steps"])
        loaded.rejected = dict(state["rejected"])
        loaded.joins = tuple(map(Join.from_state, state.get("joins", ())))
        loaded.features, loaded._outputs = (), []
        if state["fitted"]:
            loaded._lay_out()
        return loaded


def _check_kinds(config: RecipeConfig, schema: pa.Schema) -> None:
    for column in config.kinds:
        if column not in schema.names:
            hint = nearest_column(column, schema.names)
            raise ConfigError(f"there is no column {column!r} to give a kind", hint=hint)


def _load(step: Mapping[str, Any]) -> Transformer:
    if step["kind"] not in TRANSFORMERS:
        raise DataError(f"there is no transformer {step['kind']!r}", hint=f"There are: {', '.join(TRANSFORMERS)}.")
    loaded: Transformer = TRANSFORMERS[step["kind"]].from_state(step["content"])
    return loaded


class _Setting(NamedTuple):
    """What the columns share; the sums of all of them together are bounded, so that each gets its part."""

    config: RecipeConfig
    visibility: Visibility
    labels: Labels
    columns: Counter[str]  # how many there are of a kind

    @property
    def cells(self) -> int:
        """Sums per category or n-gram."""
        return max(1, len(self.visibility.folds)) * (len(self.labels.names) + 1)

    @property
    def cap(self) -> int:
        share = _ENCODED_CELLS // (self.cells * max(1, self.columns["encoding"]))
        return min(self.config.encoded_categories, max(_LEAST_CATEGORIES, share))

    @property
    def buckets(self) -> int:
        columns = self.columns["text"] + self.columns["words"]
        share = _TEXT_CELLS // (self.cells * max(1, columns))
        return min(self.config.text_buckets, max(_LEAST_BUCKETS, 1 << (max(1, share).bit_length() - 1)))

    def buckets_of(self, labels: ColumnProfile) -> int:
        """For labels, which have few words."""
        return min(self.buckets, 1 << math.ceil(math.log2(_BUCKETS_A_LABEL * max(_LEAST_CATEGORIES, labels.distinct))))


def _choose(
    columns: Sequence[str], profile: TableProfile, config: RecipeConfig
) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Names of the transformers of each column, and why the others are not used."""
    chosen: dict[str, tuple[str, ...]] = {}
    rejected: dict[str, str] = {}
    for column in columns:
        try:
            chosen[column] = transformers_for(column, profile.columns[column], config)
        except RejectColumn as reason:
            rejected[column] = str(reason)
    return chosen, rejected


def _plan_column(
    column: str, names: Sequence[str], profile: ColumnProfile, setting: _Setting
) -> list[tuple[str, Transformer]]:
    config, visibility, labels = setting.config, setting.visibility, setting.labels
    makers: dict[str, Callable[[], Transformer]] = {
        "number": lambda: Number.plan(column, profile),
        "category": lambda: Category.plan(column, profile, config),
        "date": lambda: Calendar.plan(column, profile, config.date_formats.get(column)),
        "encoding": lambda: TargetEncoding.plan(
            column,
            numeric=is_numeric(profile),
            visibility=visibility,
            labels=labels,
            smoothing=config.smoothing,
            cap=setting.cap,
        ),
        "text": lambda: Text.plan(
            column, visibility=visibility, labels=labels, buckets=setting.buckets, columns=config.text_columns
        ),
        "words": lambda: Text.plan(
            column,
            visibility=visibility,
            labels=labels,
            buckets=setting.buckets_of(profile),
            columns=config.word_columns // setting.columns["words"],
        ),
    }
    steps, reasons = [], []
    for name in names:
        try:
            steps.append((name, makers[name]()))
        except RejectColumn as reason:
            reasons.append(str(reason))
    if not steps:
        raise RejectColumn("; ".join(reasons))
    return steps


def _labels(target: Target, profile: TableProfile, config: RecipeConfig) -> Labels:
    """What target encoding sums; of many classes those that the profile saw most often."""
    known = profile.columns.get(target.column)
    heaviest = [text for text, _ in known.top] if known is not None else []
    names = {canonical_label(label): str(label) for label in target.classes}
    return Labels.of(target, config.encoded_classes, [names[text] for text in heaviest if text in names])
