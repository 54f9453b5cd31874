"""Reinforcement learning: a policy over the discretised space, trained by policy gradient on the rewards of trials.

    pi(a) = prod_j softmax(theta_j)[a_j]        a_j: the part of param j's range, or its value
    A_i   = r_i - b                             r_i: reward of trial i by its rank, b: the mean reward (baseline)
    theta += rate (sum_i w_i A_i grad log pi(a_i) + beta grad H(pi))

REINFORCE (Williams 1992) with a baseline and an entropy bonus. Trials are few, so that the policy is trained anew from
the whole history at each call, several epochs long; `w_i` is the clipped ratio of the probability now to that at the
beginning of the epoch (Schulman et al. 2017), which keeps a single trial from taking over. A share of a part's credit
goes to the parts beside it, as ranges are ordered. Before the first trial the policy leans towards the family's
defaults. Of several actions that the policy draws, a critic (a kernel average of the advantages) chooses one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from shardwise.core.space import Choice, Dimension, Space
from shardwise.tune.samplers.base import observed, ranked
from shardwise.tune.samplers.plain import grid_levels
from shardwise.tune.spaces import Cube
from shardwise.tune.trial import Trial

PARTS = 6  # of a number's range
EPOCHS, STEPS = 4, 10
LEAST = 1e-12  # of the probability of a part, before they are scaled
RATE = 0.4
ENTROPY = 1.0  # weight of the bonus after the first trials; falls with the number of trials
NEIGHBOUR = 0.35  # share of a part's credit that each part beside it gets
CLIP = 2.0
LEAN = 0.8  # how much likelier the default's part is at the beginning, in logits
DRAWN = 12  # actions of which the critic chooses
WIDTH = 0.25  # of the critic's kernel, in the unit cube, for each param
EXPLORE = 0.1  # of the actions are drawn at random


@dataclass
class Policy:
    """Logits of each param's parts: a list of float64 `(parts,)`."""

    logits: list[np.ndarray]

    @classmethod
    def leaning(cls, cube: Cube, levels: Sequence[Sequence[float]]) -> "Policy":
        """Near uniform, with more weight on what the family does by default."""
        default = cube.point({})
        return cls([
            -LEAN * np.minimum(np.abs(np.asarray(values) - place) / 0.3, 2.0) if len(values) > 1 else np.zeros(1)
            for values, place in zip(levels, default, strict=True)
        ])  # fmt: skip

    def probabilities(self) -> list[np.ndarray]:
        found = []
        for logits in self.logits:
            weights = np.maximum(np.exp(logits - logits.max()), LEAST)  # whose logarithm is finite
            found.append(weights / weights.sum())
        return found

    def train(self, credit: Sequence[np.ndarray], actions: np.ndarray, advantages: np.ndarray, beta: float) -> None:
        """Ascend; `credit[j]` is `(trials, parts)`, `actions` int `(trials, d)`, `advantages` `(trials,)`."""
        for _ in range(EPOCHS):
            before = self._log(actions)
            for _ in range(STEPS):
                ratio = np.exp(np.clip(self._log(actions) - before, -20.0, 20.0))
                grown = ((advantages > 0) & (ratio > CLIP)) | ((advantages < 0) & (ratio < 1.0 / CLIP))
                weight = np.where(grown, 0.0, np.minimum(ratio, CLIP) * advantages)
                for j, p in enumerate(self.probabilities()):
                    gradient = weight @ (credit[j] - p)
                    entropy = -p * (np.log(p) + (-p * np.log(p)).sum())
                    self.logits[j] = self.logits[j] + RATE * (gradient + beta * len(advantages) ** 0.5 * entropy)

    def _log(self, actions: np.ndarray) -> np.ndarray:
        logs = [np.log(p) for p in self.probabilities()]
        return np.asarray(np.sum([log[actions[:, j]] for j, log in enumerate(logs)], axis=0))

    def draw(self, rng: np.random.Generator, many: int) -> np.ndarray:
        """Actions int `(many, d)`."""
        return np.column_stack([rng.choice(len(p), size=many, p=p) for p in self.probabilities()])


