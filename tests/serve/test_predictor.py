"""One answer, however the rows come."""

import sys
import threading
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.registry.parts import make_members, make_package, make_recipe, make_table, make_target

from shardwise.core.errors import SchemaError
from shardwise.core.target import Task
from shardwise.serve import predictor as module
from shardwise.serve.cache.local import LocalCache
from shardwise.serve.cache.predictions import CachedPredictor
from shardwise.serve.predictor import Predictor

ROW = {"x": 0.25, "z": 0.5, "town": "Ulm", "day": None}


@pytest.mark.parametrize("task", list(Task))
def test_batches_and_single_rows_get_the_same_answer(task, predictors, monkeypatch):
    predictor, table = predictors[task], make_table(16, task, seed=3)
    answer = predictor.answer(table)
    assert answer.schema == predictor.answer_schema()
    rows = [predictor.predict_one(row) for row in table.drop_columns(["y", "row"]).to_pylist()]
    assert rows == answer.to_pylist()
    monkeypatch.setattr(module, "BATCH_ROWS", 7)
    np.testing.assert_array_equal(predictor.predict(table), predictor.predict(table.to_batches()[0]))


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_an_answer_has_labels_in_their_own_type_and_a_probability_for_each(task, predictors):
    predictor, table = predictors[task], make_table(40, task)
    answer, scores = predictor.answer(table), predictor.predict(table)
    names = {Task.BINARY: ["false", "true"], Task.MULTICLASS: ["high", "low", "mid"]}[task]
    assert answer.schema.names == ["prediction", *(f"probability_{name}" for name in names)]
    assert answer.column(0).type == table.schema.field("y").type
    assert answer.column(0).to_pylist() == [predictor.target.classes[code] for code in scores.argmax(axis=1)]
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    np.testing.assert_array_equal(np.transpose([column.to_numpy() for column in answer.columns[1:]]), scores)


@pytest.mark.parametrize("task", [Task.REGRESSION, Task.COUNT, Task.QUANTILE])
def test_a_number_is_answered_as_a_number(task, predictors):
    answer = predictors[task].answer(make_table(10, task))
    assert answer.schema == pa.schema([("prediction", pa.float64())])


@pytest.mark.parametrize("task", list(Task))
def test_no_rows_are_answered_with_no_rows(task, predictors):
    predictor, table = predictors[task], make_table(5, task)
    assert predictor.answer(table.slice(0, 0)).schema == predictor.answer_schema()
    assert len(predictor.predict(pa.Table.from_batches([], schema=table.schema))) == 0


def test_order_of_columns_and_other_columns_do_not_matter(predictor):
    table = make_table(30)
    shuffled = table.select(["day", "town", "row", "z", "x"]).append_column("more", pa.array([[1]] * 30))
    np.testing.assert_array_equal(predictor.predict(shuffled), predictor.predict(table))


def test_other_types_of_the_same_meaning_do_not_matter(predictor):
    table = make_table(30)
    other = pa.table(
        {
            "x": table["x"].cast(pa.string()),
            "z": table["z"].cast(pa.float64()),
            "town": table["town"].dictionary_encode(),
            "day": table["day"].cast(pa.timestamp("us")),
        }
    )
    np.testing.assert_allclose(predictor.predict(other), predictor.predict(table), rtol=1e-6)


def test_python_values_of_other_types_are_understood(predictor):
    row = {"x": 1, "z": 0, "town": "Ulm", "day": None}
    assert predictor.predict_one({**row, "x": "1", "z": 0.0, "more": object()}) == predictor.predict_one(row)
    assert predictor.predict_one({**row, "town": "never seen"})["prediction"] in (True, False)
    assert predictor.predict_one({**row, "day": "2024-05-06"}) == predictor.predict_one(
        {**row, "day": np.datetime64("2024-05-06").item()}
    )


def test_missing_columns_are_named_with_what_is_near(predictor):
    table = make_table(5)
    with pytest.raises(SchemaError, match=r"lacks 1 column.*'town'.*Did you mean 'Town'"):
        predictor.predict(table.rename_columns(["row", "x", "z", "Town", "day", "y"]))
    with pytest.raises(SchemaError, match=r"lacks 4 column.*'x', 'z', 'town', 'day'"):
        predictor.predict_one({})
    twice = pa.Table.from_arrays([*table.columns, table["x"]], names=[*table.schema.names, "x"])
    with pytest.raises(SchemaError, match="'x' more than once"):
        predictor.predict(twice)


