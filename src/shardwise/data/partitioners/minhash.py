"""By similarity of texts and sets of words: rows that share most of their words are together.

A row's words (lower case, split where neither letter nor digit is) become a signature of H = 32 numbers: the smallest
hash of any word under each of H hash functions (MinHash; Broder 1997). Two signatures agree in a share of their places
that is about the Jaccard similarity of the sets. A partition is led by a signature; a row goes to the leader with which
it agrees most, the lower number on a tie, and one that agrees with none is placed by the hash of its words. Leaders are
fitted on a sample by k-modes (Huang 1998): the most frequent number in each place of those that follow it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from shardwise.core.errors import SchemaError
from shardwise.data.partitioners.base import Source, check_count, check_key
from shardwise.data.partitioners.similar import draw
from shardwise.stats.arrays import plain
from shardwise.stats.hashes import hash_texts, mix

HASHES = 32
SAMPLE_ROWS = 10_000
ROUNDS = 5
_NO_WORDS = np.uint32(0xFFFFFFFF)
_CHUNK_ROWS = 4_096


class MinHashPartitioner:
    """The leader uint32 `(k, H)` with which a row's signature agrees most; rows without a word go to the last."""

    kind = "minhash"

    def __init__(self, column: str, leaders: np.ndarray, labels: Sequence[str]) -> None:
        self.columns: tuple[str, ...] = (column,)
        self.leaders = np.asarray(leaders, dtype=np.uint32)
        self.labels = list(labels)
        self.count = check_count(len(self.leaders) + 1)

    def assign(self, batch: pa.RecordBatch, first_row: int) -> np.ndarray:  # noqa: ARG002
        """Partition numbers int32 `(rows,)`; raises `SchemaError` when the column is missing."""
        check_key(self.columns, batch.schema.names)
        marks = signatures(plain(batch.column(self.columns[0])))
        numbers = follow(marks, self.leaders)
        numbers[(marks == _NO_WORDS).all(axis=1)] = self.count - 1
        return numbers

    def label(self, number: int) -> str:
        if number == self.count - 1:
            return f"{self.columns[0]} without words"
        return f"{self.columns[0]} {number}: like {self.labels[number]!r}"

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "column": self.columns[0], "leaders": self.leaders.tolist(), "labels": self.labels}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(content["column"], np.array(content["leaders"], dtype=np.uint32), content["labels"])


def signatures(texts: pa.Array) -> np.ndarray:
    """Signatures uint32 `(rows, H)` of texts; all ones for one that is null or has no word."""
    split = pc.split_pattern_regex(pc.utf8_lower(texts), r"[^\p{L}\p{N}]+")
    words = pc.list_flatten(split)
    rows = pc.list_parent_indices(split).to_numpy()
    some = pc.greater(pc.binary_length(words), 0).to_numpy(zero_copy_only=False)
    marks = np.full((len(texts), HASHES), _NO_WORDS, dtype=np.uint32)
    if not some.any():
        return marks
    encoded = words.filter(pa.array(some)).dictionary_encode()
    codes, rows = encoded.indices.to_numpy(), rows[some]
    starts = np.concatenate([[0], np.flatnonzero(rows[1:] != rows[:-1]) + 1])
    hashed = hash_texts(encoded.dictionary)
    for place in range(HASHES):
        values = (mix(hashed, place + 1) >> np.uint64(33)).astype(np.uint32)  # 31 bits: never `_NO_WORDS`
        marks[rows[starts], place] = np.minimum.reduceat(values[codes], starts)
    return marks


def follow(marks: np.ndarray, leaders: np.ndarray) -> np.ndarray:
    """Leader int32 `(rows,)` of each signature."""
    numbers = np.empty(len(marks), dtype=np.int32)
    for start in range(0, len(marks), _CHUNK_ROWS):
        part = marks[start : start + _CHUNK_ROWS]
        agree = np.stack([(part == leader).sum(axis=1) for leader in leaders], axis=1)
        alone = (part[:, 0] % np.uint32(len(leaders))).astype(np.int32)
        numbers[start : start + _CHUNK_ROWS] = np.where(agree.max(axis=1) > 0, agree.argmax(axis=1), alone)
    return numbers


def plan_leaders(source: Source, column: str, count: int) -> MinHashPartitioner:
    """Leaders of `count` - 1 partitions, fitted on a sample (the last one is for rows without words).

    Raises `SchemaError` when the column is no text, or has no word.
    """
    check_key([column], source.schema.names)
    if not pa.types.is_string(source.schema.field(column).type):
        raise SchemaError(f"column {column!r} is {source.schema.field(column).type}, and no text",
                          hint=f"Cluster numbers and categories with similar:{column}.")  # fmt: skip
    texts = draw(source, [column], SAMPLE_ROWS).column(column).combine_chunks()
    marks = signatures(texts)
    known = np.flatnonzero((marks != _NO_WORDS).any(axis=1))
    if not len(known):
        raise SchemaError(f"column {column!r} holds no word", hint="Partition by hash or value.")
    marks = marks[known]
    leaders = _first_leaders(marks, max(1, check_count(count) - 1), source.seed)
    for _ in range(ROUNDS):
        numbers = follow(marks, leaders)
        leaders = np.stack([_modes(marks[numbers == k], leaders[k]) for k in range(len(leaders))])
    agree = [int((marks == leader).sum(axis=1).argmax()) for leader in leaders]
    return MinHashPartitioner(column, leaders, [(texts[int(known[row])].as_py() or "")[:60] for row in agree])


def _first_leaders(marks: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Distinct signatures, each drawn with a chance that grows with its distance to those before (k-means++)."""
    rng = np.random.default_rng(seed)
    distinct = np.unique(marks, axis=0)
    chosen = [int(rng.integers(len(distinct)))]
    far = np.ones(len(distinct))
    while len(chosen) < min(count, len(distinct)):
        far = np.minimum(far, 1.0 - (distinct == distinct[chosen[-1]]).mean(axis=1))
        chosen.append(int(rng.choice(len(distinct), p=far**2 / (far**2).sum())))
    return distinct[chosen]


def _modes(marks: np.ndarray, fallback: np.ndarray) -> np.ndarray:
    """The most frequent number in each place, the smaller one on a tie."""
    if not len(marks):
        return fallback
    modes = np.empty(HASHES, dtype=np.uint32)
    for place in range(HASHES):
        values, counts = np.unique(marks[:, place], return_counts=True)
        modes[place] = values[counts.argmax()]
    return modes
