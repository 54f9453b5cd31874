import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import ConfigError
from shardwise.core.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "2XB", "2 GB 3", "1e3", "nan"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="2GB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "m", "-5m", "0s", "5 minutes", "1h30", "5mm"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="1h30m"):
        parse_duration(text)


def test_binary_and_decimal_units_differ() -> None:
    assert parse_size("1GiB") - parse_size("1GB") == 2**30 - 10**9


@given(st.integers(1, 10**15))
def test_a_shown_size_is_within_one_percent(size: int) -> None:
    assert math.isclose(parse_size(format_size(size)), size, rel_tol=0.01)


@given(st.floats(0.001, 1e6))
def test_a_shown_duration_reads_back(seconds: float) -> None:
    assert math.isclose(parse_duration(format_duration(seconds)), seconds, rel_tol=0.02, abs_tol=30)
