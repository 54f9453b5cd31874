"""The conformance kit of samplers. Subclass it, say how one is made, and pytest does the rest."""

import copy
import json
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shardwise.core.space import Choice, Float, Int, Space
from shardwise.tune.samplers.base import Sampler
from shardwise.tune.spaces import Cube
from shardwise.tune.trial import Trial

SPACE: Space = {
    "rate": Float(0.01, 1.0, log=True, default=0.1, cost=-1.0),
    "leaves": Int(2, 64, log=True, default=31, cost=0.5),
    "share": Float(0.5, 1.0, default=1.0),
    "kind": Choice(("a", "b", "c"), default="b"),
    "smooth": Float(1.0, 10.0, default=2.0, when=("kind", ("a",))),
    "held": Choice((7,), default=7),
}
_FRESH = """
import importlib, json, sys
from shardwise.testing.samplers import SPACE, history
module, name = sys.argv[1].rsplit(".", 1)
made = getattr(importlib.import_module(module), name)().sampler()
print(json.dumps([made.suggest(SPACE, history(n), seed=5) for n in (0, 3, 20)]))
"""


def loss_of(params: dict[str, Any]) -> float:
    """A smooth problem whose best point is known: rate 0.1, leaves 16, kind b."""
    far = abs(np.log10(params["rate"]) + 1.0) + abs(np.log2(params["leaves"]) - 4.0) / 3.0
    return float(far + 0.5 * (1.0 - params["share"]) + 0.6 * (params["kind"] != "b"))


def history(many: int, seed: int = 0) -> list[Trial]:
    """Random trials of `loss_of`, all of them back."""
    rng = np.random.default_rng(seed)
    cube = Cube(SPACE)
    trials = []
    for number in range(many):
        params = cube.params(rng.random(len(cube.names)))
        trials.append(Trial(number=number, family="trees", params=params, losses=(loss_of(params),), cost_s=1.0))
    return trials


def assert_inside(params: dict[str, Any], space: Space) -> None:
    """Every param has a value of its dimension, and those are there whose condition holds, and no others."""
    expected = {
        name for name, dimension in space.items()
        if dimension.when is None or params.get(dimension.when[0]) in dimension.when[1]
    }  # fmt: skip
    assert set(params) == expected
    for name, value in params.items():
        dimension = space[name]
        if isinstance(dimension, Choice):
            assert value in dimension.values
        else:
            assert dimension.low <= value <= dimension.high
            assert isinstance(value, int) == isinstance(dimension, Int)


class SamplerKit:
    """Laws of `Sampler`; a subclass overrides `sampler`."""

    def sampler(self) -> Sampler:
        raise NotImplementedError("the subclass gives a sampler")

    @pytest.mark.parametrize("many", [0, 1, 2, 9, 30])
    def test_params_lie_inside_the_space(self, many: int) -> None:
        for seed in range(3):
            assert_inside(self.sampler().suggest(SPACE, history(many), seed), SPACE)

    @pytest.mark.parametrize("many", [0, 3, 20])
    def test_equal_history_and_seed_give_equal_params(self, many: int) -> None:
        one = self.sampler()
        one.suggest(SPACE, history(12, seed=4), 1)  # what it was asked before does not matter
        assert one.suggest(SPACE, history(many), 5) == self.sampler().suggest(SPACE, history(many), 5)

    def test_a_fresh_process_says_the_same(self) -> None:
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        done = subprocess.run([sys.executable, "-c", _FRESH, kind], capture_output=True, text=True, check=True)  # noqa: S603
        here = [self.sampler().suggest(SPACE, history(n), seed=5) for n in (0, 3, 20)]
        assert json.loads(done.stdout) == json.loads(json.dumps(here))

    def test_params_are_json_values(self) -> None:
        params = self.sampler().suggest(SPACE, history(15), 2)
        assert json.loads(json.dumps(params)) == params

    def test_failed_pruned_and_pending_trials_are_survived(self) -> None:
        trials = history(16)
        trials[2] = replace(trials[2], losses=(float("nan"),))
        trials[5] = replace(trials[5], losses=(float("inf"),))
        trials[9] = replace(trials[9], losses=(3.0, 2.0), done=False)
        trials[14], trials[15] = replace(trials[14], losses=()), replace(trials[15], losses=())
        assert_inside(self.sampler().suggest(SPACE, trials, 3), SPACE)
        lost = [replace(trial, losses=(float("nan"),)) for trial in trials]
        assert_inside(self.sampler().suggest(SPACE, lost, 3), SPACE)
        same = [replace(trial, losses=(1.0,)) for trial in trials]
        assert_inside(self.sampler().suggest(SPACE, same, 3), SPACE)

    def test_params_outside_the_space_are_survived(self) -> None:
        trials = history(12)
        trials[0] = replace(trials[0], params={"rate": 50.0, "leaves": 1, "kind": "z", "other": None})
        trials[1] = replace(trials[1], params={})
        assert_inside(self.sampler().suggest(SPACE, trials, 3), SPACE)

    def test_nothing_given_is_changed(self) -> None:
        space, trials = dict(SPACE), history(14)
        before = copy.deepcopy((space, trials))
        self.sampler().suggest(space, trials, 1)
        assert (space, trials) == before

    def test_a_space_of_one_point_and_one_of_one_dimension(self) -> None:
        point: Space = {"kind": Choice(("a",), default="a"), "depth": Int(3, 3), "rate": Float(0.5, 0.5)}
        trials = [
            Trial(number=n, family="f", params={"kind": "a", "depth": 3, "rate": 0.5}, losses=(1.0,)) for n in range(10)
        ]
        assert self.sampler().suggest(point, trials, 0) == {"kind": "a", "depth": 3, "rate": 0.5}
        line: Space = {"rate": Float(0.0, 1.0, default=0.5)}
        trials = [Trial(number=n, family="f", params={"rate": n / 20}, losses=(abs(n / 20 - 0.3),)) for n in range(12)]
        assert_inside(self.sampler().suggest(line, trials, 0), line)

    def test_values_may_be_lists(self) -> None:
        space: Space = {"layers": Choice(([64, 64], [32], [64, 64]), default=[32])}
        trials = [Trial(number=n, family="f", params={"layers": [32]}, losses=(1.0 + n,)) for n in range(10)]
        assert_inside(self.sampler().suggest(space, trials, 0), space)


def best_of(sampler: Sampler, trials: int, seed: int) -> list[float]:
    """Best loss so far on `loss_of` after each of so many trials."""
    done: list[Trial] = []
    for number in range(trials):
        params = sampler.suggest(SPACE, done, 1000 * seed + number)
        done.append(Trial(number=number, family="trees", params=params, losses=(loss_of(params),), cost_s=1.0))
    return [float(loss) for loss in np.minimum.accumulate([trial.loss for trial in done])]
