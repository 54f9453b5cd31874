"""Selection: what is simpler wins where it is as good, limits hold, and crossed losses are not too good to be true."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shardwise.core.target import Target, Task
from shardwise.ensemble import growing
from shardwise.ensemble.select import Cost, Limits, Pool, Selection, is_slow, parts

TARGET = Target(column="y", task=Task.REGRESSION)
ROWS = 1500


def rmse(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> float:
    return float(np.sqrt(np.average((y - prediction) ** 2, weights=weight)))


def pool(errors: list[float], *, shared: float = 0.0, seed: int = 0, **changes: Any) -> Pool:
    """Contenders that miss the target by errors of these sizes: `shared` by all, the rest each by itself."""
    rng = np.random.default_rng(seed)
    y, common = rng.normal(size=ROWS), rng.normal(size=ROWS)
    predictions = [y + shared * common + error * rng.normal(size=ROWS) for error in errors]
    fold = np.repeat(np.arange(5), ROWS // 5)
    content: dict[str, Any] = {
        "predictions": predictions, "y": y, "weight": None, "fold": fold, "part": fold,
        "costs": [Cost(bytes=10.0, batch_s=1.0)] * len(errors), "models": [5] * len(errors),
    }  # fmt: skip
    return Pool(**{**content, **changes})


def test_errors_of_their_own_are_averaged_away() -> None:
    choice = Selection(pool([0.5, 0.5, 0.5, 0.9]), rmse, TARGET).choose()
    assert choice.way.kind in ("blend", "stack", "stack_trees")
    assert set(choice.way.members) >= {0, 1, 2}
    assert choice.way.models == (5,) * len(choice.way.members)
    assert choice.way.loss < 0.75 * choice.judged[0].loss
    assert [way.kind for way in choice.judged] == ["single", "blend", "stack", "stack_trees"]


def test_the_best_alone_is_taken_where_others_add_nothing() -> None:
    base = pool([0.5])
    honest = 0.8 * base.predictions[0]  # as near to the mean as its error asks: no slope makes it better
    copies = [honest, *(honest + shift for shift in (1.0, 2.0))]
    same = pool([0.5] * 3, predictions=copies)
    choice = Selection(same, rmse, TARGET).choose()
    assert (choice.way.kind, choice.way.members, choice.way.models) == ("single", (0,), (5,))


def test_a_crossed_loss_is_that_on_rows_that_weights_have_not_seen() -> None:
    """Of contenders that are noise some fit some rows by chance; crossed, they do not look better than they are."""
    rng = np.random.default_rng(5)
    noise = pool([1.0] * 8, predictions=[0.3 * rng.normal(size=ROWS) for _ in range(8)])
    truth = float(np.std(noise.y))
    for way in Selection(noise, rmse, TARGET).choose().judged[1:]:
        assert way.loss > 0.995 * truth
        assert way.error > 0


def test_the_best_of_many_that_are_alike_is_judged_as_it_will_be() -> None:
    """Thirty contenders of the same quality: the best one is lucky on these rows, and that is taken off."""
    off = []
    for seed in range(20):
        few = pool([0.5] * 30, seed=seed, weight=np.ones(ROWS))
        losses = [few.loss(rmse, prediction) for prediction in few.predictions]
        ranked = [few.predictions[place] for place in np.argsort(losses)]
        single = Selection(replace(few, predictions=ranked), rmse, TARGET).choose().judged[0]
        assert single.members == (0,)
        off.append((min(losses) - 0.5, single.loss - 0.5))
    lucky, honest = np.mean(off, axis=0)
    assert lucky < -0.01
    assert abs(honest) < 0.2 * abs(lucky)


def test_the_first_alone_is_never_judged_by_the_loss_of_another() -> None:
    lucky = pool([0.5, 0.3])  # the second is better here, although the first has won on all rows
    single = Selection(lucky, rmse, TARGET).choose().judged[0]
    assert single.members == (0,)
    assert single.loss >= lucky.loss(rmse, lucky.predictions[0])


def test_one_contender_alone_is_judged_by_its_loss() -> None:
    one = pool([0.5])
    assert Selection(one, rmse, TARGET).choose().judged[0].loss == one.loss(rmse, one.predictions[0])


@pytest.mark.parametrize(
    ("limits", "models"),
    [
        (Limits(bytes=200, batch_s=99, alone_s=9), 5),
        (Limits(bytes=99, batch_s=99, alone_s=9), 3),
        (Limits(bytes=999, batch_s=3.0, alone_s=9), 1),
    ],
)
def test_limits_thin_the_bags_of_all_members_alike(limits: Limits, models: int) -> None:
    choice = Selection(pool([0.5, 0.5, 0.5]), rmse, TARGET, limits).choose()
    assert choice.fits
    assert choice.way.models == (models,) * 3
    total = sum(choice.way.models)
    assert 10 * total <= limits.bytes
    assert total <= limits.batch_s


def test_members_that_do_not_fit_are_passed_over_and_if_none_does_the_cheapest_is_taken() -> None:
    costs = [Cost(bytes=50.0), Cost(bytes=5.0), Cost(bytes=20.0)]
    few = pool([0.1, 0.5, 0.5], costs=costs)
    choice = Selection(few, rmse, TARGET, Limits(bytes=10, batch_s=1, alone_s=1)).choose()
    assert (choice.way.members, choice.way.models, choice.fits) == ((1,), (2,), True)
    choice = Selection(few, rmse, TARGET, Limits(bytes=1, batch_s=1, alone_s=1)).choose()
    assert (choice.way.members, choice.way.models, choice.fits) == ((1,), (1,), False)


def test_the_smallest_is_taken_where_no_byte_is_left() -> None:
    few = pool([0.1, 0.5, 0.5], costs=[Cost(bytes=50.0, batch_s=0.1), Cost(bytes=5.0, batch_s=0.3), Cost(bytes=20.0)])
    choice = Selection(few, rmse, TARGET, Limits(bytes=-100, batch_s=1, alone_s=1)).choose()
    assert (choice.way.members, choice.fits) == ((1,), False)


def test_weighted_rows_count_as_often_as_they_weigh() -> None:
    whole = pool([0.5, 0.5])
    weight = np.random.default_rng(1).integers(1, 4, ROWS).astype(np.float64)
    times = weight.astype(int)
    repeated = pool(
        [0.5, 0.5], predictions=[np.repeat(p, times) for p in whole.predictions], y=np.repeat(whole.y, times),
        fold=np.repeat(whole.fold, times), part=np.repeat(whole.part, times),
    )  # fmt: skip
    weighted = pool([0.5, 0.5], weight=weight)
    blends = [Selection(each, rmse, TARGET).choose().judged[1] for each in (weighted, repeated)]
    assert blends[0].kind == blends[1].kind == "blend"
    assert blends[0].combiner.weights == blends[1].combiner.weights


def test_parts_are_folds_or_blocks() -> None:
    three = np.array([0, 1, 2, 0, 1, 2])
    assert parts(three) is three
    one = parts(np.zeros(100, int))
    assert np.bincount(one).tolist() == [20] * 5
    two = parts(np.repeat([0, 1], 50))
    assert len(np.unique(two)) == 6
    assert set(two[:50]).isdisjoint(two[50:])


@pytest.mark.parametrize("other", [0.5, 0.8, 0.98])
def test_what_is_little_is_measured_from_perfect_answers(other: float) -> None:
    """Whether perfect answers have a loss of 0 or of -1, as those of an AUC, the same members are taken."""
    two = pool([0.5, other], shared=0.3)

    def high(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> float:
        return 0.01 * rmse(y, prediction, weight) - 1.0

    plain = Selection(two, rmse, TARGET).choose()
    below = Selection(two, high, TARGET, perfect=-1.0).choose()
    assert (below.way.kind, below.way.members) == (plain.way.kind, plain.way.members)
    assert plain.way.kind != "single"


def test_a_pool_is_slow_where_its_costliest_members_together_are() -> None:
    few = pool([0.5] * 6, costs=[Cost(batch_s=each) for each in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)])
    assert is_slow(few, Cost(bytes=math.inf, batch_s=5 * 18.0 - 0.1, alone_s=math.inf))
    assert not is_slow(few, Cost(bytes=0.0, batch_s=5 * 18.0, alone_s=0.0))


@pytest.mark.parametrize("classes", [growing.MOST_CLASSES, growing.MOST_CLASSES + 1])
def test_of_many_classes_no_trees_are_grown(classes: int) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, classes, ROWS).astype(np.float64)
    sure = np.eye(classes)[y.astype(int)]
    predictions = [(sure + 2 * rng.dirichlet(np.ones(classes), ROWS)) / 3 for _ in range(2)]
    target = Target(column="y", task=Task.MULTICLASS, classes=tuple(range(classes)))
    judged = Selection(pool([1.0] * 2, predictions=predictions, y=y), log_loss, target).choose().judged
    assert ("stack_trees" in [way.kind for way in judged]) == (classes <= growing.MOST_CLASSES)


def log_loss(y: np.ndarray, prediction: np.ndarray, weight: np.ndarray | None) -> float:
    assert weight is None
    return float(-np.log(prediction[np.arange(len(y)), y.astype(int)]).mean())


def test_trees_may_use_a_member_that_a_mean_does_without() -> None:
    """The second one says by how much the first one errs, and knows nothing of the target itself."""
    rng = np.random.default_rng(1)
    y, sign = rng.normal(size=ROWS), rng.choice([-1.0, 1.0], ROWS)
    predictions = [y + 0.3 * sign, 9.0 * sign]
    costs = [Cost(bytes=1.0), Cost(bytes=2.0)]
    choice = Selection(pool([1.0] * 2, predictions=predictions, y=y, costs=costs), rmse, TARGET).choose()
    assert [way.kind for way in choice.judged] == ["single", "stack_trees"]
    assert (choice.way.kind, choice.way.members) == ("stack_trees", (0, 1))
    assert choice.way.loss < 0.7 * choice.judged[0].loss
    few = pool([1.0] * 2, predictions=predictions, y=y).take(np.arange(ROWS) % 10 == 0)
    assert len(few.y) < growing.LEAST_ROWS
    assert [way.kind for way in Selection(few, rmse, TARGET).choose().judged] == ["single"]
    for limits in (Cost(bytes=2.0, batch_s=math.inf, alone_s=math.inf), Cost(bytes=0.5)):
        small = Selection(pool([1.0] * 2, predictions=predictions, y=y, costs=costs), rmse, TARGET, limits).choose()
        assert [way.kind for way in small.judged] == ["single"]


def test_what_loses_by_each_model_that_is_left_out_keeps_all_or_is_no_member() -> None:
    three = pool([0.3, 0.5, 0.5], least=[5, 1, 1])
    limits = Limits(bytes=math.inf, batch_s=3.0, alone_s=math.inf)
    selection = Selection(three, rmse, TARGET, limits)
    assert selection.kept((0,)) == ()
    assert selection.kept((1,)) == (3,)
    assert 0 not in selection.choose().way.members
    wide = Selection(three, rmse, TARGET, Limits(bytes=math.inf, batch_s=7.0, alone_s=math.inf))
    assert wide.kept((0, 1)) == (5, 2)
    assert 0 in wide.choose().way.members


def test_groups_stay_whole_in_the_parts_of_a_hold_out() -> None:
    units = np.arange(400) % 40
    found = parts(np.zeros(400, int), units=units)
    assert len(np.unique(found)) == 5
    assert all(len(np.unique(found[units == unit])) == 1 for unit in range(40))


@pytest.mark.parametrize("sizes", [(ROWS,), (ROWS - 10, 10), (900, 600)])
def test_few_groups_are_no_reason_to_fail(sizes: tuple[int, ...]) -> None:
    one, units = np.zeros(ROWS, np.int64), np.repeat(np.arange(len(sizes)), sizes)
    held = pool([0.5, 0.5, 0.5], fold=one, part=parts(one, units=units))
    choice = Selection(held, rmse, TARGET).choose()
    assert (choice.way.kind == "single") is (min(sizes) == 10)
    assert np.isfinite(choice.way.loss)
