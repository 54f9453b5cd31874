import re

import numpy as np
from tests.report.runs import run_of, trial

from shardwise.report import training


def test_thinning_memory_never_hides_the_peak() -> None:
    draw = np.random.default_rng(0)
    samples = np.column_stack([np.arange(2000.0), draw.random(2000) * 1e9])
    seconds, used = training._peaks(samples, 160)
    assert len(used) == 160
    assert used.max() == samples[:, 1].max()
    assert (np.diff(seconds) > 0).all()


def test_trials_far_from_the_best_are_counted_not_drawn() -> None:
    data = run_of("binary", trials=[trial(0, -1e6), *(trial(i, 0.7 + i / 1000) for i in range(1, 9))])
    history = next(chart for chart in training.training_charts(data) if chart.title.startswith("Scores, trial"))
    assert history.note == "1 trial far from the best is not drawn."


def test_a_trial_that_lacks_folds_is_not_the_best_so_far() -> None:
    trials = [trial(1, 0.70), trial(2, 0.75, status="cut"), trial(3, 0.71)]
    history = training.training_charts(run_of("binary", trials=trials))[0]
    assert "of 3 trials; the best is 0.71, of trial 3." in str(history.svg)
    alone = [trial(i, 0.7 + i / 100, status="cut") for i in range(3)]
    assert "the best is 0.72, of trial 2." in str(training.training_charts(run_of("binary", trials=alone))[0].svg)


def test_best_trials_have_their_curves_drawn() -> None:
    curves = {i: [(step, None, 1 / (step + i)) for step in range(1, 30)] for i in range(1, 9)}
    data = run_of("binary", trials=[trial(i, i / 10) for i in range(1, 9)], curves=curves)
    learning = training.training_charts(data)[-1]
    assert [entry.label for entry in learning.legend] == [f"trial {i}" for i in (8, 7, 6, 5, 4)]


def test_ticks_of_narrow_ranges_differ() -> None:
    data = run_of("binary", trials=[trial(i, 0.92 + i / 10_000) for i in range(6)])
    history = training.training_charts(data)[0]
    ticks = re.findall(r"text-anchor: end[^>]*>([^<]*)<", str(history.svg))
    assert len(ticks) == len(set(ticks)) >= 3
