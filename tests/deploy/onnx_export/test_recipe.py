"""The recipe as a graph writes the float32 features of `Recipe.transform`, to the bit."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")

from tests.deploy.onnx_export.graphs import run_columns
from tests.registry.parts import make_recipe

from shardwise.core.errors import ConfigError
from shardwise.core.target import Target, Task
from shardwise.deploy.onnx_export.columns import Columns
from shardwise.deploy.onnx_export.graph import Graph
from shardwise.deploy.onnx_export.recipe import features
from shardwise.features.combine import Arithmetic, ByCategory, Cross
from shardwise.features.recipe import Recipe, RecipeConfig

START = dt.datetime(1958, 3, 1)
CONFIG = RecipeConfig(kinds={"dept": "category", "flag": "category"}, max_categories=20, min_count=1)


def strange(rows: int, seed: int) -> pa.Table:
    """Columns of all types that are written, with missing, huge, infinite and negative values."""
    rng = np.random.default_rng(seed)
    gone = iter(rng.random((20, rows)) < 0.1)
    number = rng.normal(size=rows) * 10.0 ** rng.integers(-3, 4, rows)
    number[rng.random(rows) < 0.02] = np.inf
    number[rng.random(rows) < 0.02] = -1e300
    seconds = rng.integers(0, 90 * 365 * 86_400, rows)
    moments = [START + dt.timedelta(seconds=int(each), microseconds=int(each) % 7) for each in seconds]
    return pa.table({
        "number": pa.array(number, mask=next(gone)),
        "single": pa.array(rng.normal(size=rows).astype(np.float32), mask=next(gone)),
        "epoch": pa.array(1_700_000_000_000 + rng.integers(-50, 50, rows), mask=next(gone)),
        "dept": pa.array(rng.integers(-3, 9, rows), mask=next(gone)),
        "grade": pa.array(rng.choice([-0.0, 0.0, 1.0, 2.5, np.inf], rows), mask=next(gone)),
        "flag": pa.array(rng.random(rows) < 0.3, mask=next(gone)),
        "spoken": pa.array(rng.choice(["1.5", "22", "-3", "1e3"], rows), mask=next(gone)),
        "town": pa.array(rng.choice(["Ulm", "Köln", "東京", "Bad 'X'", " "], rows), mask=next(gone)),
        "street": pa.array([f"street {each}" for each in rng.integers(0, 60, rows)], mask=next(gone)),
        "at": pa.array(moments, pa.timestamp("us"), mask=next(gone)),
        "day": pa.array([each.date() for each in moments], pa.date32(), mask=next(gone)),
        "clock": pa.array([each.time() for each in moments], pa.time64("us"), mask=next(gone)),
        "took": pa.array(seconds, pa.duration("s"), mask=next(gone)),
        "y": pa.array(rng.random(rows) < 0.4),
    }).combine_chunks()  # fmt: skip


def fitted(table: pa.Table, config: RecipeConfig = CONFIG) -> Recipe:
    target = Target(column="y", task=Task.BINARY, classes=(False, True))
    return make_recipe(table, target, config)


@pytest.fixture(scope="module")
def table():
    return strange(1200, 0)


@pytest.fixture(scope="module")
def recipe(table):
    finite = table.set_column(0, "number", pa.array(np.random.default_rng(1).normal(size=len(table))))
    pair = ("number", "dept")
    more = [
        *(("arithmetic", Arithmetic.plan(kind, pair, finite)) for kind in ("minus", "over", "times")),
        ("cross", Cross.plan(("town", "dept"), finite)), ("by_category", ByCategory.plan(("town",), finite)),
        ("by_category", ByCategory.plan(("dept", "number"), finite)),
    ]  # fmt: skip
    return fitted(table).extended([{"kind": kind, "content": step.state()} for kind, step in more]).sealed()


def test_features_are_the_same_bits(recipe, table):
    """On rows with values that were never seen, too."""
    rows = strange(4000, 5)
    towns = ["Köln" if number % 50 else "somewhere else" for number in range(len(rows))]
    rows = rows.set_column(rows.schema.names.index("town"), "town", pa.array(towns))
    columns = Columns(Graph(rows.schema.names), table.schema)
    found = run_columns(columns, rows, features(recipe, columns))
    expected = recipe.transform(rows.combine_chunks().to_batches()[0])
    kinds = {"number", "category", "encoding", "date", "arithmetic", "cross", "by_category"}
    assert kinds == set(recipe.kinds)
    for place, feature in enumerate(recipe.features):
        np.testing.assert_array_equal(found[:, place], expected[:, place], err_msg=feature.name)


def test_columns_are_told_as_they_are_given(recipe, table):
    columns = Columns(Graph(table.schema.names), table.schema)
    features(recipe, columns)
    assert {name: given.role for name, given in columns.inputs.items()} == {
        "number": "number", "single": "number", "epoch": "whole", "dept": "whole", "grade": "number",
        "flag": "number", "spoken": "number", "town": "text", "street": "text", "at": "moment", "day": "moment",
        "clock": "time", "took": "number",
    }  # fmt: skip
    assert [each.name for each in columns.declared()] == [name for name in table.schema.names if name != "y"]


def test_no_rows_and_one_row(recipe, table):
    columns = Columns(Graph(table.schema.names), table.schema)
    output = features(recipe, columns)
    for rows in (table.slice(0, 0), table.slice(7, 1)):
        assert run_columns(columns, rows, output).shape == (len(rows), len(recipe.features))


WORDS = np.array(
    ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "finds", "nothing", "there"]
)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("note", pa.array([" ".join(np.random.default_rng(n).choice(WORDS, 9)) for n in range(200)]), "'text'"),
        ("at", pa.array([n * 10**9 for n in range(200)], pa.timestamp("us", tz="Europe/Paris")), "Europe/Paris"),
        ("word", pa.array(["", "a", "b", "c"] * 50), "the empty text is a category"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named(column, values, message):
    table = pa.table({column: values, "y": pa.array([True, False] * 100)})
    columns = Columns(Graph(table.schema.names), table.schema)
    with pytest.raises(ConfigError, match=message) as caught:
        features(fitted(table, RecipeConfig()).sealed(), columns)
    assert f"column '{column}'" in str(caught.value)
