import numpy as np
import pytest
from tests.report.runs import Page, evaluated, run_of, trial

from shardwise.report import summary
from shardwise.report.page import render


def states(data) -> dict[str, str]:
    return {check.text: check.state for check in summary.checks(data)}


def state_of(data, words: str) -> str:
    found = [state for text, state in states(data).items() if words in text]
    assert len(found) == 1, states(data)
    return found[0]


def with_test(value: float, **changes):
    metrics = {"main": {"value": value, "low": value - 0.01, "high": value + 0.01}}
    return run_of("binary", test={**evaluated("binary"), "metrics": metrics}, **changes)


def test_the_sealed_test_is_believed_before_validation() -> None:
    found = summary.headline(with_test(0.71))
    assert (found.value, found.interval) == ("0.710", "0.700 to 0.720")
    assert "400 sealed test rows" in found.source
    assert "the sealed test was not opened" in summary.headline(run_of("binary", test={})).source
    assert summary.headline(run_of("binary", test={}, trials=())).value == "–"


def test_rows_of_the_test_are_those_that_were_scored() -> None:
    thinned = with_test(0.71, rows_by_fold={0: 600, 1: 300, -1: 90_000})
    assert summary.rows_of_test(thinned) == 400
    assert "400 sealed test rows" in summary.headline(thinned).source


@pytest.mark.parametrize(
    ("test", "rows_by_fold", "words"),
    [
        ({"y": np.zeros(0), "metrics": {}}, {0: 600, 1: 300}, "No row was sealed as a test"),
        ({"y": np.zeros(0), "metrics": {}}, {0: 600, 1: 300, -1: 0}, "No row was sealed as a test"),
        ({"y": np.zeros(0), "metrics": {}}, {0: 600, -1: 300}, "None of the sealed rows has a label and a weight"),
        ({}, {0: 600, -1: 300}, "The sealed test was not opened"),
    ],
)
def test_a_page_without_a_test_says_why(test, rows_by_fold, words: str) -> None:
    data = run_of("binary", test=test, rows_by_fold=rows_by_fold)
    assert state_of(data, words) == summary.OPEN
    assert words[1:] in summary.headline(data).source
    text = Page(render(data)).text
    assert f"{words}: scores are those of validation rows." in text
    assert ("not opened" in text) == ("not opened" in words)


def test_the_score_of_the_package_is_believed_before_that_of_its_best_trial() -> None:
    assert summary.headline(run_of("binary", test={}, valid_score=0.7512)).value == "0.7512"
    assert summary.headline(run_of("binary", test={}, valid_score=0.7512, trials=())).value == "0.7512"


def test_a_metric_that_the_test_leaves_undefined_is_not_said_to_be_untested() -> None:
    metrics = {"main": {"value": None, "low": None, "high": None}}
    data = run_of("binary", test={**evaluated("binary"), "metrics": metrics})
    assert "not defined on the test" in summary.headline(data).source
    assert state_of(data, "too few rows, or classes") == summary.LOOK


def test_a_test_of_few_groups_is_no_more_than_looked_at() -> None:
    finding = {"code": "few_groups", "severity": "warning", "text": "The sealed rows are of 2 groups."}
    assert state_of(with_test(0.71), "Scored once") == summary.GOOD
    assert state_of(with_test(0.71, findings=[finding]), "Scored once") == summary.LOOK
    assert state_of(with_test(0.71, findings=[finding]), "of 2 groups") == summary.LOOK


def test_leaks_come_first_and_are_named() -> None:
    first = summary.checks(run_of("binary"))[0]
    assert first.state == summary.BAD
    assert "1 possible leak (age)" in first.text
    assert state_of(run_of("binary", findings=()), "No leak") == summary.GOOD


@pytest.mark.parametrize(
    ("value", "words", "state"),
    [(0.721, "agree", summary.GOOD), (0.60, "worse", summary.LOOK), (0.80, "better than validation", summary.LOOK)],
)
def test_test_and_validation_are_compared(value: float, words: str, state: str) -> None:
    assert state_of(with_test(value), words) == state


def test_the_test_is_compared_with_the_validation_score_of_the_same_package() -> None:
    assert state_of(with_test(0.75), "better than validation") == summary.LOOK  # the best trial has 0.72
    assert state_of(with_test(0.75, valid_score=0.751), "agree (0.750 against 0.751)") == summary.GOOD
    assert state_of(with_test(0.72, valid_score=0.79), "worse than validation") == summary.LOOK


def test_limited_errors_are_not_compared_with_full_ones() -> None:
    def agreement(metric: str, code: str) -> list[str]:
        metrics = {metric: {"value": 9.0, "low": 8.9, "high": 9.1}}
        test = {**evaluated("regression"), "metrics": metrics}
        data = run_of("regression", metric=metric, test=test, findings=[{"code": code, "severity": "warning"}])
        return [text for text in states(data) if "than validation" in text]

    assert agreement("rmse", "few_rows_decide") == []
    assert agreement("mae", "few_rows_decide") == []
    assert len(agreement("r2", "few_rows_decide")) == len(agreement("rmse", "w")) == 1


