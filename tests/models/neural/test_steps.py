"""A step of the optimiser: parts of a batch add up, memory that runs out, losses that are not finite."""

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from shardwise.core.errors import OverBudget  # noqa: E402
from shardwise.models.neural.network import to_numpy  # noqa: E402
from shardwise.models.neural.steps import Batch, NotFinite, Steps, is_out_of_memory  # noqa: E402


def batch(rows: int = 12, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    numbers = torch.tensor(rng.normal(size=(rows, 3)), dtype=torch.float32)
    return Batch(numbers, torch.zeros((rows, 0), dtype=torch.int64), numbers.sum(1), None)


NO_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
)


def make(
    part_rows: int, room: float = float("inf"), told: Callable[[str], None] = lambda _text: None,
    error: RuntimeError = NO_MEMORY[0],
) -> Steps:  # fmt: skip
    """Least squares; more than `room` rows at once do not fit on the device."""
    tensors = {"w0": torch.ones(3, requires_grad=True), "b0": torch.zeros(1, requires_grad=True)}

    def loss(part: Batch) -> torch.Tensor:
        if len(part) > room:
            raise error
        return (part.numbers @ tensors["w0"] * 2 + tensors["b0"] - part.y).square().sum()

    return Steps(tensors, loss, 0.01, 1.0, part_rows, told)


def learned(steps: Steps, rows: int = 12) -> dict[str, np.ndarray]:
    for number in range(5):
        steps.step(batch(rows, number), 0.05, number)
    return {name: tensor.detach().numpy().copy() for name, tensor in steps.tensors.items()}


@pytest.mark.parametrize("part_rows", [1, 5, 6, 12, 99])
def test_parts_of_a_batch_are_the_same_step(part_rows: int) -> None:
    whole, parts = learned(make(12)), learned(make(part_rows))
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("error", NO_MEMORY)
def test_out_of_memory_halves_the_batch_and_the_step_stays_the_same(error: RuntimeError) -> None:
    told: list[str] = []
    steps = make(12, room=4, told=told.append, error=error)
    small, whole = learned(steps), learned(make(12))
    assert steps.part_rows == 3
    assert len(told) == 2
    assert "12 rows at once" in told[0]
    assert "still sees 12" in told[1]
    for name in whole:
        np.testing.assert_allclose(small[name], whole[name], rtol=1e-5, atol=1e-6)


def test_no_memory_for_a_single_row_is_a_ceiling() -> None:
    with pytest.raises(OverBudget, match="single row") as caught:
        learned(make(12, room=0))
    assert "--device cpu" in caught.value.hint


def test_other_errors_of_pytorch_pass_through() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        learned(make(12, room=4, error=RuntimeError("mat1 and mat2 shapes cannot be multiplied")))


def test_the_processor_says_that_it_has_no_memory_in_these_words() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.float64)
    assert is_out_of_memory(caught.value)


def test_a_loss_that_is_not_finite_names_its_batch_and_changes_nothing() -> None:
    steps = make(12)
    steps.step(batch(), 0.05, 6)
    before = steps.tensors["w0"].detach().clone()
    bad = batch()
    bad.y[3] = float("nan")
    with pytest.raises(NotFinite) as caught:
        steps.step(bad, 0.05, 7)
    assert caught.value.batch == 7
    assert torch.equal(steps.tensors["w0"], before)


def test_where_looking_is_dear_the_first_bad_batch_is_named_later() -> None:
    steps = make(12)
    steps._checked_steps = 3
    for number in range(2):
        bad = batch()
        bad.y[0] = float("inf")
        steps.step(bad, 0.05, number)
    with pytest.raises(NotFinite) as caught:
        steps.check()
    assert caught.value.batch == 0
    steps.check()


def test_restored_moments_go_on_as_if_nothing_had_happened() -> None:
    steps = make(12)
    learned(steps)
    weights = {name: tensor.detach().numpy().copy() for name, tensor in steps.tensors.items()}
    moments = to_numpy(steps.remembered())
    wanted = learned(steps)
    other = make(12)
    other.restore(weights, moments)
    again = learned(other)
    for name in wanted:
        np.testing.assert_array_equal(again[name], wanted[name])
