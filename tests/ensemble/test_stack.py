"""Stacks against plain NumPy: they find what the target is made of, and each row is answered by itself."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shardwise.core.target import Target, Task
from shardwise.ensemble import growing
from shardwise.ensemble.combine import GreedyCombiner, GreedyConfig, MeanCombiner
from shardwise.ensemble.score_trees import ScoreTrees
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


def bent(task: Task, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Members of which the second counts only where it is above 0, which no slopes say."""
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(2, 6000, 3 if task is Task.MULTICLASS else 1))
    truth = 0.5 * parts[0] + 1.5 * np.maximum(parts[1], 0.0)
    if task is Task.REGRESSION:  # in a unit of its own
        return [1000.0 + 50.0 * part[:, 0] for part in parts], 1000.0 + 50.0 * (truth + 0.1 * parts[:1, :, 0])[:, 0]
    members = [link(task, part) for part in parts]
    if task is Task.COUNT:
        return members, rng.poisson(np.exp(truth[:, 0])).astype(np.float64)
    drawn = rng.random(6000)[:, None] > link(task, truth).cumsum(axis=1)
    return members, drawn.sum(axis=1).astype(np.float64)


@pytest.mark.parametrize("task", TASKS)
def test_small_trees_learn_what_slopes_cannot_say(task: Task) -> None:
    members, y = bent(task, seed=0)
    linear = stacked(task)
    linear.fit(members, y)
    grown = linear.with_trees(members, y)
    assert (linear.stack.trees, grown.weights) == (None, linear.weights)
    new, labels = bent(task, seed=1)
    least = {Task.REGRESSION: 0.85, Task.COUNT: 0.98, Task.BINARY: 0.995, Task.MULTICLASS: 0.995}[task]
    target = target_of(task)
    assert task_loss(target, labels, grown.combine(new)) < least * task_loss(target, labels, linear.combine(new))
    assert grown.stack.to_json() == linear.with_trees(members, y).stack.to_json()


def test_trees_answer_as_lightgbm_does(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    train = growing.lgb.train

    def watched(*given: Any, **more: Any) -> Any:
        kept.append(train(*given, **more))
        return kept[-1]

    monkeypatch.setattr(growing.lgb, "train", watched)
    members, y = bent(Task.MULTICLASS, seed=2)
    scores = np.hstack([unlink(Task.MULTICLASS, member) for member in members])
    trees = growing.grown(Task.MULTICLASS, scores, np.zeros((len(y), 3)), y)
    assert 30 < len(trees.columns) == kept[-1].num_trees() <= growing.MOST_TREES
    np.testing.assert_allclose(trees.added(scores, 3), kept[-1].predict(scores, raw_score=True), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("task", TASKS)
def test_a_stack_with_trees_answers_each_row_by_itself_and_survives_json(task: Task) -> None:
    members, y = bent(task, seed=0)
    combiner = stacked(task)
    combiner.fit(members, y)
    stack = replace(combiner.with_trees(members, y).stack, groups=(0, 0, 1))
    given = [members[0][:5000], members[0][1000:], members[1][:5000]]  # more than a block of rows
    whole = stack.combine(given)
    alone = [stack.combine([member[[row]] for member in given]) for row in range(0, 5000, 50)]
    np.testing.assert_array_equal(np.concatenate(alone), whole[::50])
    content = json.loads(json.dumps(stack.to_json()))
    again = type(stack).from_json(content)
    assert again == stack
    np.testing.assert_array_equal(again.combine(given), whole)


def test_trees_without_a_split_add_nothing() -> None:
    scores = np.zeros((100, 2))
    trees = growing.grown(Task.BINARY, scores, np.zeros((100, 1)), np.arange(100) % 2.0)
    assert trees.columns == ()
    np.testing.assert_array_equal(trees.added(scores, 1), np.zeros((100, 1)))
    stack = Stack(Task.BINARY, (1.0,), (0.0,), (0,), trees)
    assert Stack.from_json(stack.to_json()) == stack


@pytest.mark.parametrize("harm", [{"bounds": [0.0]}, {"values": [0.0] * 4}, {"kind": "stack"}])
def test_trees_that_are_none_are_refused(harm: dict[str, Any]) -> None:
    """Not least by a reader that knows linear stacks alone: the kind is another one."""
    tree = {"column": 0, "features": [0, 0, 0], "bounds": [0.0, None, None], "values": [0.0] * 8}
    stack = Stack(Task.BINARY, (1.0,), (0.0,), (0,), ScoreTrees.from_json([tree]))
    content = stack.to_json()
    assert content["kind"] == "stack_trees"
    content |= {name: value for name, value in harm.items() if name in content}
    content["trees"][0] |= {name: value for name, value in harm.items() if name in tree}
    with pytest.raises(ValueError, match="no "):
        Stack.from_json(content)


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
