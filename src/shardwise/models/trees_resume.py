"""Boosting that goes on where it was stopped: checkpoints of trees, and a booster that continues from one.

What is promised: rounds that are boosted after a checkpoint are, to the bit, those of a fit that was never stopped.

- Scores. LightGBM writes leaf values with 17 digits and predicts by adding them up in float64, round by round, as
  training does (the first tree holds the average from which boosting starts). So the scores that a model predicts for
  the rows that it was trained on are those with which training would go on.
- Chance. The state of LightGBM's random numbers (bagging, columns, random thresholds) cannot be saved. So a fit that
  samples begins them anew after every `SEGMENT_ROUNDS` rounds, from a seed of (seed, rounds): `reseed`. A checkpoint of
  such a fit is one of those rounds; without sampling it may be any.

The model in a checkpoint is LightGBM's text on codes, as it was learned, not the one on raw values that is served.
"""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np

from shardwise.compute.gang.base import Member
from shardwise.core.errors import DataError
from shardwise.core.seeds import derive_seed
from shardwise.core.state import dump_state, load_state
from shardwise.data.rows import BinnedRows
from shardwise.models.trees_data import PUSH_ROWS, code_floats
from shardwise.models.trees_row import call
from shardwise.models.trees_text import ModelText, PackedText, shifted
from shardwise.store.files import remove_folder, write_atomic

SEGMENT_ROUNDS = 50
KEEP_S = 20.0  # between two checkpoints, at least: a lost worker costs that, and a segment
KEEP_SHARE = 0.01  # of a fit's time that checkpoints may take: large ones are written more rarely
_FILE = "trees.progress"
_NEARLY = 1e-9  # from a share of rows: LightGBM seeds its bags anew when the share changes, and not for a new seed


@dataclass(frozen=True)
class Progress:
    """Trees so far: their text on codes, and float64 `(rounds, 2)` of their (loss, what early stopping watches); there
    is no row of the curve where there was no validation."""

    model: PackedText
    rounds: int
    curve: np.ndarray

    def to_bytes(self) -> bytes:
        frames, curve = list(self.model.frames), self.curve
        known = {"sha256": self.model.sha256, "packed": _digest(frames), "rounds": self.rounds}
        return dump_state({"frames": frames, "curve": curve, **known})

    @classmethod
    def from_bytes(cls, content: bytes) -> "Progress":
        """Raises `DataError` for what is damaged: LightGBM itself does not survive that."""
        state = load_state(content)
        if _digest(state["frames"]) != state["packed"]:
            raise DataError("the checkpoint of trees is damaged")
        return cls(PackedText(tuple(state["frames"]), state["sha256"]), state["rounds"], state["curve"])


