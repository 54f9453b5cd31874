"""Judging a rollout: go on, promote, or roll back, by tests that may be looked at all the time (`stats.sequential`).

Failures, latency and, when labels arrive, quality of the candidate are compared with those of the champion in the same
steps. The chances of a false rollback add up to `alpha`: a half for quality, a quarter each for failures and latency. A
candidate that is worse by `margin` or more goes live with a chance of at most alpha / 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

import numpy as np

from shardwise.core.errors import ConfigError
from shardwise.core.names import nearest
from shardwise.stats.sequential import Bounds, Mean, Rate, difference, evidence_of_more, single

WAIT, ADVANCE, FINISH, ROLL_BACK = "wait", "advance", "finish", "roll_back"
LABELS = ("auto", "required", "ignored")
PAIRING = ("paired", "arms")


@dataclass(frozen=True, kw_only=True)
class RolloutRules:
    """How a version goes live.

    steps         shares of the traffic; 0 is shadow: the candidate answers nobody, but is asked as well
    promote       at the end it becomes champion; else the rollout ends as passed
    margin        how much worse its mean loss (in [0, 1], `monitor.concept`) may be; early steps allow more
    failures      by how much the share of failed requests may be higher; early steps allow more
    slower        share by which it may take longer
    alpha         chance of a false rollback
    least_requests, least_s   of the candidate, in each step
    labels        auto: once labels arrive, they must show it; required: they must arrive; ignored
    quality       paired: both are scored on every labelled row, which holds where an outcome does not depend on the
                  answer; arms: each on the rows that it answered
    """

    steps: tuple[float, ...] = (0.01, 0.05, 0.25)
    promote: bool = True
    margin: float = 0.02
    failures: float = 0.01
    slower: float = 0.25
    alpha: float = 0.05
    least_requests: int = 200
    least_s: float = 60.0
    labels: str = "auto"
    quality: str = "paired"

    def __post_init__(self) -> None:
        if (
            not self.steps
            or list(self.steps) != sorted(set(self.steps))
            or not 0 <= self.steps[0] <= self.steps[-1] < 1
        ):
            raise ConfigError(
                f"steps are {self.steps}", hint="Give rising shares from 0 to below 1, such as 1%,5%,25%."
            )
        if self.labels not in LABELS:
            raise ConfigError(f"labels is {self.labels!r}", hint=nearest(self.labels, LABELS))
        if self.quality not in PAIRING:
            raise ConfigError(f"quality is {self.quality!r}", hint=nearest(self.quality, PAIRING))
        for name, high in (("margin", 1.0), ("failures", 1.0), ("alpha", 0.5), ("slower", 100.0)):
            if not 0 < getattr(self, name) < high:
                raise ConfigError(f"{name} is {getattr(self, name)}", hint=f"Give a number between 0 and {high:g}.")
        if self.least_requests < 1 or self.least_s < 0:
            raise ConfigError("a step needs at least one request", hint="Look at least_requests and least_s.")

    def allowed(self, step: int) -> float:
        """How much worse it may be to leave a step: the margin in the last, twice as much one before, and so on."""
        return min(1.0, self.margin * self.ease(step))

    def ease(self, step: int) -> float:
        """How many times as much as in the last step is allowed."""
        return float(2.0 ** (len(self.steps) - 1 - step))

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "steps": list(self.steps)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        known = {item.name for item in fields(cls)}
        return cls(
            **{**{key: value for key, value in content.items() if key in known}, "steps": tuple(content["steps"])}
        )


@dataclass
class Arm:
    """What one of the two did in a step: requests and failures, log of seconds, losses of labelled rows."""

    requests: Rate = field(default_factory=Rate)
    log_s: Mean = field(default_factory=Mean)
    loss: Mean = field(default_factory=Mean)

    def merge(self, other: Self) -> None:
        self.requests.merge(other.requests)
        self.log_s.merge(other.log_s)
        self.loss.merge(other.loss)

    def to_json(self) -> dict[str, Any]:
        return {"requests": self.requests.to_json(), "log_s": self.log_s.to_json(), "loss": self.loss.to_json()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(
            Rate.from_json(content["requests"]), Mean.from_json(content["log_s"]), Mean.from_json(content["loss"])
        )


@dataclass
class Tally:
    """Both arms in a step. Mergeable.

    `paired`: the candidate's loss less the champion's on the same rows; `apart`: how far answers to the same rows
    differ; `seconds` since the step began.
    """

    champion: Arm = field(default_factory=Arm)
    candidate: Arm = field(default_factory=Arm)
    paired: Mean = field(default_factory=Mean)
    apart: Mean = field(default_factory=Mean)
    seconds: float = 0.0

    def merge(self, other: Self) -> None:
        self.champion.merge(other.champion)
        self.candidate.merge(other.candidate)
        self.paired.merge(other.paired)
        self.apart.merge(other.apart)
        self.seconds = max(self.seconds, other.seconds)

    def to_json(self) -> dict[str, Any]:
        return {"champion": self.champion.to_json(), "candidate": self.candidate.to_json(), "seconds": self.seconds,
                "paired": self.paired.to_json(), "apart": self.apart.to_json()}  # fmt: skip

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        champion, candidate = (Arm.from_json(content[name]) for name in ("champion", "candidate"))
        paired, apart = (Mean.from_json(content[name]) for name in ("paired", "apart"))
        return cls(champion, candidate, paired, apart, float(content["seconds"]))


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do next, why, and the numbers behind it."""

    action: str
    reason: str
    evidence: Mapping[str, Any]


