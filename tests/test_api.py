"""What `import shardwise` offers."""

import os
import subprocess
import sys
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


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")]
)
def test_threads_wait_as_the_user_says_or_after_a_short_spin(given: dict[str, str], spins: str) -> None:
    script = "import os, shardwise; print(os.environ.get('GOMP_SPINCOUNT'), os.environ['OMP_WAIT_POLICY'])"
    bare = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, env={**bare, **given}, capture_output=True, text=True, check=True).stdout.split()
    assert said == [spins, given.get("OMP_WAIT_POLICY", "PASSIVE")]
