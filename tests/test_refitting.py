"""Which members are trained anew on all rows."""

from dataclasses import replace

import pytest

from shardwise.core.candidate import Candidate
from shardwise.refitting import SPARE, Plan, affordable, draws, kept_s, refit_s, refittable
from shardwise.report.ensemble import what_answers
from shardwise.train.result import FoldResult, TrialResult


def trial(number, seconds, predict_s):
    folds = tuple(
        FoldResult(
            trial=number,
            fold=fold,
            folder=f"{number}-{fold}",
            loss=1.0,
            seconds=seconds,
            predict_s=predict_s,
            valid_rows=100,
        )
        for fold in range(5)
    )
    return TrialResult(number=number, candidate=Candidate(family="trees"), folds=folds, complete=True)


@pytest.mark.parametrize(
    ("slots", "left_s", "numbers"),
    [(1, 0.9, []), (1, 1.0, [3]), (1, 3.0, [2, 3]), (1, 3.9, [2, 3]), (1, 4.0, [1, 2, 3]), (2, 2.0, [1, 2, 3]),
     (1, float("inf"), [1, 2, 3])],
)  # fmt: skip
def test_what_answers_slowest_is_trained_anew_first_as_long_as_there_is_time(slots, left_s, numbers):
    trials = [trial(1, 1.0, 0.1), trial(2, 2.0, 0.2), trial(3, 1.0, 0.3)]
    assert [each.number for each in affordable(trials, slots, left_s)] == numbers


def test_no_time_is_kept_for_families_that_are_not_trained_anew():
    network = replace(trial(2, 50.0, 0.1), candidate=Candidate(family="neural"))
    half = replace(trial(3, 4.0, 0.1), complete=False)
    assert [each.number for each in refittable([network, trial(1, 3.0, 0.1), half])] == [1]


@pytest.mark.parametrize(
    ("seconds", "slots", "takes"),
    [((), 2, 0.0), ((3.0,), 2, 3.0), ((8.0, 8.0, 8.0), 2, 16.0), ((2.0, 2.0, 10.0), 2, 10.0)],
)
def test_fits_side_by_side_take_as_long_as_the_busiest_slot(
    seconds: tuple[float, ...], slots: int, takes: float
) -> None:
    assert refit_s([trial(number, each, 0.1) for number, each in enumerate(seconds)], slots) == takes


@pytest.mark.parametrize(
    ("family", "params", "drawn"),
    [("trees", {}, False), ("trees", {"extra_trees": True}, True), ("trees", {"subsample": 0.7}, True),
     ("trees", {"feature_fraction": 0.5}, True), ("catboost", {}, False)],
)  # fmt: skip
def test_trees_that_are_grown_by_chance_are_trained_from_several_seeds(family, params, drawn):
    one, two = trial(1, 1.0, 0.1), replace(trial(2, 1.0, 0.1), candidate=Candidate(family=family, params=params))
    assert draws(two.candidate) == drawn
    fits = [(each.number, seed) for each, seed in Plan(1, float("inf"), 3).fits([one, two], lambda _fits: True)]
    assert fits == [(1, 0), (2, 0), *([(2, seed) for seed in (1, 2)] if drawn else [])]


def test_further_seeds_come_while_there_is_time_and_room():
    random = [replace(trial(number, 1.0, 0.1), candidate=Candidate(family="trees", params={"extra_trees": True}))
              for number in (1, 2)]  # fmt: skip
    asked = []

    def has_room(fits):
        asked.append([each.number for each in fits])
        return len(fits) < 5

    assert len(Plan(1, float("inf"), 3).fits(random, has_room)) == 4
    assert asked[0] == [1, 2, 1]
    assert len(Plan(1, 3.9, 3).fits(random, lambda _fits: True)) == 3
    assert len(Plan(2, 2.0, 3).fits(random, lambda _fits: True)) == 4


def test_time_is_kept_for_further_seeds_of_what_draws():
    random = replace(trial(1, 10.0, 0.1), candidate=Candidate(family="trees", params={"extra_trees": True}))
    assert kept_s([random], 1, 3) == pytest.approx(30.0 * SPARE)
    assert kept_s([random, trial(2, 10.0, 0.1)], 2, 3) == pytest.approx(20.0 * SPARE)
    assert kept_s([random], 1, 1) == pytest.approx(10.0 * SPARE)
    assert kept_s([], 1, 3) == 0.0


def test_the_time_that_is_kept_suffices_where_the_choice_takes_a_little_longer():
    slow = [trial(1, 40.0, 0.1), trial(2, 3.0, 0.1)]
    kept = kept_s(slow, 2, 1)
    assert affordable(slow, 2, 0.95 * kept) == slow
    assert [each.number for each in affordable(slow, 2, 0.95 * refit_s(slow, 2))] == [2]


@pytest.mark.parametrize(("anew", "words"), [((), ""), ((4, 7), ", on all rows"), ((7,), ", those of 7 on all rows")])
def test_who_answers_with_models_of_all_rows_is_told(anew, words):
    told = {
        "kind": "blend", "models": 6, "judged": [{"kind": "blend", "trials": [4, 7]}], "refitted_trials": list(anew)
    }  # fmt: skip
    assert what_answers(told) == f"weighted mean of trials 4, 7: 6 models{words}"
