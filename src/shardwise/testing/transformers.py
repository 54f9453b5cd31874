"""Conformance kit for transformers.

Subclass `TransformerConformance` in a test module and say how to plan a transformer from a profile, and which batches
it may be given:

    class TestNumber(TransformerConformance):
        def plan(self, profile):
            return Number.plan("x", profile.columns["x"])

        def batch(self, rows, seed):
            return pa.record_batch({"x": np.random.default_rng(seed).normal(size=rows)})
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.schema import FeatureKind
from shardwise.core.state import dump_state, load_state
from shardwise.data.profile import Profile
from shardwise.features.base import FOLD, TARGET, Transformer

FOLDS = 3
_ROWS = 600


def labelled(batch: pa.RecordBatch, seed: int = 0) -> pa.RecordBatch:
    """`batch` with a random binary TARGET, of which a few are not known, and folds 0 to 2."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 2, batch.num_rows).astype(np.float64)
    target[rng.random(batch.num_rows) < 0.02] = np.nan
    folds = rng.integers(0, FOLDS, batch.num_rows).astype(np.int8)
    return batch.append_column(TARGET, pa.array(target)).append_column(FOLD, pa.array(folds))


class TransformerConformance(ABC):
    """The laws of `features.base.Transformer`."""

    @abstractmethod
    def plan(self, profile: Profile) -> Any:
        """A transformer planned from the profile of training rows."""

    @abstractmethod
    def batch(self, rows: int, seed: int) -> pa.RecordBatch:
        """A batch of random raw rows, with missing values."""

    @pytest.fixture
    def training(self) -> pa.RecordBatch:
        return labelled(self.batch(_ROWS, 1))

    @pytest.fixture
    def fitted(self, training: pa.RecordBatch) -> Transformer:
        return self.fit(training)

    def fit(self, training: pa.RecordBatch, parts: int = 1) -> Transformer:
        """Planned and fitted, the summaries gathered in so many parts and merged."""
        raw = training.drop_columns([TARGET, FOLD])
        profile = Profile(raw.schema)
        profile.update(raw)
        transformer: Transformer = self.plan(profile)
        merged = transformer.summaries()
        step = -(-training.num_rows // parts)
        for start in range(0, training.num_rows, step):
            for name, summary in transformer.summaries().items():
                summary.update(training.slice(start, step))
                merged[name].merge(summary)
        transformer.fit(merged)
        return transformer

    def encode(
        self, transformer: Transformer, batch: pa.RecordBatch, folds: np.ndarray | None = None, filler: float = 7.0
    ) -> np.ndarray:
        out = np.full((batch.num_rows, len(transformer.output())), filler, dtype=np.float32, order="F")
        transformer.transform(batch, out, folds)
        return out

    def test_features_are_named_once_and_come_from_what_is_read(self, fitted: Transformer) -> None:
        names = [feature.name for feature in fitted.output()]
        assert names
        assert len(set(names)) == len(names)
        assert {feature.source for feature in fitted.output()} <= set(fitted.reads)
        for feature in fitted.output():
            assert feature.scale > 0
            assert np.isfinite([feature.fill, feature.center, feature.scale]).all()

    def test_values_are_what_their_kind_says(self, fitted: Transformer) -> None:
        X = self.encode(fitted, self.batch(_ROWS, 2))
        assert not np.isinf(X).any()
        for feature, column in zip(fitted.output(), X.T, strict=True):
            known = column[~np.isnan(column)]
            if feature.kind in (FeatureKind.FLAG, FeatureKind.ENCODED):
                assert len(known) == len(column)
            if feature.kind is FeatureKind.FLAG:
                assert set(known) <= {0.0, 1.0}
            if feature.kind is FeatureKind.CODE:
                assert set(known) <= set(range(feature.cardinality))

    def test_every_cell_is_written(self, fitted: Transformer, training: pa.RecordBatch) -> None:
        folds = training.column(FOLD).to_numpy()
        for given in (None, folds):
            found = self.encode(fitted, training, given, filler=7.0)
            np.testing.assert_array_equal(found, self.encode(fitted, training, given, filler=-9.0))

    def test_a_row_stands_for_itself(self, fitted: Transformer) -> None:
        batch = self.batch(_ROWS, 3)
        whole = self.encode(fitted, batch)
        order = np.random.default_rng(0).permutation(_ROWS)
        np.testing.assert_array_equal(self.encode(fitted, batch.take(pa.array(order))), whole[order])
        for row in (0, 1, _ROWS - 1):
            np.testing.assert_array_equal(self.encode(fitted, batch.slice(row, 1)), whole[row : row + 1])

    def test_other_columns_have_no_say(self, fitted: Transformer) -> None:
        batch = self.batch(50, 4)
        more = pa.record_batch({"other": pa.array(range(50)), **dict(zip(batch.schema.names, batch.columns))})  # noqa: B905
        np.testing.assert_array_equal(self.encode(fitted, more), self.encode(fitted, batch))

    def test_an_empty_batch_gives_no_rows(self, fitted: Transformer) -> None:
        assert self.encode(fitted, self.batch(0, 5)).shape == (0, len(fitted.output()))

    def test_columns_of_nulls_are_missing_values(self, fitted: Transformer) -> None:
        batch = self.batch(4, 6)
        nulls = pa.record_batch({name: pa.nulls(4) for name in batch.schema.names})
        typed = pa.record_batch({field.name: pa.nulls(4, field.type) for field in batch.schema})
        np.testing.assert_array_equal(self.encode(fitted, nulls), self.encode(fitted, typed))

    def test_dictionary_columns_read_like_plain_ones(self, fitted: Transformer) -> None:
        batch = self.batch(200, 7)
        encoded = pa.record_batch(
            {name: column.dictionary_encode() for name, column in zip(batch.schema.names, batch.columns, strict=True)}
        )
        np.testing.assert_array_equal(self.encode(fitted, encoded), self.encode(fitted, batch))

    def test_parts_that_are_merged_fit_like_the_whole(self, training: pa.RecordBatch) -> None:
        whole, parts = self.fit(training), self.fit(training, parts=5)
        assert [f.name for f in whole.output()] == [f.name for f in parts.output()]
        batch = self.batch(_ROWS, 8)
        np.testing.assert_allclose(self.encode(whole, batch), self.encode(parts, batch), rtol=1e-5)

    def test_a_state_restores_planned_fitted_and_sealed(self, fitted: Transformer, training: pa.RecordBatch) -> None:
        batch = self.batch(_ROWS, 9)
        expected = self.encode(fitted, batch)
        for known in (fitted, fitted.sealed()):
            content = dump_state(known.state())
            restored = type(fitted).from_state(load_state(content))
            assert dump_state(restored.state()) == content
            assert list(restored.output()) == list(fitted.output())
            np.testing.assert_array_equal(self.encode(restored, batch), expected)
        folds = training.column(FOLD).to_numpy()
        again = type(fitted).from_state(load_state(dump_state(fitted.state())))
        np.testing.assert_array_equal(self.encode(again, training, folds), self.encode(fitted, training, folds))

    def test_the_same_rows_give_the_same_bytes(self, training: pa.RecordBatch) -> None:
        assert dump_state(self.fit(training).state()) == dump_state(self.fit(training).state())
