"""Which model family gets the next trial: a bandit over the families (UCB1, Auer et al. 2002) with rewards by rank."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from shardwise.core.seeds import derive_seed
from shardwise.tune.samplers.policy import reward
from shardwise.tune.trial import Trial

BONUS = 0.4  # weight of what is not known yet


def choose_family(families: Sequence[str], trials: Sequence[Trial], seed: int) -> str:
    """The family whose better trials promise most for what they cost; each one is tried once before any is tried twice.

    The reward of a family is the mean of the better half of its trials, as a family is worth what its best can do;
    seconds count by the logarithm of the mean cost. Ties go by the seed.
    """
    ordered = sorted(families)
    if len(ordered) == 1:
        return ordered[0]
    known = [trial for trial in trials if trial.family in ordered]
    counts = {family: sum(trial.family == family for trial in known) for family in ordered}
    fresh = [family for family in ordered if not counts[family]]
    if fresh:
        return fresh[derive_seed(seed, "family") % len(fresh)]
    worth = _worth(known)
    total = math.log(1 + len(known))
    return max(ordered, key=lambda family: worth.get(family, 0.0) + BONUS * math.sqrt(total / counts[family]))


def _worth(trials: Sequence[Trial]) -> Mapping[str, float]:
    back = [trial for trial in trials if not trial.pending]
    ended = {trial.family for trial in back if trial.done and not trial.failed}
    back = [trial for trial in back if trial.done or trial.family not in ended]  # one that rests may become better
    if not back:
        return {}
    losses = np.array([trial.loss for trial in back])
    losses[~np.isfinite(losses)] = np.inf
    rewards = reward(losses)
    worth = {}
    for family in {trial.family for trial in back}:
        own = np.sort([r for r, trial in zip(rewards, back, strict=True) if trial.family == family])[::-1]
        cost = float(np.mean([trial.cost_s for trial in back if trial.family == family]))
        worth[family] = float(own[: (len(own) + 1) // 2].mean()) - 0.05 * math.log1p(cost)
    return worth
