"""Detectors on curves that are made: each sees what it is for, and is silent on what is merely noisy."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from shardwise.core.events import WorkerView
from shardwise.stats.anomalies import (
    DIVERGED,
    NOT_FINITE,
    STRAGGLES,
    Anomaly,
    Pace,
    divergence,
    lost_seconds,
    memory_creep,
    plateau,
    slow_down,
    slow_workers,
    straggler,
    waited_for,
)

MB = 10**6
SEEDS = range(300)


def falling(seed: int, steps: int = 60, noise: float = 0.05) -> list[float]:
    """A loss that falls from 1 to 0.4, unevenly, and rises a little in the end: a fit that overfits."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, steps)
    return list(0.4 + 0.6 * np.exp(-rng.uniform(2, 12) * t) + 0.1 * t**2 + noise * rng.normal(size=steps) * (1 - 0.4))


def judged(losses: Sequence[float], start: float = 1.1, unit: float = 0.0) -> list[Anomaly]:
    found = (divergence(losses[:step], start, unit) for step in range(1, len(losses) + 1))
    return [anomaly for anomaly in found if anomaly is not None]


def test_noisy_losses_are_no_divergence() -> None:
    assert sum(bool(judged(falling(seed))) for seed in SEEDS) == 0


def test_an_explosion_is_seen_at_once() -> None:
    for seed in SEEDS:
        losses = [*falling(seed)[:20], 2.5]
        first = judged(losses)[0]
        assert (first.kind, first.step) == (DIVERGED, 21)
        assert first.evidence["loss"] == 2.5
        assert first.evidence["best"] == min(losses)


def test_a_few_steps_above_the_constant_are_seen() -> None:
    losses = [0.9, 1.2, 1.2, 1.1 * 1.03]
    assert [anomaly.step for anomaly in judged(losses)] == [4]
    assert not judged([0.9, 1.2, 1.2, 1.05, 1.2, 1.2])
    assert divergence(losses, 1.1, worse_rounds=None) is None
    assert divergence([*losses, 2.3], 1.1, worse_rounds=None) is not None


def test_steps_within_the_error_of_the_constant_loss_are_chance() -> None:
    losses = [0.3, 0.323, 0.319, 0.323]  # of a network on rare counts
    assert divergence(losses, 0.31) is not None
    assert divergence(losses, 0.31, error=0.044) is None
    assert divergence([*losses, 0.36, 0.36, 0.36], 0.31, error=0.044) is not None
    assert divergence([*losses, 0.63], 0.31, error=0.4) is not None  # an explosion counts at once


def test_after_a_new_beginning_only_what_came_since_counts() -> None:
    losses = [9.0, 1.101, 1.101]
    assert divergence(losses, 1.1, since=1) is None
    assert divergence([*losses, 1.101], 1.1, since=1) is not None  # no better than a constant
    assert divergence([*losses, 1.0], 1.1, since=1) is None


def test_a_learner_that_adds_up_is_judged_by_its_first_loss() -> None:
    losses = [9.0, 8.0, 12.0]  # it has not reached the constant yet
    assert divergence(losses, 1.1) is not None
    assert divergence(losses, 1.1, worse_rounds=None) is None
    found = divergence([*losses, 18.1], 1.1, worse_rounds=None)
    assert found is not None
    assert "that of the first one 9" in found.text


def test_rows_that_are_all_alike_are_judged_in_the_scale_of_those_that_are_learned() -> None:
    losses = [0.9, 1.6, 1.7, 1.8]  # of a target that was spread twenty times as wide
    assert divergence(losses, 0.8) is not None
    assert divergence(losses, 0.8, learned=60.0) is None
    assert divergence([*losses, 2.1, 2.1, 2.1], 0.8, learned=60.0) is not None  # by 2 % of it
    assert divergence([*losses, 61.0], 0.8, learned=60.0) is not None
    assert divergence([*losses, 0.81, 0.81, 0.81], 0.8, learned=60.0, since=4) is not None  # no better than a constant


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_always_seen(bad: float) -> None:
    found = divergence([0.5, bad], 0.0)
    assert found is not None
    assert found.kind == NOT_FINITE


