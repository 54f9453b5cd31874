import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.features.tables import column_of

from shardwise.core.errors import SchemaError
from shardwise.core.schema import FeatureKind
from shardwise.features.numeric import Number, read_numbers


def encode(training, new=None):
    """Features `(rows, features)` of `new` by a transformer planned on `training`."""
    number = Number.plan("x", column_of(training))
    batch = pa.record_batch({"x": training if new is None else new})
    out = np.empty((batch.num_rows, len(number.output())), np.float32, order="F")
    number.transform(batch, out)
    return number, out


@given(st.lists(st.one_of(st.none(), st.floats(width=32)), min_size=1, max_size=50))
def test_a_float32_is_kept_as_it_is(values):
    numbers = [value if value is None or np.isfinite(value) else None for value in values]
    number, out = encode(pa.array(numbers, pa.float64()))
    if number._offset == 0.0 and number._unit == 1.0:
        np.testing.assert_array_equal(out[:, 0], np.array(numbers, dtype=np.float32))


@pytest.mark.parametrize(
    "values",
    [
        np.arange(1000) + 1_700_000_000,  # epoch seconds
        np.arange(1000) * 3 + 2**53,
        (np.arange(1000) + 1_700_000_000) * 10**9,  # epoch nanoseconds
        1e6 + np.random.default_rng(0).normal(0, 1e-3, 1000),
    ],
)
def test_large_offsets_keep_what_distinguishes_values(values):
    _, out = encode(pa.array(values))
    _, expected = np.unique(values, return_inverse=True)
    _, found = np.unique(out[:, 0], return_inverse=True)
    np.testing.assert_array_equal(found, expected)


def test_infinities_and_values_beyond_float32_read_as_the_extremes_of_the_training_rows():
    _, out = encode(pa.array([1.0, 5.0, 3.0]), pa.array([np.inf, -np.inf, 1e300, -1e300, np.nan, 99.0]))
    np.testing.assert_array_equal(out[:, 0], np.array([5, 1, 5, 1, np.nan, 99], np.float32))


def test_huge_numbers_are_scaled_into_float32():
    values = np.array([1e300, 2e300, 3e300, -1e300])
    _, out = encode(pa.array(values))
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(np.argsort(out[:, 0]), np.argsort(values))


@pytest.mark.parametrize(
    "given",
    [
        pa.array([1, 0, None, 7]),
        pa.array([1, 0, None, 7], pa.uint8()),
        pa.array([1.0, 0.0, None, 7.0], pa.float32()),
        pa.array([1.0, 0.0, float("nan"), 7.0]),
        pa.array(["1", "0", None, "7"]),
        pa.array([" 1", "0.0", "NA", "7e0"]),
        pa.array(["true", "False", "", "7"]),
        pa.array(["1", "0", None, "7"], pa.large_string()),
        pa.array(["1", "0", None, "7"]).dictionary_encode(),
        pa.array([1, 0, None, 7]).dictionary_encode(),
        pa.array([Decimal("1.00"), Decimal("0.00"), None, Decimal("7.00")]),
        pa.array([1, 0, None, 7], pa.duration("s")),
        pa.array([1000, 0, None, 7000], pa.duration("ms")),
    ],
)
def test_numbers_are_read_from_any_type_that_holds_them(given):
    np.testing.assert_array_equal(read_numbers(given, "x"), [1, 0, np.nan, 7])


def test_booleans_and_nulls_are_numbers():
    np.testing.assert_array_equal(read_numbers(pa.array([True, None, False]), "x"), [1, np.nan, 0])
    assert np.isnan(read_numbers(pa.nulls(3), "x")).all()


def test_text_that_is_no_number_is_an_error_that_quotes_it():
    with pytest.raises(SchemaError, match=r"column 'age' holds 'twelve', a number was expected"):
        read_numbers(pa.array(["1", "NA", "Twelve"]), "age")


@pytest.mark.parametrize("given", [pa.array([dt.date(2024, 1, 1)]), pa.array([dt.datetime(2024, 1, 1)])])
def test_a_type_that_holds_no_numbers_is_an_error(given):
    with pytest.raises(SchemaError, match="numbers were expected"):
        read_numbers(given, "x")


def test_the_missing_flag_appears_when_there_is_something_to_learn():
    some, none = [None] * 100 + list(range(900)), [None] * 2 + list(range(998))
    number, out = encode(pa.array(some))
    assert [feature.kind for feature in number.output()] == [FeatureKind.NUMBER, FeatureKind.FLAG]
    np.testing.assert_array_equal(out[:, 1], np.isnan(out[:, 0]))
    assert len(encode(pa.array(none))[0].output()) == 1


def test_statistics_for_linear_models_are_those_of_the_clipped_values():
    values = np.random.default_rng(0).normal(50, 10, 20_000)
    values[:5] = 1e9  # outliers
    number, _ = encode(pa.array(values))
    feature = number.output()[0]
    clipped = np.clip(values, feature.low, feature.high)
    assert feature.high < 100
    assert feature.center == pytest.approx(clipped.mean(), abs=0.2)
    assert feature.scale == pytest.approx(clipped.std(), rel=0.03)
    assert feature.fill == pytest.approx(50, abs=0.5)


def test_a_rare_spike_keeps_its_range():
    values = np.zeros(10_000)
    values[:10] = 5.0
    feature = encode(pa.array(values))[0].output()[0]
    assert (feature.low, feature.high) == (-np.inf, np.inf)
    assert feature.scale == pytest.approx(values.std(), rel=0.01)
