"""By similarity: rows that are alike are together. Clusters of numbers and categories by mini-batch k-means.

Notation: D features, k clusters. A number is (x - mean) / std of the sample, cut to [-4, 4], 0 where it is missing; a
category is one of its 16 most frequent values, a vector of 0 and 1 / sqrt(2), so that two different ones are 1 apart.
Clusters are fitted on a sample (Sculley 2010, scikit-learn's MiniBatchKMeans); each row goes to the nearest centre.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.cluster import MiniBatchKMeans

from shardwise.core.errors import SchemaError
from shardwise.core.target import canonical
from shardwise.data.partitioners.base import Source, check_count, check_key
from shardwise.data.sample import RowSample
from shardwise.stats.arrays import as_floats, plain
from shardwise.stats.hashes import mix

SAMPLE_ROWS = 50_000
TOP_VALUES = 16
CLIP = 4.0
_APART = 0.5**0.5
_CHUNK_ROWS = 8_192


class SimilarPartitioner:
    """Nearest of the `centres` float64 `(k, D)`; `encoders` say how the columns become D features.

    An encoder is `{"column", "mean", "std"}` of a number or `{"column", "values"}` of a category.
    """

    kind = "similar"

    def __init__(self, encoders: Sequence[Mapping[str, Any]], centres: Sequence[Sequence[float]]) -> None:
        self.encoders = [dict(encoder) for encoder in encoders]
        self.columns = tuple(encoder["column"] for encoder in self.encoders)
        self.centres = np.asarray(centres, dtype=np.float64)
        self.count = check_count(len(self.centres))

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:  # noqa: ARG002
        """Partition numbers int32 `(rows,)`; raises `SchemaError` when a column is missing."""
        check_key(self.columns, batch.schema.names)
        rows = encode(batch, self.encoders)
        lengths = (self.centres**2).sum(axis=1) / 2
        numbers = np.empty(len(rows), dtype=np.int32)
        for start in range(0, len(rows), _CHUNK_ROWS):
            # not by BLAS, which sums in an order that depends on the number of rows
            near = np.einsum("rd,kd->rk", rows[start : start + _CHUNK_ROWS], self.centres, optimize=False) - lengths
            numbers[start : start + _CHUNK_ROWS] = near.argmax(axis=1)
        return numbers

    def label(self, number: int) -> str:
        """The features of the centre that stand out most."""
        names = feature_names(self.encoders)
        centre = self.centres[number]
        most = sorted(range(len(names)), key=lambda feature: (-abs(centre[feature]), feature))[:3]
        return f"cluster {number}: " + ", ".join(f"{names[feature]} {centre[feature]:+.2g}" for feature in most)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "encoders": self.encoders, "centres": self.centres.tolist()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["encoders"], content["centres"])


def encode(batch: pa.RecordBatch | pa.Table, encoders: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Features float64 `(rows, D)`."""
    parts = []
    for encoder in encoders:
        column = plain(batch.column(encoder["column"]))
        if "values" in encoder:
            codes = pc.fill_null(pc.index_in(canonical(column), value_set=pa.array(encoder["values"], pa.string())), -1)
            parts.append((codes.to_numpy()[:, None] == np.arange(len(encoder["values"]))) * _APART)
        else:
            scaled = (as_floats(column) - encoder["mean"]) / encoder["std"]
            parts.append(np.clip(np.nan_to_num(scaled, posinf=CLIP, neginf=-CLIP), -CLIP, CLIP)[:, None])
    return np.concatenate(parts, axis=1) if parts else np.zeros((batch.num_rows, 0))


def feature_names(encoders: Sequence[Mapping[str, Any]]) -> list[str]:
    """A name for each of the D features."""
    return [
        f"{encoder['column']}={value}" if value is not None else encoder["column"]
        for encoder in encoders
        for value in encoder.get("values", [None])
    ]


def draw(source: Source, columns: Sequence[str], rows: int) -> pa.Table:
    """A uniform sample of `columns`, in a fixed order that depends on the row numbers and the seed alone."""
    schema = pa.schema([source.schema.field(name) for name in source.schema.names if name in set(columns)])
    sample = RowSample(schema, capacity=rows)
    for first_row, batch in source.scan(columns):
        numbers = np.arange(first_row, first_row + batch.num_rows, dtype=np.uint64)
        sample.add(pa.RecordBatch.from_arrays(batch.columns, schema=schema), mix(numbers, source.seed))
    return sample.table()


def plan_clusters(source: Source, columns: Sequence[str], count: int) -> SimilarPartitioner:
    """Fit `count` clusters on a sample of `columns` (`*`: all that are numbers, dates or categories).

    Clusters that stay empty are left out. Raises `SchemaError` when no column can be encoded.
    """
    named = source.schema.names if list(columns) == ["*"] else list(columns)
    check_key(named, source.schema.names)
    sample = draw(source, named, SAMPLE_ROWS)
    encoders = [encoder for name in named if (encoder := _encoder(name, sample.column(name).combine_chunks()))]
    if not encoders:
        raise SchemaError(f"no column of {', '.join(named)} varies", hint="Name columns of numbers or categories.")
    rows = encode(sample, encoders)
    distinct = np.unique(rows, axis=0)
    clusters = min(check_count(count), len(distinct))
    model = MiniBatchKMeans(clusters, random_state=source.seed, n_init=3, batch_size=4096).fit(rows)
    used = np.unique(model.predict(rows))
    return SimilarPartitioner(encoders, np.round(model.cluster_centers_[used], 9).tolist())


def _encoder(name: str, column: pa.Array) -> dict[str, Any] | None:
    """How a column becomes features; None for one that is constant."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_boolean(kind):
        counted = canonical(column).drop_null().value_counts().to_pylist()
        ordered = sorted(counted, key=lambda pair: (-pair["counts"], pair["values"]))[:TOP_VALUES]
        return {"column": name, "values": [pair["values"] for pair in ordered]} if len(counted) > 1 else None
    numbers = as_floats(column)
    known = numbers[np.isfinite(numbers)]
    std = float(known.std()) if len(known) else 0.0
    return {"column": name, "mean": float(known.mean()), "std": std} if std > 0 else None
