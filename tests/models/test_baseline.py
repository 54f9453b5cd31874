import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.dummy import DummyRegressor

from shardwise.core.target import Target, Task
from shardwise.models.baseline import best_constant, weighted_quantile
from shardwise.models.losses import task_loss
from shardwise.testing.models import ModelConformance, tiny_table, tiny_target


class TestBaseline(ModelConformance):
    family = "baseline"


def test_mean_and_quantile_equal_sklearn() -> None:
    y = np.random.default_rng(0).normal(size=101)
    for task, dummy in (
        (Task.REGRESSION, DummyRegressor()),
        (Task.QUANTILE, DummyRegressor(strategy="quantile", quantile=0.8)),
    ):
        expected = dummy.fit(np.zeros((101, 1)), y).predict([[0]])
        target = Target(column="y", task=task, quantile=0.8)
        assert best_constant(target, y, None) == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(1, 5)), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_weighted_quantile_is_that_of_the_repeated_values(pairs: list[tuple[float, int]], quantile: float) -> None:
    values, times = np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])
    repeated = np.repeat(values, times)
    expected = np.quantile(repeated, quantile, method="inverted_cdf")
    assert weighted_quantile(values, times.astype(float), quantile) == expected


@pytest.mark.parametrize("task", list(Task))
def test_no_other_constant_is_better(task: Task) -> None:
    target, y = tiny_target(task), tiny_table(task).y
    weight = np.random.default_rng(1).random(len(y))

    def loss(constant: np.ndarray) -> float:
        prediction = np.broadcast_to(constant, (len(y), len(constant)))
        return task_loss(target, y, prediction if task.is_classification else prediction[:, 0], weight)

    best = best_constant(target, y, weight)
    for step in (0.9, 0.99, 1.01, 1.1):
        other = best * step if not task.is_classification else best**step / (best**step).sum()
        assert loss(best) <= loss(other)
