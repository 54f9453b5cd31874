import datetime as dt
import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rich.console import Console
from scipy import stats

from shardwise.core.errors import DataError, SchemaError
from shardwise.core.state import dump_state, load_state
from shardwise.data.association import association
from shardwise.data.profile import Profile
from shardwise.data.profile_view import associations, render_profile
from shardwise.testing.summaries import SummaryConformance

SCHEMA = pa.schema(
    {
        "number": pa.float64(),
        "single": pa.float32(),
        "whole": pa.int64(),
        "small": pa.uint8(),
        "flag": pa.bool_(),
        "city": pa.string(),
        "name": pa.dictionary(pa.int32(), pa.string()),
        "day": pa.date32(),
        "moment": pa.timestamp("ns", tz="UTC"),
        "clock": pa.time64("us"),
        "price": pa.decimal128(12, 2),
        "nothing": pa.null(),
    }
)


def random_batch(rows: int, seed: int) -> pa.RecordBatch:
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=rows)
    numbers[rng.random(rows) < 0.05] = np.nan
    numbers[rng.random(rows) < 0.02] = np.inf
    numbers[rng.random(rows) < 0.1] = -0.0
    seconds = rng.integers(10**9, 10**9 + 10**7, rows)
    columns = [
        pa.array(numbers, mask=rng.random(rows) < 0.05),
        pa.array(rng.gamma(2.0, size=rows).astype(np.float32)),
        pa.array(rng.integers(-100, 100, rows), mask=rng.random(rows) < 0.1),
        pa.array(rng.integers(0, 3, rows).astype(np.uint8)),
        pa.array(rng.random(rows) < 0.3, mask=rng.random(rows) < 0.1),
        texts(rng.integers(0, 30, rows), mask=rng.random(rows) < 0.1),
        texts(rng.integers(0, 8000, rows)).dictionary_encode(),
        pa.array((seconds // 86_400).astype(np.int32)).view(pa.date32()),
        pa.array(seconds * 10**9 + 7).view(pa.timestamp("ns", tz="UTC")),
        pa.array(seconds % 86_400 * 10**6).view(pa.time64("us")),
        hundredths(rng.integers(-1000, 1000, rows)),
        pa.nulls(rows),
    ]
    return pa.record_batch(columns, schema=SCHEMA)


def texts(codes: np.ndarray, mask: np.ndarray | None = None) -> pa.Array:
    return pc.binary_join_element_wise("name", pa.array(codes, mask=mask).cast(pa.string()), "no ")


def hundredths(values: np.ndarray) -> pa.Array:
    words = np.stack([values, values >> 63], axis=1)
    return pa.Array.from_buffers(pa.decimal128(12, 2), len(values), [None, pa.py_buffer(words.tobytes())])


def profile_of(data: pa.RecordBatch | pa.Table, batch_rows: int = 1000, **options) -> Profile:
    profile = Profile(data.schema, **options)
    table = pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else data.combine_chunks()
    for batch in table.to_batches(max_chunksize=batch_rows):
        profile.update(batch)
    return profile


def column_of(cells, kind=None, batch_rows: int = 1000):
    return profile_of(pa.record_batch({"x": pa.array(cells, kind)}), batch_rows).columns["x"]


class TestConformance(SummaryConformance):
    def make(self):
        return Profile(SCHEMA, sample_rows=500)

    def batch(self, rows, seed):
        return random_batch(rows, seed)

    def check_agree(self, found, whole):
        assert found.rows == whole.rows
        assert found.duplicate_rows == whole.duplicate_rows
        assert found.sample().num_rows == whole.sample().num_rows == min(500, whole.rows)
        for one, other in zip(found.to_json()["columns"], whole.to_json()["columns"], strict=True):
            for key, value in other.items():
                if key in ("top", "top_error") and not other["top_exact"]:
                    continue  # within rows / capacity, as the tests of `Counts` hold
                if key == "quantiles":
                    assert np.ptp(one[key] + value) == 0 or len(one[key]) == len(value)
                elif isinstance(value, float):
                    assert one[key] == pytest.approx(value, rel=1e-6, abs=1e-9), key
                else:
                    assert one[key] == value, key


@pytest.fixture(scope="module")
def batch():
    return random_batch(5000, 1)


@pytest.fixture(scope="module")
def profile(batch):
    return profile_of(batch)


@pytest.mark.parametrize("name", ["number", "single", "whole", "small"])
def test_numbers_agree_with_pandas_and_scipy(profile, batch, name):
    column, cells = profile.columns[name], batch[name].to_pandas()
    finite = cells[np.isfinite(cells.astype(float))].astype(float)
    assert column.nulls == cells.isna().sum()
    assert column.infinities == np.isinf(cells.astype(float)).sum()
    assert (column.zeros, column.negatives) == ((finite == 0).sum(), (finite < 0).sum())
    assert (column.minimum, column.maximum) == (finite.min(), finite.max())
    assert column.mean == pytest.approx(finite.mean())
    assert column.std == pytest.approx(finite.std())
    assert column.skewness == pytest.approx(stats.skew(finite))
    assert column.kurtosis == pytest.approx(stats.kurtosis(finite))
    ranks = np.linspace(0, 1, 21)
    below = np.searchsorted(np.sort(finite), column.quantiles(ranks), "left") / len(finite)
    upto = np.searchsorted(np.sort(finite), column.quantiles(ranks), "right") / len(finite)
    assert (np.maximum(below - ranks, ranks - upto) < 0.01).all()
    assert column.distinct == finite.nunique()


@pytest.mark.parametrize("name", ["city", "whole", "small", "flag", "price"])
def test_counts_agree_with_pandas(profile, batch, name):
    column = profile.columns[name]
    counts = batch[name].to_pandas().value_counts()
    assert column.top_exact
    assert sorted(count for _, count in column.top) == sorted(counts.tolist())
    assert column.top == sorted(column.top, key=lambda pair: (-pair[1], pair[0]))
    assert dict(column.top)[str(counts.index[0]).lower().removesuffix(".0")] == counts.iloc[0] or name == "price"


def test_times_have_python_values_and_seconds(profile, batch):
    for name in ("day", "moment", "clock"):
        column, cells = profile.columns[name], batch[name].to_pandas()
        assert str(column.minimum)[:19] == str(cells.min())[:19]
        assert column.quantiles(np.array([1.0]))[0] == pytest.approx(seconds_of(column.maximum), abs=1e-3)
        assert column.minimum <= column.maximum
    assert profile.columns["moment"].is_time_like
    assert isinstance(profile.columns["day"].minimum, dt.date)


def seconds_of(value) -> float:
    if isinstance(value, dt.time):
        return value.hour * 3600 + value.minute * 60 + value.second
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day)
    return value.replace(tzinfo=dt.UTC).timestamp()


def test_decimals_keep_their_type(profile, batch):
    cells = batch["price"].to_pylist()
    column = profile.columns["price"]
    assert (column.minimum, column.maximum) == (min(cells), max(cells))
    assert column.mean == pytest.approx(float(np.mean(cells)))


def test_a_column_of_nulls(profile):
    column = profile.columns["nothing"]
    assert (column.count, column.nulls, column.present, column.distinct) == (5000, 5000, 0, 0)
    assert column.flags == ("all_missing",)
    assert column.minimum is None
    assert np.isnan(column.mean)


def test_json_is_strict_and_stable(profile):
    text = json.dumps(profile.to_json(), allow_nan=False)
    assert text == json.dumps(Profile.from_state(load_state(dump_state(profile.state()))).to_json(), allow_nan=False)
    empty = json.dumps(Profile(SCHEMA).to_json(), allow_nan=False)
    assert [column["name"] for column in json.loads(empty)["columns"]] == SCHEMA.names


def test_the_order_of_columns_has_no_say_in_row_statistics(batch):
    turned = profile_of(batch.select(SCHEMA.names[::-1]))
    assert turned.duplicate_rows == profile_of(batch).duplicate_rows
    rows = {tuple(sorted(row.items(), key=lambda item: item[0])) for row in map(stringed, turned.sample().to_pylist())}
    assert rows == {tuple(sorted(row.items())) for row in map(stringed, profile_of(batch).sample().to_pylist())}


def stringed(row: dict) -> dict:
    return {name: str(value) for name, value in row.items()}


def test_duplicate_rows():
    whole = pa.table({"a": [1, 1, 2, 1, None, None], "b": ["x", "x", "x", "y", None, None]})
    assert profile_of(whole).duplicate_rows == 2
    assert profile_of(pa.table({"a": np.arange(100_000)}), 50_000).duplicate_rows == 0.0
    halved = pa.table({"a": np.arange(100_000) // 2})
    assert profile_of(halved, 30_000).duplicate_rows == pytest.approx(50_000, rel=0.03)


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.5), (0.9, 0.1), (0.7, 0.2, 0.1)])
def test_the_sample_is_uniform_whatever_the_partitions(shares):
    rows, wanted = 40_000, 2000
    table = pa.table({"row": np.arange(rows), "same": np.zeros(rows)})
    merged = Profile(table.schema, sample_rows=wanted)
    start = 0
    for share in shares:
        size = round(rows * share)
        part = Profile(table.schema, sample_rows=wanted, share=share)
        for batch in table.slice(start, size).combine_chunks().to_batches(max_chunksize=3000):
            part.update(batch)
        merged.merge(Profile.from_state(load_state(dump_state(part.state()))))
        start += size
    drawn = merged.sample()["row"].to_numpy()
    assert len(drawn) == wanted == len(np.unique(drawn))
    counts = np.histogram(drawn, bins=10, range=(0, rows))[0]
    assert ((counts - wanted / 10) ** 2 / (wanted / 10)).sum() < 34  # chi-squared, 9 degrees of freedom: 1 in 10,000