def test_trials_that_lack_folds_are_behind_whole_ones() -> None:
    trials = [trial(1, 0.70), trial(2, 0.99, status="cut"), trial(3, 0.71)]
    assert [t["number"] for t in run_of("binary", trials=trials).ranked] == [3, 1, 2]
    placed = [{**each, "place": place} for each, place in zip(trials, (2, 0, 1), strict=True)]
    assert [t["number"] for t in run_of("binary", trials=placed).ranked] == [2, 3, 1]


def test_lower_scores_may_be_the_better_ones() -> None:
    trials = [trial(0, 0.9, family="baseline"), trial(1, 0.3), trial(2, 0.4)]
    data = with_test(0.5, trials=trials, greater_is_better=False)
    assert [t["number"] for t in data.ranked] == [1, 2, 0]
    assert state_of(data, "worse than validation") == summary.LOOK
    assert state_of(data, "Clearly better than the constant baseline") == summary.GOOD


def test_a_run_no_better_than_the_baseline_says_so() -> None:
    alone = run_of("binary", trials=[trial(0, 0.5, family="baseline"), trial(1, 0.4)])
    assert state_of(alone, "Nothing is better") == summary.BAD


@pytest.mark.parametrize("greater", [True, False])
def test_noise_is_not_clearly_better_than_the_baseline(greater: bool) -> None:
    sign = 1 if greater else -1
    trials = [trial(0, 0.5, family="baseline"), trial(1, 0.5 + sign * 0.004)]

    def state(value: float, words: str) -> str:
        data = with_test(0.5 + sign * value, trials=trials, greater_is_better=greater)
        return state_of(data, f"{words} the constant baseline, which scores 0.5 on validation rows.")

    assert state(0.011, "Clearly better than") == summary.GOOD
    assert state(0.009, "Hardly better than") == summary.LOOK
    assert state(-0.002, "On the test no better than") == summary.LOOK
    assert state(-0.02, "On the test no better than") == summary.LOOK


def untested_against_baseline(gaps: list[float | None], **changes) -> str:
    """The check of a run whose best trial is so much better on each fold."""
    draw = np.random.default_rng(0)
    constant = list(0.5 + 0.1 * draw.random(len(gaps)))  # folds differ by more than trials do
    best = [None if gap is None else score + gap for gap, score in zip(gaps, constant, strict=True)]
    trials = [trial(0, 0.5, family="baseline", fold_scores=constant), trial(1, 0.6, fold_scores=best)]
    found = summary.checks(run_of("binary", **{"test": {}, "trials": trials, **changes}))
    return next(check.text for check in found if "constant baseline" in check.text)


def test_without_a_test_differences_on_folds_decide_whether_it_is_clearly_better() -> None:
    assert untested_against_baseline([0.020, 0.022, 0.019]).startswith("Clearly better")
    assert untested_against_baseline([0.04, -0.03, 0.01, -0.01]).startswith("Hardly better")
    for few in ([0.02, 0.02], [0.02, None, 0.02], []):
        text = untested_against_baseline(few)
        assert text.startswith("Better than")
        assert "too few folds" in text


def test_a_limited_baseline_is_compared_on_the_same_rows() -> None:
    metrics = {"rmse": {"value": 0.1, "low": 0.09, "high": 0.11}}
    changes = {"metric": "rmse", "test": {**evaluated("binary"), "metrics": metrics}, "greater_is_better": False}
    limited = {"findings": [{"code": "few_rows_decide", "severity": "warning"}]}
    lower = [trial(0, 0.5, family="baseline", fold_scores=[0.5] * 3), trial(1, 0.4, fold_scores=[0.3, 0.6, 0.3])]
    assert untested_against_baseline([], **changes, trials=lower).startswith("Clearly better")
    assert untested_against_baseline([], **changes, **limited, trials=lower).startswith("Hardly better")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"weight": "w"}, "Metrics and scores weigh rows by w; charts"),
        ({"class_weight": "balanced"}, "Metrics and scores weigh the classes as in training; charts"),
        ({"class_weight": {"yes": 2.0}}, "weigh the classes as in training; charts"),
        ({"weight": "w", "class_weight": "balanced"}, "weigh rows by w and the classes as in training; charts"),
        ({"weight": None, "class_weight": None}, ""),
        ({}, ""),
    ],
)
def test_that_charts_are_without_weights_is_said(asked: dict[str, object], words: str) -> None:
    text = summary.weighing(run_of("binary", asked=asked))
    assert ("without weights" in text) == bool(words)
    assert words in text


def test_the_page_says_once_that_charts_are_without_weights() -> None:
    assert Page(render(run_of("binary", asked={"weight": "w"}))).text.count("without weights") == 1


def test_ceilings_are_judged() -> None:
    ceilings = {"memory_bytes": {"limit": 100, "peak": 150}, "time_s": {"limit": 60.0, "used": 60.5}}
    data = run_of("binary", ceilings=ceilings)
    assert state_of(data, "Memory") == summary.BAD
    assert state_of(data, "Time") == summary.GOOD  # within the two per cent that are promised


def test_rare_classes_are_pointed_at() -> None:
    few = evaluated("multiclass", rows=60)
    assert state_of(run_of("multiclass", test=few), "fewer than 30 test rows") == summary.LOOK


def test_what_next_begins_with_the_worst_finding_and_predict() -> None:
    hints, commands = summary.next_steps(run_of("binary"))
    assert hints == ["use --drop age"]
    assert [name for name, _ in commands] == ["predict", "evaluate"]
