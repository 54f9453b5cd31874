"""Rows of a customer are no independent witnesses: of the test, of calibration, and where data grow."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import shardwise
from shardwise.cli import run as shell
from shardwise.core.config import RunConfig
from shardwise.train import sealed
from shardwise.workflow import TrainResult, train


def customers(count: int = 60, each: int = 30, seed: int = 0) -> pa.Table:
    """Each customer's `spent` is off by an amount of their own."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(count), each)
    x = rng.normal(size=len(who))
    spent = x + 2 * rng.normal(size=count)[who] + 0.2 * rng.normal(size=len(who))
    names = pa.array([None if name % 20 == 19 else f"c{name}" for name in who.tolist()])
    return pa.table({"x": x, "who": names, "spent": spent, "w": 1 + rng.random(len(who))})


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pq.write_table(customers(), tmp_path / "customers.parquet", row_group_size=400)
    return tmp_path


def run(folder: Path, name: str = "customers", **changes: Any) -> TrainResult:
    content = {
        "data": str(folder / f"{name}.parquet"), "target": "spent", "group": "who", "drop": ("w",), "folds": 3,
        "families": ("linear", "trees"), "trials": 2, "report": False,
        "params": {"trees": {"learning_rate": 0.2, "num_leaves": 8}},
    }  # fmt: skip
    return train(RunConfig.from_mapping({**content, **changes}))


@pytest.mark.parametrize("weight", [None, "w"])
def test_the_interval_of_the_sealed_test_is_that_of_its_groups(
    data: Path, monkeypatch: pytest.MonkeyPatch, weight: str | None
) -> None:
    asked: dict[str, Any] = {} if weight is None else {"weight": weight, "drop": ()}
    grouped = run(data, run="grouped", **asked).score
    monkeypatch.setattr(sealed, "_units", lambda rows, step: None)
    alone = run(data, run="alone", **asked).score
    assert grouped["value"] == alone["value"]
    assert grouped["high"] - grouped["low"] > 2 * (alone["high"] - alone["low"])


def test_evaluate_is_told_which_rows_belong_together(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = run(data).package
    pq.write_table(customers(seed=1), data / "new.parquet")
    widths = []
    for more in ([], ["--group", "who"]):
        capsys.readouterr()
        assert shell(["evaluate", package, "new.parquet", "--json", "--runs-folder", "none", *more]) == 0
        found = json.loads(capsys.readouterr().out)
        widths.append(found["metrics"]["rmse"]["high"] - found["metrics"]["rmse"]["low"])
        assert found["slices"] == []
    assert widths[1] > 2 * widths[0]
    assert shell(["evaluate", package, "new.parquet", "--group", "who", "--runs-folder", "none"]) == 0
    out = capsys.readouterr().out
    assert f"{found['groups']['count']:,} groups, worth " in out
    assert "intervals go by groups" in out
    pq.write_table(customers(1, seed=2), data / "one.parquet")
    assert shell(["evaluate", package, "one.parquet", "--group", "who", "--runs-folder", "none"]) == 0
    assert "1 group, worth 1.0 of equal size; the largest has 100.0% of the rows; too few" in capsys.readouterr().out
    assert shell(["evaluate", package, "new.parquet", "--group", "whom"]) != 0
    assert "who" in capsys.readouterr().err


def test_a_test_that_grew_by_a_row_was_looked_at_before(data: Path) -> None:
    first = run(data, group=None, key=("x",), run="first")
    table = customers()
    more = pa.concat_tables([table, customers(1, 1, seed=9)])
    pq.write_table(more, data / "more.parquet")
    second = run(data, group=None, key=("x",), name="more", run="second")
    assert (first.looks, second.looks) == (1, 2)
    pq.write_table(customers(seed=5), data / "others.parquet")
    others = run(data, group=None, key=("x",), name="others", run="third")
    assert others.looks == 1


def test_a_package_of_grouped_rows_answers_rows_of_new_groups(data: Path) -> None:
    predictor = shardwise.load(run(data).package)
    assert np.isfinite(predictor.predict(customers(3, 2, seed=7))).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_hold_out_of_few_groups_is_enough_for_a_package(data: Path, seed: int) -> None:
    table = customers(8, 150)
    table = table.append_column("bought", pa.array((table["spent"].to_numpy() > 0).astype(np.int64)))
    pq.write_table(table, data / "few.parquet")
    asked = {"target": "bought", "drop": ("w", "spent"), "folds": None, "valid_share": 0.4, "trials": 3, "seed": seed}
    result = run(data, "few", run=f"few{seed}", **asked)
    assert np.isfinite(result.valid_score)
    assert len(shardwise.load(result.package).package.members) >= 1
