"""The last minutes of traffic in points for the page: rates and latencies from the figures for Prometheus."""

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

POINT_S = 5.0
_KEPT = 180  # points: a quarter of an hour
_QUANTILES = {"p50_s": 0.5, "p99_s": 0.99}


@dataclass(frozen=True, kw_only=True)
class Totals:
    """Of predictions since the start: how many by status, and how many took at most so many seconds.

    `within`: (upper edge in seconds, requests up to there), the edges rising, the last one infinite.
    """

    requests: float
    rejected: float  # 4xx: the client's part, or too much of it
    failed: float  # 5xx
    within: Sequence[tuple[float, float]] = ()
    waiting: float = 0.0  # rows, at this moment


class Figures(Protocol):
    """Where totals come from: `metrics.Metrics`."""

    def totals(self) -> Totals: ...


class History:
    """Points of at least `POINT_S` seconds; `look` is called by one thread, `points` by any."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures
        self._points: deque[tuple[float, dict[str, Any]]] = deque(maxlen=_KEPT)
        self._last = time.monotonic(), figures.totals()

    def look(self, now_s: float | None = None) -> None:
        """Make a point of what came since the last one, if it is time."""
        now = time.monotonic() if now_s is None else now_s
        since, before = self._last
        if now - since < POINT_S:
            return
        totals = self._figures.totals()
        self._points.append((now, point(before, totals, now - since)))
        self._last = now, totals

    def points(self, now_s: float | None = None) -> list[dict[str, Any]]:
        """The oldest first; `ago_s` is when each ended."""
        now = time.monotonic() if now_s is None else now_s
        return [{"ago_s": round(now - at, 1), **told} for at, told in list(self._points)]


def point(before: Totals, after: Totals, seconds: float) -> dict[str, Any]:
    """Rates a second, and latencies of the requests between two totals; None where there were none."""
    rates = {f"{name}_per_s": round(max(0.0, getattr(after, name) - getattr(before, name)) / seconds, 3)
             for name in ("requests", "rejected", "failed")}  # fmt: skip
    was = dict(before.within)
    within = [(edge, count - was.get(edge, 0.0)) for edge, count in after.within]
    return {**rates, **{name: quantile(within, rank) for name, rank in _QUANTILES.items()}, "waiting": after.waiting}


def quantile(within: Sequence[tuple[float, float]], rank: float) -> float | None:
    """Interpolated within the bucket it lies in, as Prometheus' `histogram_quantile`; beyond the last edge that edge.

    >>> quantile([(1.0, 0.0), (2.0, 10.0), (math.inf, 10.0)], 0.5)
    1.5
    """
    count = within[-1][1] if within else 0.0
    if count <= 0:
        return None
    low, below = 0.0, 0.0
    for edge, upto in within:
        if upto >= rank * count and upto > below:
            return low if math.isinf(edge) else low + (edge - low) * (rank * count - below) / (upto - below)
        low, below = (low if math.isinf(edge) else edge), upto
    return low
