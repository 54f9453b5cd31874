"""What happens in a run, as small values; whoever listens shows, writes or counts them."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class RunOpened:
    """A run began, or goes on (`again`) after `used_s` seconds of work; the ceilings are None where there is none.

    `finished`: it ended before, and is given no more time.
    """

    name: str
    folder: str
    used_s: float
    limit_s: float | None
    memory_bytes: int | None
    again: bool = False
    finished: bool = False


@dataclass(frozen=True, kw_only=True)
class FirstModel:
    """What a run with a ceiling on time would take for one model, trained to its end, evaluated and packed."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class StageStarted:
    """A stage of the way began; `total` units of work are expected (0: not known)."""

    stage: str
    total: int = 0


@dataclass(frozen=True, kw_only=True)
class Advanced:
    """`done` more units and `rows` more rows of a stage are finished."""

    stage: str
    done: int = 1
    rows: int = 0


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A trial ended with a score; `best` says whether it is the best so far."""

    trial: int
    candidate: str
    metric: str
    score: float
    best: bool


@dataclass(frozen=True, kw_only=True)
class Said:
    """Something that the user should know; `level` is `info` or `warning`."""

    text: str
    level: str = "info"


@dataclass(frozen=True, kw_only=True)
class WorkerView:
    """What a worker did since it began to fit models: rows, and seconds of work, of reading, of talking to others with
    whom it fits one, and of waiting, for these or for its next task. `rows_s` are rows per second of late, `place` its
    host and process; `doing` is what it works on, `slow` says that like work takes the others far less time."""

    rank: int
    place: str
    rows: int = 0
    work_s: float = 0.0
    read_s: float = 0.0
    talk_s: float = 0.0
    wait_s: float = 0.0
    rows_s: float = 0.0
    doing: str = ""
    slow: bool = False


@dataclass(frozen=True, kw_only=True)
class Working:
    """Workers fit a model `together`, or models side by side; told about once a second."""

    workers: tuple[WorkerView, ...]
    together: bool = True


Event = RunOpened | FirstModel | StageStarted | Advanced | Scored | Said | Working
Listener = Callable[[Event], None]


@dataclass
class Events:
    """Hands each event to every listener, in order."""

    listeners: list[Listener] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)
