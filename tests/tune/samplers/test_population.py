"""Who goes on from whom: of a population the worst quarter from the best one, and nobody else."""

from dataclasses import replace

import pytest

from shardwise.testing.samplers import SPACE, SamplerKit, assert_inside, history
from shardwise.tune.samplers import Sampler
from shardwise.tune.samplers.plain import RandomSampler
from shardwise.tune.samplers.population import SIZE, PopulationSampler
from shardwise.tune.trial import Trial

CHANGES = ("rate", "share")
BEST, WORST = (3, 6), (0, 5)


class TestPopulation(SamplerKit):
    def sampler(self) -> Sampler:
        return PopulationSampler(CHANGES)


def members() -> list[Trial]:
    """Those of `BEST` have the least losses, those of `WORST` the highest ones; all rest."""
    found = history(SIZE)
    losses = [9.0, 5.0, 4.0, 1.0, 3.0, 8.0, 2.0, 6.0]
    return [replace(trial, losses=(loss,), done=False) for trial, loss in zip(found, losses, strict=True)]


def test_the_first_members_are_those_of_random_search() -> None:
    assert PopulationSampler(CHANGES).suggest(SPACE, history(3), 7) == RandomSampler().suggest(SPACE, [], 7)


@pytest.mark.parametrize("seed", range(10))
def test_the_worst_go_on_from_the_best_and_the_others_as_they_are(seed: int) -> None:
    sampler, all_ = PopulationSampler(CHANGES), members()
    for trial in all_:
        source, params = sampler.move(SPACE, trial.number, all_, seed)
        if trial.number not in WORST:
            assert (source, params) == (trial.number, trial.params)
            continue
        assert source in BEST
        assert_inside(params, SPACE)
        kept = {name: value for name, value in all_[source].params.items() if name not in CHANGES}
        assert {name: value for name, value in params.items() if name not in CHANGES} == kept
        assert params != all_[source].params


def test_a_shift_is_a_tenth_of_the_range_unless_a_param_is_drawn_anew() -> None:
    all_ = members()
    places = []
    for seed in range(200):
        source, params = PopulationSampler(CHANGES).move(SPACE, WORST[0], all_, seed)
        rate = SPACE["rate"]
        places.append(abs(rate.place(params["rate"]) - rate.place(all_[source].params["rate"])))  # type: ignore[arg-type]
    shifted = [place for place in places if abs(place - 0.1) < 1e-3]
    assert 0.6 < len(shifted) / len(places) < 0.9
    assert max(places) > 0.3


def test_nobody_goes_on_from_one_that_ended_or_failed_and_all_who_failed_begin_again() -> None:
    all_ = members()
    all_[BEST[0]] = replace(all_[BEST[0]], done=True)
    all_[4] = replace(all_[4], losses=(float("nan"),), done=True)
    sources = {PopulationSampler(CHANGES).move(SPACE, 4, all_, seed)[0] for seed in range(20)}
    assert sources == {BEST[1]}
    lost = [replace(trial, losses=(float("nan"),), done=True) for trial in all_]
    assert PopulationSampler(CHANGES).move(SPACE, 2, lost, 0)[0] == 2


def test_members_that_are_alike_stay_as_they_are() -> None:
    equal = [replace(trial, losses=(1.0,)) for trial in members()]
    assert all(PopulationSampler(CHANGES).move(SPACE, n, equal, 0)[0] == n for n in range(SIZE))
    alone = members()[:1]
    assert PopulationSampler(CHANGES).move(SPACE, 0, alone, 0)[0] == 0
