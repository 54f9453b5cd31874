"""What a run shows while it works: a live line on a terminal, plain lines elsewhere. Both write to standard error."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from shardwise.compute.ceiling import tree_memory_bytes
from shardwise.core.events import (
    Advanced,
    Event,
    FirstModel,
    RunOpened,
    Said,
    Scored,
    StageStarted,
    WorkerView,
    Working,
)
from shardwise.core.units import format_duration, format_size
from shardwise.report.workers import worker_lines

WORKERS_S = 30.0  # between two looks at the workers in plain lines
MOST_WORKERS = 8  # on the panel


@dataclass
class State:
    """What has been heard so far."""

    name: str = ""
    stage: str = "data"
    total: int = 0
    done: int = 0
    rows: int = 0
    best: str = ""
    workers: tuple[WorkerView, ...] = ()
    together: bool = True
    limit_s: float | None = None
    memory_bytes: int | None = None
    clock: Callable[[], float] = time.monotonic
    start_s: float = field(init=False)
    stage_start_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.start_s = self.stage_start_s = self.clock()

    def hear(self, event: Event) -> None:
        match event:
            case RunOpened():
                self.name, self.limit_s, self.memory_bytes = event.name, event.limit_s, event.memory_bytes
                self.start_s = self.clock() - event.used_s
            case StageStarted():
                self.stage, self.total, self.done, self.rows = event.stage, event.total, 0, 0
                self.stage_start_s, self.workers = self.clock(), ()
            case Working():
                self.workers, self.together = event.workers, event.together
            case Advanced():
                self.done += event.done
                self.rows += event.rows
            case Scored() if event.best:
                self.best = f"{event.metric} {event.score:.5g} (trial {event.trial})"

    @property
    def used_s(self) -> float:
        return self.clock() - self.start_s

    @property
    def rows_per_s(self) -> float:
        return self.rows / max(1e-9, self.clock() - self.stage_start_s)


class PlainLog:
    """One line for each stage, score and message: for logs and pipes."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._state = State()
        self._workers_s = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, event: Event) -> None:
        self._state.hear(event)
        for line in self._workers(event) if isinstance(event, Working) else filter(None, [_line(event)]):
            print(f"[{format_duration(self._state.used_s):>7}] {line}", file=self._stream, flush=True)

    def _workers(self, event: Working) -> list[str]:
        """Now and then."""
        now = time.monotonic()
        if now - self._workers_s < WORKERS_S:
            return []
        self._workers_s = now
        return worker_lines(event.workers, together=event.together)


def _line(event: Event) -> str:
    match event:
        case RunOpened():
            time_limit = "none" if event.limit_s is None else format_duration(event.limit_s)
            memory = "none" if event.memory_bytes is None else format_size(event.memory_bytes)
            gone = f", goes on after {format_duration(event.used_s)}" if event.again else ""
            return f"run {event.name}: ceilings time {time_limit}, memory {memory}{gone}"
        case StageStarted():
            return f"{event.stage}: {event.total} partitions" if event.total else event.stage
        case Scored():
            mark = "  <- best so far" if event.best else ""
            return f"trial {event.trial} {event.candidate}: {event.metric} {event.score:.5g}{mark}"
        case Said():
            return f"warning: {event.text}" if event.level == "warning" else event.text
        case Advanced() | FirstModel() | Working():
            return ""


class TerminalProgress:
    """A live panel of stage, rows per second, best score, time and memory against their ceilings."""

    def __init__(self, console: Console) -> None:
        self._state = State()
        self._console = console
        self._memory = (0.0, 0)  # when it was measured, and how much it was
        self._live = Live(get_renderable=self._panel, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        self._state.hear(event)
        if isinstance(event, Said | Scored | RunOpened):
            style = "yellow" if isinstance(event, Said) and event.level == "warning" else None
            self._console.print(Text(_line(event)), style=style)

    def _panel(self) -> Table:
        state = self._state
        table = Table.grid(padding=(0, 2))
        done = f"{state.done}/{state.total}" if state.total else ""
        speed = f"{state.rows_per_s:,.0f} rows/s" if state.rows else ""
        table.add_row(Text(state.stage, style="bold"), done, speed, Text(state.best, style="green"))
        table.add_row("time", _against(format_duration(state.used_s), state.limit_s, format_duration))
        table.add_row("memory", _against(format_size(self._used_bytes()), state.memory_bytes, format_size))
        for line in worker_lines(state.workers, together=state.together)[:MOST_WORKERS]:
            name, _, told = line.partition(": ")
            table.add_row(name, told)
        return table

    def _used_bytes(self) -> int:
        """Memory of the process tree, measured at most once a second."""
        now = time.monotonic()
        if now - self._memory[0] > 1.0:
            self._memory = (now, tree_memory_bytes())
        return self._memory[1]


def _against(used: str, limit: float | None, show: Callable[[float], str]) -> str:
    return used if limit is None else f"{used} of {show(limit)}"


def make_progress(stream: TextIO) -> PlainLog | TerminalProgress:
    """The live panel on a terminal, plain lines otherwise."""
    console = Console(file=stream, stderr=True)
    return TerminalProgress(console) if console.is_terminal else PlainLog(stream)