def decide(rules: RolloutRules, tallies: Sequence[Tally]) -> Decision:
    """By what was seen in each step up to the present one, which is the last of `tallies`."""
    failing = evidence_of_more((t.champion.requests, t.candidate.requests) for t in tallies)
    slow = difference(
        ((t.champion.log_s, t.candidate.log_s) for t in tallies), alpha=rules.alpha / 4, tuned=rules.slower
    )
    worse = _quality(rules, tallies)
    evidence = {"failures": {"e_value": failing, **_shares(tallies)}, "slower": slow.to_json(),
                "worse": worse.to_json(), "step": len(tallies) - 1, "requests": tallies[-1].candidate.requests.trials,
                "labels": _labels(rules, tallies)}  # fmt: skip
    against = None
    if failing >= 4 / rules.alpha:
        against = "it fails more often than the champion"
    elif slow.low > np.log1p(rules.slower):
        against = f"it is slower than the champion by more than {rules.slower:.0%}"
    elif worse.low > 0:
        against = "its answers are worse than the champion's"
    if against:
        return Decision(action=ROLL_BACK, reason=against, evidence=evidence)
    waiting = _waits_for(rules, tallies) or _waits_for_labels(rules, tallies, worse)
    if waiting:
        return Decision(action=WAIT, reason=waiting, evidence=evidence)
    last = len(tallies) == len(rules.steps)
    reason = "nothing speaks against it" if not _labels(rules, tallies) else (
        f"its loss is higher by less than {rules.allowed(len(tallies) - 1):.3g}")  # fmt: skip
    return Decision(action=FINISH if last else ADVANCE, reason=reason, evidence=evidence)


def _quality(rules: RolloutRules, tallies: Sequence[Tally]) -> Bounds:
    """How much higher the candidate's loss is."""
    if rules.labels == "ignored":
        return Bounds(0.0, float("-inf"), float("inf"))
    if rules.quality == "arms":
        return difference(
            ((t.champion.loss, t.candidate.loss) for t in tallies), alpha=rules.alpha / 2, tuned=rules.margin
        )
    together = Mean()
    for tally in tallies:
        together.merge(tally.paired)
    return single(together, alpha=rules.alpha / 2, tuned=rules.margin)


def _labels(rules: RolloutRules, tallies: Sequence[Tally]) -> int:
    """Labelled rows that tell of the candidate."""
    if rules.labels == "ignored":
        return 0
    return int(sum((t.candidate.loss if rules.quality == "arms" else t.paired).count for t in tallies))


def _shares(tallies: Sequence[Tally]) -> dict[str, float]:
    sums = [sum(getattr(getattr(t, arm).requests, what) for t in tallies) for arm in ("champion", "candidate")
            for what in ("failures", "trials")]  # fmt: skip
    return {"champion": sums[0] / max(sums[1], 1), "candidate": sums[2] / max(sums[3], 1)}


def _waits_for(rules: RolloutRules, tallies: Sequence[Tally]) -> str:
    """What is still missing to leave the step; empty: nothing."""
    now = tallies[-1]
    if now.candidate.requests.trials < rules.least_requests:
        return f"{now.candidate.requests.trials} of {rules.least_requests} requests"
    if now.seconds < rules.least_s:
        return f"{now.seconds:.0f} of {rules.least_s:.0f} seconds"
    strata = ((_as_mean(t.champion.requests), _as_mean(t.candidate.requests)) for t in tallies)
    more = difference(strata, alpha=rules.alpha / 4, tuned=rules.failures)
    allowed = rules.failures * rules.ease(len(tallies) - 1)
    return "" if more.high < allowed else f"it is not shown yet that it fails by less than {allowed:.1%} more often"


def _as_mean(rate: Rate) -> Mean:
    """Failures as numbers 0 and 1; their spread with one failure more: none so far does not mean none."""
    share = (rate.failures + 1) / (rate.trials + 2)
    return Mean(float(rate.trials), rate.share, rate.trials * share * (1 - share))


def _waits_for_labels(rules: RolloutRules, tallies: Sequence[Tally], worse: Bounds) -> str:
    labels = _labels(rules, tallies)
    if rules.labels == "ignored" or (rules.labels == "auto" and not labels):
        return ""
    allowed = rules.allowed(len(tallies) - 1)
    return (
        ""
        if worse.high < allowed
        else f"{labels} labels do not show yet that its loss is higher by less than {allowed:.3g}"
    )
