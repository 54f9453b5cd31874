"""The order of the rows: each once an epoch, in an order that the seed alone decides."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.target import Task
from shardwise.data.rows import DiskRows
from shardwise.models.neural import order as module
from shardwise.models.neural.order import Order, usual_batch, usual_epochs
from shardwise.testing.models import on_disk, tiny_table


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> DiskRows:
    return on_disk(tmp_path_factory.mktemp("rows"), tiny_table(Task.REGRESSION, 3000))[0]


@pytest.fixture(scope="module", autouse=True)
def small():
    """Rounds of a few hundred rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ROUND_ROWS", 700)
        patch.setattr(module, "READ_ROWS", 200)
        yield


def targets(order: Order, number: int) -> list[float]:
    return list(chain.from_iterable(chunk.y.tolist() for chunk in order.round(number)))


@given(batch_rows=st.integers(1, 900), seed=st.integers(0, 5))
def test_each_row_comes_once_an_epoch(rows: DiskRows, batch_rows: int, seed: int) -> None:
    order = Order(rows, batch_rows, seed)
    epochs = [[targets(order, epoch * order.rounds + i) for i in range(order.rounds)] for epoch in (0, 1)]
    flat = [list(chain.from_iterable(epoch)) for epoch in epochs]
    assert sorted(flat[0]) == sorted(flat[1]) == sorted(rows.target().tolist())
    assert flat[0] != flat[1]
    sizes = [len(part) for part in epochs[0]]
    assert [order.first_step(i) for i in range(order.rounds)] == [
        -(-sum(sizes[:i]) // batch_rows) for i in range(order.rounds)
    ]
    assert order.first_step(order.rounds) == order.steps


@given(numbers=st.lists(st.integers(0, 9), max_size=5), broken=st.integers(0, 9))
def test_a_round_is_the_same_whatever_was_asked_before(rows: DiskRows, numbers: list[int], broken: int) -> None:
    wanted = [targets(Order(rows, 50, 3), number) for number in range(10)]
    order = Order(rows, 50, 3)
    next(order.round(broken))  # given up in its middle
    for number in numbers:
        assert targets(order, number) == wanted[number]


def test_another_seed_is_another_order(rows: DiskRows) -> None:
    assert targets(Order(rows, 50, 1), 0) != targets(Order(rows, 50, 2), 0)
    assert np.isclose(sum(targets(Order(rows, 3000, 1), 0)), rows.target().sum())


def test_sizes_follow_the_data() -> None:
    sizes = [usual_batch(n) for n in (1, 1000, 10_000, 50_000, 500_000, 5_000_000)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (16, 1024)
    epochs = [usual_epochs(n) for n in (1, 1000, 100_000, 10**9)]
    assert epochs == sorted(epochs, reverse=True)
