"""Features of two columns are kept where they pay, and not where chance proposes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.core.config import RunConfig
from shardwise.core.errors import ConfigError
from shardwise.workflow import train


def waves(rows: int = 4000, seed: int = 0) -> pa.Table:
    """The target is a wave of the difference of two numbers, which trees find hard."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.uniform(0, 6, (3, rows))
    return pa.table({"a": a, "b": b, "c": c, "y": np.sin(2 * (a - b)) + 0.1 * c + rng.normal(0, 0.05, rows)})


def asked(folder: Path, table: pa.Table, **more: Any) -> RunConfig:
    path = folder / "table.parquet"
    pq.write_table(table, path)
    given = {"data": str(path), "target": "y", "trials": 2, "folds": 2, "runs_folder": str(folder / "runs")}
    quick = {"trees": {"n_estimators": 60, "learning_rate": 0.1}}
    return RunConfig.from_mapping({**given, "report": False, "engineer": "auto", "params": quick, **more})


def test_a_difference_is_found_kept_told_and_computed_alike_in_rows_and_batches(tmp_path: Path) -> None:
    table = waves()
    results = [train(asked(tmp_path, table, engineer=mode)) for mode in ("auto", "none")]
    package = shardwise.load(results[0].package)
    names = [feature.name for feature in package.package.recipe.features]
    assert "a - b" in names
    (told,) = [finding for finding in results[0].findings if finding["code"] == "engineered"]
    assert "a - b" in told["columns"]
    assert told["evidence"]["gain"] > 0.1
    new = waves(300, seed=5)
    rmse = [np.sqrt(np.mean((np.asarray(shardwise.load(r.package).predict(new)) - new["y"].to_numpy()) ** 2))
            for r in results]  # fmt: skip
    assert rmse[0] < 0.8 * rmse[1]
    rows = new.drop_columns(["y"]).to_pylist()[:20]
    alone = [package.predict_one(row)["prediction"] for row in rows]
    np.testing.assert_array_equal(alone, np.asarray(package.predict(new))[:20])


def test_the_difference_of_two_numbers_that_order_the_rows_alike_is_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    bid, spread, other = rng.uniform(50, 150, 4000), rng.uniform(0.01, 0.05, 4000), rng.normal(size=(8, 4000))
    y = 100 * (spread - 0.03) + other[0] + rng.normal(0, 0.3, 4000) > 0
    noise = {f"o{number}": column for number, column in enumerate(other)}
    result = train(asked(tmp_path, pa.table({"bid": bid, "ask": bid + spread, **noise, "bid2": bid * 2, "y": y})))
    recipe = shardwise.load(result.package).package.recipe
    assert "ask - bid" in [feature.name for feature in recipe.features]
    assert recipe.rejected["bid2"] == "it orders the rows like 'bid'"


def test_nothing_is_kept_where_columns_do_not_act_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    X = rng.normal(size=(4, 4000))
    y = X[0] + np.sin(2 * X[1]) + rng.normal(size=4000)
    names = ["a", "b", "c", "d"]
    result = train(asked(tmp_path, pa.table({**dict(zip(names, X, strict=True)), "y": y})))
    assert "engineered" not in [finding["code"] for finding in result.findings]


def test_few_rows_try_nothing_and_unknown_modes_are_refused(tmp_path: Path) -> None:
    result = train(asked(tmp_path, waves(900)))
    assert "engineered" not in [finding["code"] for finding in result.findings]
    with pytest.raises(ConfigError, match="Did you mean 'auto'"):
        asked(tmp_path, waves(100), engineer="aut")
