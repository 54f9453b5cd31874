"""One pass over new data: labels and the predictions of both models, row by row, in bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from shardwise.core.errors import DataError, context
from shardwise.core.events import Advanced, Events
from shardwise.core.target import Target
from shardwise.data.dataset import Dataset
from shardwise.data.profile import Profile
from shardwise.serve.evaluate import columns_needed, encode_labels, read_weights
from shardwise.serve.pieces import PredictOptions, as_trained, read_pieces, until_types_hold, working_on
from shardwise.serve.predictor import Predictor
from shardwise.stats.evaluation import Evaluation
from shardwise.stats.metrics import Metric, Pairs, decided
from shardwise.stats.paired import Gain, gain, units_of

LIMIT_BYTES = 128 << 20  # of each model's labels and predictions; beyond, a sample gives the intervals


@dataclass(frozen=True)
class _Scored:
    batch: pa.RecordBatch
    y: np.ndarray
    predictions: tuple[np.ndarray, np.ndarray]
    weight: np.ndarray | None


@dataclass(frozen=True, kw_only=True)
class PairedRows:
    """What was gathered. The two evaluations hold the same rows in the same order; `profile` is of all new rows."""

    champion: Evaluation
    challenger: Evaluation
    profile: Profile
    group: str | None
    slices: tuple[str, ...]

    @property
    def rows(self) -> int:
        return self.champion.rows

    @property
    def target(self) -> Target:
        return self.champion.target

    @cached_property
    def samples(self) -> tuple[Pairs, Pairs]:
        """Champion and challenger on all rows, or on the same uniform sample of them."""
        return self.champion.sample(), self.challenger.sample()

    def _decided(self, metric: Metric) -> tuple[Pairs, Pairs]:
        """The samples, with the labels that each model decides on."""
        first, second = self.samples
        return decided(metric, first, self.champion.target), decided(metric, second, self.challenger.target)

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Columns to slice by, of the rows of `samples`."""
        return self.champion.sliced()

    @cached_property
    def units(self) -> np.ndarray | None:
        """Which rows of `samples` belong together, `(rows,)`; None: each is on its own."""
        return None if self.group is None else units_of(self.columns[self.group])

    @property
    def share(self) -> float:
        return self.champion.share

    def gain(self, metric: Metric) -> Gain:
        """On all rows."""
        values = self.champion.value(metric), self.challenger.value(metric)
        return gain(metric, *self._decided(metric), units=self.units, quantile=self.target.quantile, share=self.share,
                    values=values)  # fmt: skip

    def gain_of(self, metric: Metric, rows: np.ndarray) -> Gain:
        """On some rows of the samples."""
        first, second = (pairs.take(rows) for pairs in self._decided(metric))
        units = None if self.units is None else np.unique(self.units[rows], return_inverse=True)[1]
        return gain(metric, first, second, units=units, quantile=self.target.quantile, share=self.share)


def gather_pairs(
    champion: Predictor, challenger: Predictor, dataset: Dataset, *, slices: Sequence[str] = (),
    group: str | None = None, weight: str | None = None, options: PredictOptions | None = None,
    events: Events | None = None,
) -> PairedRows:  # fmt: skip
    """Predict the labelled rows of `dataset` with both, whose targets are the same.

    Raises `SchemaError` for columns that are missing, `TargetError` and `DataError` where no row counts.
    """
    job = _Job((champion, challenger), tuple(slices), group, weight, options or PredictOptions(), events or Events())
    with context(stage="gate"):
        read = as_trained(as_trained(dataset, champion), challenger)
        found = until_types_hold(read, job.run)
        if not found.rows:
            message = f"no row of the new data has a label in {champion.target.column!r} that the models know"
            raise DataError(message, hint="A gate needs rows whose outcome is known.")
    return found


@dataclass(frozen=True)
class _Job:
    predictors: tuple[Predictor, Predictor]
    slices: tuple[str, ...]
    group: str | None
    weight: str | None
    options: PredictOptions
    events: Events

    def run(self, dataset: Dataset) -> PairedRows:
        more = [name for name in (*self.slices, self.group, self.weight) if name is not None]
        wanted = {name for each in self.predictors for name in columns_needed(each, dataset.schema, more)}
        columns = [name for name in dataset.schema.names if name in wanted]
        profile = Profile(pa.schema([dataset.schema.field(name) for name in columns]))
        first, second = (Evaluation(each.target, limit_bytes=LIMIT_BYTES) for each in self.predictors)
        kept = dict.fromkeys([*self.slices, *([] if self.group is None else [self.group])])
        pieces = read_pieces(dataset, columns, self.options.batch_rows)
        with working_on(pieces, self._score, self.options.threads, self.predictors) as all_scored:
            for scored in all_scored:
                cut = {name: scored.batch.column(name) for name in kept}
                for evaluation, prediction in zip((first, second), scored.predictions, strict=True):
                    evaluation.update(scored.y, prediction, scored.weight, cut)
                profile.update(scored.batch)
                self.events.emit(Advanced(stage="gate", rows=len(scored.y)))
        return PairedRows(champion=first, challenger=second, profile=profile, group=self.group, slices=self.slices)

    def _score(self, piece: tuple[int, pa.RecordBatch]) -> _Scored:
        batch, target = piece[1], self.predictors[0].target
        first, second = (predictor.predict(batch) for predictor in self.predictors)
        weight = None if self.weight is None else read_weights(batch.column(self.weight), self.weight)
        return _Scored(batch, encode_labels(target, batch.column(target.column)), (first, second), weight)
