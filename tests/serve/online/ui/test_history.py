"""Points of traffic: rates and quantiles from totals, bounded, whatever the clock does."""

import math

import pytest

pytest.importorskip("prometheus_client", reason="the extra `serve` is not installed")

from shardwise.serve.online.metrics import Metrics
from shardwise.serve.online.ui.history import POINT_S, History, Totals, point, quantile


class Figures:
    def __init__(self):
        self.now = Totals(requests=0, rejected=0, failed=0)

    def totals(self):
        return self.now


def test_totals_are_of_predictions_alone():
    metrics = Metrics()
    for endpoint, status, seconds in (("predict", 200, 0.003), ("infer", 422, 0.0002), ("predict", 500, 0.2),
                                      ("ui", 200, 9.0), ("metrics", 500, 9.0)):  # fmt: skip
        metrics.request(endpoint, status, seconds)
    metrics.waiting(7)
    totals = metrics.totals()
    assert (totals.requests, totals.rejected, totals.failed, totals.waiting) == (3, 1, 1, 7)
    within = dict(totals.within)
    assert (within[0.00025], within[0.005], within[0.25], within[math.inf]) == (1, 2, 3, 3)
    assert list(within) == sorted(within)


def test_a_point_is_what_came_between():
    before = Totals(requests=10, rejected=2, failed=0, within=[(1.0, 10.0), (math.inf, 10.0)])
    after = Totals(requests=30, rejected=2, failed=5, within=[(1.0, 30.0), (math.inf, 30.0)], waiting=3)
    told = point(before, after, 10.0)
    assert told == {"requests_per_s": 2.0, "rejected_per_s": 0.0, "failed_per_s": 0.5, "p50_s": 0.5,
                    "p99_s": pytest.approx(0.99), "waiting": 3}  # fmt: skip
    assert point(after, after, 10.0)["p99_s"] is None


def test_quantiles_lie_in_their_bucket():
    within = [(1.0, 0.0), (2.0, 50.0), (4.0, 100.0), (math.inf, 100.0)]
    assert [quantile(within, rank) for rank in (0.25, 0.5, 0.75, 1.0)] == [1.5, 2.0, 3.0, 4.0]
    assert quantile([(1.0, 0.0), (math.inf, 5.0)], 0.99) == 1.0
    assert quantile([], 0.5) is None


def test_points_are_bounded_and_never_closer_than_their_length():
    figures = Figures()
    history = History(figures)
    start = history._last[0]
    for number in range(1, 2000):
        figures.now = Totals(requests=number, rejected=0, failed=0)
        history.look(start + number * POINT_S / 2)
    points = history.points(start + 1000 * POINT_S)
    assert len(points) == 180
    assert {told["requests_per_s"] for told in points} == {2 / POINT_S}
    assert [told["ago_s"] for told in points] == sorted((told["ago_s"] for told in points), reverse=True)
