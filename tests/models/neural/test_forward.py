"""The two forward passes, and the promise that a prediction has the same bits whatever is around it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.target import Task
from shardwise.models.links import link
from shardwise.models.neural.exact import exact
from shardwise.models.neural.forward import forward, predict_blocks
from shardwise.models.neural.shape import ACTIVATIONS, Shape, Weights, first_weights

SHAPE = Shape(
    numbers=3, codes=2, slots=9, scores=3, members=4, width=24, depth=2, knots=5, embedding=6, code_embedding=4
)


def made(shape: Shape, seed: int) -> Weights:
    """Weights of which none is as it was at the start."""
    rng = np.random.default_rng(seed)
    knots = np.sort(rng.normal(size=(shape.numbers, shape.knots + 1)), axis=1)
    weights = first_weights(shape, knots, np.zeros(shape.scores), seed)
    noise = {name: rng.normal(0, 0.1, array.shape).astype(np.float32) for name, array in weights.items()}
    return {name: array if name in ("knots", "slopes") else array + noise[name] for name, array in weights.items()}


def rows(n_rows: int, seed: int, wild: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    numbers = (wild * rng.normal(size=(n_rows, SHAPE.numbers))).astype(np.float32)
    return numbers, rng.integers(0, SHAPE.slots, (n_rows, SHAPE.codes)).astype(np.int32)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("wild", [1.0, 1e6])
def test_numpy_and_torch_agree(wild: float, activation: str) -> None:
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    from shardwise.models.neural.network import forward as trained
    from shardwise.models.neural.network import on_device

    shape = replace(SHAPE, activation=activation)
    weights = made(shape, 1)
    numbers, slots = rows(200, 2, wild)
    tensors = on_device(weights, torch.device("cpu"))
    theirs = trained(shape, tensors, torch.from_numpy(numbers), torch.from_numpy(slots.astype(np.int64)))
    ours = forward(shape, exact(weights), numbers, slots)
    np.testing.assert_allclose(theirs.detach().numpy(), ours, atol=1e-4 * np.abs(ours).max())
    if wild == 1.0:
        np.testing.assert_allclose(theirs.detach().numpy(), ours, atol=2e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@given(seed=st.integers(0, 20), start=st.integers(0, 400), stop=st.integers(0, 400))
def test_a_row_gets_the_same_bits_in_every_company(activation: str, seed: int, start: int, stop: int) -> None:
    shape = replace(SHAPE, activation=activation)
    weights, (numbers, slots) = exact(made(SHAPE, 3)), rows(400, seed)
    whole = predict_blocks(Task.MULTICLASS, shape, weights, numbers, slots)
    part = slice(min(start, stop), max(start, stop))
    np.testing.assert_array_equal(
        predict_blocks(Task.MULTICLASS, shape, weights, numbers[part], slots[part]), whole[part]
    )


def test_members_are_averaged_as_probabilities() -> None:
    weights, (numbers, slots) = exact(made(SHAPE, 3)), rows(30, 4)
    scores = forward(SHAPE, weights, numbers, slots)
    each = [link(Task.MULTICLASS, scores[:, member]) for member in range(SHAPE.members)]
    mean = predict_blocks(Task.MULTICLASS, SHAPE, weights, numbers, slots)
    np.testing.assert_allclose(mean, np.mean(each, axis=0), rtol=1e-12)
