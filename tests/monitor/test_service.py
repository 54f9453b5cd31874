"""Failures and latency: what is usual is learned, what is not is told."""

import numpy as np

from shardwise.monitor.service import ServiceMonitor, Traffic


def traffic(rng, requests=1000, failures=0, scale=1.0):
    made = Traffic()
    made.count(scale * rng.lognormal(-6.0, 0.5, requests - failures), failures)
    return made


def test_usual_windows_are_silent():
    rng, monitor = np.random.default_rng(0), ServiceMonitor()
    assert [f for _ in range(200) for f in monitor.close(traffic(rng, failures=rng.binomial(1000, 0.002)))] == []


def test_slowness_and_failures_are_told_and_do_not_become_usual():
    rng, monitor = np.random.default_rng(1), ServiceMonitor()
    for _ in range(5):
        monitor.close(traffic(rng))
    for _ in range(3):
        assert [f.code for f in monitor.close(traffic(rng, scale=3.0))] == ["latency"]
        assert [f.code for f in monitor.close(traffic(rng, failures=30))] == ["failures"]
    assert (monitor.windows, monitor.usual.failures) == (5, 0)


def test_a_latency_that_lasts_is_told_and_then_usual():
    rng, monitor = np.random.default_rng(4), ServiceMonitor()
    for _ in range(20):
        monitor.close(traffic(rng))
    slow = [[f.code for f in monitor.close(traffic(rng, scale=3.0))] for _ in range(40)]
    assert slow == [["latency"]] * monitor.config.lasting + [[]] * (40 - monitor.config.lasting)
    assert [f.code for f in monitor.close(traffic(rng, scale=9.0))] == ["latency"]
    for _ in range(monitor.config.lasting):
        assert monitor.close(traffic(rng)) == []  # back to what it was
    assert [f.code for f in monitor.close(traffic(rng, scale=3.0))] == ["latency"]


def test_slow_windows_that_come_and_go_never_become_usual_nor_do_failures():
    rng, monitor = np.random.default_rng(5), ServiceMonitor()
    for _ in range(5):
        monitor.close(traffic(rng))
    for _ in range(4):
        found = [monitor.close(traffic(rng, scale=3.0)) for _ in range(monitor.config.lasting - 1)]
        assert [[f.code for f in each] for each in found] == [["latency"]] * (monitor.config.lasting - 1)
        assert monitor.close(traffic(rng)) == []
    for _ in range(3 * monitor.config.lasting):
        assert [f.code for f in monitor.close(traffic(rng, failures=30))] == ["failures"]


def test_nothing_is_said_before_there_is_a_history_or_of_few_requests():
    rng, monitor = np.random.default_rng(2), ServiceMonitor()
    assert monitor.close(traffic(rng, failures=900)) == []
    assert monitor.close(traffic(rng, requests=20, failures=20)) == []


def test_traffic_is_merged():
    rng = np.random.default_rng(3)
    first, second = traffic(rng, failures=3), traffic(rng, failures=4)
    first.merge(second)
    assert (first.requests, first.failures, first.seconds.count) == (2000, 7, 1993)
