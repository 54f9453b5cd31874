"""What `import shardwise` offers."""

from pathlib import Path

import pandas as pd
import polars as pl
import pytest

import shardwise
import shardwise.train.result  # imports the room of that name, which must not hide the function
from shardwise.core.errors import ConfigError
from shardwise.core.events import Event, Scored
from shardwise.testing.tables import people

DROP = ("id", "weight", "spent", "visits")


def test_tables_of_all_kinds_give_the_same_scores(tmp_path: Path) -> None:
    arrow = people(300)
    scores = [
        shardwise.train(table, "bought", trials=2, folds=2, drop=DROP, runs_folder=str(tmp_path)).score
        for table in (arrow, arrow.to_pandas(), pl.from_arrow(arrow))
    ]
    assert scores[0] == scores[1] == scores[2]


def test_listeners_hear_the_trials(tmp_path: Path) -> None:
    heard: list[Event] = []
    shardwise.train(people(200), "bought", trials=2, folds=2, drop=DROP, runs_folder=str(tmp_path), listen=heard.append)
    assert [event.trial for event in heard if isinstance(event, Scored)] == [0, 1]


def test_profile_of_a_table_counts_it(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, None, 3.0], "b": ["x", "x", "y"]})
    found = shardwise.profile(frame, runs_folder=str(tmp_path))
    assert (found.rows, found.columns["a"].nulls, found.columns["b"].top[0]) == (3, 1, ("x", 2))


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'trials'"):
        shardwise.train(people(50), "bought", trails=2, runs_folder=str(tmp_path))


def test_the_module_says_what_it_does_not_have() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = shardwise.nothing  # type: ignore[attr-defined]