def _digest(frames: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(frame)
    return digest.hexdigest()


def write_progress(folder: Path, progress: Progress) -> None:
    """Whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / _FILE, progress.to_bytes())


def read_progress(folder: Path) -> Progress | None:
    """What was written last; None when there is nothing, or nothing that can be read."""
    if not (folder / _FILE).exists():
        return None
    try:
        return Progress.from_bytes((folder / _FILE).read_bytes())
    except DataError:
        return None  # of a disk that lost power: the fit begins anew


@dataclass(frozen=True)
class Sampling:
    """What of a fit is left to chance."""

    seed: int
    bagging: float = 1.0  # share of the rows, 1 for all
    columns: float = 1.0
    thresholds: bool = False
    first_bag: int = 0  # block of 1024 rows with which the own rows begin: members draw the bags that one alone would

    @property
    def any(self) -> bool:
        return self.bagging < 1.0 or self.columns < 1.0 or self.thresholds

    def seed_at(self, rounds: int) -> int:
        """The seed with which a segment begins after so many rounds."""
        return derive_seed(self.seed, "segment", rounds) if rounds else self.seed

    def bagging_seed(self, rounds: int) -> int:
        """LightGBM adds to it the number of the block of rows."""
        return self.seed_at(rounds) % 2**30 + self.first_bag

    def params(self) -> dict[str, Any]:
        """What a booster is begun with beside its `seed`."""
        return {"bagging_seed": self.bagging_seed(0)} if self.bagging < 1.0 else {}


def reseed(booster: lgb.Booster, sampling: Sampling, rounds: int) -> None:
    """Begin LightGBM's random numbers anew, as a fit does after so many rounds; nothing where nothing is sampled."""
    if not sampling.any:
        return
    seed = sampling.seed_at(rounds)
    seeds: dict[str, Any] = {"feature_fraction_seed": seed, "extra_seed": seed}
    if sampling.bagging < 1.0:
        seeds |= {"bagging_seed": sampling.bagging_seed(rounds), "bagging_fraction": sampling.bagging - _NEARLY}
    booster.reset_parameter(seeds)
    booster.reset_parameter({"bagging_fraction": sampling.bagging})


def scores(booster: lgb.Booster, rows: BinnedRows, threads: int = 0) -> np.ndarray:
    """Raw scores of rows by a model on codes, float64 `(rows,)` or `(rows, outputs)`, as training has them."""
    return np.concatenate(list(_scored(booster, rows, threads)))


def _scored(booster: lgb.Booster, rows: BinnedRows, threads: int) -> Iterator[np.ndarray]:
    for number, size in enumerate(rows.block_rows()):
        X = rows.block(number).X
        for start in range(0, size, PUSH_ROWS):
            floats = code_floats(X[start : start + PUSH_ROWS])
            yield np.asarray(booster.predict(floats, raw_score=True, num_threads=threads))
        rows.release(number)


def make_booster(params: Mapping[str, Any], train_set: lgb.Dataset, before: lgb.Booster | None) -> lgb.Booster:
    """A booster for rounds after those of `before`, which it holds; the train set needs `started` scores."""
    booster = lgb.Booster(dict(params), train_set)
    if before is not None:
        call("LGBM_BoosterMerge", booster._handle, before._handle)
    return booster


@contextmanager
def started(
    progress: Progress | None, start: np.ndarray | None, *pairs: tuple[lgb.Dataset | None, BinnedRows | None],
    threads: int = 0,
) -> Iterator[lgb.Booster | None]:  # fmt: skip
    """Datasets whose rows begin with the scores of `progress`, until boosters have been made from them; its trees.

    Without progress they begin with `start` `(scores,)`, or with what LightGBM finds by itself.
    """
    there = [(dataset, rows) for dataset, rows in pairs if dataset is not None and rows is not None]
    before = None if progress is None else progress.model.booster()
    for dataset, rows in there:
        if before is not None:
            dataset.set_field("init_score", np.ravel(scores(before, rows, threads), order="F"))
        elif start is not None:
            dataset.set_field("init_score", np.repeat(start, rows.n_rows))
    try:
        yield before
    finally:
        for dataset, _ in there:
            dataset.set_field("init_score", None)


@dataclass
class Keeper:
    """Writes checkpoints of a fit into a folder, at most one in `KEEP_S` seconds, and so rarely that they take a
    hundredth of its time; without a folder none.

    When it writes has no say in what is learned. Of several members the first one reads and writes, for all.
    """

    folder: Path | None
    sampling: Sampling
    member: Member | None = None
    start: np.ndarray | None = None  # scores from which boosting starts, where it is given them
    _due_s: float = field(default_factory=lambda: time.monotonic() + KEEP_S)

    @property
    def _leads(self) -> bool:
        return self.member is None or self.member.rank == 0

    def found(self) -> Progress | None:
        """What an earlier fit has left."""
        progress = read_progress(self.folder) if self.folder is not None and self._leads else None
        if self.member is not None and self.folder is not None:
            content = self.member.broadcast(b"" if progress is None else progress.to_bytes())
            progress = Progress.from_bytes(content) if content else None
        if progress is not None:
            self.start = None  # its trees hold it
        return progress

    def text(self, booster: lgb.Booster, rounds: int | None = None) -> ModelText:
        """The model of so many rounds (None: all), with the scores from which it started."""
        text = ModelText.of(booster, rounds)
        return text if self.start is None else shifted(text, self.start.tolist())

    def keep(self, booster: lgb.Booster, curve: list[tuple[float, float]]) -> None:
        """Write where trees and curve have come to, if it is time."""
        began_s = time.monotonic()
        if began_s >= self._due_s:
            self.rest(booster, curve)
            ended_s = time.monotonic()
            self._due_s = ended_s + max(KEEP_S, (ended_s - began_s) / KEEP_SHARE)

    def rest(self, booster: lgb.Booster, curve: list[tuple[float, float]]) -> None:
        """Write where trees and curve have come to, as the fit is to go on from there: chance begins anew there too."""
        if self.folder is not None and self._leads:
            points = np.array(curve, np.float64).reshape(len(curve), 2)
            write_progress(self.folder, Progress(self.text(booster).packed(), booster.current_iteration(), points))

    def end(self) -> None:
        """The fit is at its end: remove what was written."""
        if self.folder is not None and self._leads:
            remove_folder(self.folder)
