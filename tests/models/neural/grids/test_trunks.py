"""The trunks against PyTorch's own layers, and the promise that bits depend on no company."""

from typing import Any

import numpy as np
import pytest

from shardwise.models.neural.exact import exact
from shardwise.models.neural.grids.trunks import ConvTrunk, GruTrunk

CONV = ConvTrunk(height=7, width=10, channels=2, filters=3, kernel=3, blocks=2, features=5, shift=1)
GRU = GruTrunk(steps=11, channels=2, patch=3, hidden=4)
TRUNKS = [CONV, GRU, ConvTrunk(height=1, width=1, channels=1, filters=2, kernel=5, blocks=3, features=4, shift=0)]


def made(trunk: Any, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weights = {name: rng.normal(0, 0.1, size).astype(np.float32) for name, size in trunk.tensors().items()}
    trunk.begin(weights, rng)
    return weights


def rows(trunk: Any, n_rows: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if isinstance(trunk, ConvTrunk):
        return rng.normal(size=(n_rows, trunk.height * trunk.width * trunk.channels)).astype(np.float32)
    values = rng.normal(size=(n_rows, trunk.steps * trunk.channels))
    return np.concatenate([values, rng.random((n_rows, trunk.steps)) < 0.2], axis=1).astype(np.float32)


@pytest.mark.parametrize("trunk", TRUNKS, ids=lambda trunk: type(trunk).__name__)
def test_numpy_and_torch_agree(trunk: Any) -> None:
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    from shardwise.models.neural.grids.learned import outputs

    weights, cells = made(trunk), rows(trunk, 50)
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    theirs = outputs(trunk, tensors, torch.from_numpy(cells), learning=False).numpy()
    ours = trunk.forward(exact(weights), cells.astype(np.float64))
    assert ours.shape == (50, trunk.outputs)
    np.testing.assert_allclose(theirs, ours, atol=2e-5)


@pytest.mark.parametrize("trunk", TRUNKS, ids=lambda trunk: type(trunk).__name__)
def test_a_row_gets_the_same_bits_in_every_company(trunk: Any) -> None:
    weights, cells = exact(made(trunk)), rows(trunk, 70).astype(np.float64)
    whole = trunk.forward(weights, cells)
    for part in (slice(0, 1), slice(3, 40), slice(69, 70), slice(5, 5)):
        np.testing.assert_array_equal(trunk.forward(weights, cells[part].copy()), whole[part])


def test_products_are_counted_as_the_matrices_are_used() -> None:
    sides = [7 * 10, 4 * 5]
    convolutions = sum(side * CONV.tensors()[f"wc{block}"][0] * CONV.tensors()[f"wc{block}"][1]
                       for block, side in enumerate(sides))  # fmt: skip
    assert CONV.products == convolutions + CONV.flat * CONV.features
    assert GRU.products == 4 * (9 * 12 + 4 * 12)


def test_cells_are_left_as_they_were() -> None:
    for trunk in TRUNKS:
        cells = rows(trunk, 5).astype(np.float64)
        before = cells.copy()
        trunk.forward(exact(made(trunk)), cells)
        np.testing.assert_array_equal(cells, before)


def test_images_are_moved_each_for_itself_and_only_while_they_are_learned() -> None:
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    from shardwise.models.neural.grids.learned import moved

    images = torch.zeros((200, 1, 9, 9))
    images[:, :, 4, 4] = 1.0
    torch.manual_seed(3)
    found = moved(images, 2)
    places = found.reshape(200, 81).argmax(dim=1)
    assert found.reshape(200, 81).sum(dim=1).tolist() == [1.0] * 200
    assert {(int(place) // 9 - 4, int(place) % 9 - 4) for place in places} == {
        (row, column) for row in range(-2, 3) for column in range(-2, 3)
    }
    torch.manual_seed(3)
    assert torch.equal(moved(images, 2), found)
