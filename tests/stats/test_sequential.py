"""Always-valid: looked at all the time, the rate of false alarms is kept, and real differences are found."""

import numpy as np
import pytest

from shardwise.stats.sequential import Mean, Rate, difference, evidence_of_more, single


def test_means_merge_to_the_whole():
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=1000)
    together = Mean()
    for part in np.split(values, [1, 7, 400]):
        piece = Mean()
        piece.add(part)
        together.merge(piece)
    assert (together.count, together.mean) == (1000, pytest.approx(values.mean()))
    assert together.variance == pytest.approx(values.var(ddof=1) / 1000)
    assert Mean.from_json(together.to_json()) == together


def walks(rng, shift, looks=60, rows=100):
    """The lowest `low` and the highest `high` of a sequence that is looked at `looks` times."""
    first, second, lows, highs = Mean(), Mean(), [], []
    for _ in range(looks):
        first.add(rng.binomial(1, 0.1, 3 * rows).astype(float))
        second.add(rng.binomial(1, 0.1 + shift, rows).astype(float))
        found = difference([(first, second)], alpha=0.05, tuned=0.03)
        lows.append(found.low)
        highs.append(found.high)
    return max(lows), min(highs)


def test_the_truth_is_passed_at_any_time_as_rarely_as_agreed():
    ends = np.array([walks(np.random.default_rng(seed), 0.0) for seed in range(400)])
    assert np.mean(ends[:, 0] > 0) <= 0.05
    assert np.mean(ends[:, 1] < 0) <= 0.05
    shifted = np.array([walks(np.random.default_rng(seed), 0.05) for seed in range(100)])
    assert np.mean(shifted[:, 0] > 0) >= 0.9


def test_strata_are_compared_within():
    """Shares that change while the level does: pooled means differ, those within a stratum do not."""
    rng = np.random.default_rng(1)
    strata = []
    for level, share in ((0.1, 0.05), (0.5, 0.5)):
        pair = Mean(), Mean()
        for mean, rows in zip(pair, (int(20_000 * (1 - share)), int(20_000 * share)), strict=True):
            mean.add(rng.binomial(1, level, rows).astype(float))
        strata.append(pair)
    found = difference(strata, alpha=0.05, tuned=0.02)
    assert found.low < 0 < found.high
    assert found.high < 0.03


def test_nothing_is_known_of_few():
    few = Mean()
    few.add(np.ones(10))
    found = single(few, alpha=0.05, tuned=0.1)
    assert found.to_json() == {"value": 0.0, "low": None, "high": None}


def failing(rng, more, looks=50, rows=200, share=0.05):
    first, second, best = Rate(), Rate(), 0.0
    for _ in range(looks):
        mine = rng.binomial(rows, share)
        first.merge(Rate(rows - mine, rng.binomial(rows - mine, 0.01)))
        second.merge(Rate(mine, rng.binomial(mine, 0.01 + more)))
        best = max(best, evidence_of_more([(first, second)]))
    return best


def test_failures_are_evidence_where_they_are_more_and_rarely_else():
    usual = np.array([failing(np.random.default_rng(seed), 0.0) for seed in range(400)])
    assert np.mean(usual >= 20) <= 0.05
    assert np.mean([failing(np.random.default_rng(seed), 0.1) >= 20 for seed in range(100)]) >= 0.9


def test_a_candidate_that_fails_less_is_no_evidence():
    assert evidence_of_more([(Rate(1000, 500), Rate(1000, 0))]) == 0.0
    assert evidence_of_more([]) == 0.0
