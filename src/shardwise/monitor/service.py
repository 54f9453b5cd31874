"""Failures and latency of a window against those of the windows before it."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from scipy.special import bdtrc

from shardwise.core.findings import Finding
from shardwise.monitor.drift import fisher
from shardwise.stats.quantiles import Quantiles

SLOW = 0.95  # the quantile that is watched


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """`false_alarms` per window; what is too small to matter; and after how many windows another latency is usual."""

    false_alarms: float = 0.001
    least_failures: float = 0.005  # growth of the share of failures
    slower: float = 1.5  # times the quantile of before
    least_requests: int = 100
    history: int = 2  # windows before anything is said
    lasting: int = 5  # windows in a row


@dataclass
class Traffic:
    """Requests of a window, those that failed among them, and the seconds that the others took. Mergeable."""

    requests: int = 0
    failures: int = 0
    seconds: Quantiles = field(default_factory=lambda: Quantiles("seconds"))

    def count(self, seconds: np.ndarray, failures: int = 0) -> None:
        """Add requests that were answered in `seconds` `(requests,)`, and others that failed."""
        self.requests += len(seconds) + failures
        self.failures += failures
        self.seconds.add_sorted(np.sort(seconds))

    def merge(self, other: Self) -> None:
        self.requests += other.requests
        self.failures += other.failures
        self.seconds.merge(other.seconds)


@dataclass
class ServiceMonitor:
    """Keeps what is usual; a window with a finding does not become usual.

    A latency that stays on another level for `lasting` windows, each of which told it where it is slower, is the usual
    one from then on: an alarm in each window for ever would hide the next change. Failures never become usual.
    """

    config: ServiceConfig = field(default_factory=ServiceConfig)
    windows: int = 0
    usual: Traffic = field(default_factory=Traffic)
    level: int = 0  # of the last windows: 1 slower than usual, -1 faster
    lasted: list[Traffic] = field(default_factory=list)  # the windows on that level

    def close(self, window: Traffic) -> list[Finding]:
        if window.requests < self.config.least_requests:
            return []
        found = []
        if self.windows >= self.config.history:
            found = [*self._failures(window), *self._latency(window)]
        if not found:
            self.windows += 1
            self.usual.merge(window)
        if self.windows >= self.config.history:
            self._follow(window, 1 if any(finding.code == "latency" for finding in found) else -self._is_faster(window))
        return found

    def _follow(self, window: Traffic, level: int) -> None:
        """Take another level of latency as usual once it has lasted."""
        if level != self.level:
            self.level, self.lasted = level, []
        if level == 0:
            return
        self.lasted.append(window)
        if len(self.lasted) == self.config.lasting:
            self.usual.seconds = Quantiles("seconds")
            for each in self.lasted:
                self.usual.seconds.merge(each.seconds)
            self.level, self.lasted = 0, []

    def _is_faster(self, window: Traffic) -> bool:
        if not window.seconds.count or not self.usual.seconds.count:
            return False
        usual, now = self._quantiles(window)
        return now * self.config.slower <= usual

    def _quantiles(self, window: Traffic) -> tuple[float, float]:
        usual, now = (float(each.at(np.array([SLOW]))[0]) for each in (self.usual.seconds, window.seconds))
        return usual, now

    def _failures(self, window: Traffic) -> list[Finding]:
        usual = self.usual
        before, after = usual.failures / usual.requests, window.failures / window.requests
        p_value = fisher((usual.failures, usual.requests), (window.failures, window.requests))
        if after - before < self.config.least_failures or p_value > self.config.false_alarms / 2:
            return []
        text = f"{after:.1%} of the requests failed, {before:.2%} before"
        return [Finding(code="failures", severity="warning", text=text, hint="Look at the log of the server.",
                        evidence={"before": before, "after": after, "p_value": p_value})]  # fmt: skip

    def _latency(self, window: Traffic) -> list[Finding]:
        """How many requests took longer than the slowest twentieth did before; bursts are not independent, so that the
        quantile itself must have grown as well."""
        if not window.seconds.count or not self.usual.seconds.count:
            return []
        usual, now = self._quantiles(window)
        rows = window.seconds.count
        slow = round((1.0 - float(window.seconds.shares(np.array([usual]))[0])) * rows)
        p_value = float(bdtrc(slow - 1, rows, 1.0 - SLOW))
        if now < self.config.slower * usual or p_value > self.config.false_alarms / 2:
            return []
        text = f"one request in twenty took {now * 1e3:.3g} ms or longer, {usual * 1e3:.3g} ms before"
        return [Finding(code="latency", severity="warning", text=text, hint="Look at the load, and at the machine.",
                        evidence={"before_s": usual, "after_s": now, "p_value": p_value})]  # fmt: skip
