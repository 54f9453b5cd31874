from typing import Any

from shardwise.train.inherit import FIRST, best_candidates, trial_steps


def trial(number: int, loss: float | None, family: str = "trees", **more: Any) -> dict[str, Any]:
    """Whole, on five folds."""
    folds = [{"share": more.pop("share", 1.0)}] * more.pop("folds", 5)
    usual = {"kind": "trial", "number": number, "family": family, "params": {"n": number}, "loss": loss, "rung": 0}
    return {**usual, "folds": folds, "rests": False, **more}


def first(*trials: dict[str, Any]) -> list[int]:
    return [candidate["params"]["n"] for candidate in best_candidates([{"kind": "task"}, *trials])]


def test_families_without_rungs_compete_with_trials_that_climbed() -> None:
    climbed = [trial(number, 0.4 + number / 100, rung=3) for number in range(5, 10)]
    assert first(*climbed, trial(1, 0.05, "catboost"), trial(2, 0.10, "linear")) == [1, 2, 5, 6][:FIRST]


def test_what_rests_or_was_ended_before_all_its_folds_comes_last() -> None:
    assert first(trial(1, 0.5), trial(2, 0.1, folds=1), trial(3, 0.2, rests=True), trial(4, 0.3)) == [4, 1, 2, 3]


def test_the_baseline_and_what_failed_are_left_out() -> None:
    assert first(trial(0, 0.1, "baseline"), trial(1, None), trial(2, 0.5)) == [2]


def test_a_trial_counts_as_far_as_it_got_although_a_part_is_told_again() -> None:
    rests, whole = trial(1, 0.3, rests=True), trial(1, 0.1, rung=3)
    assert first(rests, whole, rests, trial(2, 0.2)) == [1, 2]
    assert trial_steps([rests, whole, rests]) == {1: [rests, whole]}


def test_of_a_trial_that_has_become_another_one_nothing_is_left() -> None:
    before = [trial(1, 0.3, share=0.5, rests=True), trial(1, 0.1, share=0.5, rung=3)]
    for now in (trial(1, 0.2, rests=True), trial(1, 0.2, share=0.5, rests=True, params={"n": 7})):
        assert trial_steps([*before, now]) == {1: [now]}
