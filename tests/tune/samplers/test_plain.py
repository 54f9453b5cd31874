from typing import Any

import numpy as np

from shardwise.core.config import RunConfig
from shardwise.core.space import Choice, Float, Int, Space
from shardwise.models.spaces import spaces_for
from shardwise.tune.archive import Archive
from shardwise.tune.samplers.plain import GridSampler, RandomSampler, SobolSampler
from shardwise.tune.setup import make_study
from shardwise.tune.study import Study
from shardwise.tune.trial import Trial

SPACE: Space = {"rate": Float(0.01, 1.0, log=True), "leaves": Int(2, 64, log=True), "kind": Choice(("a", "b"))}


def trials(many: int) -> list[Trial]:
    return [Trial(number=number, family="trees", params={}) for number in range(many)]


def test_random_params_lie_inside_the_space_and_reach_its_ends() -> None:
    drawn: list[dict[str, Any]] = [RandomSampler().suggest(SPACE, [], seed) for seed in range(400)]
    rates, leaves = np.array([d["rate"] for d in drawn]), np.array([d["leaves"] for d in drawn])
    assert rates.min() >= 0.01
    assert rates.max() <= 1.0
    assert {leaves.min(), leaves.max()} == {2, 64}
    assert np.median(rates) < 0.2  # uniform in the logarithm: the median is the geometric middle
    assert {d["kind"] for d in drawn} == {"a", "b"}


def test_a_grid_visits_every_combination_once_before_any_twice() -> None:
    space: Space = {"depth": Int(1, 2), "kind": Choice(("a", "b", "a")), "rate": Float(0.0, 1.0)}
    drawn = [tuple(GridSampler().suggest(space, trials(n), 0).items()) for n in range(24)]
    assert len(set(drawn[:12])) == 12  # 2 depths, 2 kinds, 3 levels of the rate
    assert drawn[12:] == drawn[:12]


def test_combinations_that_are_the_same_come_once() -> None:
    space: Space = {"kernel": Choice(("linear", "rbf")), "gamma": Float(0.1, 1.0, when=("kernel", ("rbf",)))}
    sampler = GridSampler()
    drawn = [sampler.suggest(space, trials(n), 0) for n in range(4)]
    assert sampler.points(space) == 4  # linear, and rbf with three levels of gamma
    assert len({str(sorted(each.items())) for each in drawn}) == 4


def test_what_is_held_is_no_dimension_and_conditions_see_it() -> None:
    def study(**changes: Any) -> Study:
        asked = RunConfig.from_mapping({"data": "x", "target": "y", "families": "svm", "sampler": "grid", **changes})
        return make_study(
            asked, [], spaces_for(["svm"]), folds=2, rung_count=lambda _: 1, archive=Archive(), features={}
        )  # fmt: skip

    held = study(params={"svm": {"kernel": "rbf"}})
    points = [GridSampler().suggest(held.spaces["svm"], trials(n), 0) for n in range(9)]
    assert all("gamma" in params and params["kernel"] == "rbf" for params in points)
    assert len({str(sorted(params.items())) for params in points}) == 9
    asked = study(space={"svm": {"gamma": {"high": 3}}})
    assert asked.spaces["svm"]["gamma"].high == 3  # type: ignore[union-attr]


def test_what_is_idle_on_the_data_may_be_asked_for_and_is_no_dimension() -> None:
    asked = RunConfig.from_mapping({"data": "x", "target": "y", "space": {"trees": {"cat_smooth": {"high": 50}}}})
    study = make_study(
        asked, [], spaces_for(["trees"]), folds=2, rung_count=lambda _: 1, archive=Archive(), features={},
        idle=["cat_smooth"],
    )  # fmt: skip
    assert "cat_smooth" not in study.spaces["trees"]


def test_a_sobol_sequence_has_one_point_in_each_cell() -> None:
    space: Space = {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}
    drawn = [SobolSampler().suggest(space, trials(n), seed=n) for n in range(64)]
    cells = {(int(8 * d["x"] - 1e-9), int(8 * d["y"] - 1e-9)) for d in drawn}  # type: ignore[operator]
    assert len(cells) >= 60  # rounding to six digits may push a point over an edge
    assert drawn[:5] == [SobolSampler().suggest(space, trials(n), seed=9) for n in range(5)]
