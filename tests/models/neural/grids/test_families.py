"""The kits for both families on features of which two are cells: an image of 1 x 2, a sequence of two steps."""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from shardwise.core.errors import ConfigError
from shardwise.core.schema import Feature, FeatureKind
from shardwise.core.target import Target, Task
from shardwise.models.base import FitRun
from shardwise.models.families import build
from shardwise.models.neural.grids.families import Cnn, CnnParams, RnnParams
from shardwise.testing.models import FEATURES, ModelConformance, Table, on_disk

QUICK: dict[str, Any] = {"epochs": 12, "width": 16, "members": 2, "batch_rows": 64, "knots": 4, "learning_rate": 0.01}


class TestCnn(ModelConformance):
    """Of the losses, which are those of `neural`, one."""

    family = "cnn"
    tasks = (Task.MULTICLASS,)
    params: ClassVar[dict[str, Any]] = {**QUICK, "filters": 4, "units": 8}
    weight_tolerance = 0.12  # few epochs, and steps by the number of rows
    features = (replace(FEATURES[0], place=(0, 0, 0)), replace(FEATURES[1], place=(0, 1, 0)), *FEATURES[2:])


class TestRnn(ModelConformance):
    """Of the losses another one."""

    family = "rnn"
    tasks = (Task.COUNT,)
    params: ClassVar[dict[str, Any]] = {**QUICK, "hidden": 8}
    weight_tolerance = 0.12
    features = (replace(FEATURES[0], place=(0, 0)), replace(FEATURES[1], place=(1, 0)), *FEATURES[2:])


def cells(*shape: int) -> list[Feature]:
    return [
        Feature(name=f"c{i}", source=f"c{i}", kind=FeatureKind.NUMBER, place=place)
        for i, place in enumerate(np.ndindex(shape))
    ]


@pytest.mark.parametrize(
    ("side", "blocks", "shift"), [(1, 1, 0), (7, 1, 0), (8, 1, 0), (14, 1, 1), (15, 2, 1), (28, 2, 2), (32, 3, 2)]
)
def test_blocks_and_shifts_follow_the_size_of_the_image(side: int, blocks: int, shift: int) -> None:
    trunk = CnnParams().trunk(side, side + 3, 1)
    assert (trunk.blocks, trunk.shift) == (blocks, shift)
    assert min(trunk.sides(trunk.blocks)[:2]) <= 7


@pytest.mark.parametrize(("steps", "patches"), [(1, 1), (32, 32), (33, 17), (128, 32), (1000, 32)])
def test_a_sequence_has_about_32_patches(steps: int, patches: int) -> None:
    assert RnnParams().trunk(steps, 2).patches == patches


def test_a_grid_with_a_hole_is_refused() -> None:
    target = Target(column="y", task=Task.REGRESSION)
    with pytest.raises(ConfigError, match="3 cells do not fill a grid of 2x2x1"):
        Cnn(target, [cell for cell in cells(2, 2, 1) if cell.place != (0, 1, 0)])


def test_what_lies_beside_each_other_is_seen_wherever_it_is(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whether two bright pixels touch: a network without a grid has to learn it for each place."""
    rng = np.random.default_rng(0)
    n_rows, side = 1500, 8
    X = rng.normal(0, 0.1, (n_rows, side, side)).astype(np.float32)
    y = rng.integers(0, 2, n_rows).astype(np.float64)
    for image, touching in zip(X, y, strict=True):
        row, column = rng.integers(0, side), rng.integers(0, side - 3)
        image[row, column] = image[row, column + (1 if touching else 3)] = 2.0
    table = Table(np.asfortranarray(X.reshape(n_rows, -1)), y, None, (np.arange(n_rows) % 3 == 2).astype(np.int8))
    target = Target(column="y", task=Task.BINARY, classes=("apart", "touching"))
    right = {}
    for family in ("cnn", "neural"):
        rows = on_disk(tmp_path_factory.mktemp(family), table, cells(side, side, 1))
        params = {"epochs": 10, "width": 32, "members": 2, "batch_rows": 64}
        model = build(family, target, cells(side, side, 1), {**params, **({"filters": 8} if family == "cnn" else {})})
        model.fit(*rows, FitRun(seed=1))
        valid = table.folds == 1
        right[family] = np.mean(model.predict(table.X[valid]).argmax(axis=1) == y[valid])
    assert right["cnn"] > 0.95
    assert right["cnn"] > right["neural"] + 0.1
