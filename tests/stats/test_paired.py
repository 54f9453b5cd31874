"""Paired comparisons: they hold the truth, see pairs and groups, and know when they know nothing."""

import numpy as np
import pytest

from shardwise.stats.metrics import METRICS, Pairs
from shardwise.stats.paired import gain, holm, units_of

RMSE, AUC, ACCURACY = METRICS["rmse"], METRICS["roc_auc"], METRICS["accuracy"]


def numbers(rng, rows, more=0.0):
    y = rng.normal(size=rows)
    shared, weight = rng.normal(size=rows), np.ones(rows)
    first = y + shared + 0.3 * rng.normal(size=rows)
    second = y + shared + np.sqrt(0.09 + more) * rng.normal(size=rows)
    return Pairs(y, first, weight), Pairs(y, second, weight)


def test_the_interval_holds_the_true_gain_as_often_as_it_says():
    held = []
    for seed in range(400):
        found = gain(RMSE, *numbers(np.random.default_rng(seed), 300))
        held.append(found.interval()[0] <= 0.0 <= found.interval()[1])
    assert 0.92 <= np.mean(held) <= 0.98


def test_pairing_tells_more_than_two_intervals():
    champion, challenger = numbers(np.random.default_rng(0), 2000)
    paired = gain(RMSE, champion, challenger).deviation
    alone = np.std([RMSE.of(numbers(np.random.default_rng(seed), 2000)[0]) for seed in range(50)])
    assert paired < 0.6 * alone


def test_the_sign_makes_better_positive():
    champion, challenger = numbers(np.random.default_rng(1), 2000, more=1.0)
    worse = gain(RMSE, champion, challenger)
    assert worse.value < 0
    assert worse.value == pytest.approx(RMSE.of(champion) - RMSE.of(challenger))
    assert worse.p_below(0.0) < 1e-6
    assert worse.p_above(0.0) > 1 - 1e-6
    better = gain(RMSE, challenger, champion)
    assert (better.value, better.interval()[0]) == (-worse.value, pytest.approx(-worse.interval()[1]))


def test_the_p_value_and_the_interval_agree():
    found = gain(RMSE, *numbers(np.random.default_rng(2), 150, more=0.05))
    low, high = found.interval()
    assert found.p_above(low) == pytest.approx(0.025)
    assert found.p_below(high) == pytest.approx(0.025)


def test_rows_of_a_group_count_once():
    champion, challenger = numbers(np.random.default_rng(3), 200)
    groups = np.repeat(np.arange(200.0), 5)
    five = [Pairs(*(np.repeat(part, 5) for part in (p.y, p.prediction, p.weight))) for p in (champion, challenger)]
    alone, grouped = gain(RMSE, champion, challenger), gain(RMSE, *five, units=units_of(groups))
    assert grouped.interval() == pytest.approx(alone.interval())
    assert gain(RMSE, *five).deviation < 0.6 * grouped.deviation


def test_the_same_predictions_have_no_gain_for_certain():
    champion, _ = numbers(np.random.default_rng(4), 50)
    same = gain(RMSE, champion, champion)
    assert (same.value, same.interval(), same.p_above(-0.1), same.p_below(0.0)) == (0.0, (0.0, 0.0), 0.0, 0.5)


def test_accuracies_that_differ_on_no_row_are_not_known_to_be_equal():
    y = np.tile([0.0, 1.0], 50)
    champion, challenger = (Pairs(y, np.abs(y - away), np.ones(100)) for away in (0.2, 0.3))
    found = gain(ACCURACY, champion, challenger)
    assert found.value == 0.0
    assert found.interval()[0] == pytest.approx(-0.0198, abs=0.001)


def test_what_is_not_defined_is_not_known():
    pairs = Pairs(np.ones(20), np.linspace(0, 1, 20), np.ones(20))
    found = gain(AUC, pairs, pairs)
    assert not found.is_known
    assert found.to_json()["low"] is None
    assert found.p_above(0.0) == 0.5


def test_missing_groups_are_each_their_own():
    assert len(set(units_of(np.array(["a", None, "a", None], object)).tolist())) == 3
    assert units_of(np.array([2.0, np.nan, 2.0])).tolist() == [0, 1, 0]


def test_holm_is_between_the_raw_and_bonferroni():
    raw = np.random.default_rng(0).random(9) / 9
    adjusted = holm(raw)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1.0, raw * 9) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(raw)]) >= 0).all()
    assert len(holm(np.empty(0))) == 0
