"""Dates in text: read where the rows prove the format, left as text where they do not."""

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.data.dates import guess, guess_iso, parse

FORMATS = ["%Y/%m/%d", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%d.%m.%Y", "%d-%b-%Y", "%d %B %Y", "%B %d, %Y"]
MOMENTS = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)).map(lambda each: each.replace(microsecond=0))


@given(st.lists(MOMENTS, min_size=1, max_size=20), st.sampled_from(FORMATS), st.sampled_from(["", " %H:%M:%S"]))
def test_the_format_that_wrote_the_texts_is_among_the_guesses(moments, date_format, time_format) -> None:
    texts = pa.array([each.strftime(date_format + time_format) for each in moments])
    found = [fit for fit in guess(texts) if fit.replace("%b", "%B") == (date_format + time_format).replace("%b", "%B")]
    assert found
    expected = moments if time_format else [each.date() for each in moments]
    assert parse(texts, found[0]).to_pylist() == expected


@pytest.mark.parametrize(
    ("texts", "formats"),
    [
        (["1/2/2024", "3/4/2024"], ("%d/%m/%Y", "%m/%d/%Y")),
        (["1/2/2024", "13/4/2024"], ("%d/%m/%Y",)),
        (["1/2/2024", "4/13/2024"], ("%m/%d/%Y",)),
        (["1/13/2024", "13/1/2024"], ()),
        (["31/4/2024"], ()),
        (["12/1/2010 8:26"], ("%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M")),
        (["01/25/2024 09:15 PM"], ("%m/%d/%Y %I:%M %p",)),
        (["1/2/24"], ()),
        (["hello", "1/2/2024"], ()),
        ([None, None], ()),
    ],
)
def test_guesses(texts: list[str | None], formats: tuple[str, ...]) -> None:
    assert guess(pa.array(texts, pa.string())) == formats


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2024-01-31", pa.date32()),
        ("2024-01-31T10:00:00", pa.timestamp("us")),
        ("2024-01-31 10:00:00.123456789", pa.timestamp("ns")),
        ("2024-01-31T10:00:00+02:00", pa.timestamp("us", "UTC")),
        ("2024-01-32", None),
        ("20240131", None),
    ],
)
def test_iso(text: str, kind: pa.DataType | None) -> None:
    assert guess_iso(pa.array([text, None])) == kind