@pytest.mark.parametrize("value", [object(), [1], 10**400, 10**5000, "many"], ids=lambda value: type(value).__name__)
def test_a_value_that_cannot_be_read_is_an_error_of_ours(predictor, value):
    with pytest.raises(SchemaError):
        predictor.predict_one({"x": value, "z": 0, "town": "Ulm", "day": None})


def test_threads_may_share_a_predictor(predictor):
    table = make_table(200)
    expected, found = predictor.predict(table), []
    threads = [threading.Thread(target=lambda: found.append(predictor.predict(table))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for scores in found:
        np.testing.assert_array_equal(scores, expected)


def test_a_row_is_answered_without_pandas(packages, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)  # an import of it is an error now
    row = make_table(1).drop_columns(["y"]).to_pylist()[0]
    assert set(Predictor.load(packages[Task.BINARY]).predict_one(row)) == {
        "prediction",
        "probability_false",
        "probability_true",
    }


def test_integers_that_no_column_of_integers_holds_count_as_floats(predictors):
    for task in (Task.BINARY, Task.REGRESSION):
        predictor = predictors[task]
        for column in ("x", "z"):
            for number in (2**63, 2**64 - 1, 2**64, 10**30, -(2**63) - 1):
                answer = predictor.predict_one({**ROW, column: number})
                assert answer == predictor.predict_one({**ROW, column: float(number)})
        with pytest.raises(SchemaError, match=r"no value of a column.*column x"):
            predictor.predict_one({**ROW, "x": 10**400})
    field = pa.field("n", pa.int64())
    assert [module.to_array(number, field).to_pylist() for number in (2**63 - 1, 2**63, 2**64)] == [
        [2**63 - 1], [2.0**63], [2.0**64]
    ]  # fmt: skip


NONE_OF_PANDAS = [float("nan"), np.float64("nan"), np.float32("nan"), pd.NaT, pd.NA, np.datetime64("NaT", "us")]


@pytest.mark.parametrize("gone", NONE_OF_PANDAS, ids=lambda gone: type(gone).__name__)
@pytest.mark.parametrize("column", ["town", "day", "x"])
def test_what_pandas_has_for_missing_is_missing(predictors, column, gone):
    predictor, missing = predictors[Task.BINARY], {**ROW, column: None}
    row = {**ROW, column: gone}
    assert predictor.predict_one(row) == predictor.predict_one(missing)
    for count in (1, 3, module.MANY_ROWS):
        np.testing.assert_array_equal(
            predictor.scores_of_rows([row] * count), predictor.scores_of_rows([missing] * count)
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A predictor whose `x` was of whole numbers in training."""
    folder, table, target = tmp_path_factory.mktemp("whole"), make_table(), make_target()
    numbers = pc.cast(pc.round(pc.multiply(table.column("x"), 3.0)), pa.int64())
    table = table.set_column(1, "x", numbers)
    recipe = make_recipe(table, target)
    models = make_members(folder / "more", table, recipe, target)
    changes = {"recipe": recipe, "models": models, "schema": table.schema, "golden": table.slice(0, 20)}
    return Predictor.load(make_package(folder, **changes))


@pytest.mark.parametrize("count", [1, 3, module.MANY_ROWS])
@pytest.mark.parametrize("kind", [float, np.float64, np.float32, Decimal])
def test_a_fraction_is_not_cut_where_training_had_whole_numbers(whole, count, kind):
    rows = [{**ROW, "x": kind(0.25 + 0.5 * (number % 7 - 3))} for number in range(count)]
    columns = {name: [row[name] for row in rows] for name in ROW}
    table = pa.table({**columns, "x": [float(x) for x in columns["x"]]})
    np.testing.assert_array_equal(whole.scores_of_rows(rows), whole.predict(table))
    if kind is not float:
        return
    for row in rows:  # a row of an unusual type goes as a batch of one
        odd = {**row, "town": 5}
        answer = whole.predict_one(odd)
        assert answer == whole.answer(pa.table({name: [value] for name, value in odd.items()})).to_pylist()[0]


def test_a_fraction_has_an_answer_of_its_own_in_a_cache(whole):
    cached = CachedPredictor(whole.package, LocalCache(1_000_000))
    for x in (-1, -0.75, 0, 0.25, 1.5, 1):
        np.testing.assert_array_equal(cached.row_scores({**ROW, "x": x}), whole.row_scores({**ROW, "x": x}))
