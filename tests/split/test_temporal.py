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
    values = time_values(batch.column("when"))
    return temporal_cuts(lambda ranks: np.quantile(values[~np.isnan(values)], ranks), **options)


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


def test_text_that_is_no_time_is_refused() -> None:
    with pytest.raises(DataError, match="ISO 8601"):
        time_values(pa.array(["soon", "later"]))
    with pytest.raises(DataError, match="ISO 8601"):
        time_values(pa.array(["2020-13-45"]))


def test_cuts_at_ties_stay_distinct() -> None:
    values = np.repeat([1.0, 2.0, 3.0], [50, 5, 45])
    cuts = temporal_cuts(lambda ranks: np.quantile(values, ranks, method="lower"), folds=[1] * 4)
    assert all(np.diff(cuts) > 0)
    batch = pa.record_batch({"t": values})
    assert set(TemporalSplitter("t", cuts).assign(batch, 0).tolist()) == {TEST, *range(len(cuts))}


def test_too_few_times_are_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        temporal_cuts(lambda ranks: np.quantile(np.array([1.0, 1.0, 2.0]), ranks, method="lower"))
    for cuts in ([1.0], [2.0, 1.0], [1.0, float("nan")], range(101)):
        with pytest.raises(ConfigError):
            TemporalSplitter("t", list(cuts))


def test_a_missing_time_column_is_named() -> None:
    with pytest.raises(SchemaError, match="'when'"):
        TemporalSplitter("when", [1, 2]).assign(pa.record_batch({"t": [1]}), 0)
