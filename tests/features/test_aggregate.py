"""Aggregates against plain pandas, row by row; what rows of each fold may see; what is refused."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from tests.features.tables import BINARY, MEAN, fitted, k_folds, profile_of, whole

from shardwise.core.aggregates import FUNCTIONS, read_aggregates
from shardwise.core.errors import ConfigError, SchemaError
from shardwise.core.state import dump_state, load_state
from shardwise.core.target import Target, Task
from shardwise.core.units import parse_duration
from shardwise.features.aggregate_plan import plan_aggregates
from shardwise.features.columns import RecipeConfig
from shardwise.features.recipe import Recipe

DAY_US = 86_400_000_000
ALL = ",".join(FUNCTIONS)


def trips(rows=240, seed=0, *, days=40, exact=False):
    """Trips of few carriers with ties in time, nulls in every column, and a target."""
    rng = np.random.default_rng(seed)
    times = dt.datetime(2013, 1, 1) + np.array([dt.timedelta(hours=int(h)) for h in rng.integers(0, 24 * days, rows)])
    carriers = rng.choice(["UA", "AA", "東京", "B6"], rows, p=[0.5, 0.3, 0.15, 0.05])
    missing = rng.random((rows, 4)) < (0 if exact else 0.06)
    return pa.table(
        {
            "carrier": pa.array(carriers.tolist(), mask=missing[:, 0]),
            "stop": pa.array(rng.integers(0, 3, rows), mask=missing[:, 1]),
            "at": pa.array(times.tolist(), pa.timestamp("us"), mask=missing[:, 2]),
            "x": pa.array(rng.normal(1e4, 3, rows), mask=missing[:, 3]),
            "y": rng.normal(50, 5, rows),
        }
    )


def fit(table, line, *, folds=None, target=MEAN, visible=None, **config):
    folds = np.zeros(table.num_rows, dtype=np.int8) if folds is None else folds
    visible = visible or {-1: (0,), 0: (0,)}  # rows see their own fold too, but for strictly earlier times
    settings = RecipeConfig(aggregates=read_aggregates(line), own_fold=True, **config)
    return fitted(table, folds, target, visible=visible, config=settings, batch_rows=97)


def written(recipe, batch, folds=None, hidden=()):
    """Columns of the aggregates by function."""
    X = recipe.transform(whole(batch), folds=folds, hidden=hidden)
    found = {}
    for place, feature in enumerate(recipe.features):
        if " by " in feature.name:
            found[feature.name.partition(" by ")[0].partition("(")[0]] = X[:, place].astype(np.float64)
    return found


def plain(history, key, at, value, row, *, window=None, lag=0.0):
    """Values and times (days) that a row sees, by the definition: same key, lo <= t < hi."""
    now = row[at] - pd.Timedelta(days=lag)
    same = np.ones(len(history), dtype=bool)
    for name in key:
        same &= history[name].isna() if pd.isna(row[name]) else (history[name] == row[name]).fillna(False).to_numpy()
    seen = same & (history[at] < now) & history[value].notna()
    if window is not None:
        seen &= history[at] >= now - pd.Timedelta(days=window)
    chosen = history[seen]
    return chosen[value].to_numpy(float), ((chosen[at] - pd.Timestamp("2013-01-01")) / pd.Timedelta(days=1)).to_numpy()


def answer(function, values, times):
    if function == "count":
        return len(values)
    if function == "sum":
        return values.sum()
    if not len(values):
        return np.nan
    if function == "last":
        return values[times == times.max()].mean()
    if function == "trend":
        return np.polyfit(times - times.mean(), values, 1)[0] if len(np.unique(times)) > 1 else np.nan
    return getattr(np, function)(values)


@pytest.mark.parametrize("line_end", ["", " over 7d", " over 36h", " over 5d lag 2d", " lag 1d"])
@pytest.mark.parametrize("key", [("carrier",), ("carrier", "stop")])
def test_each_row_sees_what_is_strictly_earlier_in_its_window(key, line_end):
    table, new = trips(), trips(60, seed=1, days=60)
    words = line_end.split()
    span = {w: parse_duration(words[words.index(w) + 1]) / 86_400 for w in ("over", "lag") if w in words}
    over, _, lag = line_end.partition(" lag")
    line = f"{ALL}(x) by {','.join(key)}{over} of at" + (f" lag{lag}" if lag else "")
    recipe = fit(table, line)
    history = table.to_pandas()
    for rows, folds in ((table, np.zeros(table.num_rows, np.int8)), (new, None)):
        found = written(recipe, rows, folds)
        for number, row in rows.to_pandas().iterrows():
            if pd.isna(row["at"]):
                values, times = np.zeros(0), np.zeros(0)
            else:
                values, times = plain(history, key, "at", "x", row, window=span.get("over"), lag=span.get("lag", 0))
            for function in FUNCTIONS:
                expected = answer(function, values, times)
                np.testing.assert_allclose(found[function][number], expected, rtol=2e-6, atol=2e-6, err_msg=function)


def test_ties_in_time_do_not_see_each_other_and_count_together_for_what_follows():
    at = pa.array([0, 0, 1, 1, 2], pa.timestamp("s"))
    table = pa.table({"k": ["a"] * 5, "at": at, "x": [1.0, 3.0, 10.0, 20.0, 5.0], "y": [1.0, 2, 3, 4, 5]})
    found = written(fit(table, f"{ALL}(x) by k of at"), table, np.zeros(5, np.int8))
    np.testing.assert_array_equal(found["count"], [0, 0, 2, 2, 4])
    np.testing.assert_allclose(found["last"], [np.nan, np.nan, 2, 2, 15])
    np.testing.assert_allclose(found["max"], [np.nan, np.nan, 3, 3, 20])
    np.testing.assert_allclose(found["trend"], [np.nan] * 4 + [13 * 86_400], rtol=1e-6)


def test_the_future_has_no_say():
    table = trips()
    cut = dt.datetime(2013, 1, 20)
    later = pd.to_datetime(table["at"].to_pandas()) >= cut
    changed = table.to_pandas()
    changed.loc[later, "x"] = -1e6
    changed = pa.Table.from_pandas(changed, schema=table.schema, preserve_index=False)
    before = table.filter(pa.array(~later.to_numpy() & ~pd.isna(table["at"].to_pandas()).to_numpy()))
    found = [written(fit(each, f"{ALL}(x) by carrier of at"), before) for each in (table, changed)]
    for function in FUNCTIONS:  # but for rounding of sums, the same
        np.testing.assert_allclose(found[0][function], found[1][function], rtol=1e-5, atol=1e-4)


def test_an_unseen_key_has_an_empty_history():
    table = trips()
    new = pa.table({"carrier": ["ZZ"], "stop": [1], "at": pa.array([dt.datetime(2014, 1, 1)]), "x": [1.0], "y": [1.0]})
    found = written(fit(table, f"{ALL}(x) by carrier of at"), new)
    assert (found["count"][0], found["sum"][0]) == (0, 0)
    assert all(np.isnan(found[name][0]) for name in ("mean", "min", "max", "last", "trend"))


def test_keys_are_known_whatever_their_type():
    table = trips()
    recipe = fit(table, "count,mean(x) by stop of at")
    expected = written(recipe, table)
    for kind in (pa.string(), pa.float64(), pa.int8()):
        other = table.set_column(1, "stop", table["stop"].cast(kind))
        for name, values in written(recipe, other).items():
            np.testing.assert_array_equal(values, expected[name])


@pytest.mark.parametrize("kind", ["int", "float", "date", "text"])
def test_times_of_every_type(kind):
    days = np.array([1, 2, 2, 5, 9])
    stamps = [dt.date(2020, 3, day) for day in days.tolist()]
    values = {
        "int": pa.array(days), "float": pa.array(days.astype(float)), "date": pa.array(stamps),
        "text": pa.array([day.strftime("%d/%m/%Y") if False else day.isoformat() for day in stamps]),
    }[kind]  # fmt: skip
    table = pa.table({"k": ["a"] * 5, "at": values, "x": [1.0, 2.0, 4.0, 8.0, 16.0], "y": np.arange(5.0)})
    window = "4" if kind in ("int", "float") else "4d"
    found = written(fit(table, f"sum,trend(x) by k over {window} of at"), table, np.zeros(5, np.int8))
    np.testing.assert_allclose(found["sum"], [0, 1, 1, 7, 8], rtol=1e-6)
    np.testing.assert_allclose(found["trend"], [np.nan, np.nan, np.nan, 2.0, np.nan], rtol=1e-6)


# -- folds -----------------------------------------------------------------------------------------------------------


def test_without_a_time_a_row_reads_the_other_folds():
    table = trips()
    folds = np.random.default_rng(3).integers(0, 3, table.num_rows).astype(np.int8)
    recipe = fit(table, "mean,min,max,count,sum(y) by carrier", folds=folds, visible=k_folds(3))
    frame, found = table.to_pandas(), written(recipe, table, folds)
    new = written(recipe, table)
    for number, row in frame.iterrows():
        same = frame["carrier"].isna() if pd.isna(row["carrier"]) else frame["carrier"] == row["carrier"]
        others = frame.loc[same & (folds != folds[number]), "y"]
        for function in ("mean", "min", "max"):
            np.testing.assert_allclose(found[function][number], getattr(others, function)(), rtol=1e-5)
            np.testing.assert_allclose(new[function][number], getattr(frame.loc[same, "y"], function)(), rtol=1e-5)
        scale = len(frame) / (folds != folds[number]).sum()
        np.testing.assert_allclose(found["count"][number], len(others) * scale, rtol=1e-5)
        assert new["count"][number] == same.sum()


def test_a_row_does_not_change_its_own_features():
    table = trips()
    folds = np.random.default_rng(3).integers(0, 3, table.num_rows).astype(np.int8)
    for line in ("mean,max(y) by carrier", "mean,last(y) by carrier of at"):
        before = written(fit(table, line, folds=folds, visible=k_folds(3)), table, folds)
        y = table["y"].to_numpy().copy()
        y[17] += 1000.0
        changed = table.set_column(4, "y", pa.array(y))
        after = written(fit(changed, line, folds=folds, visible=k_folds(3)), changed, folds)
        for name in before:
            np.testing.assert_allclose(before[name][17], after[name][17], rtol=1e-5)
        assert any((before[name] != after[name]).sum() > 20 for name in before)


def test_hidden_folds_hide_the_target_alone():
    table = trips(exact=True)
    folds = np.random.default_rng(3).integers(0, 3, table.num_rows).astype(np.int8)
    recipe = fit(table, ["mean(y) by carrier of at", "mean(x) by stop of at"], folds=folds, visible=k_folds(3))
    assert recipe.uses_target
    at = next(name for name, f in enumerate(recipe.features) if "by carrier" in f.name)
    X = recipe.transform(whole(table), folds=folds, hidden=(1,))
    frame = table.to_pandas()
    for number, row in frame.iterrows():
        values, times = plain(frame[folds != 1], ("carrier",), "at", "y", row)
        np.testing.assert_allclose(X[number, at], answer("mean", values, times), rtol=1e-5)
        values, times = plain(frame, ("stop",), "at", "x", row)
        np.testing.assert_allclose(X[number, at + 1], answer("mean", values, times), rtol=1e-5)


def test_rows_of_later_blocks_see_earlier_blocks_alone():
    table = trips(exact=True)
    folds = pd.qcut(table["at"].to_pandas(), 3, labels=False).to_numpy().astype(np.int8)
    visible = {-1: (0, 1, 2), 0: (), 1: (0,), 2: (0, 1)}
    frame = table.to_pandas()
    recipe = fitted(
        table, folds, MEAN, visible=visible, config=RecipeConfig(aggregates=read_aggregates("sum(y) by carrier of at"))
    )
    found = written(recipe, table, folds)["sum"]
    for number, row in frame.iterrows():
        values, _ = plain(frame[folds < folds[number]], ("carrier",), "at", "y", row)
        np.testing.assert_allclose(found[number], values.sum(), rtol=1e-5)


def test_a_sealed_recipe_answers_like_the_fitted_one_and_refuses_folds():
    table, new = trips(), trips(200, seed=5, days=60)
    folds = np.random.default_rng(3).integers(0, 4, table.num_rows).astype(np.int8)
    visible = {-1: (1, 2, 3), 0: (1, 2, 3), 1: (2, 3), 2: (1, 3), 3: (1, 2)}  # fold 0 is only validated
    recipe = fit(table, [f"{ALL}(x) by carrier over 7d of at", "mean(y) by stop"], folds=folds, visible=visible)
    sealed = recipe.sealed()
    loaded = Recipe.from_state(load_state(dump_state(sealed.state())))
    expected = recipe.transform(whole(new))
    np.testing.assert_array_equal(sealed.transform(whole(new)), expected)
    np.testing.assert_array_equal(loaded.transform(whole(new)), expected)
    with pytest.raises(ValueError, match="sealed"):
        sealed.transform(whole(table), folds=folds)
    assert "x" in recipe.inputs  # as a number of its own
    assert "y" not in recipe.inputs


def test_new_rows_need_not_have_what_is_aggregated():
    table = trips()
    recipe = fit(table, "mean(x) by carrier of at", kinds={"x": "ignore"})
    assert set(recipe.inputs) == {"carrier", "stop", "at"}
    assert "x" in recipe.summary_inputs
    found = written(recipe, table.drop_columns(["x", "y"]))["mean"]
    assert np.isfinite(found).mean() > 0.9


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_too_many_cells_are_kept_by_coarser_steps_and_never_see_the_future():
    rng = np.random.default_rng(0)
    rows = 5000
    at = np.sort(rng.integers(0, 20 * DAY_US, rows))
    table = pa.table({"k": rng.choice(["a", "b"], rows), "at": pa.array(at).cast(pa.timestamp("us")),
                      "x": rng.normal(size=rows), "y": rng.normal(size=rows)})  # fmt: skip
    recipe = fit(table, "count(x) by k of at", aggregate_cells=1024)
    (aggregate,) = recipe.aggregates
    assert "kept by hour" in aggregate.told[0]
    hour = at // (DAY_US // 24)
    keys = np.array(table["k"].to_pylist())
    found = written(recipe, table, np.zeros(rows, np.int8))["count"]
    for number in range(0, rows, 37):
        assert found[number] == ((hour < hour[number]) & (keys == keys[number])).sum()


def test_beyond_the_cap_rare_keys_read_the_aggregate_over_all_keys():
    rng = np.random.default_rng(0)
    keys = np.concatenate([np.repeat(np.arange(5), 100), np.arange(5, 300)])
    table = pa.table(
        {"k": [f"k{key}" for key in keys], "x": rng.normal(7, 1, len(keys)), "y": rng.normal(size=len(keys))}
    )
    recipe = fit(table, "count,mean(x) by k", visible={-1: (0,), 0: (0,)}, aggregate_keys=5)
    (aggregate,) = recipe.aggregates
    assert "5 heaviest keys" in aggregate.told[0]
    found = written(recipe, table)
    np.testing.assert_array_equal(found["count"][:500], 100)
    assert np.isnan(found["count"][500:]).all()
    np.testing.assert_allclose(found["mean"][500:], table["x"].to_numpy().mean(), rtol=1e-6)


def test_heavy_sums_of_other_keys_do_not_blur_a_light_one():
    n = 20_000
    table = pa.table({"k": ["heavy"] * n + ["light"] * 3, "at": pa.array([*range(n), 0, 1, 2], pa.int64()),
                      "x": [1e12 + 0.1] * n + [0.25, 0.5, 0.125], "y": np.arange(n + 3.0)})  # fmt: skip
    found = written(fit(table, "sum,mean(x) by k of at"), table, np.zeros(n + 3, np.int8))
    np.testing.assert_array_equal(found["sum"][-3:], [0, 0.25, 0.75])


# -- what is refused -------------------------------------------------------------------------------------------------


def refused(line, error, match, target=MEAN, table=None):
    table = trips() if table is None else table
    config = RecipeConfig(aggregates=read_aggregates(line))
    with pytest.raises(error, match=match):
        plan_aggregates(table.schema, profile_of(table), target, config, {-1: (0,), 0: ()})


def test_what_cannot_be_is_refused_with_the_next_step():
    refused("mean(x) by carier of at", SchemaError, "Did you mean 'carrier'")
    refused("mean(xx) by carrier", SchemaError, "'xx'")
    refused("mean(x) by carrier of carrier", ConfigError, "is no time")
    refused("mean(carrier) by stop", ConfigError, "no numbers")
    refused("mean(at) by stop", ConfigError, "no numbers")
    refused("mean(x) by y", ConfigError, "'y' is the target")
    refused("mean(x) by carrier over 7d of stop", ConfigError, "holds numbers")
    three = Target(column="carrier", task=Task.MULTICLASS, classes=("AA", "B6", "UA"))
    refused("mean(carrier) by stop", ConfigError, "3 classes", target=three)


def test_text_and_many_classes_can_be_counted():
    table = trips(exact=True)
    found = written(fit(table, "count(carrier) by stop"), table)["count"]
    stops = table["stop"].to_numpy()
    np.testing.assert_array_equal(found, np.bincount(stops)[stops])


def test_a_share_of_a_binary_target_is_its_mean():
    table = trips(exact=True)
    table = table.set_column(4, "y", pa.array((table["y"].to_numpy() > 50).astype(int)))
    folds = np.random.default_rng(1).integers(0, 3, table.num_rows).astype(np.int8)
    found = written(fit(table, "mean(y) by stop", folds=folds, target=BINARY, visible=k_folds(3)), table)["mean"]
    frame = table.to_pandas()
    np.testing.assert_allclose(found, frame.groupby("stop")["y"].transform("mean"), rtol=1e-6)