def test_equal_rows_are_drawn_one_by_one():
    table = pa.table({"x": np.zeros(30_000)})
    assert profile_of(table, 7000, sample_rows=1000).sample().num_rows == 1000


def test_a_small_table_is_its_own_sample(batch, profile):
    rows = sorted(map(str, map(stringed, batch.to_pylist())))
    assert sorted(map(str, map(stringed, profile.sample().to_pylist()))) == rows
    assert profile.sample().schema.equals(SCHEMA)


IDS = {
    "row numbers": (range(1000, 3000), True),
    "every second row number": (range(0, 4000, 2), True),
    "uuids": ([f"{i * 2654435761 % 2**32:08x}-{i:04x}" for i in range(2000)], True),
    "hashes": ([int(v) for v in np.random.default_rng(0).integers(0, 2**62, 2000)], True),
    "amounts": (np.random.default_rng(0).integers(0, 20_000, 2000), False),
    "wide amounts": (np.random.default_rng(0).integers(0, 50_000_000, 2000), False),
    "measures": (np.random.default_rng(0).normal(size=2000), False),
    "categories": ([f"c{i % 500}" for i in range(2000)], False),
    "sentences": ([f"the quick brown fox number {i}" for i in range(2000)], False),
    "few rows": (range(5), False),
    "epoch": (np.random.default_rng(0).integers(1_500_000_000, 1_600_000_000, 2000), False),
}


