import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from tests.features.tables import column_of

from shardwise.core.errors import ConfigError, RejectColumn
from shardwise.features.columns import RecipeConfig, looks_like_code, transformers_for

ROWS = 2000
RNG = np.random.default_rng(0)


def decide(values, name="x", **config):
    return transformers_for(name, column_of(values), RecipeConfig(**config))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RNG.normal(size=ROWS), ("number",)),
        (RNG.integers(-500, 500, ROWS), ("number",)),
        (RNG.integers(0, 2, ROWS), ("number",)),
        (RNG.integers(1, 13, ROWS), ("number", "category")),
        (RNG.choice(RNG.integers(0, 300_000, 100), ROWS), ("number", "category")),
        (RNG.choice(RNG.integers(0, 300_000, 500), ROWS), ("number", "encoding")),
        (RNG.integers(0, 2, ROWS).astype(bool), ("number",)),
        (pa.array(RNG.integers(0, 9, ROWS).astype(str)), ("number",)),
        (pa.array([f"v{n}" for n in RNG.integers(0, 9, ROWS)]), ("category",)),
        (pa.array([f"v{n}" for n in RNG.integers(0, 400, ROWS)]), ("encoding",)),
        (pa.array([f"answer{n}" * 40 for n in RNG.integers(0, 4, ROWS)]), ("category",)),
        (pa.array([f"a{n:03d}" * 2000 for n in RNG.integers(0, 200, ROWS)]), ("encoding",)),  # too long to be kept
        (pa.array([f"the text of row number {n}" for n in range(ROWS)]), ("text",)),
        (pa.array([f"2024-01-{n:02d}" for n in RNG.integers(1, 32, ROWS)]), ("date",)),
        (pa.array([dt.date(2024, 1, 1 + n % 31) for n in range(ROWS)]), ("date",)),
        (pa.array(range(ROWS), pa.duration("s")), ("number",)),
        ([None] * 50 + ["yes"] * 50, ("category",)),
    ],
)
def test_what_a_column_is(values, expected):
    assert decide(values) == expected


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1.5] * 10, "constant"),
        ([None] * 10, "no values"),
        (pa.array([f"id-{n}" for n in range(ROWS)]), "identifier"),
        (np.arange(ROWS), "identifier"),
    ],
)
def test_columns_that_say_nothing_are_rejected_with_the_reason(values, reason):
    with pytest.raises(RejectColumn, match=reason):
        decide(values)


def labels(many, rows_each, words="{0} of label{1}"):
    return pa.array([words.format("abcdefgh"[n % many % 8], n % many) for n in range(many * rows_each)])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (labels(40, 20), ("category", "words")),
        (labels(400, 20), ("encoding", "words")),
        (labels(20, 20), ("category",)),  # few labels
        (labels(40, 120), ("category",)),  # many rows of each
        (labels(400, 20, "{0}{1}"), ("encoding",)),  # one word
        (labels(400, 20, "the street {1}"), ("encoding",)),  # no words but those of all
    ],
)
def test_labels_of_several_words_that_are_many_for_the_rows_are_read_too(values, expected):
    assert decide(values) == expected
    assert decide(values, word_columns=0) == expected[:1]
    assert decide(values, kinds={"x": "category"}) == expected[:1]


def test_the_user_decides():
    months = RNG.integers(1, 13, ROWS)
    assert decide(months, kinds={"x": "number"}) == ("number",)
    assert decide(months, kinds={"x": "category"}) == ("category",)
    assert decide(pa.array([f"id-{n}" for n in range(ROWS)]), kinds={"x": "text"}) == ("text",)
    assert decide(np.arange(ROWS), kinds={"x": "number"}) == ("number",)
    with pytest.raises(RejectColumn, match="as asked"):
        decide(months, kinds={"x": "ignore"})
    with pytest.raises(ConfigError, match="cannot be of kind 'date'"):
        decide(months, kinds={"x": "date"})
    with pytest.raises(ConfigError, match=r"there is no kind 'nubmer'.*Did you mean 'number'"):
        RecipeConfig(kinds={"x": "nubmer"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_categories": 1}, "max_categories"),
        ({"smoothing": 0.0}, "smoothing"),
        ({"text_buckets": 1000}, "power"),
        ({"word_columns": -1}, "0 for none"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        RecipeConfig(**options)


@pytest.mark.parametrize("name", ["id", "customer_id", "CustomerID", "userId", "ZipCode", "zip", "MGR_ID", "type"])
def test_names_that_say_code(name):
    assert looks_like_code(name, column_of(RNG.integers(0, 40, ROWS)))


@pytest.mark.parametrize("name", ["paid", "humid", "price", "width", "encoded", "x"])
def test_names_that_do_not(name):
    assert not looks_like_code(name, column_of(RNG.integers(0, 40, ROWS)))
