"""Folds by the hash of a row key: order-free, the same on any engine, for any batches."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from shardwise.core.errors import ConfigError
from shardwise.data.hashing import hash_rows
from shardwise.split.base import TEST, Fold
from shardwise.stats.hashes import mix

HOLDOUT_PARTS = 4  # training folds beside a hold-out, so that encodings of training rows can be out-of-fold
MAX_FOLDS = 100


@dataclass(frozen=True, kw_only=True)
class Shares:
    """How rows are shared out: `test` to the sealed fold, the others to `folds` equal folds, or to a hold-out.

    With `holdout` (a share of the rows that are no test rows) fold 0 is for validation, and folds 1 to 4 train. The
    test rows are the same for any number of folds. Raises `ConfigError` for shares that leave nothing to train on.
    """

    folds: int = 5
    test: float = 0.2
    holdout: float | None = None

    def __post_init__(self) -> None:
        if self.holdout is None and not (isinstance(self.folds, int) and 2 <= self.folds <= MAX_FOLDS):
            raise ConfigError(f"folds is {self.folds!r}", hint=f"Give a whole number from 2 to {MAX_FOLDS}.")
        for name, share in (("test share", self.test), ("hold-out share", self.holdout)):
            if share is not None and not 0 <= share < 0.9:
                raise ConfigError(f"the {name} is {share}", hint="Give a share of at least 0 and below 0.9.")

    def assign(self, hashes: np.ndarray) -> np.ndarray:
        """Fold numbers int8 `(rows,)` of uint64 hashes: the unit interval, cut."""
        place = (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
        rest = (place - self.test) / (1.0 - self.test)
        if self.holdout is None:
            fold = np.floor(rest * self.folds)
        else:
            fold = np.where(
                rest < self.holdout, 0, 1 + np.floor((rest - self.holdout) / (1.0 - self.holdout) * HOLDOUT_PARTS)
            )
        fold = np.minimum(fold, self.numbers[-1])
        return np.where(place < self.test, TEST, fold).astype(np.int8)

    @property
    def numbers(self) -> tuple[int, ...]:
        """All fold numbers but TEST."""
        return tuple(range(self.folds if self.holdout is None else 1 + HOLDOUT_PARTS))

    def evaluations(self) -> tuple[Fold, ...]:
        if self.holdout is not None:
            return (Fold(train=self.numbers[1:], valid=(0,)),)
        return tuple(Fold(train=tuple(n for n in self.numbers if n != fold), valid=(fold,)) for fold in self.numbers)

    def visible(self, fold: int) -> tuple[int, ...]:
        """All folds that train, but never the own one."""
        training = self.numbers if self.holdout is None else self.numbers[1:]
        return tuple(number for number in training if number != fold)

    def expected(self) -> dict[int, float]:
        """Share of all rows that each fold, and TEST, should get."""
        open_share = 1.0 - self.test
        if self.holdout is None:
            shares = dict.fromkeys(self.numbers, open_share / self.folds)
        else:
            part = open_share * (1.0 - self.holdout) / HOLDOUT_PARTS
            shares = {0: open_share * self.holdout, **dict.fromkeys(self.numbers[1:], part)}
        return {TEST: self.test, **shares}

    def to_json(self) -> dict[str, Any]:
        return {"folds": self.folds, "test": self.test, "holdout": self.holdout}


class Shared(ABC):
    """What splitters by shares have in common."""

    columns: tuple[str, ...]
    shares: Shares
    seed: int

    @abstractmethod
    def assign(
        self, batch: pa.RecordBatch, first_row: int, hashes: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """Fold numbers int8 `(rows,)`."""

    @abstractmethod
    def sealed(self) -> dict[str, Any]:
        """What decides which rows are of the test."""

    def with_seed(self, seed: int) -> Self:
        """The same by other hashes."""
        other = copy(self)
        other.seed = seed
        return other

    def with_shares(self, shares: Shares) -> Self:
        """The same with other shares."""
        other = copy(self)
        other.shares = shares
        return other

    def to_json(self) -> dict[str, Any]:
        return {**self.sealed(), "shares": self.shares.to_json()}

    def folds(self) -> tuple[Fold, ...]:
        """One evaluation for a hold-out, else one for each fold."""
        return self.shares.evaluations()

    def visible(self, fold: int) -> tuple[int, ...]:
        """Fold numbers whose targets a row of `fold` may see in its features: those that train, but its own."""
        return self.shares.visible(fold)

    def expected(self) -> dict[int, float]:
        """Share of the rows that each fold should get."""
        return self.shares.expected()


class HashSplitter(Shared):
    """By the hash of key columns: rows with the same key are in the same fold.

    Name the columns of the row's identity. Without one, all feature columns but the target serve, which keeps copies of
    a row together. (With the target among them, rows that differ in the label alone would be torn apart, and the score
    would be too low.) Hash splits are not stratified: `check_folds` says when a rare class is missing from a fold.
    """

    kind = "hash"

    def __init__(self, columns: Sequence[str], *, shares: Shares | None = None, seed: int = 0) -> None:
        if not columns:
            raise ConfigError("no column is named to split by", hint="Name the key columns, or split by position.")
        self.columns = tuple(columns)
        self.shares = shares or Shares()
        self.seed = seed

    def assign(
        self,
        batch: pa.RecordBatch,
        first_row: int,  # noqa: ARG002
        hashes: Mapping[str, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Fold numbers int8 `(rows,)`; raises `SchemaError` when a key column is missing."""
        return self.shares.assign(hash_rows(batch, self.columns, self.seed, hashes))

    def sealed(self) -> dict[str, Any]:
        """What decides which rows are of the test."""
        return {"kind": self.kind, "columns": list(self.columns), "seed": self.seed}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["columns"], shares=Shares(**content["shares"]), seed=content["seed"])


class PositionSplitter(Shared):
    """By the hash of the row's number: for data in which most rows repeat others, as new rows will too.

    It depends on the order of the files and of the rows in them, and on nothing else.
    """

    kind = "position"
    columns: tuple[str, ...] = ()

    def __init__(self, *, shares: Shares | None = None, seed: int = 0) -> None:
        self.shares = shares or Shares()
        self.seed = seed

    def assign(
        self,
        batch: pa.RecordBatch,
        first_row: int,
        hashes: Mapping[str, np.ndarray] | None = None,  # noqa: ARG002
    ) -> np.ndarray:
        """Fold numbers int8 `(rows,)`."""
        return self.shares.assign(position_hashes(batch.num_rows, first_row, self.seed))

    def sealed(self) -> dict[str, Any]:
        """What decides which rows are of the test."""
        return {"kind": self.kind, "seed": self.seed}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(shares=Shares(**content["shares"]), seed=content["seed"])


def position_hashes(rows: int, first_row: int, seed: int) -> np.ndarray:
    """Hashes uint64 `(rows,)` of the row numbers from `first_row` on."""
    return mix(np.arange(first_row, first_row + rows, dtype=np.uint64), seed)
