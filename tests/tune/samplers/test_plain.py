from typing import Any

import numpy as np

from shardwise.core.space import Choice, Float, Int, Space
from shardwise.tune.samplers.plain import GridSampler, RandomSampler, SobolSampler
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


def test_a_sobol_sequence_has_one_point_in_each_cell() -> None:
    space: Space = {"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)}
    drawn = [SobolSampler().suggest(space, trials(n), seed=n) for n in range(64)]
    cells = {(int(8 * d["x"] - 1e-9), int(8 * d["y"] - 1e-9)) for d in drawn}  # type: ignore[operator]
    assert len(cells) >= 60  # rounding to six digits may push a point over an edge
    assert drawn[:5] == [SobolSampler().suggest(space, trials(n), seed=9) for n in range(5)]
