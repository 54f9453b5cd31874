"""Nested evaluation: what choosing adds."""

import numpy as np
import pytest
from tests.train.test_result import trial

from shardwise.stats.metrics import METRICS
from shardwise.train.gaps import nested_findings, nested_loss


def test_each_fold_is_scored_by_the_trial_that_is_best_on_the_others() -> None:
    trials = [trial(0, 0.1, 0.5, 0.5), trial(1, 0.5, 0.1, 0.5), trial(2, 0.4, 0.4, 0.4)]
    # without fold 0: sums 1.0, 0.6, 0.8 -> trial 1; without fold 1: 0.6, 1.0, 0.8 -> 0; without 2: 0.6, 0.6, 0.8 -> 0
    assert nested_loss(trials) == pytest.approx((0.5 + 0.5 + 0.5) / 3)


def test_of_equal_candidates_the_best_is_too_good_and_the_nested_one_is_not() -> None:
    rng = np.random.default_rng(0)
    best, nested = [], []
    for _ in range(200):
        trials = [trial(number, *rng.normal(1.0, 0.1, 5)) for number in range(20)]
        best.append(min(each.loss for each in trials))
        nested.append(nested_loss(trials))
    assert np.mean(best) < 0.95
    assert np.mean(nested) == pytest.approx(1.0, abs=0.015)


def test_few_folds_one_trial_or_a_large_test_tell_nothing() -> None:
    assert nested_loss([trial(0, 0.1, 0.2), trial(1, 0.2, 0.1)]) is None
    assert nested_loss([trial(0, 0.1, 0.2, 0.3)]) is None
    assert nested_loss([]) is None
    trials = [trial(0, -0.9, -0.8, -0.9), trial(1, -0.8, -0.8, -0.8)]
    assert nested_findings(METRICS["roc_auc"], trials, 5000) == []
    (found,) = nested_findings(METRICS["roc_auc"], trials, 0)
    assert found.evidence["best"] == pytest.approx(0.8667, abs=1e-3)
    assert "the second figure" in found.hint
