"""Grids as they are asked for; the forms that are read have doctests in `core.grids`."""

import numpy as np
import pytest

from shardwise.core.errors import ConfigError
from shardwise.core.grids import GridSpec, find_image


@pytest.mark.parametrize(
    ("kind", "text", "names", "shape"),
    [
        ("image", "p*:3x2", [f"p{i}" for i in range(6)], (3, 2, 1)),
        ("image", "*x*:2x3", [f"{row}x{column}" for row in (1, 2) for column in (1, 2, 3)], (2, 3, 1)),
        ("image", "p*:2x2x3", [f"p{i}" for i in range(12)], (2, 2, 3)),
        ("image", "r*,g*:2x1", ["r1", "r2", "g1", "g2"], (2, 1, 2)),
        ("sequence", "x_*,y_*:3", [f"{c}_{i}" for c in "xy" for i in range(3)], (3, 2)),
        ("sequence", "x*:3x2", [f"x{i}" for i in range(6)], (3, 2)),
    ],
)
def test_places_fill_the_grid_whatever_the_order_of_the_columns(
    kind: str, text: str, names: list[str], shape: tuple[int, ...]
) -> None:
    spec = GridSpec.read(kind, text)
    shuffled = np.random.default_rng(0).permutation(["other", *names, "label2"]).tolist()
    cells = spec.cells(shuffled)
    assert sorted(cells.values()) == list(np.ndindex(shape))
    assert cells == spec.cells(names)
    assert str(spec) == text


def test_columns_of_one_pattern_go_by_their_numbers_and_channels_beside_each_other() -> None:
    cells = GridSpec.read("image", "p*:2x2x3").cells([f"p{i}" for i in range(12)])
    assert [cells[f"p{i}"] for i in (0, 1, 3, 11)] == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 1, 2)]


@pytest.mark.parametrize(
    ("kind", "text"),
    [("image", "p*"), ("image", "p*:28"), ("image", "pixel:28x28"), ("image", "p*:0x28"), ("image", "a*,b*:2x2x3"),
     ("sequence", "x_*:3x4x5"), ("sequence", "x_*,x_*:3"), ("sequence", "x_*:many")],
)  # fmt: skip
def test_what_is_no_grid_is_refused_with_an_example(kind: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"no {kind}") as error:
        GridSpec.read(kind, text)
    assert "*" in (error.value.hint or "")


def test_a_wrong_number_of_columns_is_told() -> None:
    with pytest.raises(ConfigError, match=r"3 columns are named 'p\*', 4 are needed"):
        GridSpec.read("image", "p*:2x2").cells(["p1", "p2", "p3"])


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([f"pixel{i}" for i in range(64)], "pixel*:8x8"),
        ([f"{row}x{column}" for row in range(5) for column in range(5)], "*x*:5x5"),
        ([f"p{i}" for i in range(63)], None),
        ([f"{name}{i}" for name in "pq" for i in range(16)], None),
        (["age", "x1", "x2"], None),
    ],
)
def test_an_image_is_found_by_its_names(names: list[str], found: str | None) -> None:
    spec = find_image(["label", *names])
    assert (None if spec is None else str(spec)) == found
