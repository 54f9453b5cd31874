"""The sizes on which a run's cost depends: guessed from a schema, measured by a calibration, or journalled by a run."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import pyarrow as pa

from shardwise.core.target import Task
from shardwise.data.column_profile import group_of
from shardwise.data.dataset import Dataset
from shardwise.split.plan import SplitPlan, choose_shares

MULTICLASS_OUTPUTS = 5  # classes that are guessed for a target of strings
CELL_BYTES = {"string": 24, "boolean": 1, "null": 1}  # of a value in memory, as Arrow; 8 for the others
DATE_FEATURES = 6


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is known of a dataset and of what a run makes of it.

    columns        group of type (`number`, `string`, ...) -> columns
    size_bytes     as stored; `memory_bytes` as Arrow in memory
    largest        share of the stored bytes that lies in the largest partition
    features       columns of the model-ready matrix; trees see the `binned` ones (0: all)
    copied         features that networks may do without (`core.schema.copies`)
    encoded        features that derive from the target; `texts` are columns of text
    outputs        trees of a boosting round: classes of a multiclass task, else 1
    positive       no target is below 0
    train_rows     rows on which a model of one fold trains, `valid_rows` on which it is scored
    encodings      how often all rows are encoded
    """

    rows: int
    columns: Mapping[str, int]
    size_bytes: int = 0
    memory_bytes: int = 0
    partitions: int = 1
    largest: float = 1.0
    features: int = 0
    binned: int = 0
    copied: int = 0
    encoded: int = 0
    texts: int = 0
    outputs: int = 1
    task: str = "regression"
    positive: bool = False
    folds: int = 5
    train_rows: int = 0
    valid_rows: int = 0
    test_rows: int = 0
    encodings: int = 1
    guessed: tuple[str, ...] = field(default=())

    @property
    def width(self) -> int:
        return sum(self.columns.values())

    @property
    def cells(self) -> int:
        return self.rows * self.width

    @property
    def seen(self) -> int:
        """Features that trees see."""
        return self.binned or self.features

    @property
    def train_cells(self) -> int:
        return self.train_rows * self.seen

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "columns": dict(self.columns), "guessed": list(self.guessed)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; what is not known is left out, `KeyError` where rows or columns are missing."""
        known = {item.name for item in fields(cls)}
        given = {key: value for key, value in content.items() if key in known}
        return cls(**{**given, "guessed": tuple(content.get("guessed", ())), "rows": content["rows"]})


@dataclass(frozen=True, kw_only=True)
class Folding:
    """What was asked of the split; None is chosen by size."""

    folds: int | None = None
    test_share: float | None = None
    valid_share: float | None = None
    temporal: bool = False


def split_rows(rows: int, asked: Folding) -> dict[str, Any]:
    """`folds`, `train_rows`, `valid_rows` and `test_rows` of a split by size, as `split.plan` chooses it."""
    plan = SplitPlan(
        rows=rows, features=["x"], folds=asked.folds, test_share=asked.test_share, valid_share=asked.valid_share
    )
    shares = choose_shares(plan)
    opened = rows * (1.0 - shares.test)
    valid = shares.holdout * opened if shares.holdout else opened / max(shares.folds, 2)
    folds = shares.folds
    if asked.temporal:
        folds, valid = (asked.folds or (3 if folds > 1 else 1)), min(valid, 0.5 * opened)
    return {
        "folds": folds, "train_rows": round(opened - valid), "valid_rows": round(valid),
        "test_rows": round(rows * shares.test),
    }  # fmt: skip


def guess_sizes(dataset: Dataset, rows: int, target: str, *, asked: Folding, drop: Sequence[str] = ()) -> Sizes:
    """From the schema alone: nothing is read, so the features and the task are guesses, and are named as such."""
    schema = dataset.schema
    groups = {item.name: group_of(item.type) for item in schema}
    used = [group for name, group in groups.items() if name != target and name not in drop]
    kind = groups.get(target, "number")
    outputs = MULTICLASS_OUTPUTS if kind == "string" else 1
    counts = Counter(used)
    features = len(used) + (DATE_FEATURES - 1) * (counts["date"] + counts["timestamp"])
    split = split_rows(max(rows, 20), asked)
    return Sizes(
        rows=rows,
        columns=dict(sorted(Counter(groups.values()).items())),
        size_bytes=dataset.size_bytes,
        memory_bytes=rows * row_bytes(schema),
        partitions=len(dataset.partitions),
        largest=largest_share(dataset),
        features=features,
        encoded=0,
        outputs=outputs,
        task=str(Task.MULTICLASS if kind == "string" else Task.REGRESSION),
        guessed=("features", "outputs", "rounds"),
        **split,
    )


def row_bytes(schema: pa.Schema) -> int:
    """Bytes of a row in memory, about."""
    return sum(CELL_BYTES.get(group_of(item.type), 8) for item in schema)


def largest_share(dataset: Dataset) -> float:
    """Share of the stored bytes in the largest partition; 1.0 where there is one, or sizes are not known."""
    sizes = [partition.size_bytes or (partition.rows or 0) for partition in dataset.partitions]
    return max(sizes) / sum(sizes) if sum(sizes) else 1.0


def is_positive(lowest: Any) -> bool:
    """Whether no target is below 0, by the lowest: logarithms may then be learned."""
    return isinstance(lowest, int | float) and lowest >= 0
