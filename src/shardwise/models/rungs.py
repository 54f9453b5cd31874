"""Rungs: low fidelities of a candidate, at which trials are compared before most of them are given up.

A rung of trees is a number of boosting rounds. Slow learners need more of them, so that the rungs are laid by learning
rate times rounds, at which candidates stand about equally far; the last rung is the whole training, with early
stopping. Where rungs are of partitions, a candidate is trained to its end on a ninth and a third of them first, and
begins anew. Families that are not here are cheap, or cannot go on from where they stopped: they are trained as a whole
at once.

In population-based training all candidates are trained to their end, in `LEGS` legs of equal size; between two of
them those params may change that say how a network learns, not what it is made of.
"""

from collections.abc import Mapping
from typing import Any

from shardwise.core.candidate import Candidate
from shardwise.models.neural.grids.families import Cnn, Rnn
from shardwise.models.neural.model import Neural
from shardwise.models.neural.order import all_rounds
from shardwise.models.params import parse_params
from shardwise.models.trees_params import TreesParams

PROGRESS = (1.5, 4.5, 13.5)  # learning rate x rounds on the rungs below the last one: a third of the next each
SHARES = (1 / 9, 1 / 3)  # of the partitions, on the rungs below the last one
LEAST_ROUNDS = 5
RESUMES = frozenset({"trees"})  # families that keep a checkpoint where they rest (`FitRun.rests_at`)
LEGS = 8  # of a training in a population, at most: an epoch at least
IN_LEGS: Mapping[str, type[Neural]] = {kind.family: kind for kind in (Neural, Cnn, Rnn)}
CHANGES = ("learning_rate", "weight_decay", "dropout")  # params of `IN_LEGS` that may change between two legs


def rung_count(family: str, kind: str = "rounds") -> int:
    """On how many rungs (of `rounds`, or of `partitions`) a candidate can stand, the last one included."""
    if family != "trees":
        return 1
    return 1 + len(PROGRESS if kind == "rounds" else SHARES)


def rounds_on(candidate: Candidate, rung: int) -> int | None:
    """Rounds after which training rests on a rung; None: not before its end.

    >>> rounds_on(Candidate(family="trees", params={"learning_rate": 0.1}), 1)
    45
    """
    if candidate.family != "trees" or rung >= len(PROGRESS):
        return None
    return max(LEAST_ROUNDS, round(PROGRESS[rung] / _rate(candidate)))


def resumed_at(candidate: Candidate, rung: int) -> int:
    """Rounds that a fit has which goes on from a rung; 0 for families that begin anew."""
    return 0 if candidate.family not in RESUMES else rounds_on(candidate, rung) or 0


def leg_count(family: str, params: Mapping[str, Any], rows: int) -> int:
    """In how many legs a training on so many rows is cut; 1 for families that cannot go on from a leg."""
    return min(LEGS, _all_rounds(family, params, rows)) if family in IN_LEGS else 1


def leg_end(candidate: Candidate, rows: int, number: int, legs: int) -> int:
    """Rounds that are done at the end of leg `number`, from 0; 0 before the first.

    >>> [leg_end(Candidate(family="neural", params={"epochs": 10}), 5000, number, 4) for number in range(-1, 4)]
    [0, 2, 5, 8, 10]
    """
    return round(_all_rounds(candidate.family, candidate.params, rows) * (number + 1) / legs)


def _all_rounds(family: str, params: Mapping[str, Any], rows: int) -> int:
    given = parse_params(IN_LEGS[family].kind, family, params)
    return all_rounds(rows, given.epochs, given.batch_rows)


def progress(candidate: Candidate, rounds: float) -> float:
    """Rounds in the unit in which the rungs are laid; steps of other families as they are."""
    return rounds * _rate(candidate) if candidate.family == "trees" else float(rounds)


def _rate(candidate: Candidate) -> float:
    return float(candidate.params.get("learning_rate", TreesParams().learning_rate))
