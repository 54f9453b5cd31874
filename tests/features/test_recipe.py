import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.features.tables import BINARY, fitted, k_folds, planned, profile_of, whole

from shardwise.core.errors import ConfigError, DataError, SchemaError
from shardwise.core.schema import FeatureKind
from shardwise.core.state import dump_state, load_state
from shardwise.features.recipe import Recipe, RecipeConfig

ROWS = 1500


def people(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    start = dt.datetime(2024, 1, 1)
    texts = [f"{rng.choice(['good', 'bad', 'odd'])} words of number {n}" for n in range(rows)]
    return pa.table(
        {
            "age": pa.array(rng.integers(18, 90, rows), mask=rng.random(rows) < 0.1),
            "height": rng.normal(1.7, 0.1, rows),
            "city": pa.array([f"c{n}" for n in rng.geometric(0.2, rows)], mask=rng.random(rows) < 0.05),
            "shop_id": rng.integers(0, 400, rows) * 7,
            "member": rng.integers(0, 2, rows).astype(bool),
            "since": pa.array([start + dt.timedelta(hours=int(n)) for n in rng.integers(0, 9000, rows)]),
            "note": texts,
            "key": [f"key-{n}" for n in range(rows)],
            "same": ["x"] * rows,
            "y": rng.integers(0, 2, rows),
        }
    ), rng.integers(0, 3, rows)


TABLE, FOLDS = people()
RECIPE = fitted(TABLE, FOLDS)
RAW = whole(TABLE.drop_columns(["y"]))
EXPECTED = RECIPE.transform(RAW)


def changed(name, values):
    return RAW.set_column(RAW.schema.names.index(name), name, values)


def test_what_is_read_written_and_left_out():
    assert RECIPE.inputs == ("age", "height", "city", "shop_id", "member", "since", "note")
    assert set(RECIPE.rejected) == {"key", "same"}
    assert "identifier" in RECIPE.rejected["key"]
    assert "constant" in RECIPE.rejected["same"]
    assert {feature.kind for feature in RECIPE.features} == set(FeatureKind)
    assert len({feature.name for feature in RECIPE.features}) == len(RECIPE.features)
    assert EXPECTED.shape == (ROWS, len(RECIPE.features))
    assert EXPECTED.dtype == np.float32
    assert EXPECTED.flags.f_contiguous
    assert RECIPE.uses_target


def test_reordered_and_further_columns_have_no_say():
    names = [*reversed(RAW.schema.names)]
    batch = pa.record_batch({"new": [1] * ROWS, **{name: RAW.column(name) for name in names}})
    np.testing.assert_array_equal(RECIPE.transform(batch), EXPECTED)
    np.testing.assert_array_equal(RECIPE.transform(RAW.select(RECIPE.inputs)), EXPECTED)


@pytest.mark.parametrize(
    "kind", [pa.float64(), pa.float32(), pa.int16(), pa.uint64(), pa.string(), pa.decimal128(21, 2)]
)
@pytest.mark.parametrize("name", ["age", "shop_id"])
def test_whole_numbers_in_any_type_give_the_same_answer(name, kind):
    np.testing.assert_array_equal(RECIPE.transform(changed(name, RAW.column(name).cast(kind))), EXPECTED)
    encoded = RAW.column(name).cast(kind).dictionary_encode()
    np.testing.assert_array_equal(RECIPE.transform(changed(name, encoded)), EXPECTED)


@pytest.mark.parametrize("name", ["age", "shop_id"])
def test_whole_numbers_as_text_with_a_fraction_and_nulls_as_nan_give_the_same_answer(name):
    numbers = RAW.column(name).to_pylist()
    as_text = pa.array([None if n is None else f"{n}.0" for n in numbers])
    as_nan = pa.array([float("nan") if n is None else float(n) for n in numbers])
    as_decimal = pa.array([None if n is None else Decimal(n) for n in numbers])
    for values in (as_text, as_nan, as_decimal):
        np.testing.assert_array_equal(RECIPE.transform(changed(name, values)), EXPECTED)


@pytest.mark.parametrize("name", ["city", "note"])
def test_text_in_any_type_gives_the_same_answer(name):
    column = RAW.column(name)
    for values in (column.cast(pa.large_string()), column.cast(pa.string_view()), column.dictionary_encode()):
        np.testing.assert_array_equal(RECIPE.transform(changed(name, values)), EXPECTED)


def test_booleans_and_timestamps_in_other_types_give_the_same_answer():
    flags, since = RAW.column("member"), RAW.column("since")
    for values in (flags.cast(pa.int8()), flags.cast(pa.string()), flags.cast(pa.float64())):
        np.testing.assert_array_equal(RECIPE.transform(changed("member", values)), EXPECTED)
    zoned = since.cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us", tz="Asia/Tokyo"))
    for values in (since.cast(pa.timestamp("ns")), since.cast(pa.string()), zoned, since.cast(pa.timestamp("s"))):
        np.testing.assert_array_equal(RECIPE.transform(changed("since", values)), EXPECTED)


@pytest.mark.parametrize("name", RECIPE.inputs)
def test_new_nulls_are_missing_values(name):
    typed = changed(name, pa.nulls(ROWS, RAW.column(name).type))
    untyped = changed(name, pa.nulls(ROWS))
    X = RECIPE.transform(untyped)
    np.testing.assert_array_equal(RECIPE.transform(typed), X)
    own = np.array([feature.source == name for feature in RECIPE.features])
    np.testing.assert_array_equal(X[:, ~own], EXPECTED[:, ~own])


def test_unseen_categories_are_rare_ones_and_the_prior():
    X = RECIPE.transform(changed("city", pa.array(["Atlantis"] * ROWS)))
    place = [feature.name for feature in RECIPE.features].index("city:category")
    assert (X[:, place] == 0).all()
    X = RECIPE.transform(changed("shop_id", pa.array([999_999_999] * ROWS)))
    place = [feature.name for feature in RECIPE.features].index("shop_id:target")
    np.testing.assert_allclose(X[:, place], np.mean(TABLE["y"]), rtol=1e-5)


def test_a_missing_column_is_named_with_the_nearest_one():
    batch = RAW.rename_columns(["agee" if name == "age" else name for name in RAW.schema.names])
    with pytest.raises(SchemaError, match=r"no column 'age'.*Did you mean 'agee'"):
        RECIPE.transform(batch)
    with pytest.raises(SchemaError, match="nor 6 others"):
        RECIPE.transform(RAW.select(["key"]))


def test_a_column_that_is_there_twice_is_refused():
    twice = pa.RecordBatch.from_arrays([*RAW.columns, RAW.column("age")], names=[*RAW.schema.names, "age"])
    with pytest.raises(SchemaError, match="2 columns 'age'"):
        RECIPE.transform(twice)


def test_values_that_cannot_be_read_are_errors_that_name_column_and_value():
    with pytest.raises(SchemaError, match=r"column 'age' holds 'old'"):
        RECIPE.transform(changed("age", pa.array(["old"] * ROWS)))
    with pytest.raises(SchemaError, match=r"column 'since' holds int64"):
        RECIPE.transform(changed("since", pa.array([3] * ROWS)))


def test_an_empty_batch_gives_no_rows():
    assert RECIPE.transform(RAW.slice(0, 0)).shape == (0, len(RECIPE.features))


@settings(max_examples=25)
@given(st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=40))
def test_a_row_has_one_answer_in_any_batch(rows):
    np.testing.assert_array_equal(RECIPE.transform(RAW.take(pa.array(rows))), EXPECTED[rows])


