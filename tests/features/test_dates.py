import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.features.tables import column_of

from shardwise.core.errors import RejectColumn, SchemaError
from shardwise.features.dates import Calendar, civil, read_instants, read_times

TWO_YEARS = [dt.datetime(2022, 1, 1) + dt.timedelta(hours=31 * i, minutes=13 * i) for i in range(500)]


def encode(training, new=None):
    calendar = Calendar.plan("x", column_of(training))
    batch = pa.record_batch({"x": training if new is None else new})
    out = np.empty((batch.num_rows, len(calendar.output())), np.float32, order="F")
    calendar.transform(batch, out)
    names = [feature.name.removeprefix("x:") for feature in calendar.output()]
    return dict(zip(names, out.T, strict=True))


@given(st.lists(st.dates(), min_size=1, max_size=30))
def test_the_calendar_is_pythons(dates):
    year, month, day, day_of_year = civil(np.array([(date - dt.date(1970, 1, 1)).days for date in dates]))
    assert year.tolist() == [date.year for date in dates]
    assert month.tolist() == [date.month for date in dates]
    assert day.tolist() == [date.day for date in dates]
    assert day_of_year.tolist() == [date.timetuple().tm_yday for date in dates]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Kolkata", "America/New_York"])
def test_parts_are_those_on_the_clocks_of_the_zone(unit, zone):
    moments = [moment.replace(second=0, microsecond=0, tzinfo=dt.UTC if zone else None) for moment in TWO_YEARS]
    local = [moment.astimezone(ZoneInfo(zone)) if zone else moment for moment in moments]
    parts = encode(pa.array(moments, pa.timestamp(unit, tz=zone)))
    assert parts["year"].tolist() == [moment.year for moment in local]
    assert parts["month"].tolist() == [moment.month for moment in local]
    assert parts["weekday"].tolist() == [moment.weekday() for moment in local]
    np.testing.assert_allclose(parts["hour"], [moment.hour + moment.minute / 60 for moment in local], rtol=1e-6)
    assert parts["weekend"].tolist() == [float(moment.weekday() >= 5) for moment in local]
    elapsed = [(moment - moments[0]).total_seconds() / 86_400 for moment in moments]
    np.testing.assert_allclose(parts["elapsed_days"], elapsed, atol=1e-3)
    angle = [2 * np.pi * (moment.month - 1) / 12 for moment in local]
    np.testing.assert_allclose(parts["month_sin"], np.sin(angle), atol=1e-6)


NAIVE = pa.array(TWO_YEARS, pa.timestamp("us"))


@pytest.mark.parametrize(
    "given",
    [
        NAIVE.cast(pa.timestamp("ns")),
        NAIVE.cast(pa.timestamp("us", tz="UTC")),
        NAIVE.cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("ms", tz="Asia/Tokyo"), safe=False),
        NAIVE.dictionary_encode(),
        pa.array([moment.isoformat() for moment in TWO_YEARS]),
        pa.array([moment.isoformat(sep=" ") for moment in TWO_YEARS], pa.large_string()),
        pa.array([f"{moment.isoformat()}Z" for moment in TWO_YEARS]),
        pa.array([f"{moment.isoformat()}+00:00" for moment in TWO_YEARS]).dictionary_encode(),
    ],
)
def test_the_same_instants_in_other_types_give_the_same_parts(given):
    expected, found = encode(NAIVE), encode(NAIVE, given)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d-%b-%Y", "%Y/%m/%d"])
def test_dates_as_text_are_read_in_their_format_and_later_as_dates_too(form):
    days = [moment.date() for moment in TWO_YEARS]
    texts = pa.array([day.strftime(form) for day in days])
    expected = encode(pa.array(days))
    assert "hour" not in expected
    for new in (texts, pa.array(days), pa.array(days).cast(pa.timestamp("s"))):
        found = encode(texts, new)
        assert list(found) == list(expected)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values)


def test_times_of_day_have_hours_only():
    training = pa.array([dt.time(hour, 30) for hour in range(24)])
    parts = encode(training)
    assert list(parts) == ["hour", "hour_sin", "hour_cos"]
    np.testing.assert_array_equal(parts["hour"], np.arange(24) + 0.5)
    np.testing.assert_array_equal(encode(training, pa.array(["06:00:00"]))["hour"], [6.0])


def test_parts_that_do_not_vary_are_left_out():
    one_day = pa.array([dt.datetime(2024, 5, 6, hour) for hour in range(24)])
    assert list(encode(one_day)) == ["hour", "elapsed_days", "hour_sin", "hour_cos"]
    with pytest.raises(RejectColumn):
        encode(pa.array([dt.datetime(2024, 5, 6)] * 5))


def test_missing_is_nan_and_no_weekend():
    parts = encode(NAIVE, pa.array([None, ""]))
    assert parts.pop("weekend").tolist() == [0.0, 0.0]
    assert all(np.isnan(values).all() for values in parts.values())


def test_dates_far_from_the_training_rows_are_read():
    parts = encode(NAIVE, pa.array(["1600-02-29", "2400-12-31"]))
    assert parts["year"].tolist() == [1600, 2400]
    assert parts["day_of_year"].tolist() == [60, 366]


@pytest.mark.parametrize("text", ["yesterday", "2024-13-01", "31/31/2024"])
def test_text_that_is_no_date_is_an_error_that_quotes_it(text):
    with pytest.raises(SchemaError, match=f"column 'at' holds '{text}'"):
        read_instants(pa.array(["2024-01-31", text]), "at")
    with pytest.raises(SchemaError, match=f"column 'at' holds '{text}'"):
        read_instants(pa.array(["31/01/2024", text]), "at", "%d/%m/%Y")
    with pytest.raises(SchemaError, match=f"column 'at' holds '{text}'"):
        read_times(pa.array(["17:30:00", text]), "at")


MIXED = {
    "31/01/2024": dt.datetime(2024, 1, 31),
    "2024-02-01": dt.datetime(2024, 2, 1),
    " 2024-02-01 10:00:00": dt.datetime(2024, 2, 1, 10),
    "2024-02-01T10:00:00+02:00": dt.datetime(2024, 2, 1, 8),
    "2024-02-01 10:00Z": dt.datetime(2024, 2, 1, 10),
    "1600-02-29": dt.datetime(1600, 2, 29),
    "2024-02-01T10:00:00.123456789": dt.datetime(2024, 2, 1, 10, 0, 0, 123456),
    "": None,
}


def test_each_cell_is_read_by_itself_whatever_the_others_are():
    texts = pa.array([*MIXED, None])
    expected = pa.array([*MIXED.values(), None], pa.timestamp("us")).cast(pa.int64())
    assert read_instants(texts, "at", "%d/%m/%Y").to_pylist() == expected.to_pylist()
    for text, one in zip(texts, expected, strict=True):
        assert read_instants(pa.array([text.as_py()], pa.string()), "at", "%d/%m/%Y").to_pylist() == [one.as_py()]
    assert read_instants(texts.slice(1), "at").to_pylist() == expected.slice(1).to_pylist()
    for other in ("2024-02-01T10:00:00Z", "31/01/2024"):
        with pytest.raises(SchemaError, match="column 'at' holds 'soon'"):
            read_instants(pa.array(["2024-02-01", other, "soon"]), "at", "%d/%m/%Y")


def test_a_type_that_holds_no_dates_is_an_error():
    with pytest.raises(SchemaError, match="dates or timestamps were expected"):
        read_instants(pa.array([20240131]), "at")