def test_a_rare_class_is_counted_in_nats() -> None:
    assert not judged([0.05, 0.03, 0.02], start=0.004, unit=1.0)
    assert judged([1.3], start=0.004, unit=1.0)


def test_nothing_is_said_without_a_constant_loss() -> None:
    assert not judged([1e9, 1e12], start=0.0)


def test_crumbs_are_a_plateau_and_learning_is_none() -> None:
    assert sum(plateau(falling(seed, noise=0.02), 1.1) is not None for seed in SEEDS) <= 0.02 * len(SEEDS)
    crumbs = [1.0 / step for step in range(1, 11)] + [0.1 - 1e-6 * step for step in range(50)]
    found = plateau(crumbs, 1.1)
    assert found is not None
    assert found.evidence["since"] == 10
    waiting = [1.0 / step for step in range(1, 31)] + [0.05] * 60  # for a better step, which never comes
    assert plateau(waiting, 1.1) is None


def test_no_step_better_than_a_constant() -> None:
    assert plateau([0.7, 0.71, 0.7, 0.7], 0.69) is None  # too few to say so
    found = plateau([0.7] * 6, 0.69)
    assert found is not None
    assert "better than a constant" in found.text


def test_steps_that_vary_are_no_slow_down() -> None:
    for seed in SEEDS:
        seconds = np.random.default_rng(seed).lognormal(0.0, 0.5, 60)
        seconds[[5, 50]] = 60.0  # two pauses
        assert slow_down(list(seconds), list(seconds)) is None


def test_a_slow_down_is_seen_and_says_whether_others_are_the_reason() -> None:
    for seed in SEEDS:
        seconds = np.random.default_rng(seed).lognormal(0.0, 0.3, 60)
        seconds[45:] *= 5.0
        own = slow_down(list(seconds), list(seconds), rows=1000)
        assert own is not None
        assert own.evidence["rows_s"] < 0.5 * own.evidence["rows_s_before"]
        assert "waits" not in own.text
        others = slow_down(list(seconds), [*seconds[:45], *seconds[45:] / 5])
        assert others is not None
        assert "waits for others" in others.text
    assert slow_down([0.001] * 30 + [0.1] * 10, [0.0] * 40) is None  # a second in all is not worth a word