@pytest.mark.parametrize("name", IDS)
def test_identifiers(name):
    cells, is_id = IDS[name]
    assert column_of(list(cells)).is_id_like == is_id


TEXTS = {
    "numbers": (["1", "2.5", "-3e4"] * 10, {"is_numeric_text": True, "time_format": None}),
    "iso days": (["2024-01-31", "2023-12-01"], {"is_numeric_text": False, "time_format": "ISO 8601"}),
    "zoned": (["2024-01-31T10:00:00Z", "2024-01-31T10:00:00+02:00"], {"time_format": "ISO 8601 with zone"}),
    "days first": (["1/2/2024", "31/1/2024"], {"time_format": "%d/%m/%Y"}),
    "ambiguous": (["1/2/2024", "3/4/2024"], {"time_format": None, "is_time_like": False}),
    "late proof": (["1/2/2024"] * 2000 + ["2/28/2024"], {"time_format": "%m/%d/%Y", "is_time_like": True}),
    "late disproof": (["1/2/2024"] * 2000 + ["soon"], {"time_format": None}),
    "words": (["a b c", "d"], {"mean_words": 2.0, "mean_length": 3.0}),
    "empty": (["", ""], {"is_constant": True, "is_numeric_text": False}),
    "no strings": ([None, None], {"is_numeric_text": False, "time_format": None, "is_constant": False}),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name):
    cells, facts = TEXTS[name]
    column = column_of(cells, pa.string())
    assert {key: getattr(column, key) for key in facts} == facts


def test_dates_in_text_have_quantiles():
    column = column_of(["31/1/2024", "1/1/2024", "1/3/2024", "1/3/2024", "1/3/2024"])
    middle = dt.datetime.fromtimestamp(column.quantiles(np.array([0.5]))[0], tz=dt.UTC)
    assert middle.date() == dt.date(2024, 3, 1)


@pytest.mark.parametrize(
    ("cells", "hint"),
    [
        ([20240131, 20231201], "yyyymmdd"),
        ([1_700_000_000, 1_700_000_100], "epoch s"),
        ([1_700_000_000_000, 1_700_000_100_000], "epoch ms"),
        ([20240131, 20239901], None),
        ([1, 2], None),
    ],
)
def test_numbers_that_may_be_times_are_hinted_at(cells, hint):
    assert column_of(cells).time_hint == hint


