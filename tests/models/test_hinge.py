import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from shardwise.core.target import Task
from shardwise.models.hinge import Hinge, Insensitive, Sigmoid
from shardwise.testing.models import tiny_target


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_gradients_of_classes_are_slopes_of_the_loss(task: Task, squared: bool) -> None:
    rng = np.random.default_rng(0)
    target = tiny_target(task)
    loss = Hinge.of(target, squared, np.full(target.outputs, 1 / target.outputs))
    y = rng.integers(0, target.outputs, 50).astype(float)
    scores = rng.normal(0, 2, (50, len(loss.start)))
    classes = np.arange(1, 2) if task is Task.BINARY else np.arange(3)
    signs = np.where(y[:, None] == classes, 1.0, -1.0)

    def value(at: np.ndarray) -> np.ndarray:
        short = np.maximum(0, 1 - signs * at)
        return np.asarray(short**2 / 2 if squared else short)

    slopes = (value(scores + 1e-6) - value(scores - 1e-6)) / 2e-6
    np.testing.assert_allclose(loss.gradient(y, scores), slopes, atol=1e-4)


@pytest.mark.parametrize("squared", [True, False])
def test_gradients_of_numbers_are_slopes_of_the_loss(squared: bool) -> None:
    rng = np.random.default_rng(0)
    y, scores = rng.normal(size=50), rng.normal(size=(50, 1))

    def value(at: np.ndarray) -> np.ndarray:
        beyond = np.maximum(0, np.abs(at - y[:, None]) - 0.3)
        return np.asarray(beyond**2 / 2 if squared else beyond)

    slopes = (value(scores + 1e-6) - value(scores - 1e-6)) / 2e-6
    np.testing.assert_allclose(Insensitive(0.3, squared, np.zeros(1)).gradient(y, scores), slopes, atol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_curve_is_that_of_a_logistic_regression(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    f = rng.normal(size=(20_000, 1))
    y = (rng.random(20_000) < 1 / (1 + np.exp(-(2 * f[:, 0] - 0.7)))).astype(float)
    weight = np.where(y > 0, 3.0, 1.0) if weighted else None
    peer = LogisticRegression(C=1e9).fit(f, y, sample_weight=weight)
    found = Sigmoid.fit(Task.BINARY, f, y, weight)
    assert found.slope == pytest.approx(peer.coef_[0, 0], rel=0.005)
    assert found.shift == pytest.approx(peer.intercept_[0], abs=0.005)


def test_scores_that_part_the_classes_give_a_finite_curve() -> None:
    f = np.array([[-3.0], [-2.0], [2.0], [3.0]])
    said = Sigmoid.fit(Task.BINARY, f, np.array([0.0, 0.0, 1.0, 1.0]))(Task.BINARY, f)
    assert ((said > 0.05) & (said < 0.95)).all()
    assert said[3, 1] > said[0, 1]


def test_scores_that_tell_nothing_give_the_shares() -> None:
    y = np.array([1.0] * 30 + [0.0] * 70)
    said = Sigmoid.fit(Task.BINARY, np.zeros((100, 1)), y)(Task.BINARY, np.zeros((1, 1)))
    assert said[0, 1] == pytest.approx(0.3, abs=0.01)


def test_several_classes_have_the_sum_1() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 300).astype(float)
    scores = rng.normal(size=(300, 3)) + 2.0 * (y[:, None] == np.arange(3))
    said = Sigmoid.fit(Task.MULTICLASS, scores, y)(Task.MULTICLASS, scores)
    np.testing.assert_allclose(said.sum(axis=1), 1.0, rtol=1e-12)
    assert (said.argmax(axis=1) == scores.argmax(axis=1)).all()
