"""Rungs: low fidelities of a candidate, at which trials are compared before most of them are given up.

A rung of trees is a number of boosting rounds. Slow learners need more of them, so that the rungs are laid by learning
rate times rounds, at which candidates stand about equally far; the last rung is the whole training, with early
stopping. Where rungs are of partitions, a candidate is trained to its end on a ninth and a third of them first, and
begins anew. Families that are not here are cheap, or cannot go on from where they stopped: they are trained as a whole
at once.
"""

from shardwise.core.candidate import Candidate
from shardwise.models.trees import TreesParams

PROGRESS = (1.5, 4.5, 13.5)  # learning rate x rounds on the rungs below the last one: a third of the next each
SHARES = (1 / 9, 1 / 3)  # of the partitions, on the rungs below the last one
LEAST_ROUNDS = 5
RESUMES = frozenset({"trees"})  # families that keep a checkpoint where they rest (`FitRun.rests_at`)


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


def progress(candidate: Candidate, rounds: float) -> float:
    """Rounds in the unit in which the rungs are laid; steps of other families as they are."""
    return rounds * _rate(candidate) if candidate.family == "trees" else float(rounds)


def _rate(candidate: Candidate) -> float:
    return float(candidate.params.get("learning_rate", TreesParams().learning_rate))
