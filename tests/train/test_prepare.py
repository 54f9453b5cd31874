"""What a recipe is planned from, and what leak tests leave alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shardwise.core.config import RunConfig
from shardwise.core.events import Events
from shardwise.data.dataset import open_dataset
from shardwise.train import probing
from shardwise.train.prepare import Prepared, prepare
from shardwise.train.run import open_run


def prepared(folder: Path, table: pa.Table, **more: Any) -> Prepared:
    path = folder / "table.parquet"
    pq.write_table(table, path)
    asked = {"data": str(path), "target": "y", "runs_folder": str(folder / "runs"), "report": False}
    with open_run(RunConfig.from_mapping({**asked, **more}), "fingerprint", Events()) as run:
        return prepare(run, open_dataset(str(path)))


@pytest.mark.parametrize("text", [["2024-01-%02d", "2023-05-%02d"], ["%d", "%d.5"]])
def test_text_that_is_no_date_or_number_in_the_test_alone_ends_no_run(tmp_path: Path, text: list[str]) -> None:
    rng = np.random.default_rng(0)
    part = np.arange(300) % 4 - 1
    cells = [text[number % 2] % rng.integers(10, 28) for number in range(300)]
    cells[int(np.flatnonzero(part == -1)[0])] = "unknown"
    x = rng.normal(size=300)
    table = pa.table({"d": cells, "x": x, "part": part, "y": x + rng.normal(size=300) > 0})
    made = prepared(tmp_path, table, fold_column="part", folds=3, select="none")
    assert dict(zip([step.reads[0] for step, _, _ in made.recipe.steps], made.recipe.kinds, strict=True)) == {
        "d": "category", "x": "number",
    }  # fmt: skip


def test_columns_that_are_ignored_are_no_leaks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=600)
    y = (x + rng.normal(size=600) > 0).astype(int)
    table = pa.table({"x": x, "outcome": y * 2, "y": y})
    made = prepared(tmp_path, table, kinds={"outcome": "ignore"}, strict=True)
    assert [finding.code for finding in made.findings if finding.severity == "leak"] == []


def test_categories_of_which_a_sample_sees_each_value_once_are_probed_as_categories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "PERMUTED_CELLS", 600 * 3)
    rng = np.random.default_rng(0)
    columns = {name: [f"{name}{value}" for value in rng.integers(0, 9000, 12_000)] for name in ("user", "item")}
    made = prepared(tmp_path, pa.table({**columns, "y": rng.normal(size=12_000)}))
    assert made.recipe.kinds == ("encoding", "encoding")
    assert [finding.code for finding in made.findings if finding.code == "permuted_target"] == []


def test_long_answers_are_categories_and_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    code = rng.integers(0, 4, 600)
    answers = [f"{'abcd'[number]}{' because of this' * 22}" for number in code]
    table = pa.table({"said": answers, "x": rng.normal(size=600), "y": np.where(code > 1, "yes", "no")})
    made = prepared(tmp_path, table)
    assert "category" in made.recipe.kinds
    assert "said" not in made.recipe.rejected
    turned = prepared(tmp_path, table.rename_columns(["y", "x", "said"]))
    assert turned.target.classes == tuple(sorted(set(answers)))
