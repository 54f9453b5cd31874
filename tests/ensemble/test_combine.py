"""Combiners against plain NumPy, and the invariants of greedy selection."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardwise.core.errors import ConfigError
from shardwise.ensemble.combine import Combiner, GreedyCombiner, GreedyConfig, MeanCombiner

COMBINERS = {"mean": MeanCombiner, "greedy": lambda: GreedyCombiner(rmse)}


def rmse(target, prediction):
    return float(np.sqrt(np.mean((target - prediction) ** 2)))


def log_loss(target, prediction):
    return float(-np.mean(np.log(np.clip(prediction[np.arange(len(target)), target.astype(int)], 1e-12, 1))))


def members(seed, count=5, rows=200):
    """Numbers that a target is the mean of two of, and noise."""
    rng = np.random.default_rng(seed)
    predictions = [rng.normal(size=rows) for _ in range(count)]
    return predictions, (predictions[1] + predictions[3]) / 2


@pytest.fixture(params=sorted(COMBINERS))
def combiner(request) -> Combiner:
    return COMBINERS[request.param]()


def test_the_combination_is_the_weighted_mean(combiner):
    predictions, target = members(0)
    combiner.fit(predictions, target)
    assert len(combiner.weights) == len(predictions)
    assert sum(combiner.weights) == pytest.approx(1)
    np.testing.assert_allclose(
        combiner.combine(predictions), np.average(predictions, axis=0, weights=combiner.weights), rtol=1e-12
    )


def test_one_member_is_itself_to_the_bit(combiner):
    prediction = np.random.default_rng(0).random(50)
    combiner.fit([prediction], prediction)
    assert combiner.weights == (1.0,)
    assert np.array_equal(combiner.combine([prediction]), prediction)


def test_predictions_that_do_not_match_the_members_are_refused(combiner):
    predictions, target = members(0)
    combiner.fit(predictions, target)
    with pytest.raises(ValueError, match="argument"):
        combiner.combine(predictions[:-1])


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(0, 100))
def test_probabilities_sum_to_one(weights, seed):
    rng = np.random.default_rng(seed)
    predictions = [rng.dirichlet(np.ones(3), size=20).astype(np.float32) for _ in weights]
    combined = MeanCombiner(weights).combine(iter(predictions))
    assert combined.dtype == np.float64
    np.testing.assert_allclose(combined.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(combined, np.average(predictions, axis=0, weights=weights), rtol=1e-5)


def test_no_rows_are_no_problem():
    assert MeanCombiner([1, 1]).combine([np.empty((0, 3))] * 2).shape == (0, 3)


@pytest.mark.parametrize("weights", [[-1, 2], [0, 0], [float("nan")], [float("inf")]])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(ConfigError, match="cannot be used"):
        MeanCombiner(weights)


def test_a_combiner_without_members_says_so():
    with pytest.raises(ConfigError, match="no members"):
        MeanCombiner().combine([])
    with pytest.raises(ConfigError, match="no members"):
        GreedyCombiner(rmse).fit([], np.zeros(3))


def test_greedy_finds_the_members_that_the_target_is_made_of():
    predictions, target = members(1)
    combiner = GreedyCombiner(rmse)
    combiner.fit(predictions, target)
    assert combiner.weights == (0, 0.5, 0, 0.5, 0)
    assert min(combiner.losses) == pytest.approx(0, abs=1e-12)


def greedy_by_hand(predictions, target, loss, rounds):
    """The paper's algorithm, as plainly as it can be written."""
    bag, steps = [], []
    for _ in range(rounds):
        trials = [loss(target, np.mean([*bag, p], axis=0)) for p in predictions]
        bag.append(predictions[int(np.argmin(trials))])
        steps.append((min(trials), [sum(b is p for b in bag) / len(bag) for p in predictions]))
    return min(steps, key=lambda step: step[0])


@pytest.mark.parametrize("seed", range(5))
def test_greedy_equals_the_paper_and_is_never_worse_than_the_best_member(seed):
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 3, size=100).astype(np.float64)
    predictions = [rng.dirichlet(1 + 2 * np.eye(3)[t], 1)[0] for _ in range(4) for t in target.astype(int)]
    predictions = list(np.reshape(predictions, (4, 100, 3)))
    combiner = GreedyCombiner(log_loss, GreedyConfig(rounds=12))
    combiner.fit(predictions, target)
    loss, weights = greedy_by_hand(predictions, target, log_loss, 12)
    np.testing.assert_allclose(combiner.weights, weights)
    assert log_loss(target, combiner.combine(predictions)) == pytest.approx(loss)
    assert loss <= min(log_loss(target, prediction) for prediction in predictions)


def test_of_equal_members_the_first_is_taken_and_stays_alone():
    predictions, target = members(2)
    combiner = GreedyCombiner(rmse)
    combiner.fit([predictions[0], predictions[1], predictions[1].copy(), predictions[3]], target)
    assert combiner.weights == (0, 0.5, 0, 0.5)


def test_a_member_that_fails_is_never_chosen():
    predictions, target = members(3)
    combiner = GreedyCombiner(rmse)
    combiner.fit([np.full_like(target, np.nan), *predictions], target)
    assert combiner.weights[0] == 0


def test_greedy_needs_a_round():
    with pytest.raises(ConfigError, match="rounds is 0"):
        GreedyConfig(rounds=0)
