import pytest
from tests.report.runs import evaluated, run_of, trial

from shardwise.report import summary


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
    assert "not yet tested" in summary.headline(run_of("binary", test={})).source
    assert summary.headline(run_of("binary", test={}, trials=())).value == "–"


def test_a_metric_that_the_test_leaves_undefined_is_not_said_to_be_untested() -> None:
    metrics = {"main": {"value": None, "low": None, "high": None}}
    data = run_of("binary", test={**evaluated("binary"), "metrics": metrics})
    assert "not defined on the test" in summary.headline(data).source
    assert state_of(data, "too few rows, or classes") == summary.LOOK


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


def test_lower_scores_may_be_the_better_ones() -> None:
    trials = [trial(0, 0.9, family="baseline"), trial(1, 0.3), trial(2, 0.4)]
    data = with_test(0.5, trials=trials, greater_is_better=False)
    assert [t["number"] for t in data.ranked] == [1, 2, 0]
    assert state_of(data, "worse than validation") == summary.LOOK
    assert state_of(data, "Clearly better than the constant baseline") == summary.GOOD


def test_a_run_no_better_than_the_baseline_says_so() -> None:
    alone = run_of("binary", trials=[trial(0, 0.5, family="baseline"), trial(1, 0.4)])
    assert state_of(alone, "Nothing is better") == summary.BAD
    near = run_of("binary", trials=[trial(0, 0.5, family="baseline"), trial(1, 0.505)])
    assert state_of(near, "Hardly better") == summary.LOOK


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
