"""Cells of grids against their pooled columns."""

import numpy as np
import pyarrow as pa
import pytest

from shardwise.core.errors import ConfigError
from shardwise.core.grids import GridSpec
from shardwise.core.target import Target, Task
from shardwise.data.profile import Profile
from shardwise.features.recipe import Recipe, RecipeConfig
from shardwise.features.row import RowEncoder

TARGET = Target(column="label", task=Task.BINARY, classes=("a", "b"))
IMAGE = GridSpec.read("image", "p*:2x3")


def pixels(n_rows: int = 200) -> pa.Table:
    """Six pixels of different spread, of which the first is constant and one is missing in places."""
    rng = np.random.default_rng(0)
    columns = {f"p{i}": (rng.integers(0, 1 + 40 * i, n_rows) + 5 * (i > 0)).astype(np.int16) for i in range(6)}
    label = rng.choice(["a", "b"], n_rows)
    table = pa.table({**columns, "size": rng.normal(size=n_rows), "label": label})
    holes = pa.array(columns["p3"], mask=np.arange(n_rows) % 10 == 0)
    return table.set_column(table.schema.get_field_index("p3"), "p3", holes)


def planned(table: pa.Table, *specs: GridSpec, **config: object) -> Recipe:
    profile = Profile(table.schema)
    for batch in table.to_batches():
        profile.update(batch)
    settings = RecipeConfig(grids=specs, **config)  # type: ignore[arg-type]
    recipe = Recipe.plan(table.schema, profile, target=TARGET, config=settings, visible={0: (1,), 1: (0,), -1: (0, 1)})
    recipe.fit({})
    return recipe


def test_all_cells_are_kept_and_share_their_scale() -> None:
    table = pixels()
    recipe = planned(table, IMAGE)
    cells = [feature for feature in recipe.features if feature.place]
    assert [feature.name for feature in cells] == [f"p{i}" for i in range(6)]
    assert [feature.place for feature in cells] == list(np.ndindex(2, 3, 1))
    values = np.concatenate([table[f"p{i}"].drop_null().to_numpy() for i in range(6)]).astype(np.float64)
    for feature in cells:
        assert feature.center == pytest.approx(values.mean())
        assert feature.scale == pytest.approx(values.std(), rel=5e-3)  # of each column by n - 1
    assert "p0" in {feature.name for feature in recipe.features}
    assert "p0" in planned(table).rejected  # constant: no feature where it is no cell


def test_cells_are_the_numbers_in_batches_and_row_by_row() -> None:
    table = pixels(30)
    recipe = planned(table, IMAGE)
    batch = table.to_batches()[0]
    X = recipe.transform(batch)
    np.testing.assert_array_equal(X[:, 3], table["p3"].to_numpy().astype(np.float32))
    inputs = table.select(recipe.inputs).schema
    encode = RowEncoder(recipe, inputs, lambda row: pa.RecordBatch.from_pylist([row], schema=inputs))
    for place, row in enumerate(table.to_pylist()):
        np.testing.assert_array_equal(encode(row)[0], X[place])


def test_a_recipe_with_cells_comes_back_from_its_state() -> None:
    recipe = planned(pixels(), IMAGE)
    again = Recipe.from_state(recipe.state())
    assert again.features == recipe.features


def test_text_in_a_grid_two_grids_for_a_column_and_a_kind_besides_are_refused() -> None:
    table = pixels().append_column("p6", pa.array(["x"] * 200))
    with pytest.raises(ConfigError, match="'p6' holds string"):
        planned(table, GridSpec.read("image", "p*:7x1"))
    with pytest.raises(ConfigError, match="in two grids"):
        planned(pixels(), IMAGE, GridSpec.read("sequence", "p*:6"))
    with pytest.raises(ConfigError, match="'p2' is a cell"):
        planned(pixels(), IMAGE, kinds={"p2": "ignore"})
