"""Aggregates from the config to the package: the same answers in training, in batches and row by row."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import shardwise
from shardwise.cli.train import make_config
from shardwise.core.aggregates import read_aggregates
from shardwise.core.config import RunConfig, dump_config
from shardwise.core.errors import ConfigError, SchemaError
from shardwise.serve.predictor import Predictor
from shardwise.workflow import TrainResult, train

LINES = ["mean,count,last(x) by shop over 20d of at", "mean(y) by shop of at", "mean(late) by shop of at lag 1d"]


def sales(rows: int = 1500, seed: int = 0) -> pa.Table:
    """The target follows what was sold in the same shop before; `late` is not known when a row is predicted."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, 200 * 86_400, rows))
    shop = rng.integers(0, 40, rows)
    level = rng.normal(0, 3, 40)[shop]
    return pa.table(
        {
            "at": pa.array(at * 1_000_000).cast(pa.timestamp("us")),
            "shop": pa.array([f"s{number}" for number in shop]),
            "x": level + rng.normal(0, 1, rows),
            "z": rng.normal(size=rows),
            "late": level + rng.normal(0, 0.1, rows),
            "y": level + rng.normal(0, 1, rows),
        }
    )


def run(folder: Path, **changes: Any) -> TrainResult:
    path = folder / "sales.parquet"
    if not path.exists():
        table = sales()
        order = pa.array(np.random.default_rng(1).permutation(table.num_rows))
        pq.write_table(table.take(order), path, row_group_size=400)
    asked = {"data": str(path), "target": "y", "drop": "late", "trials": 2, "folds": 3, "aggregates": LINES}
    return train(RunConfig.from_mapping({**asked, "select": "none", "runs_folder": str(folder / "runs"), **changes}))


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return run(tmp_path_factory.mktemp("sales"))


def test_a_package_answers_without_what_was_aggregated(result: TrainResult) -> None:
    predictor = shardwise.load(result.package)
    assert set(predictor.columns) == {"at", "shop", "x", "z"}
    new = sales(50, seed=3).drop_columns(["late", "y"]).combine_chunks().to_batches()[0]
    answers = predictor.predict(new)
    one = [predictor.predict_one(row)["prediction"] for row in new.to_pylist()]
    np.testing.assert_array_equal(answers, one)
    names = [feature.name for feature in predictor.package.recipe.features]
    assert "mean(late) by shop of at lag 1d" in names


def test_the_features_of_a_new_row_are_plain_means_of_what_was_before(result: TrainResult) -> None:
    predictor = Predictor.load(result.package)
    features = [feature.name for feature in predictor.package.recipe.features]
    new = sales(30, seed=4)
    X = predictor.package.recipe.transform(new.combine_chunks().to_batches()[0])
    count = X[:, features.index("count(x) by shop over 20d of at")]
    frame = sales().to_pandas()  # of which the sealed rows are not seen
    for row, found in zip(new.to_pylist(), count, strict=True):
        age = (np.datetime64(row["at"]) - frame["at"].to_numpy()) / np.timedelta64(1, "D")
        most = ((frame["shop"] == row["shop"]) & (age > 0) & (age <= 20)).sum()
        assert 0 <= found <= most


@pytest.mark.parametrize("more", [{}, {"time_column": "at"}, {"group": "shop"}, {"workers": 2}])
def test_every_split_ends_with_a_finite_score(tmp_path: Path, more: dict[str, Any]) -> None:
    result = run(tmp_path, **more)
    assert np.isfinite([result.score["value"], result.valid_score]).all()
    again = run(tmp_path, run="again", **more)
    assert again.package_hash == result.package_hash


def test_a_history_that_does_not_reach_the_validation_is_told(tmp_path: Path) -> None:
    found = run(tmp_path, time_column="at", aggregates="mean(x) by shop over 1d of at").findings
    assert "aggregate_empty" in [finding["code"] for finding in found]


def test_an_aggregate_that_gives_the_target_away_is_a_leak(tmp_path: Path) -> None:
    table = sales()
    y = table["y"].to_numpy()
    at = table["at"].cast(pa.int64()).to_numpy()
    shop = table["at"].cast(pa.string())
    early = pa.array(at - 1).cast(pa.timestamp("us"))
    before = pa.table({"at": early, "shop": shop, "told": y, "y": y[::-1]})
    after = pa.table({"at": table["at"], "shop": shop, "told": y[::-1], "y": y})
    pq.write_table(pa.concat_tables([before, after]), tmp_path / "sales.parquet")
    found = run(tmp_path, drop="told", aggregates="last(told) by shop of at", report=False).findings
    assert [f["code"] for f in found if f["severity"] == "leak" and "told" in f["text"]]


def test_unknown_columns_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="Did you mean 'shop'"):
        run(tmp_path, aggregates="mean(x) by shp")
    with pytest.raises(ConfigError, match="is the target"):
        run(tmp_path, aggregates="count by y")
    with pytest.raises(ConfigError, match="is no time"):
        run(tmp_path, aggregates="mean(x) by shop of shop")


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("mean distance by carrier", "Write it like"),
        ("men(x) by shop", "Did you mean 'mean'"),
        ("mean(x) by shop over 7x of at", "is not a duration"),
        ("mean(x) by shop over 7d", "without a time"),
        ("trend(x) by shop", "needs a time"),
        ("mean by shop", "of what"),
        ("mean,mean(x) by shop", "each once"),
        ({"key": ["shop"], "functions": ["count"], "windw": "7d"}, "Did you mean 'window'"),
        (7, "no aggregate|not iterable"),
    ],
)
def test_what_cannot_be_read_is_refused(line: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        read_aggregates([line])


def test_the_line_the_mapping_and_the_file_mean_the_same(tmp_path: Path) -> None:
    line = 'mean,count("dist ance") by carrier,"tail no" over 7d of departure lag 2h'
    mapping = {"key": ["carrier", "tail no"], "time": "departure", "window": "7d", "lag": "2h", "column": "dist ance",
               "functions": ["mean", "count"]}  # fmt: skip
    (spec,) = read_aggregates([line])
    assert read_aggregates([mapping]) == (spec,) == read_aggregates(str(spec))
    config = RunConfig.from_mapping({"data": "d", "target": "t", "aggregates": [mapping]})
    assert RunConfig.from_mapping(yaml.safe_load(dump_config(config))) == config
    with pytest.raises(ConfigError, match="twice"):
        read_aggregates([line, mapping])


def test_the_command_line_takes_it_several_times() -> None:
    given: dict[str, Any] = dict.fromkeys(
        ("kinds", "types", "storage", "monotone", "key", "drop", "families", "class_weight", "params"), ()
    )
    config = make_config(None, {**given, "data": ("d",), "target": "t", "aggregates": ("count by a", "count by b")})
    assert [spec.key for spec in config.aggregates] == [("a",), ("b",)]