@dataclass(frozen=True)
class PolicySampler:
    """The family's defaults first, then what the policy draws and the critic prefers.

    `per_second`: the reward of a trial falls with the logarithm of what it costs.
    """

    learns: ClassVar[bool] = True
    per_second: bool = False

    def suggest(self, space: Space, trials: Sequence[Trial], seed: int) -> dict[str, object]:
        cube = Cube(space)
        if not trials or not cube.names:
            return cube.default()
        rng = np.random.default_rng(seed)
        levels = [grid_levels(dimension, PARTS) for dimension in cube.dimensions]
        points, losses = observed(cube, trials)
        advantages = self._advantages(cube, points, losses)
        actions = np.column_stack([_nearest(points[:, j], values) for j, values in enumerate(levels)])
        credit = [
            _credit_of(actions[:, j], len(values), ordered=not isinstance(dimension, Choice))
            for j, (values, dimension) in enumerate(zip(levels, cube.dimensions, strict=True))
        ]
        policy = Policy.leaning(cube, levels)
        policy.train(credit, actions, advantages, ENTROPY)
        drawn = policy.draw(rng, DRAWN)
        wild = rng.random(DRAWN) < EXPLORE
        drawn[wild] = np.column_stack([rng.integers(len(values), size=DRAWN) for values in levels])[wild]
        places = np.array([_inside(levels, action, cube.dimensions, rng) for action in drawn])
        return cube.params(places[int(np.argmax(_critic(places, points, advantages)))])

    def _advantages(self, cube: Cube, points: np.ndarray, losses: np.ndarray) -> np.ndarray:
        rewards = reward(losses)
        if self.per_second:
            costs = np.array([cube.log_cost(point) for point in points])
            rewards = rewards - 0.3 * ranked(costs)
        return np.asarray(rewards - rewards.mean())


def reward(losses: np.ndarray) -> np.ndarray:
    """By rank: 1 for the best trial, falling fast, as only the best counts in the end."""
    return np.asarray((1.0 - ranked(losses)) ** 2)


def _nearest(places: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    return np.asarray(np.argmin(np.abs(places[:, None] - np.asarray(levels)[None, :]), axis=1))


def _credit_of(actions: np.ndarray, parts: int, *, ordered: bool) -> np.ndarray:
    """Who gets the credit of each action: float64 `(trials, parts)`, rows sum to 1."""
    credit = np.eye(parts)[actions]
    if ordered and parts > 2:
        beside = np.zeros_like(credit)
        beside[:, 1:] += credit[:, :-1]
        beside[:, :-1] += credit[:, 1:]
        credit = credit + NEIGHBOUR * beside
    return np.asarray(credit / credit.sum(axis=1, keepdims=True))


def _inside(
    levels: Sequence[Sequence[float]], action: np.ndarray, dimensions: Sequence[Dimension], rng: np.random.Generator
) -> list[float]:
    """A place within the part of each param, at random."""
    point = []
    for values, part, dimension in zip(levels, action, dimensions, strict=True):
        jitter = 0.0 if isinstance(dimension, Choice) else (rng.random() - 0.5) / max(1, len(values))
        point.append(min(1.0, max(0.0, values[part] + jitter)))
    return point


def _critic(places: np.ndarray, points: np.ndarray, advantages: np.ndarray) -> np.ndarray:
    """Kernel average of the advantages (Nadaraya and Watson 1964), drawn to 0 far from all trials, `(m,)`."""
    width = WIDTH * np.sqrt(points.shape[1])
    squared = np.sum((places[:, None, :] - points[None, :, :]) ** 2, axis=2)
    weights = np.exp(-0.5 * squared / width**2)
    return np.asarray(weights @ advantages / (weights.sum(axis=1) + 0.1))
