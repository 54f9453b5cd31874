"""How sure a loss is."""

import numpy as np
import pytest

from shardwise.core.target import Target, Task
from shardwise.models.losses import task_error, task_loss
from shardwise.testing.models import tiny_target


@pytest.mark.parametrize("task", list(Task), ids=str)
def test_the_error_of_a_loss_is_how_much_it_differs_on_other_rows(task: Task) -> None:
    target = tiny_target(task)
    losses, errors = np.transpose([_drawn(target, seed) for seed in range(400)])
    assert errors.mean() == pytest.approx(losses.std(ddof=1), rel=0.15)


def _drawn(target: Target, seed: int) -> tuple[float, float]:
    rng = np.random.default_rng(seed)
    if target.task.is_classification:
        shares = np.linspace(1, 2, target.outputs if target.task is Task.MULTICLASS else 2)
        shares /= shares.sum()
        y = rng.choice(len(shares), 300, p=shares).astype(float)
        prediction = np.tile(shares, (300, 1))
    else:
        y = rng.poisson(2.0, 300).astype(float)
        prediction = np.full(300, 2.0)
    weight = rng.integers(1, 3, 300).astype(float)
    return task_loss(target, y, prediction, weight), task_error(target, y, prediction, weight)
