"""Joined tables against plain pandas; what is refused; the same answers in the package."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

import shardwise
from shardwise.core.config import RunConfig, dump_config
from shardwise.core.errors import ConfigError, DataError, SchemaError
from shardwise.core.joins import JoinSpec, read_joins
from shardwise.core.state import dump_state, load_state
from shardwise.data import join as join_module
from shardwise.data.dataset import open_dataset
from shardwise.data.join import Join
from shardwise.data.joined import join_tables
from shardwise.workflow import train


def orders(rows: int = 1200, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    shop = rng.integers(0, 30, rows)
    x = rng.normal(size=rows)
    at = rng.integers(0, 90 * 24, rows) * 3600
    return pa.table(
        {
            "shop": pa.array(shop, mask=rng.random(rows) < 0.03),
            "at": pa.array(at, pa.timestamp("s")),
            "x": x,
            "y": np.where(np.sin(shop * 1.7) + 0.3 * x > 0, "yes", "no"),
        }
    )


def shops() -> pa.Table:
    number = np.arange(25)  # five have no partner
    return pa.table({"shop": number, "size": np.sin(number * 1.7), "town": [f"t{n % 4}" for n in number]})


def prices(seed: int = 1) -> pa.Table:
    rng = np.random.default_rng(seed)
    days = rng.permutation(90)[:20]
    at = pa.array(np.tile(days, 30) * 86_400, pa.timestamp("s"))
    return pa.table({"shop": np.repeat(np.arange(30), 20), "at": at, "price": rng.normal(size=600)})


def one(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0]


@pytest.mark.parametrize("kind", [pa.int64(), pa.int8(), pa.float64(), pa.string()])
def test_a_left_join_is_that_of_pandas_whatever_the_type_of_the_key(kind: pa.DataType) -> None:
    right = shops().set_column(0, "shop", shops()["shop"].cast(kind))
    joined = Join(JoinSpec(data="shops", on=("shop",), prefix="s_"), right).apply(one(orders())).to_pandas()
    expected = (
        orders().to_pandas().merge(shops().to_pandas().add_prefix("s_"), left_on="shop", right_on="s_shop", how="left")
    )
    np.testing.assert_array_equal(joined["s_size"], expected["s_size"])
    assert joined["s_town"].isna().equals(expected["s_town"].isna())
    assert (joined["s_town"] == expected["s_town"]).sum() == expected["s_town"].notna().sum()


def test_with_a_time_the_partner_is_the_latest_that_is_not_later() -> None:
    left = orders().filter(pa.compute.is_valid(orders()["shop"]))
    join = Join(JoinSpec(data="p", on=("shop",), time="at"), prices())
    frame = left.to_pandas().astype({"shop": "int64"}).reset_index(names="row").sort_values("at", kind="stable")
    expected = pd.merge_asof(frame, prices().to_pandas().sort_values("at"), on="at", by="shop").sort_values("row")
    np.testing.assert_array_equal(
        join.apply(one(left)).column("price").to_numpy(zero_copy_only=False), expected["price"]
    )
    again = Join.from_state(load_state(dump_state(join.state())))
    assert again.apply(one(left)).equals(join.apply(one(left)))


def write(folder: Path, **tables: pa.Table) -> None:
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=500)


def test_a_dataset_has_the_columns_and_reads_the_tables_only_where_asked(tmp_path: Path) -> None:
    write(tmp_path, orders=orders(), shops=shops())
    dataset = join_tables(open_dataset(tmp_path / "orders.parquet"), read_joins(f"{tmp_path}/shops.parquet on shop"))
    assert dataset.schema.names == ["shop", "at", "x", "y", "size", "town"]
    dataset = pickle.loads(pickle.dumps(dataset))
    whole = pa.Table.from_batches([b for part in dataset.partitions for b in dataset.read(part)])
    some = pa.Table.from_batches([b for part in dataset.partitions for b in dataset.read(part, ["town", "x"], 100)])
    assert some.schema.names == ["x", "town"]
    assert some.equals(whole.select(["x", "town"]))
    assert whole.schema.equals(dataset.schema)
    assert dataset.fingerprint != open_dataset(tmp_path / "orders.parquet").fingerprint


def asked(folder: Path, joins: Any, **more: Any) -> RunConfig:
    given = {"data": str(folder / "orders.parquet"), "target": "y", "trials": 2, "folds": 2, "report": False}
    return RunConfig.from_mapping({**given, "joins": joins, "runs_folder": str(folder / "runs"), **more})


def test_a_package_needs_no_further_file_and_answers_the_same(tmp_path: Path) -> None:
    write(tmp_path, orders=orders(), shops=shops(), prices=prices())
    joins = [
        {"data": str(tmp_path / "shops.parquet"), "on": ["shop"], "prefix": "s_"},
        f"{tmp_path}/prices.parquet on shop at at",
    ]
    result = train(asked(tmp_path, joins, aggregates="mean(price) by s_town of at", kinds={"shop": "ignore"}))
    plain = train(asked(tmp_path, [], kinds={"shop": "ignore"}))
    assert result.score["value"] > plain.score["value"] + 0.2
    for name in ("shops", "prices"):
        (tmp_path / f"{name}.parquet").unlink()
    predictor = shardwise.load(result.package)
    assert set(predictor.columns) == {"shop", "at", "x"}
    sources = {feature.source for feature in predictor.package.recipe.features}
    assert {"s_size", "price"} <= sources
    new = one(orders(40, seed=5).drop_columns(["y"]))
    answers = predictor.predict(new)
    single = [predictor.predict_one(row)["probability_yes"] for row in new.to_pylist()]
    np.testing.assert_array_equal(answers[:, 1], single)


def refused(folder: Path, joins: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        train(asked(folder, joins))


def test_what_cannot_be_joined_is_refused_with_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = pa.concat_tables([shops(), shops().slice(3, 1)])
    write(tmp_path, orders=orders(), shops=shops(), twice=twice, empty=shops().slice(0, 0),
          clash=shops().rename_columns(["shop", "x", "town"]), bare=shops().select(["shop"]))  # fmt: skip
    refused(tmp_path, f"{tmp_path}/twice.parquet on shop", DataError, "such as shop 3")
    refused(tmp_path, f"{tmp_path}/empty.parquet on shop", DataError, "no rows")
    refused(tmp_path, f"{tmp_path}/shops.parquet on shp", SchemaError, "Did you mean 'shop'")
    refused(tmp_path, f"{tmp_path}/shops.parquet on town", SchemaError, "no column 'town' to join by")
    refused(tmp_path, f"{tmp_path}/clash.parquet on shop", SchemaError, "prefix")
    refused(tmp_path, f"{tmp_path}/bare.parquet on shop", SchemaError, "beside its key")
    refused(tmp_path, f"{tmp_path}/none.parquet on shop", DataError, "none.parquet")
    refused(tmp_path, f"{tmp_path}/shops.parquet by shop", ConfigError, "Write it like")
    refused(tmp_path, {"data": "a", "onn": "b"}, ConfigError, "Did you mean 'on'")
    refused(tmp_path, {"data": "a"}, ConfigError, "lacks data or on")
    monkeypatch.setattr(join_module, "MOST_BYTES", 300)
    refused(tmp_path, f"{tmp_path}/shops.parquet on shop", DataError, "Aggregate it first")


def test_the_line_the_mapping_and_the_file_mean_the_same() -> None:
    mapping = {"data": "a b.csv", "on": ["k", "l m"], "time": "at", "prefix": "p_"}
    (spec,) = read_joins('a b.csv on k,"l m" at at prefix p_')
    assert read_joins([mapping]) == (spec,)
    config = RunConfig.from_mapping({"data": "d", "target": "t", "joins": mapping})
    assert RunConfig.from_mapping(yaml.safe_load(dump_config(config))) == config
