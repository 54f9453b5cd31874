"""From a piece of a dataset to the rows that are written: what was kept of it, and what the package answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from shardwise.core.errors import ConfigError, SchemaError
from shardwise.core.names import nearest_column
from shardwise.serve.forms import AnswerForm, Shaper, check_sparse
from shardwise.serve.pieces import PredictOptions
from shardwise.serve.predictor import Predictor


@dataclass(frozen=True)
class Answering:
    """A predictor, the form of its answers, and the columns `keep` that go along."""

    predictor: Predictor
    form: AnswerForm
    keep: tuple[str, ...]
    options: PredictOptions

    @cached_property
    def shaper(self) -> Shaper:
        return Shaper(self.predictor, self.form)

    @property
    def batch_rows(self) -> int:
        return self.options.rows_of(self.predictor.target.outputs)

    def schema(self, data: pa.Schema) -> pa.Schema:
        """Of what is written for data of a schema; raises `SchemaError`, `ConfigError` where it cannot be."""
        self.predictor.check_columns(data)
        check_sparse(self.form, self.keep)
        answer = self.shaper.schema
        _check_kept(self.keep, data, answer)
        return pa.schema([*(data.field(name) for name in self.keep), *answer])

    def columns(self, data: pa.Schema) -> Sequence[str]:
        """What is read, in the order of the data."""
        needed = {*self.predictor.columns, *self.keep}
        return [name for name in data.names if name in needed]

    def answer(self, schema: pa.Schema, piece: tuple[int, pa.RecordBatch]) -> pa.RecordBatch:
        """The rows to be written for a piece."""
        batch = piece[1]
        rows, columns = self.shaper(self.predictor.predict(batch))
        kept = [batch.column(name) if rows is None else batch.column(name).take(pa.array(rows)) for name in self.keep]
        return pa.RecordBatch.from_arrays([*kept, *columns], schema=schema)


def _check_kept(keep: Sequence[str], data: pa.Schema, answer: pa.Schema) -> None:
    for name in keep:
        if name not in data.names:
            raise SchemaError(f"the data has no column {name!r} to keep", hint=nearest_column(name, data.names))
        if name in answer.names:
            hint = "Rename it in the data, or do not keep it."
            raise ConfigError(f"column {name!r} cannot be kept: a column of the predictions has this name", hint=hint)
    if len(set(keep)) < len(keep):
        raise ConfigError(f"a column is to be kept twice: {', '.join(keep)}", hint="Name each column once.")
