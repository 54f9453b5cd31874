"""What a run leaves that ends by an error, and whose result is told again."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.test_tuning import config, records

from shardwise.core.errors import ConfigError, TargetError
from shardwise.core.events import Event, Events, StageStarted
from shardwise.store.journal import SqliteJournal
from shardwise.testing.tables import people
from shardwise.train.run import _has_worked, already_finished, finish
from shardwise.workflow import train


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "people.parquet"
    pq.write_table(people(400), path)
    return path


def refuse_at(stage: str) -> Any:
    def refuse(event: Event) -> None:
        if isinstance(event, StageStarted) and event.stage == stage:
            raise ConfigError("this cannot be meant")

    return refuse


def test_bad_input_that_is_found_late_leaves_what_was_prepared(data: Path) -> None:
    folder = data.parent / "runs" / "late"
    with pytest.raises(ConfigError, match="cannot be meant"):
        train(config(data, run="late", trials=2), Events([refuse_at("encode")]))
    known = [record["unit"] for record in records(data, "late", "unit")]
    assert known
    train(config(data, run="late", trials=2))
    units = [record["unit"] for record in records(data, "late", "unit")]
    assert units[: len(known)] == known
    assert len(set(units)) == len(units)  # nothing is done twice
    assert folder.is_dir()


def test_bad_input_that_is_found_before_any_work_leaves_no_folder(data: Path) -> None:
    with pytest.raises(TargetError):
        train(config(data, run="early", target="nothing"))
    with pytest.raises(ConfigError, match="cannot be meant"):
        train(config(data, run="early"), Events([refuse_at("profile")]))
    assert not (data.parent / "runs" / "early").exists()


def test_work_of_the_parent_is_no_work_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    assert not _has_worked(path)
    with SqliteJournal(path) as journal:
        journal.append([{"kind": "unit", "unit": "a"}, {"kind": "inherited", "units": ["a"]}, {"kind": "opened"}])
        assert not _has_worked(path)
        journal.append([{"kind": "unit", "unit": "b"}])
    assert _has_worked(path)


@pytest.mark.parametrize(
    ("short", "stopped", "memory", "told"),
    [
        (False, False, 16, True),  # more memory would find nothing more
        (True, False, 8, True),
        (True, False, 4, True),
        (True, False, 16, False),
        (False, True, 8, False),
    ],
)
def test_a_result_is_told_again_where_the_same_budget_finds_no_more(
    short: bool, stopped: bool, memory: int, told: bool
) -> None:
    journal: list[dict[str, Any]] = []
    run: Any = SimpleNamespace(
        config=config(Path("none.parquet")), memory_bytes=8, short=short, say=lambda _: None,
        interrupts=SimpleNamespace(stop_requested=stopped), records=lambda kind: journal,
        note=lambda kind, **content: journal.append({"kind": kind, **content}),
    )  # fmt: skip
    assert already_finished(run) is None
    finish(run, {"trials": 3})
    run.memory_bytes = memory
    assert already_finished(run) == ({"trials": 3} if told else None)
    del journal[0]["interrupted"], journal[0]["short_bytes"]  # as runs were journalled before
    assert already_finished(run) == {"trials": 3}
