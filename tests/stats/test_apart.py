"""What the mean of models errs less than each of them, from rows without labels."""

import numpy as np
import pytest

from shardwise.core.target import Target, Task
from shardwise.stats.apart import Apart, Shift, shift_of_classes
from shardwise.stats.conformal import Conformal

MODELS, ROWS = 5, 20_000
NUMBERS = Target(column="y", task=Task.REGRESSION)
CLASSES = Target(column="y", task=Task.MULTICLASS, classes=("a", "b", "c"))


def fitted_models(rng, rows, models=MODELS):
    """The truth of rows, and what models say of it that err by themselves half as much as the truth is noisy."""
    mean = rng.normal(size=rows)
    return mean + rng.normal(size=rows), mean + 0.5 * rng.normal(size=(models, rows))


def softmax(scores):
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def class_models(rng, rows):
    scores = rng.normal(scale=2.0, size=(rows, 3))
    y = (rng.random(rows)[:, None] > softmax(scores).cumsum(axis=1)).sum(axis=1).clip(0, 2)
    return y.astype(np.float64), softmax(scores + rng.normal(size=(MODELS, rows, 3)))


@pytest.mark.parametrize(("target", "draw"), [(NUMBERS, fitted_models), (CLASSES, class_models)])
@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_the_mean_of_models_holds_what_is_asked(target, draw, level):
    rng = np.random.default_rng(0)
    y, each = draw(rng, ROWS)
    own = np.arange(ROWS) % MODELS
    out_of_fold = each[own, np.arange(ROWS)]
    fitted = Conformal.fit(target, y, out_of_fold, own)
    _, others = draw(rng, 2000)
    moved = fitted.moved(Apart(others, others.mean(axis=0)))
    fresh_y, fresh = draw(rng, ROWS)
    before, after = (each.holds(fresh_y, fresh.mean(axis=0), level).mean() for each in (fitted, moved))
    assert before > level + 0.01
    assert after == pytest.approx(level, abs=0.01)


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_a_model_that_errs_more_than_the_mean_holds_what_is_asked(level):
    """One model of all rows, as far from the mean of many fold models as they are."""
    rng = np.random.default_rng(3)
    y, each = fitted_models(rng, ROWS)
    fitted = Conformal.fit(NUMBERS, y, each[np.arange(ROWS) % MODELS, np.arange(ROWS)], np.arange(ROWS) % MODELS)
    _, others = fitted_models(rng, 2000, models=31)
    of_mean, of_one = (fitted.moved(Apart(others[1:], answers)) for answers in (others[1:].mean(axis=0), others[0]))
    fresh_y, fresh = fitted_models(rng, ROWS)
    assert of_mean.holds(fresh_y, fresh[0], level).mean() < level - 0.01
    assert of_one.holds(fresh_y, fresh[0], level).mean() == pytest.approx(level, abs=0.01)


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_where_nothing_can_be_learned_sets_follow_the_model_that_answers(level):
    """All say nearly a third, each a little beside the others: by the scores of the others it holds any share."""
    rng = np.random.default_rng(4)
    target = Target(column="y", task=Task.BINARY, classes=("a", "b"))

    def answers(rows, place):
        p = 1 / 3 + place + 0.001 * rng.normal(size=rows)
        return np.column_stack([1.0 - p, p])

    places = rng.normal(scale=0.002, size=MODELS)
    own = np.arange(ROWS) % MODELS
    y = (rng.random(ROWS) < 1 / 3).astype(np.float64)
    out_of_fold = np.stack([answers(ROWS, place) for place in places])[own, np.arange(ROWS)]
    fitted = Conformal.fit(target, y, out_of_fold, own)
    each = np.stack([answers(2000, place) for place in places])
    fresh_y = (rng.random(ROWS) < 1 / 3).astype(np.float64)
    for place in (-0.01, 0.01):
        moved = fitted.moved(Apart(each, answers(2000, place)))
        before, after = (one.holds(fresh_y, answers(ROWS, place), level).mean() for one in (fitted, moved))
        assert abs(before - level) > 0.05
        assert after == pytest.approx(level, abs=0.01)


def test_models_that_agree_move_nothing_and_counts_stay():
    rng = np.random.default_rng(1)
    y, prediction = rng.normal(size=500), np.zeros(500)
    fitted = Conformal.fit(NUMBERS, y, prediction, np.arange(500) % 5)
    same = fitted.moved(Apart(np.zeros((5, 100)), np.zeros(100)))
    for level in (0.5, 0.9):
        ends, moved = (np.concatenate(each.interval(np.zeros(1), level)) for each in (fitted, same))
        np.testing.assert_allclose(moved, ends, atol=1e-9)
    target, y = Target(column="y", task=Task.COUNT), rng.poisson(2.0, 500).astype(np.float64)
    counts = Conformal.fit(target, y, prediction + 2.0, np.arange(500) % 5)
    assert counts.moved(Apart(rng.random((5, 100)), np.full(100, 0.5))) is counts


@pytest.mark.parametrize("spread", [1.0, 1.5])
@pytest.mark.parametrize("level", [0.8, 0.9, 0.95])
def test_where_some_rows_are_far_harder_than_others_no_less_is_held_than_asked(level, spread):
    """Large distances between models lie where errors are large, and not anywhere."""

    def draw(rows):
        mean, hard = 100.0 * rng.normal(size=rows), np.exp(spread * rng.normal(size=rows))
        return mean + hard * rng.normal(size=rows), mean + 0.7 * hard * rng.normal(size=(MODELS, rows))

    rng = np.random.default_rng(4)
    (y, each), (_, others), (fresh_y, fresh) = draw(ROWS), draw(2000), draw(ROWS)
    own = np.arange(ROWS) % MODELS
    moved = Conformal.fit(NUMBERS, y, each[own, np.arange(ROWS)], own).moved(Apart(others, others.mean(axis=0)))
    assert moved.holds(fresh_y, fresh.mean(axis=0), level).mean() > level - 0.01


def test_scores_keep_their_order_and_many_classes_are_thinned(monkeypatch):
    shift = Shift(np.array([0.0, 1.0]), np.array([2.0, -2.0]))
    np.testing.assert_array_equal(shift(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])), [1.0, 2.0, 2.0, 2.0, 2.0])
    rng = np.random.default_rng(2)
    _, each = class_models(rng, 3000)
    apart = Apart(each, each.mean(axis=0))
    whole = shift_of_classes(0.4, apart)
    monkeypatch.setattr("shardwise.stats.apart.MOST_CELLS", apart.each.size // 3)
    few = shift_of_classes(0.4, apart)
    at = np.linspace(0.05, 0.9, 20)
    np.testing.assert_allclose(few(at), whole(at), atol=0.03)
