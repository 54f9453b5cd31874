"""Every transformer passes the kit."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from shardwise.features.category import Category
from shardwise.features.columns import RecipeConfig
from shardwise.features.dates import Calendar
from shardwise.features.encoding import TargetEncoding
from shardwise.features.numeric import Number
from shardwise.features.target_sums import Labels, TargetSums, Visibility
from shardwise.features.text import GramSums, Text
from shardwise.testing.summaries import SummaryConformance
from shardwise.testing.transformers import TransformerConformance, labelled

K_FOLD = Visibility({-1: (0, 1, 2), 0: (1, 2), 1: (0, 2), 2: (0, 1)})
BINARY = Labels((1,), ("target",))
THREE = Labels((0, 1, 2), ("target=a", "target=b", "target=c"))
MEAN = Labels((), ("target",))
WORDS = ["good", "bad", "really", "not", "café", "naïve", "😀", "the", "a", "2024"]


def with_nulls(values, seed, kind=None):
    mask = np.random.default_rng(seed + 100).random(len(values)) < 0.1
    return pa.array([None if missing else value for value, missing in zip(values, mask, strict=True)], kind)


def strings(rows, seed, kinds=30):
    drawn = np.random.default_rng(seed).geometric(2 / kinds, rows)
    return pa.record_batch({"x": with_nulls([f"v{value}" for value in drawn], seed, pa.string())})


class TestNumber(TransformerConformance):
    def plan(self, profile):
        return Number.plan("x", profile.columns["x"])

    def batch(self, rows, seed):
        values = np.random.default_rng(seed).normal(size=rows)
        values[::50] = np.inf
        return pa.record_batch({"x": with_nulls(values.tolist(), seed, pa.float64())})


class TestNumbersAsText(TransformerConformance):
    def plan(self, profile):
        return Number.plan("x", profile.columns["x"])

    def batch(self, rows, seed):
        values = np.random.default_rng(seed).normal(size=rows).round(2)
        return pa.record_batch({"x": with_nulls([str(value) for value in values], seed, pa.string())})


class TestCategory(TransformerConformance):
    def plan(self, profile):
        return Category.plan("x", profile.columns["x"], RecipeConfig())

    def batch(self, rows, seed):
        return strings(rows, seed)


class TestCodes(TransformerConformance):
    def plan(self, profile):
        return Category.plan("x", profile.columns["x"], RecipeConfig(max_categories=5))

    def batch(self, rows, seed):
        return pa.record_batch(
            {"x": with_nulls(np.random.default_rng(seed).integers(0, 12, rows).tolist(), seed, pa.int32())}
        )


class TestTargetEncoding(TransformerConformance):
    labels = BINARY

    def plan(self, profile):
        return TargetEncoding.plan("x", numeric=False, visibility=K_FOLD, labels=self.labels, smoothing=None, cap=1000)

    def batch(self, rows, seed):
        return strings(rows, seed)


class TestTargetEncodingOfClasses(TestTargetEncoding):
    labels = THREE


class TestTimestamps(TransformerConformance):
    zone: str | None = None

    def plan(self, profile):
        return Calendar.plan("x", profile.columns["x"])

    def batch(self, rows, seed):
        seconds = np.random.default_rng(seed).integers(1_600_000_000, 1_700_000_000, rows)
        return pa.record_batch({"x": with_nulls(seconds.tolist(), seed, pa.timestamp("s", tz=self.zone))})


class TestZonedTimestamps(TestTimestamps):
    zone = "America/New_York"


class TestDatesAsText(TestTimestamps):
    def batch(self, rows, seed):
        days = np.random.default_rng(seed).integers(18_000, 20_000, rows)
        texts = [(dt.date(1970, 1, 1) + dt.timedelta(days=int(day))).strftime("%d/%m/%Y") for day in days]
        return pa.record_batch({"x": with_nulls(texts, seed, pa.string())})


class TestTimesOfDay(TestTimestamps):
    def batch(self, rows, seed):
        ticks = np.random.default_rng(seed).integers(0, 86_400_000, rows)
        return pa.record_batch({"x": with_nulls(ticks.tolist(), seed, pa.time32("ms"))})


def sentences(rows, seed):
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(0, 12))) for _ in range(rows)]
    return pa.record_batch({"x": with_nulls(texts, seed, pa.string())})


class TestText(TransformerConformance):
    labels = BINARY

    def plan(self, profile):
        return Text.plan("x", visibility=K_FOLD, labels=self.labels, buckets=1024, columns=8)

    def batch(self, rows, seed):
        return sentences(rows, seed)


class TestTextForMeans(TestText):
    labels = MEAN


class TestTargetSums(SummaryConformance):
    def make(self):
        return TargetSums("x", numeric=False, visibility=K_FOLD, labels=THREE, cap=1000)

    def batch(self, rows, seed):
        return labelled(strings(rows, seed), seed)

    def check_agree(self, found, whole):
        assert found.values.to_pylist() == whole.values.to_pylist()
        np.testing.assert_allclose(found.sums, whole.sums)
        np.testing.assert_allclose(found.total, whole.total)
        np.testing.assert_allclose(found.squares, whole.squares)


class TestGramSums(SummaryConformance):
    def make(self):
        return GramSums("x", buckets=256, visibility=K_FOLD, labels=MEAN)

    def batch(self, rows, seed):
        return labelled(sentences(min(rows, 200), seed), seed)

    def check_agree(self, found, whole):
        np.testing.assert_allclose(found[0], whole[0])
        np.testing.assert_allclose(found[1], whole[1])


@pytest.mark.parametrize("distinct", [100, 5000])
def test_target_sums_keep_the_heaviest_within_a_bounded_memory(distinct):
    rng = np.random.default_rng(0)
    summary = TargetSums("x", numeric=False, visibility=K_FOLD, labels=BINARY, cap=50)
    for seed in range(20):
        values = np.minimum(rng.zipf(1.3, 5000), distinct)
        summary.update(labelled(pa.record_batch({"x": pa.array([f"v{value}" for value in values])}), seed))
    summary._compact()
    assert len(summary.result().values) == 50
    assert len(summary._values) <= max(100, distinct)
    assert {"v1", "v2", "v3"} <= set(summary.result().values.to_pylist()[:4])