def test_extremes_beyond_pythons_calendar_are_text():
    column = column_of(pa.array([0, 10**15], pa.int64()).view(pa.timestamp("s")))
    assert str(column.minimum) == "1970-01-01 00:00:00"
    assert isinstance(column.maximum, str)
    json.dumps(profile_of(pa.record_batch({"x": pa.array([10**15]).view(pa.timestamp("s"))})).to_json())


def test_constants():
    assert column_of([5, None, 5]).is_constant
    assert not column_of([5, 6]).is_constant
    assert not column_of([1.0, float("inf")]).is_constant


def test_many_columns_stay_small():
    table = pa.table({f"c{i}": np.random.default_rng(i).normal(size=300) for i in range(2000)})
    profile = profile_of(table)
    assert len(profile.columns) == 2000
    assert profile.limits.quantiles < 1024
    assert len(dump_state(profile.state())) < 2000 * 300 * 8 * 5


def test_more_rows_do_not_make_a_larger_state():
    table = pa.table({"x": np.random.default_rng(0).normal(size=300_000), "y": np.arange(300_000).astype(str)})
    few, many = profile_of(table[:150_000], 30_000), profile_of(table, 30_000)
    assert len(dump_state(many.state())) < 1.1 * len(dump_state(few.state()))


def test_other_columns_are_errors(batch, profile):
    with pytest.raises(SchemaError, match="'number'"):
        Profile(SCHEMA).update(batch.select(["city"]))
    with pytest.raises(SchemaError, match="int64"):
        Profile(pa.schema({"x": pa.float64()})).update(pa.record_batch({"x": [1]}))
    with pytest.raises(SchemaError, match="merged"):
        Profile(SCHEMA).merge(Profile(pa.schema({"x": pa.float64()})))
    with pytest.raises(DataError, match="list"):
        Profile(pa.schema({"x": pa.list_(pa.int64())}))
    with pytest.raises(DataError, match="format"):
        Profile.from_state({**profile.state(), "format": 99})


def test_extra_columns_are_not_looked_at(batch):
    wider = pa.record_batch([*batch.columns, batch.columns[0]], names=[*SCHEMA.names, "__target__"])
    profile = Profile(SCHEMA)
    profile.update(wider)
    assert list(profile.columns) == SCHEMA.names


def test_association_is_the_share_of_entropy_explained():
    rng = np.random.default_rng(0)
    target = pa.array(rng.integers(0, 2, 5000))
    noise = pa.array(rng.normal(size=5000))
    identifier = pa.array([f"id{i}" for i in range(5000)])
    assert association(target, target) == pytest.approx(1.0, abs=0.01)
    assert association(noise, target) < 0.01
    assert association(identifier, target) < 0.01
    missing = pa.array(rng.normal(size=5000), mask=target.to_numpy() == 1)
    assert association(missing, target) > 0.95
    number = pa.array(rng.normal(size=5000))
    assert 0.2 < association(pa.array(number.to_numpy() + rng.normal(size=5000) * 0.3), number) < 0.9
    assert np.isnan(association(noise, pa.array(["a"] * 5000)))
    assert np.isnan(association(pa.array([], pa.int64()), pa.array([], pa.int64())))


@pytest.mark.parametrize("target", [None, *SCHEMA.names])
def test_the_view_shows_every_column(profile, target):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_profile(profile, target=target))
    text = console.export_text()
    assert all(name in text for name in SCHEMA.names)
    assert "5,000 rows" in text
    assert ("tells" in text) == (target is not None)


def test_the_view_of_nothing_and_of_a_wrong_target(profile):
    Console(width=80, quiet=True).print(render_profile(Profile(SCHEMA), target="flag"))
    with pytest.raises(SchemaError, match="'nope'"):
        render_profile(profile, target="nope")


def test_associations_find_what_tells():
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    table = pa.table({"copy": x, "noise": rng.normal(size=3000), "y": np.where(x > 0, "yes", "no")})
    found = associations(profile_of(table), "y")
    assert found["copy"] > 0.9
    assert found["noise"] < 0.05
    assert list(found) == ["copy", "noise"]


def test_pandas_frames_agree_on_missing_counts():
    frame = pd.DataFrame({"a": [1.0, None, 3.0], "b": ["x", None, None]})
    profile = profile_of(pa.Table.from_pandas(frame, preserve_index=False))
    assert {name: column.nulls for name, column in profile.columns.items()} == frame.isna().sum().to_dict()