def test_a_state_restores_the_recipe_planned_fitted_and_sealed():
    plan = planned(TABLE, BINARY, k_folds(3))
    content = dump_state(plan.state())
    restored = Recipe.from_state(load_state(content))
    assert dump_state(restored.state()) == content
    assert restored.summaries().keys() == plan.summaries().keys()
    assert restored.features == ()
    for recipe in (RECIPE, RECIPE.sealed()):
        content = dump_state(recipe.state())
        restored = Recipe.from_state(load_state(content))
        assert dump_state(restored.state()) == content
        assert restored.features == RECIPE.features
        assert (restored.inputs, restored.rejected) == (RECIPE.inputs, RECIPE.rejected)
        np.testing.assert_array_equal(restored.transform(RAW), EXPECTED)
    assert len(dump_state(RECIPE.sealed().state())) < len(dump_state(RECIPE.state()))


def test_an_unknown_format_and_an_unknown_transformer_are_refused():
    state = RECIPE.sealed().state()
    with pytest.raises(DataError, match="format version 99"):
        Recipe.from_state({**state, "format": 99})
    with pytest.raises(DataError, match="no transformer 'magic'"):
        Recipe.from_state({**state, "steps": [{"kind": "magic", "content": {}}]})


def test_fitting_does_not_depend_on_how_rows_are_cut():
    other = fitted(TABLE, FOLDS, batch_rows=77)
    assert other.features == RECIPE.features
    np.testing.assert_array_equal(other.transform(RAW, folds=FOLDS), RECIPE.transform(RAW, folds=FOLDS))


def test_features_without_a_target_do_not_depend_on_the_fold():
    plain = [not feature.name.startswith(("shop_id:", "note:target")) for feature in RECIPE.features]
    np.testing.assert_array_equal(RECIPE.transform(RAW, folds=FOLDS)[:, plain], EXPECTED[:, plain])


def test_a_profile_that_is_enough_needs_no_second_pass():
    table = TABLE.select(["age", "height", "city", "y"])
    recipe = planned(table, BINARY, k_folds(3))
    assert recipe.summaries() == {}
    assert [feature.name for feature in recipe.features] == ["age", "age:missing", "height", "city:category"]
    assert not recipe.uses_target


def test_columns_are_excluded_and_kinds_are_given():
    config = RecipeConfig(kinds={"city": "ignore", "key": "text"})
    profile = profile_of(TABLE)
    recipe = Recipe.plan(TABLE.schema, profile, target=BINARY, exclude=["note"], config=config, visible=k_folds(3))
    assert "key" in recipe.inputs
    assert "note" not in recipe.inputs
    assert "note" not in recipe.rejected
    assert recipe.rejected["city"] == "ignored, as asked"
    config = RecipeConfig(kinds={"hieght": "number"})
    with pytest.raises(ConfigError, match=r"no column 'hieght'.*Did you mean 'height'"):
        Recipe.plan(TABLE.schema, profile, target=BINARY, config=config, visible=k_folds(3))


def test_a_table_without_anything_to_learn_from_is_an_error():
    table = TABLE.select(["key", "same", "y"])
    with pytest.raises(DataError, match=r"no column is left.*same: it is constant"):
        planned(table, BINARY, k_folds(3))


def test_the_sums_of_many_columns_share_the_memory():
    rng = np.random.default_rng(0)
    many = {f"c{i}": [f"v{n}" for n in rng.integers(0, 40, 200)] for i in range(300)}
    table = pa.table({**many, "y": rng.integers(0, 2, 200)})
    config = RecipeConfig(max_categories=10)
    few = planned(table.select(["c0", "y"]), BINARY, k_folds(5), config).summaries()
    all_of_them = planned(table, BINARY, k_folds(5), config).summaries()
    assert [summary.cap for summary in few.values()] == [2**17]
    assert len(all_of_them) == 300
    assert sum(summary.cap * 5 * 2 for summary in all_of_them.values()) <= 2**23