def test_memory_that_levels_off_or_wavers_is_no_creep() -> None:
    steps = list(range(80))
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        reading = 500 * MB * (1 - np.exp(-np.arange(80) / rng.uniform(2, 15)))
        wavering = rng.uniform(0, 300 * MB, 80)
        assert memory_creep(steps, list(400 * MB + reading + wavering)) is None
    assert memory_creep(steps, [400 * MB + step * MB // 10 for step in steps]) is None  # 8 MB in all


def test_creep_is_seen_through_noise_and_the_ceiling_foretold() -> None:
    steps = list(range(0, 400, 5))
    for seed in SEEDS:
        noise = np.random.default_rng(seed).uniform(0, 40 * MB, 80)
        used = [int(400 * MB + 2 * MB * step + more) for step, more in zip(steps, noise, strict=True)]
        found = memory_creep(steps, used, limit_bytes=2000 * MB)
        assert found is not None
        assert found.evidence["bytes_per_step"] == pytest.approx(2 * MB, rel=0.15)
        assert "steps away" in found.text


def view(rank: int, second: float, wait: float, silent_since: float = math.inf) -> WorkerView:
    """A worker that waits so much of each second."""
    told = min(second, silent_since)
    return WorkerView(
        rank=rank, place=f"host:{rank}", rows=int(100 * told), work_s=(1 - wait) * told, wait_s=wait * told
    )


def test_the_one_that_others_wait_for_is_named_after_some_looks() -> None:
    looks = [[view(0, s, 0.8), view(1, s, 0.1), view(2, s, 0.9)] for s in range(STRAGGLES + 1)]
    assert straggler(looks[:-1]) is None
    found = straggler(looks, step=7)
    assert found is not None
    assert found.evidence["worker"] == 1
    assert found.step == 7
    assert "host:1" in found.text


def test_a_silent_worker_is_named_though_nobody_counts_waiting() -> None:
    looks = [[view(0, s, 0.0), view(1, s, 0.0, silent_since=3.0)] for s in range(3 + STRAGGLES + 1)]
    found = straggler(looks)
    assert found is not None
    assert "Worker 1 (host:1) says nothing any more." in found.text


def test_workers_that_take_turns_are_no_stragglers() -> None:
    shares = np.random.default_rng(0).uniform(0.0, 0.45, (40, 2))
    sums = np.cumsum(shares, axis=0)
    looks = [
        [WorkerView(rank=r, place="h", rows=s, work_s=s - float(sums[s, r]), wait_s=float(sums[s, r])) for r in (0, 1)]
        for s in range(40)
    ]
    assert all(straggler(looks[:n]) is None for n in range(40))
    alternating = [[view(0, s, 0.9 * (s % 2)), view(1, s, 0.9 * ((s + 1) % 2))] for s in range(10)]
    assert straggler(alternating) is None


def gang(seed: int, *shares: float, looks: int = 600) -> list[list[WorkerView]]:
    """Looks at workers that wait about so much of each second."""
    noise = np.random.default_rng(seed).uniform(-0.02, 0.02, (looks, len(shares)))
    waited = np.cumsum(np.asarray(shares) + noise, axis=0)
    return [
        [WorkerView(rank=rank, place="h", rows=s, work_s=s + 1 - wait, wait_s=wait) for rank, wait in enumerate(row)]
        for s, row in enumerate(waited.tolist())
    ]


def named(looks: Sequence[Sequence[WorkerView]]) -> list[float]:
    found = (straggler(looks[:n][-STRAGGLES - 1 :]) for n in range(STRAGGLES + 1, len(looks) + 1))
    return [anomaly.evidence["worker"] for anomaly in found if anomaly is not None]


@pytest.mark.parametrize("seed", range(3))
def test_one_that_waits_is_not_held_against_those_that_work(seed: int) -> None:
    assert named(gang(seed, 0.6, 0.05, 0.05, 0.02)) == []  # it is quick, or has little to do
    assert named(gang(seed, 0.6, 0.6, 0.03, 0.6, looks=60)) == [2.0] * (60 - STRAGGLES)
    assert named(gang(seed, 0.6, 0.03, looks=60)) == [1.0] * (60 - STRAGGLES)


def test_who_waits_least_is_waited_for() -> None:
    slow, fast = view(0, 10, 0.0), view(1, 10, 0.5)
    assert waited_for([slow, fast], 0.2) == 0
    assert waited_for([fast], 0.2) is None
    assert waited_for([slow, slow], 0.2) is None
    assert waited_for([], 0.2) is None
    assert waited_for([fast, slow, view(2, 10, 0.01), view(3, 10, 0.01)], 0.2) is None


def test_anomalies_go_through_json() -> None:
    found = divergence([5.0], 1.0)
    assert found is not None
    assert Anomaly.from_json(found.to_json()) == found
    assert str(found).endswith("Training went on.")


def test_who_takes_twice_as_long_for_like_work_is_slow() -> None:
    even = [Pace(worker=worker, like=1, rows=10_000, seconds=10.0) for worker in range(3)]
    assert slow_workers(even) == {}
    slow = [*even[:2], Pace(worker=2, like=1, rows=5_000, seconds=12.0)]
    assert slow_workers(slow) == {2: pytest.approx(2.4)}
    assert lost_seconds(slow)[2] == (12.0, pytest.approx(5.0))


@pytest.mark.parametrize(
    "pace",
    [
        Pace(worker=1, like=1, rows=1_000, seconds=3.0),  # three times as long, which has cost two seconds
        Pace(worker=1, like=2, rows=1_000, seconds=60.0),  # of other work
        Pace(worker=1, like=1, rows=60_000, seconds=100.0),  # less than twice as long
    ],
)
def test_little_other_and_nearly_as_quick_work_tells_nothing(pace: Pace) -> None:
    assert slow_workers([Pace(worker=0, like=1, rows=10_000, seconds=10.0), pace]) == {}


def test_who_does_nothing_more_of_what_others_did_is_slow() -> None:
    paces = [Pace(worker=0, like=1, rows=10_000, seconds=10.0), Pace(worker=1, like=1, rows=0, seconds=30.0)]
    assert list(slow_workers(paces)) == [1]
    assert 0 not in lost_seconds(paces)  # of the other one nothing is known
