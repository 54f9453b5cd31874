"""Stacks against plain NumPy: they find what the target is made of, and each row is answered by itself."""

import numpy as np
import pytest

from shardwise.core.target import Target, Task
from shardwise.ensemble.combine import GreedyCombiner, GreedyConfig, MeanCombiner
from shardwise.ensemble.stack import Stack
from shardwise.ensemble.stacking import StackCombiner
from shardwise.models.links import link, unlink
from shardwise.models.losses import task_loss

TASKS = (Task.BINARY, Task.MULTICLASS, Task.REGRESSION, Task.COUNT)


def target_of(task: Task) -> Target:
    classes = {Task.BINARY: ("a", "b"), Task.MULTICLASS: ("a", "b", "c")}.get(task, ())
    return Target(column="y", task=task, classes=classes)


def problem(task: Task, rows: int = 3000, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Members that know a part of the truth each, too sure of themselves; and labels drawn from the truth."""
    rng = np.random.default_rng(seed)
    columns = 3 if task is Task.MULTICLASS else 1
    parts = 0.7 * rng.normal(size=(3, rows, columns))
    truth = parts[0] + 0.5 * parts[1] + 0.3
    members = [link(task, 1.6 * part) for part in parts]
    if task is Task.REGRESSION:
        return members, truth[:, 0] + 0.1 * rng.normal(size=rows)
    if task is Task.COUNT:
        return members, rng.poisson(np.exp(truth[:, 0])).astype(np.float64)
    shares = link(task, truth)
    return members, (rng.random(rows)[:, None] > shares.cumsum(axis=1)).sum(axis=1).astype(np.float64)


def stacked(task: Task) -> StackCombiner:
    target = target_of(task)
    return StackCombiner(target, GreedyCombiner(lambda y, p: task_loss(target, y, p), GreedyConfig(rounds=12)))


@pytest.mark.parametrize("task", list(Task))
def test_a_score_is_what_the_link_undoes(task: Task) -> None:
    scores = np.random.default_rng(0).normal(size=(50, 3 if task is Task.MULTICLASS else 1))
    prediction = link(task, scores)
    np.testing.assert_allclose(link(task, unlink(task, prediction)), prediction, rtol=1e-12)


@pytest.mark.parametrize("task", TASKS)
def test_a_stack_finds_the_slopes_and_is_better_than_the_mean(task: Task) -> None:
    members, y = problem(task)
    combiner = stacked(task)
    combiner.fit(members, y)
    found = np.zeros(3)
    found[np.flatnonzero(combiner.weights)] = combiner.stack.slopes
    np.testing.assert_allclose(found, [1 / 1.6, 0.5 / 1.6, 0.0], atol=0.12)
    new, labels = problem(task, seed=1)
    target = target_of(task)
    mean = MeanCombiner(combiner.weights).combine(new)
    assert task_loss(target, labels, combiner.combine(new)) < 0.99 * task_loss(target, labels, mean)


@pytest.mark.parametrize("task", TASKS)
def test_a_row_gets_the_same_bits_alone_and_in_a_batch(task: Task) -> None:
    members, _ = problem(task, rows=300)
    groups = (0, 0, 1)
    stack = Stack(task, (0.7, 0.4), (0.1,) * (3 if task is Task.MULTICLASS else 1), groups)
    whole = stack.combine(members)
    alone = np.concatenate([stack.combine([member[[row]] for member in members]) for row in range(300)])
    np.testing.assert_array_equal(alone, whole)
    by_hand = 0.7 * unlink(task, (members[0] + members[1]) / 2) + 0.4 * unlink(task, members[2]) + 0.1
    np.testing.assert_allclose(whole, link(task, by_hand), rtol=1e-9)
    if task.is_classification:
        np.testing.assert_allclose(whole.sum(axis=1), 1.0)


def test_a_stack_survives_json_and_refuses_what_is_none() -> None:
    stack = Stack(Task.BINARY, (0.5, 0.25), (0.125,), (0, 0, 1))
    assert Stack.from_json(stack.to_json()) == stack
    with pytest.raises(ValueError, match="no stack"):
        Stack.from_json({**stack.to_json(), "groups": [1, 0, 1]})


def test_slopes_are_never_negative() -> None:
    rng = np.random.default_rng(3)
    y = rng.normal(size=500)
    combiner = stacked(Task.REGRESSION)
    combiner.fit([y + rng.normal(size=500), -y], y)
    assert min(combiner.stack.slopes) >= 0
