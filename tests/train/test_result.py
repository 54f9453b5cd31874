import pytest

from shardwise.core.candidate import Candidate
from shardwise.train.result import FoldResult, TrialResult, rank


def trial(number: int, *losses: float, complete: bool = True, rows: int = 100) -> TrialResult:
    folds = tuple(FoldResult(trial=number, fold=i, loss=x, seconds=1.0, valid_rows=rows) for i, x in enumerate(losses))
    return TrialResult(number=number, candidate=Candidate(family="trees"), folds=folds, complete=complete)


def order(*trials: TrialResult) -> list[int]:
    return [each.number for each in rank(trials)]


def test_the_lowest_loss_is_first_and_ties_go_to_the_earlier() -> None:
    assert order(trial(0, 0.5), trial(1, 0.3), trial(2, 0.3)) == [1, 2, 0]


def test_a_trial_without_a_finite_loss_has_no_rank() -> None:
    assert order(trial(0, float("nan")), trial(1), trial(2, 1.0)) == [2]


def test_folds_on_which_the_metric_is_not_defined_do_not_count_and_a_diverged_model_loses() -> None:
    nan, inf = float("nan"), float("inf")
    assert trial(0, 0.2, nan, 0.4).loss == pytest.approx(0.3)
    assert order(trial(0, 0.2, nan), trial(1, 0.1, nan), trial(2, 0.0, inf)) == [1, 0]


def test_folds_count_by_their_rows() -> None:
    a = FoldResult(trial=0, fold=0, loss=0.0, seconds=1.0, valid_rows=300)
    b = FoldResult(trial=0, fold=1, loss=1.0, seconds=1.0, valid_rows=100)
    assert TrialResult(number=0, candidate=Candidate(family="x"), folds=(a, b), complete=True).loss == 0.25


def test_a_cut_trial_competes_on_the_folds_that_it_has() -> None:
    hard_then_easy = trial(0, 0.9, 0.1)
    better_on_the_hard_fold = trial(1, 0.8, complete=False)
    worse_on_the_hard_fold = trial(2, 0.95, complete=False)
    assert order(hard_then_easy, better_on_the_hard_fold, worse_on_the_hard_fold) == [1, 0, 2]


def test_a_cut_trial_is_not_compared_on_a_fold_without_a_value() -> None:
    nan = float("nan")
    assert order(trial(0, nan, 0.5, 0.1), trial(1, nan, 0.4, complete=False)) == [1, 0]


def test_a_fold_result_comes_back_from_json() -> None:
    fold = FoldResult(trial=1, fold=2, loss=0.5, seconds=3.0, curve=((1, 0.7), (2, 0.5)), importance={"a": 1.0})
    assert FoldResult.from_json(fold.to_json()) == fold
