"""A request, whatever it came over: what the endpoints need to know of it besides its content."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shardwise.serve.online.live import Served
from shardwise.serve.online.problems import Problem, too_late

_DIGITS = 18  # of a whole number in a header: Python refuses to read thousands, and none has so many
Stage = tuple[str, float, float]  # its name, and when it began and ended, by `time.perf_counter`


@dataclass(slots=True)
class Trace:
    """What a call that is traced went through; it becomes spans at its end. Any thread may append."""

    began_s: float = field(default_factory=time.perf_counter)
    stages: list[Stage] = field(default_factory=list)
    served: Served | None = None
    rows: int = 0


@dataclass(slots=True, kw_only=True)
class Call:
    """Who asks, since when, and how long the answer may take. `headers` are those of HTTP, or the metadata of gRPC."""

    id: str
    headers: Mapping[bytes, bytes]
    came_s: float  # by `time.perf_counter`: uvloop's clock has whole milliseconds
    deadline_s: float
    turn: Any = None  # of a rollout: see `canary.Turn`
    trace: Trace | None = None

    @property
    def left_s(self) -> float:
        """Seconds until the answer would be too late; raises `Problem` when it is."""
        left = self.came_s + self.deadline_s - time.perf_counter()
        if left <= 0:
            raise too_late(self.deadline_s)
        return left


def whole_header(headers: Mapping[bytes, bytes], name: bytes, hint: str) -> int | None:
    """A header that is a whole number, None where it is not given; raises `Problem` 400 for one that is none."""
    told = headers.get(name)
    if told is None:
        return None
    if not told.isdigit() or len(told) > _DIGITS:
        shown = told.decode("latin1")[:50]
        raise Problem(400, "bad_header", f"{name.decode()} is {shown!r}", hint=hint)
    return int(told)
