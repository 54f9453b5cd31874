from dataclasses import replace

import numpy as np

from shardwise.core.space import Choice, Float, Space
from shardwise.testing.samplers import history
from shardwise.tune.samplers.bandit import _worth, choose_family
from shardwise.tune.samplers.plain import grid_levels
from shardwise.tune.samplers.policy import ENTROPY, Policy, PolicySampler, _credit_of, reward
from shardwise.tune.spaces import Cube
from shardwise.tune.trial import Trial

SPACE: Space = {"kind": Choice(("a", "b", "c"), default="b"), "rate": Float(0.0, 1.0, default=0.5)}


def test_the_defaults_come_first() -> None:
    assert PolicySampler().suggest(SPACE, [], 0) == {"kind": "b", "rate": 0.5}


def test_the_policy_learns_what_pays_and_the_bonus_keeps_the_rest_alive() -> None:
    rng = np.random.default_rng(0)
    actions = np.column_stack([rng.integers(3, size=40), rng.integers(6, size=40)])
    losses = 1.0 * (actions[:, 0] != 2) + 0.05 * rng.random(40)
    rewards = reward(losses)
    credit = [_credit_of(actions[:, 0], 3, ordered=False), _credit_of(actions[:, 1], 6, ordered=True)]
    policy = Policy.leaning(Cube(SPACE), [grid_levels(SPACE["kind"]), grid_levels(SPACE["rate"], 6)])
    before = policy.probabilities()[0][2]
    policy.train(credit, actions, rewards - rewards.mean(), ENTROPY)
    kind, rate = policy.probabilities()
    assert kind[2] > max(0.5, before)
    assert kind.min() > 0.001
    assert rate.max() < kind.max()  # of what does not matter it is less sure


def test_credit_is_shared_with_neighbours_and_sums_to_one() -> None:
    credit = _credit_of(np.array([0, 2]), 4, ordered=True)
    np.testing.assert_allclose(credit.sum(axis=1), 1.0)
    assert credit[1, 1] == credit[1, 3] > credit[1, 0] == 0.0


def trial(number: int, family: str, loss: float, cost_s: float = 1.0) -> Trial:
    return Trial(number=number, family=family, params={}, losses=(loss,), cost_s=cost_s)


def test_the_bandit_tries_each_family_and_then_prefers_the_better_one() -> None:
    assert choose_family(["trees"], [], 0) == "trees"
    assert choose_family(["linear", "trees"], [trial(0, "trees", 1.0)], 0) == "linear"
    trials = [trial(0, "trees", 1.0), trial(1, "linear", 2.0)]
    for number in range(2, 40):
        family = choose_family(["linear", "trees"], trials, number)
        trials.append(trial(number, family, (1.0 if family == "trees" else 2.0) + 0.01 * (number % 7)))
    chosen = [t.family for t in trials]
    assert chosen.count("trees") > 2 * chosen.count("linear") > 2


def test_the_bandit_survives_failures_and_weighs_seconds() -> None:
    lost = [trial(0, "trees", float("nan")), trial(1, "linear", 1.0)]
    assert choose_family(["linear", "trees"], [*lost, *history(0)], 0) == "linear"
    equal = [trial(0, "a", 1.0, cost_s=100.0), trial(1, "b", 1.0, cost_s=1.0)]
    assert choose_family(["a", "b"], equal, 0) == "b"


def test_families_are_not_compared_by_trials_that_rest_on_a_lower_rung() -> None:
    resting = [replace(trial(number, "trees", 0.6), done=False) for number in range(6)]
    ended = [trial(6, "trees", 0.4), *(trial(number, "linear", 0.5) for number in range(7, 10))]
    worth = _worth([*resting, *ended])
    assert worth["trees"] > worth["linear"]
    assert _worth(resting).keys() == {"trees"}  # where none has ended they are what is known


def test_a_long_history_leaves_probabilities_that_can_be_drawn_from() -> None:
    rng = np.random.default_rng(0)
    actions = np.column_stack([rng.integers(3, size=6000), rng.integers(6, size=6000)])
    rewards = reward(1.0 * (actions[:, 0] != 2))
    credit = [_credit_of(actions[:, 0], 3, ordered=False), _credit_of(actions[:, 1], 6, ordered=True)]
    policy = Policy.leaning(Cube(SPACE), [grid_levels(SPACE["kind"]), grid_levels(SPACE["rate"], 6)])
    for _ in range(8):
        policy.train(credit, actions, rewards - rewards.mean(), ENTROPY)
    assert all(np.isfinite(p).all() for p in policy.probabilities())
    assert policy.draw(rng, 5).shape == (5, 2)
