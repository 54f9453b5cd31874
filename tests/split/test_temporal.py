"""Splits by time: training lies before validation, validation before the test."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import ConfigError, DataError, SchemaError
from shardwise.split.base import TEST, Fold, Splitter
from shardwise.split.temporal import TemporalSplitter, temporal_cuts, time_values
from shardwise.testing.splitters import SplitterContract

DAY = 86_400.0


def days(rows: int = 300) -> pa.RecordBatch:
    start = dt.date(2020, 1, 1)
    order = np.random.default_rng(1).permutation(rows)
    dates = pa.array([None if i % 50 == 0 else start + dt.timedelta(days=int(i)) for i in order])
    return pa.record_batch({"when": dates, "x": order})


def cuts_of(batch: pa.RecordBatch, **options) -> tuple[float, ...]:
    values = np.sort(time_values(batch.column("when")))
    values = values[~np.isnan(values)]
    return temporal_cuts(values, np.ones(len(values)), **options)


class TestTemporal(SplitterContract):
    def splitter(self) -> Splitter:
        return TemporalSplitter("when", cuts_of(days()))

    def batch(self) -> pa.RecordBatch:
        return days()


def test_time_runs_forward() -> None:
    batch = days()
    splitter = TemporalSplitter("when", cuts_of(batch, folds=[1] * 4, test_share=0.2))
    folds, when = splitter.assign(batch, 0), time_values(batch.column("when"))
    blocks = np.where(folds == TEST, 4, folds)
    known = ~np.isnan(when)
    latest = [when[known & (blocks == block)].max() for block in range(5)]
    earliest = [when[known & (blocks == block)].min() for block in range(5)]
    assert all(late < early for late, early in zip(latest[:-1], earliest[1:], strict=True))
    assert (folds[~known] == 0).all()
    assert abs((folds == TEST).mean() - 0.2) < 0.02


def test_forward_chaining() -> None:
    splitter = TemporalSplitter("t", [10, 20, 30])
    assert splitter.folds() == (Fold(train=(0,), valid=(1,)), Fold(train=(0, 1), valid=(2,)))
    assert [splitter.visible(fold) for fold in (0, 1, 2, TEST)] == [(), (0,), (0, 1), (0, 1, 2)]
    batch = pa.record_batch({"t": [9, 10, 19, 20, 29, 30, 99]})
    assert splitter.assign(batch, 0).tolist() == [0, 1, 1, 2, 2, TEST, TEST]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["2020-01-02", "2020-01-03", None]),
        pa.array(["2020-01-02T00:00:00Z", "2020-01-03 01:00:00+01:00", "yesterday"]),
        pa.array([dt.date(2020, 1, 2), dt.date(2020, 1, 3), None]),
        pa.array([dt.datetime(2020, 1, 2), dt.datetime(2020, 1, 3), None], pa.timestamp("ns")),
        pa.array([dt.datetime(2020, 1, 2), dt.datetime(2020, 1, 3), None], pa.timestamp("s", "Asia/Tokyo")),
        pa.array([18263 * DAY, 18264 * DAY, float("nan")]),
        pa.array(["2020-01-02", "2020-01-03", None]).dictionary_encode(),
        pa.chunked_array([pa.array(["2020-01-02"]), pa.array(["2020-01-03", None])]),
    ],
)
def test_times_are_seconds_in_any_type(column) -> None:
    assert time_values(column)[:2].tolist() == [18263 * DAY, 18264 * DAY]
    assert np.isnan(time_values(column)[2])


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2024-01-31 10:00:00,123", dt.datetime(2024, 1, 31, 10, 0, 0, 123_000)),  # as Python's logging writes it
        ("2024-01-31T10:00:00,1234567Z", dt.datetime(2024, 1, 31, 10, 0, 0, 123_456)),
        ("2024-01-31Z", dt.datetime(2024, 1, 31)),
        ("2024-01-31+02:00", dt.datetime(2024, 1, 30, 22)),
        ("2024-01-31 10:00:00 +0200", dt.datetime(2024, 1, 31, 8)),
        ("2024-01-31 10:00:00.5-03", dt.datetime(2024, 1, 31, 13, 0, 0, 500_000)),  # as PostgreSQL writes it
        ("2024-01-31-05", None),
        ("2024-01", None),
    ],
)
def test_iso_8601_in_its_spellings(text: str, utc: dt.datetime | None) -> None:
    (found, _) = time_values(pa.array([text, "2020-01-01"]))
    expected = np.nan if utc is None else utc.replace(tzinfo=dt.UTC).timestamp()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_a_part_of_a_column_may_hold_no_time() -> None:
    assert np.isnan(time_values(pa.array(["unknown", "?"]), part=True)).all()
    batch = pa.record_batch({"t": ["unknown", "?"]})
    assert TemporalSplitter("t", [1, 2]).assign(batch, 0).tolist() == [0, 0]


def test_text_that_is_no_time_is_refused() -> None:
    with pytest.raises(DataError, match="ISO 8601"):
        time_values(pa.array(["soon", "later"]))
    with pytest.raises(DataError, match="ISO 8601"):
        time_values(pa.array(["2020-13-45"]))


def test_cuts_at_ties_stay_distinct() -> None:
    values = np.repeat([1.0, 2.0, 3.0], [50, 5, 45])
    cuts = temporal_cuts(values, np.ones(len(values)), folds=[1] * 4)
    assert all(np.diff(cuts) > 0)
    batch = pa.record_batch({"t": values})
    assert set(TemporalSplitter("t", cuts).assign(batch, 0).tolist()) == {TEST, *range(len(cuts))}


def test_cuts_are_times_that_occur_at_the_ranks_that_are_wanted() -> None:
    rng = np.random.default_rng(0)
    values = np.sort(rng.choice(rng.normal(size=400), 3000))
    cuts = temporal_cuts(values, np.ones(len(values)), folds=[1, 2, 1], test_share=0.1)
    assert set(cuts) <= set(values)
    assert [(values < cut).mean() for cut in cuts] == pytest.approx([0.225, 0.675, 0.9], abs=0.01)
    kept, weights = values[8::16], np.full(len(values[8::16]), 16.0)  # as a sketch keeps them
    about = temporal_cuts(kept, weights, folds=[1, 2, 1], test_share=0.1)
    assert [(values < cut).mean() for cut in about] == pytest.approx([0.225, 0.675, 0.9], abs=0.01)


def test_a_block_of_far_fewer_rows_than_wanted_is_one_with_that_before_it() -> None:
    values = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], [400, 5, 195, 200, 200])
    assert temporal_cuts(values, np.ones(1000), folds=[1] * 4, test_share=0.2) == (2.0, 4.0, 5.0)


def test_too_few_times_are_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        temporal_cuts(np.array([1.0, 1.0, 2.0]), np.ones(3))
    with pytest.raises(DataError, match="too few"):
        temporal_cuts(np.empty(0), np.empty(0))
    for cuts in ([1.0], [2.0, 1.0], [1.0, float("nan")], range(101)):
        with pytest.raises(ConfigError):
            TemporalSplitter("t", list(cuts))


def test_a_missing_time_column_is_named() -> None:
    with pytest.raises(SchemaError, match="'when'"):
        TemporalSplitter("when", [1, 2]).assign(pa.record_batch({"t": [1]}), 0)
