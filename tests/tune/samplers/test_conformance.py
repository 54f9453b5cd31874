"""Every sampler keeps the laws of the kit, and those that learn find the best point sooner than random search."""

import numpy as np
import pytest

from shardwise.core.errors import ConfigError
from shardwise.testing.samplers import SPACE, SamplerKit, best_of, history
from shardwise.tune.archive import Archive, PastTask
from shardwise.tune.samplers import SAMPLERS, Sampler, make_sampler
from shardwise.tune.samplers.evolution import CMASampler
from shardwise.tune.samplers.gaussian import GaussianSampler
from shardwise.tune.samplers.meta import MetaSampler
from shardwise.tune.samplers.optuna_tpe import TPESampler
from shardwise.tune.samplers.plain import GridSampler, RandomSampler, SobolSampler
from shardwise.tune.samplers.policy import PolicySampler


def past() -> Archive:
    tasks = []
    for seed in range(3):
        trials = [{"family": "trees", "params": dict(t.params), "loss": t.loss} for t in history(20, seed=seed)]
        tasks.append(PastTask(name=f"t{seed}", features={"log_rows": 3.0 + seed}, trials=trials))
    return Archive(tuple(tasks))


class TestRandom(SamplerKit):
    def sampler(self) -> Sampler:
        return RandomSampler()


class TestGrid(SamplerKit):
    def sampler(self) -> Sampler:
        return GridSampler()


class TestSobol(SamplerKit):
    def sampler(self) -> Sampler:
        return SobolSampler()


class TestTPE(SamplerKit):
    def sampler(self) -> Sampler:
        pytest.importorskip("optuna", reason="the extra tune is not installed")
        return TPESampler()


class TestGaussian(SamplerKit):
    def sampler(self) -> Sampler:
        return GaussianSampler()


class TestCMA(SamplerKit):
    def sampler(self) -> Sampler:
        pytest.importorskip("cmaes", reason="the extra tune is not installed")
        return CMASampler()


class TestPolicy(SamplerKit):
    def sampler(self) -> Sampler:
        return PolicySampler()


class TestMeta(SamplerKit):
    def sampler(self) -> Sampler:
        return MetaSampler(archive=past(), features={"log_rows": 3.5})


class TestMetaWithoutPast(SamplerKit):
    def sampler(self) -> Sampler:
        return MetaSampler()


@pytest.mark.parametrize("name", ["tpe", "gp", "cma", "rl"])
def test_what_learns_comes_nearer_than_random(name: str) -> None:
    if name in ("tpe", "cma"):
        pytest.importorskip({"tpe": "optuna", "cma": "cmaes"}[name], reason="the extra tune is not installed")
    seeds, trials = range(4), 30
    random = np.mean([np.mean(best_of(RandomSampler(), trials, seed)) for seed in seeds])
    learned = np.mean([np.mean(best_of(make_sampler(name), trials, seed)) for seed in seeds])
    assert learned < random


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'tep'.*'tpe'"):
        make_sampler("tep")
    with pytest.raises(ConfigError, match=r"seconds.*gp, rl"):
        make_sampler("grid", per_second=True)
    assert set(SAMPLERS) == {"random", "grid", "sobol", "tpe", "gp", "cma", "rl", "meta", "pbt"}


@pytest.mark.parametrize("name", ["gp", "rl"])
def test_per_second_prefers_what_is_cheap(name: str) -> None:
    cheap, plain = make_sampler(name, per_second=True), make_sampler(name)
    trials = history(25)
    leaves = [np.median([s.suggest(SPACE, trials, n)["leaves"] for n in range(12)]) for s in (cheap, plain)]  # type: ignore[type-var]
    assert leaves[0] <= leaves[1]
