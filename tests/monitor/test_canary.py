"""Decisions of a rollout: forward where nothing speaks against it, back where something does."""

import numpy as np
import pytest

from shardwise.core.errors import ConfigError
from shardwise.monitor.canary import ADVANCE, FINISH, ROLL_BACK, WAIT, RolloutRules, Tally, decide
from shardwise.stats.sequential import Mean, Rate

RULES = RolloutRules(least_requests=100, least_s=10.0)


def tally(rng, *, candidate=400, failures=0, slower=1.0, worse=None, seconds=60.0, rows=4000):
    made = Tally(seconds=seconds)
    made.champion.requests.merge(Rate(rows, 0))
    made.candidate.requests.merge(Rate(candidate, failures))
    made.champion.log_s.add(rng.normal(-6.0, 0.3, rows))
    made.candidate.log_s.add(rng.normal(-6.0 + np.log(slower), 0.3, candidate - failures))
    if worse is not None:
        made.paired.add(rng.normal(worse, 0.1, rows))
        made.champion.loss.add(rng.normal(0.2, 0.1, rows))
        made.candidate.loss.add(rng.normal(0.2 + worse, 0.1, candidate))
    return made


def action(*tallies, rules=RULES):
    return decide(rules, tallies).action


def test_steps_are_taken_one_after_the_other():
    rng = np.random.default_rng(0)
    good = [tally(rng, worse=0.0) for _ in range(3)]
    assert [action(*good[:count]) for count in (1, 2, 3)] == [ADVANCE, ADVANCE, FINISH]


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"failures": 40}, "fails more"), ({"slower": 1.6}, "slower"), ({"worse": 0.05}, "worse than")],
)
def test_each_kind_of_evidence_takes_it_back(change, reason):
    decision = decide(RULES, [tally(np.random.default_rng(1), **change)])
    assert decision.action == ROLL_BACK
    assert reason in decision.reason


def test_it_waits_for_requests_for_time_and_for_labels():
    rng = np.random.default_rng(2)
    assert "50 of 100 requests" in decide(RULES, [tally(rng, candidate=50)]).reason
    assert "fails by less than" in decide(RULES, [tally(rng, candidate=100, failures=1)]).reason
    assert "5 of 10 seconds" in decide(RULES, [tally(rng, seconds=5.0)]).reason
    required = RolloutRules(least_requests=100, least_s=10.0, labels="required")
    assert action(tally(rng), rules=required) == WAIT
    assert action(tally(rng)) == ADVANCE
    few = tally(rng)
    few.paired.add(rng.normal(0.0, 1.0, 60))
    assert action(few) == WAIT
    ignored = RolloutRules(least_requests=100, least_s=10.0, labels="ignored")
    assert action(tally(rng, worse=0.5), rules=ignored) == ADVANCE


def test_arms_are_compared_where_answers_change_outcomes():
    rules = RolloutRules(least_requests=100, least_s=10.0, quality="arms")
    rng = np.random.default_rng(3)
    assert action(tally(rng, worse=0.1), rules=rules) == ROLL_BACK
    assert decide(rules, [tally(rng, worse=0.0)]).evidence["labels"] == 400


def test_early_steps_allow_more():
    assert [RULES.allowed(step) for step in range(3)] == [0.08, 0.04, 0.02]


def test_replicas_are_merged():
    rng = np.random.default_rng(4)
    parts = [tally(rng, worse=0.01, seconds=float(s)) for s in (5, 9)]
    merged = Tally.from_json(parts[0].to_json())
    merged.merge(parts[1])
    assert merged.candidate.requests.trials == 800
    assert merged.seconds == 9.0
    whole = Mean()
    for part in parts:
        whole.merge(part.paired)
    assert merged.paired == whole


@pytest.mark.parametrize(
    "wrong",
    [{"steps": ()}, {"steps": (0.5, 0.1)}, {"steps": (1.0,)}, {"margin": 0.0}, {"alpha": 0.9}, {"labels": "some"},
     {"quality": "both"}, {"least_requests": 0}],
)  # fmt: skip
def test_rules_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(ConfigError):
        RolloutRules(**wrong)
