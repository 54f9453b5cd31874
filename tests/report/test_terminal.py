"""What is shown while a run works."""

import io

from rich.console import Console

from shardwise.core.events import Advanced, Event, RunOpened, Said, Scored, StageStarted
from shardwise.report.terminal import PlainLog, TerminalProgress, make_progress

EVENTS: list[Event] = [
    RunOpened(name="mine", folder="runs/mine", used_s=70.0, limit_s=300.0, memory_bytes=2 * 10**9, again=True),
    StageStarted(stage="profile", total=3),
    Advanced(stage="profile", rows=1000),
    Said(text="look here", level="warning"),
    Scored(trial=1, candidate="trees(x=1)", metric="roc_auc", score=0.912346, best=True),
]


def test_plain_lines_tell_stage_score_and_ceilings() -> None:
    stream = io.StringIO()
    log = make_progress(stream)
    assert isinstance(log, PlainLog)
    with log:
        for event in EVENTS:
            log(event)
    text = stream.getvalue()
    for word in (
        "mine",
        "5m00s",
        "2 GB",
        "goes on after 1m10s",
        "profile: 3 partitions",
        "look here",
        "0.91235",
        "best",
    ):
        assert word in text


def test_a_new_run_does_not_go_on_however_long_it_took_to_start() -> None:
    stream = io.StringIO()
    with make_progress(stream) as log:
        log(RunOpened(name="mine", folder="runs/mine", used_s=9.0, limit_s=None, memory_bytes=None))
    assert "mine" in stream.getvalue()
    assert "goes on" not in stream.getvalue()


def test_the_live_panel_shows_all_ceilings_against_use() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with TerminalProgress(console) as progress:
        for event in EVENTS:
            progress(event)
        with console.capture() as captured:
            console.print(progress._panel())
    shown = captured.get()
    for word in ("profile", "1/3", "rows/s", "roc_auc 0.91235", "of 5m00s", "of 2 GB"):
        assert word in shown
